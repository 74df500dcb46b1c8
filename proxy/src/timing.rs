//! What the commands of this proxy's clients took: SLOWLOG and LATENCY.
//!
//! A command is timed from where it is routed to its last reply, as its client
//! saw it, but for the time that it waited for its keys (BLPOP). One entry a
//! command, as the client sent it, whatever it was cut into and wherever it was
//! sent. The clocks are those of turns: of the client's own when it begins, of
//! the link's when it ends, so that nothing here asks for the time once a
//! command.

use crate::config::Settings;
use crate::net::{ClientInfo, Connection, Thread};
use bytes::Bytes;
use cairn_protocol::command::{ArgList, COUNT, CommandSpec, id};
use cairn_protocol::resp::{Args, number::parse_i64};
use cairn_protocol::timing::{
    CommandStats, LatencyMonitor, SlowLog, latency_reply, slow_log_reply,
};

/// What all threads keep together.
pub(crate) struct Timing {
    slow_log: SlowLog,
    latency: LatencyMonitor,
    /// By `CommandId::index`.
    commands: Vec<CommandStats>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            slow_log: SlowLog::default(),
            latency: LatencyMonitor::default(),
            commands: (0..COUNT).map(|_| CommandStats::default()).collect(),
        }
    }
}

impl Timing {
    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.commands.iter().for_each(CommandStats::clear);
    }

    pub fn commands(&self) -> &[CommandStats] {
        &self.commands
    }
}

/// When a command is one to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// `slowlog-log-slower-than`: microseconds; -1: nothing is slow.
    pub slower_than: i64,
    /// `slowlog-max-len`.
    pub slow_log_len: usize,
    /// `latency-monitor-threshold`: milliseconds; 0: nothing is a spike.
    pub spike_ms: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            slower_than: 10_000,
            slow_log_len: 128,
            spike_ms: 0,
        }
    }
}

impl Thresholds {
    fn is_slow(&self, micros: u64) -> bool {
        self.slower_than >= 0 && micros >= self.slower_than as u64
    }
}

/// A command that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    spec: &'static CommandSpec,
    /// Microseconds of the thread.
    began: u64,
    /// When its node said that it waits for its keys.
    waits_since: Option<u64>,
}

impl Timed {
    pub fn new(spec: &'static CommandSpec, began: u64) -> Self {
        Self {
            spec,
            began,
            waits_since: None,
        }
    }

    /// From now on it waits for its keys.
    pub fn waits(&mut self, now: u64) {
        self.waits_since.get_or_insert(now);
    }
}

/// A command that has its whole reply.
pub(crate) struct Finished {
    pub timed: Timed,
    /// The reply is an error.
    pub failed: bool,
    /// The command as it came, if what was sent is another.
    pub wire: Option<Bytes>,
}

/// Takes in a command that has just been answered by nodes; `sent` is what one
/// of them was sent.
pub(crate) fn finished(thread: &Thread, client: &ClientInfo, done: Finished, sent: &Bytes) {
    let Finished {
        timed,
        failed,
        wire,
    } = done;
    let end = timed.waits_since.unwrap_or_else(|| thread.turn_us());
    let micros = end.saturating_sub(timed.began);
    thread.tally(timed.spec, micros * 1000, failed);
    let thresholds = thread.thresholds();
    let timing = &thread.shared.timing;
    timing
        .latency
        .note_command(timed.spec, micros / 1000, thresholds.spike_ms);
    if !thresholds.is_slow(micros) {
        return;
    }
    let wire = wire.as_ref().unwrap_or(sent);
    let words = match timed.spec.id {
        // What was sent is the whole transaction.
        id::EXEC => vec![&b"exec"[..]],
        _ => words(wire).unwrap_or_default(),
    };
    if !words.is_empty() {
        note_slow(timing, thresholds, client, timed.spec, &words, micros);
    }
}

/// Takes in a command that was answered here, in so many nanoseconds.
pub(crate) fn answered(to: &Connection, spec: &CommandSpec, args: Args<'_>, nanos: u64) {
    let reply = to.reply.segments().next();
    let failed = reply.is_some_and(|reply| reply.first() == Some(&b'-'));
    to.thread.tally(spec, nanos, failed);
    let thresholds = to.settings.thresholds;
    let timing = &to.thread.shared.timing;
    timing
        .latency
        .note_command(spec, nanos / 1_000_000, thresholds.spike_ms);
    let micros = nanos / 1000;
    if thresholds.is_slow(micros) {
        note_slow(timing, thresholds, &to.client.info, spec, &args, micros);
    }
}

fn note_slow<A: ArgList + ?Sized>(
    timing: &Timing,
    thresholds: Thresholds,
    client: &ClientInfo,
    spec: &CommandSpec,
    args: &A,
    micros: u64,
) {
    let name = client.labels.lock().name.clone();
    let whose = (client.address.as_str(), &name[..]);
    let most = thresholds.slow_log_len;
    timing.slow_log.note(spec, args, micros, most, whose);
}

/// The arguments of a command out of its bytes, which are not copied.
fn words(wire: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut rest) = header(wire, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (len, word) = header(rest, b'$')?;
        words.push(word.get(..len)?);
        rest = word.get(len + 2..)?;
    }
    Some(words)
}

/// The number of a line `*N` or `$N`, and what follows it.
fn header(bytes: &[u8], kind: u8) -> Option<(usize, &[u8])> {
    let line = bytes.strip_prefix(&[kind])?;
    let end = line.iter().take(24).position(|byte| *byte == b'\r')?;
    let number = usize::try_from(parse_i64(&line[..end])?).ok()?;
    Some((number, line.get(end + 2..)?))
}

/// SLOWLOG and LATENCY; false for other commands.
pub(crate) fn answer(to: &mut Connection, spec: &CommandSpec, args: Args<'_>) -> bool {
    let timing = &to.thread.shared.timing;
    let most = to.settings.thresholds.slow_log_len;
    let out = &mut to.reply;
    let done = if spec.name.starts_with("slowlog|") {
        slow_log_reply(&timing.slow_log, most, (spec, &args), out)
    } else if spec.name.starts_with("latency|") {
        // What this thread has not added up yet belongs to it.
        to.thread.settle_tally();
        let threshold = to.settings.thresholds.spike_ms;
        let asked = (spec, &args);
        latency_reply(&timing.latency, &timing.commands, threshold, asked, out)
    } else {
        return false;
    };
    if let Err(line) = done {
        to.reply.error(line.as_bytes());
    }
    true
}

/// The parameters of this file, as CONFIG GET shows them.
pub(crate) fn parameters(settings: &Settings) -> [(&'static str, String); 3] {
    let Thresholds {
        slower_than,
        slow_log_len,
        spike_ms,
    } = settings.thresholds;
    [
        ("latency-monitor-threshold", spike_ms.to_string()),
        ("slowlog-log-slower-than", slower_than.to_string()),
        ("slowlog-max-len", slow_log_len.to_string()),
    ]
}

/// Sets one of them as CONFIG SET does; `None`: it is another.
///
/// # Errors
/// What is wrong with the value, in Redis's words.
pub(crate) fn set_parameter(
    settings: &mut Settings,
    name: &str,
    value: &str,
) -> Option<Result<(), String>> {
    let least = match name {
        "slowlog-log-slower-than" => -1,
        "slowlog-max-len" | "latency-monitor-threshold" => 0,
        _ => return None,
    };
    let Some(number) = parse_i64(value.as_bytes()) else {
        return Some(Err("argument couldn't be parsed into an integer".into()));
    };
    if number < least {
        let most = i64::MAX;
        let line = format!("argument must be between {least} and {most} inclusive");
        return Some(Err(line));
    }
    let thresholds = &mut settings.thresholds;
    match name {
        "slowlog-log-slower-than" => thresholds.slower_than = number,
        "slowlog-max-len" => thresholds.slow_log_len = number as usize,
        _ => thresholds.spike_ms = number as u64,
    }
    Some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_out_of_its_bytes() {
        let wire = b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n";
        assert_eq!(words(wire), Some(vec![&b"GET"[..], b""]));
        for cut in 0..wire.len() {
            assert_eq!(words(&wire[..cut]), None, "{cut}");
        }
        assert_eq!(words(b"*9999999999999\r\n$1\r\nx\r\n"), None);
    }

    #[test]
    fn the_time_in_wait_of_keys_does_not_count() {
        let mut timed = Timed::new(id::BLPOP.spec(), 100);
        timed.waits(130);
        timed.waits(900);
        assert_eq!(timed.waits_since, Some(130));
    }
}
