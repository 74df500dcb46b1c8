//! What each side replicates about one plan, and the steps it may take.
//!
//! The steps are pure and total: one that does not fit is refused and changes
//! nothing, so that a repeated or late entry is harmless on every replica.

use super::codec::{DecodeError, Put, Take};
use super::plan::{ChunkRecord, FreezePoint, PlanSpec, Stage, StreamPoint, fold_chunks};
use super::state::Refused;
use super::stream::hash_batch;
use super::wire::{put_point, take_point};
use bytes::Bytes;
use std::sync::Arc;

/// The source's replicated part of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlan {
    pub spec: Arc<PlanSpec>,
    /// Log index of the SourceBegin entry; every replica holds its log from
    /// here on.
    pub begin_index: u64,
    /// Chunks that the destination has, in slot order.
    pub chunks: Arc<Vec<ChunkRecord>>,
    /// The destination has everything due up to here.
    pub checkpoint: Option<StreamPoint>,
    pub frozen: Option<FreezePoint>,
}

/// The attempt at a chunk that is being staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub id: u64,
    pub first: u16,
    /// Parts staged so far.
    pub parts: u32,
}

/// What READY fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyPoint {
    pub freeze: StreamPoint,
    pub log_time: u64,
    pub epoch: u32,
}

/// The destination's replicated part of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestPlan {
    pub spec: Arc<PlanSpec>,
    /// Chunks that have landed, in slot order.
    pub chunks: Arc<Vec<ChunkRecord>>,
    /// The highest Raft term of the source that began a chunk.
    pub term: u64,
    pub attempt: Option<Attempt>,
    /// Increments in so far; `None` until all chunks have landed.
    pub position: Option<StreamPoint>,
    pub ready: Option<ReadyPoint>,
}

/// The slot at which the chunk after `chunks` starts; `None` when complete.
fn next_first(spec: &PlanSpec, chunks: &[ChunkRecord]) -> Option<u16> {
    match chunks.last() {
        None => spec.slots.first(),
        Some(chunk) => spec.slots.next_after(chunk.last),
    }
}

/// Whether `chunk` is the one that follows `chunks`.
fn fits(spec: &PlanSpec, chunks: &[ChunkRecord], chunk: &ChunkRecord) -> Result<(), Refused> {
    let next = next_first(spec, chunks);
    if next.is_none_or(|next| chunk.first < next) {
        return Err(Refused::Repeated);
    }
    let in_order = next == Some(chunk.first) && chunk.last >= chunk.first;
    if !in_order || !spec.slots.contains(chunk.last) {
        return Err(Refused::OutOfOrder);
    }
    Ok(())
}

/// The index from which increments start: no chunk's snapshot is older.
fn low_index(chunks: &[ChunkRecord]) -> Option<u64> {
    chunks.iter().map(|chunk| chunk.index).min()
}

impl SourcePlan {
    pub(super) fn new(spec: Arc<PlanSpec>, begin_index: u64) -> Self {
        Self {
            spec,
            begin_index,
            chunks: Arc::default(),
            checkpoint: None,
            frozen: None,
        }
    }

    /// The slot at which the next chunk starts; `None` when all are done.
    pub fn next_first(&self) -> Option<u16> {
        next_first(&self.spec, &self.chunks)
    }

    pub fn stage(&self) -> Stage {
        match (self.frozen, self.next_first()) {
            (Some(_), _) => Stage::Switch,
            (None, Some(_)) => Stage::Full,
            (None, None) => Stage::Increment,
        }
    }

    /// Where the reading of increments starts again.
    pub fn resume_point(&self) -> Option<StreamPoint> {
        let start = |through| StreamPoint {
            through,
            ..StreamPoint::default()
        };
        self.checkpoint.or(low_index(&self.chunks).map(start))
    }

    /// The plan needs every log entry above this index, on every replica.
    pub fn log_needed_after(&self) -> u64 {
        let resume = self.resume_point();
        resume.map_or(self.begin_index, |point| point.through)
    }

    /// Whether the effects of the entry at `index` on `slot` belong to the
    /// increments: the slot moves, and its snapshot is older than the entry.
    pub fn is_due(&self, slot: u16, index: u64) -> bool {
        let at = self.chunks.partition_point(|chunk| chunk.last < slot);
        let chunk = self.chunks.get(at).filter(|chunk| chunk.first <= slot);
        chunk.is_some_and(|chunk| index > chunk.index) && self.spec.slots.contains(slot)
    }

    pub fn chunks_fold(&self) -> u128 {
        fold_chunks(&self.chunks)
    }

    pub fn bytes_done(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    pub(super) fn chunk_done(&mut self, chunk: ChunkRecord) -> Result<(), Refused> {
        fits(&self.spec, &self.chunks, &chunk)?;
        if chunk.index < self.begin_index {
            return Err(Refused::OutOfOrder);
        }
        Arc::make_mut(&mut self.chunks).push(chunk);
        Ok(())
    }

    pub(super) fn check_point(&mut self, point: StreamPoint) -> Result<(), Refused> {
        let at = self.resume_point().ok_or(Refused::WrongPhase)?;
        if self.next_first().is_some() {
            return Err(Refused::WrongPhase);
        }
        if point.through <= at.through {
            return Err(Refused::Repeated);
        }
        self.checkpoint = Some(point);
        Ok(())
    }

    pub(super) fn freeze(&mut self, point: FreezePoint) -> Result<(), Refused> {
        if self.frozen.is_some() {
            return Err(Refused::Repeated);
        }
        if self.next_first().is_some() {
            return Err(Refused::WrongPhase);
        }
        self.frozen = Some(point);
        Ok(())
    }

    /// `begin_index u64 | checkpoint | frozen u8 [index u64 | log_time u64 | epoch u32]`
    pub(super) fn encode_head(&self, out: &mut Vec<u8>) {
        out.put_u64(self.begin_index);
        put_point(out, self.checkpoint.as_ref());
        out.put_u8(u8::from(self.frozen.is_some()));
        if let Some(point) = self.frozen {
            out.put_u64(point.index);
            out.put_u64(point.log_time);
            out.put_u32(point.epoch);
        }
    }

    pub(super) fn decode_head(
        spec: Arc<PlanSpec>,
        chunks: Vec<ChunkRecord>,
        from: &mut Take,
    ) -> Result<Self, DecodeError> {
        let begin_index = from.u64()?;
        let checkpoint = take_point(from)?;
        let frozen = from.flag()?.then(|| take_freeze(from)).transpose()?;
        Ok(Self {
            spec,
            begin_index,
            chunks: Arc::new(chunks),
            checkpoint,
            frozen,
        })
    }
}

fn take_freeze(from: &mut Take) -> Result<FreezePoint, DecodeError> {
    Ok(FreezePoint {
        index: from.u64()?,
        log_time: from.u64()?,
        epoch: from.u32()?,
    })
}

impl DestPlan {
    pub(super) fn new(spec: Arc<PlanSpec>) -> Self {
        Self {
            spec,
            chunks: Arc::default(),
            term: 0,
            attempt: None,
            position: None,
            ready: None,
        }
    }

    /// The slot at which the next chunk starts; `None` when all have landed.
    pub fn next_first(&self) -> Option<u16> {
        next_first(&self.spec, &self.chunks)
    }

    pub fn chunks_fold(&self) -> u128 {
        fold_chunks(&self.chunks)
    }

    pub(super) fn chunk_begin(&mut self, term: u64, id: u64, first: u16) -> Result<(), Refused> {
        match self.next_first() {
            Some(next) if next == first => {}
            Some(next) if first > next => return Err(Refused::OutOfOrder),
            _ => return Err(Refused::Repeated),
        }
        if term < self.term {
            return Err(Refused::OldTerm);
        }
        if self.attempt.is_some_and(|attempt| attempt.id == id) {
            return Err(Refused::Repeated);
        }
        self.term = term;
        self.attempt = Some(Attempt {
            id,
            first,
            parts: 0,
        });
        Ok(())
    }

    fn attempt_mut(&mut self, id: u64) -> Result<&mut Attempt, Refused> {
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.id == id);
        attempt.ok_or(Refused::OtherAttempt)
    }

    pub(super) fn chunk_part(&mut self, id: u64, part: u32) -> Result<(), Refused> {
        let attempt = self.attempt_mut(id)?;
        match part.cmp(&attempt.parts) {
            std::cmp::Ordering::Less => return Err(Refused::Repeated),
            std::cmp::Ordering::Greater => return Err(Refused::OutOfOrder),
            std::cmp::Ordering::Equal => attempt.parts += 1,
        }
        Ok(())
    }

    pub(super) fn chunk_landed(
        &mut self,
        id: u64,
        parts: u32,
        chunk: ChunkRecord,
    ) -> Result<(), Refused> {
        let attempt = *self.attempt_mut(id)?;
        if attempt.parts != parts || attempt.first != chunk.first {
            return Err(Refused::OutOfOrder);
        }
        fits(&self.spec, &self.chunks, &chunk)?;
        Arc::make_mut(&mut self.chunks).push(chunk);
        self.attempt = None;
        if self.next_first().is_none() {
            self.position = low_index(&self.chunks).map(|through| StreamPoint {
                through,
                ..StreamPoint::default()
            });
        }
        Ok(())
    }

    /// Refuses a batch that does not continue the stream exactly, and one
    /// whose effects do not hash to what the source says.
    pub(super) fn increment(
        &mut self,
        after: u64,
        point: StreamPoint,
        effects: &Bytes,
    ) -> Result<(), Refused> {
        if self.ready.is_some() {
            return Err(Refused::WrongPhase);
        }
        let at = self.position.ok_or(Refused::WrongPhase)?;
        if after != at.through || point.through <= after {
            let repeated = point.through <= at.through;
            return Err(if repeated {
                Refused::Repeated
            } else {
                Refused::OutOfOrder
            });
        }
        let hash = hash_batch(at.hash, after, point.through, effects);
        if hash != Ok(point.hash) {
            return Err(Refused::Mismatch);
        }
        self.position = Some(point);
        Ok(())
    }

    pub(super) fn make_ready(&mut self, ready: ReadyPoint, chunks: u128) -> Result<(), Refused> {
        if self.ready.is_some() {
            return Err(Refused::Repeated);
        }
        if self
            .position
            .is_none_or(|at| at.through != ready.freeze.through)
        {
            return Err(Refused::OutOfOrder);
        }
        if self.position != Some(ready.freeze) || self.chunks_fold() != chunks {
            return Err(Refused::Mismatch);
        }
        self.ready = Some(ready);
        Ok(())
    }

    /// `term u64 | attempt u8 [id u64 | first u16 | parts u32] | position |
    /// ready u8 [through u64 | hash u128 | log_time u64 | epoch u32]`
    pub(super) fn encode_head(&self, out: &mut Vec<u8>) {
        out.put_u64(self.term);
        out.put_u8(u8::from(self.attempt.is_some()));
        if let Some(attempt) = self.attempt {
            out.put_u64(attempt.id);
            out.put_u16(attempt.first);
            out.put_u32(attempt.parts);
        }
        put_point(out, self.position.as_ref());
        out.put_u8(u8::from(self.ready.is_some()));
        if let Some(ready) = self.ready {
            ready.freeze.encode(out);
            out.put_u64(ready.log_time);
            out.put_u32(ready.epoch);
        }
    }

    pub(super) fn decode_head(
        spec: Arc<PlanSpec>,
        chunks: Vec<ChunkRecord>,
        from: &mut Take,
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            spec,
            chunks: Arc::new(chunks),
            term: from.u64()?,
            attempt: from.flag()?.then(|| take_attempt(from)).transpose()?,
            position: take_point(from)?,
            ready: from.flag()?.then(|| take_ready(from)).transpose()?,
        })
    }
}

fn take_attempt(from: &mut Take) -> Result<Attempt, DecodeError> {
    Ok(Attempt {
        id: from.u64()?,
        first: from.u16()?,
        parts: from.u32()?,
    })
}

fn take_ready(from: &mut Take) -> Result<ReadyPoint, DecodeError> {
    Ok(ReadyPoint {
        freeze: StreamPoint::decode(from)?,
        log_time: from.u64()?,
        epoch: from.u32()?,
    })
}
