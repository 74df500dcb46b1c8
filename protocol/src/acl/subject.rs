//! Whoever is logged in with rules that must be looked at.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::log::{Context, LogEntry};
use super::registry::{Account, Registry};
use super::selector::Denied;
use crate::command::CommandSpec;
use crate::resp::Args;

/// What the log shows of a client.
pub trait Describe: Send + Sync {
    /// The client as CLIENT INFO shows it.
    fn describe(&self) -> String;
}

/// A client with restricted rights, for all that run something in its name.
pub struct Subject {
    account: Arc<Account>,
    registry: Arc<Registry>,
    client: Arc<dyn Describe>,
}

impl Subject {
    pub fn new(
        account: Arc<Account>,
        registry: Arc<Registry>,
        client: Arc<dyn Describe>,
    ) -> Subject {
        Subject {
            account,
            registry,
            client,
        }
    }

    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether a request, the command's name first, may be run. A refusal is
    /// noted in the log.
    ///
    /// # Errors
    /// What is not allowed.
    pub fn check(
        &self,
        spec: &CommandSpec,
        args: &Args<'_>,
        context: Context,
    ) -> Result<(), Denied> {
        let checked = self.account.user().check(spec, args);
        if let Err(denied) = checked {
            let (reason, object) = (denied.reason(), denied.object(spec, args));
            self.note(reason, context, object, self.account.name());
        }
        checked
    }

    /// The same without a note in the log.
    pub fn may(&self, spec: &CommandSpec, args: &Args<'_>) -> bool {
        self.account.user().check(spec, args).is_ok()
    }

    /// Whether the client may listen to a channel.
    pub fn may_listen(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.account.user().may_listen(channel, is_pattern)
    }

    /// Whether the request may be run by a selector that lets it read whatever key.
    pub fn may_read_all(&self, spec: &CommandSpec, args: &Args<'_>) -> bool {
        self.account.user().may_read_all(spec, args)
    }

    /// Notes that somebody could not log in as `name`.
    pub fn note(&self, reason: &'static str, context: Context, object: &[u8], name: &[u8]) {
        note(&self.registry, &*self.client, reason, context, object, name);
    }
}

/// Notes a refusal in the log of `registry`.
pub(super) fn note(
    registry: &Registry,
    client: &dyn Describe,
    reason: &'static str,
    context: Context,
    object: &[u8],
    name: &[u8],
) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    registry.note(LogEntry {
        count: 1,
        reason,
        context,
        object: object.to_vec(),
        username: name.to_vec(),
        at: now.map_or(0, |now| now.as_millis() as u64),
        client: client.describe(),
    });
}
