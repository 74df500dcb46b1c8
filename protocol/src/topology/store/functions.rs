//! Function libraries: one record each, and a counter that every change takes.
//!
//! They are etcd's, and not part of a group's log, because all groups must have
//! the same ones, those added later too, and one transaction here changes them
//! for all; only the leader of a group runs functions, and replicates effects.

use etcd_client::{DeleteOptions, Txn, TxnOp};

use super::{StoreError, TopologyStore, revision_of};
use crate::topology::keys::RecordKey;
use crate::topology::records::{FunctionRecord, FunctionSequenceRecord, Record};

/// Most operations of one etcd transaction, by etcd's default; one is the counter.
const MAX_OPS: usize = 127;
/// Bytes of one transaction; etcd's own limit is 1.5 MB.
const MAX_BYTES: usize = 1_400_000;

/// What differs between two sets of libraries.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FunctionChange {
    /// New and replaced ones.
    pub put: Vec<FunctionRecord>,
    /// Names of those that go.
    pub delete: Vec<String>,
    /// None is left.
    pub delete_all: bool,
}

impl TopologyStore {
    /// Changes the libraries, if the counter is still what `base` says: its
    /// value and revision, `None` if there was none. The new revision; `None`
    /// if others have changed them since.
    ///
    /// # Errors
    /// `Invalid` if the change is too large for one transaction.
    pub async fn change_functions(
        &self,
        base: Option<(u64, i64)>,
        change: &FunctionChange,
    ) -> Result<Option<i64>, StoreError> {
        let counter = RecordKey::FunctionSequence;
        let unchanged = match base {
            Some((_, revision)) => self.unchanged(&counter, revision),
            None => self.absent(&counter),
        };
        let next = FunctionSequenceRecord {
            changes: base.map_or(0, |(changes, _)| changes) + 1,
        };
        let mut ops = self.function_ops(change)?;
        ops.push(self.put_op(&counter, &next));
        let txn = Txn::new().when([unchanged]).and_then(ops);
        let response = self.txn("change functions", txn).await?;
        Ok(response.succeeded().then(|| revision_of(&response)))
    }

    fn function_ops(&self, change: &FunctionChange) -> Result<Vec<TxnOp>, StoreError> {
        let bytes: usize = change.put.iter().map(|record| record.encode().len()).sum();
        if bytes > MAX_BYTES || change.put.len() + change.delete.len() > MAX_OPS {
            return Err(StoreError::Invalid(format!(
                "one change of functions in a cluster has at most {MAX_OPS} libraries and \
                 {MAX_BYTES} bytes, as JSON"
            )));
        }
        if change.delete_all {
            let prefix = format!("{}functions/", self.keys.prefix());
            let all = DeleteOptions::new().with_prefix();
            return Ok(vec![TxnOp::delete(prefix, Some(all))]);
        }
        let path = |name: &String| self.keys.path(&RecordKey::Function(name.clone()));
        let deletes = change.delete.iter();
        let deletes = deletes.map(|name| TxnOp::delete(path(name), None));
        let puts = change.put.iter();
        let puts =
            puts.map(|record| self.put_op(&RecordKey::Function(record.name.clone()), record));
        Ok(deletes.chain(puts).collect())
    }
}
