//! A node's replication feed for a proxy: what its groups hold, then every change.
//!
//! A connection of its own, opened by the handshake of a link with
//! [`PeerKind::Feed`](super::PeerKind::Feed); from WELCOME on these frames take the
//! place of the link's. All integers are little-endian.
//!
//! ```text
//! proxy to node, 9 bytes   | kind u8 | number u64 |
//!   SYNC 1  number: 1 keys, 2 functions, 4 changes     SEND 2
//!   ACK 3   number: an offset                          MARK 4
//!
//! node to proxy, 32 bytes and the payload
//!  0         4      5       6       7    8           12    16          24
//!  | len u32 | kind | first | last | 0 | group u32 | 0   | stamp u64 | offset u64 | payload
//!
//!   GROUP 1      payload: (first u16, last u16) of each run of slots that the group owns
//!   LIBRARY 2    payload: the code of a library of functions
//!   READY 3      all of these were sent; on SEND the keys follow
//!   PART 4       payload: a piece of an RDB file without head and tail
//!   SENT 5       that was all; from here on the changes
//!   TAPE 6       payload: commands of one entry of `group`
//!   WHOLE 7      payload: one command on a whole database, which means the group's slots
//!   MESSAGE 8    payload: a PUBLISH
//!   FUNCTIONS 9  payload: a FUNCTION command
//!   PING 10      ASK 11 (GETACK)      MARKED 12
//!   ALIVE 13     nothing yet, but the node is at work
//! ```
//!
//! `len` counts the payload. Commands begin in database `first` and leave `last`
//! selected. A stamp is the node's clock, unix microseconds, and higher with every
//! frame of changes: of two changes of which one saw the other, the later has the
//! higher one, as far as clocks agree. An offset says how much was told: to ACK it is
//! to have all up to that frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::LinkError;

/// Bytes in front of a frame's payload.
pub const FRAME_HEADER: usize = 32;
/// Bytes of a request.
pub const REQUEST_LEN: usize = 9;
/// Longest payload: an entry with a value of 512 MB, and its command.
const MAX_PAYLOAD: usize = 1 << 30;

/// What a frame is. Frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    Group = 1,
    Library = 2,
    Ready = 3,
    Part = 4,
    Sent = 5,
    Tape = 6,
    Whole = 7,
    Message = 8,
    Functions = 9,
    Ping = 10,
    Ask = 11,
    Marked = 12,
    Alive = 13,
}

impl FrameKind {
    fn of(byte: u8) -> Option<FrameKind> {
        use FrameKind::*;
        let all = [
            Group, Library, Ready, Part, Sent, Tape, Whole, Message, Functions, Ping, Ask, Marked,
            Alive,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    pub kind: FrameKind,
    /// Databases that the commands begin in and leave selected.
    pub databases: (u8, u8),
    pub group: u32,
    pub stamp: u64,
    pub offset: u64,
}

impl FrameHead {
    /// Of a frame that is no change.
    pub fn plain(kind: FrameKind) -> FrameHead {
        FrameHead {
            kind,
            databases: (0, 0),
            group: 0,
            stamp: 0,
            offset: 0,
        }
    }

    /// The bytes in front of a payload of `len` bytes.
    ///
    /// # Panics
    /// If the payload is longer than any entry can be.
    pub fn encode(&self, len: usize) -> [u8; FRAME_HEADER] {
        assert!(
            len <= MAX_PAYLOAD,
            "a payload is bounded by the entry's cap"
        );
        let mut bytes = [0; FRAME_HEADER];
        let mut out = &mut bytes[..];
        out.put_u32_le(len as u32);
        out.put_slice(&[self.kind as u8, self.databases.0, self.databases.1, 0]);
        out.put_u32_le(self.group);
        out.put_u32_le(0);
        out.put_u64_le(self.stamp);
        out.put_u64_le(self.offset);
        bytes
    }

    /// Appends a whole frame.
    pub fn put(&self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encode(payload.len()));
        out.extend_from_slice(payload);
    }
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub head: FrameHead,
    pub payload: Bytes,
}

/// Takes the next whole frame; `None` while bytes are missing, for which room is made
/// as they come.
///
/// # Errors
/// A kind that is unknown, a payload longer than any can be.
pub fn take_frame(input: &mut BytesMut) -> Result<Option<Frame>, LinkError> {
    let Some((mut head, _)) = input.split_at_checked(FRAME_HEADER) else {
        return Ok(None);
    };
    let len = head.get_u32_le() as usize;
    if len > MAX_PAYLOAD {
        return Err(LinkError::BadField("length of a frame of a feed"));
    }
    let kind = FrameKind::of(head.get_u8()).ok_or(LinkError::BadField("kind of a frame"))?;
    let databases = (head.get_u8(), head.get_u8());
    head.advance(1);
    let group = head.get_u32_le();
    head.advance(4);
    let head = FrameHead {
        kind,
        databases,
        group,
        stamp: head.get_u64_le(),
        offset: head.get_u64_le(),
    };
    if input.len() < FRAME_HEADER + len {
        return Ok(None);
    }
    input.advance(FRAME_HEADER);
    let payload = input.split_to(len).freeze();
    Ok(Some(Frame { head, payload }))
}

/// What is wanted of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    pub keys: bool,
    pub functions: bool,
    pub changes: bool,
}

/// What a proxy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedRequest {
    /// Pin what there is, and tell of changes from there on.
    Sync(Wish),
    /// Now send the keys.
    Send,
    /// The replica has all up to this offset.
    Ack(u64),
    /// Say that all is sent that was told by now.
    Mark,
}

impl FeedRequest {
    /// Its bytes.
    pub fn encode(self) -> [u8; REQUEST_LEN] {
        let (kind, number) = match self {
            FeedRequest::Sync(wish) => {
                let bits = [wish.keys, wish.functions, wish.changes];
                (
                    1,
                    (0..).zip(bits).map(|(at, bit)| u64::from(bit) << at).sum(),
                )
            }
            FeedRequest::Send => (2, 0),
            FeedRequest::Ack(offset) => (3, offset),
            FeedRequest::Mark => (4, 0),
        };
        let mut bytes = [kind; REQUEST_LEN];
        bytes[1..].copy_from_slice(&u64::to_le_bytes(number));
        bytes
    }

    /// Takes the next one; `None` while bytes are missing.
    ///
    /// # Errors
    /// A kind that is unknown.
    pub fn take(input: &mut BytesMut) -> Result<Option<FeedRequest>, LinkError> {
        if input.len() < REQUEST_LEN {
            return Ok(None);
        }
        let (kind, number) = (input.get_u8(), input.get_u64_le());
        Ok(Some(match kind {
            1 => FeedRequest::Sync(Wish {
                keys: number & 1 != 0,
                functions: number & 2 != 0,
                changes: number & 4 != 0,
            }),
            2 => FeedRequest::Send,
            3 => FeedRequest::Ack(number),
            4 => FeedRequest::Mark,
            _ => return Err(LinkError::BadField("kind of a feed's request")),
        }))
    }
}

/// Appends runs of slots, as in the payload of GROUP.
pub fn put_runs(runs: &[(u16, u16)], out: &mut Vec<u8>) {
    for (first, last) in runs {
        out.put_u16_le(*first);
        out.put_u16_le(*last);
    }
}

/// The runs of slots of a GROUP.
///
/// # Errors
/// Half a run.
pub fn runs(mut payload: &[u8]) -> Result<Vec<(u16, u16)>, LinkError> {
    if !payload.len().is_multiple_of(4) {
        return Err(LinkError::BadField("runs of slots"));
    }
    let mut runs = Vec::new();
    while payload.has_remaining() {
        runs.push((payload.get_u16_le(), payload.get_u16_le()));
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_frames_and_requests() {
        let head = FrameHead {
            kind: FrameKind::Tape,
            databases: (2, 3),
            group: 7,
            stamp: 0x0102_0304_0506_0708,
            offset: 0x1112,
        };
        let mut bytes = Vec::new();
        head.put(b"abc", &mut bytes);
        let expected = b"\x03\0\0\0\x06\x02\x03\0\x07\0\0\0\0\0\0\0\
            \x08\x07\x06\x05\x04\x03\x02\x01\x12\x11\0\0\0\0\0\0abc";
        assert_eq!(bytes, expected);
        let wish = Wish {
            keys: true,
            functions: false,
            changes: true,
        };
        assert_eq!(FeedRequest::Sync(wish).encode(), *b"\x01\x05\0\0\0\0\0\0\0");
        assert_eq!(FeedRequest::Ack(258).encode(), *b"\x03\x02\x01\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_encoded_comes_back_however_it_is_cut() {
        let mut bytes = Vec::new();
        FrameHead::plain(FrameKind::Ready).put(b"", &mut bytes);
        let mut runs_of = Vec::new();
        put_runs(&[(0, 5), (7, 16383)], &mut runs_of);
        FrameHead::plain(FrameKind::Group).put(&runs_of, &mut bytes);
        let mut input = BytesMut::new();
        let mut frames = Vec::new();
        for byte in bytes {
            input.put_u8(byte);
            frames.extend(take_frame(&mut input).unwrap());
        }
        assert_eq!(frames.len(), 2);
        assert_eq!(runs(&frames[1].payload).unwrap(), [(0, 5), (7, 16383)]);
        for request in [FeedRequest::Send, FeedRequest::Mark, FeedRequest::Ack(9)] {
            let mut input = BytesMut::from(&request.encode()[..]);
            assert_eq!(FeedRequest::take(&mut input).unwrap(), Some(request));
        }
    }

    #[test]
    fn what_no_node_sends_is_refused() {
        let mut input = BytesMut::from(&[0xff; FRAME_HEADER][..]);
        assert!(take_frame(&mut input).is_err());
        let mut input = BytesMut::from(&[0; FRAME_HEADER][..]);
        assert!(take_frame(&mut input).is_err());
        let mut input = BytesMut::from(&[9; REQUEST_LEN][..]);
        assert!(FeedRequest::take(&mut input).is_err());
        assert!(runs(&[1, 2, 3]).is_err());
    }
}
