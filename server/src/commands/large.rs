//! Bounds for commands whose work or reply grows with a collection, or with a
//! number that the client names.

use cairn_protocol::resp::ReplyWriter;

use crate::txn::{CommandError, Txn};

/// Elements above which a read leaves the network thread, whose other clients
/// would wait for it.
pub(super) const MANY: u64 = 4096;

/// Asked by a read before it goes through `elements` of a collection: many of
/// them are work for the pool of cold reads, in memory or not.
pub(super) fn off_network_thread(txn: &Txn<'_>, elements: u64) -> Result<(), CommandError> {
    match elements > MANY && !txn.is_write() {
        true => txn.require_disk(),
        false => Ok(()),
    }
}

/// Longest reply that repeats elements, bytes: its length is the client's word
/// and has nothing to do with what is stored.
const REPEATED_MAX: usize = 64 << 20;
/// Least that an element takes in a reply: an empty string.
const ELEMENT_MIN: u64 = 6;

const TOO_LONG: CommandError =
    CommandError::fixed("ERR the reply would be longer than 64 MB; ask for fewer elements at once");

/// Bounds a reply that repeats elements as often as a client asks.
pub(super) struct ReplyBound {
    end: usize,
}

impl ReplyBound {
    /// # Errors
    /// So many elements are too many whatever they are.
    pub(super) fn begin(out: &ReplyWriter, elements: u64) -> Result<ReplyBound, CommandError> {
        if elements > REPEATED_MAX as u64 / ELEMENT_MIN {
            return Err(TOO_LONG);
        }
        Ok(ReplyBound {
            end: out.len().saturating_add(REPEATED_MAX),
        })
    }

    /// # Errors
    /// The reply has become too long.
    pub(super) fn check(&self, out: &ReplyWriter) -> Result<(), CommandError> {
        match out.len() <= self.end {
            true => Ok(()),
            false => Err(TOO_LONG),
        }
    }
}
