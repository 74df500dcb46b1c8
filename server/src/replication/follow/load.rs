//! The data set of a master, as it comes: it replaces everything.

use std::io::BufRead;
use std::sync::Arc;

use cairn_protocol::resp::Requests;

use super::LinkError;
use super::following::{LinkState, State};
use super::wire::{Saying, Wire};
use crate::group::Group;
use crate::group::submission::OfMaster;
use crate::rdb::file::{FileReader, Item};
use crate::replication::restore::{Restorer, empty, flush_all};
use crate::scripting::{self, registry::Asker};
use crate::server::Server;
use crate::storage::{Followed, ID_LEN};

/// How the end of the data set is found.
#[derive(Debug, PartialEq, Eq)]
enum Extent {
    /// So many bytes.
    Length(u64),
    /// This mark follows it.
    Mark(Vec<u8>),
}

/// Takes the data set that ends at `at` in the master's stream. Afterwards the server
/// is in step there.
///
/// # Errors
/// It did not come whole, could not be understood or not be kept; nothing is there
/// then.
pub(super) fn take(
    server: &Arc<Server>,
    group: &Arc<Group>,
    wire: &mut Wire<'_>,
    epoch: u64,
    at: Followed,
) -> Result<Followed, LinkError> {
    let following = &server.following;
    wire.saying = Saying::Alive;
    change(server, epoch, |state| {
        state.link = LinkState::Sync;
        state.total = 0;
    })?;
    following.set_received(0);
    let extent = extent(&wire.line()?)?;
    match &extent {
        Extent::Length(bytes) => {
            tracing::info!(
                "MASTER <-> REPLICA sync: receiving {bytes} bytes from master to parser"
            );
        }
        Extent::Mark(_) => tracing::info!(
            "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to parser"
        ),
    }
    change(server, epoch, |state| {
        (state.loading, state.at) = (true, None);
        if let Extent::Length(bytes) = extent {
            state.total = bytes;
        }
        server.announcer.feed.begin_at(at.offset, 0);
    })?;
    let loaded = load(server, group, wire, (epoch, at), &extent).and_then(|at| {
        change(server, epoch, |state| {
            (state.loading, state.at) = (false, Some(at));
            server.set_replication_id(&at.id);
            let db = usize::from(at.db);
            server.announcer.feed.begin_at(at.offset, db);
        })?;
        Ok(at)
    });
    match &loaded {
        Ok(_) => tracing::info!("MASTER <-> REPLICA sync: Finished with success"),
        // What did come is nobody's data set. Whoever leads by now begins with
        // nothing, and sees nothing before.
        Err(_) => {
            let emptied = empty(group).and_then(|()| {
                let forgotten = group.store.forget_followed();
                forgotten.map_err(|error| error.to_string())
            });
            if let Err(why) = emptied {
                tracing::error!(why, "what came of a data set could not be emptied");
            }
            following.change(server, |state| (state.loading, state.at) = (false, None));
        }
    }
    loaded
}

fn change(server: &Server, epoch: u64, f: impl FnOnce(&mut State)) -> Result<(), LinkError> {
    let changed = server.following.of_link(server, epoch, f);
    changed.ok_or(LinkError::GivenUp)
}

fn extent(line: &str) -> Result<Extent, LinkError> {
    let refused = |text: String| Err(LinkError::Refused(text));
    if let Some(mark) = line.strip_prefix("$EOF:") {
        return match mark.len() {
            ID_LEN => Ok(Extent::Mark(mark.as_bytes().to_vec())),
            _ => refused(format!(
                "the mark at the end of the data set is wrong: {mark}"
            )),
        };
    }
    if let Some(why) = line.strip_prefix('-') {
        return refused(format!("MASTER aborted replication with an error: {why}"));
    }
    match line.strip_prefix('$').map(str::parse) {
        Some(Ok(bytes)) => Ok(Extent::Length(bytes)),
        _ => refused(format!(
            "Bad protocol from MASTER, the first byte is not '$' (we received '{line}')"
        )),
    }
}

fn load(
    server: &Arc<Server>,
    group: &Arc<Group>,
    wire: &mut Wire<'_>,
    (epoch, at): (u64, Followed),
    extent: &Extent,
) -> Result<Followed, LinkError> {
    tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
    let refused = |why: String| LinkError::Refused(format!("the data set: {why}"));
    scripting::forget_libraries().map_err(refused)?;
    let of_master = |followed| OfMaster {
        epoch,
        followed,
        bytes: bytes::Bytes::new(),
    };
    group
        .run_of_master(0, flush_all(), of_master(at))
        .map_err(refused)?;
    tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
    let begun = wire.taken();
    let unreadable = |error: std::io::Error| LinkError::Refused(format!("the data set: {error}"));
    let mut reader = FileReader::open(&mut *wire).map_err(unreadable)?;
    let mut restorer = Restorer::of_master(group, epoch, at);
    while let Some(item) = reader.next_item().map_err(unreadable)? {
        match item {
            Item::Database(db) => restorer.select(db).map_err(refused)?,
            Item::Function(code) => {
                scripting::load_library(&code, true, Asker::Once).map_err(refused)?;
            }
            Item::Key {
                name,
                expires_at,
                payload,
            } => restorer
                .restore(&name, expires_at, &payload)
                .map_err(refused)?,
        }
        let received = reader.input().taken() - begun;
        server.following.set_received(received);
    }
    let db = reader.stream_db().unwrap_or(0);
    restorer.flush().map_err(refused)?;
    let taken = wire.taken() - begun;
    end(wire, taken, extent)?;
    let at = Followed {
        in_step: true,
        db,
        ..at
    };
    group
        .run_of_master(0, Requests::default(), of_master(at))
        .map_err(refused)?;
    Ok(at)
}

/// Checks that the data set ends where it should.
fn end(wire: &mut Wire<'_>, taken: u64, extent: &Extent) -> Result<(), LinkError> {
    let wrong = || LinkError::Refused("the data set does not end where it should".into());
    match extent {
        Extent::Length(bytes) if taken > *bytes => Err(wrong()),
        Extent::Length(bytes) => {
            // A later version may have something behind it.
            let mut left = bytes - taken;
            while left > 0 {
                let there = wire.fill_buf()?.len();
                if there == 0 {
                    return Err(wrong());
                }
                let n = left.min(there as u64);
                wire.consume(n as usize);
                left -= n;
            }
            Ok(())
        }
        Extent::Mark(mark) => {
            let mut read = vec![0; mark.len()];
            std::io::Read::read_exact(wire, &mut read)?;
            match read == *mark {
                true => Ok(()),
                false => Err(wrong()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_find_the_end_are_understood() {
        assert_eq!(extent("$177").unwrap(), Extent::Length(177));
        let mark = "b".repeat(40);
        let found = extent(&format!("$EOF:{mark}")).unwrap();
        assert_eq!(found, Extent::Mark(mark.into_bytes()));
        for bad in ["$EOF:short", "$-1", "$", "+OK", "-ERR no", "$1x"] {
            assert!(extent(bad).is_err(), "{bad}");
        }
    }
}
