//! Where a replica's data end and its stream begins, group by group.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::feed::Replica;
use crate::group::{Group, GroupId, SlotVerdict};
use crate::server::Server;
use crate::storage::{Held, Pin};
use crate::txn::TxnContext;

/// Between two looks at compactions that must end first.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LAST_SLOT: u16 = 16383;

/// One group as a replica gets it.
pub(crate) struct Part {
    pub group: GroupId,
    /// Runs of slots, first and last, that the group owned.
    pub slots: Vec<(u16, u16)>,
    pub pin: Pin,
    pub context: TxnContext,
}

/// What a replica begins with.
pub(crate) struct Begun {
    pub parts: Vec<Part>,
    /// Bytes of the stream that it need not get.
    pub offset: u64,
    /// The database that the stream has selected there, if it is a master's that is
    /// followed.
    pub stream_db: Option<usize>,
}

/// Pins what all groups hold that are served here and, unless only that is wanted,
/// attaches the replica. `None`: a writer fell meanwhile.
pub(crate) async fn begin(server: &Arc<Server>, replica: Option<Arc<Replica>>) -> Option<Begun> {
    let mut parts = Vec::new();
    let mut groups = server.groups();
    groups.retain(|group| group.is_ready());
    for group in &groups {
        let replica = replica.clone().map(|replica| (replica, groups.len() > 1));
        parts.push(begin_one(server, group, replica).await?);
    }
    let feed = &server.announcer.feed;
    let (offset, stream_db) = match &replica {
        Some(replica) => feed.begins_at(replica.client.id)?,
        None => (feed.offset(), None),
    };
    Some(Begun {
        parts,
        offset,
        stream_db,
    })
}

/// The replica, and whether it begins with several groups.
async fn begin_one(
    server: &Arc<Server>,
    group: &Arc<Group>,
    replica: Option<(Arc<Replica>, bool)>,
) -> Option<Part> {
    let expired = group.store.hold_garbage(Held::Expired);
    let all = group.store.hold_garbage(Held::Everything);
    while expired.is_pending() || all.is_pending() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (announcer, this) = (server.announcer.clone(), group.clone());
    let (done, pinned) = oneshot::channel();
    group.between_entries(Box::new(move || {
        let pin = Pin::new(&this.store, all);
        let slots = owned(&this);
        if let Some((replica, of_several)) = replica {
            let feed = &announcer.feed;
            feed.attach(replica, this.id, expired, of_several);
        }
        // Gone meanwhile: it is detached when its connection ends.
        let _ = done.send((pin, slots));
    }));
    let (pin, slots) = pinned.await.ok()?;
    Some(Part {
        group: group.id,
        slots,
        pin,
        context: group.context(0, None, group.now(), true),
    })
}

/// Runs of the slots that the group owns, frozen ones included.
fn owned(group: &Group) -> Vec<(u16, u16)> {
    let Some(gate) = &group.ownership else {
        return vec![(0, LAST_SLOT)];
    };
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for slot in (0..=LAST_SLOT).filter(|slot| gate.verdict(*slot) != SlotVerdict::Moved) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => runs.push((slot, slot)),
        }
    }
    runs
}
