//! `struct`: C structures to strings and back (Roberto Ierusalimschy's
//! interface, <http://www.inf.puc-rio.br/~roberto/struct/>).
//!
//! ```text
//! > <      big, little endian        !n     alignment (a power of 2)
//! x        a byte of padding         b B    char, signed and unsigned
//! h H      short                     l L    long (8 bytes)
//! T        size_t                    i I n  integer of n bytes (default 4)
//! cn       n chars; c0: the whole string, or as many as the number before says
//! s        string with a zero at its end
//! f d      float, double             ' '    ignored
//! ```

use std::ffi::c_int;

use super::super::lua::{
    Raise, State, c_text, check_bytes, check_number, ffi, integer_or, native, push, set_function,
    truncate,
};

/// Largest integer, in bytes.
const MAX_INTEGER: usize = 32;
const DEFAULT_ALIGNMENT: usize = 8;
/// Longest string that is packed: what padding and sizes in a format declare
/// is not believed beyond it.
const MAX_PACKED: usize = 512 << 20;

/// Pushes the library's table.
pub(in super::super) unsafe fn open(state: State) {
    unsafe {
        ffi::lua_createtable(state, 0, 3);
        set_function(state, -1, c"pack", native!(pack));
        set_function(state, -1, c"unpack", native!(unpack));
        set_function(state, -1, c"size", native!(size));
    }
}

/// A format as it is read.
struct Format<'a> {
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

/// One element of a format.
#[derive(Clone, Copy)]
struct Item {
    option: u8,
    size: usize,
}

impl<'a> Format<'a> {
    fn new(text: &'a [u8]) -> Format<'a> {
        Format {
            rest: c_text(text),
            big_endian: cfg!(target_endian = "big"),
            align: 1,
        }
    }

    fn next(&mut self) -> Result<Option<Item>, Raise> {
        let Some((option, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => match self.number(4)? {
                n if n > MAX_INTEGER => {
                    return Err(Raise::error(format!(
                        "integral size {n} is larger than limit of {MAX_INTEGER}"
                    )));
                }
                n => n,
            },
            _ => 0,
        };
        Ok(Some(Item {
            option: *option,
            size,
        }))
    }

    /// The number that follows, or the default.
    fn number(&mut self, default: usize) -> Result<usize, Raise> {
        let digits = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return Ok(default);
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let number = number.iter().try_fold(0i32, |n, digit| {
            n.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
        });
        match number {
            Some(n) => Ok(n as usize),
            None => Err(Raise::error("integral size overflow")),
        }
    }

    /// Bytes of padding before an item at this position.
    fn padding(&self, at: usize, item: Item) -> usize {
        if item.size == 0 || item.option == b'c' {
            return 0;
        }
        let to = item.size.min(self.align);
        // Sizes that are no power of 2 are padded by the same arithmetic as ever.
        to.wrapping_sub(at & (to - 1)) & (to - 1)
    }

    /// An item that is no value.
    fn control(&mut self, option: u8) -> Result<(), Raise> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => match self.number(DEFAULT_ALIGNMENT)? {
                n if n.is_power_of_two() => self.align = n,
                n => {
                    return Err(Raise::error(format!("alignment {n} is not a power of 2")));
                }
            },
            other => {
                let shown = char::from(other);
                return Err(Raise::argument(
                    1,
                    format!("invalid format option '{shown}'"),
                ));
            }
        }
        Ok(())
    }

    /// Puts bytes that are in little-endian order in the format's order.
    fn order(&self, bytes: &mut [u8]) {
        if self.big_endian {
            bytes.reverse();
        }
    }
}

/// struct.pack(format, ...)
unsafe fn pack(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut format = Format::new(check_bytes(state, 1)?);
        let mut packed = Vec::new();
        let mut argument = 2;
        // What is missing first is nil, what follows is nothing, as in Redis.
        ffi::lua_pushnil(state);
        while let Some(item) = format.next()? {
            let padding = format.padding(packed.len(), item);
            let grown = packed
                .len()
                .saturating_add(padding)
                .saturating_add(item.size);
            if item.option != b'c' && grown > MAX_PACKED {
                return Err(Raise::error("resulting string too large"));
            }
            packed.resize(packed.len() + padding, 0);
            match item.option {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    let number = check_number(state, argument)?;
                    argument += 1;
                    let mut bytes = [0; MAX_INTEGER];
                    bytes[..8].copy_from_slice(&to_bits(number).to_le_bytes());
                    format.order(&mut bytes[..item.size]);
                    packed.extend_from_slice(&bytes[..item.size]);
                }
                b'x' => packed.push(0),
                b'f' => {
                    let mut bytes = (check_number(state, argument)? as f32).to_le_bytes();
                    argument += 1;
                    format.order(&mut bytes);
                    packed.extend_from_slice(&bytes);
                }
                b'd' => {
                    let mut bytes = check_number(state, argument)?.to_le_bytes();
                    argument += 1;
                    format.order(&mut bytes);
                    packed.extend_from_slice(&bytes);
                }
                b'c' | b's' => {
                    let text = check_bytes(state, argument)?;
                    argument += 1;
                    let size = if item.size == 0 {
                        text.len()
                    } else {
                        item.size
                    };
                    let Some(text) = text.get(..size) else {
                        return Err(Raise::argument(argument, "string too short"));
                    };
                    packed.extend_from_slice(text);
                    if item.option == b's' {
                        packed.push(0);
                    }
                }
                control => format.control(control)?,
            }
        }
        push(state, &packed);
        Ok(1)
    }
}

/// A number as C's `unsigned long`, of a negative one by way of `long`.
fn to_bits(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    match number {
        n if n >= HALF => (truncate(n - HALF) as u64) ^ (1 << 63),
        n => truncate(n) as u64,
    }
}

/// struct.unpack(format, data [, position])
unsafe fn unpack(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut format = Format::new(check_bytes(state, 1)?);
        let data = check_bytes(state, 2)?;
        let mut at = integer_or(state, 3, 1)? as usize;
        if at == 0 {
            return Err(Raise::argument(3, "offset must be 1 or greater"));
        }
        at -= 1;
        let mut results = 0;
        while let Some(item) = format.next()? {
            let mut size = item.size;
            at = at.wrapping_add(format.padding(at, item));
            require(data, at, size)?;
            if ffi::lua_checkstack(state, 4) == 0 {
                return Err(Raise::error("stack overflow (too many results)"));
            }
            match item.option {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    let signed = item.option.is_ascii_lowercase();
                    let number = from_bytes(&data[at..at + size], format.big_endian, signed);
                    ffi::lua_pushnumber(state, number);
                    results += 1;
                }
                b'x' => {}
                b'f' => {
                    let mut bytes: [u8; 4] = data[at..at + 4].try_into().expect("four bytes");
                    format.order(&mut bytes);
                    ffi::lua_pushnumber(state, f64::from(f32::from_le_bytes(bytes)));
                    results += 1;
                }
                b'd' => {
                    let mut bytes: [u8; 8] = data[at..at + 8].try_into().expect("eight bytes");
                    format.order(&mut bytes);
                    ffi::lua_pushnumber(state, f64::from_le_bytes(bytes));
                    results += 1;
                }
                b'c' => {
                    if size == 0 {
                        if results == 0 || ffi::lua_isnumber(state, -1) == 0 {
                            return Err(Raise::error("format 'c0' needs a previous size"));
                        }
                        size = truncate(ffi::lua_tonumber(state, -1)) as usize;
                        ffi::lua_settop(state, -2);
                        results -= 1;
                        require(data, at, size)?;
                    }
                    push(state, &data[at..at + size]);
                    results += 1;
                }
                b's' => {
                    let Some(end) = data[at..].iter().position(|byte| *byte == 0) else {
                        return Err(Raise::error("unfinished string in data"));
                    };
                    push(state, &data[at..at + end]);
                    size = end + 1;
                    results += 1;
                }
                control => format.control(control)?,
            }
            at += size;
        }
        ffi::lua_pushnumber(state, (at + 1) as f64);
        Ok(results + 1)
    }
}

fn require(data: &[u8], at: usize, size: usize) -> Result<(), Raise> {
    if size <= data.len() && at <= data.len() - size {
        return Ok(());
    }
    Err(Raise::argument(2, "data string too short"))
}

fn from_bytes(bytes: &[u8], big_endian: bool, signed: bool) -> f64 {
    let join = |n: u64, byte: &u8| (n << 8) | u64::from(*byte);
    let number = match big_endian {
        true => bytes.iter().fold(0, join),
        false => bytes.iter().rev().fold(0, join),
    };
    if !signed {
        return number as f64;
    }
    match bytes.len() {
        0 => 0.0,
        n if n >= 8 => number.cast_signed() as f64,
        n => {
            let unused = 64 - 8 * n as u32;
            ((number << unused).cast_signed() >> unused) as f64
        }
    }
}

/// struct.size(format)
unsafe fn size(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut format = Format::new(check_bytes(state, 1)?);
        let mut at = 0usize;
        while let Some(item) = format.next()? {
            at = at.saturating_add(format.padding(at, item));
            match (item.option, item.size) {
                (b's', _) => {
                    return Err(Raise::argument(1, "option 's' has no fixed size"));
                }
                (b'c', 0) => {
                    return Err(Raise::argument(1, "option 'c0' has no fixed size"));
                }
                (option, _) if option.is_ascii_alphanumeric() => {}
                (option, _) => format.control(option)?,
            }
            at = at.saturating_add(item.size);
        }
        ffi::lua_pushnumber(state, at as f64);
        Ok(1)
    }
}
