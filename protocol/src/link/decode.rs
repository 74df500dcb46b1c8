//! Finds frames in a read buffer, without copying and without trust.

use super::frame::u32_at;
use super::{Frame, HEADER_LEN, LinkError};
use bytes::{Bytes, BytesMut};
use std::ops::Deref;

/// Cuts whole frames off the front of a read buffer.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Bytes of the longest frame accepted, header included.
    max_frame: usize,
}

impl Decoder {
    /// A decoder that refuses frames above `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self { max_frame }
    }

    /// Changes the limit, as when a handshake is complete.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Takes all whole frames off the front of `input`, in one piece; `None`
    /// if not even one is complete. What was taken before a bad length is
    /// handed out first; the error comes with the next call.
    ///
    /// # Errors
    /// [`LinkError::TooLong`] or [`LinkError::TooShort`] of the first frame.
    pub fn take(&self, input: &mut BytesMut) -> Result<Option<Batch>, LinkError> {
        let mut end = 0;
        loop {
            match self.frame_at(&input[end..]) {
                Ok(Some(len)) => end += len,
                Ok(None) => break,
                Err(error) if end == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok((end > 0).then(|| Batch {
            whole: input.split_to(end).freeze(),
        }))
    }

    /// As [`Self::take`], but at most one frame: for the handshake.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_one(&self, input: &mut BytesMut) -> Result<Option<Batch>, LinkError> {
        let len = self.frame_at(input)?;
        Ok(len.map(|len| Batch {
            whole: input.split_to(len).freeze(),
        }))
    }

    /// Length of the whole frame that `bytes` begins with.
    fn frame_at(&self, bytes: &[u8]) -> Result<Option<usize>, LinkError> {
        if bytes.len() < 4 {
            return Ok(None);
        }
        let len = u32_at(bytes, 0) as usize;
        if len > self.max_frame {
            return Err(LinkError::TooLong {
                len,
                limit: self.max_frame,
            });
        }
        if len < HEADER_LEN {
            return Err(LinkError::TooShort {
                kind: bytes.get(4).copied().unwrap_or(0),
                len,
            });
        }
        Ok((bytes.len() >= len).then_some(len))
    }
}

/// One or more whole frames, sharing one buffer.
#[derive(Debug, Clone)]
pub struct Batch {
    whole: Bytes,
}

impl Batch {
    /// The frames, in order. A bad frame is the last item.
    pub fn frames(&self) -> impl Iterator<Item = Result<Frame<'_>, LinkError>> {
        self.raw().map(Frame::decode)
    }

    /// The frames, undecoded.
    pub(super) fn raw(&self) -> impl Iterator<Item = Payload<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == self.whole.len() {
                return None;
            }
            let len = u32_at(&self.whole, at) as usize;
            let bytes = &self.whole[at..at + len];
            at += len;
            Some(Payload {
                whole: &self.whole,
                bytes,
            })
        })
    }
}

/// Bytes of a frame: a plain slice to look at or copy, and a shared slice of
/// the read buffer for whoever must keep it.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    whole: &'a Bytes,
    bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// The bytes, for as long as the batch lives.
    pub fn as_slice(&self) -> &'a [u8] {
        self.bytes
    }

    /// The batch's buffer, and where in it these bytes are.
    pub fn place(&self) -> (&'a Bytes, std::ops::Range<usize>) {
        let start = self.bytes.as_ptr() as usize - self.whole.as_ptr() as usize;
        (self.whole, start..start + self.bytes.len())
    }

    /// A handle that keeps the whole batch alive; no copy.
    pub fn share(&self) -> Bytes {
        self.whole.slice_ref(self.bytes)
    }

    /// Without the first `n` bytes.
    pub(super) fn after(self, n: usize) -> Self {
        Self {
            whole: self.whole,
            bytes: &self.bytes[n..],
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ReplyClass, frame::put_header, put_reply};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_may_arrive_byte_by_byte() {
        let mut wire = BytesMut::new();
        put_reply(&mut wire, 1, ReplyClass::Ok, b"+A\r\n");
        put_reply(&mut wire, 2, ReplyClass::Ok, b"+B\r\n");
        let (decoder, mut input, mut seen) = (Decoder::new(64), BytesMut::new(), Vec::new());
        for byte in wire {
            input.extend_from_slice(&[byte]);
            while let Some(batch) = decoder.take(&mut input).unwrap() {
                for frame in batch.frames() {
                    let Frame::Reply(reply) = frame.unwrap() else {
                        panic!("not a reply")
                    };
                    seen.push((reply.request, reply.payload.to_vec()));
                }
            }
        }
        assert_eq!(seen, [(1, b"+A\r\n".to_vec()), (2, b"+B\r\n".to_vec())]);
    }

    #[test]
    fn a_declared_length_above_the_limit_is_refused_before_it_arrives() {
        let mut input = BytesMut::from(&[0xff, 0xff, 0xff, 0x7f][..]);
        let before = input.capacity();
        let error = Decoder::new(1 << 20).take(&mut input).unwrap_err();
        assert!(matches!(
            error,
            LinkError::TooLong {
                len: 0x7fff_ffff,
                ..
            }
        ));
        assert!(input.capacity() <= before);
    }

    #[test]
    fn good_frames_before_a_bad_length_are_handed_out_first() {
        let mut input = BytesMut::new();
        put_reply(&mut input, 1, ReplyClass::Ok, b"+A\r\n");
        input.extend_from_slice(&[1, 0, 0, 0]);
        let decoder = Decoder::new(64);
        assert_eq!(
            decoder.take(&mut input).unwrap().unwrap().frames().count(),
            1
        );
        assert!(matches!(
            decoder.take(&mut input),
            Err(LinkError::TooShort { len: 1, .. })
        ));
    }

    #[test]
    fn unknown_types_and_short_bodies_are_errors() {
        let one = |kind, len| {
            let mut input = BytesMut::new();
            put_header(&mut input, len, kind, 0, 0, 0);
            input.resize(len, 0);
            let batch = Decoder::new(64).take(&mut input).unwrap().unwrap();
            batch.frames().next().unwrap().map(|_| ())
        };
        assert_eq!(one(99, 16), Err(LinkError::UnknownFrame(99)));
        assert_eq!(one(16, 39), Err(LinkError::TooShort { kind: 16, len: 39 }));
        assert_eq!(one(18, 20), Err(LinkError::TooShort { kind: 18, len: 20 }));
        assert_eq!(one(20, 23), Err(LinkError::TooShort { kind: 20, len: 23 }));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(batch)) = Decoder::new(256).take(&mut input) {
                for frame in batch.frames() {
                    if let Ok(Frame::Reply(reply)) = frame {
                        let _ = reply.moved();
                    }
                }
            }
        }

        #[test]
        fn well_framed_random_bodies_never_panic(
            kind in 0u8..32, flags: u8, body in proptest::collection::vec(any::<u8>(), 0..100)
        ) {
            let mut input = BytesMut::new();
            put_header(&mut input, HEADER_LEN + body.len(), kind, flags, 0, 0);
            input.extend_from_slice(&body);
            let batch = Decoder::new(256).take(&mut input).unwrap().unwrap();
            for frame in batch.frames() {
                if let Ok(Frame::Reply(reply)) = frame {
                    let _ = reply.moved();
                }
            }
        }
    }
}
