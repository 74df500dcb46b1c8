//! The scripts and libraries that this process knows.
//!
//! Scripts are a cache, gone with the process, as in Redis. Libraries are
//! data: before a change is answered, the kernel has it in the file
//! `functions.new` of the data directory (see `dump` for its form); within a
//! second, or with `appendfsync always` at once, that is synced and becomes
//! the file `functions`. A start reads the newer one that is whole. In a
//! cluster every node has its own, as every master of a Redis cluster has.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::dump;
use super::run::ScriptFlags;
use super::sha1::Hex;

/// Scripts that came with EVAL are forgotten beyond this many, oldest first;
/// those of SCRIPT LOAD are not.
const MAX_UNLOADED: usize = 10_000;

/// A script of EVAL or SCRIPT LOAD.
pub(super) struct KnownScript {
    pub body: Vec<u8>,
    pub flags: ScriptFlags,
    /// Length of its first line, if that is a shebang.
    pub header_length: usize,
}

#[derive(Default)]
struct Scripts {
    known: HashMap<Hex, Arc<KnownScript>>,
    /// Those that only EVAL brought, oldest first.
    unloaded: VecDeque<Hex>,
    bytes: usize,
}

/// One function of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    pub flags: ScriptFlags,
}

/// One library.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Library {
    pub name: Vec<u8>,
    /// As it was given, shebang and all.
    pub code: Vec<u8>,
    /// Length of its first line.
    pub header_length: usize,
    pub functions: Vec<Function>,
}

/// All libraries, by name, and whose each function is, by its name in small letters.
#[derive(Clone, Default)]
pub(crate) struct Libraries {
    by_name: BTreeMap<Vec<u8>, Arc<Library>>,
    functions: HashMap<Vec<u8>, (Arc<Library>, usize)>,
}

/// What to do with libraries that are there already (FUNCTION RESTORE).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Flush,
    Append,
    Replace,
}

impl Libraries {
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Library>> {
        self.by_name.values()
    }

    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    pub fn library(&self, name: &[u8]) -> Option<&Arc<Library>> {
        self.by_name.get(name)
    }

    /// A function and its library, whatever the case of the letters.
    pub fn function(&self, name: &[u8]) -> Option<(&Arc<Library>, &Function)> {
        let (library, at) = self.functions.get(&name.to_ascii_lowercase())?;
        Some((library, &library.functions[*at]))
    }

    /// Adds a library.
    ///
    /// # Errors
    /// A function of it is there already; nothing has changed then.
    pub fn add(&mut self, library: Arc<Library>) -> Result<(), String> {
        for function in &library.functions {
            if self.function(&function.name).is_some() {
                let name = String::from_utf8_lossy(&function.name).into_owned();
                return Err(format!("Function {name} already exists"));
            }
        }
        for (at, function) in library.functions.iter().enumerate() {
            let name = function.name.to_ascii_lowercase();
            self.functions.insert(name, (library.clone(), at));
        }
        self.by_name.insert(library.name.clone(), library);
        Ok(())
    }

    /// Takes a library away; `None`: there was none.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Library>> {
        let library = self.by_name.remove(name)?;
        for function in &library.functions {
            self.functions.remove(&function.name.to_ascii_lowercase());
        }
        Some(library)
    }

    /// These libraries with others added by a policy.
    pub fn joined(&self, others: Vec<Arc<Library>>, policy: Policy) -> Result<Libraries, String> {
        let mut joined = match policy {
            Policy::Flush => Libraries::default(),
            _ => self.clone(),
        };
        for library in &others {
            let known = joined.library(&library.name).is_some();
            if known && policy == Policy::Append {
                let name = String::from_utf8_lossy(&library.name).into_owned();
                return Err(format!("Library {name} already exists"));
            }
            joined.remove(&library.name);
        }
        for library in others {
            joined.add(library)?;
        }
        Ok(joined)
    }
}

/// Who wants the libraries changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client that may ask every node of a cluster for the same, as Redis Cluster
    /// needs it: what another node has done for it already is no error.
    EachNode,
    /// A client behind a proxy, which asks one node, or this server itself.
    Once,
}

/// Where the libraries of a cluster are.
pub(crate) trait Keeper: Send + Sync {
    /// Makes `after` of what was `before`, for all nodes, and returns once they
    /// have it: true. False: others have changed the libraries since, and this
    /// node knows now. May wait for the network.
    ///
    /// # Errors
    /// Why that is not possible.
    fn keep(&self, before: &Libraries, after: &Libraries) -> Result<bool, String>;

    /// Whether another node was asked to load this very library.
    fn has_from_elsewhere(&self, name: &[u8], code: &[u8]) -> bool;

    /// Whether a library that was here went because another node was asked to delete
    /// it, a moment ago. Says so once.
    fn lost_elsewhere(&self, name: &[u8]) -> bool;
}

/// Changes that others overtook are made anew so often.
const KEEP_TRIES: usize = 10;
const BUSY: &str = "the functions are changed by others all the time; try again";

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Registry {
    /// Guards the cache of scripts; held for look-ups and inserts.
    scripts: RwLock<Scripts>,
    /// Rises when scripts are forgotten: compiled ones go too.
    script_epoch: AtomicU64,
    /// Guards a pointer; changes are made by whoever holds `change`.
    libraries: RwLock<Arc<Libraries>>,
    /// Rises with every change of the libraries.
    library_epoch: AtomicU64,
    /// One change of libraries at a time, the file included; its folder.
    change: Mutex<Option<PathBuf>>,
    /// In a cluster. Set once, at the start.
    keeper: OnceLock<Arc<dyn Keeper>>,
    /// Whether changes are synced before they are answered.
    pub sync: AtomicBool,
    files: Arc<Files>,
    /// Bytes of the Lua states that ran last.
    pub script_memory: AtomicUsize,
    pub function_memory: AtomicUsize,
}

pub(super) static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

impl Registry {
    pub fn script(&self, sha1: &Hex) -> Option<Arc<KnownScript>> {
        self.scripts.read().known.get(sha1).cloned()
    }

    /// Remembers a script; `loaded`: until SCRIPT FLUSH.
    pub fn remember(&self, sha1: Hex, script: Arc<KnownScript>, loaded: bool) {
        let mut scripts = self.scripts.write();
        let scripts = &mut *scripts;
        let size = script.body.len();
        let is_new = scripts.known.insert(sha1, script).is_none();
        if is_new {
            scripts.bytes += size;
        }
        if loaded {
            scripts.unloaded.retain(|other| *other != sha1);
        } else if is_new {
            scripts.unloaded.push_back(sha1);
        }
        while scripts.unloaded.len() > MAX_UNLOADED {
            let oldest = scripts.unloaded.pop_front().expect("there are many");
            if let Some(old) = scripts.known.remove(&oldest) {
                scripts.bytes -= old.body.len();
            }
        }
    }

    /// SCRIPT FLUSH
    pub fn forget_scripts(&self) {
        let old = std::mem::take(&mut *self.scripts.write());
        self.script_epoch.fetch_add(1, Ordering::AcqRel);
        self.script_memory.store(0, Ordering::Relaxed);
        drop(old);
    }

    pub fn script_epoch(&self) -> u64 {
        self.script_epoch.load(Ordering::Acquire)
    }

    /// Number of scripts and bytes of their text.
    pub fn script_usage(&self) -> (usize, usize) {
        let scripts = self.scripts.read();
        (scripts.known.len(), scripts.bytes)
    }

    pub fn libraries(&self) -> Arc<Libraries> {
        self.libraries.read().clone()
    }

    pub fn library_epoch(&self) -> u64 {
        self.library_epoch.load(Ordering::Acquire)
    }

    /// Changes the libraries: `make` gets what is there and gives what is to
    /// be, which is in the file before it is seen. May wait for the disk.
    ///
    /// # Errors
    /// Those of `make`, and that the file could not be written.
    pub fn change<T>(
        &self,
        make: impl Fn(&Libraries) -> Result<(Libraries, T), String>,
    ) -> Result<T, String> {
        if let Some(keeper) = self.keeper.get() {
            return self.change_for_all(&**keeper, make);
        }
        let folder = self.change.lock();
        let before = self.libraries();
        let (after, result) = make(&before)?;
        let changed = !before.by_name.is_empty() || !after.by_name.is_empty();
        if let Some(folder) = folder.as_ref().filter(|_| changed) {
            self.save(folder, &dump::encode(&after)).map_err(|error| {
                tracing::error!(%error, "the file of functions could not be written");
                format!("the functions could not be saved: {error}")
            })?;
        }
        *self.libraries.write() = Arc::new(after);
        self.library_epoch.fetch_add(1, Ordering::AcqRel);
        Ok(result)
    }

    /// The same where a keeper has them.
    fn change_for_all<T>(
        &self,
        keeper: &dyn Keeper,
        make: impl Fn(&Libraries) -> Result<(Libraries, T), String>,
    ) -> Result<T, String> {
        for _ in 0..KEEP_TRIES {
            let before = self.libraries();
            let (after, result) = make(&before)?;
            if keeper.keep(&before, &after)? {
                return Ok(result);
            }
        }
        Err(BUSY.into())
    }

    /// From now on the libraries are those that `keeper` brings.
    pub fn kept_by(&self, keeper: Arc<dyn Keeper>) {
        let _ = self.keeper.set(keeper);
    }

    /// Who knows what other nodes were asked for, if that matters to this one.
    pub fn elsewhere(&self, asker: Asker) -> Option<&Arc<dyn Keeper>> {
        self.keeper.get().filter(|_| asker == Asker::EachNode)
    }

    /// The libraries as the keeper has them now.
    pub fn install(&self, libraries: Arc<Libraries>) {
        *self.libraries.write() = libraries;
        self.library_epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn save(&self, folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
        self.files.write(folder, bytes)?;
        if self.sync.load(Ordering::Relaxed) {
            return self.files.settle(folder);
        }
        if !self.files.unsettled.swap(true, Ordering::AcqRel) {
            let (files, folder) = (self.files.clone(), folder.to_owned());
            std::thread::Builder::new()
                .name("functions".into())
                .spawn(move || files.settle_later(&folder))?;
        }
        Ok(())
    }

    /// Reads the libraries of a data directory, where changes go from now on.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn open(
        &self,
        folder: &Path,
        read: impl Fn(&[u8]) -> Result<Vec<Arc<Library>>, String>,
    ) -> anyhow::Result<()> {
        let mut place = self.change.lock();
        let load = |name: &str| -> anyhow::Result<Option<Libraries>> {
            let path = folder.join(name);
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => anyhow::bail!("{}: {error}", path.display()),
            };
            let libraries = read(&bytes)
                .and_then(|libraries| Libraries::default().joined(libraries, Policy::Flush))
                .map_err(|text| anyhow::anyhow!("{}: {text}", path.display()))?;
            Ok(Some(libraries))
        };
        // Not synced yet when the power went: the older file is whole.
        let newest = load(NEW).unwrap_or_else(|error| {
            tracing::warn!(%error, "the last change of functions was cut off and is left out");
            None
        });
        let libraries = match newest {
            Some(libraries) => libraries,
            None => load(SETTLED)?.unwrap_or_default(),
        };
        *self.libraries.write() = Arc::new(libraries);
        self.library_epoch.fetch_add(1, Ordering::AcqRel);
        *place = Some(folder.to_owned());
        Ok(())
    }
}

const SETTLED: &str = "functions";
const NEW: &str = "functions.new";
/// How long a change may lie unsynced.
const UNSETTLED: Duration = Duration::from_secs(1);

/// Access to the files; see the module's documentation.
#[derive(Default)]
struct Files {
    /// Held while files are written, synced or renamed.
    busy: Mutex<()>,
    /// A thread will sync what was written.
    unsettled: AtomicBool,
}

impl Files {
    /// Gives the kernel what is to be in the file.
    fn write(&self, folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let _busy = self.busy.lock();
        let part = folder.join("functions.part");
        File::create(&part)?.write_all(bytes)?;
        std::fs::rename(&part, folder.join(NEW))
    }

    /// Makes what was written last the file that outlives a power cut.
    fn settle(&self, folder: &Path) -> std::io::Result<()> {
        let _busy = self.busy.lock();
        let new = folder.join(NEW);
        match File::open(&new) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        std::fs::rename(&new, folder.join(SETTLED))?;
        File::open(folder)?.sync_all()
    }

    fn settle_later(&self, folder: &Path) {
        std::thread::sleep(UNSETTLED);
        self.unsettled.store(false, Ordering::Release);
        if let Err(error) = self.settle(folder) {
            tracing::error!(%error, "the file of functions could not be synced");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Arc<Library> {
        let functions = functions.iter().map(|name| Function {
            name: name.as_bytes().to_vec(),
            description: None,
            flags: ScriptFlags::default(),
        });
        Arc::new(Library {
            name: name.as_bytes().to_vec(),
            code: Vec::new(),
            header_length: 0,
            functions: functions.collect(),
        })
    }

    #[test]
    fn functions_are_found_whatever_the_case_and_exist_once() {
        let mut all = Libraries::default();
        all.add(library("a", &["One", "two"])).unwrap();
        assert_eq!(all.function(b"oNE").unwrap().1.name, b"One");
        let clash = all.add(library("b", &["three", "TWO"]));
        assert_eq!(clash, Err("Function TWO already exists".into()));
        assert!(all.function(b"three").is_none());
        all.remove(b"a");
        assert_eq!((all.functions(), all.iter().len()), (0, 0));
    }

    #[test]
    fn what_is_restored_joins_by_its_policy() {
        let mut all = Libraries::default();
        all.add(library("a", &["one"])).unwrap();
        let new = || vec![library("a", &["two"]), library("b", &["three"])];
        let refused = all.joined(new(), Policy::Append).err();
        assert_eq!(refused.as_deref(), Some("Library a already exists"));
        let joined = all.joined(new(), Policy::Replace).unwrap();
        assert_eq!((joined.functions(), joined.iter().len()), (2, 2));
        let clash = all.joined(vec![library("c", &["one"])], Policy::Replace);
        assert!(clash.is_err());
        let flushed = all
            .joined(vec![library("c", &["one"])], Policy::Flush)
            .unwrap();
        assert_eq!(flushed.iter().len(), 1);
    }

    #[test]
    fn libraries_are_in_their_file_before_they_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        registry.open(folder.path(), |_| unreachable!()).unwrap();
        let added = registry.change(|all| {
            let mut all = all.clone();
            all.add(library("a", &["one"]))?;
            Ok((all, ()))
        });
        added.unwrap();
        let file = std::fs::read(folder.path().join(NEW)).unwrap();
        assert_eq!(file, dump::encode(&registry.libraries()));
        registry.files.settle(folder.path()).unwrap();
        assert!(!folder.path().join(NEW).exists());
        std::fs::write(folder.path().join(NEW), b"cut off").unwrap();

        let other = Registry::default();
        let read = |bytes: &[u8]| {
            assert_eq!(dump::decode(bytes)?, [Vec::<u8>::new()]);
            Ok(vec![library("a", &["one"])])
        };
        other.open(folder.path(), read).unwrap();
        assert_eq!(other.libraries().functions(), 1);
    }
}
