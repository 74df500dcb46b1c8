//! How answers look: tables for people, JSON for programs.

mod table;

use std::io::{IsTerminal, Write};

use serde::Serialize;

pub use table::Table;

/// Prints answers in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    /// JSON, one value a line.
    pub json: bool,
}

impl Printer {
    /// Prints a value as JSON, or its text for people.
    pub fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.json {
            true => self.line(&serde_json::to_string(value).expect("answers are plain data")),
            false => self.line(text(value).trim_end()),
        }
    }

    /// Prints a line for people; nothing with `--json`.
    pub fn say(self, text: &str) {
        if !self.json {
            self.line(text);
        }
    }

    /// A reader that went away (`| head`) is no reason to fail.
    fn line(self, text: &str) {
        let mut out = std::io::stdout();
        let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Whether a person is watching: progress bars and questions make sense.
    pub fn is_interactive(self) -> bool {
        !self.json && std::io::stdout().is_terminal()
    }
}
