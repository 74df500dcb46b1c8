//! Runs commands against a store of their own, for tests: evaluates through
//! an overlay, applies the effects, gives back the exact reply.

use std::sync::Arc;

use cairn_protocol::command;
use cairn_protocol::resp::{ReplyWriter, Requests, Version};
use tempfile::TempDir;

use super::{Handler, handler};
use crate::storage::generations::GenerationMap;
use crate::storage::{Header, KeyType, Log, MemoryPlan, Pin, Position, Record, Resources, Store};
use crate::txn::effects::Effects;
use crate::txn::overlay::Overlay;
use crate::txn::{CommandError, Delivery, EventClass, Expiry, Pieces, Txn, TxnContext};
use crate::types::sorted_set::close_wanted;

/// A store with one client. See the module's documentation.
pub(crate) struct Bench {
    pub store: Arc<Store>,
    pub context: TxnContext,
    pub version: Version,
    /// Of the last command or batch: (class, name, database, key).
    pub events: Vec<(EventClass, &'static str, usize, String)>,
    /// Of the last command or batch.
    pub effects: Effects,
    /// What replicas are told of it, if `context` has that recorded.
    pub told: Vec<u8>,
    /// Whether the next batch begins as the writer's does, knowing what only that knows;
    /// otherwise as after a restart.
    pub goes_on: bool,
    /// Whether a batch began as after a restart.
    pub restarted: bool,
    /// Of the last batch, if it goes on.
    overlay: Option<Overlay>,
    index: u64,
    _resources: Arc<Resources>,
    _dir: TempDir,
}

/// Splits a command line at spaces.
pub(super) fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let plan = MemoryPlan {
            record_cache: 1 << 20,
            scan_cache: 1 << 20,
            block_cache: 4 << 20,
            write_buffers: 8 << 20,
            write_buffer: 2 << 20,
        };
        let resources = Resources::new(plan, 2);
        let store = Store::open(dir.path(), &resources, true, GenerationMap::all_slots()).unwrap();
        Bench {
            store: Arc::new(store),
            context: TxnContext {
                db: 0,
                now: 1_000_000_000_000,
                disk: true,
                string_inline_max: 16 << 10,
                max_bulk: 512 << 20,
                seed: 1,
                cluster: false,
                slot_epoch: 0,
                roams: false,
                behind_proxy: false,
                keeps_expired: false,
                expiry: Expiry::Collects,
                may_block: true,
                client: 0,
                events: true,
                misses: false,
                track: false,
                monitored: false,
                recorded: false,
                delivery: Delivery::Whole,
            },
            version: Version::V2,
            events: Vec::new(),
            effects: Effects::default(),
            told: Vec::new(),
            goes_on: true,
            restarted: false,
            overlay: None,
            index: 0,
            _resources: resources,
            _dir: dir,
        }
    }

    /// Runs one command line, split at spaces; the reply as text.
    pub fn run(&mut self, line: &str) -> String {
        let reply = self.run_args(&words(line));
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// Runs one command; the exact reply. A read is run on applied state and
    /// in the writer, which must agree.
    pub fn run_args<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        let written = self
            .run_batch(&[args])
            .pop()
            .expect("one command, one reply");
        match self.read(args) {
            Some(Ok(read)) if self.effects.is_empty() => {
                assert_eq!(
                    read.escape_ascii().to_string(),
                    written.escape_ascii().to_string()
                );
            }
            Some(Err(error)) => assert!(matches!(error, CommandError::NeedsTick), "{error}"),
            _ => {}
        }
        written
    }

    /// Evaluates commands in one batch, then applies it.
    pub fn run_batch<A: AsRef<[u8]>>(&mut self, commands: &[&[A]]) -> Vec<Vec<u8>> {
        let maps = self.store.maps();
        let mut overlay = self.next_overlay();
        let mut replies = Vec::new();
        for args in commands {
            let savepoint = overlay.savepoint();
            let mut txn = Txn::write(&self.store, &maps, &mut overlay, self.context);
            let reply = evaluate(&mut txn, args, self.version).unwrap_or_else(|error| {
                overlay.roll_back(savepoint);
                format!("-{error}\r\n").into_bytes()
            });
            replies.push(reply);
        }
        for set in self.store.wanted.take() {
            close_wanted(&mut overlay, &set, self.context.now);
        }
        self.told.clear();
        overlay.tape.write(&mut Some(0), &mut self.told);
        self.events = std::mem::take(&mut overlay.events)
            .into_iter()
            .map(|e| {
                (
                    e.class,
                    e.name,
                    e.db,
                    String::from_utf8_lossy(&e.key).into_owned(),
                )
            })
            .collect();
        self.apply(overlay);
        replies
    }

    fn next_overlay(&mut self) -> Overlay {
        self.restarted |= !self.goes_on;
        let known = self.overlay.take().filter(|_| self.goes_on);
        let maps = self.store.maps();
        known.unwrap_or_else(|| Overlay::new((*maps).clone(), self.store.next_version()))
    }

    /// Runs something in the writer that changes nothing.
    pub fn look(&mut self, look: impl FnOnce(&mut Txn<'_>)) {
        let maps = self.store.maps();
        let mut overlay = self.next_overlay();
        let savepoint = overlay.savepoint();
        look(&mut Txn::write(
            &self.store,
            &maps,
            &mut overlay,
            self.context,
        ));
        overlay.roll_back(savepoint);
        self.overlay = Some(overlay);
    }

    fn apply(&mut self, mut overlay: Overlay) {
        self.effects = overlay.finish(self.context.now);
        self.overlay = Some(overlay);
        self.index += 1;
        let position = Position {
            index: self.index,
            term: 1,
        };
        self.store
            .apply(&self.effects, position, Log::Wal, true)
            .unwrap();
    }

    /// Makes `name` a packed list, which no command of these files can do.
    pub fn put_list(&mut self, name: &str) {
        let maps = self.store.maps();
        let mut overlay = self.next_overlay();
        let mut txn = Txn::write(&self.store, &maps, &mut overlay, self.context);
        let key = txn.key(name.as_bytes());
        let record = Record::new(&key, &Header::inline(KeyType::List, None), b"x");
        txn.put(&key, record).unwrap();
        self.apply(overlay);
    }

    /// Runs a command on applied state. `None`: it is no read.
    pub fn read<A: AsRef<[u8]>>(&self, args: &[A]) -> Option<Result<Vec<u8>, CommandError>> {
        Some(match self.read_as(args, self.context)? {
            Err(error) if !error.is_retry() => Ok(format!("-{error}\r\n").into_bytes()),
            other => other,
        })
    }

    /// The same under another context, errors as they are.
    pub fn read_as<A: AsRef<[u8]>>(
        &self,
        args: &[A],
        context: TxnContext,
    ) -> Option<Result<Vec<u8>, CommandError>> {
        let spec = command::lookup(args[0].as_ref()).unwrap();
        if !matches!(handler(spec), Some(Handler::Read(_))) {
            return None;
        }
        let maps = self.store.maps();
        let mut txn = Txn::read(&self.store, &maps, context);
        Some(evaluate(&mut txn, args, self.version))
    }

    /// Begins a read whose reply leaves in pieces. `None`: it would not.
    pub fn begin_pieces(&self, args: &[Vec<u8>]) -> Option<(ReplyWriter, Pieces)> {
        let pin = Arc::new(Pin::passing(&self.store).expect("nobody applies anything"));
        let context = TxnContext {
            delivery: Delivery::InPieces,
            ..self.context
        };
        let mut txn = Txn::in_pieces(&pin, context);
        let mut out = ReplyWriter::new(self.version);
        evaluate_into(&mut txn, args, &mut out).unwrap();
        let pieces = txn.take_left()?;
        assert!(pieces.is_intact().unwrap());
        Some((out, pieces))
    }

    /// Names of the events of the last command or batch.
    pub fn event_names(&self) -> Vec<&'static str> {
        self.events.iter().map(|(_, name, _, _)| *name).collect()
    }

    /// Rows in the family `payload`, of any version.
    pub fn payload_rows(&self) -> usize {
        let engine = self.store.engine();
        let rows = engine
            .db
            .iterator_cf(&engine.payload, rocksdb::IteratorMode::Start);
        rows.inspect(|row| assert!(row.is_ok())).count()
    }
}

fn evaluate<A: AsRef<[u8]>>(
    txn: &mut Txn<'_>,
    args: &[A],
    version: Version,
) -> Result<Vec<u8>, CommandError> {
    let mut out = ReplyWriter::new(version);
    evaluate_into(txn, args, &mut out)?;
    Ok(out.to_vec())
}

fn evaluate_into<A: AsRef<[u8]>>(
    txn: &mut Txn<'_>,
    args: &[A],
    out: &mut ReplyWriter,
) -> Result<(), CommandError> {
    let mut requests = Requests::default();
    requests.push_owned(args.iter().map(|arg| arg.as_ref()));
    let args = requests.get(0);
    let command::Resolved::Command(spec) = command::resolve(&args) else {
        panic!("no such command: {args:?}");
    };
    match handler(spec).expect("a command with a handler") {
        Handler::Read(run) | Handler::Write(run) => run(txn, &args, out),
        Handler::Session(_) => panic!("{} is no command on data", spec.name),
    }
}
