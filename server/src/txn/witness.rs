//! What a command did that only listeners care about: the keys that it read,
//! for client-side caching, and the commands that a script called, for MONITOR.
//!
//! Kept only where the context asks for it. Calls count once the command has
//! its outcome; a command that is run again begins anew. Keys take their place
//! among the events of the batch: a change before the read is no news to
//! whoever read, one behind it is.

use cairn_protocol::command::{CommandSpec, id};
use cairn_protocol::resp::Args;

use super::{Event, EventClass, EventKey, Txn};

/// See the module's documentation.
#[derive(Default)]
pub struct Witness {
    /// What scripts and EXEC ran, in order.
    pub calls: Vec<Call>,
    /// How many commands are running, one within the other.
    depth: u32,
    /// How many scripts are running, one within the other.
    scripts: u32,
    /// Keys that the script which is running has declared: all of them are
    /// read when it reads anything, as in Redis.
    declared: Vec<EventKey>,
    /// How many events there were after keys were last noted as read.
    noted_at: usize,
}

/// A command within another.
#[derive(Debug)]
pub struct Call {
    /// A script called it.
    pub by_script: bool,
    pub db: usize,
    /// Empty: a command of the connection has its place here.
    pub args: Vec<Vec<u8>>,
}

impl Call {
    /// The place of a command that the connection runs.
    pub fn place(db: usize) -> Call {
        Call {
            by_script: false,
            db,
            args: Vec::new(),
        }
    }

    pub fn is_place(&self) -> bool {
        self.args.is_empty()
    }
}

impl Witness {
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
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
            if context.track {
                self.witness.declared = keys_of(spec, args);
                self.witness.noted_at = usize::MAX;
            }
        }
    }

    /// Here is the place of a command that the connection runs.
    pub(crate) fn witness_place(&mut self) {
        if self.context.monitored {
            self.witness.calls.push(Call::place(self.context.db));
        }
    }

    /// It has run.
    pub(crate) fn witness_end(&mut self, spec: &CommandSpec, args: &Args<'_>) {
        if !self.context.track && !self.context.monitored {
            return;
        }
        let witness = &mut self.witness;
        witness.depth -= 1;
        if is_script(spec) {
            witness.scripts -= 1;
        } else if self.context.track && spec.is_readonly() {
            self.note_read(spec, args);
        }
    }

    fn note_read(&mut self, spec: &CommandSpec, args: &Args<'_>) {
        let Some(overlay) = &mut self.overlay else {
            return;
        };
        let in_script = self.witness.scripts > 0;
        // A script that reads on and on notes its keys once for each change.
        if in_script && self.witness.noted_at == overlay.events.len() {
            return;
        }
        let keys = match in_script {
            true => self.witness.declared.clone(),
            false => keys_of(spec, args),
        };
        let (db, client) = (self.context.db, self.context.client);
        overlay.events.extend(keys.into_iter().map(|key| Event {
            class: EventClass::Read,
            name: "",
            db,
            key,
            client,
        }));
        self.witness.noted_at = overlay.events.len();
    }
}

fn keys_of(spec: &CommandSpec, args: &Args<'_>) -> Vec<EventKey> {
    let keys = spec.keys(args).unwrap_or_default();
    let names = keys.iter().map(|key| args.get(key.index as usize));
    names.map(EventKey::from_slice).collect()
}

fn is_script(spec: &CommandSpec) -> bool {
    matches!(
        spec.id,
        id::EVAL | id::EVALSHA | id::EVAL_RO | id::EVALSHA_RO | id::FCALL | id::FCALL_RO
    )
}
