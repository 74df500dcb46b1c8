//! The users of a cluster, as a node has them: what etcd says is taken in, and
//! connections that it takes the ground from are closed.
//!
//! A change is answered once every living node has taken it in, as one of
//! functions is; a node that is cut off is not waited for longer than `PATIENCE`.
//! Of a client that has every node delete a user, each answers as if it were alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_protocol::acl::{Change, Changes, ClusterUsers};
use cairn_protocol::topology::Topology;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::gone::Gone;
use super::node::Node;
use super::spread::{self, Followed};
use crate::server::Server;

/// How long a change waits for the other nodes to follow.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub struct Users {
    users: ClusterUsers,
    runtime: Handle,
    /// Users that were deleted. Held while those of the topology are taken in, so that
    /// nobody misses one that is not noted yet.
    gone: Mutex<Gone>,
}

impl Users {
    /// Takes over what the node knew when it was stopped, or knows by now.
    pub fn start(node: &Node, server: &Server, runtime: &Handle) -> Arc<Users> {
        let users = Arc::new(Users {
            users: ClusterUsers::new(server.acl.clone()),
            runtime: runtime.clone(),
            gone: Mutex::default(),
        });
        // A node that has never heard of the cluster does not know its passwords.
        server.acl.set_awaited(true);
        users.take_in(server, &node.topology.load());
        node.keep_users(users.clone());
        users
    }

    /// Follows the topology until the end.
    pub async fn follow(self: Arc<Self>, server: Arc<Server>, node: Arc<Node>) {
        let mut topology = node.topology.clone();
        loop {
            self.take_in(&server, &topology.load());
            tokio::select! {
                _ = topology.changed() => {}
                () = server.stopped() => return,
            }
        }
    }

    fn take_in(&self, server: &Server, topology: &Topology) {
        if let Some(record) = &topology.users {
            let mut gone = self.gone.lock();
            let changes = self.users.take_in(record);
            note(&mut gone, server, &changes);
            drop(gone);
            server.follow_users(&changes);
        }
        if topology.revision > 0 {
            server.acl.set_awaited(false);
        }
    }

    /// Waits until the users of a revision are in use here. False: in vain.
    pub async fn reached(&self, revision: i64) -> bool {
        let reached = self.users.reached(revision);
        tokio::time::timeout(PATIENCE, reached).await.is_ok()
    }

    /// Whether the default user is the cluster's, not this node's.
    pub fn names_the_default(&self) -> bool {
        self.users.names_the_default()
    }

    /// Makes a change for the whole cluster. How many users there were to
    /// change. Waits for etcd and the other nodes: not for network threads.
    ///
    /// # Errors
    /// The error line.
    pub fn change(&self, server: &Server, node: &Node, change: &Change) -> Result<usize, String> {
        self.runtime.block_on(async {
            let (count, changes) = self.users.change(&node.etcd, change).await?;
            let gone = self.count_gone(server, &changes, change);
            server.follow_users(&changes);
            let revision = self.users.revision();
            spread::await_others(node, Followed::Users, revision, PATIENCE).await;
            // Those that this change took away have gone here as well.
            Ok(count.max(gone))
        })
    }

    /// How many of the users that a change deletes have been here until a moment ago,
    /// whoever deleted them.
    fn count_gone(&self, server: &Server, changes: &Changes, change: &Change) -> usize {
        let mut gone = self.gone.lock();
        note(&mut gone, server, changes);
        let Change::Delete { names } = change else {
            return 0;
        };
        let now = Instant::now();
        names.iter().filter(|name| gone.take(name, now)).count()
    }

    /// Takes in what etcd has at this moment. Waits for etcd.
    ///
    /// # Errors
    /// The error line.
    pub fn refresh(&self, server: &Server, node: &Node) -> Result<(), String> {
        let changes: Changes = self.runtime.block_on(self.users.refresh(&node.etcd))?;
        note(&mut self.gone.lock(), server, &changes);
        server.follow_users(&changes);
        Ok(())
    }
}

/// Remembers which users have gone.
fn note(gone: &mut Gone, server: &Server, changes: &Changes) {
    gone.keep_if(|name| server.acl.find(name).is_none());
    for account in &changes.gone {
        gone.add(account.name(), Instant::now());
    }
}
