//! Users: who may do what through this proxy.
//!
//! In a cluster etcd has them (`cairn_protocol::acl::ClusterUsers`); a proxy
//! follows, and makes the changes that its clients ask for itself. Rights are
//! looked at before a command is routed; nodes are told who asks, for what they
//! alone see. Until the cluster's users are known nobody is let in: a proxy that
//! has not heard of a password must not act as if there was none.

use crate::config::Config;
use crate::dispatch::{Step, after_all, refuse, send_to_nodes, silence, wire};
use crate::merge::{Join, Merge};
use crate::net::{Client, Connection, Registry as Clients, Thread};
use crate::route::Lane;
use crate::{local, nodes, pubsub, timing};
use bytes::Bytes;
use cairn_protocol::acl::{Change, Changes, ClusterUsers, Registry};
use cairn_protocol::command::{CommandId, CommandSpec, id};
use cairn_protocol::link::RequestFlags;
use cairn_protocol::resp::{Args, number::parse_i64};
use cairn_protocol::topology::{TopologyStore, UsersRecord, Versioned};
use std::rc::Rc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, OnceLock};
use tokio::runtime::Handle;

/// Entries of ACL LOG without a number.
const LOG_ENTRIES: usize = 10;

/// See the module's documentation.
pub struct Users {
    pub(crate) registry: Arc<Registry>,
    cluster: ClusterUsers,
    /// Where changes go, and what drives its connection.
    store: OnceLock<(Handle, TopologyStore)>,
    /// Connections may be let in.
    known: AtomicBool,
}

impl Users {
    /// The default user of the configuration, and whom `follow` brings.
    pub fn of(config: &Config) -> Arc<Self> {
        Self::new(config, true)
    }

    /// The same, but nobody is let in before `follow` was called.
    pub fn awaited(config: &Config) -> Arc<Self> {
        Self::new(config, false)
    }

    fn new(config: &Config, known: bool) -> Arc<Self> {
        let registry = Arc::new(Registry::default());
        let users = Self {
            cluster: ClusterUsers::new(registry.clone()),
            registry,
            store: OnceLock::new(),
            known: AtomicBool::new(known),
        };
        users.set_password(&config.settings.requirepass);
        Arc::new(users)
    }

    /// `requirepass` of the configuration.
    pub(crate) fn set_password(&self, password: &str) {
        let password = Some(password.as_bytes()).filter(|p| !p.is_empty());
        self.registry.set_default_password(password);
    }

    /// Whether the default user is the cluster's, not the configuration's.
    pub(crate) fn names_the_default(&self) -> bool {
        self.cluster.names_the_default()
    }

    /// Whether connections may be let in.
    pub(crate) fn known(&self) -> bool {
        self.known.load(Acquire)
    }

    /// Has changes made in `store`, by the runtime of the caller.
    pub(crate) fn keep_in(&self, store: TopologyStore) {
        let _ = self.store.set((Handle::current(), store));
    }

    /// What etcd says of users: `None` if nobody has set any.
    pub(crate) fn follow(&self, record: Option<&Versioned<UsersRecord>>) -> Changes {
        let changes = record.map(|record| self.cluster.take_in(record));
        self.known.store(true, Release);
        changes.unwrap_or_default()
    }

    async fn change(self: Arc<Self>, order: Order) -> Result<(Bytes, Changes), String> {
        let (runtime, store) = self
            .store
            .get()
            .ok_or("ERR this proxy follows no cluster: its users are those of its configuration")?
            .clone();
        let work = runtime.spawn(async move {
            match order {
                Order::Refresh => {
                    let changes = self.cluster.refresh(&store).await?;
                    Ok((Bytes::from_static(b"+OK\r\n"), changes))
                }
                Order::Change(change) => {
                    let (count, changes) = self.cluster.change(&store, &change).await?;
                    let reply = match change {
                        Change::Set { .. } => Bytes::from_static(b"+OK\r\n"),
                        Change::Delete { .. } => Bytes::from(format!(":{count}\r\n")),
                    };
                    Ok((reply, changes))
                }
            }
        });
        work.await
            .unwrap_or_else(|_| Err("UNKNOWN the proxy is closing down".into()))
    }
}

/// What etcd is asked for.
enum Order {
    /// ACL LOAD: what is there now.
    Refresh,
    Change(Change),
}

/// Ends the connections that a change of users takes the ground from.
pub(crate) fn dismiss(clients: &Clients, changes: &Changes) {
    if changes.gone.is_empty() && changes.revoked.is_empty() {
        return;
    }
    for client in clients.all() {
        let account = client.account();
        if changes.gone.iter().any(|gone| Arc::ptr_eq(gone, &account)) {
            client.expel();
        }
        let mut revoked = changes.revoked.iter();
        if revoked.any(|revoked| Arc::ptr_eq(&revoked.account, &account)) {
            client.look_at_channels();
        }
    }
}

/// Whether more than the proxy's own users is needed for an answer.
pub(crate) fn needs_others(command: CommandId) -> bool {
    matches!(
        command,
        id::ACL_SETUSER | id::ACL_DELUSER | id::ACL_LOAD | id::ACL_LOG
    )
}

/// ACL and its subcommands.
pub(crate) fn serve(to: &mut Connection, spec: &'static CommandSpec, args: Args<'_>) -> Step {
    let order = match spec.id {
        id::ACL_LOG => return log(to, args),
        id::ACL_LOAD => Order::Refresh,
        id::ACL_SETUSER | id::ACL_DELUSER => match Change::read(spec.id, &args) {
            Ok(change) => Order::Change(change),
            Err(line) => {
                // As any command that was run: SLOWLOG has it, without its secrets.
                to.reply.error(line);
                timing::answered(to, spec, args, 0);
                to.reply.clear();
                return refuse(to, line.into());
            }
        },
        _ => return local::serve(to, spec, args),
    };
    after_all(to, |to| {
        local::count(to, spec);
        begin(to, order);
        Step::Routed
    })
}

/// Has etcd changed, then the nodes that can be reached take it in. The answer
/// comes once all of them have: who was told so may rely on it anywhere.
fn begin(to: &mut Connection, order: Order) {
    let silent = silence(to);
    to.barrier = true;
    let lanes = to.thread.node_lanes(true);
    let parts: Vec<Lane> = std::iter::once(Lane::group(0))
        .chain(lanes.clone())
        .collect();
    let merge = Merge::new(Join::First, true, parts, Vec::new()).of(to.whole.take());
    let timed = to.timed;
    let seq = to
        .client
        .state
        .borrow_mut()
        .expect_parts(merge, silent, timed);
    let (thread, client) = (to.thread.clone(), to.client.clone());
    tokio::task::spawn_local(async move {
        let shared = &thread.shared;
        let changed = shared.users.clone().change(order).await;
        let (reply, is_made) = match changed {
            Ok((reply, changes)) => {
                dismiss(&shared.registry, &changes);
                (reply, true)
            }
            Err(line) => (Bytes::from(format!("-{line}\r\n")), false),
        };
        if client.state.borrow().closed {
            return;
        }
        for (lane, part) in lanes.into_iter().zip(1..) {
            match is_made {
                true => tell(&thread, &client, lane, (seq, part)),
                false => {
                    let mut state = client.state.borrow_mut();
                    state.complete_owned(seq, part, Bytes::new());
                }
            }
        }
        let done = client.state.borrow_mut().complete_owned(seq, 0, reply);
        if let Some(done) = done {
            timing::finished(&thread, &client.info, done, &Bytes::new());
        }
        thread.mark_dirty(client);
        thread.flush_dirty();
    });
}

/// Has a node take in what etcd has; it answers that part of that reply.
fn tell(thread: &Rc<Thread>, client: &Rc<Client>, lane: Lane, place: (u64, u32)) {
    let wire = nodes::command(&[b"ACL", b"LOAD"]);
    pubsub::ask(thread, client, lane, wire, place, RequestFlags::PART);
}

/// ACL LOG [count | RESET]: what this proxy has refused, and nodes to scripts.
fn log(to: &mut Connection, args: Args<'_>) -> Step {
    after_all(to, |to| {
        let count = match args.try_get(2).map(parse_i64) {
            None => LOG_ENTRIES,
            // Nodes and proxy say alike what is wrong with it.
            Some(count) => usize::try_from(count.unwrap_or(0)).unwrap_or(0),
        };
        local::answer(to, id::ACL_LOG.spec(), args);
        let own = Bytes::from(to.reply.to_vec());
        to.reply.clear();
        let silent = silence(to);
        let join = match own.first() {
            Some(b'*') => Join::AclLog(own, count),
            _ => Join::Own(own),
        };
        send_to_nodes(to, wire(args), true, join, silent)
    })
}
