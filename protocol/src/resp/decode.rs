//! Replies as trees, for code that must understand them (merging, rewriting,
//! admin tools).
//!
//! The trees and their decoders are those of `redis-protocol`. Its decoders
//! recurse and take time in proportion to the square of the pieces that a
//! reply comes in, so they are given only what [`FrameScanner`] found to be
//! one complete reply of bounded depth.

use bytes::Bytes;
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::types::BytesFrame as Resp2Frame;
pub use redis_protocol::resp3::types::{BytesFrame as Frame, VerbatimStringFormat};

use super::scan::{FrameScanner, ScanError, ScanLimits};
use super::{ReplyWriter, Version};

/// Why bytes are not one whole reply.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Malformed(#[from] ScanError),
    #[error("the reply is incomplete")]
    Incomplete,
    #[error("{0} bytes follow the reply")]
    Trailing(usize),
    #[error("malformed reply: {0}")]
    Content(#[from] RedisProtocolError),
}

/// Decodes exactly one reply; its strings are slices of `reply`.
///
/// A RESP2 reply comes in the RESP3 shape too, so that there is one kind of
/// tree to match on: nil and the nil array are `Null`, errors `SimpleError`,
/// integers `Number`, byte strings `BlobString`.
///
/// The order of a map's pairs and of a set's members is lost, and so are
/// duplicates: pass replies on as bytes where that matters.
///
/// # Errors
/// Malformed, incomplete or more than one reply; an error reply or number that
/// is no UTF-8; a set member or map key that is itself an aggregate; attributes
/// of a nil.
pub fn decode(reply: &Bytes, version: Version) -> Result<Frame, DecodeError> {
    let length = FrameScanner::new(ScanLimits::default())
        .scan(reply)?
        .ok_or(DecodeError::Incomplete)?;
    if length < reply.len() {
        return Err(DecodeError::Trailing(reply.len() - length));
    }
    let frame = match version {
        Version::V2 => redis_protocol::resp2::decode::decode_bytes(reply)?
            .map(|(frame, _)| in_resp3_shape(frame)),
        Version::V3 => {
            redis_protocol::resp3::decode::complete::decode_bytes(reply)?.map(|(frame, _)| frame)
        }
    };
    frame.ok_or(DecodeError::Incomplete)
}

/// Recursion is bounded by the scanner's depth limit.
fn in_resp3_shape(frame: Resp2Frame) -> Frame {
    let attributes = None;
    match frame {
        Resp2Frame::SimpleString(data) => Frame::SimpleString { data, attributes },
        Resp2Frame::Error(data) => Frame::SimpleError { data, attributes },
        Resp2Frame::Integer(data) => Frame::Number { data, attributes },
        Resp2Frame::BulkString(data) => Frame::BlobString { data, attributes },
        Resp2Frame::Null => Frame::Null,
        Resp2Frame::Array(elements) => Frame::Array {
            data: elements.into_iter().map(in_resp3_shape).collect(),
            attributes,
        },
    }
}

/// Writes a tree in the writer's version, without attributes. Recursion is as
/// deep as the tree, which [`decode`] bounds.
pub fn write(frame: &Frame, out: &mut ReplyWriter) {
    match frame {
        Frame::BlobString { data, .. } => out.bulk_bytes(data.clone()),
        Frame::BlobError { data, .. } => out.error(data),
        Frame::SimpleString { data, .. } => out.simple(data),
        Frame::SimpleError { data, .. } => out.error(data.as_bytes()),
        Frame::Boolean { data, .. } => out.boolean(*data),
        Frame::Null => out.null(),
        Frame::Number { data, .. } => out.integer(*data),
        Frame::Double { data, .. } => out.double(*data),
        Frame::BigNumber { data, .. } => out.bignum(data),
        Frame::VerbatimString { data, format, .. } => out.verbatim(format_name(format), data),
        Frame::Array { data, .. } => write_all(out, data.len(), data, ReplyWriter::array),
        Frame::Push { data, .. } => write_all(out, data.len(), data, ReplyWriter::push),
        Frame::Set { data, .. } => write_all(out, data.len(), data, ReplyWriter::set),
        Frame::Map { data, .. } => {
            let both = data.iter().flat_map(|(key, value)| [key, value]);
            write_all(out, data.len(), both, ReplyWriter::map);
        }
        // Neither is a reply; `decode` never yields them.
        Frame::ChunkedString(data) => out.bulk(data),
        Frame::Hello { .. } => out.null(),
    }
}

fn write_all<'a>(
    out: &mut ReplyWriter,
    len: usize,
    elements: impl IntoIterator<Item = &'a Frame>,
    header: fn(&mut ReplyWriter, usize),
) {
    header(out, len);
    for element in elements {
        write(element, out);
    }
}

fn format_name(format: &VerbatimStringFormat) -> &'static str {
    match format {
        VerbatimStringFormat::Text => "txt",
        VerbatimStringFormat::Markdown => "mkd",
    }
}
