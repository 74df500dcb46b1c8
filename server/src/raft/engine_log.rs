//! The log store on disk, over raft-engine: one append-only file sequence for all
//! groups of a node, so that one sync serves them all.
//!
//! Beside the entries, each group has three small records in the engine's key space,
//! written in the same atomic batch (frozen, see the golden test):
//!
//! ```text
//! "h"  hard state : raft protobuf
//! "c"  membership : conf index u64 BE | raft protobuf
//! "t"  cut        : index u64 BE | term u64 BE
//! ```
//!
//! Traps of raft-engine 0.4.2 that are dealt with here:
//! - `Engine::sync` does nothing (it writes an empty batch, which returns at once), and
//!   a sync inside the engine stops writers meanwhile; so `sync` flushes the newest log
//!   file through a descriptor of our own. The engine syncs a file before it starts the
//!   next one, so the newest is enough.
//! - After a restart, entries that were cut may reappear (the cut command was in a file
//!   since purged); our own "t" record decides, and the cut is repeated.
//! - Purging acts on cuts that may not be on the device yet; see `reclaim`.
//! - It panics when a sync fails; the callers' threads turn that into the fatal path.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use protobuf::Message;
use raft::eraftpb::{ConfState, Entry, HardState};
use raft_engine::{Command, Config, Engine, MessageExt, ReadableSize, RecoveryMode};

use super::log_store::{GroupWrite, LogBatch, LogError, LogPosition, LogState, RaftLogStore};

const HARD_STATE_KEY: &[u8] = b"h";
const CONF_STATE_KEY: &[u8] = b"c";
const CUT_KEY: &[u8] = b"t";

/// Sizes of the log on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLogConfig {
    /// Bytes after which a new log file is begun.
    pub file_bytes: u64,
    /// Bytes of log files above which old ones are given back (not below `file_bytes`).
    pub purge_bytes: u64,
    /// Entries of a batch are LZ4-compressed above this many bytes; 0: never. Costs the
    /// loop thread CPU, so it pays only where the disk is the bottleneck.
    pub compress_above_bytes: u64,
}

impl Default for EngineLogConfig {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            purge_bytes: 256 << 20,
            compress_above_bytes: 0,
        }
    }
}

struct EntryCodec;

impl MessageExt for EntryCodec {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// See the module.
pub struct EngineLog {
    engine: Engine,
    dir: PathBuf,
}

impl EngineLog {
    /// Opens or creates the log in `dir`. The directory is locked against a second
    /// process for as long as the value lives. A torn last write is dropped.
    pub fn open(dir: &Path, config: EngineLogConfig) -> Result<Self, LogError> {
        fs::create_dir_all(dir).map_err(|e| io_error("create", dir, e))?;
        let engine = Engine::open(engine_config(dir, config)?)?;
        sync_dir(dir)?;
        let log = Self {
            engine,
            dir: dir.to_path_buf(),
        };
        log.repeat_lost_cuts()?;
        Ok(log)
    }

    /// Bytes of all log files, as the engine counts them (whole files).
    pub fn disk_bytes(&self) -> u64 {
        self.engine.get_used_size() as u64
    }

    fn repeat_lost_cuts(&self) -> Result<(), LogError> {
        let mut batch = raft_engine::LogBatch::default();
        for group in self.groups()? {
            let cut = self.cut(group)?;
            if self
                .engine
                .first_index(group)
                .is_some_and(|f| f <= cut.index)
            {
                let index = cut.index + 1;
                batch.add_command(group, Command::Compact { index });
            }
        }
        self.engine.write(&mut batch, true)?;
        Ok(())
    }

    fn cut(&self, group: u64) -> Result<LogPosition, LogError> {
        match self.engine.get(group, CUT_KEY) {
            None => Ok(LogPosition::default()),
            Some(bytes) => decode_cut(&bytes).ok_or_else(|| corrupt(group, "cut record")),
        }
    }

    fn check_range(&self, group: u64, from: u64, to: u64) -> Result<(), LogError> {
        let first = self.first_index(group)?;
        if from < first {
            return Err(LogError::Compacted { group, from, first });
        }
        let last = self.last_index(group)?;
        if to > last + 1 {
            let to = to - 1;
            return Err(LogError::BeyondEnd { group, to, last });
        }
        Ok(())
    }

    /// The log file that is being appended to: the one with the highest number.
    fn newest_file(&self) -> io::Result<PathBuf> {
        let mut newest = None;
        for item in fs::read_dir(&self.dir)? {
            let path = item?.path();
            if path.extension().is_some_and(|e| e == "raftlog") {
                newest = newest.max(Some(path));
            }
        }
        newest.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no log file"))
    }
}

impl RaftLogStore for EngineLog {
    fn groups(&self) -> Result<Vec<u64>, LogError> {
        let mut groups = self.engine.raft_groups();
        groups.sort_unstable();
        Ok(groups)
    }

    fn load(&self, group: u64) -> Result<Option<LogState>, LogError> {
        let Some(conf) = self.engine.get(group, CONF_STATE_KEY) else {
            return match self.engine.first_index(group) {
                None => Ok(None),
                Some(_) => Err(corrupt(group, "entries without membership")),
            };
        };
        let (conf_index, conf_state) =
            decode_conf(&conf).ok_or_else(|| corrupt(group, "membership record"))?;
        let hard_state = match self.engine.get(group, HARD_STATE_KEY) {
            None => HardState::default(),
            Some(bytes) => HardState::parse_from_bytes(&bytes)
                .map_err(|e| corrupt(group, &format!("hard state: {e}")))?,
        };
        let cut = self.cut(group)?;
        if let Some(first) = self.engine.first_index(group)
            && first != cut.index + 1
        {
            let what = format!("entries begin at {first}, but were cut at {}", cut.index);
            return Err(corrupt(group, &what));
        }
        Ok(Some(LogState {
            hard_state,
            conf_state,
            conf_index,
            cut,
            last_index: self.last_index(group)?,
        }))
    }

    fn first_index(&self, group: u64) -> Result<u64, LogError> {
        Ok(self.cut(group)?.index + 1)
    }

    fn last_index(&self, group: u64) -> Result<u64, LogError> {
        match self.engine.last_index(group) {
            Some(last) => Ok(last),
            None => Ok(self.cut(group)?.index),
        }
    }

    fn term(&self, group: u64, index: u64) -> Result<u64, LogError> {
        let cut = self.cut(group)?;
        if index == cut.index {
            return Ok(cut.term);
        }
        self.check_range(group, index, index + 1)?;
        match self.engine.get_entry::<EntryCodec>(group, index)? {
            Some(entry) => Ok(entry.term),
            None => Err(corrupt(group, &format!("entry {index} is missing"))),
        }
    }

    fn entries(
        &self,
        group: u64,
        from: u64,
        to: u64,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, LogError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.check_range(group, from, to)?;
        let mut entries = Vec::new();
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.engine
            .fetch_entries_to::<EntryCodec>(group, from, to, Some(max), &mut entries)?;
        Ok(entries)
    }

    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<(), LogError> {
        let mut encoded = raft_engine::LogBatch::with_capacity(batch.writes().len() * 2);
        for (group, write) in batch.drain() {
            encode_write(&mut encoded, group, &write)?;
        }
        self.engine.write(&mut encoded, sync)?;
        Ok(())
    }

    fn sync(&self) -> Result<(), LogError> {
        let path = self
            .newest_file()
            .map_err(|e| io_error("find the newest file of", &self.dir, e))?;
        let file = File::open(&path).map_err(|e| io_error("open", &path, e))?;
        file.sync_data().map_err(|e| io_error("sync", &path, e))
    }

    /// The purge works on what is cut in memory. If the cut itself were lost to a power
    /// cut after its files are gone, the group would be found with a hole; hence the
    /// caller cuts, syncs and reclaims from one thread.
    fn reclaim(&self) -> Result<Vec<u64>, LogError> {
        Ok(self.engine.purge_expired_files()?)
    }
}

fn engine_config(dir: &Path, config: EngineLogConfig) -> Result<Config, LogError> {
    let Some(dir_name) = dir.to_str() else {
        let e = io::Error::new(io::ErrorKind::InvalidInput, "path is not UTF-8");
        return Err(io_error("open", dir, e));
    };
    Ok(Config {
        dir: dir_name.to_owned(),
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        recovery_threads: 2,
        batch_compression_threshold: ReadableSize(config.compress_above_bytes),
        target_file_size: ReadableSize(config.file_bytes),
        purge_threshold: ReadableSize(config.purge_bytes.max(config.file_bytes)),
        ..Config::default()
    })
}

fn encode_write(
    batch: &mut raft_engine::LogBatch,
    group: u64,
    write: &GroupWrite,
) -> Result<(), LogError> {
    batch.add_entries::<EntryCodec>(group, &write.entries)?;
    if let Some(hard_state) = &write.hard_state {
        let bytes = encode_message(group, hard_state)?;
        batch.put(group, HARD_STATE_KEY.to_vec(), bytes)?;
    }
    if let Some((index, conf_state)) = &write.conf_state {
        let mut bytes = index.to_be_bytes().to_vec();
        bytes.extend(encode_message(group, conf_state)?);
        batch.put(group, CONF_STATE_KEY.to_vec(), bytes)?;
    }
    if let Some(cut) = write.cut {
        batch.put(group, CUT_KEY.to_vec(), encode_cut(cut))?;
        let index = cut.index + 1;
        batch.add_command(group, Command::Compact { index });
    }
    Ok(())
}

fn encode_message(group: u64, message: &impl Message) -> Result<Vec<u8>, LogError> {
    message
        .write_to_bytes()
        .map_err(|e| corrupt(group, &format!("cannot encode: {e}")))
}

fn encode_cut(cut: LogPosition) -> Vec<u8> {
    [cut.index.to_be_bytes(), cut.term.to_be_bytes()].concat()
}

fn decode_cut(bytes: &[u8]) -> Option<LogPosition> {
    let (index, term) = bytes.split_at_checked(8)?;
    Some(LogPosition {
        index: u64::from_be_bytes(index.try_into().ok()?),
        term: u64::from_be_bytes(term.try_into().ok()?),
    })
}

fn decode_conf(bytes: &[u8]) -> Option<(u64, ConfState)> {
    let (index, state) = bytes.split_at_checked(8)?;
    let index = u64::from_be_bytes(index.try_into().ok()?);
    Some((index, ConfState::parse_from_bytes(state).ok()?))
}

fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| io_error("sync directory", dir, e))
}

fn io_error(what: &str, path: &Path, source: io::Error) -> LogError {
    LogError::Io {
        what: format!("{what} {}", path.display()),
        source,
    }
}

fn corrupt(group: u64, what: &str) -> LogError {
    LogError::Corrupt {
        group,
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(range: std::ops::Range<u64>, term: u64, bytes: usize) -> Vec<Entry> {
        let make = |index| {
            let data = vec![index as u8; bytes].into();
            Entry {
                index,
                term,
                data,
                ..Entry::default()
            }
        };
        range.map(make).collect()
    }

    fn write(log: &EngineLog, group: u64, entries: Vec<Entry>) {
        let mut batch = LogBatch::default();
        let hard_state = HardState {
            term: entries.last().map_or(0, |e| e.term),
            ..HardState::default()
        };
        batch.push(
            group,
            GroupWrite {
                entries,
                hard_state: Some(hard_state),
                conf_state: Some((0, ConfState::from((vec![1], vec![])))),
                cut: None,
            },
        );
        log.write(&mut batch, true).expect("writes");
        assert!(batch.is_empty());
    }

    fn open(dir: &Path) -> EngineLog {
        EngineLog::open(dir, EngineLogConfig::default()).expect("opens")
    }

    fn cut(index: u64, term: u64) -> LogPosition {
        LogPosition { index, term }
    }

    #[test]
    fn small_records_have_frozen_bytes() {
        let bytes = encode_cut(cut(0x0102, 0x0a0b));
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 10, 11]);
        assert_eq!(decode_cut(&bytes), Some(cut(0x0102, 0x0a0b)));
        assert_eq!(decode_cut(&bytes[..15]), None);
        let conf = [0, 0, 0, 0, 0, 0, 0, 9, 0x08, 1, 0x08, 2, 0x08, 3];
        let expected = ConfState::from((vec![1, 2, 3], vec![]));
        assert_eq!(decode_conf(&conf), Some((9, expected)));
        let mut hard_state = HardState::default();
        (hard_state.term, hard_state.vote, hard_state.commit) = (5, 6, 7);
        let bytes = encode_message(1, &hard_state).expect("encodes");
        assert_eq!(bytes, [0x08, 5, 0x10, 6, 0x18, 7]);
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = open(dir.path());
        assert!(log.load(1).expect("reads").is_none());
        write(&log, 1, entries(1..6, 1, 10));
        write(&log, 2, entries(1..3, 4, 10));
        write(&log, 1, entries(4..5, 2, 10));
        drop(log);
        let log = open(dir.path());
        assert_eq!(log.groups().expect("reads"), [1, 2]);
        let state = log.load(1).expect("reads").expect("there");
        assert_eq!((state.last_index, state.hard_state.term), (4, 2));
        let terms: Vec<_> = (0..=4).map(|i| log.term(1, i).expect("there")).collect();
        assert_eq!(terms, [0, 1, 1, 1, 2]);
        let read = log.entries(1, 1, 5, u64::MAX).expect("reads");
        assert_eq!(read.len(), 4);
        assert_eq!(read[3].data, vec![4u8; 10]);
        assert_eq!(log.entries(1, 1, 5, 20).expect("reads").len(), 1);
        assert!(matches!(
            log.entries(1, 1, 6, 9),
            Err(LogError::BeyondEnd { last: 4, .. })
        ));
    }

    #[test]
    fn a_cut_log_begins_after_the_cut_and_remembers_its_term() {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = open(dir.path());
        write(&log, 1, entries(1..10, 3, 10));
        log.compact_to(1, cut(4, 3)).expect("cuts");
        log.sync().expect("syncs");
        drop(log);
        let log = open(dir.path());
        let state = log.load(1).expect("reads").expect("there");
        assert_eq!((state.cut, state.last_index), (cut(4, 3), 9));
        assert_eq!(log.first_index(1).expect("reads"), 5);
        assert_eq!(log.term(1, 4).expect("kept"), 3);
        assert!(matches!(
            log.term(1, 3),
            Err(LogError::Compacted { first: 5, .. })
        ));
        assert!(matches!(
            log.entries(1, 4, 6, 9),
            Err(LogError::Compacted { .. })
        ));
    }

    #[test]
    fn a_log_can_go_on_after_a_cut_beyond_its_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = open(dir.path());
        write(&log, 1, entries(1..4, 1, 10));
        log.compact_to(1, cut(10, 1)).expect("cuts");
        assert_eq!(log.last_index(1).expect("reads"), 10);
        write(&log, 1, entries(11..13, 2, 10));
        drop(log);
        let log = open(dir.path());
        let state = log.load(1).expect("reads").expect("there");
        assert_eq!((state.cut, state.last_index), (cut(10, 1), 12));
    }

    #[test]
    fn a_torn_last_write_is_dropped_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = open(dir.path());
        write(&log, 1, entries(1..4, 1, 100));
        let mut batch = LogBatch::default();
        for group in [1, 2] {
            let write = GroupWrite {
                entries: entries(if group == 1 { 4..8 } else { 1..5 }, 2, 100),
                ..GroupWrite::default()
            };
            batch.push(group, write);
        }
        log.write(&mut batch, true).expect("writes");
        let path = log.newest_file().expect("there");
        drop(log);
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("opens");
        let length = file.metadata().expect("there").len();
        file.set_len(length - 10).expect("tears");
        let log = open(dir.path());
        assert_eq!(log.last_index(1).expect("reads"), 3);
        assert!(log.load(2).expect("reads").is_none());
        write(&log, 1, entries(4..6, 3, 10));
        assert_eq!(log.last_index(1).expect("reads"), 5);
    }

    #[test]
    fn cut_entries_give_their_space_back_and_stay_cut_after_reopening() {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = EngineLogConfig {
            file_bytes: 64 << 10,
            purge_bytes: 128 << 10,
            ..EngineLogConfig::default()
        };
        let log = EngineLog::open(dir.path(), config).expect("opens");
        write(&log, 2, entries(1..3, 1, 10));
        for first in (1..1000).step_by(10) {
            write(&log, 1, entries(first..first + 10, 1, 1000));
        }
        let before = log.disk_bytes();
        log.compact_to(1, cut(990, 1)).expect("cuts");
        log.sync().expect("syncs");
        log.reclaim().expect("reclaims");
        assert!(
            log.disk_bytes() < before / 4,
            "{} of {before}",
            log.disk_bytes()
        );
        drop(log);
        let log = EngineLog::open(dir.path(), config).expect("opens");
        let state = log.load(1).expect("reads").expect("there");
        assert_eq!((state.cut, state.last_index), (cut(990, 1), 1000));
        assert_eq!(
            log.entries(1, 991, 1001, u64::MAX).expect("reads").len(),
            10
        );
        assert_eq!(log.entries(2, 1, 3, u64::MAX).expect("kept").len(), 2);
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let dir = tempfile::tempdir().expect("temp dir");
        let _log = open(dir.path());
        assert!(EngineLog::open(dir.path(), EngineLogConfig::default()).is_err());
    }
}
