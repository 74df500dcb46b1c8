//! What HSCAN, SSCAN and ZSCAN share: reading their arguments, filtering,
//! writing the page.
//!
//! The order of checks is Redis's: first the cursor ([`cursor`]), then the key
//! ([`nothing`] if there is none), then the options ([`ScanPage::begin`]). A
//! packed collection is shown whole with cursor 0; a spread one in steps of
//! COUNT ([`ScanPage::members`]), its cursors being places of
//! `types::members`, which need no memory of the server.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::arguments::is;
use super::scan::{self, DEFAULT_COUNT, Pattern};
use crate::txn::{CommandError, Txn};
use crate::types::members::Members;

/// The cursor of `xSCAN key cursor ...`.
pub(super) fn cursor(args: &Args<'_>) -> Result<u64, CommandError> {
    scan::cursor_number(args.get(2))
}

/// The reply where there is no key.
pub(super) fn nothing(out: &mut ReplyWriter) {
    out.array(2);
    out.bulk(b"0");
    out.array(0);
}

/// One reply that is being gathered: elements come before the cursor is known.
pub(super) struct ScanPage<'a> {
    pattern: Pattern<'a>,
    count: usize,
    body: ReplyWriter,
    parts: usize,
}

impl<'a> ScanPage<'a> {
    /// Reads `[MATCH pattern] [COUNT count]` behind key and cursor.
    pub(super) fn begin(args: &Args<'a>) -> Result<ScanPage<'a>, CommandError> {
        let mut page = ScanPage {
            pattern: Pattern::new(b"*"),
            count: DEFAULT_COUNT,
            body: ReplyWriter::default(),
            parts: 0,
        };
        let mut at = 3;
        while at < args.len() {
            let value = args.try_get(at + 1).ok_or(CommandError::SYNTAX)?;
            match args.get(at) {
                word if is(word, "COUNT") => page.count = scan::count(value)?,
                word if is(word, "MATCH") => page.pattern = Pattern::new(value),
                _ => return Err(CommandError::SYNTAX),
            }
            at += 2;
        }
        Ok(page)
    }

    /// Whether MATCH wants this element.
    pub(super) fn wants(&self, member: &[u8]) -> bool {
        self.pattern.matches(member)
    }

    /// Adds one string: a member, or the value or score behind it.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.body.bulk(part);
        self.parts += 1;
    }

    /// Gathers one step of a spread collection; `write` adds an element that
    /// is wanted, given what its row holds. Returns the next cursor.
    pub(super) fn members(
        &mut self,
        txn: &mut Txn<'_>,
        members: Members,
        cursor: u64,
        mut write: impl FnMut(&mut ScanPage<'a>, &[u8], &[u8]),
    ) -> Result<u64, CommandError> {
        let count = self.count;
        members.page(txn, cursor, count, &mut |member, value| {
            if self.wants(member) {
                write(self, member, value);
            }
        })
    }

    /// Writes the reply; `next` is 0 at the end of the scan.
    pub(super) fn finish(self, next: u64, out: &mut ReplyWriter) {
        out.array(2);
        out.bulk(itoa::Buffer::new().format(next).as_bytes());
        out.array(self.parts);
        self.body.segments().for_each(|segment| out.raw(segment));
    }
}
