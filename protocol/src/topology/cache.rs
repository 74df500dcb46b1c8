//! The file from which a node starts while etcd is away.
//!
//! One JSON object: `{"v":1,"cluster":NAME,"revision":N,"records":{PATH:{"rev":N,"value":{..}}}}`.
//! It is a hint like all topology: what a node owns is in its groups' state.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::Keys;
use super::snapshot::Topology;

/// Version of the file's layout.
const CACHE_VERSION: u32 = 1;

/// A cache file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file system refused.
    #[error("the topology cache {path}")]
    Io {
        /// File.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not a cache file, or of a later version, or of another cluster.
    #[error("the topology cache {path} cannot be used: {why}")]
    Unusable {
        /// File.
        path: String,
        /// Why.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct CacheFile {
    v: u32,
    cluster: String,
    revision: i64,
    records: BTreeMap<String, CachedRecord>,
}

#[derive(Serialize, Deserialize)]
struct CachedRecord {
    rev: i64,
    value: Value,
}

/// Writes the picture to a file, atomically (write beside, sync, rename).
///
/// # Errors
/// `CacheError::Io`; the old file is then still there.
pub fn save_cached(path: &Path, cluster: &str, topology: &Topology) -> Result<(), CacheError> {
    let io = |source| CacheError::Io {
        path: path.display().to_string(),
        source,
    };
    let json = encode(cluster, topology);
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside).map_err(io)?;
    file.write_all(&json)
        .and_then(|()| file.sync_all())
        .map_err(io)?;
    fs::rename(&beside, path).map_err(io)
}

fn encode(cluster: &str, topology: &Topology) -> Vec<u8> {
    let parse = |json: Vec<u8>| serde_json::from_slice(&json).expect("records are encoded as JSON");
    let records = topology.encoded_records().into_iter();
    let file = CacheFile {
        v: CACHE_VERSION,
        cluster: cluster.into(),
        revision: topology.revision,
        records: records
            .map(|(p, json, rev)| {
                (
                    p,
                    CachedRecord {
                        rev,
                        value: parse(json),
                    },
                )
            })
            .collect(),
    };
    serde_json::to_vec(&file).expect("a map of strings and JSON values")
}

/// Reads a picture back; `None` if there is no file.
///
/// # Errors
/// A file that cannot be read, is no cache, or is another cluster's.
pub fn load_cached(path: &Path, cluster: &str) -> Result<Option<Topology>, CacheError> {
    let unusable = |why: String| CacheError::Unusable {
        path: path.display().to_string(),
        why,
    };
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CacheError::Io {
                path: path.display().to_string(),
                source,
            });
        }
    };
    let file: CacheFile = serde_json::from_slice(&json).map_err(|e| unusable(e.to_string()))?;
    if file.v != CACHE_VERSION {
        return Err(unusable(format!(
            "version {} is not {CACHE_VERSION}",
            file.v
        )));
    }
    if file.cluster != cluster {
        return Err(unusable(format!(
            "it is of cluster `{}`, not `{cluster}`",
            file.cluster
        )));
    }
    let keys = Keys::new(cluster);
    let mut topology = Topology::default();
    topology.revision = file.revision;
    for (path, record) in &file.records {
        let path = format!("{}{path}", keys.prefix());
        topology.put(
            &keys,
            path.as_bytes(),
            record.value.to_string().as_bytes(),
            record.rev,
        );
    }
    Ok(Some(topology))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::snapshot::tests::two_groups;

    #[test]
    fn a_saved_picture_reads_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topology.json");
        assert!(load_cached(&path, "c1").unwrap().is_none());
        let topology = two_groups();
        save_cached(&path, "c1", &topology).unwrap();
        let back = load_cached(&path, "c1").unwrap().unwrap();
        assert_eq!(back.revision, topology.revision);
        assert_eq!(back.encoded_records(), topology.encoded_records());
        assert_eq!(back.slot_address(0), topology.slot_address(0));
    }

    #[test]
    fn a_cache_of_another_cluster_or_broken_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topology.json");
        save_cached(&path, "c1", &two_groups()).unwrap();
        let error = load_cached(&path, "c2").unwrap_err().to_string();
        assert!(error.contains("of cluster `c1`"), "{error}");
        std::fs::write(&path, b"{\"v\":1,\"clu").unwrap();
        assert!(load_cached(&path, "c1").is_err());
    }
}
