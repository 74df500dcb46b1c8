//! What the process logs: to the standard error or a file, as text or JSON.
//!
//! The level comes from `loglevel`; `CAIRN_LOG` overrides it, and may name
//! the format and targets: `CAIRN_LOG=json,info,cairn_server::raft=debug`.

use std::fs::File;
use std::sync::OnceLock;

use anyhow::Context;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::config::Settings;

/// The name of the environment variable.
pub const VARIABLE: &str = "CAIRN_LOG";
/// Targets of what an operator wants to see even of a quiet server.
pub const LIFECYCLE: &str = "cairn_server::lifecycle";

/// Logs an event of the server's life at level `info`.
macro_rules! lifecycle {
    ($($what:tt)+) => { tracing::info!(target: $crate::logging::LIFECYCLE, $($what)+) };
}
pub(crate) use lifecycle;

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// What `CAIRN_LOG` says: (filter, format).
fn from_environment() -> (Option<String>, Option<bool>) {
    let Ok(text) = std::env::var(VARIABLE) else {
        return (None, None);
    };
    read_variable(&text)
}

fn read_variable(text: &str) -> (Option<String>, Option<bool>) {
    let words = || text.split(',').map(str::trim).filter(|w| !w.is_empty());
    let json = words().rev().find_map(|w| match w {
        "json" => Some(true),
        "text" => Some(false),
        _ => None,
    });
    let filter: Vec<&str> = words().filter(|w| !matches!(*w, "json" | "text")).collect();
    (Some(filter.join(",")).filter(|f| !f.is_empty()), json)
}

/// The filter that a `loglevel` of Redis means.
fn filter_of(level: &str) -> String {
    match level {
        "debug" => "debug".into(),
        "verbose" => "info".into(),
        "warning" => "warn".into(),
        // `notice`: warnings, and when the server starts, is ready and stops.
        _ => format!("warn,{LIFECYCLE}=info"),
    }
}

/// Starts logging.
///
/// # Errors
/// The log file cannot be opened, or `CAIRN_LOG` cannot be understood.
pub fn start(settings: &Settings) -> anyhow::Result<()> {
    let (filter, json) = from_environment();
    let filter = filter.unwrap_or_else(|| filter_of(&settings.text("loglevel")));
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("`{filter}` is not a log level or filter ({VARIABLE})"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let json = json.unwrap_or(settings.bytes("log-format") == b"json");
    let writer = writer(&settings.text("logfile"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let started = match json {
        true => registry.with(layer.json()).try_init(),
        false => registry
            .with(layer.with_ansi(false).with_target(false))
            .try_init(),
    };
    started.context("logging was started already")?;
    let _ = FILTER.set(handle);
    Ok(())
}

fn writer(path: &str) -> anyhow::Result<BoxMakeWriter> {
    if path.is_empty() {
        return Ok(BoxMakeWriter::new(std::io::stderr));
    }
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot open the log file {path}"))?;
    Ok(BoxMakeWriter::new(std::sync::Mutex::new(file)))
}

/// CONFIG SET loglevel. What `CAIRN_LOG` chose stays.
///
/// # Errors
/// The level cannot be changed.
pub fn set_level(level: &str) -> Result<(), String> {
    if from_environment().0.is_some() {
        return Ok(());
    }
    let filter = EnvFilter::try_new(filter_of(level)).map_err(|e| e.to_string())?;
    match FILTER.get() {
        Some(handle) => handle.reload(filter).map_err(|e| e.to_string()),
        // Nothing is logged in this process (tests).
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_levels_and_format_in_any_order() {
        assert_eq!(read_variable("json"), (None, Some(true)));
        assert_eq!(read_variable("info"), (Some("info".into()), None));
        let got = read_variable("warn, json ,cairn_server::raft=debug");
        assert_eq!(
            got,
            (Some("warn,cairn_server::raft=debug".into()), Some(true))
        );
    }

    #[test]
    fn every_level_is_a_filter() {
        for level in ["debug", "verbose", "notice", "warning"] {
            assert!(EnvFilter::try_new(filter_of(level)).is_ok());
        }
    }
}
