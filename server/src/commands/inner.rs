//! One command on data within another: what EXEC and scripts are made of.
//!
//! An inner command runs on its caller's [`Txn`], sees what the caller has
//! changed so far, and never waits for its keys. If it fails, its own effects
//! are undone and the caller is told the error; what sends a whole command
//! back (cold data, a tick) travels up as `Err`. Which commands are allowed
//! here (`noscript`, writes of a read-only script) is the caller's to decide
//! from [`InnerCommand::spec`].

use std::time::Instant;

use cairn_protocol::command::{
    CommandSpec, Resolved, resolve, unknown_command_error, unknown_subcommand_error,
    wrong_arity_error,
};
use cairn_protocol::resp::{Args, ReplyWriter};

use super::{DataHandler, Handler, SessionHandler, handler};
use crate::replication;
use crate::txn::{CommandError, InnerRun, Txn};

/// A command that [`run`] can run.
#[derive(Clone, Copy)]
pub(crate) struct InnerCommand {
    pub spec: &'static CommandSpec,
    pub handler: DataHandler,
    /// It may change data: it needs a [`Txn`] of the writer.
    pub writes: bool,
}

/// Why a request is no inner command.
pub(crate) enum NotInner {
    Unknown,
    /// A known container with a subcommand that it does not have.
    UnknownSubcommand(&'static CommandSpec),
    WrongArity(&'static CommandSpec),
    /// It needs a connection; only the caller knows whether it has one.
    #[allow(dead_code, reason = "for a caller that has one")]
    Session(&'static CommandSpec, SessionHandler),
}

impl NotInner {
    /// The error line that a client would get.
    pub(crate) fn line(&self, args: &Args<'_>) -> Vec<u8> {
        match self {
            NotInner::Unknown => unknown_command_error(args),
            NotInner::UnknownSubcommand(container) => unknown_subcommand_error(container, args),
            NotInner::WrongArity(spec) => wrong_arity_error(spec).into_bytes(),
            NotInner::Session(spec, _) => {
                format!("ERR '{}' cannot run here", spec.name).into_bytes()
            }
        }
    }
}

/// What an inner command answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Its reply is written.
    Done,
    /// Nothing is written, and nothing of it is left.
    Failed(CommandError),
}

/// Finds the command that `args` names and checks their number.
pub(crate) fn find(args: &Args<'_>) -> Result<InnerCommand, NotInner> {
    let spec = match resolve(args) {
        Resolved::Command(spec) => spec,
        Resolved::UnknownCommand => return Err(NotInner::Unknown),
        Resolved::UnknownSubcommand(container) => {
            return Err(NotInner::UnknownSubcommand(container));
        }
    };
    let found = handler(spec);
    if (found.is_some() || spec.is_container()) && !spec.arity_accepts(args.len()) {
        return Err(NotInner::WrongArity(spec));
    }
    let (handler, writes) = match found {
        Some(Handler::Read(handler)) => (handler, false),
        Some(Handler::Write(handler)) => (handler, true),
        Some(Handler::Session(handler)) => return Err(NotInner::Session(spec, handler)),
        None => return Err(NotInner::Unknown),
    };
    Ok(InnerCommand {
        spec,
        handler,
        writes,
    })
}

/// Runs `command` on database `db`, its arguments (name included) being `args`.
///
/// # Errors
/// Only what undoes the caller as a whole: [`CommandError::is_retry`].
pub(crate) fn run(
    txn: &mut Txn<'_>,
    db: usize,
    command: InnerCommand,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<Answer, CommandError> {
    if command.writes && !txn.is_write() {
        return Ok(Answer::Failed(CommandError::fixed(
            "ERR a command that writes cannot run within one that only reads",
        )));
    }
    let started = Instant::now();
    let mark = out.mark();
    let changes = txn.changes();
    let scope = txn.begin_inner(db, command.spec);
    txn.witness_begin(command.spec, args);
    let mut outcome = (command.handler)(txn, args, out);
    if txn.is_recorded() && outcome.is_ok() {
        outcome = replication::record(txn, command.spec, args, (&*out, mark), changes);
    }
    txn.witness_end(command.spec, args);
    txn.end_inner(scope, outcome.is_err());
    let answer = match outcome {
        Ok(()) => Answer::Done,
        Err(error) => {
            out.truncate(mark);
            if error.is_retry() {
                return Err(error);
            }
            Answer::Failed(error)
        }
    };
    if let Answer::Failed(error) = &answer {
        txn.note_error(error.to_string());
    }
    txn.note_inner(InnerRun {
        rejected: false,
        spec: command.spec,
        nanos: started.elapsed().as_nanos().min(u32::MAX as u128) as u32,
        failed: matches!(answer, Answer::Failed(_)),
    });
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use cairn_protocol::resp::{Requests, Version};

    use super::super::testing::{Bench, words};
    use super::*;
    use crate::txn::overlay::Overlay;

    fn request(line: &str) -> Requests {
        let mut requests = Requests::default();
        requests.push_owned(words(line));
        requests
    }

    /// Runs lines as inner commands of one; their replies, and what is left of them.
    fn within_one(bench: &Bench, lines: &[(usize, &str)]) -> (Vec<String>, Overlay) {
        let maps = bench.store.maps();
        let mut overlay = Overlay::new((*maps).clone(), bench.store.next_version());
        let mut txn = Txn::write(&bench.store, &maps, &mut overlay, bench.context);
        let mut replies = Vec::new();
        for (db, line) in lines {
            let requests = request(line);
            let args = requests.get(0);
            let mut out = ReplyWriter::new(Version::V2);
            let command = find(&args).unwrap_or_else(|_| panic!("{line}"));
            match run(&mut txn, *db, command, &args, &mut out).unwrap() {
                Answer::Done => {}
                Answer::Failed(error) => out.error(error.to_string()),
            }
            replies.push(String::from_utf8(out.to_vec()).unwrap());
        }
        assert_eq!(txn.db(), bench.context.db);
        assert_eq!(txn.take_inner().len(), lines.len());
        (replies, overlay)
    }

    #[test]
    fn inner_commands_see_each_other_and_fail_alone() {
        let bench = Bench::new();
        let (replies, overlay) = within_one(
            &bench,
            &[
                (0, "SET a x"),
                (0, "INCR a"),
                (3, "SET a 1"),
                (3, "INCR a"),
                (0, "GET a"),
            ],
        );
        let error = "-ERR value is not an integer or out of range\r\n";
        assert_eq!(
            replies,
            ["+OK\r\n", error, "+OK\r\n", ":2\r\n", "$1\r\nx\r\n"]
        );
        assert_eq!(overlay.events.len(), 5);
    }

    #[test]
    fn what_a_script_keeps_from_replicas_ends_with_the_script() {
        let mut bench = Bench::new();
        bench.context.recorded = true;
        let lines = [(0, "EVAL redis.set_repl(0) 0"), (0, "SET a 1")];
        let (replies, overlay) = within_one(&bench, &lines);
        assert_eq!(replies, ["$-1\r\n", "+OK\r\n"]);
        let mut told = Vec::new();
        overlay.tape.write(&mut Some(0), &mut told);
        assert_eq!(told, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n");
    }

    #[test]
    fn what_is_no_inner_command_says_why() {
        let line = |line: &str| {
            let requests = request(line);
            let args = requests.get(0);
            let refusal = find(&args).err().expect("it is refused");
            String::from_utf8(refusal.line(&args)).unwrap()
        };
        assert_eq!(
            line("GET"),
            "ERR wrong number of arguments for 'get' command"
        );
        assert_eq!(
            line("NOPE x"),
            "ERR unknown command 'NOPE', with args beginning with: 'x' "
        );
        assert_eq!(
            line("CONFIG NOPE"),
            "ERR unknown subcommand 'NOPE'. Try CONFIG HELP."
        );
        assert_eq!(line("PING"), "ERR 'ping' cannot run here");
    }

    #[test]
    fn a_write_does_not_run_within_a_read() {
        let bench = Bench::new();
        let maps = bench.store.maps();
        let mut txn = Txn::read(&bench.store, &maps, bench.context);
        let requests = request("SET a 1");
        let args = requests.get(0);
        let command = find(&args).ok().unwrap();
        let answer = run(&mut txn, 0, command, &args, &mut ReplyWriter::default()).unwrap();
        assert!(matches!(answer, Answer::Failed(_)));
    }
}
