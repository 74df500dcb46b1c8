//! `cairn-proxy`: the command line around the library.

use anyhow::Context;
use cairn_proxy::config::Args;
use cairn_proxy::feed::Feed;
use cairn_proxy::{Config, Proxy, RouteMap, Users};
use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Time that clients have at the end to get the answers to what they asked.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    let check = args.check_config;
    let config = Config::load(args)?;
    if check {
        println!("configuration is valid");
        return Ok(());
    }
    start_log(&config)?;
    cairn_protocol::descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(config))
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).context("--log is no filter")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_json {
        true => log.json().init(),
        false => log.init(),
    }
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (routes, receiver) = watch::channel(Arc::new(RouteMap::default()));
    let users = Users::awaited(&config);
    let proxy = Proxy::start(config.clone(), users, receiver)?;
    let port = proxy
        .addresses()
        .first()
        .context("no address to listen on")?
        .port();
    tracing::info!(cluster = %config.cluster, port, threads = config.io_threads, "ready for clients");
    let feed = Feed::start(&config, port).await?;
    // Nothing is lost whichever branch is dropped: the process ends.
    tokio::select! {
        () = feed.run(&proxy, routes) => {}
        _ = terminate.recv() => tracing::info!("SIGTERM: closing down"),
        _ = tokio::signal::ctrl_c() => tracing::info!("SIGINT: closing down"),
    }
    feed.stop().await;
    proxy.stop(GRACE);
    Ok(())
}
