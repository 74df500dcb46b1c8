//! The function libraries of a cluster: etcd has them, every node follows.
//!
//! A change is one transaction that compares the counter of changes, so that
//! two at once are one after the other. It is answered once every living node
//! has taken it in: who was told OK may call the function anywhere. A node that
//! is cut off from etcd, or from the one that was asked, is not waited for
//! longer than `PATIENCE`; it follows when it can.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_protocol::topology::{FunctionChange, FunctionRecord, Topology, since};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::gone::Gone;
use super::node::Node;
use super::spread::{self, Followed};
use crate::scripting;
use crate::scripting::dump;
use crate::scripting::registry::{Keeper, Libraries};
use crate::server::Server;

/// How long a change waits for this node, and then for the others, to follow.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub struct Functions {
    node: Arc<Node>,
    runtime: Handle,
    /// The counter that the libraries in use are of: its value and revision.
    /// Held while libraries are read and installed.
    counter: Mutex<Option<(u64, i64)>>,
    /// The revision of the counter in use; 0 before the first change.
    taken_in: watch::Sender<i64>,
    /// Libraries that others deleted. Locked for look-ups and notes alone.
    gone: Mutex<Gone>,
}

impl Functions {
    /// Makes etcd the place of the libraries, and takes over what the node
    /// knew when it was stopped.
    pub fn start(node: &Arc<Node>, runtime: &Handle) -> Arc<Functions> {
        let functions = Arc::new(Functions {
            node: node.clone(),
            runtime: runtime.clone(),
            counter: Mutex::default(),
            taken_in: watch::channel(0).0,
            gone: Mutex::default(),
        });
        scripting::kept_by(functions.clone());
        functions.take_in(&node.topology.load());
        functions
    }

    /// Follows the topology until the end.
    pub async fn follow(self: Arc<Self>, server: Arc<Server>) {
        let mut topology = self.node.topology.clone();
        loop {
            let (this, current) = (self.clone(), topology.load());
            let taken = tokio::task::spawn_blocking(move || this.take_in(&current)).await;
            if let Err(error) = taken {
                tracing::error!(%error, "the libraries of functions could not be taken in");
            }
            tokio::select! {
                _ = topology.changed() => {}
                () = server.stopped() => return,
            }
        }
    }

    /// Uses the libraries of this picture, unless it has those in use.
    fn take_in(&self, topology: &Topology) {
        let mut counter = self.counter.lock();
        let theirs = topology
            .function_sequence
            .as_ref()
            .map(|counter| (counter.changes, counter.mod_revision));
        if *counter == theirs {
            return;
        }
        let codes = topology.functions.iter().filter_map(|(name, record)| {
            let code = record.code();
            if code.is_none() {
                tracing::error!(name, "a library of functions is not what it should be");
            }
            Some((name.clone(), code?))
        });
        self.note_gone(topology);
        scripting::install(codes);
        self.tell_replicas();
        *counter = theirs;
        self.taken_in
            .send_replace(theirs.map_or(0, |(_, revision)| revision));
    }

    /// Remembers which of the libraries in use are no more, before anybody can miss them.
    fn note_gone(&self, topology: &Topology) {
        let is_gone = |name: &[u8]| !has(topology, name);
        let mut gone = self.gone.lock();
        gone.keep_if(is_gone);
        let before = scripting::libraries();
        for library in before.iter().filter(|library| is_gone(&library.name)) {
            gone.add(&library.name, Instant::now());
        }
    }

    /// Replicas get all of them anew, which does no harm twice. Held by the counter,
    /// every node tells the changes in one order.
    fn tell_replicas(&self) {
        let feed = &self.node.announcer().feed;
        if feed.is_recording() {
            let payload = dump::encode(&scripting::libraries());
            let words: [&[u8]; 4] = [b"FUNCTION", b"RESTORE", &payload, b"FLUSH"];
            feed.tell_functions(0, words.into_iter());
        }
    }

    /// Waits until the libraries of a revision are in use here. False: in vain.
    pub async fn reached(&self, revision: i64) -> bool {
        let mut taken_in = self.taken_in.subscribe();
        let reached = taken_in.wait_for(|at| *at >= revision);
        matches!(tokio::time::timeout(PATIENCE, reached).await, Ok(Ok(_)))
    }

    /// Waits until all living nodes use the libraries of a revision.
    async fn reached_everywhere(&self, revision: i64) {
        if !self.reached(revision).await {
            tracing::warn!(
                revision,
                "this node has not followed a change of functions yet"
            );
        }
        spread::await_others(&self.node, Followed::Functions, revision, PATIENCE).await;
    }
}

impl Keeper for Functions {
    fn keep(&self, before: &Libraries, after: &Libraries) -> Result<bool, String> {
        let change = difference(before, after, &self.node.config.node_id);
        if change == FunctionChange::default() {
            return Ok(true);
        }
        let base = {
            let counter = self.counter.lock();
            // What was changed under `before` is seen by the counter that comes
            // with it, but for libraries that were installed since.
            if !scripting::is_in_use(before) {
                return Ok(false);
            }
            *counter
        };
        self.runtime.block_on(async {
            let etcd = &self.node.etcd;
            if let Err(error) = etcd.require_version(since::FUNCTIONS).await {
                return Err(format!("the functions could not be saved: {error}"));
            }
            match etcd.change_functions(base, &change).await {
                Ok(Some(revision)) => {
                    self.reached_everywhere(revision).await;
                    // These were asked for here.
                    for name in &change.delete {
                        self.gone.lock().take(name.as_bytes(), Instant::now());
                    }
                    Ok(true)
                }
                Ok(None) => {
                    // Others were first: what they did comes through the watch.
                    let seen = base.map_or(0, |(_, revision)| revision);
                    self.reached(seen + 1).await;
                    Ok(false)
                }
                Err(error) if error.is_definite() => {
                    Err(format!("the functions could not be saved: {error}"))
                }
                Err(error) => Err(format!(
                    "UNKNOWN whether the functions were saved is not known: {error}"
                )),
            }
        })
    }

    fn has_from_elsewhere(&self, name: &[u8], code: &[u8]) -> bool {
        let topology = self.node.topology.load();
        let record = topology.functions.get(&*String::from_utf8_lossy(name));
        record.is_some_and(|record| {
            record.loaded_by != self.node.config.node_id && record.code().as_deref() == Some(code)
        })
    }

    fn lost_elsewhere(&self, name: &[u8]) -> bool {
        self.gone.lock().take(name, Instant::now())
    }
}

/// Whether the cluster has a library of this name.
fn has(topology: &Topology, name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    topology.functions.contains_key(&*name)
}

/// What makes `after` of `before`.
fn difference(before: &Libraries, after: &Libraries, node: &str) -> FunctionChange {
    let known: HashMap<&[u8], &[u8]> = before.iter().map(|l| (&l.name[..], &l.code[..])).collect();
    let put = after
        .iter()
        .filter(|library| known.get(&library.name[..]) != Some(&&library.code[..]))
        .map(|library| FunctionRecord::new(&library.name, &library.code, node))
        .collect();
    let delete: Vec<String> = before
        .iter()
        .filter(|library| after.library(&library.name).is_none())
        .map(|library| String::from_utf8_lossy(&library.name).into_owned())
        .collect();
    FunctionChange {
        delete_all: after.iter().len() == 0 && !delete.is_empty(),
        put,
        delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripting::registry::Library;

    fn libraries(all: &[(&str, &str)]) -> Libraries {
        let mut libraries = Libraries::default();
        for (name, code) in all {
            let library = Library {
                name: name.as_bytes().to_vec(),
                code: code.as_bytes().to_vec(),
                header_length: 0,
                functions: Vec::new(),
            };
            libraries.add(Arc::new(library)).unwrap();
        }
        libraries
    }

    #[test]
    fn a_change_is_what_differs_and_no_more() {
        let before = libraries(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let after = libraries(&[("a", "1"), ("b", "20"), ("d", "4")]);
        let change = difference(&before, &after, "n1");
        let names: Vec<&str> = change.put.iter().map(|record| &record.name[..]).collect();
        assert_eq!(
            (names, &change.delete[..]),
            (vec!["b", "d"], &["c".to_owned()][..])
        );
        assert!(!change.delete_all);
        assert_eq!(
            difference(&before, &before, "n1"),
            FunctionChange::default()
        );
        assert!(difference(&before, &libraries(&[]), "n1").delete_all);
    }
}
