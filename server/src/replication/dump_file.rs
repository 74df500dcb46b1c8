//! The file `dump.rdb`: the data set in Redis's form, written by SAVE and BGSAVE
//! for whoever wants it, and read when DEBUG RELOAD asks for it. Never needed for
//! a start.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use cairn_protocol::resp::Requests;
use parking_lot::Mutex;

use super::begin::Part;
use super::export::{Transfer, aux_fields};
use super::snapshot::Contents;
use crate::group::Group;
use crate::rdb::file::{FileReader, Item};
use crate::scripting;
use crate::server::{Home, Server};
use crate::storage::generations::DATABASES;
use crate::storage::{Held, Pin};

/// Between two looks at compactions that must end first.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Keys that are restored in one batch, and their bytes.
const BATCH_KEYS: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

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

/// Reads the file and restores what it holds. Blocks; needs a runtime's thread.
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
    let mut batch = Batch::new(group, merge);
    while let Some(item) = reader.next_item().map_err(|e| e.to_string())? {
        match item {
            Item::Database(db) => batch.select(db)?,
            Item::Function(code) => {
                scripting::load_library(&code, merge)?;
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

/// RESTOREs on their way to the writer.
struct Batch<'a> {
    group: &'a Arc<Group>,
    merge: bool,
    db: usize,
    requests: Requests,
    bytes: usize,
}

impl Batch<'_> {
    fn new(group: &Arc<Group>, merge: bool) -> Batch<'_> {
        Batch {
            group,
            merge,
            db: 0,
            requests: Requests::default(),
            bytes: 0,
        }
    }

    fn select(&mut self, db: u64) -> Result<(), String> {
        self.flush()?;
        self.db = usize::try_from(db).unwrap_or(usize::MAX);
        match self.db < DATABASES {
            true => Ok(()),
            false => Err(format!("the file has a database {db}, of {DATABASES} here")),
        }
    }

    fn restore(&mut self, name: &[u8], until: Option<u64>, payload: &[u8]) -> Result<(), String> {
        let until = until.unwrap_or(0).to_string();
        let words = [&b"RESTORE"[..], name, until.as_bytes(), payload, b"ABSTTL"];
        let replace = self.merge.then_some(&b"REPLACE"[..]);
        self.requests.push_owned(words.into_iter().chain(replace));
        self.bytes += payload.len();
        match self.requests.len() >= BATCH_KEYS || self.bytes >= BATCH_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.bytes = 0;
        match self.requests.is_empty() {
            true => Ok(()),
            false => self
                .group
                .run_own(self.db, std::mem::take(&mut self.requests)),
        }
    }
}
