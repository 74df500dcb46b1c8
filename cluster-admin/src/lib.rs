//! The operator's tool of a Cairn cluster.
//!
//! It plans and records in etcd; the nodes execute. Killing it at any moment
//! harms nothing. One file a verb in `verbs`; `playground` starts a whole local
//! cluster; `output` is how answers look; `node_client` asks nodes over RESP.
//!
//! Runs on one thread: the playground's children are bound to the life of the
//! thread that started them.

pub mod cli;
pub mod exit;
pub mod node_client;
pub mod output;
pub mod playground;
pub mod units;
pub mod verbs;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use cli::Cli;

/// Runs the verb and prints what went wrong, if anything did.
pub fn run(cli: Cli) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CAIRN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let json = cli.json;
    match runtime.block_on(verbs::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            if json {
                let line = serde_json::json!({ "error": format!("{error:#}") });
                let _closed = writeln!(std::io::stdout(), "{line}");
            }
            fail(&error)
        }
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let _closed = writeln!(std::io::stderr(), "error: {error:#}");
    exit::FAILED.into()
}
