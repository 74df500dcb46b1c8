//! LATENCY: spikes above `latency-monitor-threshold`, and histograms.

use super::{CommandStats, Histogram, LatencyMonitor, Line, Series};
use super::{shown, unix_seconds, with_subcommands};
use crate::command::{self, CommandSpec, help, id};
use crate::resp::{Args, ReplyWriter};
use std::fmt::Write;

/// LATENCY DOCTOR, GRAPH, HELP, HISTOGRAM, HISTORY, LATEST and RESET. `stats`
/// are by `CommandId::index`, `threshold` is `latency-monitor-threshold`.
///
/// # Errors
/// The line that says what is wrong with the arguments.
pub fn reply(
    monitor: &LatencyMonitor,
    stats: &[CommandStats],
    threshold: u64,
    (spec, args): (&CommandSpec, &Args<'_>),
    out: &mut ReplyWriter,
) -> Result<(), Line> {
    match spec.id {
        id::LATENCY_DOCTOR => out.verbatim("txt", diagnosis(&monitor.all(), threshold).as_bytes()),
        id::LATENCY_GRAPH => return graph(monitor, args, out),
        id::LATENCY_HISTOGRAM => histogram(stats, args, out),
        id::LATENCY_HISTORY => history(monitor, args, out),
        id::LATENCY_LATEST => latest(monitor, out),
        id::LATENCY_RESET => reset(monitor, args, out),
        _ => help(out, "LATENCY", HELP),
    }
    Ok(())
}

/// LATENCY GRAPH event
fn graph(monitor: &LatencyMonitor, args: &Args<'_>, out: &mut ReplyWriter) -> Result<(), Line> {
    let event = shown(args.get(2));
    let series = monitor
        .get(&event)
        .ok_or_else(|| format!("ERR No samples available for event '{event}'"))?;
    out.verbatim("txt", draw(&event, &series, unix_seconds()).as_bytes());
    Ok(())
}

/// LATENCY HISTOGRAM [command ...]
///
/// Replies with a map of commands that ran; what is unknown is left out, and a
/// container stands for all its subcommands.
fn histogram(stats: &[CommandStats], args: &Args<'_>, out: &mut ReplyWriter) {
    let specs: Vec<&'static CommandSpec> = match args.len() {
        2 => command::all().collect(),
        _ => args.iter().skip(2).flat_map(with_subcommands).collect(),
    };
    let found: Vec<(&CommandSpec, &Histogram)> = specs
        .into_iter()
        .filter_map(|spec| Some((spec, stats[spec.id.index()].histogram()?)))
        .collect();
    out.map(found.len());
    for (spec, histogram) in found {
        out.bulk(spec.name.as_bytes());
        cumulative(histogram, out);
    }
}

/// LATENCY HISTORY event
fn history(monitor: &LatencyMonitor, args: &Args<'_>, out: &mut ReplyWriter) {
    let series = monitor.get(&shown(args.get(2))).unwrap_or_default();
    out.array(series.samples.len());
    for sample in &series.samples {
        out.array(2);
        out.integer(sample.at as i64);
        out.integer(sample.worst as i64);
    }
}

/// LATENCY LATEST
fn latest(monitor: &LatencyMonitor, out: &mut ReplyWriter) {
    let events = monitor.all();
    out.array(events.len());
    for (event, series) in events {
        let last = series
            .samples
            .back()
            .expect("an event begins with a sample");
        out.array(4);
        out.bulk(event.as_bytes());
        out.integer(last.at as i64);
        out.integer(last.worst as i64);
        out.integer(series.worst as i64);
    }
}

/// LATENCY RESET [event ...]
///
/// Replies with the number of events that were forgotten.
fn reset(monitor: &LatencyMonitor, args: &Args<'_>, out: &mut ReplyWriter) {
    let names = args.iter().skip(2);
    let forgotten = match args.len() {
        2 => monitor.reset(None),
        _ => names.map(|name| monitor.reset(Some(&shown(name)))).sum(),
    };
    out.integer(forgotten as i64);
}

/// Calls, and how many of them took at most so many microseconds: one step an
/// octave, from the first that has any to the one that has all.
fn cumulative(histogram: &Histogram, out: &mut ReplyWriter) {
    let calls = histogram.count();
    let mut steps: Vec<(u64, u64)> = Vec::new();
    for octave in FIRST_OCTAVE..=LAST_OCTAVE {
        let below = match octave {
            LAST_OCTAVE => calls,
            _ => histogram.below_octave(octave),
        };
        let more = below > steps.last().map_or(0, |(_, before)| *before);
        if more {
            steps.push((bound(octave), below));
        }
        if below == calls {
            break;
        }
    }
    out.map(2);
    out.bulk(b"calls");
    out.integer(calls as i64);
    out.bulk(b"histogram_usec");
    out.map(steps.len());
    for (micros, below) in steps {
        out.integer(micros as i64);
        out.integer(below as i64);
    }
}

/// Steps end at 1 µs (1024 ns) and, for all that took longer, at about a second.
const FIRST_OCTAVE: u32 = 10;
const LAST_OCTAVE: u32 = 30;

/// Microseconds shown for an octave of nanoseconds: those of Redis, whose HdrHistogram
/// of two digits has 128 buckets an octave and shows the end of the one in which the
/// octave begins; what takes longer than a second is in its very last bucket.
fn bound(octave: u32) -> u64 {
    let end = match octave {
        LAST_OCTAVE => 1 << LAST_OCTAVE,
        _ => (1 << octave) + (1 << (octave - 7)),
    };
    (end - 1) / 1000
}

/// A line per event, then advice.
fn diagnosis(events: &[(String, Series)], threshold: u64) -> String {
    if events.is_empty() && threshold == 0 {
        return "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis \
                instance. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in \
                order to enable it. If we weren't in a deep space mission I'd suggest to take a \
                look at https://redis.io/topics/latency-monitor.\n"
            .into();
    }
    if events.is_empty() {
        return "Dave, no latency spike was observed during the lifetime of this Redis instance, \
                not in the slightest bit. I honestly think you ought to sit down calmly, take a \
                stress pill, and think things over.\n"
            .into();
    }
    let mut text = "Dave, I have observed latency spikes in this Redis instance. You don't mind \
                    talking about it, do you Dave?\n\n"
        .to_owned();
    for (number, (event, series)) in events.iter().enumerate() {
        let count = series.samples.len() as u64;
        let average = series.samples.iter().map(|s| s.worst).sum::<u64>() / count.max(1);
        let deviations = series.samples.iter().map(|s| s.worst.abs_diff(average));
        let deviation = deviations.sum::<u64>() / count.max(1);
        let first = series.samples.front().map_or(0, |s| s.at);
        let last = series.samples.back().map_or(0, |s| s.at);
        let period = (last - first) as f64 / count.max(1) as f64;
        let _ = writeln!(
            text,
            "{}. {event}: {count} latency spikes (average {average}ms, mean deviation \
             {deviation}ms, period {period:.2} sec). Worst all time event {}ms.",
            number + 1,
            series.worst
        );
    }
    text.push_str(
        "\nI have a few advices for you:\n\n\
         - Check your Slow Log to understand what are the commands you are running which are too \
         slow to execute. Please check https://redis.io/commands/slowlog for more information.\n\
         - INFO cairn shows how often data had to be fetched from the disk (cold_reads, \
         writer_cold_reads); a larger memory-limit makes that rarer.\n",
    );
    text
}

/// Columns and rows of a graph.
const COLUMNS: usize = 80;
const ROWS: u64 = 4;

/// The last samples as columns of `#`, the ages below them.
fn draw(event: &str, series: &Series, now: u64) -> String {
    let worst = || series.samples.iter().map(|s| s.worst);
    let (high, low) = (worst().max().unwrap_or(0), worst().min().unwrap_or(0));
    let mut text = format!(
        "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.worst,
        "-".repeat(COLUMNS)
    );
    let skipped = series.samples.len().saturating_sub(COLUMNS);
    let shown: Vec<_> = series.samples.iter().skip(skipped).collect();
    let height = |worst: u64| (worst - low) * (ROWS * 2 - 1) / (high - low).max(1);
    for row in (0..ROWS).rev() {
        let line: String = shown
            .iter()
            .map(|s| match height(s.worst) {
                h if h > row * 2 => '#',
                h if h == row * 2 => '_',
                _ => ' ',
            })
            .collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push('\n');
    let ages: Vec<String> = shown
        .iter()
        .map(|s| age(now.saturating_sub(s.at)))
        .collect();
    for at in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        let line: String = ages
            .iter()
            .map(|a| a.chars().nth(at).unwrap_or(' '))
            .collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "GRAPH <event>",
    "    Return an ASCII latency graph for the <event> class.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::{Sample, Tally};

    /// As redis-server 7.0.15 shows them.
    #[test]
    fn a_histogram_has_the_bounds_of_redis() {
        let shown: Vec<u64> = (FIRST_OCTAVE..=LAST_OCTAVE).map(bound).collect();
        let redis = [
            1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056, 2113, 4227, 8454, 16_908, 33_816, 67_633,
            135_266, 270_532, 541_065, 1_073_741,
        ];
        assert_eq!(shown, redis);
    }

    #[test]
    fn a_histogram_counts_up_to_the_step_that_has_all() {
        let stats = [CommandStats::default()];
        let mut tally = Tally::default();
        for nanos in [20_000, 100_000, 110_000, 2_500_000_000, 30_000_000_000] {
            tally.ran(&stats, 0, nanos, false);
        }
        tally.settle(&stats);
        let mut out = ReplyWriter::default();
        cumulative(stats[0].histogram().unwrap(), &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert!(
            text.ends_with("*6\r\n:33\r\n:1\r\n:132\r\n:3\r\n:1073741\r\n:5\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_graph_shows_high_low_and_ages() {
        let samples = [(100, 10), (150, 80), (4000, 40)].map(|(at, worst)| Sample { at, worst });
        let series = Series {
            samples: samples.into(),
            worst: 99,
        };
        let text = draw("command", &series, 4005);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "command - high 80 ms, low 10 ms (all time high 99 ms)"
        );
        assert_eq!(lines[1].len(), 80);
        assert_eq!(&lines[2..6], &[" #", " #", " ##", "_##"]);
        assert_eq!(lines[7], "115");
    }

    #[test]
    fn the_doctor_knows_three_states() {
        assert!(diagnosis(&[], 0).starts_with("I'm sorry, Dave"));
        assert!(diagnosis(&[], 5).starts_with("Dave, no latency spike"));
        let series = Series {
            samples: [Sample { at: 1, worst: 7 }].into(),
            worst: 7,
        };
        let text = diagnosis(&[("command".into(), series)], 5);
        assert!(text.contains("1. command: 1 latency spikes (average 7ms, mean deviation 0ms"));
    }
}
