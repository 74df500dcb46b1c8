//! Bytes in and out, big-endian, for the formats of this folder.
//!
//! Every reader is bounded by its input: a length that exceeds what is left is
//! an error before anything is allocated for it.

use bytes::Bytes;
use thiserror::Error;

/// Why stored or received migration bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("migration record ends early")]
    Short,
    #[error("migration record has {0} bytes too many")]
    Trailing(usize),
    #[error("unknown {what} number {number}")]
    Unknown { what: &'static str, number: u64 },
    #[error("invalid {0}")]
    Invalid(&'static str),
}

/// Appends fixed-width big-endian fields to a byte vector.
pub(super) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_u128(&mut self, value: u128);
    /// `length u32 | bytes`
    fn put_bytes(&mut self, value: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_bytes(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).expect("an entry is capped far below 4 GiB");
        self.put_u32(length);
        self.extend_from_slice(value);
    }
}

/// Takes fields off the front of a buffer; byte strings are shared slices.
pub(super) struct Take {
    rest: Bytes,
}

impl Take {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let field = self.rest.get(..N).ok_or(DecodeError::Short)?;
        let array = field.try_into().expect("the slice has N bytes");
        self.rest = self.rest.slice(N..);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    pub(super) fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    /// Zero or one; anything else is damage.
    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Unknown {
                what: "flag",
                number: u64::from(other),
            }),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        if length > self.rest.len() {
            return Err(DecodeError::Short);
        }
        Ok(self.rest.split_to(length))
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The whole record must have been understood.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}
