//! Who listens to which channel, and the way of a message to them.
//!
//! Channels are spread over shards, so that publishers on many threads do not
//! wait for each other; patterns are few and are tried one by one. What one
//! client has subscribed is kept with the client ([`Subscriptions`]) and
//! changes under that lock; the registry's own locks are taken inside of it,
//! never around it. A message goes into each listener's outbox; nobody waits
//! for a listener.

mod subscriptions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use cairn_protocol::command::glob_match;
use cairn_protocol::resp::ReplyWriter;
use dashmap::DashMap;
use parking_lot::RwLock;

use crate::net::outbox::Message;
use crate::net::session::Client;

pub use subscriptions::{Kind, Subscriptions};

type Listeners = HashMap<u64, Arc<Client>>;

/// Where a message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On this node: for all who listen here.
    Here,
    /// On another node of the cluster. Clients behind proxies listen there too
    /// and have it from there.
    Elsewhere,
}

impl Origin {
    fn reaches(self, client: &Client) -> bool {
        self == Origin::Here || !client.is_relayed()
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct PubSub {
    channels: DashMap<Bytes, Listeners>,
    shard_channels: DashMap<Bytes, Listeners>,
    patterns: RwLock<BTreeMap<Bytes, Listeners>>,
    /// Patterns; readable without the lock.
    pattern_count: AtomicUsize,
    /// Subscriptions to channels and patterns, of all clients.
    subscriptions: AtomicUsize,
}

impl PubSub {
    /// Whether anybody listens to a channel or a pattern.
    pub fn any(&self) -> bool {
        self.subscriptions.load(Ordering::Relaxed) > 0
    }

    /// Makes `client` a listener and tells it so: `confirm` gets the number of
    /// subscriptions that it has then.
    pub fn subscribe(
        &self,
        client: &Arc<Client>,
        kind: Kind,
        name: &[u8],
        confirm: impl FnOnce(usize),
    ) {
        let name = Bytes::copy_from_slice(name);
        client.subscriptions.change(|own| {
            let new = own.insert(kind, &name);
            // Before it listens: no message comes before this one.
            confirm(own.count_beside(kind));
            if new {
                self.add(kind, name, client);
            }
        });
    }

    /// The reverse. `confirm` also hears of what was not subscribed.
    pub fn unsubscribe(
        &self,
        client: &Client,
        kind: Kind,
        name: &[u8],
        confirm: impl FnOnce(usize),
    ) {
        client.subscriptions.change(|own| {
            if own.remove(kind, name) {
                self.remove(kind, name, client.id);
            }
            confirm(own.count_beside(kind));
        });
    }

    /// Ends every subscription of a client without a word.
    pub fn forget(&self, client: &Client) {
        if !client.subscriptions.any() {
            return;
        }
        client.subscriptions.change(|own| {
            for kind in Kind::ALL {
                for name in own.names(kind) {
                    own.remove(kind, &name);
                    self.remove(kind, &name, client.id);
                }
            }
        });
    }

    fn add(&self, kind: Kind, name: Bytes, client: &Arc<Client>) {
        let client = client.clone();
        match kind {
            Kind::Channel => {
                let mut listeners = self.channels.entry(name).or_default();
                listeners.insert(client.id, client);
            }
            Kind::Shard => {
                let mut listeners = self.shard_channels.entry(name).or_default();
                listeners.insert(client.id, client);
            }
            Kind::Pattern => {
                let mut patterns = self.patterns.write();
                patterns.entry(name).or_default().insert(client.id, client);
                self.pattern_count.store(patterns.len(), Ordering::Release);
            }
        }
        if kind != Kind::Shard {
            self.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, kind: Kind, name: &[u8], client: u64) {
        match kind {
            Kind::Channel => remove_listener(&self.channels, name, client),
            Kind::Shard => remove_listener(&self.shard_channels, name, client),
            Kind::Pattern => {
                let mut patterns = self.patterns.write();
                if let Some(listeners) = patterns.get_mut(name) {
                    listeners.remove(&client);
                    if listeners.is_empty() {
                        patterns.remove(name);
                    }
                }
                self.pattern_count.store(patterns.len(), Ordering::Release);
            }
        }
        if kind != Kind::Shard {
            self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Sends a message to all who listen on this node. Replies with how many
    /// times it was sent: a client may get it more than once.
    pub fn publish(&self, channel: &[u8], message: &[u8], from: Origin) -> usize {
        let direct = send_to(&self.channels, channel, b"message", message, from);
        match self.pattern_count.load(Ordering::Acquire) {
            0 => direct,
            _ => direct + self.publish_to_patterns(channel, message, from),
        }
    }

    fn publish_to_patterns(&self, channel: &[u8], message: &[u8], from: Origin) -> usize {
        let mut sent = 0;
        for (pattern, listeners) in self.patterns.read().iter() {
            if !glob_match(pattern, channel, false) {
                continue;
            }
            let write = |out: &mut ReplyWriter| {
                out.push(4);
                out.bulk(b"pmessage");
                out.bulk(pattern);
                out.bulk(channel);
                out.bulk(message);
            };
            sent += send_all(listeners, &mut Message::new(&write), from);
        }
        sent
    }

    /// The same for a sharded channel.
    pub fn publish_to_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        send_to(
            &self.shard_channels,
            channel,
            b"smessage",
            message,
            Origin::Here,
        )
    }

    /// How many a message to this channel would be sent to now.
    pub fn receivers(&self, channel: &[u8], kind: Kind) -> usize {
        let channels = match kind {
            Kind::Shard => &self.shard_channels,
            Kind::Channel | Kind::Pattern => &self.channels,
        };
        let direct = channels.get(channel).map_or(0, |listeners| listeners.len());
        if kind == Kind::Shard || self.pattern_count.load(Ordering::Acquire) == 0 {
            return direct;
        }
        let patterns = self.patterns.read();
        let matching = patterns
            .iter()
            .filter(|(pattern, _)| glob_match(pattern, channel, false));
        direct
            + matching
                .map(|(_, listeners)| listeners.len())
                .sum::<usize>()
    }

    /// Ends all subscriptions to the sharded channels that `gone` names, and
    /// tells the listeners: their slots are served elsewhere.
    pub fn leave_shards(&self, gone: impl Fn(&[u8]) -> bool) {
        let names: Vec<Bytes> = self
            .shard_channels
            .iter()
            .map(|entry| entry.key().clone())
            .filter(|name| gone(name))
            .collect();
        for name in names {
            let listeners: Vec<Arc<Client>> = match self.shard_channels.get(&name) {
                Some(listeners) => listeners.values().cloned().collect(),
                None => continue,
            };
            // A proxy listens at every node, whoever owns the slot.
            for client in listeners.iter().filter(|client| !client.is_relayed()) {
                self.unsubscribe(client, Kind::Shard, &name, |left| {
                    let write = |out: &mut ReplyWriter| {
                        put_confirmation(out, b"sunsubscribe", Some(&name), left);
                    };
                    client.send(&mut Message::new(&write));
                });
            }
        }
    }

    /// Channels that somebody listens to, in order.
    pub fn channels(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let matches = |name: &&Bytes| pattern.is_none_or(|p| glob_match(p, name, false));
        let mut names: Vec<Bytes> = match kind {
            Kind::Channel => self.channels.iter().map(|e| e.key().clone()).collect(),
            Kind::Shard => self
                .shard_channels
                .iter()
                .map(|e| e.key().clone())
                .collect(),
            Kind::Pattern => self.patterns.read().keys().cloned().collect(),
        };
        names.retain(|name| matches(&name));
        names.sort_unstable();
        names
    }

    /// How many listen to a channel, without those of patterns.
    pub fn listeners(&self, kind: Kind, name: &[u8]) -> usize {
        match kind {
            Kind::Channel => self.channels.get(name).map_or(0, |l| l.len()),
            Kind::Shard => self.shard_channels.get(name).map_or(0, |l| l.len()),
            Kind::Pattern => self.patterns.read().get(name).map_or(0, HashMap::len),
        }
    }

    /// How many channels or patterns have listeners.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.len(),
            Kind::Shard => self.shard_channels.len(),
            Kind::Pattern => self.pattern_count.load(Ordering::Acquire),
        }
    }
}

fn remove_listener(channels: &DashMap<Bytes, Listeners>, name: &[u8], client: u64) {
    if let Some(mut listeners) = channels.get_mut(name) {
        listeners.remove(&client);
    }
    channels.remove_if(name, |_, listeners| listeners.is_empty());
}

fn send_to(
    channels: &DashMap<Bytes, Listeners>,
    channel: &[u8],
    word: &[u8],
    message: &[u8],
    from: Origin,
) -> usize {
    let Some(listeners) = channels.get(channel) else {
        return 0;
    };
    let write = |out: &mut ReplyWriter| {
        out.push(3);
        out.bulk(word);
        out.bulk(channel);
        out.bulk(message);
    };
    send_all(&listeners, &mut Message::new(&write), from)
}

fn send_all(listeners: &Listeners, message: &mut Message<'_>, from: Origin) -> usize {
    let reached = listeners.values().filter(|client| from.reaches(client));
    reached.map(|client| client.send(message)).count()
}

/// What a client is told when it begins or ends a subscription.
pub fn put_confirmation(out: &mut ReplyWriter, word: &[u8], name: Option<&[u8]>, count: usize) {
    out.push(3);
    out.bulk(word);
    out.bulk_or_null(name);
    out.integer(count as i64);
}
