//! From thousands of commands to the few that a difference needs.

use super::{Difference, Sides, Unit, contents, show};

/// Attempts to leave something out: each replays what is left on both servers.
const ATTEMPTS: usize = 400;
const SHOWN: usize = 25;
const BATCH: usize = 64;

/// The shortest list found whose end still differs, as text.
pub fn explain(sides: &mut Sides, history: Vec<Unit>, stored: bool) -> String {
    let Some((units, difference)) = shortest(sides, history.clone(), stored) else {
        let from = history.len().saturating_sub(SHOWN);
        return format!(
            "not seen again on replaying the last {} units; the last of them:\n{}",
            history.len(),
            lines(&history[from..])
        );
    };
    format!(
        "the shortest way there:\n{}\nwhere the last differs so:\n{}",
        lines(&units),
        difference.text
    )
}

fn shortest(
    sides: &mut Sides,
    history: Vec<Unit>,
    stored: bool,
) -> Option<(Vec<Unit>, Difference)> {
    let (mut units, mut difference) = shortest_end(sides, history, stored)?;
    let mut attempts = 0;
    let mut size = units.len().div_ceil(2);
    while attempts < ATTEMPTS {
        let mut shrunk = false;
        let mut from = 0;
        while from < units.len() && attempts < ATTEMPTS {
            attempts += 1;
            let to = (from + size).min(units.len());
            let rest = [&units[..from], &units[to..]].concat();
            match replay(sides, &rest, stored) {
                Some((count, found)) => {
                    units = rest[..count].to_vec();
                    difference = found;
                    shrunk = true;
                }
                None => from = to,
            }
        }
        if size == 1 && !shrunk {
            break;
        }
        size = size.div_ceil(2).max(1);
    }
    Some((units, difference))
}

/// The difference is mostly of the last few commands: try short ends first.
fn shortest_end(
    sides: &mut Sides,
    history: Vec<Unit>,
    stored: bool,
) -> Option<(Vec<Unit>, Difference)> {
    let mut length = 8;
    loop {
        let from = history.len().saturating_sub(length);
        let end = &history[from..];
        if let Some((count, difference)) = replay(sides, end, stored) {
            return Some((end[..count].to_vec(), difference));
        }
        if from == 0 {
            return None;
        }
        length *= 4;
    }
}

/// Sends the units to both, which begin empty; the number of units up to the first
/// difference.
fn replay(sides: &mut Sides, units: &[Unit], stored: bool) -> Option<(usize, Difference)> {
    sides.start_over();
    let mut done = 0;
    for batch in units.chunks(BATCH) {
        let differences = sides.send(batch);
        let mut differences = differences.into_iter();
        for unit in batch {
            done += 1;
            let found = differences.by_ref().take(unit.len()).flatten().next();
            if let Some(text) = found {
                let name = String::new();
                return Some((
                    done,
                    Difference {
                        name,
                        text,
                        stored: false,
                    },
                ));
            }
        }
    }
    match stored {
        true => contents::difference(sides).map(|difference| (units.len(), difference)),
        false => None,
    }
}

fn lines(units: &[Unit]) -> String {
    let lines: Vec<String> = units
        .iter()
        .flatten()
        .map(|step| format!("  {}", show(&step.words)))
        .collect();
    lines.join("\n")
}
