//! What the debugger shows: variables, values and replies as people read them.

use std::ffi::{CStr, c_int};

use cairn_protocol::monitor::quote;

use super::{Debugger, leading_number};
use crate::scripting::host::Host;
use crate::scripting::lua::{State, absolute, bytes, ffi, format_g};

/// Tables within tables are shown so deep.
const MAX_DEPTH: usize = 10;
/// A value's text is not made longer than this, whatever is chosen.
const MAX_TEXT: usize = 1 << 20;

/// What looks into the state. It is stopped in a hook, its memory limit is off.
impl Debugger {
    /// Shows the first variable of that name, from the innermost function on.
    pub(super) unsafe fn print(&self, state: State, name: &[u8]) {
        unsafe {
            let mut frame: ffi::lua_Debug = std::mem::zeroed();
            let mut level = 0;
            while ffi::lua_getstack(state, level, &mut frame) != 0 {
                level += 1;
                let mut at = 1;
                loop {
                    let known = ffi::lua_getlocal(state, &frame, at);
                    if known.is_null() {
                        break;
                    }
                    at += 1;
                    let found = CStr::from_ptr(known).to_bytes() == name;
                    if found {
                        self.say_value(state, b"<value> ");
                    }
                    ffi::lua_settop(state, -2);
                    if found {
                        return;
                    }
                }
            }
            if name != b"ARGV" && name != b"KEYS" {
                return self.say("No such variable.");
            }
            Host::of(state).push_global(state, name);
            self.say_value(state, b"<value> ");
            ffi::lua_settop(state, -2);
        }
    }

    /// Shows all variables of the innermost function.
    pub(super) unsafe fn print_all(&self, state: State) {
        unsafe {
            let mut frame: ffi::lua_Debug = std::mem::zeroed();
            let mut shown = false;
            if ffi::lua_getstack(state, 0, &mut frame) != 0 {
                let mut at = 1;
                loop {
                    let name = ffi::lua_getlocal(state, &frame, at);
                    if name.is_null() {
                        break;
                    }
                    at += 1;
                    let name = CStr::from_ptr(name).to_bytes();
                    if !name.starts_with(b"(*temporary)") {
                        self.say_value(state, &[b"<value> ", name, b" = "].concat());
                        shown = true;
                    }
                    ffi::lua_settop(state, -2);
                }
            }
            if !shown {
                self.say("No local variables in the current context.");
            }
        }
    }

    /// The value on top.
    pub(super) unsafe fn say_value(&self, state: State, prefix: &[u8]) {
        let mut text = prefix.to_vec();
        unsafe { write_value(state, -1, 0, &mut text) };
        self.say_trimmed(text);
    }
}

/// As Redis prints strings that may hold anything.
fn write_quoted(text: &[u8], out: &mut Vec<u8>) {
    let mut quoted = String::new();
    quote(text, &mut quoted);
    out.extend(quoted.bytes());
}

pub(super) unsafe fn write_value(state: State, at: c_int, depth: usize, out: &mut Vec<u8>) {
    unsafe {
        if depth == MAX_DEPTH || ffi::lua_checkstack(state, 4) == 0 {
            return out.extend(b"<max recursion level reached! Nested table?>");
        }
        if out.len() > MAX_TEXT {
            return;
        }
        let kind = ffi::lua_type(state, at);
        match kind {
            ffi::LUA_TSTRING => write_quoted(bytes(state, at).unwrap_or_default(), out),
            ffi::LUA_TBOOLEAN => {
                let is_true = ffi::lua_toboolean(state, at) != 0;
                out.extend(if is_true { &b"true"[..] } else { b"false" });
            }
            ffi::LUA_TNUMBER => format_g(ffi::lua_tonumber(state, at), 6, out),
            ffi::LUA_TNIL => out.extend(b"nil"),
            ffi::LUA_TTABLE => write_table(state, absolute(state, at), depth, out),
            _ => {
                let name = match kind {
                    ffi::LUA_TFUNCTION => "function",
                    ffi::LUA_TUSERDATA => "userdata",
                    ffi::LUA_TTHREAD => "thread",
                    ffi::LUA_TLIGHTUSERDATA => "light-userdata",
                    _ => return out.extend(b"\"<unknown-lua-type>\""),
                };
                let pointer = ffi::lua_topointer(state, at);
                out.extend(format!("\"{name}@{pointer:p}\"").bytes());
            }
        }
    }
}

/// As an array if its keys are 1, 2, … in the order in which they are met.
unsafe fn write_table(state: State, at: c_int, depth: usize, out: &mut Vec<u8>) {
    unsafe {
        let (mut array, mut map) = (Vec::new(), Vec::new());
        let mut expected = Some(1.0);
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, at) != 0 {
            let is_next = ffi::lua_type(state, -2) == ffi::LUA_TNUMBER
                && expected == Some(ffi::lua_tonumber(state, -2));
            expected = expected.filter(|_| is_next).map(|n| n + 1.0);
            let mut value = Vec::new();
            write_value(state, -1, depth + 1, &mut value);
            map.push(b'[');
            write_value(state, -2, depth + 1, &mut map);
            map.extend(b"]=");
            for text in [&mut array, &mut map] {
                text.extend_from_slice(&value);
                text.extend(b"; ");
            }
            ffi::lua_settop(state, -2);
            if map.len() > MAX_TEXT {
                // The key, which would go on.
                ffi::lua_settop(state, -2);
                break;
            }
        }
        let text = if expected.is_some() { array } else { map };
        out.push(b'{');
        out.extend_from_slice(text.strip_suffix(b"; ").unwrap_or(&text));
        out.push(b'}');
    }
}

/// Writes a reply as people read it; what follows it is returned.
pub(super) fn write_reply<'a>(reply: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some(end) = reply.windows(2).position(|two| two == b"\r\n") else {
        return b"";
    };
    let (line, rest) = (&reply[..end], &reply[end + 2..]);
    let number = leading_number(line.get(1..).unwrap_or_default());
    match line.first() {
        Some(b'+' | b'-') => write_quoted(line, out),
        Some(b':' | b'(') => out.extend_from_slice(&line[1..]),
        Some(b',') => out.extend([b"(double) ", &line[1..]].concat()),
        Some(b'_') => out.extend(b"(null)"),
        Some(b'#') => out.extend(match line.get(1) {
            Some(b't') => &b"#true"[..],
            _ => b"#false",
        }),
        Some(b'$' | b'=') if number >= 0 => {
            let length = (number as usize).min(rest.len());
            write_quoted(&rest[..length], out);
            return rest.get(length + 2..).unwrap_or_default();
        }
        Some(b'*' | b'~' | b'>') if number >= 0 => {
            let (open, close) = match line[0] {
                b'~' => (&b"~("[..], &b")"[..]),
                _ => (&b"["[..], &b"]"[..]),
            };
            return write_members(rest, (open, close), (number, false), out);
        }
        Some(b'%') if number >= 0 => return write_members(rest, (b"{", b"}"), (number, true), out),
        _ => out.extend(b"NULL"),
    }
    rest
}

/// Replies in brackets; `pairs`: two and two belong together.
fn write_members<'a>(
    mut rest: &'a [u8],
    (open, close): (&[u8], &[u8]),
    (count, pairs): (i64, bool),
    out: &mut Vec<u8>,
) -> &'a [u8] {
    out.extend_from_slice(open);
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        if rest.is_empty() || out.len() > MAX_TEXT {
            break;
        }
        rest = write_reply(rest, out);
        if pairs {
            out.extend(b" => ");
            rest = write_reply(rest, out);
        }
    }
    out.extend_from_slice(close);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reply: &[u8]) -> String {
        let mut out = Vec::new();
        write_reply(reply, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replies_are_shown_as_redis_shows_them() {
        assert_eq!(shown(b":12\r\n"), "12");
        assert_eq!(shown(b"$3\r\na\"b\r\n"), "\"a\\\"b\"");
        assert_eq!(shown(b"$-1\r\n"), "NULL");
        assert_eq!(shown(b"+OK\r\n"), "\"+OK\"");
        assert_eq!(shown(b"-ERR no\r\n"), "\"-ERR no\"");
        assert_eq!(shown(b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n"), "[1,[\"x\"]]");
        assert_eq!(shown(b"%1\r\n+k\r\n_\r\n"), "{\"+k\" => (null)}");
        assert_eq!(shown(b"~2\r\n#t\r\n,1.5\r\n"), "~(#true,(double) 1.5)");
        // Cut short, or no reply at all.
        assert_eq!(shown(b"*3\r\n:1\r\n"), "[1,]");
        assert_eq!(shown(b"what"), "");
    }
}
