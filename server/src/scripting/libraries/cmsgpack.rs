//! `cmsgpack`: MessagePack (<https://msgpack.org>).
//!
//! As Redis's library: numbers that are integers become the shortest integer,
//! others the shortest float that is exact; tables whose keys are 1 to n become
//! arrays, all others maps; what is nested deeper than [`MAX_NESTING`] is nil.

use std::ffi::c_int;

use super::super::host::arguments;
use super::super::lua::{
    Raise, State, bytes, check_bytes, check_integer, ffi, integer_or, native, push, set_function,
    set_text, truncate,
};

const MAX_NESTING: usize = 16;
/// Nesting that is decoded: each level is a frame of the native stack.
const MAX_DECODED_NESTING: usize = 1000;

/// Pushes the library's table.
pub(in super::super) unsafe fn open(state: State) {
    unsafe {
        ffi::lua_createtable(state, 0, 8);
        set_function(state, -1, c"pack", native!(pack));
        set_function(state, -1, c"unpack", native!(unpack));
        set_function(state, -1, c"unpack_one", native!(unpack_one));
        set_function(state, -1, c"unpack_limit", native!(unpack_limit));
        set_text(state, -1, c"_NAME", b"cmsgpack");
        set_text(state, -1, c"_VERSION", b"lua-cmsgpack 0.4.0");
        let description = b"MessagePack C implementation for Lua";
        set_text(state, -1, c"_DESCRIPTION", description);
    }
}

/// cmsgpack.pack(value, ...)
unsafe fn pack(state: State) -> Result<c_int, Raise> {
    unsafe {
        let given = arguments(state);
        if given == 0 {
            return Err(Raise::argument(0, "MessagePack pack needs input."));
        }
        let mut packed = Vec::new();
        for at in 1..=given {
            room(state)?;
            ffi::lua_pushvalue(state, at);
            encode(state, 0, &mut packed)?;
        }
        push(state, &packed);
        Ok(1)
    }
}

unsafe fn room(state: State) -> Result<(), Raise> {
    match unsafe { ffi::lua_checkstack(state, 8) } {
        0 => Err(Raise::error("stack overflow (in function mp_check)")),
        _ => Ok(()),
    }
}

/// Encodes the value on top and takes it away.
unsafe fn encode(state: State, level: usize, out: &mut Vec<u8>) -> Result<(), Raise> {
    unsafe {
        match ffi::lua_type(state, -1) {
            ffi::LUA_TSTRING => encode_text(bytes(state, -1).unwrap_or_default(), out),
            ffi::LUA_TBOOLEAN => out.push(0xc2 + u8::from(ffi::lua_toboolean(state, -1) != 0)),
            ffi::LUA_TNUMBER => encode_number(ffi::lua_tonumber(state, -1), out),
            ffi::LUA_TTABLE if level < MAX_NESTING => encode_table(state, level, out)?,
            _ => out.push(0xc0),
        }
        ffi::lua_settop(state, -2);
        Ok(())
    }
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    let len = text.len();
    match len {
        0..32 => out.push(0xa0 | len as u8),
        32..0x100 => out.extend_from_slice(&[0xd9, len as u8]),
        0x100..0x1_0000 => head(out, 0xda, &(len as u16).to_be_bytes()),
        _ => head(out, 0xdb, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(text);
}

fn head(out: &mut Vec<u8>, code: u8, rest: &[u8]) {
    out.push(code);
    out.extend_from_slice(rest);
}

fn encode_number(number: f64, out: &mut Vec<u8>) {
    let whole = truncate(number);
    if number == whole as f64 {
        return encode_integer(whole, out);
    }
    let short = number as f32;
    match f64::from(short) == number {
        true => head(out, 0xca, &short.to_be_bytes()),
        false => head(out, 0xcb, &number.to_be_bytes()),
    }
}

fn encode_integer(n: i64, out: &mut Vec<u8>) {
    match n {
        0..=0x7f => out.push(n as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => head(out, 0xcd, &(n as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => head(out, 0xce, &(n as u32).to_be_bytes()),
        0x1_0000_0000.. => head(out, 0xcf, &n.to_be_bytes()),
        -32..0 => out.push(n as u8),
        -128..-32 => out.extend_from_slice(&[0xd0, n as u8]),
        -0x8000..-128 => head(out, 0xd1, &(n as i16).to_be_bytes()),
        -0x8000_0000..-0x8000 => head(out, 0xd2, &(n as i32).to_be_bytes()),
        ..-0x8000_0000 => head(out, 0xd3, &n.to_be_bytes()),
    }
}

unsafe fn encode_table(state: State, level: usize, out: &mut Vec<u8>) -> Result<(), Raise> {
    unsafe {
        room(state)?;
        let table = ffi::lua_gettop(state);
        match array_length(state, table) {
            Some(len) => {
                encode_length(len, [0x90, 0xdc, 0xdd], out);
                for at in 1..=len {
                    ffi::lua_rawgeti_(state, table, at as c_int);
                    encode(state, level + 1, out)?;
                }
            }
            None => {
                encode_length(count(state, table), [0x80, 0xde, 0xdf], out);
                ffi::lua_pushnil(state);
                while ffi::lua_next(state, table) != 0 {
                    ffi::lua_pushvalue(state, -2);
                    encode(state, level + 1, out)?;
                    encode(state, level + 1, out)?;
                }
            }
        }
        Ok(())
    }
}

/// Codes: up to 15 elements, 16 bits of length, 32 bits of length.
fn encode_length(len: usize, codes: [u8; 3], out: &mut Vec<u8>) {
    match len {
        0..16 => out.push(codes[0] | len as u8),
        16..0x1_0000 => head(out, codes[1], &(len as u16).to_be_bytes()),
        _ => head(out, codes[2], &(len as u32).to_be_bytes()),
    }
}

unsafe fn count(state: State, table: c_int) -> usize {
    unsafe {
        let mut count = 0;
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            ffi::lua_settop(state, -2);
            count += 1;
        }
        count
    }
}

/// The length of a table whose keys are exactly 1 to n.
unsafe fn array_length(state: State, table: c_int) -> Option<usize> {
    unsafe {
        let (mut count, mut max) = (0usize, 0usize);
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, table) != 0 {
            ffi::lua_settop(state, -2);
            let key = ffi::lua_tonumber(state, -1);
            let is_index = ffi::lua_type(state, -1) == ffi::LUA_TNUMBER
                && key > 0.0
                && key <= f64::from(i32::MAX)
                && key.fract() == 0.0;
            if !is_index {
                ffi::lua_settop(state, table);
                return None;
            }
            max = max.max(key as usize);
            count += 1;
        }
        (max == count).then_some(count)
    }
}

/// Why decoding ended.
enum Broken {
    Missing,
    Bad,
    Stack,
    /// What Lua itself says of such a key.
    Key(&'static str),
}

impl Broken {
    unsafe fn raise(self, state: State) -> Raise {
        Raise::error(match self {
            Broken::Missing => "Missing bytes in input.",
            Broken::Bad => "Bad data format in input.",
            Broken::Stack => {
                "stack overflow (too many return values at once; use unpack_one or unpack_limit \
                 instead.)"
            }
            Broken::Key(text) => {
                unsafe { push(state, text.as_bytes()) };
                return Raise::Top;
            }
        })
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Broken::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn length<const N: usize>(&mut self) -> Result<usize, Broken> {
        let bytes = self.array::<N>()?;
        Ok(bytes.iter().fold(0, |n, byte| (n << 8) | *byte as usize))
    }
}

/// Pushes the next value.
unsafe fn decode(state: State, input: &mut Cursor<'_>, level: usize) -> Result<(), Broken> {
    unsafe {
        if level > MAX_DECODED_NESTING || ffi::lua_checkstack(state, 6) == 0 {
            return Err(Broken::Stack);
        }
        let [code] = input.array()?;
        let number = match code {
            0x00..=0x7f => f64::from(code),
            0xe0..=0xff => f64::from(code.cast_signed()),
            0xcc => input.length::<1>()? as f64,
            0xcd => input.length::<2>()? as f64,
            0xce => input.length::<4>()? as f64,
            // As in Redis: the upper half is negative.
            0xcf | 0xd3 => i64::from_be_bytes(input.array()?) as f64,
            0xd0 => f64::from(i8::from_be_bytes(input.array()?)),
            0xd1 => f64::from(i16::from_be_bytes(input.array()?)),
            0xd2 => f64::from(i32::from_be_bytes(input.array()?)),
            0xca => f64::from(f32::from_be_bytes(input.array()?)),
            0xcb => f64::from_be_bytes(input.array()?),
            other => return decode_other(state, other, input, level),
        };
        ffi::lua_pushnumber(state, number);
        Ok(())
    }
}

unsafe fn decode_other(
    state: State,
    code: u8,
    input: &mut Cursor<'_>,
    level: usize,
) -> Result<(), Broken> {
    unsafe {
        let low = usize::from(code);
        let text = match code {
            0xc0 => {
                ffi::lua_pushnil(state);
                return Ok(());
            }
            0xc2 | 0xc3 => {
                ffi::lua_pushboolean(state, c_int::from(code == 0xc3));
                return Ok(());
            }
            0x90..=0x9f => return decode_array(state, low & 0xf, input, level),
            0xdc => return decode_array(state, input.length::<2>()?, input, level),
            0xdd => return decode_array(state, input.length::<4>()?, input, level),
            0x80..=0x8f => return decode_map(state, low & 0xf, input, level),
            0xde => return decode_map(state, input.length::<2>()?, input, level),
            0xdf => return decode_map(state, input.length::<4>()?, input, level),
            0xa0..=0xbf => low & 0x1f,
            0xd9 => input.length::<1>()?,
            0xda => input.length::<2>()?,
            0xdb => input.length::<4>()?,
            _ => return Err(Broken::Bad),
        };
        push(state, input.take(text)?);
        Ok(())
    }
}

unsafe fn decode_array(
    state: State,
    len: usize,
    input: &mut Cursor<'_>,
    level: usize,
) -> Result<(), Broken> {
    unsafe {
        ffi::lua_createtable(state, 0, 0);
        for at in 1..=len {
            decode(state, input, level + 1)?;
            ffi::lua_rawseti_(state, -2, at as c_int);
        }
        Ok(())
    }
}

unsafe fn decode_map(
    state: State,
    len: usize,
    input: &mut Cursor<'_>,
    level: usize,
) -> Result<(), Broken> {
    unsafe {
        ffi::lua_createtable(state, 0, 0);
        for _ in 0..len {
            decode(state, input, level + 1)?;
            decode(state, input, level + 1)?;
            // Keys that a table cannot have would be an error of Lua's own.
            match ffi::lua_type(state, -2) {
                ffi::LUA_TNIL => return Err(Broken::Key("table index is nil")),
                ffi::LUA_TNUMBER if ffi::lua_tonumber(state, -2).is_nan() => {
                    return Err(Broken::Key("table index is NaN"));
                }
                _ => {}
            }
            ffi::lua_rawset(state, -3);
        }
        Ok(())
    }
}

/// cmsgpack.unpack(text)
unsafe fn unpack(state: State) -> Result<c_int, Raise> {
    unsafe { unpack_values(state, 0, 0) }
}

/// cmsgpack.unpack_one(text [, offset])
unsafe fn unpack_one(state: State) -> Result<c_int, Raise> {
    unsafe {
        let offset = integer_or(state, 2, 0)?;
        unpack_values(state, 1, offset)
    }
}

/// cmsgpack.unpack_limit(text, limit [, offset])
unsafe fn unpack_limit(state: State) -> Result<c_int, Raise> {
    unsafe {
        let limit = check_integer(state, 2)?;
        let offset = integer_or(state, 3, 0)?;
        unpack_values(state, limit, offset)
    }
}

unsafe fn unpack_values(state: State, limit: i64, offset: i64) -> Result<c_int, Raise> {
    unsafe {
        ffi::lua_settop(state, arguments(state).min(1));
        let text = check_bytes(state, 1)?;
        let len = text.len();
        if offset < 0 || limit < 0 {
            return Err(Raise::error(format!(
                "Invalid request to unpack with offset of {} and limit of {}.",
                offset as i32, len as i32
            )));
        }
        let Some(rest) = text.get(offset as usize..) else {
            return Err(Raise::error(format!(
                "Start offset {} greater than input length {}.",
                offset as i32, len as i32
            )));
        };
        let all = limit == 0 && offset == 0;
        let limit = if all { i64::from(i32::MAX) } else { limit };
        let mut input = Cursor { rest };
        let mut values = 0;
        while !input.rest.is_empty() && i64::from(values) < limit {
            decode(state, &mut input, 0).map_err(|broken| broken.raise(state))?;
            values += 1;
        }
        if all {
            return Ok(values);
        }
        if ffi::lua_checkstack(state, 2) == 0 {
            return Err(Broken::Stack.raise(state));
        }
        let next = match input.rest.len() {
            0 => -1.0,
            left => (len - left) as f64,
        };
        ffi::lua_pushnumber(state, next);
        ffi::lua_insert(state, 2);
        Ok(values + 1)
    }
}
