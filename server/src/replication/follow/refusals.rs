//! What a replica refuses to its clients, in Redis's words.

use cairn_protocol::command::{CommandSpec, Flags, id};
use cairn_protocol::resp::Args;

use super::Following;
use crate::scripting::{self, ScriptFlags};

/// Bits of what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits(pub u8);

impl Limits {
    /// Commands that write.
    pub const READ_ONLY: u8 = 1;
    /// Commands that want data which are up to date.
    pub const STALE: u8 = 2;
    /// Commands that want any data.
    pub const LOADING: u8 = 4;

    pub fn has(self, limit: u8) -> bool {
        self.0 & limit != 0
    }
}

pub const READ_ONLY: &str = "READONLY You can't write against a read only replica.";
pub const MASTER_DOWN: &str = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data \
                               is set to 'no'.";
const LOADING: &str = "LOADING Redis is loading the dataset in memory";

/// What a command, or all that is queued since MULTI, needs of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    writes: bool,
    fresh: bool,
    loaded: bool,
}

impl Needs {
    /// Of one command. A script that says what it does needs no more than that.
    pub fn of(spec: &CommandSpec, args: &Args<'_>) -> Needs {
        let flags = spec.flags;
        // Who is followed may be changed at any time.
        let role = [id::REPLICAOF, id::SLAVEOF].contains(&spec.id);
        let loaded = !role && !flags.contains(Flags::LOADING);
        match scripting::declared_flags(spec, args) {
            Some(declared) => Needs {
                writes: !declared.has(ScriptFlags::NO_WRITES),
                fresh: !declared.has(ScriptFlags::ALLOW_STALE),
                loaded,
            },
            None => Needs {
                writes: flags.contains(Flags::WRITE),
                fresh: !flags.contains(Flags::STALE),
                loaded,
            },
        }
    }

    /// Both together.
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            writes: self.writes || other.writes,
            fresh: self.fresh || other.fresh,
            loaded: self.loaded || other.loaded,
        }
    }
}

/// What a client is refused now; `None`: it runs. `queued`: of an EXEC, what it
/// executes. Where nobody is followed it costs a look.
#[inline]
pub(crate) fn refused_to_replica(
    following: &Following,
    spec: &CommandSpec,
    args: &Args<'_>,
    queued: Option<Needs>,
) -> Option<&'static [u8]> {
    let limits = following.limits();
    if limits.0 == 0 {
        return None;
    }
    let mut needs = Needs::of(spec, args);
    if spec.id == id::EXEC {
        needs = needs.and(queued.unwrap_or_default());
    }
    refused(limits, needs).map(str::as_bytes)
}

fn refused(limits: Limits, needs: Needs) -> Option<&'static str> {
    match needs {
        Needs { writes: true, .. } if limits.has(Limits::READ_ONLY) => Some(READ_ONLY),
        Needs { fresh: true, .. } if limits.has(Limits::STALE) => Some(MASTER_DOWN),
        Needs { loaded: true, .. } if limits.has(Limits::LOADING) => Some(LOADING),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_protocol::command::lookup;
    use cairn_protocol::resp::Requests;

    fn needs(words: &[&str]) -> Needs {
        let mut requests = Requests::default();
        requests.push_owned(words);
        let spec = lookup(words[0].to_ascii_lowercase().as_bytes()).expect("a command");
        Needs::of(spec, &requests.get(0))
    }

    #[test]
    fn a_replica_refuses_writes_then_stale_data_then_data_that_are_not_whole() {
        let all = Limits(Limits::READ_ONLY | Limits::STALE | Limits::LOADING);
        assert_eq!(refused(all, needs(&["SET", "k", "v"])), Some(READ_ONLY));
        assert_eq!(refused(all, needs(&["GET", "k"])), Some(MASTER_DOWN));
        let loading = Limits(Limits::READ_ONLY | Limits::LOADING);
        assert_eq!(refused(loading, needs(&["GET", "k"])), Some(LOADING));
        for allowed in [&["INFO"][..], &["REPLICAOF", "NO", "ONE"], &["MULTI"]] {
            assert_eq!(refused(all, needs(allowed)), None, "{allowed:?}");
        }
        let read_only = Limits(Limits::READ_ONLY);
        for allowed in [&["GET", "k"][..], &["PING"], &["PUBLISH", "c", "m"]] {
            assert_eq!(refused(read_only, needs(allowed)), None, "{allowed:?}");
        }
    }

    #[test]
    fn a_script_is_taken_at_its_word() {
        let read_only = Limits(Limits::READ_ONLY);
        let eval = |text: &str| needs(&["EVAL", text, "0"]);
        assert_eq!(refused(read_only, eval("return 1")), None);
        assert_eq!(refused(read_only, eval("#!lua\nreturn 1")), Some(READ_ONLY));
        let reads = eval("#!lua flags=no-writes\nreturn 1");
        assert_eq!(refused(read_only, reads), None);
        let stale = Limits(Limits::STALE);
        assert_eq!(refused(stale, reads), Some(MASTER_DOWN));
        let content = eval("#!lua flags=no-writes,allow-stale\nreturn 1");
        assert_eq!(refused(stale, content), None);
    }
}
