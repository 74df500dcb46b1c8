//! Lua: scripts of EVAL, functions of FCALL.
//!
//! A script is one command: it runs in the group's writer, on the one `Txn`,
//! and its commands run inside it (`run`). What it changes stays, also if it
//! fails halfway, as in Redis; only what must be run again (cold data) is
//! undone as a whole.
//!
//! The process knows all scripts and libraries (`registry`). Each thread that
//! runs them has Lua states of its own, which compile what they are first
//! asked for (`vm`, `library`). A script that runs long is known to all
//! (`running`). Scripts run on a thread of their group that is no network
//! thread (`group::scripts`), so that a long one keeps no connection waiting
//! but for its answer BUSY.

mod api;
pub(crate) mod debugger;
pub(crate) mod dump;
mod host;
mod libraries;
mod library;
mod lua;
pub(crate) mod registry;
mod reply;
mod run;
pub mod running;
mod sandbox;
pub(crate) mod sha1;
mod shebang;
mod vm;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use cairn_protocol::command::{
    CommandId, CommandSpec, Flags, has_renamed, id, lookup, lookup_called,
};
use cairn_protocol::resp::{Args, ReplyWriter};
use parking_lot::RwLock;

use self::library::FunctionVm;
use self::registry::{Asker, KnownScript, Libraries, Library, Policy, REGISTRY};
pub(crate) use self::run::ScriptFlags;
use self::run::{Run, Script};
use self::sha1::Hex;
use self::vm::Vm;
use crate::net::session::Session;
use crate::replication::follow::MASTER_DOWN;
use crate::server::{Home, Server};
use crate::txn::{CommandError, Txn};

/// Takes over `busy-reply-threshold` in ms, and whether functions are synced
/// before their change is answered.
pub fn follow(busy_ms: i64, sync: bool) {
    running::set_threshold_ms(busy_ms);
    REGISTRY.sync.store(sync, Ordering::Relaxed);
}

/// The server that scripts run for; none in tests.
static SERVER: RwLock<Weak<Server>> = RwLock::new(Weak::new());

/// Scripts that a state keeps compiled; with more it is made anew.
const MAX_COMPILED: usize = 10_000;

thread_local! {
    static SCRIPTS: RefCell<Option<ScriptVm>> = const { RefCell::new(None) };
    static FUNCTIONS: RefCell<Option<(FunctionVm, u64)>> = const { RefCell::new(None) };
}

/// A Lua state with the scripts that were run in it.
struct ScriptVm {
    vm: Vm,
    /// [`registry::Registry::script_epoch`] when it was made.
    epoch: u64,
    compiled: HashMap<Hex, c_int>,
}

/// Scripts may call commands on this server from now on.
pub fn attach(server: &Arc<Server>) {
    *SERVER.write() = Arc::downgrade(server);
}

/// Reads the functions of a data directory and keeps them there.
///
/// # Errors
/// Their file cannot be read.
pub fn open(folder: &Path) -> anyhow::Result<()> {
    REGISTRY.open(folder, read_dump)
}

/// A connection without a client, for what a script calls.
fn session() -> Option<Session> {
    let server = SERVER.read().upgrade()?;
    Some(Session::without_client(&server))
}

/// The line that refuses what would grow memory, if that is used up.
fn full() -> Option<&'static [u8]> {
    let server = SERVER.read().upgrade()?;
    let set = lookup(b"set").expect("the table has SET");
    crate::dispatch::refused_for_space(set, false, &server)
}

/// What a replica forbids the scripts of its clients; those of its master do all.
fn replica_forbids(txn: &Txn<'_>) -> (bool, bool) {
    if txn.is_of_master() {
        return (false, false);
    }
    let server = SERVER.read().upgrade();
    server.map_or((false, false), |server| {
        (server.following.is_read_only(), server.following.is_stale())
    })
}

/// Whether the group of a script is one of several on this node.
fn is_among_groups() -> bool {
    let server = SERVER.read().upgrade();
    server.is_some_and(|server| match &server.home {
        Home::Standalone(_) => false,
        Home::Node(node) => node.has_several_groups(),
    })
}

/// Whether `min-replicas-to-write` forbids writes now.
fn too_few_replicas() -> bool {
    let server = SERVER.read().upgrade();
    server.is_some_and(|server| server.announcer.feed.forbids_writes())
}

/// Runs `work` with this thread's state for scripts.
fn with_scripts<T>(work: impl FnOnce(&mut ScriptVm) -> T) -> Result<T, CommandError> {
    SCRIPTS.with(|cell| {
        let Ok(mut current) = cell.try_borrow_mut() else {
            return Err(CommandError::fixed(NESTED));
        };
        let epoch = REGISTRY.script_epoch();
        let is_stale = |vm: &ScriptVm| vm.epoch != epoch || vm.compiled.len() > MAX_COMPILED;
        if current.as_ref().is_none_or(is_stale) {
            *current = None;
            *current = Some(ScriptVm {
                vm: Vm::for_scripts(),
                epoch,
                compiled: HashMap::new(),
            });
        }
        let vm = current.as_mut().expect("it was just made");
        let result = work(vm);
        let memory = vm.vm.memory();
        REGISTRY.script_memory.store(memory, Ordering::Relaxed);
        Ok(result)
    })
}

/// Runs `work` with this thread's state for functions.
fn with_functions<T>(work: impl FnOnce(&mut FunctionVm) -> T) -> Result<T, CommandError> {
    FUNCTIONS.with(|cell| {
        let Ok(mut current) = cell.try_borrow_mut() else {
            return Err(CommandError::fixed(NESTED));
        };
        let epoch = REGISTRY.library_epoch();
        let (vm, seen) = current.get_or_insert_with(|| (FunctionVm::new(), epoch));
        if *seen != epoch {
            let libraries = REGISTRY.libraries();
            vm.keep_only(|l| {
                libraries
                    .library(&l.name)
                    .is_some_and(|c| Arc::ptr_eq(c, l))
            });
            *seen = epoch;
        }
        let result = work(vm);
        let memory = vm.vm().memory();
        REGISTRY.function_memory.store(memory, Ordering::Relaxed);
        Ok(result)
    })
}

const NESTED: &str = "ERR a script cannot run within a script";

impl ScriptVm {
    fn compile(&mut self, sha1: &Hex, script: &KnownScript) -> Result<c_int, CommandError> {
        if let Some(known) = self.compiled.get(sha1) {
            return Ok(*known);
        }
        let code = &script.body[script.header_length..];
        let compiled = self.vm.compile(code, c"@user_script");
        let compiled = compiled.map_err(not_compiled)?;
        self.compiled.insert(*sha1, compiled);
        Ok(compiled)
    }
}

/// SCRIPT LOAD: reads and compiles a script and remembers it.
///
/// # Errors
/// The line that says what is wrong with it.
pub(crate) fn load_script(body: &[u8]) -> Result<Hex, CommandError> {
    let sha1 = sha1::hex(body);
    if let Some(known) = REGISTRY.script(&sha1) {
        REGISTRY.remember(sha1, known, true);
        return Ok(sha1);
    }
    let script = read_script(body)?;
    with_scripts(|vm| vm.compile(&sha1, &script))??;
    REGISTRY.remember(sha1, script, true);
    Ok(sha1)
}

fn read_script(body: &[u8]) -> Result<Arc<KnownScript>, CommandError> {
    let header = shebang::of_script(body);
    let (flags, header_length) =
        header.map_err(|text| CommandError::line(format!("ERR {text}")))?;
    Ok(Arc::new(KnownScript {
        body: body.to_vec(),
        flags,
        header_length,
    }))
}

/// Whether SCRIPT EXISTS knows a script.
pub(crate) fn knows_script(sha1: &[u8]) -> bool {
    sha1::from_client(sha1).is_some_and(|sha1| REGISTRY.script(&sha1).is_some())
}

/// SCRIPT FLUSH
pub(crate) fn forget_scripts() {
    REGISTRY.forget_scripts();
}

/// What a command that runs a script fixes.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub args: Args<'a>,
    pub keys: usize,
    pub read_only: bool,
}

/// Runs a script that is known, or whose text is given. True: its reply is no error.
///
/// # Errors
/// It is not known, cannot be read, may not run, or must be undone.
pub(crate) fn run_script(
    txn: &mut Txn<'_>,
    sha1: &Hex,
    body: Option<&[u8]>,
    call: Call<'_>,
    out: &mut ReplyWriter,
) -> Result<bool, CommandError> {
    let known = REGISTRY.script(sha1);
    let script = match (known.clone(), body) {
        (Some(script), _) => script,
        (None, Some(body)) => read_script(body)?,
        (None, None) => {
            return Err(CommandError::fixed(
                "NOSCRIPT No matching script. Please use EVAL.",
            ));
        }
    };
    if let Some(debugger) = debugger::here() {
        return debug_script(txn, (sha1, &script), &debugger.lock(), call, out);
    }
    with_scripts(|vm| {
        let function = vm.compile(sha1, &script)?;
        if known.is_none() {
            REGISTRY.remember(*sha1, script.clone(), false);
        }
        let run = Script {
            name: sha1,
            eval: true,
            flags: script.flags,
            read_only: call.read_only,
            args: call.args,
            keys: call.keys,
        };
        let full = may_run(&run, txn)?;
        let started = Run::new(&run, txn, full);
        vm.vm.run(function, &run, started, out)
    })?
}

/// The same with a debugger, in a state of its own.
fn debug_script(
    txn: &mut Txn<'_>,
    (sha1, script): (&Hex, &Arc<KnownScript>),
    debugger: &debugger::Debugger,
    call: Call<'_>,
    out: &mut ReplyWriter,
) -> Result<bool, CommandError> {
    let mut vm = Vm::for_scripts();
    let code = &script.body[script.header_length..];
    let function = vm.compile(code, c"@user_script").map_err(not_compiled)?;
    if !debugger.is_scratch {
        REGISTRY.remember(*sha1, script.clone(), false);
    }
    let run = Script {
        name: sha1,
        eval: true,
        flags: script.flags,
        read_only: call.read_only,
        args: call.args,
        keys: call.keys,
    };
    let full = may_run(&run, txn)?;
    debugger.show_source(&script.body);
    let started = Run::new(&run, txn, full).debugged_by(debugger);
    vm.run(function, &run, started, out)
}

fn not_compiled(text: Vec<u8>) -> CommandError {
    let text = String::from_utf8_lossy(&text).into_owned();
    CommandError::line(format!("ERR Error compiling script (new function): {text}"))
}

/// Runs a function. True: its reply is no error.
///
/// # Errors
/// It may not run, or must be undone.
pub(crate) fn run_function(
    txn: &mut Txn<'_>,
    (library, function): (&Arc<Library>, &registry::Function),
    call: Call<'_>,
    out: &mut ReplyWriter,
) -> Result<bool, CommandError> {
    with_functions(|vm| {
        let run = Script {
            name: &function.name,
            eval: false,
            flags: function.flags,
            read_only: call.read_only,
            args: call.args,
            keys: call.keys,
        };
        let full = may_run(&run, txn)?;
        let compiled = vm.function(library, &function.name);
        let compiled = compiled.map_err(|text| CommandError::line(format!("ERR {text}")))?;
        let started = Run::new(&run, txn, full);
        vm.vm().run(compiled, &run, started, out)
    })?
}

const STALE: &str = "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and \
                     'allow-stale' flag is not set on the script.";

/// Checks what a script declares; gives the line that refuses what would grow
/// memory.
fn may_run(script: &Script<'_>, txn: &Txn<'_>) -> Result<Option<&'static [u8]>, CommandError> {
    let full = full();
    let flags = script.flags;
    let (read_only, stale) = replica_forbids(txn);
    if stale && !flags.has(ScriptFlags::ALLOW_STALE) {
        return Err(CommandError::fixed(
            match flags.has(ScriptFlags::UNDECLARED) {
                true => MASTER_DOWN,
                false => STALE,
            },
        ));
    }
    if flags.has(ScriptFlags::UNDECLARED) {
        return Ok(full);
    }
    if flags.has(ScriptFlags::NO_CLUSTER) && txn.context().cluster {
        return Err(CommandError::fixed(
            "ERR Can not run script on cluster, 'no-cluster' flag is set.",
        ));
    }
    let writes = !flags.has(ScriptFlags::NO_WRITES);
    if writes && read_only {
        return Err(CommandError::fixed(
            "READONLY You can not run script with write flag on readonly replica.",
        ));
    }
    if writes && script.read_only {
        return Err(CommandError::fixed(
            "ERR Can not execute a script with write flag using *_ro command.",
        ));
    }
    if writes && too_few_replicas() {
        return Err(CommandError::fixed(crate::dispatch::NO_REPLICAS));
    }
    match full {
        Some(line) if writes && !flags.has(ScriptFlags::ALLOW_OOM) => Err(CommandError::line(
            String::from_utf8_lossy(line).into_owned(),
        )),
        _ => Ok(full),
    }
}

/// All libraries as they are now.
pub(crate) fn libraries() -> Arc<Libraries> {
    REGISTRY.libraries()
}

/// FUNCTION LOAD: the name of the library. May wait for the disk.
pub(crate) fn load_library(code: &[u8], replace: bool, asker: Asker) -> Result<Vec<u8>, String> {
    let header = library::check_header(code)?;
    REGISTRY.change(|libraries| {
        let mut libraries = libraries.clone();
        if libraries.library(&header.name).is_some() && !replace {
            let elsewhere = REGISTRY.elsewhere(asker);
            if elsewhere.is_some_and(|keeper| keeper.has_from_elsewhere(&header.name, code)) {
                return Ok((libraries, header.name.clone()));
            }
            let name = String::from_utf8_lossy(&header.name).into_owned();
            return Err(format!("Library '{name}' already exists"));
        }
        libraries.remove(&header.name);
        let library = read_library(code)?;
        libraries.add(Arc::new(library))?;
        Ok((libraries, header.name.clone()))
    })
}

fn read_library(code: &[u8]) -> Result<Library, String> {
    let read = with_functions(|vm| library::read(vm, code));
    read.map_err(|error| error.to_string())?
}

/// FUNCTION DELETE. May wait for the disk.
pub(crate) fn delete_library(name: &[u8], asker: Asker) -> Result<(), String> {
    REGISTRY.change(|libraries| {
        let mut libraries = libraries.clone();
        let elsewhere = || REGISTRY.elsewhere(asker);
        let is_gone = || elsewhere().is_some_and(|keeper| keeper.lost_elsewhere(name));
        match libraries.remove(name).is_some() || is_gone() {
            true => Ok((libraries, ())),
            false => Err("Library not found".into()),
        }
    })
}

/// FUNCTION FLUSH. May wait for the disk.
pub(crate) fn forget_libraries() -> Result<(), String> {
    REGISTRY.change(|_| Ok((Libraries::default(), ())))
}

/// FUNCTION RESTORE. May wait for the disk.
pub(crate) fn restore_libraries(
    payload: &[u8],
    policy: Policy,
    asker: Asker,
) -> Result<(), String> {
    let libraries = read_dump(payload)?;
    REGISTRY.change(|current| {
        if policy == Policy::Append && are_from_elsewhere(&libraries, current, asker) {
            return Ok((current.clone(), ()));
        }
        Ok((current.joined(libraries.clone(), policy)?, ()))
    })
}

/// Whether all of these are here, as another node was asked to restore them.
fn are_from_elsewhere(libraries: &[Arc<Library>], current: &Libraries, asker: Asker) -> bool {
    let Some(keeper) = REGISTRY.elsewhere(asker).filter(|_| !libraries.is_empty()) else {
        return false;
    };
    libraries.iter().all(|library| {
        let known = current.library(&library.name);
        known.is_some_and(|known| known.code == library.code)
            && keeper.has_from_elsewhere(&library.name, &library.code)
    })
}

/// From now on the libraries are those that `keeper` brings ([`install`]).
pub(crate) fn kept_by(keeper: Arc<dyn registry::Keeper>) {
    REGISTRY.kept_by(keeper);
}

/// The libraries as the cluster has them now, by name. What cannot be read is
/// left out, and said. May run code of theirs.
pub(crate) fn install(codes: impl Iterator<Item = (String, Vec<u8>)>) {
    let before = REGISTRY.libraries();
    let mut after = Libraries::default();
    for (name, code) in codes {
        let known = before.library(name.as_bytes()).filter(|l| l.code == code);
        let library = match known {
            Some(library) => Ok(library.clone()),
            None => read_library(&code).map(Arc::new),
        };
        if let Err(error) = library.and_then(|library| after.add(library)) {
            tracing::error!(name, error, "a library of functions cannot be read");
        }
    }
    REGISTRY.install(Arc::new(after));
}

/// Whether these are the very libraries that are in use now.
pub(crate) fn is_in_use(libraries: &Libraries) -> bool {
    std::ptr::eq(libraries, &*REGISTRY.libraries())
}

fn read_dump(payload: &[u8]) -> Result<Vec<Arc<Library>>, String> {
    let codes = dump::decode(payload)?;
    codes
        .iter()
        .map(|code| read_library(code).map(Arc::new))
        .collect()
}

/// What INFO and MEMORY STATS tell of scripts and functions.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Bytes of the Lua states that ran last.
    pub script_vm: usize,
    pub function_vm: usize,
    /// Scripts, and bytes of their text.
    pub scripts: usize,
    pub script_bytes: usize,
    pub functions: usize,
    pub libraries: usize,
    /// Bytes of the libraries' code.
    pub library_bytes: usize,
}

/// Bytes that Lua states hold.
pub fn memory() -> usize {
    let states = [&REGISTRY.script_memory, &REGISTRY.function_memory];
    states.iter().map(|n| n.load(Ordering::Relaxed)).sum()
}

/// See [`Usage`].
pub fn usage() -> Usage {
    let (scripts, script_bytes) = REGISTRY.script_usage();
    let libraries = REGISTRY.libraries();
    Usage {
        script_vm: REGISTRY.script_memory.load(Ordering::Relaxed),
        function_vm: REGISTRY.function_memory.load(Ordering::Relaxed),
        scripts,
        script_bytes,
        functions: libraries.functions(),
        libraries: libraries.iter().len(),
        library_bytes: libraries.iter().map(|l| l.code.len()).sum(),
    }
}

const RUN_SCRIPTS: [CommandId; 6] = [
    id::EVAL,
    id::EVAL_RO,
    id::EVALSHA,
    id::EVALSHA_RO,
    id::FCALL,
    id::FCALL_RO,
];

/// Whether a command runs scripts, and so belongs on a thread that may be kept
/// long. An EXEC does if any word of it is the name of a command that does.
pub fn runs_scripts<'a>(spec: &CommandSpec, args: impl FnOnce() -> Args<'a>) -> bool {
    if spec.id != id::EXEC {
        return RUN_SCRIPTS.contains(&spec.id);
    }
    let is_name = |word: &[u8]| {
        (has_renamed() || matches!(word.first(), Some(b'e' | b'E' | b'f' | b'F')))
            && lookup_called(word).is_some_and(|spec| RUN_SCRIPTS.contains(&spec.id))
    };
    args().iter().skip(1).any(is_name)
}

/// What a script or function that a command runs says of itself; `None`: nothing, or
/// the command runs none.
pub(crate) fn declared_flags(spec: &CommandSpec, args: &Args<'_>) -> Option<ScriptFlags> {
    let what = args.try_get(1)?;
    let flags = match spec.id {
        id::EVAL | id::EVAL_RO => shebang::of_script(what).ok().map(|(flags, _)| flags),
        id::EVALSHA | id::EVALSHA_RO => sha1::from_client(what)
            .and_then(|sha1| REGISTRY.script(&sha1))
            .map(|script| script.flags),
        id::FCALL | id::FCALL_RO => REGISTRY
            .libraries()
            .function(what)
            .map(|(_, function)| function.flags),
        _ => None,
    };
    flags.filter(|flags| !flags.has(ScriptFlags::UNDECLARED))
}

/// Whether what a command runs says of itself that it writes nothing.
pub(crate) fn declares_reads_only(spec: &CommandSpec, args: &Args<'_>) -> bool {
    declared_flags(spec, args).is_some_and(|flags| flags.has(ScriptFlags::NO_WRITES))
}

/// The line that refuses `spec` while a script is busy.
pub fn refused_when_busy(spec: &CommandSpec) -> Option<&'static str> {
    if spec.flags.contains(Flags::ALLOW_BUSY) {
        return None;
    }
    running::busy_line()
}
