//! Starting and stopping a process: what runs, in which order it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::announce::Announcer;
use crate::config::{Config, LiveSettings};
use crate::data_dir::{DataDir, Owner};
use crate::eviction;
use crate::group::commit::{WalSink, sweep_payload, sync_thread};
use crate::group::{Group, expiry};
use crate::logging::lifecycle;
use crate::net;
use crate::replication::{dump_file, follow};
use crate::server::{Home, Server};
use crate::storage::generations::GenerationMap;
use crate::storage::{MemoryPlan, Resources, Store};
use crate::upkeep;

/// Runs what the configuration says: a standalone server or a node.
pub fn start(mut config: Config) -> anyhow::Result<()> {
    let folder = config.settings.text("dir");
    if !config.settings.is_default("dir") {
        std::env::set_current_dir(&folder).with_context(|| format!("cannot enter dir {folder}"))?;
    }
    config.data_dir = std::path::absolute(&config.data_dir)?;
    let owner = match &config.cluster {
        None => Owner::Standalone,
        Some(c) => Owner::Node {
            cluster: c.name.clone(),
            node_id: c.node_id.clone(),
        },
    };
    cairn_protocol::descriptors::raise_limit();
    let data_dir = DataDir::open(&config.data_dir, owner)?;
    config.renames.clone().install();
    let pid_file = PidFile::write(&config.settings.text("pidfile"));
    for (name, why) in config.settings.without_effect() {
        tracing::info!("{name} has no effect: {why}");
    }
    lifecycle!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        data_dir = %config.data_dir.display(),
        memory_limit = config.memory_limit,
        io_threads = config.io_threads,
        "starting"
    );
    let ended = match config.cluster {
        None => standalone(config),
        Some(_) => crate::cluster::start::run(config, &data_dir.id),
    };
    drop(pid_file);
    ended
}

/// What scripts that start Redis look for.
fn show_banner(config: &Config) {
    let mode = match config.cluster {
        Some(_) => "cluster",
        None => "standalone",
    };
    println!(
        "Cairn {} {} bit\n  Running in {mode} mode\n  Port: {}\n  PID: {}",
        env!("CARGO_PKG_VERSION"),
        usize::BITS,
        config.port,
        std::process::id()
    );
}

/// A file with the process's number, removed at the end.
struct PidFile(Option<std::path::PathBuf>);

impl PidFile {
    /// As in Redis, a file that cannot be written is no reason not to start.
    fn write(path: &str) -> PidFile {
        if path.is_empty() {
            return PidFile(None);
        }
        match std::fs::write(path, format!("{}\n", std::process::id())) {
            Ok(()) => PidFile(Some(path.into())),
            Err(error) => {
                tracing::warn!(%error, path, "the pidfile cannot be written");
                PidFile(None)
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Tells what an operator, and a test that starts the server, wait for. Not before:
/// whoever reads the process's number believes that it listens.
pub(crate) fn ready(config: &Config, addresses: &[std::net::SocketAddr]) {
    if config.settings.flag("always-show-logo") {
        show_banner(config);
    }
    // The suites of later Redis releases and of Valkey wait for this line; Redis's clients
    // wait for the next one, some with the star that Redis puts before it.
    lifecycle!("Server initialized");
    for address in addresses {
        lifecycle!(port = address.port(), %address, "* Ready to accept connections");
    }
    let path = config.settings.text("unixsocket");
    if !path.is_empty() {
        lifecycle!(unixsocket = %path, "* Ready to accept connections");
    }
}

/// Runs a standalone server until SIGTERM, SIGINT or SHUTDOWN.
pub fn standalone(config: Config) -> anyhow::Result<()> {
    let live = Arc::new(LiveSettings::new(&config));
    let plan = MemoryPlan::divide(config.memory_limit);
    let resources = Resources::new(plan, 2);
    let path = config.data_dir.join("group-0");
    std::fs::create_dir_all(&path)
        .with_context(|| format!("cannot create the data directory {}", path.display()))?;
    let store = Store::open(&path, &resources, true, GenerationMap::all_slots())
        .context("cannot open the data directory; is another server using it?")?;
    let sink = WalSink::start(live.clone()).context("cannot start the commit thread")?;
    let announcer = Announcer::new(&config.settings);
    let group = Group::new(0, Arc::new(store), Box::new(sink), announcer.clone(), None);
    group.follow(&live);
    let server = Arc::new(Server::new(
        config,
        live.clone(),
        Home::Standalone(group.clone()),
        announcer,
    ));
    server.load_users()?;
    crate::scripting::attach(&server);
    crate::scripting::open(&server.config.data_dir)?;
    follow::recover(&server)?;
    if !server.following.is_on() {
        dump_file::import(&server)?;
    }
    let background = Background::start(&server, &group, &live)?;
    let network = net::start(&server)?;
    server.set_listening_port(network.addresses.first().map_or(0, |a| a.port()));
    server.show_title(&server.settings.lock());
    ready(&server.config, &network.addresses);
    stop_on_signals(&server)?;
    network.join();
    background.stop();
    group
        .store
        .flush()
        .context("the last flush failed; the log has everything")?;
    group.store.quiesce();
    lifecycle!("stopped: ready to exit, bye bye");
    Ok(())
}

/// The threads behind a group.
struct Background {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    server: Arc<Server>,
}

impl Background {
    fn start(
        server: &Arc<Server>,
        group: &Arc<Group>,
        live: &Arc<LiveSettings>,
    ) -> std::io::Result<Background> {
        let stop = Arc::new(AtomicBool::new(false));
        let expiry = {
            let (group, stop) = (group.clone(), stop.clone());
            spawn("expiry", move || {
                sweep_payload(&group.store);
                expiry::run(&group, &stop);
            })?
        };
        upkeep::measure_startup(&server.vitals);
        let upkeep = {
            let (server, stop) = (server.clone(), stop.clone());
            spawn("vitals", move || upkeep::run(&server, &stop))?
        };
        let sync = {
            let (group, live, stop) = (group.clone(), live.clone(), stop.clone());
            spawn("sync", move || sync_thread(&group, &live, &stop))?
        };
        let eviction = {
            let (server, stop) = (server.clone(), stop.clone());
            spawn("eviction", move || eviction::run(&server, &stop))?
        };
        let follow = {
            let server = server.clone();
            spawn("follow", move || follow::run(&server))?
        };
        Ok(Background {
            stop,
            threads: vec![expiry, sync, upkeep, eviction, follow],
            server: server.clone(),
        })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.server.following.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a background thread panicked");
            }
        }
    }
}

pub(crate) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

/// SIGTERM and SIGINT stop the server as SHUTDOWN does.
pub(crate) fn stop_on_signals(server: &Arc<Server>) -> std::io::Result<()> {
    let server = server.clone();
    spawn("signals", move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut term), Ok(mut int)) = (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
            ) else {
                return;
            };
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                () = server.stopped() => return,
            }
            lifecycle!("a signal asks to stop");
            server.request_stop();
        });
    })?;
    Ok(())
}
