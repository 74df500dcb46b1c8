//! All that clients can see of a stream, for digests.

use std::ops::ControlFlow;

use super::{Element, Range, Stream, StreamId};
use crate::txn::{CommandError, Txn};

impl Stream {
    /// Shows `visit` everything of the stream as byte strings, in an order
    /// that depends on nothing else.
    pub fn each_part(
        &self,
        txn: &mut Txn<'_>,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), CommandError> {
        for id in [self.last_id, self.max_deleted_id] {
            visit(&id.to_bytes());
        }
        visit(&self.entries_added.to_be_bytes());
        self.scan(txn, Range::ALL, &mut |entry| {
            visit(&entry.id.to_bytes());
            entry.each_pair(|field, value| {
                for part in [field, value] {
                    match part {
                        Element::Text(text) => visit(text),
                        Element::Integer(n) => visit(itoa::Buffer::new().format(n).as_bytes()),
                    }
                }
            })?;
            Ok(ControlFlow::Continue(()))
        })?;
        for group in self.all_groups(txn)? {
            visit(&group.name);
            visit(&group.last_id.to_bytes());
            visit(&group.entries_read.to_be_bytes());
            for consumer in group.all_consumers(txn)? {
                visit(&consumer.name);
                visit(&consumer.seen_at.to_be_bytes());
                for id in group.owned(txn, &consumer, StreamId::MIN, usize::MAX)? {
                    visit(&id.to_bytes());
                    if let Some(pending) = group.find_pending(txn, id)? {
                        visit(&pending.delivered_at.to_be_bytes());
                        visit(&pending.deliveries.to_be_bytes());
                    }
                }
            }
        }
        Ok(())
    }
}
