//! The scripts that went through this proxy, by their SHA1.
//!
//! One Redis knows a script from its first EVAL on, whatever keys it is called
//! with next. A node knows those that it was sent. So the proxy remembers the
//! text of what passes, and before an EVALSHA goes to a node that may not know
//! the script, the node is sent it (`backend::link`). A cache as Redis's own:
//! NOSCRIPT is always a possible answer.

use bytes::Bytes;
use cairn_protocol::command::{CommandSpec, Flags, id};
use cairn_protocol::resp::Args;
use parking_lot::RwLock;
use sha1::{Digest, Sha1};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

/// 20 bytes.
pub(crate) type Sha = [u8; 20];

/// Bytes of all remembered scripts; beyond, all are forgotten.
const MAX_BYTES: usize = 64 << 20;
/// Scripts remembered; applications that make one for each call exist.
const MAX_SCRIPTS: usize = 10_000;

#[derive(Default)]
struct Known {
    by_sha: HashMap<Sha, Bytes>,
    by_body: HashMap<Bytes, Sha>,
    bytes: usize,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Scripts {
    /// Written when a script is new.
    known: RwLock<Known>,
    /// Rises when scripts are forgotten: what links know of nodes is void.
    epoch: AtomicU64,
}

impl Scripts {
    /// The SHA1 of a script, which is remembered.
    pub fn remember(&self, body: &[u8]) -> Sha {
        if let Some(sha) = self.known.read().by_body.get(body) {
            return *sha;
        }
        let sha: Sha = Sha1::digest(body).into();
        let mut known = self.known.write();
        if known.by_sha.len() >= MAX_SCRIPTS || known.bytes + body.len() > MAX_BYTES {
            *known = Known::default();
        }
        let body = Bytes::copy_from_slice(body);
        known.bytes += body.len();
        known.by_sha.insert(sha, body.clone());
        known.by_body.insert(body, sha);
        sha
    }

    /// The script that a client names by its SHA1, if it is remembered.
    pub fn find(&self, hex: &[u8]) -> Option<Sha> {
        let sha = from_hex(hex)?;
        self.known.read().by_sha.contains_key(&sha).then_some(sha)
    }

    /// The text of a script.
    pub fn body(&self, sha: &Sha) -> Option<Bytes> {
        self.known.read().by_sha.get(sha).cloned()
    }

    /// SCRIPT FLUSH
    pub fn forget(&self) {
        *self.known.write() = Known::default();
        self.epoch.fetch_add(1, AcqRel);
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }
}

/// The scripts that a command names or brings; what it brings is remembered.
pub(crate) fn named_by(scripts: &Scripts, spec: &CommandSpec, args: Args<'_>) -> Vec<Sha> {
    match spec.id {
        id::EVAL | id::EVAL_RO => {
            scripts.remember(args.get(1));
            Vec::new()
        }
        id::EVALSHA | id::EVALSHA_RO => scripts.find(args.get(1)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Whether a command may change data. What a script says of itself counts
/// where its text is known; functions are the nodes' to know.
pub(crate) fn may_write(scripts: &Scripts, spec: &CommandSpec, args: Args<'_>) -> bool {
    let says_not = match spec.id {
        id::EVAL => args.try_get(1).is_some_and(declares_no_writes),
        id::EVALSHA => {
            let sha = args.try_get(1).and_then(|sha| scripts.find(sha));
            let body = sha.and_then(|sha| scripts.body(&sha));
            body.is_some_and(|body| declares_no_writes(&body))
        }
        _ => false,
    };
    let flags = spec.flags;
    !says_not && (flags.contains(Flags::WRITE) || flags.contains(Flags::MAY_REPLICATE))
}

/// `#!lua flags=no-writes,...`
fn declares_no_writes(body: &[u8]) -> bool {
    let line = body.split(|c| *c == b'\n').next().unwrap_or_default();
    let flags = line
        .strip_prefix(b"#!")
        .into_iter()
        .flat_map(|line| line.split(|c| c.is_ascii_whitespace()))
        .filter_map(|word| word.strip_prefix(b"flags="))
        .flat_map(|flags| flags.split(|c| *c == b','));
    flags.into_iter().any(|flag| flag == b"no-writes")
}

fn from_hex(hex: &[u8]) -> Option<Sha> {
    let mut sha = [0; 20];
    if hex.len() != 40 {
        return None;
    }
    for (byte, pair) in sha.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &[u8] = b"E0E1F9FABFC9D4800c877a703b823ac0578ff8db";

    #[test]
    fn a_script_is_found_by_its_sha_whatever_the_case_until_it_is_forgotten() {
        let scripts = Scripts::default();
        assert_eq!(scripts.find(HEX), None);
        let sha = scripts.remember(b"return 1");
        assert_eq!(scripts.find(HEX), Some(sha));
        assert_eq!(scripts.body(&sha).as_deref(), Some(&b"return 1"[..]));
        assert_eq!(scripts.find(b"no hex"), None);
        scripts.forget();
        assert_eq!((scripts.find(HEX), scripts.epoch()), (None, 1));
    }

    #[test]
    fn a_script_that_says_so_writes_nothing() {
        assert!(declares_no_writes(
            b"#!lua flags=allow-oom,no-writes\nreturn 1"
        ));
        assert!(!declares_no_writes(b"#!lua name=x\nflags=no-writes"));
        assert!(!declares_no_writes(b"return 'flags=no-writes'"));
    }

    #[test]
    fn the_cache_is_bounded() {
        let scripts = Scripts::default();
        for n in 0..=MAX_SCRIPTS {
            scripts.remember(format!("return {n}").as_bytes());
        }
        assert!(scripts.known.read().by_sha.len() <= MAX_SCRIPTS);
    }
}
