//! Users and what they may do: Redis's access control lists.
//!
//! A [`User`] has passwords and selectors; a [`Selector`] names commands, key
//! patterns and channels. An [`Account`] is a user that somebody may be logged
//! in as, a [`Registry`] all of a process's, and a [`Subject`] is whoever is
//! logged in with rules that must be looked at. In a cluster the registries of
//! all processes follow one record ([`ClusterUsers`]). Rules in, permissions and
//! descriptions out: what is done about a refusal is the business of sessions.
//!
//! Invariants:
//! - a request is allowed if one selector allows all of it;
//! - a described user, read again, is the same user;
//! - nobody is logged in as a user that was deleted before.

mod answers;
mod cluster;
mod commands;
mod file;
mod log;
mod registry;
mod rules;
mod selector;
mod subject;
mod user;

pub use answers::answer;
pub use cluster::{Change, ClusterUsers, DEFAULT_IS_THE_CLUSTERS};
pub use file::save;
pub use log::{AclLog, Context, LogEntry};
pub use registry::{Account, Changes, Registry, Revoked};
pub use rules::{RuleError, has_space_or_nul, merge_selectors};
pub use selector::{Denied, KeyPattern, Selector};
pub use subject::{Describe, Subject};
pub use user::{Defaults, User};

/// The user that connections begin as.
pub const DEFAULT_USER: &[u8] = b"default";

#[cfg(test)]
mod tests;
