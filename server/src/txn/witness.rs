//! What a command did that only listeners care about: the keys that it read,
//! for client-side caching, and the commands that a script called, for MONITOR.
//!
//! Kept only where the context asks for it. It counts once the command has
//! its outcome; a command that is run again begins anew.

use cairn_protocol::command::{CommandSpec, id};
use cairn_protocol::resp::Args;

use super::Txn;

/// See the module's documentation.
#[derive(Default)]
pub struct Witness {
    /// Keys of commands that read. Of a script that called one: all that the
    /// script declared.
    pub keys: Vec<Vec<u8>>,
    /// What scripts and EXEC ran, in order.
    pub calls: Vec<Call>,
    /// How many commands are running, one within the other.
    depth: u32,
    /// How many scripts are running, one within the other.
    scripts: u32,
    /// The script that is running has read something.
    script_reads: bool,
}

/// A command within another.
pub struct Call {
    /// A script called it.
    pub by_script: bool,
    pub db: usize,
    pub args: Vec<Vec<u8>>,
}

impl Witness {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.calls.is_empty()
    }
}

impl Txn<'_> {
    /// A command is about to run.
    pub(crate) fn witness_begin(&mut self, spec: &CommandSpec, args: &Args<'_>) {
        let context = &self.context;
        if !context.track && !context.monitored {
            return;
        }
        if context.monitored && self.witness.depth > 0 {
            self.witness.calls.push(Call {
                by_script: self.witness.scripts > 0,
                db: context.db,
                args: args.iter().map(<[u8]>::to_vec).collect(),
            });
        }
        self.witness.depth += 1;
        if is_script(spec) {
            self.witness.scripts += 1;
        }
    }

    /// It has run.
    pub(crate) fn witness_end(&mut self, spec: &CommandSpec, args: &Args<'_>) {
        if !self.context.track && !self.context.monitored {
            return;
        }
        let witness = &mut self.witness;
        witness.depth -= 1;
        let served = if is_script(spec) {
            witness.scripts -= 1;
            std::mem::take(&mut witness.script_reads)
        } else if witness.scripts > 0 {
            witness.script_reads |= spec.is_readonly();
            false
        } else {
            spec.is_readonly()
        };
        if served && self.context.track {
            let keys = spec.keys(args).unwrap_or_default();
            let names = keys.iter().map(|key| args.get(key.index as usize).to_vec());
            witness.keys.extend(names);
        }
    }

    /// What was seen so far.
    pub(crate) fn take_witness(&mut self) -> Witness {
        std::mem::take(&mut self.witness)
    }
}

fn is_script(spec: &CommandSpec) -> bool {
    matches!(
        spec.id,
        id::EVAL | id::EVALSHA | id::EVAL_RO | id::EVALSHA_RO | id::FCALL | id::FCALL_RO
    )
}
