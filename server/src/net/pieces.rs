//! Who is being sent a reply in pieces: a bounded number of clients at a time.
//!
//! Each of them pins a moment of a store, and with it space that compaction would
//! give back, for as long as the client takes. Shared by all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::server::Server;

/// Bytes of a piece, about: what a connection holds of a large reply.
pub(crate) const PIECE: usize = 128 << 10;
/// A waiting client looks at the bound itself, which may have been raised.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// See the module's documentation.
#[derive(Default)]
pub struct InPieces {
    now: AtomicUsize,
    all: AtomicU64,
    freed: Notify,
}

impl InPieces {
    /// Replies that are being sent.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Replies that were begun since the start.
    pub fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// Waits until one more client may be sent a reply in pieces. Dropping the
    /// future is safe.
    pub(crate) async fn turn(server: &Arc<Server>) -> PiecesTurn {
        loop {
            let freed = server.pieces.freed.notified();
            if let Some(turn) = InPieces::try_turn(server) {
                return turn;
            }
            // Either way it looks again.
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
        }
    }

    /// The same without waiting.
    pub(crate) fn try_turn(server: &Arc<Server>) -> Option<PiecesTurn> {
        let pieces = &server.pieces;
        let most = server.live.reply_pieces_clients.load(Ordering::Relaxed);
        let one_more = |now: usize| (now < most.max(1)).then_some(now + 1);
        let order = Ordering::Relaxed;
        pieces.now.fetch_update(order, order, one_more).ok()?;
        pieces.all.fetch_add(1, Ordering::Relaxed);
        Some(PiecesTurn(server.clone()))
    }
}

/// One client's turn, until it is dropped.
pub(crate) struct PiecesTurn(Arc<Server>);

impl Drop for PiecesTurn {
    fn drop(&mut self) {
        self.0.pieces.now.fetch_sub(1, Ordering::Relaxed);
        self.0.pieces.freed.notify_one();
    }
}
