//! Users and what they may do: Redis's access control lists.
//!
//! A [`User`] has passwords and selectors; a [`Selector`] names commands, key
//! patterns and channels. This folder is pure: rules in, permissions and
//! descriptions out. Who is logged in where, and what is done about a
//! refusal, is the business of sessions and dispatch.
//!
//! Invariants:
//! - a request is allowed if one selector allows all of it;
//! - a described user, read again, is the same user.

mod commands;
mod file;
mod log;
mod rules;
mod selector;
mod user;

pub use file::{load, save};
pub use log::{AclLog, Context, LogEntry};
pub use rules::{RuleError, merge_selectors};
pub use selector::{Denied, KeyPattern, Selector};
pub use user::{Defaults, User};

/// The user that connections begin as.
pub const DEFAULT_USER: &[u8] = b"default";

#[cfg(test)]
mod tests;
