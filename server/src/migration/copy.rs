//! The copying of one chunk: a window of parts between export and
//! acknowledgement.
//!
//! Owned by the source driver and lost with it; the chunk then starts again.

use super::events::SourceAction;
use super::plan::{ChunkRecord, DriverConfig, MonoMs, PlanId};
use super::throttle::TokenBucket;
use super::wire::{DestStatus, ToDest};
use bytes::Bytes;
use std::collections::VecDeque;

struct Part {
    number: u32,
    rows: Bytes,
    end: Option<ChunkRecord>,
}

/// One attempt at one chunk.
pub(super) struct ChunkCopy {
    pub(super) attempt: u64,
    pub(super) first: u16,
    /// When the destination was last asked to begin the attempt.
    pub(super) begin_asked: Option<MonoMs>,
    /// The destination has begun the attempt and the export runs.
    pub(super) exporting: bool,
    window: VecDeque<Part>,
    /// Parts asked of the export so far.
    requested: u32,
    /// Parts received from the export so far.
    exported: u32,
    /// Parts sent so far; goes back when they must be sent again.
    sent: u32,
    ended: bool,
    last_progress: MonoMs,
}

impl ChunkCopy {
    pub(super) fn new(attempt: u64, first: u16) -> Self {
        Self {
            attempt,
            first,
            begin_asked: None,
            exporting: false,
            window: VecDeque::new(),
            requested: 0,
            exported: 0,
            sent: 0,
            ended: false,
            last_progress: 0,
        }
    }

    pub(super) fn start(&mut self, now: MonoMs) {
        self.exporting = true;
        self.last_progress = now;
    }

    /// Takes a part from the export; one that was not asked for is dropped.
    pub(super) fn exported(&mut self, number: u32, rows: Bytes, end: Option<ChunkRecord>) {
        if number != self.exported || self.ended {
            return;
        }
        self.exported += 1;
        self.ended = end.is_some();
        self.window.push_back(Part { number, rows, end });
    }

    /// The record of the whole chunk, once the export has ended.
    pub(super) fn record(&self) -> Option<ChunkRecord> {
        self.window.back().and_then(|part| part.end)
    }

    /// Bytes that the destination holds of this chunk are dropped from the
    /// window, except the last part: it carries the record.
    pub(super) fn acknowledged(&mut self, parts: u32, now: MonoMs) {
        while let Some(part) = self.window.front_mut().filter(|part| part.number < parts) {
            if part.end.is_some() {
                if !part.rows.is_empty() {
                    part.rows = Bytes::new();
                    self.last_progress = now;
                }
                break;
            }
            self.window.pop_front();
            self.last_progress = now;
        }
        self.sent = self.sent.max(parts.min(self.exported));
    }

    /// Asks the export for parts until the window is full.
    pub(super) fn request(&mut self, config: &DriverConfig, out: &mut Vec<SourceAction>) {
        let held = u32::try_from(self.window.len()).unwrap_or(u32::MAX);
        let mut open = held + (self.requested - self.exported);
        while !self.ended && open < config.part_window {
            out.push(SourceAction::ExportPart {
                attempt: self.attempt,
                part: self.requested,
            });
            self.requested += 1;
            open += 1;
        }
    }

    /// Sends what the rate allows; returns when to come back.
    pub(super) fn send(
        &mut self,
        plan: PlanId,
        bucket: &mut TokenBucket,
        retry_ms: u64,
        now: MonoMs,
        out: &mut Vec<SourceAction>,
    ) -> MonoMs {
        let unanswered = self
            .window
            .front()
            .is_some_and(|part| part.number < self.sent);
        if unanswered && now >= self.last_progress + retry_ms {
            self.sent = self.window.front().map_or(0, |part| part.number);
            self.last_progress = now;
        }
        for part in self.window.iter() {
            if part.number < self.sent {
                continue;
            }
            if let Err(wait) = bucket.take(part.rows.len() as u64, now) {
                return (now + wait).min(self.last_progress + retry_ms).max(now + 1);
            }
            self.sent = part.number + 1;
            out.push(SourceAction::Send(ToDest::ChunkPart {
                plan,
                attempt: self.attempt,
                part: part.number,
                rows: part.rows.clone(),
                end: part.end,
            }));
        }
        (self.last_progress + retry_ms).max(now + 1)
    }

    /// Whether the destination's record is of the rows exported here; true
    /// when that is not known here.
    pub(super) fn agrees(&self, dest: &DestStatus) -> bool {
        let same_start = dest
            .last_chunk
            .is_some_and(|chunk| chunk.first == self.first);
        match self.record() {
            Some(record) if same_start && self.exporting => {
                // Another leader's attempt may have landed instead: then the
                // snapshot is another one, and equally good.
                dest.last_chunk.is_some_and(|landed| {
                    landed.index != record.index || landed.digest == record.digest
                })
            }
            _ => true,
        }
    }
}
