//! Thresholds at which a value changes its form, or the reply that shows it, as
//! CONFIG has them now.
//!
//! Names and defaults are Redis's. They may change while the group lives; a
//! value takes notice when it is written next, as in Redis.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// Bytes above which a packed value is spread whatever Redis's thresholds say:
/// it is rewritten whole with every change.
pub const PACKED_MAX: usize = 4 << 10;

/// See the module's documentation. Counts are elements, values bytes.
pub struct TypeLimits {
    pub hash_entries: AtomicUsize,
    pub hash_value: AtomicUsize,
    pub set_intset_entries: AtomicUsize,
    pub zset_entries: AtomicUsize,
    pub zset_value: AtomicUsize,
    /// `list-max-listpack-size`: elements of a node, or -1 to -5 for its bytes.
    pub list_size: AtomicI64,
    pub stream_node_entries: AtomicUsize,
    pub stream_node_bytes: AtomicUsize,
    pub hll_sparse_bytes: AtomicUsize,
    /// Elements, and bytes of them, above which a reply leaves in pieces. Ours.
    pub reply_elements: AtomicUsize,
    pub reply_bytes: AtomicUsize,
}

impl Default for TypeLimits {
    fn default() -> TypeLimits {
        TypeLimits {
            hash_entries: AtomicUsize::new(512),
            hash_value: AtomicUsize::new(64),
            set_intset_entries: AtomicUsize::new(512),
            zset_entries: AtomicUsize::new(128),
            zset_value: AtomicUsize::new(64),
            list_size: AtomicI64::new(-2),
            stream_node_entries: AtomicUsize::new(100),
            stream_node_bytes: AtomicUsize::new(4096),
            hll_sparse_bytes: AtomicUsize::new(3000),
            reply_elements: AtomicUsize::new(4096),
            reply_bytes: AtomicUsize::new(256 << 10),
        }
    }
}

impl TypeLimits {
    /// Every threshold that is a count, with its parameter's name.
    pub fn counts(&self) -> [(&AtomicUsize, &'static str); 10] {
        [
            (&self.hash_entries, "hash-max-listpack-entries"),
            (&self.hash_value, "hash-max-listpack-value"),
            (&self.set_intset_entries, "set-max-intset-entries"),
            (&self.zset_entries, "zset-max-listpack-entries"),
            (&self.zset_value, "zset-max-listpack-value"),
            (&self.stream_node_entries, "stream-node-max-entries"),
            (&self.stream_node_bytes, "stream-node-max-bytes"),
            (&self.hll_sparse_bytes, "hll-sparse-max-bytes"),
            (&self.reply_elements, "reply-whole-max-elements"),
            (&self.reply_bytes, "reply-whole-max-bytes"),
        ]
    }

    /// Takes over what `other` is now.
    pub fn follow(&self, other: &TypeLimits) {
        for ((own, _), (other, _)) in self.counts().iter().zip(other.counts()) {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let list_size = other.list_size.load(Ordering::Relaxed);
        self.list_size.store(list_size, Ordering::Relaxed);
    }
}
