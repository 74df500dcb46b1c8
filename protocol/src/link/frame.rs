//! Frames and their bytes. All integers are little-endian.
//!
//! Every frame begins with the same 16 bytes; `len` counts the whole frame,
//! these 16 bytes included.
//!
//! ```text
//!  0         4      5       6       8           16
//!  | len u32 | type | flags | aux   | id u64    | body ...
//!
//!  REQUEST 16   flags = RequestFlags, aux = database, id = request
//!   16            24          28         30      32           36            40
//!   | logical u64 | group u32 | slot u16 | 0 u16 | epoch u32  | deadline ms | RESP
//!  REPLY   17   flags = class, aux = 0, id = request
//!   16     class 0, 1, 2: | RESP (for 1 and 2 an error line)
//!          class 4:       | RESP, a part of the reply; what follows has the same id
//!          class 3:       | slot u16 | reason u8 | 0 u8 | group u32 | epoch u32 | host:port
//!  OPEN    18   flags = 0, aux = 0, id = logical
//!   16                 20         21           21+u
//!   | push credit u32  | user len | user ...   | client address ...
//!  CLOSE   19   id = logical
//!  CREDIT  20   id = logical  | requests u32 | bytes u32
//!  PUSH    21   flags = kind, id = logical | RESP
//!  PING    22   id = token        PONG 23   id = token
//!  GOAWAY  24   flags = reason | text
//!  GRANT   25   id = request  | bytes u32
//! ```
//!
//! Types 1 to 5 are the handshake's (`handshake.rs`).

use super::{HEADER_LEN, LinkError, Payload, REQUEST_HEADER_LEN};
use bytes::{BufMut, BytesMut};

pub(super) const REQUEST: u8 = 16;
pub(super) const REPLY: u8 = 17;
pub(super) const OPEN: u8 = 18;
pub(super) const CLOSE: u8 = 19;
pub(super) const CREDIT: u8 = 20;
pub(super) const PUSH: u8 = 21;
pub(super) const PING: u8 = 22;
pub(super) const PONG: u8 = 23;
pub(super) const GOAWAY: u8 = 24;
pub(super) const GRANT: u8 = 25;

/// Bits of a REQUEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestFlags(pub u8);

impl RequestFlags {
    /// The reply is wanted in RESP3 (otherwise RESP2).
    pub const RESP3: Self = Self(1);
    /// Serve the slot even if it is only being imported (the client's ASKING).
    pub const ASKING: Self = Self(1 << 1);
    /// The payload is `MULTI`, commands, `EXEC`: one atomic unit, answered by
    /// EXEC's reply alone.
    pub const TRANSACTION: Self = Self(1 << 2);
    /// A follower may answer.
    pub const READONLY: Self = Self(1 << 3);
    /// Lifts the fence that a "not executed" left on (logical connection,
    /// slot): this is the re-sent command, in its old place.
    pub const RESUME: Self = Self(1 << 4);
    /// Part of a command that the proxy split, or the proxy's own question.
    pub const PART: Self = Self(1 << 5);
    /// What the command reads is remembered for client-side caching.
    pub const TRACK: Self = Self(1 << 6);
    /// A large reply may come in pieces, of class [`ReplyClass::More`]. For nodes
    /// that said [`super::Features::PIECES`].
    pub const PIECES: Self = Self(1 << 7);

    /// Are all bits of `other` set?
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without the bits of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The fixed part of a REQUEST; `resp` is the raw command as the client sent it
/// (or as the proxy wrote it), always in the multi-bulk form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<P> {
    /// Unique among the unanswered requests of a link.
    pub request: u64,
    /// The client's session on this link; opened by OPEN.
    pub logical: u64,
    /// Selected database of the client.
    pub database: u16,
    /// Bits.
    pub flags: RequestFlags,
    /// The group that the proxy means.
    pub group: u32,
    /// The slot of the command's keys, or [`super::NO_SLOT`].
    pub slot: u16,
    /// Epoch of the slot as the proxy knows it; 0 if it does not.
    pub epoch: u32,
    /// Milliseconds from arrival after which an unstarted command must be
    /// answered "not executed"; 0 is no deadline.
    pub deadline_ms: u32,
    /// The raw command.
    pub resp: P,
}

impl Request<()> {
    /// The 40 bytes in front of a command of `resp_len` bytes.
    pub fn header(&self, resp_len: usize) -> [u8; REQUEST_HEADER_LEN] {
        let mut head = [0u8; REQUEST_HEADER_LEN];
        let len = REQUEST_HEADER_LEN + resp_len;
        put_head(
            &mut head,
            len,
            REQUEST,
            self.flags.0,
            self.database,
            self.request,
        );
        head[16..24].copy_from_slice(&self.logical.to_le_bytes());
        head[24..28].copy_from_slice(&self.group.to_le_bytes());
        head[28..30].copy_from_slice(&self.slot.to_le_bytes());
        head[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        head[36..40].copy_from_slice(&self.deadline_ms.to_le_bytes());
        head
    }

    /// Appends the request with its command.
    pub fn put(&self, out: &mut BytesMut, resp: &[u8]) {
        out.reserve(REQUEST_HEADER_LEN + resp.len());
        out.put_slice(&self.header(resp.len()));
        out.put_slice(resp);
    }
}

/// How a request ended. Frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplyClass {
    /// Executed; the payload is the reply (which may be an error line).
    Ok = 0,
    /// Not executed, and never will be; the payload is an error line.
    NotExecuted = 1,
    /// It may or may not have been executed; the payload is an error line.
    Unknown = 2,
    /// Not executed here; the payload is a [`Moved`].
    Moved = 3,
    /// The payload is a part of the reply, and not the last: that has class
    /// [`ReplyClass::Ok`].
    More = 4,
}

impl ReplyClass {
    fn from_wire(byte: u8) -> Result<Self, LinkError> {
        match byte {
            0 => Ok(Self::Ok),
            1 => Ok(Self::NotExecuted),
            2 => Ok(Self::Unknown),
            3 => Ok(Self::Moved),
            4 => Ok(Self::More),
            _ => Err(LinkError::BadField("reply class")),
        }
    }
}

/// A REPLY.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The request that it answers.
    pub request: u64,
    /// How it ended.
    pub class: ReplyClass,
    /// RESP bytes, or the body of a [`Moved`].
    pub payload: Payload<'a>,
}

impl Reply<'_> {
    /// The hint of a reply of class [`ReplyClass::Moved`].
    ///
    /// # Errors
    /// [`LinkError::BadField`] if the body is not a `Moved`.
    pub fn moved(&self) -> Result<Moved<'_>, LinkError> {
        Moved::decode(&self.payload)
    }
}

/// Why a command was not executed here. Frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Another group owns the slot.
    Moved = 0,
    /// The slot is being imported or exported; ask the hinted node once, with
    /// [`RequestFlags::ASKING`].
    Ask = 1,
    /// The slot is frozen by a reshard's switch: wait, then try again here or
    /// where the map then says.
    Frozen = 2,
    /// This replica is not its group's leader; the hint, if any, is.
    NotLeader = 3,
    /// An earlier command of this logical connection and slot was not
    /// executed, so this one was not either (see `RULES.md`).
    Fenced = 4,
}

/// Where a command should have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved<'a> {
    /// The slot, or [`super::NO_SLOT`].
    pub slot: u16,
    /// Why.
    pub reason: Reason,
    /// The owning group as this node knows it; 0 if it does not.
    pub group: u32,
    /// Epoch of the slot there; 0 if not known.
    pub epoch: u32,
    /// Peer address (`host:port`) of the group's leader; empty if not known.
    pub address: &'a str,
}

const MOVED_LEN: usize = 12;

impl<'a> Moved<'a> {
    fn decode(body: &'a [u8]) -> Result<Self, LinkError> {
        if body.len() < MOVED_LEN {
            return Err(LinkError::BadField("moved hint"));
        }
        let reason = match body[2] {
            0 => Reason::Moved,
            1 => Reason::Ask,
            2 => Reason::Frozen,
            3 => Reason::NotLeader,
            4 => Reason::Fenced,
            _ => return Err(LinkError::BadField("moved reason")),
        };
        let address = std::str::from_utf8(&body[MOVED_LEN..])
            .map_err(|_| LinkError::BadField("moved address"))?;
        Ok(Self {
            slot: u16_at(body, 0),
            reason,
            group: u32_at(body, 4),
            epoch: u32_at(body, 8),
            address,
        })
    }

    /// Appends a REPLY of class [`ReplyClass::Moved`] with this hint.
    pub fn put_reply(&self, out: &mut BytesMut, request: u64) {
        put_reply_header(
            out,
            request,
            ReplyClass::Moved,
            MOVED_LEN + self.address.len(),
        );
        out.put_u16_le(self.slot);
        out.put_u8(self.reason as u8);
        out.put_u8(0);
        out.put_u32_le(self.group);
        out.put_u32_le(self.epoch);
        out.put_slice(self.address.as_bytes());
    }
}

/// The 16 bytes in front of a reply of `payload_len` bytes.
#[inline]
pub fn reply_header(request: u64, class: ReplyClass, payload_len: usize) -> [u8; HEADER_LEN] {
    let mut head = [0u8; HEADER_LEN];
    let len = HEADER_LEN + payload_len;
    put_head(&mut head, len, REPLY, class as u8, 0, request);
    head
}

/// Appends the 16 bytes in front of a reply whose `payload_len` bytes the
/// caller writes next (or sends as a separate buffer).
pub fn put_reply_header(out: &mut BytesMut, request: u64, class: ReplyClass, payload_len: usize) {
    put_header(
        out,
        HEADER_LEN + payload_len,
        REPLY,
        class as u8,
        0,
        request,
    );
}

/// Appends a whole reply.
pub fn put_reply(out: &mut BytesMut, request: u64, class: ReplyClass, resp: &[u8]) {
    out.reserve(HEADER_LEN + resp.len());
    put_reply_header(out, request, class, resp.len());
    out.put_slice(resp);
}

/// Where an unfinished reply began; see [`begin_reply`].
#[derive(Debug)]
#[must_use = "an unfinished frame desynchronises the link"]
pub struct FrameMark(usize);

/// Begins a reply whose length is not known yet: write RESP into `out`, then
/// call [`finish_reply`] with the mark.
pub fn begin_reply(out: &mut BytesMut, request: u64) -> FrameMark {
    let mark = FrameMark(out.len());
    put_reply_header(out, request, ReplyClass::Ok, 0);
    mark
}

/// Completes the reply begun at `mark`; everything after it is its payload.
pub fn finish_reply(out: &mut BytesMut, mark: FrameMark, class: ReplyClass) {
    let len = frame_len(out.len() - mark.0);
    out[mark.0..mark.0 + 4].copy_from_slice(&len.to_le_bytes());
    out[mark.0 + 5] = class as u8;
}

/// OPEN: a client's session begins on this link, or goes on as another user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// Its id, chosen by the proxy: a dense index in the low 32 bits, a generation
    /// in the high ones.
    pub logical: u64,
    /// Bytes of PUSH payload that the node may send before more credit.
    pub push_credit: u32,
    /// The authenticated user, a name of at most 255 bytes.
    pub user: &'a [u8],
    /// The client's address, for logs and CLIENT LIST.
    pub client: &'a str,
}

impl<'a> Open<'a> {
    /// Appends the frame. A longer name is cut: nobody has it, or what it becomes.
    pub fn put(&self, out: &mut BytesMut) {
        let user = &self.user[..self.user.len().min(255)];
        let len = HEADER_LEN + 5 + user.len() + self.client.len();
        put_header(out, len, OPEN, 0, 0, self.logical);
        out.put_u32_le(self.push_credit);
        out.put_u8(user.len() as u8);
        out.put_slice(user);
        out.put_slice(self.client.as_bytes());
    }

    pub(super) fn decode(logical: u64, body: &'a [u8]) -> Result<Self, LinkError> {
        let user_end = 5 + usize::from(body[4]);
        if user_end > body.len() {
            return Err(LinkError::BadField("user"));
        }
        let client = std::str::from_utf8(&body[user_end..]);
        Ok(Self {
            logical,
            push_credit: u32_at(body, 0),
            user: &body[5..user_end],
            client: client.map_err(|_| LinkError::BadField("client address"))?,
        })
    }
}

/// CLOSE: the session ends. What it asked before is still answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The session.
    pub logical: u64,
}

impl Close {
    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        put_header(out, HEADER_LEN, CLOSE, 0, 0, self.logical);
    }
}

/// CREDIT: from the node, more room for a session's unanswered requests; from
/// the proxy (`requests` is 0), more room for PUSH bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The session.
    pub logical: u64,
    /// Requests to add to the window.
    pub requests: u32,
    /// Bytes to add to the window.
    pub bytes: u32,
}

impl Credit {
    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        put_header(out, HEADER_LEN + 8, CREDIT, 0, 0, self.logical);
        out.put_u32_le(self.requests);
        out.put_u32_le(self.bytes);
    }
}

/// GRANT: from the proxy, so many bytes more of a reply in pieces may be sent. The
/// first [`super::FIRST_GRANT`] need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The request whose reply it is; one that is answered by now is no error.
    pub request: u64,
    /// Bytes of payload.
    pub bytes: u32,
}

impl Grant {
    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        put_header(out, HEADER_LEN + 4, GRANT, 0, 0, self.request);
        out.put_u32_le(self.bytes);
    }
}

/// PUSH: what a client gets without asking (messages, invalidations), and what
/// the proxy has to know of a session. See [`Push::MESSAGES`] and its company.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The session.
    pub logical: u64,
    /// What it is.
    pub kind: u8,
    /// By the kind.
    pub payload: Payload<'a>,
}

impl Push<'_> {
    /// Messages and invalidations: RESP3 pushes, back to back.
    pub const MESSAGES: u8 = 1;
    /// A request waits for its keys from now on: its id, u64.
    pub const WAITS: u8 = 2;
    /// The session had too much unread, and gets nothing unasked any more.
    pub const CUT_OFF: u8 = 3;

    /// Appends a PUSH frame.
    pub fn put(out: &mut BytesMut, logical: u64, kind: u8, resp: &[u8]) {
        put_header(out, HEADER_LEN + resp.len(), PUSH, kind, 0, logical);
        out.put_slice(resp);
    }
}

/// PING and PONG: keep-alive. The answer carries the question's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Chosen by whoever asks.
    pub token: u64,
}

impl Ping {
    /// Appends a PING.
    pub fn put(&self, out: &mut BytesMut) {
        put_header(out, HEADER_LEN, PING, 0, 0, self.token);
    }

    /// Appends the PONG that answers this PING.
    pub fn put_pong(&self, out: &mut BytesMut) {
        put_header(out, HEADER_LEN, PONG, 0, 0, self.token);
    }
}

/// GOAWAY: the sender will close the link soon. The receiver sends no new
/// request; everything that was sent is still answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoAway<'a> {
    /// 0 is a shutdown, 1 a protocol error, 2 an overload.
    pub reason: u8,
    /// For the log.
    pub text: &'a str,
}

impl GoAway<'_> {
    /// Appends the frame.
    pub fn put(&self, out: &mut BytesMut) {
        put_header(out, HEADER_LEN + self.text.len(), GOAWAY, self.reason, 0, 0);
        out.put_slice(self.text.as_bytes());
    }
}

/// Any frame after the handshake.
#[derive(Debug, Clone, Copy)]
pub enum Frame<'a> {
    /// A command, proxy to node.
    Request(Request<Payload<'a>>),
    /// Its answer, node to proxy.
    Reply(Reply<'a>),
    /// A session begins.
    Open(Open<'a>),
    /// A session ends.
    Close(Close),
    /// More room.
    Credit(Credit),
    /// Unasked-for message to a client.
    Push(Push<'a>),
    /// Are you there?
    Ping(Ping),
    /// Yes.
    Pong(Ping),
    /// The link will close.
    GoAway(GoAway<'a>),
    /// More room for a reply in pieces.
    Grant(Grant),
}

impl<'a> Frame<'a> {
    /// Reads one whole frame, whose first four bytes are its own length.
    pub(super) fn decode(frame: Payload<'a>) -> Result<Self, LinkError> {
        let kind = frame[4];
        let need = match kind {
            REQUEST => REQUEST_HEADER_LEN,
            OPEN => HEADER_LEN + 5,
            CREDIT => HEADER_LEN + 8,
            GRANT => HEADER_LEN + 4,
            _ => HEADER_LEN,
        };
        if frame.len() < need {
            return Err(LinkError::TooShort {
                kind,
                len: frame.len(),
            });
        }
        let (flags, id) = (frame[5], u64_at(&frame, 8));
        let body = frame.after(HEADER_LEN);
        Ok(match kind {
            REPLY => Self::Reply(Reply {
                request: id,
                class: ReplyClass::from_wire(flags)?,
                payload: body,
            }),
            REQUEST => Self::Request(decode_request(frame)),
            OPEN => Self::Open(Open::decode(id, body.as_slice())?),
            CLOSE => Self::Close(Close { logical: id }),
            CREDIT => Self::Credit(Credit {
                logical: id,
                requests: u32_at(&body, 0),
                bytes: u32_at(&body, 4),
            }),
            PUSH => Self::Push(Push {
                logical: id,
                kind: flags,
                payload: body,
            }),
            GRANT => Self::Grant(Grant {
                request: id,
                bytes: u32_at(&body, 0),
            }),
            PING => Self::Ping(Ping { token: id }),
            PONG => Self::Pong(Ping { token: id }),
            GOAWAY => Self::GoAway(GoAway {
                reason: flags,
                text: std::str::from_utf8(body.as_slice())
                    .map_err(|_| LinkError::BadField("goaway text"))?,
            }),
            other => return Err(LinkError::UnknownFrame(other)),
        })
    }
}

fn decode_request(frame: Payload<'_>) -> Request<Payload<'_>> {
    Request {
        request: u64_at(&frame, 8),
        logical: u64_at(&frame, 16),
        database: u16_at(&frame, 6),
        flags: RequestFlags(frame[5]),
        group: u32_at(&frame, 24),
        slot: u16_at(&frame, 28),
        epoch: u32_at(&frame, 32),
        deadline_ms: u32_at(&frame, 36),
        resp: frame.after(REQUEST_HEADER_LEN),
    }
}

/// Every encoder's length: what does not fit in u32 was refused long before.
fn frame_len(len: usize) -> u32 {
    u32::try_from(len).expect("a frame is bounded far below 4 GiB by the limits on its payload")
}

fn put_head(head: &mut [u8], len: usize, kind: u8, flags: u8, aux: u16, id: u64) {
    head[..4].copy_from_slice(&frame_len(len).to_le_bytes());
    head[4] = kind;
    head[5] = flags;
    head[6..8].copy_from_slice(&aux.to_le_bytes());
    head[8..16].copy_from_slice(&id.to_le_bytes());
}

pub(super) fn put_header(out: &mut BytesMut, len: usize, kind: u8, flags: u8, aux: u16, id: u64) {
    let mut head = [0u8; HEADER_LEN];
    put_head(&mut head, len, kind, flags, aux, id);
    out.put_slice(&head);
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, NO_SLOT};
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn encoded(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        hex(&out)
    }

    fn request() -> Request<()> {
        Request {
            request: 0x0102_0304_0506_0708,
            logical: 0x1112_1314_1516_1718,
            database: 0x2122,
            flags: RequestFlags::RESP3.with(RequestFlags::RESUME),
            group: 0x3132_3334,
            slot: 0x3fff,
            epoch: 0x4142_4344,
            deadline_ms: 5000,
            resp: (),
        }
    }

    #[test]
    fn request_bytes_are_frozen() {
        assert_eq!(
            encoded(|out| request().put(out, b"*1\r\n")),
            "2c00000010112221080706050403020118171615141312113433\
             3231ff3f0000444342418813 00002a310d0a"
                .replace(' ', "")
        );
    }

    #[test]
    fn reply_bytes_are_frozen() {
        for (class, byte) in [
            (ReplyClass::Ok, "00"),
            (ReplyClass::NotExecuted, "01"),
            (ReplyClass::Unknown, "02"),
            (ReplyClass::Moved, "03"),
            (ReplyClass::More, "04"),
        ] {
            assert_eq!(
                encoded(|out| put_reply(out, 9, class, b"+OK\r\n")),
                format!("1500000011{byte}000009000000000000002b4f4b0d0a")
            );
        }
    }

    #[test]
    fn moved_bytes_are_frozen() {
        for (reason, byte) in [
            (Reason::Moved, "00"),
            (Reason::Ask, "01"),
            (Reason::Frozen, "02"),
            (Reason::NotLeader, "03"),
            (Reason::Fenced, "04"),
        ] {
            let moved = Moved {
                slot: 258,
                reason,
                group: 7,
                epoch: 3,
                address: "h:1",
            };
            assert_eq!(
                encoded(|out| moved.put_reply(out, 1)),
                format!("1f00000011030000010000000000000002 01{byte}000700000003000000683a31")
                    .replace(' ', "")
            );
        }
    }

    #[test]
    fn the_other_frames_bytes_are_frozen() {
        let open = Open {
            logical: 5,
            push_credit: 1024,
            user: b"bob",
            client: "1.2.3.4:5",
        };
        assert_eq!(
            encoded(|out| open.put(out)),
            "21000000120000000500000000000000000400000 3626f62312e322e332e343a35".replace(' ', "")
        );
        assert_eq!(
            encoded(|out| Close { logical: 5 }.put(out)),
            "10000000130000000500000000000000"
        );
        assert_eq!(
            encoded(|out| Credit {
                logical: 5,
                requests: 2,
                bytes: 3
            }
            .put(out)),
            "180000001400000005000000000000000200000003000000"
        );
        assert_eq!(
            encoded(|out| Push::put(out, 5, 1, b"_\r\n")),
            "130000001501000005000000000000005f0d0a"
        );
        assert_eq!(
            encoded(|out| Ping { token: 6 }.put(out)),
            "10000000160000000600000000000000"
        );
        assert_eq!(
            encoded(|out| Ping { token: 6 }.put_pong(out)),
            "10000000170000000600000000000000"
        );
        assert_eq!(
            encoded(|out| GoAway {
                reason: 0,
                text: "bye"
            }
            .put(out)),
            "1300000018000000000000000000000062 7965".replace(' ', "")
        );
        assert_eq!(
            encoded(|out| Grant {
                request: 9,
                bytes: 0x0102_0304
            }
            .put(out)),
            "1400000019000000090000000000000004030201"
        );
    }

    #[test]
    fn request_flag_bits_are_frozen() {
        assert_eq!(
            [
                RequestFlags::RESP3,
                RequestFlags::ASKING,
                RequestFlags::TRANSACTION,
                RequestFlags::READONLY,
                RequestFlags::RESUME,
                RequestFlags::PART,
                RequestFlags::TRACK,
                RequestFlags::PIECES
            ]
            .map(|f| f.0),
            [1, 2, 4, 8, 16, 32, 64, 128]
        );
        assert_eq!(NO_SLOT, 0xffff);
    }

    #[test]
    fn every_frame_reads_back_as_written() {
        let mut wire = BytesMut::new();
        request().put(&mut wire, b"*1\r\n$4\r\nPING\r\n");
        let mark = begin_reply(&mut wire, 77);
        wire.put_slice(b"+PONG\r\n");
        finish_reply(&mut wire, mark, ReplyClass::Unknown);
        let hint = Moved {
            slot: 1,
            reason: Reason::Frozen,
            group: 2,
            epoch: 3,
            address: "a:4",
        };
        hint.put_reply(&mut wire, 78);
        Open {
            logical: 1,
            push_credit: 2,
            user: b"",
            client: "c",
        }
        .put(&mut wire);
        Close { logical: 1 }.put(&mut wire);
        put_reply(&mut wire, 79, ReplyClass::More, b"*9\r\n");
        Grant {
            request: 79,
            bytes: 5,
        }
        .put(&mut wire);
        let batch = Decoder::new(1 << 20).take(&mut wire).unwrap().unwrap();
        let mut frames = batch.frames();
        let mut next = || frames.next().unwrap().unwrap();
        match next() {
            Frame::Request(read) => {
                let want = request();
                assert_eq!((read.request, read.logical), (want.request, want.logical));
                assert_eq!((read.database, read.flags), (want.database, want.flags));
                assert_eq!((read.group, read.slot), (want.group, want.slot));
                assert_eq!(
                    (read.epoch, read.deadline_ms),
                    (want.epoch, want.deadline_ms)
                );
                assert_eq!(&*read.resp.share(), b"*1\r\n$4\r\nPING\r\n");
            }
            other => panic!("{other:?}"),
        }
        match next() {
            Frame::Reply(reply) => {
                assert_eq!((reply.request, reply.class), (77, ReplyClass::Unknown));
                assert_eq!(reply.payload.as_slice(), b"+PONG\r\n");
            }
            other => panic!("{other:?}"),
        }
        match next() {
            Frame::Reply(reply) => assert_eq!(reply.moved().unwrap(), hint),
            other => panic!("{other:?}"),
        }
        assert!(matches!(next(), Frame::Open(open) if open.client == "c" && open.user.is_empty()));
        assert!(matches!(next(), Frame::Close(Close { logical: 1 })));
        match next() {
            Frame::Reply(reply) => {
                assert_eq!((reply.request, reply.class), (79, ReplyClass::More));
                assert_eq!(reply.payload.as_slice(), b"*9\r\n");
            }
            other => panic!("{other:?}"),
        }
        let grant = Grant {
            request: 79,
            bytes: 5,
        };
        assert!(matches!(next(), Frame::Grant(got) if got == grant));
        assert!(frames.next().is_none());
    }
}
