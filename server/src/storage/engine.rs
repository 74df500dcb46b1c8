//! RocksDB as we use it: families, options, handles. All tuning is here.
//!
//! One [`Engine`] per group replica; what must be shared by all replicas of a
//! process (block cache, write buffers) is in [`Resources`].

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    AsColumnFamilyRef, AsRawPtr, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB,
    DBCompressionType, Options, ReadOptions, ReadTier, WriteBufferManager,
};

use super::filter::{DataFilterFactory, MetaFilterFactory};
use super::splice;
use super::view::ViewCell;
use crate::txn::effects::Family;

/// Names of the column families, in handle order. Frozen.
pub const FAMILIES: [&str; 6] = ["meta", "data", "score", "payload", "expiry", "system"];

/// Bits of filter per key: fewer than one look-up in 1,000 of a key that does not
/// exist is told to read a block. With the usual 10 bits it is one in 100 for
/// each file, and every such write leaves the writer, fetches the block on the
/// pool and queues again, which costs more than the bits do, and leaves a block
/// in memory that nobody needs.
const BLOOM_BITS: f64 = 16.0;

/// Parts of `write_buffer`, see [`divide_memtable`].
const MEMTABLE_PARTS: usize = 8;

/// Age at which a file of the last level is compacted by itself, s.
const SECOND_PASS_AFTER_S: u32 = 3600;

/// Memtables of a process that has memory to spare, bytes.
const MOST_WRITE_BUFFERS: usize = 64 << 20;

/// How the process's memory is divided, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    pub record_cache: usize,
    /// Rows of sorted sets; see `scan_cache`.
    pub scan_cache: usize,
    pub block_cache: usize,
    /// All memtables of the process together. Of many small ones RocksDB counts those
    /// that are full as free, so that what a family may have bounds them (`engine`).
    pub write_buffers: usize,
    /// One memtable.
    pub write_buffer: usize,
}

impl MemoryPlan {
    /// Whether more memtables than usual may wait for their flush.
    fn has_room(&self) -> bool {
        self.write_buffers >= MOST_WRITE_BUFFERS
    }

    /// Divides `limit` bytes: a quarter, at most 384 MB, is left to the process
    /// itself (buffers of clients, the allocator's reserve), a tenth, at most
    /// 64 MB, goes to memtables, the rest in halves to records and blocks; an eighth
    /// of the latter half holds rows of sorted sets in place of blocks.
    pub fn divide(limit: usize) -> MemoryPlan {
        let process = (limit / 4).min(384 << 20);
        let write_buffers = (limit / 10).clamp(8 << 20, MOST_WRITE_BUFFERS);
        let rest = limit.saturating_sub(process + write_buffers).max(8 << 20);
        MemoryPlan {
            record_cache: rest / 2,
            scan_cache: rest / 16,
            block_cache: rest / 2 - rest / 16,
            write_buffers,
            write_buffer: (write_buffers / 4).clamp(2 << 20, 16 << 20),
        }
    }
}

/// What all replicas of a process share.
pub struct Resources {
    pub plan: MemoryPlan,
    block_cache: Cache,
    write_buffers: WriteBufferManager,
    /// Threads for flush and compaction.
    background_jobs: i32,
}

impl Resources {
    pub fn new(plan: MemoryPlan, background_jobs: usize) -> Arc<Resources> {
        Arc::new(Resources {
            plan,
            block_cache: Cache::new_hyper_clock_cache(plan.block_cache, 0),
            write_buffers: WriteBufferManager::new_write_buffer_manager(plan.write_buffers, false),
            background_jobs: background_jobs.max(2) as i32,
        })
    }

    /// Bytes now in the block cache.
    pub fn block_cache_usage(&self) -> usize {
        self.block_cache.get_usage()
    }
}

/// A column family's handle; valid as long as the [`Engine`] that holds it.
#[derive(Clone, Copy)]
pub struct FamilyHandle(*mut librocksdb_sys::rocksdb_column_family_handle_t);

// SAFETY: RocksDB's handles may be used from any thread; the engine outlives them.
unsafe impl Send for FamilyHandle {}
unsafe impl Sync for FamilyHandle {}

impl AsColumnFamilyRef for FamilyHandle {
    fn inner(&self) -> *mut librocksdb_sys::rocksdb_column_family_handle_t {
        self.0
    }
}

/// An open database with its families.
pub struct Engine {
    pub db: DB,
    pub meta: FamilyHandle,
    pub data: FamilyHandle,
    pub score: FamilyHandle,
    pub payload: FamilyHandle,
    pub expiry: FamilyHandle,
    pub system: FamilyHandle,
    in_memory: ReadOptions,
}

// SAFETY: ReadOptions is only read after construction (no bounds are set on it).
unsafe impl Sync for Engine {}

impl Engine {
    /// Opens or creates the database at `path`. `wal`: RocksDB keeps its own
    /// log (standalone); without it families are flushed atomically.
    pub fn open(
        path: &Path,
        resources: &Resources,
        views: &Arc<ViewCell>,
        wal: bool,
    ) -> Result<Engine, rocksdb::Error> {
        let options = database_options(resources, wal);
        let families = FAMILIES
            .iter()
            .map(|name| {
                ColumnFamilyDescriptor::new(*name, family_options(name, resources, views, wal))
            })
            .chain([ColumnFamilyDescriptor::new("default", small_options())]);
        let db = DB::open_cf_descriptors(&options, path, families)?;
        let handle = |name: &str| {
            let handle = db.cf_handle(name).expect("opened above");
            FamilyHandle(handle.inner())
        };
        let mut in_memory = ReadOptions::default();
        in_memory.set_read_tier(ReadTier::BlockCache);
        Ok(Engine {
            meta: handle("meta"),
            data: handle("data"),
            score: handle("score"),
            payload: handle("payload"),
            expiry: handle("expiry"),
            system: handle("system"),
            in_memory,
            db,
        })
    }

    pub fn family(&self, family: Family) -> FamilyHandle {
        match family {
            Family::Data => self.data,
            Family::Score => self.score,
            Family::Payload => self.payload,
        }
    }

    /// Reads one value. `disk: false` answers `ErrorKind::Incomplete` when the
    /// block is not in memory.
    pub fn get(
        &self,
        family: FamilyHandle,
        key: &[u8],
        disk: bool,
    ) -> Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error> {
        match disk {
            true => self.db.get_pinned_cf(&family, key),
            false => self.db.get_pinned_cf_opt(&family, key, &self.in_memory),
        }
    }

    /// Waits for running compactions and starts no more; before closing.
    pub fn quiesce(&self) {
        self.db.cancel_all_background_work(true);
    }
}

/// Has RocksDB count nothing of what the calling thread does there: it would at every
/// comparison of keys, and nobody asks for it.
pub fn count_nothing() {
    rocksdb::perf::set_perf_stats(rocksdb::perf::PerfStatsLevel::Disable);
}

fn database_options(resources: &Resources, wal: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(resources.background_jobs);
    options.set_write_buffer_manager(&resources.write_buffers);
    options.set_max_total_wal_size(256 << 20);
    options.set_bytes_per_sync(1 << 20);
    options.set_wal_bytes_per_sync(1 << 20);
    options.set_atomic_flush(!wal);
    // One writer a group: the concurrent memtable's extra work buys nothing.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_max_open_files(-1);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(8 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_avoid_unnecessary_blocking_io(true);
    // Not an auto-tuned one: after a quiet time that lets 25 MB a second through,
    // flushes fall behind a burst of writes, and writes stop for a second.
    options.set_ratelimiter(512 << 20, 100_000, 10);
    options.set_paranoid_checks(true);
    options
}

/// Of one family. The rows of `score` are scanned: hardly one is looked up by its whole
/// key, and they have no filters. Blocks have no hash index: what is hot is found in the
/// caches of records and rows, and building it took a tenth of each compaction.
fn table_options(name: &str, resources: &Resources) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&resources.block_cache);
    table.set_block_size(4 << 10);
    table.set_format_version(6);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if name != "score" {
        table.set_bloom_filter(BLOOM_BITS, false);
        table.set_optimize_filters_for_memory(true);
    }
    table
}

fn family_options(name: &str, resources: &Resources, views: &Arc<ViewCell>, wal: bool) -> Options {
    if name == "system" {
        return small_options();
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table_options(name, resources));
    options.set_write_buffer_size(resources.plan.write_buffer);
    options.set_max_write_buffer_number(6);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(32 << 20);
    // What fits is one level: with 128 MB every record of a small database was compacted
    // twice on its way, which took a fifth of the processor from small hashes.
    options.set_max_bytes_for_level_base(512 << 20);
    // Half as much rewriting as with 4; a key that is not in memory asks more filters.
    // Records are looked up by their whole keys, so that a file more costs one filter: of
    // them as much gathers as the next level holds, and half as much is rewritten again.
    // Where rows are scanned every file is one more to seek in.
    let files = if name == "meta" { 16 } else { 8 };
    options.set_level_zero_file_num_compaction_trigger(files);
    options.set_level_zero_slowdown_writes_trigger(files + 16);
    options.set_level_zero_stop_writes_trigger(files + 32);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_compression_per_level(&[DBCompressionType::None; 2]);
    options.set_bottommost_compression_type(DBCompressionType::Lz4);
    if name != "score" {
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.02);
    }
    options.set_periodic_compaction_seconds(24 * 3600);
    delay_second_pass(&mut options);
    let (window, dense, ratio) = many_deletes(name);
    options.add_compact_on_deletion_collector_factory(window, dense, ratio);
    match name {
        "meta" => {
            options.set_merge_operator("cairn.splice", splice::merge, splice::merge_partly);
            if wal {
                // Records are written over and over: a file holds the last of twice as
                // many, and half as often they are compacted with all others.
                let times = if resources.plan.has_room() { 2 } else { 1 };
                divide_memtable(&mut options, resources.plan.write_buffer, times);
            }
            options.set_compaction_filter_factory(MetaFilterFactory::new(views.clone()));
        }
        "data" | "score" | "expiry" => {
            let family = FAMILIES
                .iter()
                .position(|f| *f == name)
                .expect("one of ours");
            if wal && name != "expiry" {
                divide_memtable(&mut options, resources.plan.write_buffer, 1);
            }
            options.set_compaction_filter_factory(DataFilterFactory::new(views.clone(), family));
        }
        // No filter here: it would make every compaction fetch every blob.
        _ => {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(8 << 10);
            options.set_enable_blob_gc(true);
        }
    }
    options
}

/// Where deletes stand in the way of scans, a file is compacted with all that it overlaps
/// as soon as it is written: if of some number of rows one after the other so many are
/// deletes, or of the whole file this part (0: does not matter). What is made and deleted
/// again in turn is not to bring that about, or each flush would write every record of
/// the database anew:
/// - keys that come and go, as lists that are queues do, lie among those that stay, and a
///   scan goes past some thousand deletes in some milliseconds;
/// - of rows, a change of a score is a delete and a put. Deletes alone, in a row, are the
///   head of a queue;
/// - long strings are few, and their space is wanted back.
fn many_deletes(family: &str) -> (usize, usize, f64) {
    match family {
        "meta" => (16_384, 12_288, 0.0),
        "data" | "score" => (4096, 3072, 0.75),
        _ => (4096, 1024, 0.5),
    }
}

/// Many small memtables that are merged when they are flushed, `times` times `bytes` at
/// once, in place of one of `bytes`: a skip list that the processor's cache holds takes a
/// record in a third of the time, which is the largest part of a write
/// (docs/performance.md). Without RocksDB's own log families are flushed together, and a
/// small one at once.
fn divide_memtable(options: &mut Options, bytes: usize, times: usize) {
    options.set_write_buffer_size(bytes / MEMTABLE_PARTS);
    options.set_min_write_buffer_number_to_merge((MEMTABLE_PARTS * times) as i32);
    // Writes go on while one flush is made and the next one gathers.
    options.set_max_write_buffer_number((MEMTABLE_PARTS * (times + 1) * 2) as i32);
}

/// Has RocksDB wait before it writes a file of the last level again for what a snapshot
/// kept from going, the view of the compaction filter being one that is replaced every
/// second: each compaction into the last level was followed by another one of all that
/// it had written, for the little that was overwritten in its last second. The filter
/// does not wait for snapshots, and files of many deletes are compacted at once.
fn delay_second_pass(options: &mut Options) {
    // SAFETY: the options live.
    unsafe {
        librocksdb_sys::rocksdb_options_set_bottommost_file_compaction_delay(
            options.as_raw_ptr(),
            SECOND_PASS_AFTER_S,
        );
    }
}

fn small_options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(1 << 20);
    options.set_compression_type(DBCompressionType::None);
    options
}
