//! The thin layer over Lua's C API that everything here is built on.
//!
//! Lua reports errors by `longjmp`, which runs no destructors. So there are
//! two kinds of functions that Lua calls:
//! - *natives* ([`native!`]): Rust that owns things. They never let Lua jump:
//!   only calls that cannot fail (raw access, pushes) are made in them, memory
//!   limits are off while one runs, and an error is a value ([`Raise`]) that
//!   is thrown by a frame that owns nothing. A panic becomes a Lua error.
//! - plain `extern "C-unwind"` functions: they own nothing and may be jumped
//!   over.
//!
//! Everything `unsafe` here is so because a [`State`] is a raw pointer; all of
//! it asks for the same: a live state, used by one thread at a time, and
//! indices that are valid on its stack.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::AssertUnwindSafe;

pub(super) use mlua::ffi;

use super::host::Host;

pub(super) type State = *mut ffi::lua_State;

/// How a native ends that does not return values.
pub(super) enum Raise {
    /// Text with the position of the calling Lua code before it.
    Error(Cow<'static, str>),
    /// The table `{err = "ERR text"}`, or of a line `-CODE text` the table `{err = "CODE text"}`.
    Reply(Cow<'static, str>),
    /// `bad argument #n to 'function' (text)`
    Argument(c_int, Cow<'static, str>),
    /// The value on top of the stack.
    Top,
}

impl Raise {
    pub fn error(text: impl Into<Cow<'static, str>>) -> Raise {
        Raise::Error(text.into())
    }

    pub fn argument(at: c_int, text: impl Into<Cow<'static, str>>) -> Raise {
        Raise::Argument(at, text.into())
    }

    pub fn reply(text: impl Into<Cow<'static, str>>) -> Raise {
        Raise::Reply(text.into())
    }
}

/// What a native is: it finds its arguments on the stack, leaves its results
/// on top and says how many there are.
pub(super) type Native = unsafe fn(State) -> Result<c_int, Raise>;

/// Makes a function that Lua can call of a [`Native`].
macro_rules! native {
    ($body:path) => {{
        unsafe extern "C-unwind" fn entry(
            state: $crate::scripting::lua::State,
        ) -> ::std::ffi::c_int {
            unsafe { $crate::scripting::lua::enter(state, $body) }
        }
        entry as $crate::scripting::lua::ffi::lua_CFunction
    }};
}
pub(super) use native;

/// An outcome without destructors.
enum Plain {
    Return(c_int),
    Throw,
    Argument(c_int),
}

/// Runs a native and throws what it raised.
pub(super) unsafe fn enter(state: State, body: Native) -> c_int {
    unsafe {
        match run_guarded(state, body) {
            Plain::Return(n) => n,
            Plain::Throw => ffi::lua_error(state),
            Plain::Argument(n) => {
                let text = ffi::lua_tostring(state, -1);
                ffi::luaL_argerror(state, n, text)
            }
        }
    }
}

unsafe fn run_guarded(state: State, body: Native) -> Plain {
    unsafe {
        let host = Host::of(state);
        host.memory.suspend();
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| body(state)));
        let raised = caught.unwrap_or_else(|_| {
            ffi::lua_settop(state, 0);
            Err(Raise::error("internal error"))
        });
        let plain = match raised {
            Ok(n) => Plain::Return(n),
            Err(Raise::Top) => Plain::Throw,
            Err(Raise::Error(text)) => {
                make_room(state);
                ffi::luaL_where(state, 1);
                push(state, text.as_bytes());
                ffi::lua_concat(state, 2);
                Plain::Throw
            }
            Err(Raise::Reply(text)) => {
                make_room(state);
                push_error_reply(state, text.as_bytes());
                Plain::Throw
            }
            Err(Raise::Argument(n, text)) => {
                make_room(state);
                push(state, text.as_bytes());
                Plain::Argument(n)
            }
        };
        host.memory.resume();
        plain
    }
}

/// Room for an error value on a stack that a native has filled.
unsafe fn make_room(state: State) {
    unsafe {
        if ffi::lua_checkstack(state, 8) == 0 {
            ffi::lua_settop(state, 0);
        }
    }
}

/// Pushes a byte string.
pub(super) unsafe fn push(state: State, bytes: &[u8]) {
    unsafe { ffi::lua_pushlstring_(state, bytes.as_ptr().cast::<c_char>(), bytes.len()) }
}

/// Pushes the table that stands for an error reply. A text that begins with
/// `-` brings its code, any other gets the code ERR.
pub(super) unsafe fn push_error_reply(state: State, text: &[u8]) {
    let mut line = Vec::with_capacity(text.len() + 4);
    match text.strip_prefix(b"-") {
        Some(rest) => match rest.iter().position(|b| *b == b' ') {
            Some(space) => {
                line.extend_from_slice(&rest[..=space]);
                line.extend_from_slice(trim_line_ends(&rest[space + 1..]));
            }
            None => {
                line.extend_from_slice(b"ERR ");
                line.extend_from_slice(trim_line_ends(rest));
            }
        },
        None => {
            line.extend_from_slice(b"ERR ");
            line.extend_from_slice(trim_line_ends(text));
        }
    }
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        push(state, &line);
        set_raw(state, -2, c"err");
    }
}

fn trim_line_ends(mut text: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    text
}

/// `table[name] = value`, taking the value from the top; no metamethods.
pub(super) unsafe fn set_raw(state: State, table: c_int, name: &CStr) {
    unsafe {
        let table = absolute(state, table);
        push(state, name.to_bytes());
        ffi::lua_insert(state, -2);
        ffi::lua_rawset(state, table);
    }
}

/// Pushes `table[name]`; no metamethods. The type of what was pushed.
pub(super) unsafe fn get_raw(state: State, table: c_int, name: &CStr) -> c_int {
    unsafe {
        let table = absolute(state, table);
        push(state, name.to_bytes());
        ffi::lua_rawget_(state, table);
        ffi::lua_type(state, -1)
    }
}

/// `table[name] = function`
pub(super) unsafe fn set_function(
    state: State,
    table: c_int,
    name: &CStr,
    function: ffi::lua_CFunction,
) {
    unsafe {
        let table = absolute(state, table);
        ffi::lua_pushcclosure(state, function, 0);
        set_raw(state, table, name);
    }
}

/// `table[name] = number`
pub(super) unsafe fn set_number(state: State, table: c_int, name: &CStr, value: f64) {
    unsafe {
        let table = absolute(state, table);
        ffi::lua_pushnumber(state, value);
        set_raw(state, table, name);
    }
}

/// `table[name] = text`
pub(super) unsafe fn set_text(state: State, table: c_int, name: &CStr, value: &[u8]) {
    unsafe {
        let table = absolute(state, table);
        push(state, value);
        set_raw(state, table, name);
    }
}

/// An index that stays right when something is pushed.
pub(super) unsafe fn absolute(state: State, index: c_int) -> c_int {
    unsafe {
        match index {
            i if i < 0 && i > ffi::LUA_REGISTRYINDEX => ffi::lua_gettop(state) + i + 1,
            i => i,
        }
    }
}

/// The bytes of a string, or of a number as Lua writes it; nothing for any
/// other value. They live as long as the value is on the stack; a number
/// there becomes a string.
pub(super) unsafe fn bytes<'a>(state: State, index: c_int) -> Option<&'a [u8]> {
    unsafe {
        let mut len = 0;
        let at = ffi::lua_tolstring(state, index, &mut len);
        (!at.is_null()).then(|| std::slice::from_raw_parts(at.cast::<u8>(), len))
    }
}

/// The bytes of a string value, cut where C would see its end.
pub(super) fn c_text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// The name of the type of an argument, as error texts have it.
pub(super) unsafe fn type_name(state: State, index: c_int) -> String {
    unsafe {
        let name = ffi::lua_typename(state, ffi::lua_type(state, index));
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// `expected expected, got type`
pub(super) unsafe fn wrong_type(state: State, at: c_int, expected: &str) -> Raise {
    let got = unsafe { type_name(state, at) };
    Raise::argument(at, format!("{expected} expected, got {got}"))
}

/// An argument that must be a string or a number.
pub(super) unsafe fn check_bytes<'a>(state: State, at: c_int) -> Result<&'a [u8], Raise> {
    unsafe { bytes(state, at).ok_or_else(|| wrong_type(state, at, "string")) }
}

/// An argument that must be a number or look like one.
pub(super) unsafe fn check_number(state: State, at: c_int) -> Result<f64, Raise> {
    unsafe {
        let number = ffi::lua_tonumber(state, at);
        if number == 0.0 && ffi::lua_isnumber(state, at) == 0 {
            return Err(wrong_type(state, at, "number"));
        }
        Ok(number)
    }
}

/// [`check_number`] cut to an integer as C's conversion on x86-64 does.
pub(super) unsafe fn check_integer(state: State, at: c_int) -> Result<i64, Raise> {
    Ok(truncate(unsafe { check_number(state, at)? }))
}

/// [`check_integer`] of an argument that may be left out.
pub(super) unsafe fn integer_or(state: State, at: c_int, default: i64) -> Result<i64, Raise> {
    unsafe {
        if ffi::lua_type(state, at) <= ffi::LUA_TNIL {
            return Ok(default);
        }
        check_integer(state, at)
    }
}

/// A double as a C `long long`; what has none is the smallest, as on x86-64.
pub(super) fn truncate(value: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) {
        value as i64
    } else {
        i64::MIN
    }
}

/// A number in C's `%.<precision>g`.
pub(super) fn format_g(value: f64, precision: usize, out: &mut Vec<u8>) {
    let mut text = [0u8; 64];
    // SAFETY: `%.*g` writes at most `precision` (17 at most) digits, sign,
    // point and exponent, and never more than the size given.
    let len = unsafe {
        libc::snprintf(
            text.as_mut_ptr().cast::<c_char>(),
            text.len(),
            c"%.*g".as_ptr(),
            precision.min(17) as c_int,
            value,
        )
    };
    out.extend_from_slice(&text[..(len.max(0) as usize).min(text.len() - 1)]);
}

/// Pushes a pointer that no script can make.
pub(super) unsafe fn push_pointer<T>(state: State, pointer: *const T) {
    unsafe { ffi::lua_pushlightuserdata(state, pointer.cast_mut().cast::<c_void>()) }
}
