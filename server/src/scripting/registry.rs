//! The scripts and libraries that this process knows.
//!
//! Scripts are a cache, gone with the process, as in Redis. Libraries are
//! data: every change is in the file `functions` of the data directory before
//! it is answered (see `dump` for its form), and a start reads it. In a
//! cluster every node has its own, as every master of a Redis cluster has.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

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
        make: impl FnOnce(&Libraries) -> Result<(Libraries, T), String>,
    ) -> Result<T, String> {
        let folder = self.change.lock();
        let before = self.libraries();
        let (after, result) = make(&before)?;
        let changed = !before.by_name.is_empty() || !after.by_name.is_empty();
        if let Some(folder) = folder.as_ref().filter(|_| changed) {
            write_file(folder, &dump::encode(&after)).map_err(|error| {
                tracing::error!(%error, "the file of functions could not be written");
                format!("the functions could not be saved: {error}")
            })?;
        }
        *self.libraries.write() = Arc::new(after);
        self.library_epoch.fetch_add(1, Ordering::AcqRel);
        Ok(result)
    }

    /// Reads the libraries of a data directory, where changes go from now on.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn open(
        &self,
        folder: &Path,
        read: impl FnOnce(&[u8]) -> Result<Vec<Arc<Library>>, String>,
    ) -> anyhow::Result<()> {
        let mut place = self.change.lock();
        let path = folder.join(FILE);
        let libraries = match std::fs::read(&path) {
            Ok(bytes) => {
                let read = read(&bytes)
                    .and_then(|libraries| Libraries::default().joined(libraries, Policy::Flush));
                read.map_err(|text| anyhow::anyhow!("{}: {text}", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Libraries::default(),
            Err(error) => anyhow::bail!("{}: {error}", path.display()),
        };
        *self.libraries.write() = Arc::new(libraries);
        self.library_epoch.fetch_add(1, Ordering::AcqRel);
        *place = Some(folder.to_owned());
        Ok(())
    }
}

const FILE: &str = "functions";

/// Replaces the file as a whole: after a crash it is the old one or the new one.
fn write_file(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = folder.join("functions.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(FILE))?;
    File::open(folder)?.sync_all()
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
        let file = std::fs::read(folder.path().join(FILE)).unwrap();
        assert_eq!(file, dump::encode(&registry.libraries()));

        let other = Registry::default();
        let read = |bytes: &[u8]| {
            assert_eq!(dump::decode(bytes).unwrap(), [Vec::<u8>::new()]);
            Ok(vec![library("a", &["one"])])
        };
        other.open(folder.path(), read).unwrap();
        assert_eq!(other.libraries().functions(), 1);
    }
}
