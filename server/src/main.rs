//! `cairn-server`: a standalone server, or a node of a cluster.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use cairn_server::config::{Config, Loader, Problem};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's settings: few arenas, since few threads allocate much, and
/// freed pages go back within a second, so that memory stays near the limit.
// SAFETY: jemalloc reads a C string of this name at its start; it is one.
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &std::ffi::CStr =
    c"narenas:4,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true";

/// The configuration cannot be used.
const BAD_CONFIGURATION: u8 = 2;

/// What the command line asks for.
enum Request {
    Help,
    Version,
    Check(Loaded),
    Run(Loaded),
}

struct Loaded {
    config: Config,
    problems: Vec<Problem>,
}

fn main() -> ExitCode {
    match read_arguments(std::env::args().skip(1).collect()) {
        Request::Help => tell(HELP),
        Request::Version => tell(&format!("cairn-server {}\n", env!("CARGO_PKG_VERSION"))),
        Request::Check(loaded) => check(&loaded),
        Request::Run(loaded) if loaded.problems.is_empty() => run(loaded.config),
        Request::Run(loaded) => check(&loaded),
    }
}

fn tell(text: &str) -> ExitCode {
    // A reader that went away needs no message.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Prints every problem, and with a good configuration what it leaves without effect.
fn check(loaded: &Loaded) -> ExitCode {
    for problem in &loaded.problems {
        eprintln!("cairn-server: {problem}");
    }
    if !loaded.problems.is_empty() {
        return ExitCode::from(BAD_CONFIGURATION);
    }
    let notes = loaded.config.settings.without_effect();
    for (name, why) in notes {
        println!("note: {name} has no effect: {why}");
    }
    println!("the configuration is valid");
    ExitCode::SUCCESS
}

fn run(config: Config) -> ExitCode {
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For the operator's eyes even where the log goes elsewhere.
            eprintln!("cairn-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    // Before any thread is started.
    if config.cluster.is_none() && config.settings.flag("set-proc-title") {
        cairn_server::process_title::prepare();
    }
    cairn_server::logging::start(&config.settings)?;
    cairn_server::crash::install(&config.settings.text("logfile"));
    cairn_server::crash::enable(config.settings.flag("crash-log-enabled"));
    cairn_server::run::start(config)
}

/// Takes the program's own words out of the arguments; the rest are settings.
fn read_arguments(arguments: Vec<String>) -> Request {
    let mut file = None;
    let mut check_only = false;
    let mut flags = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    if let Some(first) = arguments.next_if(|first| first == "-" || !first.starts_with('-')) {
        file = Some(PathBuf::from(first));
    }
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Request::Help,
            "-v" | "--version" => return Request::Version,
            "--check-config" => check_only = true,
            "--config" => file = arguments.next().map(PathBuf::from),
            _ => match argument.strip_prefix("--config=") {
                Some(path) => file = Some(PathBuf::from(path)),
                None => flags.push(argument),
            },
        }
    }
    let loaded = load(file, &flags);
    if check_only {
        Request::Check(loaded)
    } else {
        Request::Run(loaded)
    }
}

fn load(file: Option<PathBuf>, flags: &[String]) -> Loaded {
    let mut loader = Loader::default();
    if let Some(path) = &file {
        loader.read_file(path);
    }
    loader.read_flags(flags);
    let mut config = Config::from_settings(&loader.settings);
    config.users = std::mem::take(&mut loader.users);
    config.renames = std::mem::take(&mut loader.renames);
    // Before `dir` changes what a relative path means.
    config.config_file = file
        .filter(|p| p.as_os_str() != "-")
        .map(|p| std::path::absolute(&p).unwrap_or(p));
    let mut problems = loader.problems;
    if problems.is_empty() {
        problems = config.validate();
    }
    Loaded { config, problems }
}

const HELP: &str = "\
cairn-server: a persistent server that speaks Redis's protocol

Usage: cairn-server [FILE] [--SETTING VALUE ...]
       cairn-server --cluster NAME --etcd URL[,URL] --node-id ID --port P --peer-port Q
                    --data-dir D [--advertise HOST[:PORT[:PEER]]] [--zone Z]

  FILE, --config FILE   a configuration in the form of redis.conf; `-` reads the
                        standard input. Flags override it.
  --check-config        tell every problem of the configuration, with its line,
                        and end (exit code 2 if there is any)
  --help, --version

Settings most often given:
  --port PORT           default 6379
  --bind ADDR [...]     default 127.0.0.1; `*` is every address
  --data-dir DIR        default ./data
  --requirepass WORD    clients must AUTH with it
  --appendfsync WHEN    always, everysec (default) or no
  --memory-limit SIZE   caches and memtables, such as 2gb or 40% (default)
  --loglevel LEVEL      debug, verbose, notice (default) or warning

Every setting of a configuration file can be given so; CONFIG GET * and the
file cairn.conf list them. CAIRN_LOG overrides the log level, for example
CAIRN_LOG=json,info.
";
