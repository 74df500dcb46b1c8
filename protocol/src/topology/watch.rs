//! Following a cluster's topology through etcd's restarts and compactions.
//!
//! One task lists everything at a revision, publishes it, and watches from the
//! revision after it. A stream that ends or falls silent is opened again from
//! the last revision taken in (after etcd restarts an old stream stays dead);
//! compaction, or any doubt that it is still the same store, makes it list
//! again. While etcd is away, readers keep the last picture.
//!
//! The task ends when the last `TopologyWatch` is dropped.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::snapshot::Topology;
use super::store::TopologyStore;

/// A stream that says nothing for this long is asked for a sign of life, and
/// counts as dead after as long again.
const SILENCE: Duration = Duration::from_secs(3);
/// First and longest wait before etcd is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How the feed stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchStatus {
    /// Whether etcd was read at least once since the watch began (a picture from
    /// the cache file does not count).
    pub synced: bool,
    /// How often everything was listed: 1 after the start, more after doubts.
    pub listings: u64,
    /// Whether changes are being followed right now.
    pub following: bool,
    /// Why not, for people.
    pub problem: Option<String>,
}

/// A live view of the topology. Clones share one task.
#[derive(Clone)]
pub struct TopologyWatch {
    current: Arc<ArcSwap<Topology>>,
    revision: watch::Receiver<i64>,
    status: watch::Receiver<WatchStatus>,
    _task: Arc<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TopologyStore {
    /// Starts following. `last_known` (from the cache file) is served until etcd
    /// has been read; `Topology::default()` if there is none.
    pub fn watch(&self, last_known: Topology) -> TopologyWatch {
        let (revision_tx, revision) = watch::channel(last_known.revision);
        let (status_tx, status) = watch::channel(WatchStatus::default());
        let current = Arc::new(ArcSwap::from_pointee(last_known));
        let feed = Feed {
            store: self.clone(),
            current: Arc::clone(&current),
            revision: revision_tx,
            status: status_tx,
            store_id: None,
        };
        let task = Arc::new(AbortOnDrop(tokio::spawn(feed.run())));
        TopologyWatch {
            current,
            revision,
            status,
            _task: task,
        }
    }
}

impl TopologyWatch {
    /// The last picture.
    pub fn load(&self) -> Arc<Topology> {
        self.current.load_full()
    }

    /// The last picture, without counting a reference: for hot paths. Not to be
    /// held across an await.
    pub fn peek(&self) -> arc_swap::Guard<Arc<Topology>> {
        self.current.load()
    }

    /// Waits for a picture that this handle has not returned yet. Cancel safe.
    pub async fn changed(&mut self) -> Arc<Topology> {
        if self.revision.changed().await.is_err() {
            // The task lives as long as any handle; it can only have panicked.
            tracing::error!("the topology feed has ended");
            std::future::pending::<()>().await;
        }
        self.load()
    }

    /// Waits until a picture satisfies a condition. Cancel safe.
    pub async fn wait_for(&mut self, mut found: impl FnMut(&Topology) -> bool) -> Arc<Topology> {
        self.revision.borrow_and_update();
        let mut topology = self.load();
        while !found(&topology) {
            topology = self.changed().await;
        }
        topology
    }

    /// Waits until etcd was read once. Cancel safe.
    pub async fn synced(&mut self) -> Arc<Topology> {
        let mut status = self.status.clone();
        let done = status.wait_for(|s| s.synced).await.is_ok();
        if !done {
            std::future::pending::<()>().await;
        }
        self.load()
    }

    /// How the feed stands.
    pub fn status(&self) -> WatchStatus {
        self.status.borrow().clone()
    }

    /// The feed's state as a channel, for waiting and for metrics.
    pub fn status_changes(&self) -> watch::Receiver<WatchStatus> {
        self.status.clone()
    }
}

/// Why a stream is no longer followed.
enum Lost {
    /// Open another from the same revision.
    Stream(String),
    /// What is known cannot be continued: list again.
    Doubt(String),
}

/// The task behind a `TopologyWatch`.
struct Feed {
    store: TopologyStore,
    current: Arc<ArcSwap<Topology>>,
    revision: watch::Sender<i64>,
    status: watch::Sender<WatchStatus>,
    /// etcd's own cluster id: another one is another store.
    store_id: Option<u64>,
}

impl Feed {
    async fn run(mut self) {
        let mut wait = BACKOFF.0;
        loop {
            match self.relist().await {
                Ok(()) => wait = BACKOFF.0,
                Err(problem) => {
                    self.report_lost(&problem);
                    pause(&mut wait).await;
                    continue;
                }
            }
            loop {
                match self.follow(&mut wait).await {
                    Lost::Doubt(why) => {
                        self.report_lost(&why);
                        pause(&mut wait).await;
                        break;
                    }
                    Lost::Stream(why) => {
                        self.report_lost(&why);
                        pause(&mut wait).await;
                    }
                }
            }
        }
    }

    /// Lists everything and publishes it, unless it contradicts what is known.
    async fn relist(&mut self) -> Result<(), String> {
        let next = self.store.list().await.map_err(|e| with_sources(&e))?;
        if let Some(why) = self.current.load().refuses(&next) {
            tracing::error!(%why, "the topology in etcd is refused; the last known one stays");
            return Err(why);
        }
        self.store_id = None;
        self.publish(next);
        self.status
            .send_modify(|s| (s.synced, s.listings) = (true, s.listings + 1));
        Ok(())
    }

    fn publish(&self, next: Topology) {
        let revision = next.revision;
        self.current.store(Arc::new(next));
        self.revision.send_replace(revision);
    }

    /// Follows one stream to its end.
    async fn follow(&mut self, wait: &mut Duration) -> Lost {
        let from = self.current.load().revision + 1;
        let prefix = self.store.keys.prefix().to_owned();
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut client = self.store.client.watch_client();
        let opened = self
            .store
            .within("watch", client.watch(prefix, Some(options)))
            .await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(e) => return Lost::Stream(with_sources(&e)),
        };
        loop {
            let message = match next_message(&mut stream).await {
                Ok(message) => message,
                Err(lost) => return lost,
            };
            if let Err(lost) = self.take_in(&message) {
                return lost;
            }
            *wait = BACKOFF.0;
            self.report_following();
        }
    }

    /// Takes in one answer of the watch: events, a sign of life, or its end.
    fn take_in(&mut self, message: &WatchResponse) -> Result<(), Lost> {
        self.check_store(message)?;
        if message.compact_revision() > 0 {
            return Err(Lost::Doubt(
                "etcd has compacted what was to be read next".into(),
            ));
        }
        if message.canceled() {
            return Err(Lost::Doubt(format!(
                "etcd ended the watch: {}",
                message.cancel_reason()
            )));
        }
        let current = self.current.load_full();
        let mut next: Option<Topology> = None;
        for event in message.events() {
            let Some(kv) = event.kv().filter(|kv| kv.mod_revision() > current.revision) else {
                continue;
            };
            let next = next.get_or_insert_with(|| (*current).clone());
            match event.event_type() {
                EventType::Put => {
                    next.put(&self.store.keys, kv.key(), kv.value(), kv.mod_revision());
                }
                EventType::Delete => next.delete(&self.store.keys, kv.key()),
            }
            // Only events move the revision on: what a sign of life names may be
            // ahead of events that are still to come.
            next.revision = next.revision.max(kv.mod_revision());
        }
        let Some(next) = next else { return Ok(()) };
        if let Some(why) = current.refuses(&next) {
            return Err(Lost::Doubt(why));
        }
        self.publish(next);
        Ok(())
    }

    /// Whether this is still the store that was listed, and not one restored
    /// from an older backup.
    fn check_store(&mut self, message: &WatchResponse) -> Result<(), Lost> {
        let Some(header) = message.header() else {
            return Ok(());
        };
        let known = *self.store_id.get_or_insert(header.cluster_id());
        if known != header.cluster_id() {
            return Err(Lost::Doubt("another etcd cluster answers".into()));
        }
        let revision = self.current.load().revision;
        if header.revision() < revision {
            return Err(Lost::Doubt(format!(
                "etcd went back from revision {revision} to {}",
                header.revision()
            )));
        }
        Ok(())
    }

    fn report_following(&self) {
        let news = self.status.send_if_modified(|s| {
            let news = !s.following;
            (s.following, s.problem) = (true, None);
            news
        });
        if news {
            tracing::info!(
                cluster = self.store.cluster(),
                "following the topology in etcd"
            );
        }
    }

    /// Logs a problem once, not once a try.
    fn report_lost(&self, problem: &str) {
        let news = self.status.send_if_modified(|s| {
            let news = s.following || s.problem.is_none();
            s.following = false;
            s.problem = Some(problem.into());
            news
        });
        if news {
            tracing::warn!(
                problem,
                endpoints = self.store.endpoints().join(","),
                "the topology cannot be followed; serving on with the last known one"
            );
        }
    }
}

/// The next answer of a stream. A silent stream is asked for a sign of life.
async fn next_message(stream: &mut WatchStream) -> Result<WatchResponse, Lost> {
    let mut asked = false;
    loop {
        match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(message))) => return Ok(message),
            Ok(Ok(None)) => return Err(Lost::Stream("etcd closed the watch".into())),
            Ok(Err(e)) => return Err(Lost::Stream(with_sources(&e))),
            Err(_) if asked => return Err(Lost::Stream("etcd has fallen silent".into())),
            Err(_) => {
                asked = true;
                let sent = tokio::time::timeout(SILENCE, stream.request_progress()).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return Err(Lost::Stream("etcd takes no requests on the watch".into()));
                }
            }
        }
    }
}

/// Waits, longer each time.
async fn pause(wait: &mut Duration) {
    tokio::time::sleep(*wait).await;
    *wait = (*wait * 2).min(BACKOFF.1);
}

/// An error with its causes, on one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
