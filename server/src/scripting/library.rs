//! Libraries of functions: their code is run once to register functions,
//! which FCALL then calls.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::host::{Abort, Host, arguments};
use super::lua::{Raise, State, bytes, ffi, get_raw, set_raw};
use super::registry::{Function, Library};
use super::run::ScriptFlags;
use super::vm::{INSTRUCTIONS, Vm, look_at_clock};
use super::{api, sandbox, shebang};

/// FUNCTION LOAD may take so long.
const LOAD_TIMEOUT: Duration = Duration::from_millis(500);

const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and \
    must be at least one character long";

/// A library whose code runs to register its functions.
pub(super) struct Loading {
    functions: Vec<Registered>,
    started: Instant,
    timeout: Option<Duration>,
}

/// One function, and its number in Lua's registry.
struct Registered {
    function: Function,
    reference: c_int,
}

impl Loading {
    pub fn is_late(&self) -> bool {
        self.timeout
            .is_some_and(|limit| self.started.elapsed() > limit)
    }
}

/// A Lua state with the libraries that were called in it.
pub(super) struct FunctionVm {
    vm: Vm,
    /// In Lua's registry: what code reads as globals, while it is loaded and
    /// when it is called; and the metatable that says which.
    loading_globals: c_int,
    calling_globals: c_int,
    environment: c_int,
    loaded: HashMap<Vec<u8>, Loaded>,
    loads: u32,
}

struct Loaded {
    library: Arc<Library>,
    references: Vec<(Vec<u8>, c_int)>,
}

/// Loads between two collections of what old libraries have left.
const LOADS_PER_COLLECTION: u32 = 16;

impl FunctionVm {
    pub fn new() -> FunctionVm {
        let mut vm = Vm::for_functions();
        let state = vm.state();
        vm.host().memory.suspend();
        // SAFETY: the state is new; nothing here can fail but for memory,
        // which has no limit now.
        let (loading_globals, calling_globals, environment) = unsafe {
            ffi::lua_settop(state, 0);
            vm.push_globals();
            let calling = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);

            ffi::lua_createtable(state, 0, 1);
            api::open_loading(state);
            sandbox::refuse_unknown_names(state);
            sandbox::seal(state);
            set_raw(state, -2, c"redis");
            sandbox::refuse_unknown_names(state);
            let loading = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);

            // All code of libraries has this environment; what is behind it changes.
            ffi::lua_createtable(state, 0, 0);
            sandbox::seal(state);
            ffi::lua_getmetatable(state, -1);
            let environment = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            vm.set_environment();
            (loading, calling, environment)
        };
        vm.host().memory.resume();
        let mut new = FunctionVm {
            vm,
            loading_globals,
            calling_globals,
            environment,
            loaded: HashMap::new(),
            loads: 0,
        };
        new.show(calling_globals);
        new
    }

    pub fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    /// What code reads as globals from now on.
    fn show(&mut self, globals: c_int) {
        let state = self.vm.state();
        self.vm.host().memory.suspend();
        // SAFETY: both are tables in the registry.
        unsafe {
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.environment);
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, globals);
            set_raw(state, -2, c"__index");
            ffi::lua_settop(state, 0);
        }
        self.vm.host().memory.resume();
    }

    /// The compiled function, its library loaded here if it is not yet.
    pub fn function(&mut self, library: &Arc<Library>, name: &[u8]) -> Result<c_int, String> {
        let known = self.loaded.get(&library.name);
        if !known.is_some_and(|l| Arc::ptr_eq(&l.library, library)) {
            self.unload(&library.name);
            let registered = self.load(&library.code, library.header_length, None)?;
            let references = registered
                .into_iter()
                .map(|r| (r.function.name, r.reference))
                .collect();
            let library = library.clone();
            self.loaded.insert(
                library.name.clone(),
                Loaded {
                    library,
                    references,
                },
            );
        }
        let references = &self.loaded[&library.name].references;
        let found = references.iter().find(|(known, _)| known == name);
        found
            .map(|(_, reference)| *reference)
            .ok_or_else(|| "Function not found".into())
    }

    fn unload(&mut self, name: &[u8]) {
        if let Some(old) = self.loaded.remove(name) {
            old.references
                .iter()
                .for_each(|(_, reference)| self.vm.forget(*reference));
            self.count_load();
        }
    }

    /// Forgets libraries that are no longer in the registry.
    pub fn keep_only(&mut self, is_current: impl Fn(&Arc<Library>) -> bool) {
        let gone: Vec<Vec<u8>> = self
            .loaded
            .values()
            .filter(|l| !is_current(&l.library))
            .map(|l| l.library.name.clone())
            .collect();
        gone.iter().for_each(|name| self.unload(name));
    }

    /// Runs a library's code to see what it registers, and keeps nothing.
    pub fn inspect(&mut self, code: &[u8], header_length: usize) -> Result<Vec<Function>, String> {
        let registered = self.load(code, header_length, Some(LOAD_TIMEOUT))?;
        let functions = registered
            .into_iter()
            .map(|r| {
                self.vm.forget(r.reference);
                r.function
            })
            .collect();
        self.count_load();
        Ok(functions)
    }

    fn count_load(&mut self) {
        self.loads += 1;
        if self.loads.is_multiple_of(LOADS_PER_COLLECTION) {
            self.vm.collect();
        }
    }

    fn load(
        &mut self,
        code: &[u8],
        header_length: usize,
        timeout: Option<Duration>,
    ) -> Result<Vec<Registered>, String> {
        let compiled = self.vm.compile(&code[header_length..], c"@user_function");
        let main = compiled.map_err(|text| {
            let text = String::from_utf8_lossy(&text).into_owned();
            format!("Error compiling function: {text}")
        })?;
        let mut loading = Loading {
            functions: Vec::new(),
            started: Instant::now(),
            timeout,
        };
        self.show(self.loading_globals);
        let outcome = self.register(main, &mut loading);
        self.show(self.calling_globals);
        self.vm.forget(main);
        match outcome {
            Ok(()) => Ok(loading.functions),
            Err(text) => {
                for registered in &loading.functions {
                    self.vm.forget(registered.reference);
                }
                Err(format!("Error registering functions: {text}"))
            }
        }
    }

    fn register(&mut self, main: c_int, loading: &mut Loading) -> Result<(), String> {
        let state = self.vm.state();
        let host = self.vm.host();
        // SAFETY: the code is run protected, and the host knows `loading` only
        // as long.
        unsafe {
            host.abort.set(None);
            host.loading.set(&raw mut *loading);
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, main);
            ffi::lua_sethook(state, Some(look_at_clock), ffi::LUA_MASKCOUNT, INSTRUCTIONS);
            let status = ffi::lua_pcall(state, 0, 0, 0);
            ffi::lua_sethook(state, None, 0, 0);
            host.loading.set(std::ptr::null_mut());
            host.abort.set(None);
            let text = (status != 0).then(|| error_text(state));
            ffi::lua_settop(state, 0);
            text.map_or(Ok(()), Err)
        }
    }
}

/// The text of the error value on top.
unsafe fn error_text(state: State) -> String {
    unsafe {
        if ffi::lua_isstring(state, -1) != 0 {
            let text = bytes(state, -1).unwrap_or_default();
            return format!("ERR {}", String::from_utf8_lossy(text));
        }
        let is_table = ffi::lua_type(state, -1) == ffi::LUA_TTABLE;
        if is_table && get_raw(state, -1, c"err") == ffi::LUA_TSTRING {
            let text = bytes(state, -1).unwrap_or_default();
            return String::from_utf8_lossy(text).into_owned();
        }
        "ERR unknown error".into()
    }
}

/// redis.register_function(name, callback) and
/// redis.register_function{function_name=.., callback=.., flags=.., description=..}
pub(super) unsafe fn register_function(state: State) -> Result<c_int, Raise> {
    unsafe {
        let host = Host::of(state);
        let Some(loading) = host.loading.get().as_mut() else {
            return Err(Raise::reply(
                "redis.register_function can only be called on FUNCTION LOAD command",
            ));
        };
        if host.abort.get() == Some(Abort::LoadTimeout) {
            return Err(Raise::reply("FUNCTION LOAD timeout"));
        }
        let function = match arguments(state) {
            1 => named_arguments(state)?,
            2 => positional_arguments(state)?,
            _ => {
                let text = "wrong number of arguments to redis.register_function";
                return Err(Raise::reply(text));
            }
        };
        // The callback is on top.
        if !is_name(&function.name) {
            return Err(Raise::reply(BAD_NAME));
        }
        let exists = |r: &Registered| r.function.name == function.name;
        if loading.functions.iter().any(exists) {
            return Err(Raise::reply("Function already exists in the library"));
        }
        let reference = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
        loading.functions.push(Registered {
            function,
            reference,
        });
        Ok(0)
    }
}

unsafe fn positional_arguments(state: State) -> Result<Function, Raise> {
    unsafe {
        let Some(name) = bytes(state, 1) else {
            let text = "first argument to redis.register_function must be a string";
            return Err(Raise::reply(text));
        };
        if ffi::lua_type(state, 2) != ffi::LUA_TFUNCTION {
            let text = "second argument to redis.register_function must be a function";
            return Err(Raise::reply(text));
        }
        Ok(Function {
            name: name.to_vec(),
            description: None,
            flags: ScriptFlags::default(),
        })
    }
}

unsafe fn named_arguments(state: State) -> Result<Function, Raise> {
    unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            return Err(Raise::reply(
                "calling redis.register_function with a single argument is only applicable to Lua \
                 table (representing named arguments).",
            ));
        }
        let (mut name, mut description, mut callback) = (None, None, false);
        let mut flags = ScriptFlags::default();
        // Where the callback goes.
        ffi::lua_pushnil(state);
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, 1) != 0 {
            if ffi::lua_isstring(state, -2) == 0 {
                let text = "named argument key given to redis.register_function is not a string";
                return Err(Raise::reply(text));
            }
            let key = bytes(state, -2).unwrap_or_default().to_ascii_lowercase();
            match &key[..] {
                b"function_name" => {
                    let text =
                        "function_name argument given to redis.register_function must be a string";
                    name = Some(bytes(state, -1).ok_or(Raise::reply(text))?.to_vec());
                }
                b"description" => {
                    let text =
                        "description argument given to redis.register_function must be a string";
                    description = Some(bytes(state, -1).ok_or(Raise::reply(text))?.to_vec());
                }
                b"callback" => {
                    if ffi::lua_type(state, -1) != ffi::LUA_TFUNCTION {
                        return Err(Raise::reply(
                            "callback argument given to redis.register_function must be a function",
                        ));
                    }
                    callback = true;
                    ffi::lua_pushvalue(state, -1);
                    ffi::lua_replace(state, 2);
                }
                b"flags" => flags = read_flags(state)?,
                _ => {
                    let text = "unknown argument given to redis.register_function";
                    return Err(Raise::reply(text));
                }
            }
            ffi::lua_settop(state, -2);
        }
        let text = "redis.register_function must get a function name argument";
        let name = name.ok_or(Raise::reply(text))?;
        if !callback {
            let text = "redis.register_function must get a callback argument";
            return Err(Raise::reply(text));
        }
        Ok(Function {
            name,
            description,
            flags,
        })
    }
}

/// The flags that the table on top lists.
unsafe fn read_flags(state: State) -> Result<ScriptFlags, Raise> {
    unsafe {
        if ffi::lua_type(state, -1) != ffi::LUA_TTABLE {
            return Err(Raise::reply(
                "flags argument to redis.register_function must be a table representing function \
                 flags",
            ));
        }
        let mut flags = ScriptFlags::default();
        for at in 1.. {
            ffi::lua_rawgeti_(state, -1, at);
            let kind = ffi::lua_type(state, -1);
            let name = bytes(state, -1).unwrap_or_default().to_ascii_lowercase();
            ffi::lua_settop(state, -2);
            if kind == ffi::LUA_TNIL {
                break;
            }
            let known = ScriptFlags::NAMES
                .iter()
                .find(|(_, known)| known.as_bytes() == name);
            match known {
                Some((flag, _)) => flags = flags.with(*flag),
                None => return Err(Raise::reply("unknown flag given")),
            }
        }
        Ok(flags)
    }
}

/// What libraries and functions may be called.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Reads and runs a library's code, as FUNCTION LOAD does.
///
/// # Errors
/// The text of what is wrong with it.
pub(super) fn read(vm: &mut FunctionVm, code: &[u8]) -> Result<Library, String> {
    let header = check_header(code)?;
    let functions = vm.inspect(code, header.length)?;
    if functions.is_empty() {
        return Err("No functions registered".into());
    }
    Ok(Library {
        name: header.name,
        code: code.to_vec(),
        header_length: header.length,
        functions,
    })
}

/// The first line of a library's code, and whether it can be what it says.
pub(super) fn check_header(code: &[u8]) -> Result<shebang::LibraryHeader, String> {
    let header = shebang::of_library(code)?;
    if !is_name(&header.name) {
        return Err(BAD_NAME.into());
    }
    if !header.engine.eq_ignore_ascii_case(b"lua") {
        let engine = String::from_utf8_lossy(&header.engine).into_owned();
        return Err(format!("Engine '{engine}' not found"));
    }
    Ok(header)
}
