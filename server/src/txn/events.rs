//! What happened to keys: the source of keyspace notifications and tracking.

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
}

/// One event, fired after its entry is applied.
#[derive(Clone, Debug)]
pub struct Event {
    pub class: EventClass,
    /// Redis's event name, e.g. `set`, `incrby`, `expired`.
    pub name: &'static str,
    pub db: usize,
    pub key: Vec<u8>,
}
