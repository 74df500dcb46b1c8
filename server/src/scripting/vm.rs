//! One Lua state with its sandbox, and how a function in it is run.

use std::ffi::{CStr, c_int};

use cairn_protocol::resp::{Args, ReplyWriter};

use super::host::{Abort, Host, allocate, push_abort};
use super::libraries::{bit, cjson, cmsgpack, pack};
use super::lua::{State, absolute, bytes, c_text, ffi, get_raw, push, push_error_reply, set_raw};
use super::run::{Run, Script};
use super::{api, debugger, reply, sandbox};
use crate::txn::CommandError;

/// Instructions between two looks at the clock.
pub(super) const INSTRUCTIONS: c_int = 10_000;
/// Runs between two helpings of garbage collection.
const RUNS_PER_COLLECTION: u32 = 50;

/// Pushes a library's table.
type Open = unsafe fn(State);

/// A Lua state. One thread at a time uses it.
pub(super) struct Vm {
    state: State,
    host: Box<Host>,
    /// The real table of globals and the sealed one, in Lua's registry.
    globals: c_int,
    sealed: c_int,
    runs: u32,
}

impl Vm {
    /// A state for scripts of EVAL.
    pub fn for_scripts() -> Vm {
        let mut vm = Vm::bare();
        // SAFETY: the state is new and ours; see `lua` for what natives may do.
        unsafe {
            vm.open(true);
            vm.host.memory.resume();
        }
        vm
    }

    /// A state for functions: their globals are sealed twice, so that what
    /// they read can be exchanged while a library is loaded.
    pub fn for_functions() -> Vm {
        let mut vm = Vm::bare();
        // SAFETY: as above.
        unsafe {
            vm.open(false);
            vm.host.memory.resume();
        }
        vm
    }

    fn bare() -> Vm {
        let host = Box::<Host>::default();
        // No limit until the sandbox is there.
        host.memory.suspend();
        let data = (&raw const *host).cast_mut().cast();
        // SAFETY: the host lives as long as the state, behind its box.
        let state = unsafe { ffi::lua_newstate(allocate, data) };
        assert!(!state.is_null(), "no memory for a Lua state");
        Vm {
            state,
            host,
            globals: ffi::LUA_NOREF,
            sealed: ffi::LUA_NOREF,
            runs: 0,
        }
    }

    unsafe fn open(&mut self, eval: bool) {
        let state = self.state;
        unsafe {
            sandbox::open(state);
            let libraries: [(&CStr, Open); 4] = [
                (c"cjson", cjson::open),
                (c"struct", pack::open),
                (c"cmsgpack", cmsgpack::open),
                (c"bit", bit::open),
            ];
            for (name, open) in libraries {
                open(state);
                set_raw(state, -2, name);
            }
            get_raw(state, -1, c"math");
            api::replace_random(state);
            ffi::lua_settop(state, -2);
            api::open(state, eval);
            set_raw(state, -2, c"redis");

            sandbox::seal_fields(state);
            get_raw(state, -1, c"string");
            sandbox::protect_strings(state);
            ffi::lua_settop(state, -2);
            sandbox::refuse_unknown_names(state);
            ffi::lua_pushvalue(state, -1);
            self.globals = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            self.host.globals.set(self.globals);
            self.seal_globals();
            ffi::lua_settop(state, 0);
        }
    }

    /// Seals the globals on top, makes the proxy `_G` and the environment of
    /// all code.
    unsafe fn seal_globals(&mut self) {
        let state = self.state;
        unsafe {
            let real = ffi::lua_gettop(state);
            ffi::lua_pushvalue(state, real);
            sandbox::seal(state);
            let proxy = ffi::lua_gettop(state);
            ffi::lua_getmetatable(state, real);
            sandbox::seal(state);
            sandbox::show_metatable(state, proxy);
            ffi::lua_settop(state, proxy);
            ffi::lua_pushvalue(state, proxy);
            set_raw(state, real, c"_G");
            ffi::lua_pushvalue(state, proxy);
            self.sealed = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            ffi::lua_pushvalue(state, proxy);
            ffi::lua_replace(state, ffi::LUA_GLOBALSINDEX);
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Bytes that the state holds.
    pub fn memory(&self) -> usize {
        self.host.memory.used()
    }

    /// Compiles code and keeps it; its number in Lua's registry.
    ///
    /// # Errors
    /// What Lua says of the code.
    pub fn compile(&mut self, code: &[u8], chunk: &CStr) -> Result<c_int, Vec<u8>> {
        let state = self.state;
        // SAFETY: the stack is empty between runs; loading is protected.
        unsafe {
            ffi::lua_settop(state, 0);
            self.reset_environment();
            // Compiled code could be made to do anything.
            if code.first() == Some(&0x1b) {
                let chunk = &chunk.to_bytes()[1..];
                return Err([chunk, b":1: unexpected symbol near 'char(27)'"].concat());
            }
            let at = code.as_ptr().cast();
            let status = ffi::luaL_loadbuffer(state, at, code.len(), chunk.as_ptr());
            if status != 0 {
                let text = bytes(state, -1).unwrap_or_default();
                let text = c_text(text).to_vec();
                ffi::lua_settop(state, 0);
                return Err(text);
            }
            self.host.memory.suspend();
            let reference = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            self.host.memory.resume();
            Ok(reference)
        }
    }

    /// Forgets what [`Vm::compile`] keeps.
    pub fn forget(&mut self, reference: c_int) {
        // SAFETY: frees a slot of the registry.
        unsafe { ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, reference) }
    }

    /// Frees what nothing refers to any more.
    pub fn collect(&mut self) {
        // SAFETY: finalizers of scripts' own (newproxy) are protected here.
        unsafe {
            self.host.memory.suspend();
            ffi::lua_gc(self.state, ffi::LUA_GCRESTART, 0);
            ffi::lua_pushcclosure(self.state, collect_all, 0);
            ffi::lua_pcall(self.state, 0, 0, 0);
            ffi::lua_settop(self.state, 0);
            self.host.memory.resume();
        }
    }

    /// A script may have chosen another environment for the main thread.
    unsafe fn reset_environment(&mut self) {
        unsafe {
            ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, self.sealed);
            ffi::lua_replace(self.state, ffi::LUA_GLOBALSINDEX);
        }
    }

    /// Makes the table on top the environment of all code, and takes it away.
    pub unsafe fn set_environment(&mut self) {
        unsafe {
            self.sealed = ffi::luaL_ref(self.state, ffi::LUA_REGISTRYINDEX);
            self.reset_environment();
        }
    }

    /// Pushes the real table of globals.
    pub unsafe fn push_globals(&mut self) {
        unsafe { ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, self.globals) }
    }

    /// Runs compiled code and writes the reply. True: it is no error.
    ///
    /// # Errors
    /// The run must be undone; nothing is written.
    pub fn run(
        &mut self,
        function: c_int,
        script: &Script<'_>,
        mut run: Run<'_, '_>,
        out: &mut ReplyWriter,
    ) -> Result<bool, CommandError> {
        let state = self.state;
        // SAFETY: the run outlives the call, in which alone the host knows it;
        // natives reach it one at a time. All that could fail is protected,
        // and the memory limit is on only in there.
        unsafe {
            self.host.memory.suspend();
            ffi::lua_settop(state, 0);
            self.reset_environment();
            self.host.abort.set(None);
            self.host.run.set((&raw mut run).cast());
            ffi::lua_pushcclosure(state, describe_error, 0);
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, function);
            let arguments = self.push_arguments(script);
            let debugger = run.debugger();
            let (hook, mask): (ffi::lua_Hook, c_int) = match debugger {
                None => (look_at_clock, ffi::LUA_MASKCOUNT),
                Some(_) => (debugger::at_line, ffi::LUA_MASKCOUNT | ffi::LUA_MASKLINE),
            };
            self.host
                .debugger
                .set(debugger.map_or(std::ptr::null(), std::ptr::from_ref));
            ffi::lua_sethook(state, Some(hook), mask, INSTRUCTIONS);
            self.host.memory.resume();

            let status = ffi::lua_pcall(state, arguments, 1, 1);

            self.host.memory.suspend();
            ffi::lua_sethook(state, None, 0, 0);
            let failed = match self.host.abort.get() {
                Some(Abort::Undo) => true,
                _ if status != 0 => {
                    let counted = is_counted(state);
                    let line = self.write_error(script, out);
                    run.note_failed((!counted).then_some(line));
                    true
                }
                _ => {
                    // A returned table may be an error too: the writer shows
                    // it the same.
                    let failed = error_of_table(state);
                    let counted = is_counted(state);
                    reply::write_value(state, run.version, out);
                    if let Some(line) = &failed {
                        run.note_failed((!counted).then(|| line.clone()));
                    }
                    failed.is_some()
                }
            };
            ffi::lua_settop(state, 0);
            self.host.run.set(std::ptr::null_mut());
            self.host.debugger.set(std::ptr::null());
            self.help_collector();
            self.host.memory.resume();
            match self.host.abort.take() {
                Some(Abort::Undo) => Err(run.failure.take().unwrap_or(CommandError::Cold)),
                _ => Ok(!failed),
            }
        }
    }

    /// Keys and arguments: globals of a script, parameters of a function.
    unsafe fn push_arguments(&mut self, script: &Script<'_>) -> c_int {
        let state = self.state;
        unsafe {
            let keys = 3..3 + script.keys;
            let rest = 3 + script.keys..script.args.len();
            push_array(state, &script.args, keys);
            push_array(state, &script.args, rest);
            if !script.eval {
                return 2;
            }
            self.push_globals();
            ffi::lua_insert(state, -3);
            set_raw(state, -3, c"ARGV");
            set_raw(state, -2, c"KEYS");
            ffi::lua_settop(state, -2);
            0
        }
    }

    /// Writes the error value on top.
    unsafe fn write_error(&mut self, script: &Script<'_>, out: &mut ReplyWriter) -> String {
        let state = self.state;
        let line = unsafe {
            let name = script.name;
            if ffi::lua_type(state, -1) != ffi::LUA_TTABLE {
                let text = bytes(state, -1).map_or(&b"execution failure"[..], c_text);
                let text = &text[..text.len().min(100)];
                let line = [b"ERR Error running script ", name, b", ", text].concat();
                out.error(&line);
                return String::from_utf8_lossy(&line).into_owned();
            }
            let mut line = match get_raw(state, -1, c"err") {
                ffi::LUA_TSTRING | ffi::LUA_TNUMBER => {
                    c_text(bytes(state, -1).unwrap_or_default()).to_vec()
                }
                _ => b"ERR unknown error".to_vec(),
            };
            let has_source = get_raw(state, -2, c"source") != ffi::LUA_TNIL;
            let has_line = get_raw(state, -3, c"line") != ffi::LUA_TNIL;
            if has_source && has_line {
                let at = bytes(state, -1).unwrap_or_default();
                let source = bytes(state, -2).unwrap_or_default();
                let place = [b" script: ", name, b", on ", source, b":", at, b"."].concat();
                line.extend_from_slice(&place);
            }
            line
        };
        out.error(&line);
        String::from_utf8_lossy(&line).into_owned()
    }

    unsafe fn help_collector(&mut self) {
        self.runs += 1;
        if self.runs.is_multiple_of(RUNS_PER_COLLECTION) {
            self.collect_some();
        }
    }

    fn collect_some(&mut self) {
        // SAFETY: as `collect`.
        unsafe {
            ffi::lua_pushcclosure(self.state, collect_step, 0);
            ffi::lua_pcall(self.state, 0, 0, 0);
            ffi::lua_settop(self.state, 0);
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: nobody else has the state; the host is dropped after it.
        unsafe { ffi::lua_close(self.state) }
    }
}

unsafe extern "C-unwind" fn collect_all(state: State) -> c_int {
    unsafe { ffi::lua_gc(state, ffi::LUA_GCCOLLECT, 0) };
    0
}

/// A script may have stopped the collector for good: it is started again.
unsafe extern "C-unwind" fn collect_step(state: State) -> c_int {
    unsafe {
        ffi::lua_gc(state, ffi::LUA_GCRESTART, 0);
        ffi::lua_gc(state, ffi::LUA_GCSTEP, RUNS_PER_COLLECTION as c_int);
    }
    0
}

unsafe fn push_array(state: State, args: &Args<'_>, range: std::ops::Range<usize>) {
    unsafe {
        ffi::lua_createtable(state, range.len() as c_int, 0);
        for (at, index) in range.enumerate() {
            push(state, args.get(index));
            ffi::lua_rawseti_(state, -2, at as c_int + 1);
        }
    }
}

unsafe fn error_of_table(state: State) -> Option<String> {
    unsafe {
        if ffi::lua_type(state, -1) != ffi::LUA_TTABLE {
            return None;
        }
        let found = get_raw(state, -1, c"err") == ffi::LUA_TSTRING;
        let line = found.then(|| bytes(state, -1).map(c_text).unwrap_or_default());
        let line = line.map(|line| String::from_utf8_lossy(line).into_owned());
        ffi::lua_settop(state, -2);
        line
    }
}

/// Whether the error on top is one that a command has counted already.
unsafe fn is_counted(state: State) -> bool {
    unsafe {
        if ffi::lua_type(state, -1) != ffi::LUA_TTABLE {
            return false;
        }
        let counted = get_raw(state, -1, c"ignore_error_stats_update") != ffi::LUA_TNIL;
        ffi::lua_settop(state, -2);
        counted
    }
}

/// Every so many instructions: ends a script that must end.
pub(super) unsafe extern "C-unwind" fn look_at_clock(state: State, _: *mut ffi::lua_Debug) {
    unsafe {
        if let Some(abort) = interruption(state) {
            push_abort(state, abort);
            ffi::lua_error(state);
        }
    }
}

unsafe fn interruption(state: State) -> Option<Abort> {
    unsafe {
        let host = Host::of(state);
        if let Some(abort) = host.abort.get() {
            return Some(abort);
        }
        let abort = match (Host::run_of(state), host.loading.get().as_ref()) {
            (Some(run), _) => run.is_interrupted(),
            (None, Some(loading)) => loading.is_late().then_some(Abort::LoadTimeout),
            (None, None) => None,
        };
        host.abort.set(abort);
        abort
    }
}

/// The error handler of a run: makes any error a table and notes where the
/// Lua code was.
unsafe extern "C-unwind" fn describe_error(state: State) -> c_int {
    unsafe {
        ffi::lua_settop(state, 1);
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            push_text_of(state);
        }
        let mut place: ffi::lua_Debug = std::mem::zeroed();
        let mut found = ffi::lua_getstack(state, 1, &mut place) != 0;
        if found {
            ffi::lua_getinfo(state, c"Sl".as_ptr(), &mut place);
            if CStr::from_ptr(place.what).to_bytes() == b"C" {
                found = ffi::lua_getstack(state, 2, &mut place) != 0;
                if found {
                    ffi::lua_getinfo(state, c"Sl".as_ptr(), &mut place);
                }
            }
        }
        if found && !sandbox::is_sealed(state, -1) {
            let table = absolute(state, -1);
            ffi::lua_pushstring_(state, place.source);
            set_raw(state, table, c"source");
            ffi::lua_pushnumber(state, f64::from(place.currentline));
            set_raw(state, table, c"line");
        }
        1
    }
}

/// Pushes `{err = "ERR " .. tostring(error)}` for the error at 1.
unsafe fn push_text_of(state: State) {
    unsafe {
        let text = match ffi::lua_type(state, 1) {
            ffi::LUA_TSTRING | ffi::LUA_TNUMBER => {
                c_text(bytes(state, 1).unwrap_or_default()).to_vec()
            }
            ffi::LUA_TNIL => b"nil".to_vec(),
            ffi::LUA_TBOOLEAN if ffi::lua_toboolean(state, 1) != 0 => b"true".to_vec(),
            ffi::LUA_TBOOLEAN => b"false".to_vec(),
            _ => {
                let name = super::lua::type_name(state, 1);
                format!("{name}: {:p}", ffi::lua_topointer(state, 1)).into_bytes()
            }
        };
        push_plain(state, text);
    }
}

/// Own frame, so that the text is freed in any case.
unsafe fn push_plain(state: State, text: Vec<u8>) {
    unsafe {
        let host = Host::of(state);
        host.memory.suspend();
        match text.first() {
            Some(b'-') => push_error_reply(state, &[b"-ERR ", &text[..]].concat()),
            _ => push_error_reply(state, &text),
        }
        host.memory.resume();
    }
}
