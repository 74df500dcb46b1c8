//! Bounds for commands whose work or reply grows with a collection, or with a
//! number that the client names.

use std::sync::atomic::Ordering;

use cairn_protocol::resp::ReplyWriter;

use crate::storage::Spread;
use crate::txn::{CommandError, Delivery, Txn};

/// Elements above which a read leaves the network thread, whose other clients
/// would wait for it.
const MANY: u64 = 4096;

/// Asked by a read before it goes through `elements` of a collection: many of
/// them are work for the pool of cold reads, in memory or not.
pub(super) fn off_network_thread(txn: &Txn<'_>, elements: u64) -> Result<(), CommandError> {
    match elements > MANY && !txn.is_write() {
        true => txn.require_disk(),
        false => Ok(()),
    }
}

/// Asked by a read that can leave in pieces, before it goes through `elements` of
/// a spread collection. True: it is to leave so.
///
/// # Errors
/// `Large` or `Cold`: it is to be made elsewhere.
pub(super) fn in_pieces(
    txn: &Txn<'_>,
    spread: Option<Spread>,
    elements: u64,
) -> Result<bool, CommandError> {
    // Of all its bytes as large a part as of its elements.
    let bytes = spread.map_or(0, |spread| {
        u128::from(spread.bytes) * u128::from(elements) / u128::from(spread.size.max(1))
    });
    let is_large = is_large(whole_max(txn), elements, bytes);
    match txn.context().delivery {
        Delivery::IfSmall if is_large => Err(CommandError::Large),
        Delivery::InPieces => Ok(is_large),
        _ => off_network_thread(txn, elements).map(|()| false),
    }
}

/// Of a reply that may leave in pieces, and whose size was counted: whether it is
/// to leave so.
pub(super) fn leaves_in_pieces(txn: &Txn<'_>, elements: u64, bytes: u64) -> bool {
    txn.context().delivery == Delivery::InPieces
        && is_large(whole_max(txn), elements, u128::from(bytes))
}

fn is_large((most, most_bytes): (u64, u64), elements: u64, bytes: u128) -> bool {
    elements > most || bytes > u128::from(most_bytes)
}

/// Elements and bytes of a reply that is made whole.
fn whole_max(txn: &Txn<'_>) -> (u64, u64) {
    let limits = txn.limits();
    let elements = limits.reply_elements.load(Ordering::Relaxed);
    (
        elements as u64,
        limits.reply_bytes.load(Ordering::Relaxed) as u64,
    )
}

/// Watches over a read whose size shows only as it is made.
pub(super) struct Growth {
    elements: u64,
    bytes: u64,
    /// Elements and bytes of a reply that is made whole, if a larger one is not.
    whole_max: Option<(u64, u64)>,
    /// It may go through many elements where it is.
    may_wait: bool,
}

impl Growth {
    pub(super) fn begin(txn: &Txn<'_>) -> Growth {
        let is_bounded = txn.context().delivery == Delivery::IfSmall;
        Growth {
            elements: 0,
            bytes: 0,
            whole_max: is_bounded.then(|| whole_max(txn)),
            may_wait: txn.is_write() || txn.context().disk,
        }
    }

    fn is_large(&self) -> bool {
        let (elements, bytes) = (self.elements, u128::from(self.bytes));
        self.whole_max
            .is_some_and(|most| is_large(most, elements, bytes))
    }

    /// Counts an element; false: that was too much.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        self.elements += 1;
        self.bytes += bytes as u64;
        !self.is_large() && (self.may_wait || self.elements <= MANY)
    }

    /// How many elements there were.
    ///
    /// # Errors
    /// There were too many: all over again elsewhere.
    pub(super) fn end(&self, txn: &Txn<'_>) -> Result<u64, CommandError> {
        if self.is_large() {
            return Err(CommandError::Large);
        }
        off_network_thread(txn, self.elements)?;
        Ok(self.elements)
    }
}

/// Elements up to which a reply in pieces may keep what it reads in the cache:
/// more would push out what others read again and again.
pub(super) const CACHED: u64 = 1 << 16;

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

#[cfg(test)]
#[path = "large_tests.rs"]
mod tests;
