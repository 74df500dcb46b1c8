//! Keys of an RDB file on their way to the writer, in batches of bounded size.

use std::sync::Arc;

use bytes::Bytes;
use cairn_protocol::resp::Requests;

use crate::group::Group;
use crate::group::submission::OfMaster;
use crate::scripting;
use crate::storage::Followed;
use crate::storage::generations::DATABASES;

/// Keys that are restored in one batch, and their bytes.
const BATCH_KEYS: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

/// RESTOREs that are gathered.
pub(super) struct Restorer<'a> {
    group: &'a Arc<Group>,
    /// What is there already is replaced, else it is an error.
    merge: bool,
    /// It is a master's data set: the epoch of the link, and where its stream begins.
    of_master: Option<(u64, Followed)>,
    db: usize,
    requests: Requests,
    bytes: usize,
}

impl Restorer<'_> {
    /// For what is our own from now on: what has expired is left out.
    pub fn own(group: &Arc<Group>, merge: bool) -> Restorer<'_> {
        Restorer {
            group,
            merge,
            of_master: None,
            db: 0,
            requests: Requests::default(),
            bytes: 0,
        }
    }

    /// For the data set of a master, whatever has expired of it.
    pub fn of_master(group: &Arc<Group>, epoch: u64, at: Followed) -> Restorer<'_> {
        Restorer {
            of_master: Some((epoch, at)),
            ..Restorer::own(group, true)
        }
    }

    pub fn select(&mut self, db: u64) -> Result<(), String> {
        self.flush()?;
        self.db = usize::try_from(db).unwrap_or(usize::MAX);
        match self.db < DATABASES {
            true => Ok(()),
            false => Err(format!("the file has a database {db}, of {DATABASES} here")),
        }
    }

    /// Adds one key; `until`: unix ms.
    pub fn restore(
        &mut self,
        name: &[u8],
        until: Option<u64>,
        payload: &[u8],
    ) -> Result<(), String> {
        let until = until.unwrap_or(0).to_string();
        let words = [&b"RESTORE"[..], name, until.as_bytes(), payload, b"ABSTTL"];
        let replace = self.merge.then_some(&b"REPLACE"[..]);
        self.requests.push_owned(words.into_iter().chain(replace));
        self.bytes += payload.len();
        match self.requests.len() >= BATCH_KEYS || self.bytes >= BATCH_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    pub fn flush(&mut self) -> Result<(), String> {
        self.bytes = 0;
        if self.requests.is_empty() {
            return Ok(());
        }
        let requests = std::mem::take(&mut self.requests);
        match self.of_master {
            None => self.group.run_own(self.db, requests),
            Some((epoch, followed)) => {
                let of_master = OfMaster {
                    epoch,
                    followed,
                    bytes: Bytes::new(),
                };
                self.group.run_of_master(self.db, requests, of_master)
            }
        }
    }
}

pub(super) fn flush_all() -> Requests {
    let mut requests = Requests::default();
    requests.push_owned(["FLUSHALL"]);
    requests
}

/// Nothing is left, functions neither. Blocks.
///
/// # Errors
/// The disk.
pub(crate) fn empty(group: &Arc<Group>) -> Result<(), String> {
    scripting::forget_libraries()?;
    group.run_own(0, flush_all())
}
