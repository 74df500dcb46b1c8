//! What a script may reach, and what it may not change.
//!
//! Redis patches Lua so that a table can be made read-only. Lua as it is
//! cannot, so a protected table is *sealed*: the script holds an empty proxy
//! whose metatable reads through to the real table and refuses assignments,
//! and the functions that go past metatables (`rawset`, `setmetatable`,
//! `table.insert`, `next`, …) know proxies. The real tables, and the proxies'
//! metatables, never reach a script.
//!
//! The functions here own nothing: Lua may jump over them (see `lua`).

use std::ffi::{CStr, c_char, c_int, c_void};

use super::host::{Host, raise_if_aborted};
use super::lua::{
    self, Raise, State, ffi, integer_or, native, push_pointer, set_function, set_raw, wrong_type,
};

/// Key, in a proxy's metatable, of the table behind it.
static REAL: u8 = 0;
/// Key, in a proxy's metatable, of what `getmetatable` shows.
static SHOWN: u8 = 1;

const READ_ONLY: &CStr = c"Attempt to modify a readonly table";

/// Globals of Lua that scripts keep; everything else that its libraries bring
/// is taken away.
const KEPT: &[&CStr] = &[
    c"string",
    c"math",
    c"table",
    c"xpcall",
    c"tostring",
    c"setmetatable",
    c"next",
    c"assert",
    c"tonumber",
    c"rawequal",
    c"collectgarbage",
    c"getmetatable",
    c"rawset",
    c"pcall",
    c"coroutine",
    c"type",
    c"select",
    c"unpack",
    c"gcinfo",
    c"pairs",
    c"rawget",
    c"loadstring",
    c"ipairs",
    c"_VERSION",
    c"load",
    c"error",
];

/// Opens Lua's own libraries, takes away what scripts must not have and puts
/// our functions in place of those that would go past a seal. Leaves the
/// table of globals on the stack.
pub(super) unsafe fn open(state: State) {
    unsafe {
        let libraries: [(&CStr, ffi::lua_CFunction); 4] = [
            (c"", ffi::luaopen_base),
            (c"table", ffi::luaopen_table),
            (c"string", ffi::luaopen_string),
            (c"math", ffi::luaopen_math),
        ];
        for (name, open) in libraries {
            ffi::lua_pushcclosure(state, open, 0);
            ffi::lua_pushlstring_(state, name.as_ptr(), name.count_bytes());
            ffi::lua_call(state, 1, 0);
        }
        ffi::lua_createtable(state, 0, 48);
        for name in KEPT {
            ffi::lua_getfield_(state, ffi::LUA_GLOBALSINDEX, name.as_ptr());
            set_raw(state, -2, name);
        }
        replace_base(state);
        replace_table_library(state);
    }
}

unsafe fn replace_base(state: State) {
    unsafe {
        lua::get_raw(state, -1, c"next");
        Host::of(state).next.set(ffi::lua_tocfunction(state, -1));
        ffi::lua_settop(state, -2);

        set_function(state, -1, c"next", next);
        set_function(state, -1, c"pcall", pcall);
        set_function(state, -1, c"getmetatable", get_metatable);
        set_function(state, -1, c"load", load);
        set_function(state, -1, c"unpack", native!(unpack));
        pair_iterator(state);
        wrap(state, c"rawset", guard_write);
        wrap(state, c"setmetatable", guard_write);
        wrap(state, c"rawget", guard_read);
        wrap(state, c"xpcall", guard_catch);
        wrap(state, c"loadstring", guard_text);
        lua::get_raw(state, -1, c"coroutine");
        wrap(state, c"resume", guard_catch);
        ffi::lua_settop(state, -2);
    }
}

/// unpack(list [, first [, last]])
///
/// Lua's own counts in `int`, which overflows with the right bounds: compiled with
/// optimisation it then reads beyond its stack.
unsafe fn unpack(state: State) -> Result<c_int, Raise> {
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            return Err(wrong_type(state, 1, "table"));
        }
        let length = ffi::lua_objlen(state, 1) as i64;
        let first = i64::from(integer_or(state, 2, 1)? as i32);
        let last = i64::from(integer_or(state, 3, length)? as i32);
        if first > last {
            return Ok(0);
        }
        let count = c_int::try_from(last - first + 1);
        let count = count.ok().filter(|n| ffi::lua_checkstack(state, *n) != 0);
        let Some(count) = count else {
            return Err(Raise::error("too many results to unpack"));
        };
        for at in first..=last {
            ffi::lua_rawgeti_(state, 1, at as c_int);
        }
        Ok(count)
    }
}

/// `pairs`, which remembers Lua's `next` for the tables that have no seal.
unsafe fn pair_iterator(state: State) {
    unsafe {
        ffi::lua_getfield_(state, ffi::LUA_GLOBALSINDEX, c"next".as_ptr());
        ffi::lua_pushcclosure(state, next, 0);
        ffi::lua_pushcclosure(state, pairs, 2);
        set_raw(state, -2, c"pairs");
    }
}

unsafe fn replace_table_library(state: State) {
    unsafe {
        lua::get_raw(state, -1, c"table");
        for name in [c"insert", c"remove", c"sort", c"setn"] {
            wrap(state, name, guard_write);
        }
        ffi::lua_settop(state, -2);
    }
}

/// Puts `guard` in place of a C function of the table on top; the guard has
/// the function as its upvalue and runs it in its own frame, so that error
/// texts name the function as ever.
unsafe fn wrap(state: State, name: &CStr, guard: ffi::lua_CFunction) {
    unsafe {
        lua::get_raw(state, -1, name);
        let Some(original) = ffi::lua_tocfunction(state, -1) else {
            return ffi::lua_settop(state, -2);
        };
        ffi::lua_settop(state, -2);
        push_pointer(state, original as *const c_void);
        ffi::lua_pushcclosure(state, guard, 1);
        set_raw(state, -2, name);
    }
}

/// Calls the function that [`wrap`] has remembered.
unsafe fn original(state: State) -> c_int {
    unsafe {
        let pointer = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1));
        let function: ffi::lua_CFunction = std::mem::transmute(pointer);
        function(state)
    }
}

/// Replaces the table on top by its proxy.
pub(super) unsafe fn seal(state: State) {
    unsafe {
        // real
        ffi::lua_createtable(state, 0, 0);
        ffi::lua_createtable(state, 0, 4);
        // real, proxy, metatable
        ffi::lua_pushvalue(state, -3);
        set_raw(state, -2, c"__index");
        set_function(state, -1, c"__newindex", refuse_write);
        push_pointer(state, &REAL);
        ffi::lua_pushvalue(state, -4);
        ffi::lua_rawset(state, -3);
        ffi::lua_setmetatable(state, -2);
        ffi::lua_remove(state, -2);
    }
}

/// Seals every table in the table on top, one level deep.
pub(super) unsafe fn seal_fields(state: State) {
    unsafe {
        let table = ffi::lua_gettop(state);
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE && !is_sealed(state, -1) {
                seal(state);
                ffi::lua_pushvalue(state, -2);
                ffi::lua_insert(state, -2);
                // An existing key: the iteration goes on undisturbed.
                ffi::lua_rawset(state, table);
            } else {
                ffi::lua_settop(state, -2);
            }
        }
    }
}

/// Sets what `getmetatable` shows for the proxy at `index`, taken from the top.
pub(super) unsafe fn show_metatable(state: State, index: c_int) {
    unsafe {
        ffi::lua_getmetatable(state, index);
        push_pointer(state, &SHOWN);
        ffi::lua_pushvalue(state, -3);
        ffi::lua_rawset(state, -3);
        ffi::lua_settop(state, -3);
    }
}

/// Makes reading an unknown name of the table on top an error.
pub(super) unsafe fn refuse_unknown_names(state: State) {
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        set_function(state, -1, c"__index", unknown_name);
        ffi::lua_setmetatable(state, -2);
    }
}

/// What `getmetatable` shows of strings: the library, sealed. Expects the
/// sealed table of the library on top and leaves it.
pub(super) unsafe fn protect_strings(state: State) {
    unsafe {
        let library = ffi::lua_gettop(state);
        ffi::lua_pushlstring_(state, c"".as_ptr(), 0);
        if ffi::lua_getmetatable(state, -1) != 0 {
            ffi::lua_createtable(state, 0, 1);
            ffi::lua_pushvalue(state, library);
            set_raw(state, -2, c"__index");
            seal(state);
            set_raw(state, -2, c"__metatable");
        }
        ffi::lua_settop(state, library);
    }
}

/// Whether the value is a proxy.
pub(super) unsafe fn is_sealed(state: State, index: c_int) -> bool {
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TTABLE
            || ffi::lua_getmetatable(state, index) == 0
        {
            return false;
        }
        push_pointer(state, &REAL);
        ffi::lua_rawget_(state, -2);
        let sealed = ffi::lua_type(state, -1) == ffi::LUA_TTABLE;
        ffi::lua_settop(state, -3);
        sealed
    }
}

/// Puts the real table in the place of the proxy at `index`, if it is one.
pub(super) unsafe fn unseal(state: State, index: c_int) {
    unsafe {
        if !is_sealed(state, index) {
            return;
        }
        ffi::lua_getmetatable(state, index);
        push_pointer(state, &REAL);
        ffi::lua_rawget_(state, -2);
        ffi::lua_replace(state, index);
        ffi::lua_settop(state, -2);
    }
}

unsafe extern "C-unwind" fn refuse_write(state: State) -> c_int {
    unsafe { ffi::luaL_error(state, READ_ONLY.as_ptr()) }
}

unsafe extern "C-unwind" fn unknown_name(state: State) -> c_int {
    unsafe {
        if ffi::lua_isstring(state, 2) == 0 {
            let text = c"Second argument to luaProtectedTableError must be a string or number";
            return ffi::luaL_error(state, text.as_ptr());
        }
        let name = ffi::lua_tostring(state, 2);
        let text = c"Script attempted to access nonexistent global variable '%s'";
        ffi::luaL_error(state, text.as_ptr(), name)
    }
}

/// For functions that change their first argument.
unsafe extern "C-unwind" fn guard_write(state: State) -> c_int {
    unsafe {
        if is_sealed(state, 1) {
            // Without a position: a C function has none.
            ffi::lua_pushlstring_(state, READ_ONLY.as_ptr(), READ_ONLY.count_bytes());
            ffi::lua_error(state);
        }
        original(state)
    }
}

/// For functions that read their first argument past its metatable.
unsafe extern "C-unwind" fn guard_read(state: State) -> c_int {
    unsafe {
        unseal(state, 1);
        original(state)
    }
}

/// For functions that catch errors.
unsafe extern "C-unwind" fn guard_catch(state: State) -> c_int {
    unsafe {
        let results = original(state);
        raise_if_aborted(state);
        results
    }
}

unsafe extern "C-unwind" fn next(state: State) -> c_int {
    unsafe {
        unseal(state, 1);
        match Host::of(state).next.get() {
            Some(next) => next(state),
            None => 0,
        }
    }
}

unsafe extern "C-unwind" fn pairs(state: State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        let iterator = 1 + c_int::from(is_sealed(state, 1));
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(iterator));
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushnil(state);
        3
    }
}

unsafe extern "C-unwind" fn get_metatable(state: State) -> c_int {
    unsafe {
        ffi::luaL_checkany(state, 1);
        let sealed = is_sealed(state, 1);
        if ffi::lua_getmetatable(state, 1) == 0 {
            ffi::lua_pushnil(state);
            return 1;
        }
        if sealed {
            push_pointer(state, &SHOWN);
            ffi::lua_rawget_(state, -2);
        } else {
            ffi::luaL_getmetafield_(state, 1, c"__metatable".as_ptr());
        }
        1
    }
}

/// `pcall` of Redis: a table with an error text is given as that text.
unsafe extern "C-unwind" fn pcall(state: State) -> c_int {
    unsafe {
        // Lua's own refuses a call without a function, Redis's calls nothing.
        let given = ffi::lua_gettop(state);
        ffi::lua_pushboolean(state, 1);
        ffi::lua_insert(state, 1);
        if given == 0 {
            ffi::lua_pushnil(state);
        }
        let status = ffi::lua_pcall(state, given.max(1) - 1, ffi::LUA_MULTRET, 0);
        if status != 0 {
            raise_if_aborted(state);
            ffi::lua_remove(state, 1);
            if ffi::lua_type(state, -1) == ffi::LUA_TTABLE {
                ffi::lua_getfield_(state, -1, c"err".as_ptr());
                if ffi::lua_isstring(state, -1) != 0 {
                    ffi::lua_replace(state, -2);
                }
            }
            ffi::lua_pushboolean(state, 0);
            ffi::lua_insert(state, 1);
        }
        ffi::lua_gettop(state)
    }
}

/// Lua's mark of compiled code, which is not loaded: it could be made to do
/// anything.
const COMPILED: u8 = 0x1b;

/// For `loadstring`.
unsafe extern "C-unwind" fn guard_text(state: State) -> c_int {
    unsafe {
        let mut len = 0;
        let text = ffi::luaL_checklstring(state, 1, &mut len);
        if len > 0 && *text.cast::<u8>() == COMPILED {
            return refuse_compiled(state);
        }
        original(state)
    }
}

unsafe fn refuse_compiled(state: State) -> c_int {
    unsafe {
        ffi::lua_pushnil(state);
        let text = c"compiled code is not allowed";
        ffi::lua_pushlstring_(state, text.as_ptr(), text.count_bytes());
        2
    }
}

/// `load` that gives compiled code no chance.
unsafe extern "C-unwind" fn load(state: State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TFUNCTION);
        let name = ffi::luaL_optlstring(state, 2, c"=(load)".as_ptr(), std::ptr::null_mut());
        ffi::lua_settop(state, 3);
        let mut first = true;
        let data = (&raw mut first).cast::<c_void>();
        if ffi::lua_load(state, read_piece, data, name) == 0 {
            return 1;
        }
        raise_if_aborted(state);
        ffi::lua_pushnil(state);
        ffi::lua_insert(state, -2);
        2
    }
}

unsafe extern "C-unwind" fn read_piece(
    state: State,
    data: *mut c_void,
    size: *mut usize,
) -> *const c_char {
    unsafe {
        ffi::luaL_checkstack_(state, 2, c"too many nested functions".as_ptr());
        ffi::lua_pushvalue(state, 1);
        ffi::lua_call(state, 0, 1);
        if ffi::lua_type(state, -1) == ffi::LUA_TNIL {
            *size = 0;
            return std::ptr::null();
        }
        if ffi::lua_isstring(state, -1) == 0 {
            ffi::luaL_error(state, c"reader function must return a string".as_ptr());
        }
        ffi::lua_replace(state, 3);
        let piece = ffi::lua_tolstring(state, 3, size);
        let first = data.cast::<bool>();
        if std::mem::replace(&mut *first, false) && *size > 0 && *piece.cast::<u8>() == COMPILED {
            ffi::luaL_error(state, c"compiled code is not allowed".as_ptr());
        }
        piece
    }
}
