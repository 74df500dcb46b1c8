//! Client-side caching: which client may hold a copy of which key, and the
//! invalidations that follow from changes.
//!
//! A client is registered for a key before (or, in the writer, in the same
//! turn as) the read that serves it, so that no change falls between; what
//! arrives too early is an invalidation too many, and comes behind the reply.
//! The table knows ids; a client that has gone or has turned tracking off is
//! skipped when one of its keys changes. Keys are names: databases are not
//! told apart, as in Redis. Bounded by `tracking-table-max-keys`: beyond it
//! keys are forgotten, and their clients are told so.

mod broadcast;
mod mode;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use cairn_protocol::resp::{ReplyWriter, Version};
use dashmap::DashMap;

use self::broadcast::Broadcasts;
use self::table::Table;
use crate::config::Settings;
use crate::net::outbox::Message;
use crate::net::session::Client;
use crate::txn::events::{Event, EventClass};

pub use cairn_protocol::tracking::Kind;
pub use mode::{ClientTracking, Mode, Redirect};

/// Keys forgotten in one go while the table is too large; more each time that
/// this was not enough, as in Redis.
const EFFORT: usize = 100;
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// See the module's documentation.
#[derive(Default)]
pub struct Tracking {
    /// Clients that track, by id.
    clients: DashMap<u64, Arc<Client>>,
    /// Readable without the map's locks.
    client_count: AtomicUsize,
    table: Table,
    broadcasts: Broadcasts,
    /// 0: no limit.
    max_keys: AtomicUsize,
    /// How often in a row the table stayed too large.
    overruns: AtomicU32,
}

impl Tracking {
    /// Takes over what the settings are now.
    pub fn follow(&self, settings: &Settings) {
        let most = settings.count("tracking-table-max-keys");
        self.max_keys.store(most, Ordering::Relaxed);
        self.keep_to_limit();
    }

    /// Whether any client tracks.
    pub fn any(&self) -> bool {
        self.clients() > 0
    }

    pub fn clients(&self) -> usize {
        self.client_count.load(Ordering::Relaxed)
    }

    /// Keys of which some client may hold a copy.
    pub fn keys(&self) -> usize {
        self.table.keys()
    }

    /// Pairs of key and client.
    pub fn items(&self) -> usize {
        self.table.items()
    }

    /// Prefixes of broadcasts.
    pub fn prefixes(&self) -> usize {
        self.broadcasts.len()
    }

    /// Turns tracking on in this mode. Prefixes are added to those that the
    /// client has.
    pub fn enable(&self, client: &Arc<Client>, mode: Mode, prefixes: &[&[u8]]) {
        let broadcast = mode.kind == Kind::Broadcast;
        client.tracking.set(mode);
        if broadcast {
            let all: &[&[u8]] = if prefixes.is_empty() {
                &[b""]
            } else {
                prefixes
            };
            for prefix in all {
                if client.tracking.add_prefix(prefix) {
                    self.broadcasts.add(prefix, client);
                }
            }
        }
        if self.clients.insert(client.id, client.clone()).is_none() {
            self.client_count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Turns it off. The table is cleaned up as keys change.
    pub fn disable(&self, client: &Client) {
        if self.clients.remove(&client.id).is_none() {
            return;
        }
        if self.client_count.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Nobody is told of changes any more: what is left would be taken
            // for somebody's copy later.
            self.table.clear();
        }
        for prefix in client.tracking.clear() {
            self.broadcasts.remove(&prefix, client.id);
        }
    }

    /// The client is about to be served these keys, or was just now.
    pub fn remember<'k>(&self, client: u64, keys: impl Iterator<Item = &'k [u8]>) {
        keys.for_each(|key| self.table.add(key, client));
        self.keep_to_limit();
    }

    /// Forgets keys while there are too many, a bounded number at a time.
    pub fn keep_to_limit(&self) {
        let most = self.max_keys.load(Ordering::Relaxed);
        if most == 0 || self.table.keys() <= most {
            self.overruns.store(0, Ordering::Relaxed);
            return;
        }
        let effort = EFFORT * (self.overruns.load(Ordering::Relaxed) as usize + 1);
        let excess = self.table.keys() - most;
        for key in self.table.some_keys(effort.min(excess)) {
            self.invalidate(&key, 0);
        }
        if self.table.keys() > most {
            self.overruns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells clients of what has changed.
    pub fn fire(&self, events: &[Event]) {
        if !self.any() {
            return;
        }
        let broadcast = self.broadcasts.len() > 0;
        // Each key once, with the client that changed it last.
        let mut changed: BTreeMap<&[u8], u64> = BTreeMap::new();
        let mut flushed = false;
        for event in events {
            match event.class {
                EventClass::New | EventClass::Miss => continue,
                EventClass::Read => {
                    let key = std::iter::once(&event.key[..]);
                    self.remember(event.client, key);
                }
                // FLUSHALL makes one for each database.
                EventClass::Flush if flushed => continue,
                EventClass::Flush => self.invalidate_all(),
                _ => {
                    self.invalidate(&event.key, event.client);
                    if broadcast {
                        changed.insert(&event.key, event.client);
                    }
                }
            }
            flushed = event.class == EventClass::Flush;
        }
        if broadcast && !changed.is_empty() {
            self.broadcasts.fire(&changed, |client, keys| {
                self.send(client, &client.tracking.mode(), &|out| {
                    out.array(keys.len());
                    keys.iter().for_each(|key| out.bulk(key));
                });
            });
        }
    }

    /// One key has changed: who remembered it does so no more, even a client
    /// that did it itself and wants to hear nothing of that.
    fn invalidate(&self, key: &[u8], by: u64) {
        for id in self.table.take(key) {
            let Some(client) = self.clients.get(&id).map(|c| c.value().clone()) else {
                continue;
            };
            let mode = client.tracking.mode();
            match mode.kind {
                Kind::Off | Kind::Broadcast => {}
                _ if mode.no_loop && id == by => {}
                _ => self.send(&client, &mode, &|out| {
                    out.array(1);
                    out.bulk(key);
                }),
            }
        }
    }

    /// Everything may have changed.
    fn invalidate_all(&self) {
        self.table.clear();
        let clients: Vec<Arc<Client>> = self.clients.iter().map(|c| c.value().clone()).collect();
        for client in clients {
            self.send(&client, &client.tracking.mode(), &|out| out.null());
        }
    }

    /// Sends an invalidation to a client, or where it has its invalidations
    /// sent. In RESP2 only the latter can be sent to, as a subscriber.
    fn send(&self, client: &Client, mode: &Mode, keys: &dyn Fn(&mut ReplyWriter)) {
        let redirected = mode.redirect.is_some();
        let target = match &mode.redirect {
            None => None,
            Some(redirect) => match redirect.client() {
                Some(target) => Some(target),
                None => return report_broken(client, redirect.id),
            },
        };
        let target = target.as_deref().unwrap_or(client);
        let subscriber = target.subscriptions.any();
        let write = |out: &mut ReplyWriter| match out.version() {
            Version::V3 => {
                out.push(2);
                out.bulk(b"invalidate");
                keys(out);
            }
            Version::V2 if redirected && subscriber => {
                out.array(3);
                out.bulk(b"message");
                out.bulk(CHANNEL);
                keys(out);
            }
            Version::V2 => {}
        };
        target.send(&mut Message::new(&write));
    }
}

/// The client that invalidations were to be sent to has gone.
fn report_broken(client: &Client, redirect: u64) {
    client.tracking.set_broken();
    let write = |out: &mut ReplyWriter| {
        if out.version() == Version::V3 {
            out.push(2);
            out.bulk(b"tracking-redir-broken");
            out.integer(redirect as i64);
        }
    };
    client.send(&mut Message::new(&write));
}
