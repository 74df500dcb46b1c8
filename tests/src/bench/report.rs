//! The tables and the CSV that `cairn-bench` prints, and its verdicts.

use std::fmt::Write;
use std::path::Path;

use crate::bench::cells::Figures;

/// A line of the report: one figure of ours against its peer's.
#[derive(Clone, Debug)]
pub struct Line {
    pub section: &'static str,
    pub cell: String,
    pub figure: &'static str,
    pub ours: f64,
    pub peer: f64,
    /// The goal for `ours / peer`.
    pub goal: Option<Goal>,
}

#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn met(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(bound) => ratio >= bound,
            Goal::AtMost(bound) => ratio <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Goal::AtLeast(bound) => format!(">= {bound:.2}"),
            Goal::AtMost(bound) => format!("<= {bound:.2}"),
        }
    }
}

impl Line {
    pub fn ratio(&self) -> f64 {
        self.ours / self.peer.max(f64::MIN_POSITIVE)
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            None => "",
            Some(goal) if goal.met(self.ratio()) => "ok",
            Some(_) => "MISSED",
        }
    }
}

#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Adds and prints one line.
    pub fn add(&mut self, line: Line) {
        if self
            .lines
            .last()
            .is_none_or(|last| last.section != line.section)
        {
            println!("\n{}", line.section);
            println!(
                "  {:<26} {:<16} {:>12} {:>12} {:>7}  goal",
                "cell", "figure", "cairn", "peer", "ratio"
            );
        }
        println!("  {}", render(&line));
        self.lines.push(line);
    }

    /// The four figures of a redis-benchmark cell, with goals for rps and p99.
    pub fn add_cell(
        &mut self,
        section: &'static str,
        cell: &str,
        ours: Figures,
        peer: Figures,
        goals: (Option<Goal>, Option<Goal>),
    ) {
        let figures = [
            (
                "rps",
                ours.requests_per_second,
                peer.requests_per_second,
                goals.0,
            ),
            ("p50 ms", ours.p50_ms, peer.p50_ms, None),
            ("p99 ms", ours.p99_ms, peer.p99_ms, goals.1),
            ("cpu us/op", ours.cpu_us, peer.cpu_us, None),
        ];
        for (figure, ours, peer, goal) in figures {
            self.add(Line {
                section,
                cell: cell.to_owned(),
                figure,
                ours,
                peer,
                goal,
            });
        }
    }

    /// Whether every goal is met; says which are not.
    pub fn finish(&self) -> bool {
        let missed: Vec<&Line> = self
            .lines
            .iter()
            .filter(|line| line.verdict() == "MISSED")
            .collect();
        let goals = self.lines.iter().filter(|line| line.goal.is_some()).count();
        println!("\n{} of {goals} goals met", goals - missed.len());
        for line in &missed {
            println!("  missed: {} | {}", line.section, render(line));
        }
        missed.is_empty()
    }

    pub fn write_csv(&self, path: &Path) {
        let mut text = "section,cell,figure,cairn,peer,ratio,goal,verdict\n".to_owned();
        for line in &self.lines {
            let goal = line.goal.map(Goal::text).unwrap_or_default();
            let Line {
                section,
                cell,
                figure,
                ours,
                peer,
                ..
            } = line;
            let (ratio, verdict) = (line.ratio(), line.verdict());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "\"{section}\",\"{cell}\",\"{figure}\",{ours:.3},{peer:.3},{ratio:.3},\"{goal}\",{verdict}"
            );
        }
        std::fs::write(path, text)
            .unwrap_or_else(|error| panic!("{} is not written: {error}", path.display()));
        println!("figures as CSV: {}", path.display());
    }
}

fn render(line: &Line) -> String {
    let goal = line.goal.map(Goal::text).unwrap_or_default();
    format!(
        "{:<26} {:<16} {:>12.3} {:>12.3} {:>7.2}  {goal:<8} {}",
        line.cell,
        line.figure,
        line.ours,
        line.peer,
        line.ratio(),
        line.verdict()
    )
}
