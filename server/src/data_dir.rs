//! The data directory as a whole: whose it is, and that one server has it.
//!
//! Every data directory carries a file `IDENTITY`, written once at the first
//! start, and a file `LOCK` that the running server holds locked. A directory
//! that is somebody else's is refused with the way in, never half-opened.
//!
//! ```text
//! IDENTITY   {"format":4,"kind":"standalone","data_dir_id":"<32 hex digits>"}
//!            {"format":1,"kind":"node","data_dir_id":"…","cluster":"…","node_id":"…"}
//! ```
//!
//! The format of a standalone server's directory became 2 with rows that earlier programs
//! cannot read, 3 with splices of records, 4 with open counts of sorted sets; one of an
//! earlier format is raised when it is opened. A node's stays 1: there the version of the cluster says what may be written.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The last layout of data directories that this program reads and writes.
pub const FORMAT: u32 = 4;
const IDENTITY: &str = "IDENTITY";
const LOCK: &str = "LOCK";

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Owner {
    Standalone,
    Node { cluster: String, node_id: String },
}

impl Owner {
    /// The format that its directory has at least.
    fn format(&self) -> u32 {
        match self {
            Owner::Standalone => FORMAT,
            Owner::Node { .. } => 1,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    #[serde(flatten)]
    owner: Owner,
    data_dir_id: String,
}

/// Why a data directory cannot be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "the data directory {path} is in use by another server{by}; stop it, or choose another \
         with --data-dir"
    )]
    InUse { path: PathBuf, by: String },
    #[error(
        "the data directory {path} is not empty and is not Cairn's (it has no file IDENTITY); \
         choose an empty or new one with --data-dir"
    )]
    Foreign { path: PathBuf },
    #[error(
        "the data directory {path} has format {found}, this program knows {FORMAT}; use the \
         version of Cairn that wrote it, or a later one"
    )]
    UnknownFormat { path: PathBuf, found: u64 },
    #[error(
        "{path}/IDENTITY cannot be understood ({reason}); it is damaged, or of another program"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "the data directory {path} is a standalone server's and cannot become a cluster node by \
         itself; take it in with `cluster-admin --cluster {cluster} adopt {path}`, or start the \
         node with an empty --data-dir and import the data"
    )]
    StandaloneInCluster { path: PathBuf, cluster: String },
    #[error(
        "the data directory {path} belongs to node `{node_id}` of cluster `{cluster}`; start it \
         with --cluster {cluster} --node-id {node_id} --etcd URL, or choose another --data-dir"
    )]
    NodeInStandalone {
        path: PathBuf,
        cluster: String,
        node_id: String,
    },
    #[error(
        "the data directory {path} belongs to node `{node_id}` of cluster `{cluster}`, not to \
         node `{wanted_node}` of cluster `{wanted_cluster}`; correct --cluster and --node-id, or \
         choose another --data-dir"
    )]
    OtherNode {
        path: PathBuf,
        cluster: String,
        node_id: String,
        wanted_cluster: String,
        wanted_node: String,
    },
}

/// A data directory that this process holds until it drops it.
#[derive(Debug)]
pub struct DataDir {
    pub path: PathBuf,
    /// 32 hex digits; a wiped directory gets another.
    pub id: String,
    /// Its lock ends with the process, however that ends.
    _lock: File,
}

impl DataDir {
    /// Opens the directory for `owner`, or makes it if it is new or empty.
    ///
    /// # Errors
    /// It is somebody else's, in use, or cannot be read; see [`DataDirError`].
    pub fn open(path: &Path, owner: Owner) -> Result<DataDir, DataDirError> {
        let failed = |source| DataDirError::Io {
            path: path.to_path_buf(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let bytes = match std::fs::read(path.join(IDENTITY)) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if bytes.is_none() && !is_unused(path).map_err(failed)? {
            return Err(DataDirError::Foreign {
                path: path.to_path_buf(),
            });
        }
        // The lock before the check: two first starts must not both write.
        let lock = lock(path)?;
        let identity = match std::fs::read(path.join(IDENTITY)) {
            Ok(bytes) => {
                let identity = read_identity(path, &bytes)?;
                check_owner(path, &identity.owner, &owner)?;
                let format = identity.owner.format();
                if identity.format >= format {
                    identity
                } else {
                    // From now on it has what earlier programs cannot read.
                    let identity = Identity { format, ..identity };
                    write_identity(path, &identity).map_err(failed)?;
                    identity
                }
            }
            Err(_) => {
                let identity = Identity {
                    format: owner.format(),
                    owner,
                    data_dir_id: new_id(),
                };
                write_identity(path, &identity).map_err(failed)?;
                identity
            }
        };
        Ok(DataDir {
            path: path.to_path_buf(),
            id: identity.data_dir_id,
            _lock: lock,
        })
    }
}

/// Whether the directory holds nothing but what an interrupted first start leaves.
fn is_unused(path: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK && !name.starts_with("IDENTITY.tmp") && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join(LOCK);
    let failed = |source| DataDirError::Io {
        path: file.clone(),
        source,
    };
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file)
        .map_err(failed)?;
    // SAFETY: the descriptor is open for as long as `lock` lives.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let holder = std::fs::read_to_string(&file).unwrap_or_default();
        let holder = holder.trim();
        let by = match holder.is_empty() {
            true => String::new(),
            false => format!(" (process {holder})"),
        };
        return Err(DataDirError::InUse {
            path: path.to_path_buf(),
            by,
        });
    }
    // Who holds it is a help for people only; the lock itself is the kernel's.
    lock.set_len(0).map_err(failed)?;
    writeln!(lock, "{}", std::process::id()).map_err(failed)?;
    Ok(lock)
}

fn read_identity(path: &Path, bytes: &[u8]) -> Result<Identity, DataDirError> {
    let damaged = |reason: String| DataDirError::Damaged {
        path: path.to_path_buf(),
        reason,
    };
    let json: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    let format = json.get("format").and_then(serde_json::Value::as_u64);
    match format {
        None => return Err(damaged("it names no format".into())),
        Some(found) if !(1..=u64::from(FORMAT)).contains(&found) => {
            return Err(DataDirError::UnknownFormat {
                path: path.to_path_buf(),
                found,
            });
        }
        Some(_) => {}
    }
    serde_json::from_value(json).map_err(|e| damaged(e.to_string()))
}

fn check_owner(path: &Path, found: &Owner, wanted: &Owner) -> Result<(), DataDirError> {
    let path = path.to_path_buf();
    match (found, wanted) {
        (found, wanted) if found == wanted => Ok(()),
        (Owner::Standalone, Owner::Node { cluster, .. }) => {
            Err(DataDirError::StandaloneInCluster {
                path,
                cluster: cluster.clone(),
            })
        }
        (
            Owner::Node { cluster, node_id },
            Owner::Node {
                cluster: c,
                node_id: n,
            },
        ) => Err(DataDirError::OtherNode {
            path,
            cluster: cluster.clone(),
            node_id: node_id.clone(),
            wanted_cluster: c.clone(),
            wanted_node: n.clone(),
        }),
        (Owner::Node { cluster, node_id }, Owner::Standalone) => {
            Err(DataDirError::NodeInStandalone {
                path,
                cluster: cluster.clone(),
                node_id: node_id.clone(),
            })
        }
        (Owner::Standalone, Owner::Standalone) => Ok(()),
    }
}

/// Whole or not at all, also over a power cut.
fn write_identity(path: &Path, identity: &Identity) -> std::io::Result<()> {
    let temporary = path.join("IDENTITY.tmp");
    let mut file = File::create(&temporary)?;
    serde_json::to_writer(&mut file, identity)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path.join(IDENTITY))?;
    File::open(path)?.sync_all()
}

fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cluster: &str, node_id: &str) -> Owner {
        Owner::Node {
            cluster: cluster.into(),
            node_id: node_id.into(),
        }
    }

    #[test]
    fn a_directory_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path, Owner::Standalone).unwrap();
        let id = first.id.clone();
        assert_eq!(id.len(), 32);
        drop(first);
        assert_eq!(DataDir::open(&path, Owner::Standalone).unwrap().id, id);
        let text = std::fs::read_to_string(path.join("IDENTITY")).unwrap();
        let want = format!("{{\"format\":4,\"kind\":\"standalone\",\"data_dir_id\":\"{id}\"}}\n");
        assert_eq!(text, want);
    }

    #[test]
    fn an_earlier_format_is_raised_and_nothing_else_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("IDENTITY");
        let of = |format| {
            format!("{{\"format\":{format},\"kind\":\"standalone\",\"data_dir_id\":\"00ff\"}}\n")
        };
        std::fs::write(&path, of(1)).unwrap();
        let id = DataDir::open(dir.path(), Owner::Standalone)
            .unwrap()
            .id
            .clone();
        assert_eq!(id, "00ff");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), of(4));
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), node("c", "n1")).unwrap());
        let text = std::fs::read_to_string(dir.path().join("IDENTITY")).unwrap();
        assert!(text.starts_with("{\"format\":1,"), "{text}");
    }

    #[test]
    fn a_second_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DataDir::open(dir.path(), Owner::Standalone).unwrap();
        let error = DataDir::open(dir.path(), Owner::Standalone).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("(process {})", std::process::id()))
        );
    }

    #[test]
    fn somebody_else_s_directory_is_refused_with_the_way_in() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), Owner::Standalone).unwrap());
        let error = DataDir::open(dir.path(), node("c", "n1")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cluster-admin --cluster c adopt"),
            "{error}"
        );

        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), node("c", "n1")).unwrap());
        let error = DataDir::open(dir.path(), node("c", "n2")).unwrap_err();
        assert!(matches!(error, DataDirError::OtherNode { .. }), "{error}");
        let error = DataDir::open(dir.path(), node("d", "n1")).unwrap_err();
        assert!(matches!(error, DataDirError::OtherNode { .. }), "{error}");
        let error = DataDir::open(dir.path(), Owner::Standalone).unwrap_err();
        assert!(
            error.to_string().contains("--cluster c --node-id n1"),
            "{error}"
        );
    }

    #[test]
    fn foreign_damaged_and_later_directories_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("photo.jpg"), "x").unwrap();
        let error = DataDir::open(dir.path(), Owner::Standalone).unwrap_err();
        assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        let cases = [
            ("{\"format\":5,\"kind\":\"standalone\"}", "format 5"),
            ("{", "damaged"),
            (
                "{\"format\":1,\"kind\":\"moon\",\"data_dir_id\":\"\"}",
                "damaged",
            ),
        ];
        for (text, told) in cases {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("IDENTITY"), text).unwrap();
            let error = DataDir::open(dir.path(), Owner::Standalone).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!(
                std::fs::read_to_string(dir.path().join("IDENTITY")).unwrap(),
                text
            );
        }
    }
}
