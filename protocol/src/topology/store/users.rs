//! Users: one record, changed as a whole.

use etcd_client::Txn;

use super::{StoreError, TopologyStore, revision_of};
use crate::topology::keys::RecordKey;
use crate::topology::records::{Record, UsersRecord};
use crate::topology::snapshot::Versioned;

/// Bytes of the record; etcd's own limit of a request is 1.5 MB.
const MAX_BYTES: usize = 1_400_000;

impl TopologyStore {
    /// The users as they are now, if any were ever set.
    ///
    /// # Errors
    /// etcd did not answer, or the record cannot be read.
    pub async fn users(&self) -> Result<Option<Versioned<UsersRecord>>, StoreError> {
        self.get(&RecordKey::Users).await
    }

    /// Puts `users` in place of the record of revision `base`, `None` if there
    /// was none. The new one; `None` if others were first.
    ///
    /// # Errors
    /// `Invalid` if they are too many for one record.
    pub async fn change_users(
        &self,
        base: Option<i64>,
        users: UsersRecord,
    ) -> Result<Option<Versioned<UsersRecord>>, StoreError> {
        if users.encode().len() > MAX_BYTES {
            return Err(StoreError::Invalid(format!(
                "the users of a cluster take at most {MAX_BYTES} bytes, as JSON"
            )));
        }
        let unchanged = match base {
            Some(revision) => self.unchanged(&RecordKey::Users, revision),
            None => self.absent(&RecordKey::Users),
        };
        let put = self.put_op(&RecordKey::Users, &users);
        let txn = Txn::new().when([unchanged]).and_then([put]);
        let response = self.txn("change users", txn).await?;
        let mod_revision = revision_of(&response);
        Ok(response.succeeded().then_some(Versioned {
            value: users,
            mod_revision,
        }))
    }
}
