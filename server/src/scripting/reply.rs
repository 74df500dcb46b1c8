//! Replies of commands to Lua values, and Lua values to replies.
//!
//! | reply | Lua value |
//! |---|---|
//! | integer | number |
//! | bulk string, status | string, `{ok = text}` |
//! | error | `{err = line}` |
//! | null of RESP2, of RESP3 | `false`, `nil` |
//! | array, push | table 1 to n |
//! | map, set | `{map = {..}}`, `{set = {member = true}}` |
//! | double, boolean | `{double = number}`, boolean |
//! | big number | `{big_number = digits}` |
//! | verbatim string | `{verbatim_string = {format = .., string = ..}}` |
//! | attribute | left out |

use std::ffi::c_int;

use cairn_protocol::resp::number::parse_f64;
use cairn_protocol::resp::{Deferred, ReplyWriter, Version};

use super::lua::{
    State, bytes, c_text, ffi, get_raw, push, push_error_reply, set_raw, set_text, truncate,
};

/// Pushes the value of one reply.
///
/// # Errors
/// The stack has no room for it, or the bytes are no reply.
pub(super) unsafe fn push_reply(state: State, reply: &[u8]) -> Result<(), NoValue> {
    let mut input = Input { rest: reply };
    unsafe { input.value(state) }
}

/// A reply that cannot be a Lua value.
#[derive(Debug)]
pub(super) struct NoValue;

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn line(&mut self) -> Result<&'a [u8], NoValue> {
        let end = memchr_cr(self.rest).ok_or(NoValue)?;
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 2..).ok_or(NoValue)?;
        Ok(line)
    }

    fn bulk(&mut self, len: usize) -> Result<&'a [u8], NoValue> {
        let text = self.rest.get(..len).ok_or(NoValue)?;
        self.rest = self.rest.get(len + 2..).ok_or(NoValue)?;
        Ok(text)
    }

    unsafe fn value(&mut self, state: State) -> Result<(), NoValue> {
        unsafe {
            if ffi::lua_checkstack(state, 8) == 0 {
                return Err(NoValue);
            }
            let (kind, line) = self.line()?.split_first().ok_or(NoValue)?;
            match kind {
                b':' => ffi::lua_pushnumber(state, integer(line)? as f64),
                b'$' => match length(line) {
                    Some(len) => push(state, self.bulk(len)?),
                    None => ffi::lua_pushboolean(state, 0),
                },
                b'+' => push_single(state, c"ok", line),
                b'-' => {
                    let mut text = Vec::with_capacity(line.len() + 1);
                    text.push(b'-');
                    text.extend_from_slice(line);
                    push_error_reply(state, &text);
                }
                b'*' | b'>' => match length(line) {
                    Some(len) => self.array(state, len)?,
                    None => ffi::lua_pushboolean(state, 0),
                },
                b'%' => self.map(state, length(line).ok_or(NoValue)?)?,
                b'~' => self.set(state, length(line).ok_or(NoValue)?)?,
                b'_' => ffi::lua_pushnil(state),
                b'#' => ffi::lua_pushboolean(state, c_int::from(line == b"t")),
                b',' => {
                    ffi::lua_createtable(state, 0, 1);
                    ffi::lua_pushnumber(state, parse_f64(line).unwrap_or(f64::NAN));
                    set_raw(state, -2, c"double");
                }
                b'(' => push_single(state, c"big_number", line),
                b'=' => {
                    let text = self.bulk(length(line).ok_or(NoValue)?)?;
                    push_verbatim(
                        state,
                        text.get(..3).ok_or(NoValue)?,
                        &text[4.min(text.len())..],
                    );
                }
                b'|' => {
                    self.skip(state, length(line).ok_or(NoValue)? * 2)?;
                    self.value(state)?;
                }
                _ => return Err(NoValue),
            }
            Ok(())
        }
    }

    unsafe fn array(&mut self, state: State, len: usize) -> Result<(), NoValue> {
        unsafe {
            ffi::lua_createtable(state, len.min(1 << 16) as c_int, 0);
            for at in 1..=len {
                self.value(state)?;
                ffi::lua_rawseti_(state, -2, at as c_int);
            }
            Ok(())
        }
    }

    unsafe fn map(&mut self, state: State, pairs: usize) -> Result<(), NoValue> {
        unsafe {
            ffi::lua_createtable(state, 0, 1);
            ffi::lua_createtable(state, 0, pairs.min(1 << 16) as c_int);
            for _ in 0..pairs {
                self.value(state)?;
                self.value(state)?;
                store_pair(state);
            }
            set_raw(state, -2, c"map");
            Ok(())
        }
    }

    unsafe fn set(&mut self, state: State, len: usize) -> Result<(), NoValue> {
        unsafe {
            ffi::lua_createtable(state, 0, 1);
            ffi::lua_createtable(state, 0, len.min(1 << 16) as c_int);
            for _ in 0..len {
                self.value(state)?;
                ffi::lua_pushboolean(state, 1);
                store_pair(state);
            }
            set_raw(state, -2, c"set");
            Ok(())
        }
    }

    unsafe fn skip(&mut self, state: State, values: usize) -> Result<(), NoValue> {
        unsafe {
            let top = ffi::lua_gettop(state);
            for _ in 0..values {
                self.value(state)?;
                ffi::lua_settop(state, top);
            }
            Ok(())
        }
    }
}

/// `table[key] = value` of the three on top; a nil key is left out.
unsafe fn store_pair(state: State) {
    unsafe {
        match ffi::lua_type(state, -2) {
            ffi::LUA_TNIL => ffi::lua_settop(state, -3),
            _ => ffi::lua_rawset(state, -3),
        }
    }
}

unsafe fn push_single(state: State, name: &std::ffi::CStr, text: &[u8]) {
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        set_text(state, -1, name, text);
    }
}

unsafe fn push_verbatim(state: State, format: &[u8], text: &[u8]) {
    unsafe {
        ffi::lua_createtable(state, 0, 1);
        ffi::lua_createtable(state, 0, 2);
        set_text(state, -1, c"string", text);
        set_text(state, -1, c"format", format);
        set_raw(state, -2, c"verbatim_string");
    }
}

fn memchr_cr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\r')
}

fn integer(line: &[u8]) -> Result<i64, NoValue> {
    let text = std::str::from_utf8(line).map_err(|_| NoValue)?;
    text.parse().map_err(|_| NoValue)
}

/// A length; `None` for that of a null.
fn length(line: &[u8]) -> Option<usize> {
    usize::try_from(integer(line).ok()?).ok()
}

/// An aggregate that is being written.
enum Open {
    Array {
        next: c_int,
        header: Deferred,
    },
    /// Key and value of an entry; the key is on the stack while either is written.
    Map {
        pairs: usize,
        key_done: bool,
        header: Deferred,
    },
    Set {
        len: usize,
        header: Deferred,
    },
}

/// Writes the value on top of the stack and takes it away. `version` is what
/// the script chose with `redis.setresp`.
///
/// Not recursive: a table may contain itself, and is then written until the
/// Lua stack is at its limit, as in Redis.
pub(super) unsafe fn write_value(state: State, version: Version, out: &mut ReplyWriter) {
    let mut open: Vec<Open> = Vec::new();
    unsafe {
        write_one(state, version, out, &mut open);
        while let Some(current) = open.last_mut() {
            let more = match current {
                Open::Array { next, .. } => next_element(state, next),
                Open::Map {
                    pairs, key_done, ..
                } => next_of_pair(state, pairs, key_done),
                Open::Set { len, .. } => next_member(state, len),
            };
            if more {
                write_one(state, version, out, &mut open);
                continue;
            }
            match open.pop().expect("it was just looked at") {
                Open::Array { next, header } => out.set_deferred(header, next as usize),
                Open::Map { pairs, header, .. } => out.set_deferred(header, pairs),
                Open::Set { len, header } => out.set_deferred(header, len),
            }
            ffi::lua_settop(state, -2);
        }
    }
}

/// Pushes the next element of the array on top.
unsafe fn next_element(state: State, next: &mut c_int) -> bool {
    unsafe {
        ffi::lua_rawgeti_(state, -1, *next + 1);
        if ffi::lua_type(state, -1) == ffi::LUA_TNIL {
            ffi::lua_settop(state, -2);
            return false;
        }
        *next += 1;
        true
    }
}

/// With table and key on top: pushes what is to be written next.
unsafe fn next_of_pair(state: State, pairs: &mut usize, key_done: &mut bool) -> bool {
    unsafe {
        if std::mem::replace(key_done, false) {
            // The value of the key, which stays to go on from.
            ffi::lua_pushvalue(state, -1);
            ffi::lua_rawget_(state, -3);
            return true;
        }
        if ffi::lua_next(state, -2) == 0 {
            return false;
        }
        ffi::lua_settop(state, -2);
        ffi::lua_pushvalue(state, -1);
        (*pairs, *key_done) = (*pairs + 1, true);
        true
    }
}

/// With table and the last member on top: pushes the next one.
unsafe fn next_member(state: State, len: &mut usize) -> bool {
    unsafe {
        if ffi::lua_next(state, -2) == 0 {
            return false;
        }
        ffi::lua_settop(state, -2);
        ffi::lua_pushvalue(state, -1);
        *len += 1;
        true
    }
}

/// Writes the value on top, or begins it: then its table stays on the stack,
/// for a map or set with a nil above it, where iteration starts.
unsafe fn write_one(state: State, version: Version, out: &mut ReplyWriter, open: &mut Vec<Open>) {
    unsafe {
        if ffi::lua_checkstack(state, 4) == 0 {
            out.error("ERR reached lua stack limit");
            return ffi::lua_settop(state, -2);
        }
        match ffi::lua_type(state, -1) {
            ffi::LUA_TSTRING => out.bulk(bytes(state, -1).unwrap_or_default()),
            ffi::LUA_TBOOLEAN => {
                let value = ffi::lua_toboolean(state, -1) != 0;
                match (version, value) {
                    (Version::V3, value) => out.boolean(value),
                    (Version::V2, true) => out.integer(1),
                    (Version::V2, false) => out.null(),
                }
            }
            ffi::LUA_TNUMBER => out.integer(truncate(ffi::lua_tonumber(state, -1))),
            ffi::LUA_TTABLE => {
                if !write_scalar(state, out) {
                    open.push(begin(state, out));
                    return;
                }
            }
            _ => out.null(),
        }
        ffi::lua_settop(state, -2);
    }
}

/// Writes a table that stands for a single value, if it does.
unsafe fn write_scalar(state: State, out: &mut ReplyWriter) -> bool {
    unsafe {
        let table = ffi::lua_gettop(state);
        let text = |kind| kind == ffi::LUA_TSTRING;
        let written = if text(get_raw(state, table, c"err")) {
            out.error(c_text(bytes(state, -1).unwrap_or_default()));
            true
        } else if text(get_raw(state, table, c"ok")) {
            out.simple(c_text(bytes(state, -1).unwrap_or_default()));
            true
        } else if get_raw(state, table, c"double") == ffi::LUA_TNUMBER {
            out.double(ffi::lua_tonumber(state, -1));
            true
        } else if text(get_raw(state, table, c"big_number")) {
            let digits = bytes(state, -1).unwrap_or_default().to_vec();
            let blank = |byte| match byte {
                b'\r' | b'\n' => b' ',
                byte => byte,
            };
            out.bignum(digits.into_iter().map(blank).collect::<Vec<u8>>());
            true
        } else {
            ffi::lua_settop(state, table);
            get_raw(state, table, c"verbatim_string") == ffi::LUA_TTABLE
                && write_verbatim(state, out)
        };
        ffi::lua_settop(state, table);
        written
    }
}

unsafe fn write_verbatim(state: State, out: &mut ReplyWriter) -> bool {
    unsafe {
        let table = ffi::lua_gettop(state);
        if ffi::lua_checkstack(state, 2) == 0
            || get_raw(state, table, c"format") != ffi::LUA_TSTRING
            || get_raw(state, table, c"string") != ffi::LUA_TSTRING
        {
            return false;
        }
        let format = c_text(bytes(state, -2).unwrap_or_default());
        let format: String = format.iter().map(|byte| char::from(*byte)).collect();
        out.verbatim(&format, bytes(state, -1).unwrap_or_default());
        true
    }
}

/// Begins the aggregate that the table on top is.
unsafe fn begin(state: State, out: &mut ReplyWriter) -> Open {
    unsafe {
        let table = ffi::lua_gettop(state);
        if get_raw(state, table, c"map") == ffi::LUA_TTABLE {
            ffi::lua_remove(state, table);
            ffi::lua_pushnil(state);
            return Open::Map {
                pairs: 0,
                key_done: false,
                header: out.deferred_map(),
            };
        }
        ffi::lua_settop(state, table);
        if get_raw(state, table, c"set") == ffi::LUA_TTABLE {
            ffi::lua_remove(state, table);
            ffi::lua_pushnil(state);
            return Open::Set {
                len: 0,
                header: out.deferred_set(),
            };
        }
        ffi::lua_settop(state, table);
        Open::Array {
            next: 0,
            header: out.deferred_array(),
        }
    }
}
