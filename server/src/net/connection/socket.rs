//! The connection's socket: input comes, replies leave, each within its limits.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use cairn_protocol::resp::{ProtocolError, Requests};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use super::{Connection, End, Pace};

const READ_CHUNK: usize = 20 << 10;
/// Room for input that a client keeps while clients are counted.
const KEPT_ROOM: usize = 64 << 10;
/// The part of the memory limit that replies may have which clients have not taken while
/// they send requests.
const UNREAD_SHARE: usize = 16;
/// A client that does not read is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is done while the client does not take its replies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsent {
    Waits,
    /// It may be kept: what the client sends is run meanwhile.
    IsKept,
    /// What the client sends is read, to be run later.
    ReadsOn,
}

impl Connection {
    pub(super) async fn read(&mut self) -> Result<(), End> {
        if self.session.client.is_killed() {
            return Err(End::Closed);
        }
        if !self.out.is_empty() {
            return self.read_or_send().await;
        }
        if self.session.client.take_idle() && self.input.is_empty() {
            self.input = BytesMut::new();
            self.requests = Requests::default();
            self.note_query_buffer();
            return self.idle_read().await;
        }
        room_to_read(&mut self.input);
        let n = tokio::select! {
            biased;
            // Cancelling a read loses nothing: bytes are taken only on success.
            n = self.stream.read_buf(&mut self.input) => n?,
            () = self.session.client.disturbed() => {
                // A message, or an idle hour: the caller sees to it.
                return match self.session.client.is_killed() {
                    true => Err(End::Closed),
                    false => Ok(()),
                };
            }
        };
        if n == 0 {
            return Err(End::Closed);
        }
        self.count_input(n)
    }

    /// Waits until there is more to read, or room for replies that are kept.
    async fn read_or_send(&mut self) -> Result<(), End> {
        let client = self.session.client.clone();
        let ready = tokio::select! {
            ready = self.stream.ready(Interest::READABLE | Interest::WRITABLE) => ready?,
            () = client.disturbed() => {
                // With replies to send there is nothing to give back; asked for again and
                // again, this task would keep the thread from all others.
                client.take_idle();
                return Ok(());
            }
            // The soft limit is a matter of time.
            () = tokio::time::sleep(LOOK_AGAIN) => return Ok(()),
        };
        if !ready.is_readable() {
            return Ok(());
        }
        room_to_read(&mut self.input);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => {
                // It asked for all of it before it said that it is done.
                self.flush().await?;
                Err(End::Closed)
            }
            Ok(n) => self.count_input(n),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(End::Io(error)),
        }
    }

    /// Accounts for what was read.
    fn count_input(&mut self, n: usize) -> Result<(), End> {
        self.note_query_buffer();
        self.count_memory()?;
        let client = &self.session.client;
        let limit = &self.session.server.live.query_buffer_limit;
        if self.input.len() > limit.load(Ordering::Relaxed) {
            tracing::warn!(client = client.id, "closed: its request is too long");
            return Err(End::Closed);
        }
        self.session
            .server
            .stats
            .net_input_bytes
            .fetch_add(n as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Sends all replies.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        self.send(Unsent::Waits).await
    }

    /// Sends what the socket takes. The rest may be kept while requests are read: many
    /// clients send all of a pipeline before they read.
    pub(super) async fn flush_or_keep(&mut self) -> Result<(), End> {
        self.send(Unsent::IsKept).await
    }

    /// Sends all of a reply that cannot be kept, and reads meanwhile what comes behind
    /// its request, within the bound for what is kept.
    pub(super) async fn flush_reading_on(&mut self) -> Result<(), End> {
        self.send(Unsent::ReadsOn).await
    }

    async fn send(&mut self, how: Unsent) -> Result<(), End> {
        // Whoever has a reply finds it counted.
        self.tally.settle(&self.session.server.stats.commands);
        self.pace = Pace::default();
        if self.out.is_empty() {
            return Ok(());
        }
        if self.session.client.is_cut_off() {
            return Err(End::Closed);
        }
        let total = self.out.len();
        while !self.out.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 16];
            let n = self.out.io_slices(&mut slices);
            let sent = match n {
                1 => self.stream.try_write(&slices[0]),
                _ => self.stream.try_write_vectored(&slices[..n]),
            };
            match sent {
                Ok(0) => return Err(End::Closed),
                Ok(sent) => self.out.advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.note_unsent()?;
                    if how == Unsent::IsKept && self.keep() {
                        break;
                    }
                    self.room(how == Unsent::ReadsOn).await?;
                }
                Err(error) => return Err(End::Io(error)),
            }
        }
        let unsent = &self.session.client.output_buffer;
        if self.out.is_empty() && unsent.load(Ordering::Relaxed) != 0 {
            unsent.store(0, Ordering::Relaxed);
            let ahead = match how {
                Unsent::ReadsOn => self.input.len().min(self.unread.bytes()),
                Unsent::Waits | Unsent::IsKept => 0,
            };
            self.unread.keep(ahead, 0);
        }
        self.session
            .server
            .stats
            .net_output_bytes
            .fetch_add((total - self.out.len()) as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What the client has not taken counts against its limits.
    fn note_unsent(&self) -> Result<(), End> {
        let (client, unsent) = (&self.session.client, self.out.len());
        client.output_buffer.store(unsent, Ordering::Relaxed);
        if client.exceeds(unsent) {
            client.cut_off();
            return Err(End::Closed);
        }
        client.count_memory();
        self.session.server.evict_clients();
        Ok(())
    }

    /// Whether what is unsent may wait beside that of others.
    fn keep(&mut self) -> bool {
        self.keep_bytes(self.out.len())
    }

    fn keep_bytes(&mut self, bytes: usize) -> bool {
        let most = self.session.server.config.memory_limit / UNREAD_SHARE;
        self.unread.keep(bytes, most)
    }

    /// Waits until the client has read something, within its output limits.
    async fn room(&mut self, mut reads_on: bool) -> Result<(), End> {
        let client = self.session.client.clone();
        loop {
            let reads = reads_on && self.keep_bytes(self.out.len() + self.input.len() + READ_CHUNK);
            let interest = match reads {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::WRITABLE,
            };
            let ready = tokio::select! {
                ready = self.stream.ready(interest) => ready?,
                // Killed: what the socket does not take is lost.
                () = client.killed() => return Err(End::Closed),
                // The soft limit is a matter of time.
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    self.note_unsent()?;
                    continue;
                }
            };
            if reads && ready.is_readable() {
                reads_on = self.read_ahead()?;
            }
            if ready.is_writable() {
                return Ok(());
            }
        }
    }

    /// Takes what the client has sent, to be parsed later. False: it sends no more.
    fn read_ahead(&mut self) -> Result<bool, End> {
        room_to_read(&mut self.input);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.note_query_buffer();
                self.count_memory()?;
                let stats = &self.session.server.stats;
                stats.net_input_bytes.fetch_add(n as u64, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(End::Io(error)),
        }
    }

    /// Waits without a buffer until there is something to read.
    async fn idle_read(&mut self) -> Result<(), End> {
        tokio::select! {
            ready = self.stream.readable() => Ok(ready?),
            () = self.session.client.disturbed() => Ok(()),
        }
    }

    fn note_query_buffer(&self) {
        let (len, room) = (self.input.len(), self.input.capacity());
        let client = &self.session.client;
        client.query_buffer.store(len, Ordering::Relaxed);
        client.query_free.store(room - len, Ordering::Relaxed);
    }

    /// `maxmemory-clients`: it may be this client that must go.
    pub(super) fn count_memory(&mut self) -> Result<(), End> {
        if !self.session.server.live.client_memory.is_limited() {
            return Ok(());
        }
        // Room that one long request needed is not kept for the next.
        if self.input.is_empty() && self.input.capacity() > KEPT_ROOM {
            self.input = BytesMut::new();
            self.note_query_buffer();
        }
        let (client, server) = (&self.session.client, &self.session.server);
        client.count_memory();
        server.evict_clients();
        match client.is_evicted() {
            true => Err(End::Closed),
            false => Ok(()),
        }
    }

    /// Puts what others sent behind the replies so far.
    pub(super) fn take_messages(&mut self) {
        let client = &self.session.client;
        if !client.has_messages() {
            return;
        }
        client.take_messages(&mut self.out);
        // Counted until they are sent.
        client
            .output_buffer
            .store(self.out.len(), Ordering::Relaxed);
    }

    /// Ends a client whose replies are more than it may have unread.
    pub(super) fn check_output(&self) -> Result<(), End> {
        let client = &self.session.client;
        if client
            .limit()
            .hard()
            .is_some_and(|hard| self.out.len() > hard)
        {
            client.cut_off();
            return Err(End::Closed);
        }
        Ok(())
    }

    pub(super) async fn refuse(&mut self, error: ProtocolError) -> Result<(), End> {
        self.out.error(error.line());
        self.flush().await?;
        // Let the client read the line before the reset that unread input causes.
        let _ = self.stream.shutdown().await;
        Err(End::Closed)
    }
}

/// Makes room for the next read. An emptied buffer begins anew: clients that take turns
/// would otherwise walk through all of it, and through the processor's cache with it.
fn room_to_read(input: &mut BytesMut) {
    // It does not as long as somebody holds what was read before.
    let begins_anew = input.is_empty() && input.try_reclaim(READ_CHUNK);
    if !begins_anew && input.capacity() - input.len() < READ_CHUNK / 4 {
        input.reserve(READ_CHUNK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_buffer_is_filled_from_its_beginning_again() {
        let mut input = BytesMut::new();
        room_to_read(&mut input);
        let beginning = input.as_ptr();
        input.extend_from_slice(b"PING\r\n");
        let request = input.split().freeze();
        room_to_read(&mut input);
        assert_ne!(input.as_ptr(), beginning, "somebody holds what is there");
        drop(request);
        room_to_read(&mut input);
        assert_eq!(input.as_ptr(), beginning);
    }
}
