//! `cluster-admin`: the operator's tool.

use std::process::ExitCode;

use clap::Parser;
use cluster_admin::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cluster_admin::run(cli)
}
