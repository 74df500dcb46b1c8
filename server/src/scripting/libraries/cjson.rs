//! `cjson`: JSON, with the settings and error texts of Lua CJSON 2.1
//! (<https://kyne.au/~mark/software/lua-cjson-manual.html>) as Redis ships it.

use std::ffi::c_int;

use super::super::host::{Host, arguments};
use super::super::lua::{
    Raise, State, bytes, check_bytes, check_integer, ffi, format_g, native, push, set_function,
    set_raw, set_text, type_name,
};
use super::super::sandbox;

/// What the configuration functions change; kept with the Lua state.
#[derive(Clone, Copy)]
pub(in super::super) struct Settings {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    encode_invalid: Invalid,
    decode_invalid: bool,
    precision: i32,
    keep_buffer: bool,
}

/// How NaN and infinities are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refused,
    AsText,
    AsNull,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
            precision: 14,
            keep_buffer: true,
        }
    }
}

/// Depth beyond which nothing is encoded or decoded, whatever the settings
/// say: each level is a frame of the native stack.
const DEEPEST: i32 = 4000;

/// Pushes the library's table.
pub(in super::super) unsafe fn open(state: State) {
    unsafe {
        ffi::lua_createtable(state, 0, 14);
        set_function(state, -1, c"encode", native!(encode));
        set_function(state, -1, c"decode", native!(decode));
        set_function(
            state,
            -1,
            c"encode_sparse_array",
            native!(encode_sparse_array),
        );
        set_function(state, -1, c"encode_max_depth", native!(encode_max_depth));
        set_function(state, -1, c"decode_max_depth", native!(decode_max_depth));
        let precision = native!(encode_number_precision);
        set_function(state, -1, c"encode_number_precision", precision);
        set_function(
            state,
            -1,
            c"encode_keep_buffer",
            native!(encode_keep_buffer),
        );
        let invalid = native!(encode_invalid_numbers);
        set_function(state, -1, c"encode_invalid_numbers", invalid);
        let invalid = native!(decode_invalid_numbers);
        set_function(state, -1, c"decode_invalid_numbers", invalid);
        set_function(state, -1, c"new", native!(new));
        ffi::lua_pushlightuserdata(state, std::ptr::null_mut());
        set_raw(state, -2, c"null");
        set_text(state, -1, c"_NAME", b"cjson");
        set_text(state, -1, c"_VERSION", b"2.1.0");
    }
}

/// cjson.new()
unsafe fn new(state: State) -> Result<c_int, Raise> {
    // Settings are the state's; a second module would share them.
    unsafe { open(state) };
    Ok(1)
}

// Settings.

/// The settings, once the number of arguments is right; what is missing is nil.
unsafe fn settings(state: State, most: c_int) -> Result<Settings, Raise> {
    unsafe {
        if arguments(state) > most {
            return Err(Raise::argument(most + 1, "found too many arguments"));
        }
        ffi::lua_settop(state, most);
        Ok(*Host::of(state).json.borrow())
    }
}

unsafe fn keep(state: State, settings: Settings) {
    unsafe { *Host::of(state).json.borrow_mut() = settings }
}

unsafe fn integer_setting(
    state: State,
    at: c_int,
    setting: &mut i32,
    range: (i32, i32),
) -> Result<(), Raise> {
    unsafe {
        if ffi::lua_type(state, at) != ffi::LUA_TNIL {
            let value = check_integer(state, at)? as i32;
            let (min, max) = range;
            if value < min || value > max {
                let text = format!("expected integer between {min} and {max}");
                return Err(Raise::argument(1, text));
            }
            *setting = value;
        }
        ffi::lua_pushnumber(state, f64::from(*setting));
        Ok(())
    }
}

/// The position of an argument among options; a boolean is one of the first two.
unsafe fn option_setting(
    state: State,
    at: c_int,
    current: usize,
    options: &[&str],
) -> Result<usize, Raise> {
    unsafe {
        let chosen = match ffi::lua_type(state, at) {
            ffi::LUA_TNIL => current,
            ffi::LUA_TBOOLEAN => usize::from(ffi::lua_toboolean(state, at) != 0),
            _ => {
                let given = check_bytes(state, at)?;
                let found = options.iter().position(|o| o.as_bytes() == given);
                found.ok_or_else(|| {
                    let given = String::from_utf8_lossy(given).into_owned();
                    Raise::argument(at, format!("invalid option '{given}'"))
                })?
            }
        };
        match chosen {
            0 | 1 => ffi::lua_pushboolean(state, chosen as c_int),
            _ => push(state, options[chosen].as_bytes()),
        }
        Ok(chosen)
    }
}

const OFF_ON: &[&str] = &["off", "on"];

unsafe fn encode_sparse_array(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut s = settings(state, 3)?;
        let convert = usize::from(s.sparse_convert);
        s.sparse_convert = option_setting(state, 1, convert, OFF_ON)? == 1;
        keep(state, s);
        integer_setting(state, 2, &mut s.sparse_ratio, (0, i32::MAX))?;
        keep(state, s);
        integer_setting(state, 3, &mut s.sparse_safe, (0, i32::MAX))?;
        keep(state, s);
        Ok(3)
    }
}

unsafe fn encode_max_depth(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut s = settings(state, 1)?;
        integer_setting(state, 1, &mut s.encode_max_depth, (1, i32::MAX))?;
        keep(state, s);
        Ok(1)
    }
}

unsafe fn decode_max_depth(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut s = settings(state, 1)?;
        integer_setting(state, 1, &mut s.decode_max_depth, (1, i32::MAX))?;
        keep(state, s);
        Ok(1)
    }
}

unsafe fn encode_number_precision(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut s = settings(state, 1)?;
        integer_setting(state, 1, &mut s.precision, (1, 14))?;
        keep(state, s);
        Ok(1)
    }
}

/// Accepted and shown; there is no buffer to keep.
unsafe fn encode_keep_buffer(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut s = settings(state, 1)?;
        s.keep_buffer = option_setting(state, 1, usize::from(s.keep_buffer), OFF_ON)? == 1;
        keep(state, s);
        Ok(1)
    }
}

unsafe fn encode_invalid_numbers(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut s = settings(state, 1)?;
        let all = [Invalid::Refused, Invalid::AsText, Invalid::AsNull];
        let current = all.iter().position(|i| *i == s.encode_invalid);
        let current = current.expect("all are listed");
        s.encode_invalid = all[option_setting(state, 1, current, &["off", "on", "null"])?];
        keep(state, s);
        Ok(1)
    }
}

unsafe fn decode_invalid_numbers(state: State) -> Result<c_int, Raise> {
    unsafe {
        let mut s = settings(state, 1)?;
        s.decode_invalid = option_setting(state, 1, usize::from(s.decode_invalid), OFF_ON)? == 1;
        keep(state, s);
        Ok(1)
    }
}

// Encoding.

/// cjson.encode(value)
unsafe fn encode(state: State) -> Result<c_int, Raise> {
    unsafe {
        if arguments(state) != 1 {
            return Err(Raise::argument(1, "expected 1 argument"));
        }
        let mut encoder = Encoder {
            state,
            settings: *Host::of(state).json.borrow(),
            out: Vec::new(),
        };
        encoder.value(0)?;
        push(state, &encoder.out);
        Ok(1)
    }
}

struct Encoder {
    state: State,
    settings: Settings,
    out: Vec<u8>,
}

impl Encoder {
    unsafe fn refuse(&self, at: c_int, why: &str) -> Raise {
        let name = unsafe { type_name(self.state, at) };
        Raise::error(format!("Cannot serialise {name}: {why}"))
    }

    /// Encodes the value on top, which stays.
    unsafe fn value(&mut self, depth: i32) -> Result<(), Raise> {
        let state = self.state;
        unsafe {
            match ffi::lua_type(state, -1) {
                ffi::LUA_TSTRING => self.text(-1),
                ffi::LUA_TNUMBER => return self.number(-1),
                ffi::LUA_TBOOLEAN => match ffi::lua_toboolean(state, -1) {
                    0 => self.out.extend_from_slice(b"false"),
                    _ => self.out.extend_from_slice(b"true"),
                },
                ffi::LUA_TTABLE => return self.table(depth + 1),
                ffi::LUA_TNIL => self.out.extend_from_slice(b"null"),
                ffi::LUA_TLIGHTUSERDATA if ffi::lua_touserdata(state, -1).is_null() => {
                    self.out.extend_from_slice(b"null");
                }
                _ => return Err(self.refuse(-1, "type not supported")),
            }
            Ok(())
        }
    }

    unsafe fn table(&mut self, depth: i32) -> Result<(), Raise> {
        unsafe {
            let deepest = self.settings.encode_max_depth.min(DEEPEST);
            if depth > deepest || ffi::lua_checkstack(self.state, 8) == 0 {
                let text = format!("Cannot serialise, excessive nesting ({depth})");
                return Err(Raise::error(text));
            }
            sandbox::unseal(self.state, ffi::lua_gettop(self.state));
            match self.array_length()? {
                0 => self.object(depth),
                len => self.array(len, depth),
            }
        }
    }

    /// The length of the array that the table on top is; 0: it is an object.
    unsafe fn array_length(&self) -> Result<u64, Raise> {
        let state = self.state;
        unsafe {
            let table = ffi::lua_gettop(state);
            let (mut max, mut items) = (0f64, 0f64);
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, table) != 0 {
                ffi::lua_settop(state, -2);
                let key = ffi::lua_tonumber(state, -1);
                let is_index = ffi::lua_type(state, -1) == ffi::LUA_TNUMBER
                    && key >= 1.0
                    && key.floor() == key
                    && key <= f64::from(i32::MAX);
                if !is_index {
                    ffi::lua_settop(state, table);
                    return Ok(0);
                }
                max = max.max(key);
                items += 1.0;
            }
            let s = &self.settings;
            let sparse = s.sparse_ratio > 0
                && max > items * f64::from(s.sparse_ratio)
                && max > f64::from(s.sparse_safe);
            match (sparse, s.sparse_convert) {
                (true, false) => Err(self.refuse(-1, "excessively sparse array")),
                (true, true) => Ok(0),
                (false, _) => Ok(max as u64),
            }
        }
    }

    unsafe fn array(&mut self, len: u64, depth: i32) -> Result<(), Raise> {
        unsafe {
            self.out.push(b'[');
            for at in 1..=len {
                if at > 1 {
                    self.out.push(b',');
                }
                ffi::lua_rawgeti_(self.state, -1, at as c_int);
                self.value(depth)?;
                ffi::lua_settop(self.state, -2);
            }
            self.out.push(b']');
            Ok(())
        }
    }

    unsafe fn object(&mut self, depth: i32) -> Result<(), Raise> {
        let state = self.state;
        unsafe {
            let table = ffi::lua_gettop(state);
            self.out.push(b'{');
            let mut first = true;
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, table) != 0 {
                if !std::mem::replace(&mut first, false) {
                    self.out.push(b',');
                }
                match ffi::lua_type(state, -2) {
                    ffi::LUA_TNUMBER => {
                        self.out.push(b'"');
                        self.number(-2)?;
                        self.out.push(b'"');
                    }
                    ffi::LUA_TSTRING => self.text(-2),
                    _ => {
                        return Err(self.refuse(-2, "table key must be a number or string"));
                    }
                }
                self.out.push(b':');
                self.value(depth)?;
                ffi::lua_settop(state, -2);
            }
            self.out.push(b'}');
            Ok(())
        }
    }

    unsafe fn number(&mut self, at: c_int) -> Result<(), Raise> {
        unsafe {
            let number = ffi::lua_tonumber(self.state, at);
            if !number.is_finite() {
                match self.settings.encode_invalid {
                    Invalid::Refused => return Err(self.refuse(at, "must not be NaN or Inf")),
                    Invalid::AsText if number.is_nan() => {
                        self.out.extend_from_slice(b"nan");
                        return Ok(());
                    }
                    Invalid::AsText => {}
                    Invalid::AsNull => {
                        self.out.extend_from_slice(b"null");
                        return Ok(());
                    }
                }
            }
            format_g(number, self.settings.precision as usize, &mut self.out);
            Ok(())
        }
    }

    unsafe fn text(&mut self, at: c_int) {
        let text = unsafe { bytes(self.state, at).unwrap_or_default() };
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        for byte in text {
            let short = match byte {
                8 => b'b',
                9 => b't',
                10 => b'n',
                12 => b'f',
                13 => b'r',
                b'"' | b'\\' | b'/' => *byte,
                0..32 | 127 => {
                    self.out
                        .extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                _ => {
                    self.out.push(*byte);
                    continue;
                }
            };
            self.out.extend_from_slice(&[b'\\', short]);
        }
        self.out.push(b'"');
    }
}

// Decoding.

/// cjson.decode(text)
unsafe fn decode(state: State) -> Result<c_int, Raise> {
    unsafe {
        if arguments(state) != 1 {
            return Err(Raise::argument(1, "expected 1 argument"));
        }
        let text = check_bytes(state, 1)?;
        if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
            return Err(Raise::error(
                "JSON parser does not support UTF-16 or UTF-32",
            ));
        }
        let mut decoder = Decoder {
            state,
            settings: *Host::of(state).json.borrow(),
            text,
            at: 0,
            depth: 0,
            token_at: 0,
            string: Vec::new(),
        };
        let token = decoder.token();
        decoder.value(token)?;
        match decoder.token() {
            Token::End => Ok(1),
            other => Err(decoder.unexpected("the end", other)),
        }
    }
}

#[derive(Clone, Copy)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its bytes are in `Decoder::string`.
    Text,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Text => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(what) => what,
        }
    }
}

struct Decoder<'a> {
    state: State,
    settings: Settings,
    text: &'a [u8],
    at: usize,
    depth: i32,
    /// Where the last token began, or where it went wrong.
    token_at: usize,
    /// The last string.
    string: Vec<u8>,
}

impl Decoder<'_> {
    /// The byte at a position; 0 behind the end, as in a C string.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn starts_with(&self, word: &str) -> bool {
        self.text[self.at..].starts_with(word.as_bytes())
    }

    fn unexpected(&self, expected: &str, found: Token) -> Raise {
        Raise::error(format!(
            "Expected {expected} but found {} at character {}",
            found.name(),
            self.token_at + 1
        ))
    }

    fn failed(&mut self, what: &'static str) -> Token {
        self.token_at = self.at;
        Token::Error(what)
    }

    fn token(&mut self) -> Token {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.byte(self.at) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            0 => return Token::End,
            b'"' => return self.text_token(),
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_no_json_number() {
                    return self.failed("invalid number");
                }
                return self.number_token();
            }
            b't' | b'f' | b'n' | b'i' | b'I' | b'N' | b'+' => return self.word_token(),
            _ => return self.failed("invalid token"),
        };
        self.at += 1;
        single
    }

    fn word_token(&mut self) -> Token {
        let words = [
            ("true", Token::Boolean(true)),
            ("false", Token::Boolean(false)),
            ("null", Token::Null),
        ];
        for (word, token) in words {
            if self.starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        if self.settings.decode_invalid && self.is_no_json_number() {
            return self.number_token();
        }
        self.failed("invalid token")
    }

    /// What C's `strtod` would read and JSON does not allow.
    fn is_no_json_number(&self) -> bool {
        if self.byte(self.at) == b'+' {
            return true;
        }
        let at = self.at + usize::from(self.byte(self.at) == b'-');
        match self.byte(at) {
            b'0' => matches!(self.byte(at + 1), b'x' | b'X' | b'0'..=b'9'),
            byte if byte <= b'9' => false,
            _ => {
                let word = self.text.get(at..at + 3).unwrap_or_default();
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    /// Read by C's own `strtod`, as ever: it takes hexadecimal numbers, infinities.
    fn number_token(&mut self) -> Token {
        let mut end = std::ptr::null_mut();
        let from = self.text[self.at..].as_ptr().cast();
        // SAFETY: Lua puts a zero behind every string, where reading ends.
        let (number, read) = unsafe {
            let number = libc::strtod(from, &mut end);
            (number, end.cast_const().offset_from(from))
        };
        if read == 0 {
            return self.failed("invalid number");
        }
        self.at += read.unsigned_abs();
        Token::Number(number)
    }

    fn text_token(&mut self) -> Token {
        self.string.clear();
        self.at += 1;
        loop {
            let byte = match self.byte(self.at) {
                b'"' => break,
                0 => return self.failed("unexpected end of string"),
                b'\\' => match self.byte(self.at + 1) {
                    b'u' => {
                        if self.unicode_escape().is_none() {
                            return self.failed("invalid unicode escape code");
                        }
                        continue;
                    }
                    escaped => {
                        let meant = match escaped {
                            b'"' | b'\\' | b'/' => escaped,
                            b'b' => 8,
                            b't' => b'\t',
                            b'n' => b'\n',
                            b'f' => 12,
                            b'r' => b'\r',
                            _ => return self.failed("invalid escape code"),
                        };
                        self.at += 1;
                        meant
                    }
                },
                byte => byte,
            };
            self.string.push(byte);
            self.at += 1;
        }
        self.at += 1;
        Token::Text
    }

    /// `\uXXXX`, of which a pair may stand for one character.
    fn unicode_escape(&mut self) -> Option<()> {
        let first = self.hex4(self.at + 2)?;
        let mut length = 6;
        let mut code = first;
        if first & 0xf800 == 0xd800 {
            let is_escape = self.byte(self.at + 6) == b'\\' && self.byte(self.at + 7) == b'u';
            if first & 0x400 != 0 || !is_escape {
                return None;
            }
            let low = self.hex4(self.at + 8)?;
            if low & 0xfc00 != 0xdc00 {
                return None;
            }
            code = (((first & 0x3ff) << 10) | (low & 0x3ff)) + 0x1_0000;
            length = 12;
        }
        let character = char::from_u32(code)?;
        let mut utf8 = [0; 4];
        let utf8 = character.encode_utf8(&mut utf8);
        self.string.extend_from_slice(utf8.as_bytes());
        self.at += length;
        Some(())
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        (at..at + 4).try_fold(0, |n, at| {
            let digit = char::from(self.byte(at)).to_digit(16)?;
            Some(n * 16 + digit)
        })
    }

    /// Pushes the value that begins with this token.
    fn value(&mut self, token: Token) -> Result<(), Raise> {
        let state = self.state;
        // SAFETY: room for the value was made by `descend`, or is what every
        // function has.
        unsafe {
            match token {
                Token::Text => push(state, &self.string),
                Token::Number(number) => ffi::lua_pushnumber(state, number),
                Token::Boolean(value) => ffi::lua_pushboolean(state, c_int::from(value)),
                Token::Null => ffi::lua_pushlightuserdata(state, std::ptr::null_mut()),
                Token::ObjectBegin => return self.object(),
                Token::ArrayBegin => return self.array(),
                other => return Err(self.unexpected("value", other)),
            }
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<(), Raise> {
        self.depth += 1;
        let deepest = self.settings.decode_max_depth.min(DEEPEST);
        // SAFETY: only asks for room.
        let has_room = unsafe { ffi::lua_checkstack(self.state, 8) } != 0;
        if self.depth <= deepest && has_room {
            return Ok(());
        }
        Err(Raise::error(format!(
            "Found too many nested data structures ({}) at character {}",
            self.depth, self.at
        )))
    }

    fn object(&mut self) -> Result<(), Raise> {
        self.descend()?;
        // SAFETY: `descend` made room.
        unsafe { ffi::lua_createtable(self.state, 0, 0) };
        let mut token = self.token();
        if let Token::ObjectEnd = token {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            let Token::Text = token else {
                return Err(self.unexpected("object key string", token));
            };
            // SAFETY: as above.
            unsafe { push(self.state, &self.string) };
            match self.token() {
                Token::Colon => {}
                other => return Err(self.unexpected("colon", other)),
            }
            let first = self.token();
            self.value(first)?;
            // SAFETY: table, key and value are on top.
            unsafe { ffi::lua_rawset(self.state, -3) };
            match self.token() {
                Token::ObjectEnd => break,
                Token::Comma => {}
                other => return Err(self.unexpected("comma or object end", other)),
            }
            token = self.token();
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Raise> {
        self.descend()?;
        // SAFETY: `descend` made room.
        unsafe { ffi::lua_createtable(self.state, 0, 0) };
        let mut token = self.token();
        if let Token::ArrayEnd = token {
            self.depth -= 1;
            return Ok(());
        }
        for at in 1.. {
            self.value(token)?;
            // SAFETY: table and value are on top.
            unsafe { ffi::lua_rawseti_(self.state, -2, at) };
            match self.token() {
                Token::ArrayEnd => break,
                Token::Comma => {}
                other => return Err(self.unexpected("comma or array end", other)),
            }
            token = self.token();
        }
        self.depth -= 1;
        Ok(())
    }
}
