//! The file `dump.rdb`: the data set in Redis's form, written by SAVE and BGSAVE
//! for whoever wants it, and read when DEBUG RELOAD asks for it, or at a start with
//! an empty data directory: the way in for the data of a redis-server.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use super::begin::Part;
use super::export::{Transfer, aux_fields};
use super::restore::Restorer;
use super::snapshot::Contents;
use crate::group::Group;
use crate::rdb::file::{FileReader, Item};
use crate::scripting::{self, registry::Asker};
use crate::server::{Home, Server};
use crate::storage::{Held, Pin};

/// Between two looks at compactions that must end first.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One writes the file at a time.
static WRITING: Mutex<()> = Mutex::new(());

/// Writes the file anew: whole, or not at all. Blocks.
///
/// # Errors
/// It cannot be written, or the data not be read.
pub(crate) fn save(server: &Arc<Server>) -> io::Result<()> {
    let Home::Standalone(group) = &server.home else {
        return Ok(());
    };
    let _one = WRITING.lock();
    let path = path(server);
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = write(server, group, &unfinished);
    let written = written.and_then(|()| std::fs::rename(&unfinished, &path));
    if written.is_err() {
        // Perhaps it was never made.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

fn write(server: &Server, group: &Arc<Group>, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let transfer = Transfer {
        parts: vec![Part {
            group: group.id,
            slots: Vec::new(),
            pin: pin(group)?,
            context: group.context(0, None, group.now(), true),
        }],
        libraries: scripting::libraries(),
        contents: Contents::default(),
        aux: aux_fields(&server.replication_id(), server.announcer.feed.offset()),
        mark: None,
        spool_in: PathBuf::new(),
    };
    transfer.write(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()
}

/// Pins the data set as it is now.
fn pin(group: &Arc<Group>) -> io::Result<Pin> {
    let hold = group.store.hold_garbage(Held::Everything);
    while hold.is_pending() {
        std::thread::sleep(LOOK_EVERY);
    }
    let (done, pinned) = mpsc::sync_channel(1);
    let store = group.store.clone();
    group.between_entries(Box::new(move || {
        // A receiver that is gone does not want it.
        let _ = done.send(Pin::new(&store, hold));
    }));
    pinned.recv().map_err(io::Error::other)
}

fn path(server: &Server) -> PathBuf {
    PathBuf::from(server.settings.lock().text("dbfilename"))
}

/// There while the file is being loaded at a start: what is in the store is a part.
const MARKER: &str = "importing";

/// At a start: loads the file, if there is one and the data directory is empty.
///
/// # Errors
/// It cannot be read. The next start begins with it again.
pub(crate) fn import(server: &Arc<Server>) -> anyhow::Result<()> {
    let Home::Standalone(group) = &server.home else {
        return Ok(());
    };
    let (path, marker) = (path(server), server.config.data_dir.join(MARKER));
    let interrupted = marker.exists();
    let is_new = group.store.position().index == 0;
    if !(interrupted || is_new && path.exists()) {
        return Ok(());
    }
    let what = format!(
        "the data directory is empty, and {} cannot be loaded",
        path.display()
    );
    let what = || format!("{what}; repair or remove that file, then start again");
    File::create(&marker)?.sync_all()?;
    let failed = |why: String| {
        tracing::error!(why, "Fatal error loading the DB. Exiting.");
        anyhow::Error::msg(why).context(what())
    };
    if interrupted {
        super::empty(group).map_err(failed)?;
    }
    tracing::info!(path = %path.display(), "the data directory is empty: loading an RDB file");
    load(server, false).map_err(failed)?;
    crate::saves::flush_all(server).map_err(failed)?;
    std::fs::remove_file(&marker)?;
    tracing::info!(keys = group.key_count(), "DB loaded from disk");
    Ok(())
}

/// Reads the file and restores what it holds. Blocks.
/// `merge`: what is there already is replaced, else it is an error.
///
/// # Errors
/// It cannot be read, or something is there already.
pub(crate) fn load(server: &Arc<Server>, merge: bool) -> Result<(), String> {
    let Home::Standalone(group) = &server.home else {
        return Err("a node of a cluster loads no RDB file".to_owned());
    };
    let file = File::open(path(server)).map_err(|e| e.to_string())?;
    let mut reader = FileReader::open(BufReader::new(file)).map_err(|e| e.to_string())?;
    let mut batch = Restorer::own(group, merge);
    while let Some(item) = reader.next_item().map_err(|e| e.to_string())? {
        match item {
            Item::Database(db) => batch.select(db)?,
            Item::Function(code) => {
                scripting::load_library(&code, merge, Asker::Once)?;
            }
            Item::Key {
                name,
                expires_at,
                payload,
            } => batch.restore(&name, expires_at, &payload)?,
        }
    }
    batch.flush()
}
