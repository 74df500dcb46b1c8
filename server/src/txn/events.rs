//! What happened to keys: the source of keyspace notifications and tracking.
//!
//! Every write notes at least one event whether or not somebody listens, so
//! noting one must cost next to nothing: a usual key needs no allocation, and
//! the list of a batch is given back to the overlay after use.

use smallvec::SmallVec;

/// The key of an event; dereferences to its bytes.
pub type EventKey = SmallVec<[u8; 32]>;

/// Redis's classes of keyspace events (`notify-keyspace-events`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClass {
    Generic,
    String,
    List,
    Set,
    Hash,
    SortedSet,
    Stream,
    Expired,
    Evicted,
    New,
    /// A read of a key that is not there.
    Miss,
    /// A database was emptied; the event has no key. Of no interest to
    /// keyspace notifications.
    Flush,
    /// A client that tracks its keys was served this one: among the changes,
    /// because only those that come after it concern the client.
    Read,
}

impl EventClass {
    /// Whether something happened to the key.
    pub fn is_change(self) -> bool {
        !matches!(self, EventClass::Miss | EventClass::Read)
    }
}

/// One event, fired after its entry is applied.
#[derive(Clone, Debug)]
pub struct Event {
    pub class: EventClass,
    /// Redis's event name, e.g. `set`, `incrby`, `expired`.
    pub name: &'static str,
    pub db: usize,
    pub key: EventKey,
    /// The client whose command did it; 0: nobody's.
    pub client: u64,
}
