//! What a Lua state carries along: its memory account, the script that runs
//! in it, and the settings of its libraries.
//!
//! The host is the state's allocator data, so that every function finds it by
//! the state alone. Natives share it; all fields are cells.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};

use super::debugger::Debugger;
use super::libraries::cjson;
use super::library::Loading;
use super::lua::{State, ffi, push};
use super::run::Run;

/// Bytes that one Lua state may hold; above, allocation fails in the script.
const MEMORY_LIMIT: usize = 512 << 20;

/// Account of a state's memory.
#[derive(Default)]
pub(super) struct Memory {
    used: Cell<usize>,
    /// Natives that run now: no limit while one does, because a failed
    /// allocation would jump over their frames.
    natives: Cell<u32>,
}

impl Memory {
    pub fn used(&self) -> usize {
        self.used.get()
    }

    pub fn suspend(&self) {
        self.natives.set(self.natives.get() + 1);
    }

    pub fn resume(&self) {
        self.natives.set(self.natives.get() - 1);
    }
}

/// Why a script must end, whatever it does to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Abort {
    /// It must be run again from the start; the run has the reason.
    Undo,
    /// SCRIPT KILL or FUNCTION KILL.
    Killed,
    /// FUNCTION LOAD took too long.
    LoadTimeout,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Host {
    pub memory: Memory,
    /// The script that runs, null between runs.
    pub run: Cell<*mut Run<'static, 'static>>,
    /// FUNCTION LOAD that runs, null between loads.
    pub loading: Cell<*mut Loading>,
    /// The debugger of the run, null if there is none.
    pub debugger: Cell<*const Debugger>,
    /// The real table of globals, in Lua's registry.
    pub globals: Cell<c_int>,
    pub abort: Cell<Option<Abort>>,
    pub json: RefCell<cjson::Settings>,
    /// Lua's own `next`, which ours delegates to.
    pub next: Cell<Option<ffi::lua_CFunction>>,
}

impl Host {
    /// The host of a state.
    pub unsafe fn of<'a>(state: State) -> &'a Host {
        unsafe {
            let mut data: *mut c_void = std::ptr::null_mut();
            ffi::lua_getallocf(state, &mut data);
            &*data.cast::<Host>()
        }
    }

    /// The debugger of the script that runs.
    pub unsafe fn debugger(&self) -> Option<&Debugger> {
        unsafe { self.debugger.get().as_ref() }
    }

    /// Pushes a global of the script.
    pub unsafe fn push_global(&self, state: State, name: &[u8]) {
        unsafe {
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.globals.get());
            push(state, name);
            ffi::lua_rawget_(state, -2);
            ffi::lua_replace(state, -2);
        }
    }

    /// The run of a state, if a script runs in it.
    pub unsafe fn run_of<'a>(state: State) -> Option<&'a mut Run<'static, 'static>> {
        unsafe { Host::of(state).run.get().as_mut() }
    }
}

/// Lua's allocator: libc's, with an account.
pub(super) unsafe extern "C" fn allocate(
    data: *mut c_void,
    block: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    unsafe {
        let memory = &(*data.cast::<Host>()).memory;
        if new == 0 {
            memory.used.set(memory.used.get().saturating_sub(old));
            libc::free(block);
            return std::ptr::null_mut();
        }
        let grown = memory.used.get().saturating_sub(old) + new;
        let natives = memory.natives.get() > 0;
        if new > old && grown > MEMORY_LIMIT && !natives {
            return std::ptr::null_mut();
        }
        let moved = libc::realloc(block, new);
        if moved.is_null() {
            if natives {
                // Failing here would jump over frames that own things.
                std::process::abort();
            }
            return moved;
        }
        memory.used.set(grown);
        moved
    }
}

/// Ends the script again if it must end: for functions that catch errors.
pub(super) unsafe fn raise_if_aborted(state: State) {
    unsafe {
        let Some(abort) = Host::of(state).abort.get() else {
            return;
        };
        ffi::lua_settop(state, 0);
        push_abort(state, abort);
        ffi::lua_error(state);
    }
}

/// Pushes the error value of a script that must end.
pub(super) unsafe fn push_abort(state: State, abort: Abort) {
    let text = match abort {
        Abort::Undo => c"ERR the script is run again",
        Abort::Killed => c"ERR Script killed by user with SCRIPT KILL...",
        Abort::LoadTimeout => c"ERR FUNCTION LOAD timeout",
    };
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        ffi::lua_pushlstring_(state, text.as_ptr(), text.count_bytes());
        ffi::lua_setfield(state, -2, c"err".as_ptr());
    }
}

/// The number of arguments of the function that runs.
pub(super) unsafe fn arguments(state: State) -> c_int {
    unsafe { ffi::lua_gettop(state) }
}
