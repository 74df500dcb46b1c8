//! How one client wants to be told of changes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use cairn_protocol::tracking::Kind;
use parking_lot::Mutex;

use crate::net::session::Client;

/// CLIENT TRACKING ON and its options.
#[derive(Clone, Default)]
pub struct Mode {
    pub kind: Kind,
    /// Of its own changes the client does not want to hear.
    pub no_loop: bool,
    pub redirect: Option<Redirect>,
    /// The client that is redirected to was found gone.
    pub broken: bool,
}

/// Another client that gets the invalidations.
#[derive(Clone)]
pub struct Redirect {
    pub id: u64,
    client: Weak<Client>,
}

impl Redirect {
    pub fn to(client: &Arc<Client>) -> Redirect {
        Redirect {
            id: client.id,
            client: Arc::downgrade(client),
        }
    }

    /// The client, if it is still there.
    pub(super) fn client(&self) -> Option<Arc<Client>> {
        self.client.upgrade().filter(|client| !client.is_gone())
    }
}

/// The part of a client's state that tracking looks after. The mutex guards a
/// few words; it is taken when the client is told something.
#[derive(Default)]
pub struct ClientTracking {
    state: Mutex<(Mode, BTreeSet<Bytes>)>,
    /// What its prefixes cost.
    bytes: AtomicUsize,
}

/// What a prefix costs beside its bytes.
const PREFIX_BYTES: usize = 96;

impl ClientTracking {
    pub fn mode(&self) -> Mode {
        self.state.lock().0.clone()
    }

    /// What its prefixes cost.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The prefixes of its broadcasts, in order.
    pub fn prefixes(&self) -> Vec<Bytes> {
        self.state.lock().1.iter().cloned().collect()
    }

    pub(super) fn set(&self, mode: Mode) {
        self.state.lock().0 = mode;
    }

    pub(super) fn set_broken(&self) {
        self.state.lock().0.broken = true;
    }

    /// False if it is there already.
    pub(super) fn add_prefix(&self, prefix: &[u8]) -> bool {
        let prefix = Bytes::copy_from_slice(prefix);
        let bytes = prefix.len() + PREFIX_BYTES;
        let added = self.state.lock().1.insert(prefix);
        if added {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        added
    }

    /// Back to the start; gives the prefixes that were left.
    pub(super) fn clear(&self) -> BTreeSet<Bytes> {
        self.bytes.store(0, Ordering::Relaxed);
        std::mem::take(&mut *self.state.lock()).1
    }
}
