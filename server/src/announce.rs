//! Tells listeners what happened to keys: keyspace notifications, and the
//! invalidations of client-side caching.
//!
//! Fed by the writers of all groups, after an entry is applied and before its
//! replies leave. Writers ask [`Announcer::wanted`] first: while nobody
//! listens, a change costs one look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cairn_protocol::monitor;

use crate::config::Settings;
use crate::group::{EventListener, GroupId};
use crate::monitor::{Monitors, Sender};
use crate::pause::Pause;
use crate::pubsub::{Origin, PubSub};
use crate::replication::Feed;
use crate::tracking::Tracking;
use crate::txn::Witness;
use crate::txn::events::{Event, EventClass};
use crate::txn::tape::Tape;

/// Bits of `classes` beside those of the event classes.
const KEYSPACE: u32 = 1 << 30;
const KEYEVENT: u32 = 1 << 31;

/// See the module's documentation.
#[derive(Default)]
pub struct Announcer {
    pub pubsub: PubSub,
    pub tracking: Tracking,
    pub monitors: Monitors,
    /// Replicas that speak Redis's protocol.
    pub feed: Feed,
    /// CLIENT PAUSE.
    pub pause: Arc<Pause>,
    /// `notify-keyspace-events`; 0 if no kind of channel is chosen.
    classes: AtomicU32,
}

impl Announcer {
    pub fn new(settings: &Settings) -> Arc<Announcer> {
        let announcer = Announcer::default();
        announcer.follow(settings);
        Arc::new(announcer)
    }

    /// Takes over what the settings are now.
    pub fn follow(&self, settings: &Settings) {
        let classes = classes(settings.bytes("notify-keyspace-events"));
        self.classes.store(classes, Ordering::Relaxed);
        self.tracking.follow(settings);
        self.feed.follow(settings);
    }

    fn notify(&self, event: &Event, classes: u32) {
        let (db, name) = (event.db, event.name);
        if classes & KEYSPACE != 0 {
            let mut channel = format!("__keyspace@{db}__:").into_bytes();
            channel.extend_from_slice(&event.key);
            self.pubsub.publish(&channel, name.as_bytes(), Origin::Here);
        }
        if classes & KEYEVENT != 0 {
            let channel = format!("__keyevent@{db}__:{name}");
            self.pubsub
                .publish(channel.as_bytes(), &event.key, Origin::Here);
        }
    }
}

impl EventListener for Announcer {
    fn wanted(&self) -> bool {
        self.tracking.any() || (self.pubsub.any() && self.classes.load(Ordering::Relaxed) != 0)
    }

    fn monitored(&self) -> bool {
        self.monitors.any()
    }

    fn misses_wanted(&self) -> bool {
        self.pubsub.any() && self.classes.load(Ordering::Relaxed) & bit(EventClass::Miss) != 0
    }

    fn recording(&self) -> bool {
        self.feed.is_recording()
    }

    fn writes_paused(&self) -> bool {
        self.pause.is_in_force()
    }

    fn recorded(&self, group: GroupId, tape: &Tape) {
        self.feed.tell(group, tape);
    }

    fn moved(&self, why: &str) {
        self.feed.dismiss(why);
    }

    fn fire(&self, events: &[Event]) {
        let classes = self.classes.load(Ordering::Relaxed);
        if classes != 0 && self.pubsub.any() {
            for event in events.iter().filter(|e| classes & bit(e.class) != 0) {
                self.notify(event, classes);
            }
        }
        self.tracking.fire(events);
    }

    fn witnessed(&self, client: u64, witness: Witness) {
        for call in &witness.calls {
            let sender = match call.by_script {
                true => Sender::Script,
                false => self.monitors.sender(client),
            };
            let args = call.args.iter().map(Vec::as_slice);
            self.monitors
                .send(&monitor::line(sender, call.db, &[], args));
        }
    }
}

/// The letter of each class in `notify-keyspace-events`.
const LETTERS: &[(u8, EventClass)] = &[
    (b'g', EventClass::Generic),
    (b'$', EventClass::String),
    (b'l', EventClass::List),
    (b's', EventClass::Set),
    (b'h', EventClass::Hash),
    (b'z', EventClass::SortedSet),
    (b'x', EventClass::Expired),
    (b'e', EventClass::Evicted),
    (b't', EventClass::Stream),
    (b'n', EventClass::New),
    (b'm', EventClass::Miss),
];

fn bit(class: EventClass) -> u32 {
    1 << class as u32
}

/// The bits of a value as it is kept: letters, `A` for all but `n` and `m`.
fn classes(letters: &[u8]) -> u32 {
    let mut bits = 0;
    for letter in letters {
        bits |= match letter {
            b'K' => KEYSPACE,
            b'E' => KEYEVENT,
            b'A' => {
                let usual = LETTERS.iter().filter(|(l, _)| !b"nm".contains(l));
                usual.fold(0, |bits, (_, class)| bits | bit(*class))
            }
            other => {
                let known = LETTERS.iter().find(|(l, _)| l == other);
                known.map_or(0, |(_, class)| bit(*class))
            }
        };
    }
    match bits & (KEYSPACE | KEYEVENT) {
        0 => 0,
        _ => bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_letters() {
        assert_eq!(classes(b""), 0);
        assert_eq!(classes(b"A"), 0, "no kind of channel");
        assert_eq!(classes(b"Kl"), KEYSPACE | bit(EventClass::List));
        let all = classes(b"AE");
        assert_ne!(all & bit(EventClass::Stream), 0);
        assert_eq!(all & bit(EventClass::Miss), 0);
        assert_eq!(all & bit(EventClass::New), 0);
        assert_ne!(classes(b"Kmn") & bit(EventClass::Miss), 0);
    }
}
