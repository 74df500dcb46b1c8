//! Work of a link on the blocking pool, and where it reports.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cairn_protocol::resp::{ReplyWriter, Requests};
use tokio::sync::mpsc;

use crate::commands::DataHandler;
use crate::dispatch::Dispatched;
use crate::group::Group;
use crate::group::blocked::Waiter;
use crate::link::sessions::Asked;
use crate::link::waiting::Woken;

/// Work on the blocking pool, and where it reports.
pub(in crate::link) struct Pool {
    report: mpsc::UnboundedSender<Report>,
    /// Bounded by what the lanes have outstanding: one each.
    reports: mpsc::UnboundedReceiver<Report>,
}

impl Default for Pool {
    fn default() -> Pool {
        let (report, reports) = mpsc::unbounded_channel();
        Pool { report, reports }
    }
}

impl Pool {
    /// A report that has come. Otherwise the task of `cx` is woken by the next one.
    pub(super) fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        self.reports.poll_recv(cx)
    }
}

/// What became of work on the blocking pool.
pub(super) struct Report {
    pub(super) asked: Asked,
    pub(super) work: Work,
}

pub(in crate::link) enum Work {
    /// A read: the command's index in the statistics, its cost in nanoseconds,
    /// whether it failed, and its reply.
    Answered {
        command: usize,
        nanos: u64,
        failed: bool,
        reply: ReplyWriter,
    },
    /// The same of a command that has waited (WAIT), and kept no lane.
    Waited {
        command: usize,
        failed: bool,
        reply: ReplyWriter,
    },
    /// A read that only the writer can answer.
    ByWriter(Bytes),
    /// A read whose reply is to leave in pieces.
    Large {
        d: Dispatched,
        handler: DataHandler,
        group: Arc<Group>,
        one: Requests,
    },
    /// A part of a reply, and not the last.
    Part(ReplyWriter),
    /// There is no rest of a reply that has begun, and why.
    CutShort(&'static str),
    /// What a waiting command needs is in memory.
    Fetched,
    /// A command stopped waiting for its keys; its bytes, should it begin again.
    Woken {
        woken: Woken,
        waiter: Arc<Waiter>,
        wire: Bytes,
    },
    /// A read that panicked.
    Broken,
}

/// Reports on work in the pool, also when it panics.
pub(in crate::link) struct Reporter {
    to: mpsc::UnboundedSender<Report>,
    asked: Asked,
    /// What is said if nothing else was.
    pub(super) work: Option<Work>,
}

impl Reporter {
    pub(in crate::link) fn new(pool: &Pool, asked: Asked) -> Reporter {
        Reporter {
            to: pool.report.clone(),
            asked,
            work: Some(Work::Broken),
        }
    }

    pub(in crate::link) fn send(&mut self, work: Work) {
        self.work = Some(work);
    }

    /// Hands over a part of the reply: work goes on.
    pub(super) fn part(&self, reply: ReplyWriter) {
        let (asked, work) = (self.asked, Work::Part(reply));
        let _ = self.to.send(Report { asked, work });
    }

    /// The request is the writer's, which makes its reply whole.
    pub(super) fn leave_whole(&mut self, wire: Bytes) {
        self.asked.pieces = false;
        self.work = Some(Work::ByWriter(wire));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // The link may be gone.
            let _ = self.to.send(Report {
                asked: self.asked,
                work,
            });
        }
    }
}
