//! One data set on its way: made on a thread that may wait for the disk, in
//! pieces, so that whoever sends them decides how fast.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use super::begin::Part;
use super::snapshot::{Contents, SnapshotWriter};
use crate::commands::connection::REDIS_VERSION;
use crate::memory;
use crate::scripting::registry::Libraries;

/// Bytes of a piece that is read back from a file.
const PIECE: usize = 64 << 10;

/// So many replicas are sent the data set at a time; others wait.
pub(crate) static TRANSFERS: Semaphore = Semaphore::const_new(4);

/// See the module's documentation.
pub(crate) struct Transfer {
    pub parts: Vec<Part>,
    pub libraries: Arc<Libraries>,
    pub contents: Contents,
    pub aux: Vec<(&'static str, String)>,
    /// 40 letters that end it, for receivers that need no length; else it is
    /// written to a file first.
    pub mark: Option<String>,
    pub spool_in: PathBuf,
}

impl Transfer {
    /// Makes it and hands its pieces over, the line with its length or its mark
    /// first. Blocks.
    ///
    /// # Errors
    /// The data cannot be read, the file not written, or the receiver is gone.
    pub fn run(self, pieces: &Sender<io::Result<Bytes>>) -> io::Result<()> {
        let mut out = Pieces(pieces);
        match self.mark.clone() {
            Some(mark) => {
                out.write_all(format!("$EOF:{mark}\r\n").as_bytes())?;
                self.write(&mut out)?;
                out.write_all(mark.as_bytes())
            }
            None => {
                let mut file = spool_file(&self.spool_in)?;
                let mut spool = BufWriter::new(&mut file);
                self.write(&mut spool)?;
                spool.flush()?;
                drop(spool);
                let len = file.stream_position()?;
                file.seek(SeekFrom::Start(0))?;
                out.write_all(format!("${len}\r\n").as_bytes())?;
                out.copy_from(&mut file)
            }
        }
    }

    /// Writes the file itself; what was pinned is let go.
    pub fn write(self, out: &mut impl Write) -> io::Result<()> {
        let writer = SnapshotWriter::new(out);
        writer.write(self.parts, &self.libraries, self.contents, &self.aux)
    }
}

/// Makes the keys of a file, without its head and tail, and hands their pieces over.
/// Blocks.
///
/// # Errors
/// The data cannot be read, or the receiver is gone.
pub(crate) fn run_keys(parts: Vec<Part>, pieces: &Sender<io::Result<Bytes>>) -> io::Result<()> {
    SnapshotWriter::new(&mut Pieces(pieces)).write_keys(parts)
}

/// What a file says about itself.
pub(crate) fn aux_fields(replication_id: &str, offset: u64) -> Vec<(&'static str, String)> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    vec![
        ("redis-ver", REDIS_VERSION.to_owned()),
        ("redis-bits", usize::BITS.to_string()),
        ("ctime", now.as_secs().to_string()),
        ("used-mem", memory::usage().allocated.to_string()),
        ("repl-id", replication_id.to_owned()),
        ("repl-offset", offset.to_string()),
        ("aof-base", "0".to_owned()),
    ]
}

/// A file without a name: it is gone when it is closed, however that comes.
fn spool_file(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("snapshot-{number}.tmp"));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Writes into a channel.
struct Pieces<'a>(&'a Sender<io::Result<Bytes>>);

impl Pieces<'_> {
    fn copy_from(&mut self, file: &mut File) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let n = file.read(&mut piece)?;
            if n == 0 {
                return Ok(());
            }
            self.write_all(&piece[..n])?;
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        let sent = self.0.blocking_send(Ok(piece));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
