//! The Lua debugger (SCRIPT DEBUG): stops a script at its lines and talks with
//! the client whose script it is.
//!
//! The connection gives its socket's bytes to a [`Wire`] and sends what comes
//! back; here, on the thread of the script, one waits for them. Words and texts
//! are Redis's, which `redis-cli --ldb` knows. Owned by the one run that is
//! debugged; natives and hooks reach it through the state's host, so its fields
//! are cells that are never borrowed while Lua runs.

mod show;

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use cairn_protocol::resp::Args;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::show::{write_reply, write_value};
use super::host::{Abort, Host, push_abort};
use super::lua::{State, bytes, ffi, push, push_error_reply};
use super::{api, running};

/// Breakpoints at a time.
const MAX_BREAKPOINTS: usize = 64;
/// What is shown of a value, bytes, unless the client chooses otherwise.
const MAX_SHOWN: usize = 256;
/// Bytes of a command that has not ended.
const MAX_INPUT: usize = 1 << 20;
/// Arguments of a command, and bytes of each.
const MAX_ARGUMENT: usize = 1024;
/// Lines that wait to be sent; more are dropped.
const MAX_LINES: usize = 1 << 16;
/// A script that runs so long without a stop is stopped, if nothing else is set.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(5);

/// The connection's end.
pub(crate) struct Wire {
    /// Dropped when the client has gone.
    pub to_script: Option<Sender<Vec<u8>>>,
    pub from_script: UnboundedReceiver<Vec<u8>>,
}

/// See the module's documentation.
pub(crate) struct Debugger {
    from_client: Receiver<Vec<u8>>,
    to_client: UnboundedSender<Vec<u8>>,
    /// What the script does is thrown away: with the client gone there is no
    /// reason to go on.
    pub(super) is_scratch: bool,
    source: RefCell<Vec<Vec<u8>>>,
    input: RefCell<Vec<u8>>,
    log: RefCell<Vec<Vec<u8>>>,
    breakpoints: RefCell<Vec<i64>>,
    /// Stop at the next line, and show commands until then.
    step: Cell<bool>,
    /// redis.breakpoint() was called.
    stop_asked: Cell<bool>,
    /// A command of the client runs Lua code of its own.
    evaluates: Cell<bool>,
    line: Cell<i64>,
    max_shown: Cell<usize>,
    hinted: Cell<bool>,
    went_on: Cell<Instant>,
}

thread_local! {
    /// The debugger of the script that this thread runs next.
    static HERE: RefCell<Option<Arc<Mutex<Debugger>>>> = const { RefCell::new(None) };
}

/// Until it is dropped, the script that this thread runs is debugged.
pub(crate) struct Here;

pub(crate) fn debug_here(debugger: Arc<Mutex<Debugger>>) -> Here {
    HERE.set(Some(debugger));
    Here
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

pub(super) fn here() -> Option<Arc<Mutex<Debugger>>> {
    HERE.with_borrow(Clone::clone)
}

/// How a stop ends.
enum Ended {
    GoOn,
    /// The client has gone.
    Alone,
    /// The script fails with this.
    Fail(&'static str),
}

impl Debugger {
    pub fn new(is_scratch: bool) -> (Debugger, Wire) {
        let (to_script, from_client) = channel();
        let (to_client, from_script) = unbounded_channel();
        let debugger = Debugger {
            from_client,
            to_client,
            is_scratch,
            source: RefCell::default(),
            input: RefCell::default(),
            log: RefCell::default(),
            breakpoints: RefCell::default(),
            step: Cell::new(true),
            stop_asked: Cell::new(false),
            evaluates: Cell::new(false),
            line: Cell::new(0),
            max_shown: Cell::new(MAX_SHOWN),
            hinted: Cell::new(false),
            went_on: Cell::new(Instant::now()),
        };
        let wire = Wire {
            to_script: Some(to_script),
            from_script,
        };
        (debugger, wire)
    }

    /// The text of the script that is about to run.
    pub fn show_source(&self, body: &[u8]) {
        let mut body = body;
        while let [rest @ .., b'\r' | b'\n'] = body {
            body = rest;
        }
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        *self.source.borrow_mut() = lines.collect();
        self.went_on.set(Instant::now());
    }

    /// The script has ended: what is left to say, and that it is over.
    pub fn end(&self) -> Vec<u8> {
        self.say("<endsession>");
        self.take_log()
    }

    /// Whether commands of the script and their replies are shown.
    fn shows_commands(&self) -> bool {
        self.step.get()
    }

    fn say(&self, line: impl Into<Vec<u8>>) {
        let mut log = self.log.borrow_mut();
        if log.len() < MAX_LINES {
            log.push(line.into());
        }
    }

    /// A line that may be long.
    fn say_trimmed(&self, mut line: Vec<u8>) {
        let most = self.max_shown.get();
        let is_long = most != 0 && line.len() > most;
        if is_long {
            line.truncate(most);
            line.extend_from_slice(b" ...");
        }
        self.say(line);
        if is_long && !self.hinted.replace(true) {
            self.say("<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.");
        }
    }

    /// What was said, as an array of simple strings.
    fn take_log(&self) -> Vec<u8> {
        let log = std::mem::take(&mut *self.log.borrow_mut());
        let mut out = format!("*{}\r\n", log.len()).into_bytes();
        for line in log {
            out.push(b'+');
            let text = line.iter().map(|byte| match byte {
                b'\r' | b'\n' => b' ',
                other => *other,
            });
            out.extend(text);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    fn send_log(&self) {
        // A client that has gone is found out when it is read from.
        let _ = self.to_client.send(self.take_log());
    }

    // Source and breakpoints.

    fn is_breakpoint(&self, line: i64) -> bool {
        self.breakpoints.borrow().contains(&line)
    }

    fn say_line(&self, number: i64) {
        let source = self.source.borrow();
        let at = usize::try_from(number - 1).ok();
        let text = at.and_then(|at| source.get(at));
        let text = text.map_or(&b"<out of range source code line>"[..], Vec::as_slice);
        let prefix = match (self.line.get() == number, self.is_breakpoint(number)) {
            (true, true) => "->#",
            (true, false) => "-> ",
            (false, true) => "  #",
            (false, false) => "   ",
        };
        let mut line = format!("{prefix}{number:<3} ").into_bytes();
        line.extend_from_slice(text);
        drop(source);
        self.say(line);
    }

    fn list(&self, around: i64, context: i64) {
        let lines = self.source.borrow().len() as i64;
        for number in 1..=lines {
            if around == 0 || (around - number).saturating_abs() <= context {
                self.say_line(number);
            }
        }
    }

    fn breakpoint_command(&self, words: &[Vec<u8>]) {
        if words.len() == 1 {
            let all = self.breakpoints.borrow().clone();
            if all.is_empty() {
                return self.say("No breakpoints set. Use 'b <line>' to add one.");
            }
            self.say(format!("{} breakpoints set:", all.len()));
            return all.into_iter().for_each(|line| self.say_line(line));
        }
        for word in &words[1..] {
            match std::str::from_utf8(word).ok().and_then(|w| w.parse().ok()) {
                None => self.say([b"Invalid argument:'", &word[..], b"'"].concat()),
                Some(0) => {
                    self.breakpoints.borrow_mut().clear();
                    self.say("All breakpoints removed.");
                }
                Some(line) if line > 0 => self.add_breakpoint(line),
                Some(line) => self.remove_breakpoint(-line),
            }
        }
    }

    fn add_breakpoint(&self, line: i64) {
        let lines = self.source.borrow().len() as i64;
        let known = self.is_breakpoint(line);
        if self.breakpoints.borrow().len() == MAX_BREAKPOINTS {
            return self.say("Too many breakpoints set.");
        }
        if line > lines {
            return self.say("Wrong line number.");
        }
        if !known {
            self.breakpoints.borrow_mut().push(line);
        }
        self.list(line, 1);
    }

    fn remove_breakpoint(&self, line: i64) {
        let known = self.is_breakpoint(line);
        self.breakpoints.borrow_mut().retain(|other| *other != line);
        self.say(match known {
            true => "Breakpoint removed.",
            false => "No breakpoint in the specified line.",
        });
    }

    fn max_shown_command(&self, words: &[Vec<u8>]) {
        if let [_, number] = words {
            self.hinted.set(true);
            let chosen = leading_number(number);
            self.max_shown.set(match chosen {
                0 => 0,
                n => n.clamp(60, i64::from(i32::MAX)) as usize,
            });
        }
        self.say(match self.max_shown.get() {
            0 => "<value> replies are unlimited.".to_owned(),
            most => format!("<value> replies are truncated at {most} bytes."),
        });
    }

    // The client.

    /// The next command of the client.
    fn next_command(&self) -> Result<Vec<Vec<u8>>, Ended> {
        loop {
            let mut input = self.input.borrow_mut();
            match parse(&input) {
                Ok(Some((words, used))) => {
                    input.drain(..used);
                    return Ok(words);
                }
                Ok(None) if input.len() > MAX_INPUT => {
                    input.clear();
                    return Err(Ended::Fail("max client buffer reached"));
                }
                Ok(None) => {}
                Err(()) => {
                    input.clear();
                    return Err(Ended::Fail("protocol error"));
                }
            }
            match self.from_client.recv() {
                Ok(bytes) => input.extend_from_slice(&bytes),
                Err(_) => {
                    // The script runs on by itself.
                    self.step.set(false);
                    self.breakpoints.borrow_mut().clear();
                    return Err(Ended::Alone);
                }
            }
        }
    }

    /// Whether the client has gone, while nobody waits for it.
    fn is_alone(&self) -> bool {
        match self.from_client.try_recv() {
            Ok(bytes) => {
                let mut input = self.input.borrow_mut();
                if input.len() <= MAX_INPUT {
                    input.extend_from_slice(&bytes);
                }
                false
            }
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => true,
        }
    }

    /// Does what the client says until it lets the script go on.
    unsafe fn converse(&self, state: State) -> Ended {
        loop {
            let words = match self.next_command() {
                Ok(words) => words,
                Err(ended) => return ended,
            };
            let name = words[0].to_ascii_lowercase();
            match (name.as_slice(), words.len()) {
                (b"h" | b"help", _) => HELP.iter().for_each(|line| self.say(*line)),
                (b"s" | b"step" | b"n" | b"next", _) => {
                    self.step.set(true);
                    return Ended::GoOn;
                }
                (b"c" | b"continue", _) => return Ended::GoOn,
                (b"t" | b"trace", _) => unsafe { self.trace(state) },
                (b"m" | b"maxlen", _) => self.max_shown_command(&words),
                (b"b" | b"break", _) => self.breakpoint_command(&words),
                (b"e" | b"eval", _) => unsafe { self.evaluate(state, &words[1..]) },
                (b"a" | b"abort", _) => return Ended::Fail("script aborted for user request"),
                (b"r" | b"redis", 2..) => unsafe { self.command(state, &words[1..]) },
                (b"p" | b"print", 2) => unsafe { self.print(state, &words[1]) },
                (b"p" | b"print", _) => unsafe { self.print_all(state) },
                (b"l" | b"list", _) => {
                    let number = |at: usize| words.get(at).map(|word| leading_number(word));
                    let around = number(1).filter(|line| *line > 0);
                    let context = number(2).unwrap_or(5);
                    self.list(around.unwrap_or(self.line.get()), context);
                }
                (b"w" | b"whole", _) => self.list(1, 1_000_000),
                _ => self.say(
                    "<error> Unknown Redis Lua debugger command or wrong number of arguments.",
                ),
            }
            self.send_log();
        }
    }

    // What looks into the state. It is stopped in a hook, its memory limit is off.

    unsafe fn trace(&self, state: State) {
        unsafe {
            let mut frame: ffi::lua_Debug = std::mem::zeroed();
            let mut level = 0;
            while ffi::lua_getstack(state, level, &mut frame) != 0 {
                ffi::lua_getinfo(state, c"Snl".as_ptr(), &mut frame);
                if is_script(&frame) {
                    let which = if level == 0 { "In" } else { "From" };
                    let name = match frame.name.is_null() {
                        true => "top level".into(),
                        false => CStr::from_ptr(frame.name).to_string_lossy(),
                    };
                    self.say(format!("{which} {name}:"));
                    self.say_line(i64::from(frame.currentline));
                }
                level += 1;
            }
            if level == 0 {
                self.say("<error> Can't retrieve Lua stack.");
            }
        }
    }

    /// Runs code of the client, as an expression if it is one. In a coroutine, where
    /// hooks work, so that it can be ended.
    unsafe fn evaluate(&self, state: State, words: &[Vec<u8>]) {
        unsafe {
            let code = words.join(&b' ');
            if code.first() == Some(&0x1b) {
                return self.say("<error> ldb_eval:1: unexpected symbol near 'char(27)'");
            }
            let memory = &Host::of(state).memory;
            let inner = ffi::lua_newthread(state);
            let expression = [b"return ", &code[..]].concat();
            let mut status = load(inner, &expression);
            if status != 0 {
                ffi::lua_settop(inner, 0);
                status = load(inner, &code);
            }
            if status == 0 {
                self.evaluates.set(true);
                memory.resume();
                status = ffi::lua_pcall(inner, 0, 1, 0);
                memory.suspend();
                self.evaluates.set(false);
            }
            match status {
                0 => self.say_value(inner, b"<retval> "),
                _ => {
                    let text = error_text(inner);
                    self.say([b"<error> ", &text[..]].concat());
                }
            }
            ffi::lua_settop(inner, 0);
            // The coroutine itself.
            ffi::lua_settop(state, -2);
        }
    }

    /// Runs a command of the client as redis.call() would, and shows it.
    unsafe fn command(&self, state: State, words: &[Vec<u8>]) {
        unsafe {
            let inner = ffi::lua_newthread(state);
            if ffi::lua_checkstack(inner, words.len() as c_int + 2) == 0 {
                self.say("<error> max lua stack reached");
            } else {
                api::push_call(inner);
                words.iter().for_each(|word| push(inner, word));
                self.step.set(true);
                self.evaluates.set(true);
                ffi::lua_pcall(inner, words.len() as c_int, 1, 0);
                self.evaluates.set(false);
                self.step.set(false);
            }
            ffi::lua_settop(inner, 0);
            ffi::lua_settop(state, -2);
        }
    }
}

// Called by natives.

/// redis.debug(value, ...)
pub(super) unsafe fn debug(state: State, debugger: &Debugger) {
    unsafe {
        let mut text = format!("<debug> line {}: ", debugger.line.get()).into_bytes();
        let given = ffi::lua_gettop(state);
        for at in 1..=given {
            if at > 1 {
                text.extend_from_slice(b", ");
            }
            write_value(state, at, 0, &mut text);
        }
        debugger.say(text);
    }
}

/// redis.breakpoint()
pub(super) fn breakpoint(debugger: &Debugger) {
    debugger.stop_asked.set(true);
}

/// A command is about to run.
pub(super) fn show_command(debugger: &Debugger, words: &Args<'_>) {
    /// Words that are shown.
    const MOST: usize = 10;
    if !debugger.shows_commands() {
        return;
    }
    let all = words.len();
    let mut line = b"<redis>".to_vec();
    for word in words.iter().take(MOST) {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    if all > MOST {
        line.extend_from_slice(format!(" ... ({} more)", all - MOST - 1).as_bytes());
    }
    debugger.say(line);
}

/// It has answered.
pub(super) fn show_reply(debugger: &Debugger, reply: &[u8]) {
    if debugger.shows_commands() {
        let mut line = b"<reply> ".to_vec();
        write_reply(reply, &mut line);
        debugger.say_trimmed(line);
    }
}

/// It was refused.
pub(super) fn show_error(debugger: &Debugger, text: &[u8]) {
    if debugger.shows_commands() {
        debugger.say([b"<error> ", text].concat());
    }
}

// The hook.

/// Before every line of Lua, and every so many instructions.
pub(super) unsafe extern "C-unwind" fn at_line(state: State, frame: *mut ffi::lua_Debug) {
    unsafe {
        if looks(state, frame) {
            // The error value is on top; this frame owns nothing.
            ffi::lua_error(state);
        }
    }
}

/// True: the value on top is to be thrown.
unsafe fn looks(state: State, frame: *mut ffi::lua_Debug) -> bool {
    unsafe {
        let host = Host::of(state);
        if let Some(abort) = host.abort.get() {
            push_abort(state, abort);
            return true;
        }
        let Some(debugger) = host.debugger() else {
            return false;
        };
        host.memory.suspend();
        let met = || debugger.meet(state, &mut *frame);
        let met = std::panic::catch_unwind(AssertUnwindSafe(met));
        let raise = match met.unwrap_or(Ended::Fail("internal error")) {
            Ended::GoOn => false,
            Ended::Fail(text) => {
                ffi::lua_checkstack(state, 8);
                push_error_reply(state, text.as_bytes());
                true
            }
            Ended::Alone => {
                ffi::lua_checkstack(state, 8);
                host.abort.set(Some(Abort::Killed));
                push_abort(state, Abort::Killed);
                true
            }
        };
        host.memory.resume();
        raise
    }
}

impl Debugger {
    /// `Alone`: the script ends, because nobody is there who could end it.
    unsafe fn meet(&self, state: State, frame: &mut ffi::lua_Debug) -> Ended {
        unsafe {
            let is_line = frame.event == ffi::LUA_HOOKLINE;
            if self.evaluates.get() {
                // Code of the client: it ends when the client goes.
                return match !is_line && self.is_alone() {
                    true => Ended::Alone,
                    false => Ended::GoOn,
                };
            }
            if ffi::lua_getstack(state, 0, frame) == 0 {
                return Ended::GoOn;
            }
            ffi::lua_getinfo(state, c"Sl".as_ptr(), frame);
            if !is_script(frame) {
                return Ended::GoOn;
            }
            if !is_line && self.is_scratch && self.is_alone() {
                return Ended::Alone;
            }
            self.line.set(i64::from(frame.currentline));
            let at_breakpoint = self.is_breakpoint(self.line.get());
            let patience = running::threshold().unwrap_or(DEFAULT_PATIENCE);
            let is_late = !is_line && self.went_on.get().elapsed() >= patience;
            let reason = match is_line {
                true if self.stop_asked.get() => "redis.breakpoint() called",
                true if at_breakpoint => "break point",
                true if self.step.get() => "step over",
                false if is_late => "timeout reached, infinite loop?",
                _ => return Ended::GoOn,
            };
            self.step.set(false);
            self.stop_asked.set(false);
            self.say(format!(
                "* Stopped at {}, stop reason = {reason}",
                self.line.get()
            ));
            self.say_line(self.line.get());
            self.send_log();
            let ended = self.converse(state);
            self.went_on.set(Instant::now());
            match ended {
                // What it changes is kept, so it goes on, but not without end.
                Ended::Alone if !self.is_scratch && !is_late => Ended::GoOn,
                ended => ended,
            }
        }
    }
}

fn is_script(frame: &ffi::lua_Debug) -> bool {
    // SAFETY: Lua ends the name with a zero byte within the array.
    let source = unsafe { CStr::from_ptr(frame.short_src.as_ptr()) };
    let source = source.to_bytes();
    source.windows(11).any(|part| part == b"user_script")
}

unsafe fn load(state: State, code: &[u8]) -> c_int {
    unsafe {
        ffi::luaL_loadbuffer(
            state,
            code.as_ptr().cast(),
            code.len(),
            c"@ldb_eval".as_ptr(),
        )
    }
}

/// The error on top as text.
unsafe fn error_text(state: State) -> Vec<u8> {
    unsafe {
        if ffi::lua_type(state, -1) != ffi::LUA_TTABLE {
            return bytes(state, -1).unwrap_or(b"(null)").to_vec();
        }
        super::lua::get_raw(state, -1, c"err");
        let text = bytes(state, -1).unwrap_or(b"(null)").to_vec();
        ffi::lua_settop(state, -2);
        text
    }
}

/// C's `atoi`.
fn leading_number(word: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(word);
    let text = text.trim_start();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    let number = digits.parse().unwrap_or(0);
    if text.starts_with('-') {
        -number
    } else {
        number
    }
}

/// The words of a command, and how many bytes it takes.
type Command = (Vec<Vec<u8>>, usize);

/// A command as an array of bulk strings, once it is there. `Err`: it is none.
fn parse(input: &[u8]) -> Result<Option<Command>, ()> {
    if input.is_empty() {
        return Ok(None);
    }
    let start = input.iter().position(|byte| *byte == b'*').ok_or(())?;
    let Some((count, mut at)) = header(input, start) else {
        return Ok(None);
    };
    if count <= 0 || count > MAX_ARGUMENT as i64 {
        return Err(());
    }
    let mut words = Vec::new();
    while words.len() < count as usize {
        match input.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err(()),
        }
        let Some((length, first)) = header(input, at) else {
            return Ok(None);
        };
        if length <= 0 || length > MAX_ARGUMENT as i64 {
            return Err(());
        }
        let end = first + length as usize;
        if input.len() < end + 2 {
            return Ok(None);
        }
        if &input[end..end + 2] != b"\r\n" {
            return Err(());
        }
        words.push(input[first..end].to_vec());
        at = end + 2;
    }
    Ok(Some((words, at)))
}

/// The number behind the letter at `at`, and where what follows the line begins.
fn header(input: &[u8], at: usize) -> Option<(i64, usize)> {
    let line = &input[at + 1..];
    let end = line.windows(2).position(|two| two == b"\r\n")?;
    Some((leading_number(&line[..end]), at + 1 + end + 2))
}

const HELP: &[&str] = &[
    "Redis Lua debugger help:",
    "[h]elp               Show this help.",
    "[s]tep               Run current line and stop again.",
    "[n]ext               Alias for step.",
    "[c]ontinue           Run till next breakpoint.",
    "[l]ist               List source code around current line.",
    "[l]ist [line]        List source code around [line].",
    "                     line = 0 means: current position.",
    "[l]ist [line] [ctx]  In this form [ctx] specifies how many lines",
    "                     to show before/after [line].",
    "[w]hole              List all source code. Alias for 'list 1 1000000'.",
    "[p]rint              Show all the local variables.",
    "[p]rint <var>        Show the value of the specified variable.",
    "                     Can also show global vars KEYS and ARGV.",
    "[b]reak              Show all breakpoints.",
    "[b]reak <line>       Add a breakpoint to the specified line.",
    "[b]reak -<line>      Remove breakpoint from the specified line.",
    "[b]reak 0            Remove all breakpoints.",
    "[t]race              Show a backtrace.",
    "[e]val <code>        Execute some Lua code (in a different callframe).",
    "[r]edis <cmd>        Execute a Redis command.",
    "[m]axlen [len]       Trim logged Redis replies and Lua var dumps to len.",
    "                     Specifying zero as <len> means unlimited.",
    "[a]bort              Stop the execution of the script. In sync",
    "                     mode dataset changes will be retained.",
    "",
    "Debugger functions you can call from Lua scripts:",
    "redis.debug()        Produce logs in the debugger console.",
    "redis.breakpoint()   Stop execution like if there was a breakpoint in the",
    "                     next line of code.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_and_come_in_any_pieces() {
        let whole = b"*2\r\n$1\r\nb\r\n$2\r\n10\r\n*1\r\n";
        let command = &whole[..whole.len() - 4];
        for cut in 1..command.len() {
            assert_eq!(parse(&whole[..cut]), Ok(None), "{cut}");
        }
        let words = vec![b"b".to_vec(), b"10".to_vec()];
        assert_eq!(parse(whole), Ok(Some((words, command.len()))));
        for wrong in [
            &b"PING\r\n"[..],
            b"*0\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"*1\r\n:1\r\n",
        ] {
            assert_eq!(parse(wrong), Err(()), "{wrong:?}");
        }
        assert_eq!(parse(b"*1\r\n$1\r\nabc"), Err(()));
    }

    #[test]
    fn breakpoints_and_lines_are_listed() {
        let (debugger, _wire) = Debugger::new(true);
        debugger.show_source(b"local a = 1\nreturn a\n\n");
        debugger.line.set(1);
        let words = |line: &str| -> Vec<Vec<u8>> {
            line.split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        debugger.breakpoint_command(&words("b 2 9 x -1"));
        let said = String::from_utf8(debugger.take_log()).unwrap();
        assert_eq!(
            said,
            "*5\r\n+-> 1   local a = 1\r\n+  #2   return a\r\n+Wrong line number.\r\n\
             +Invalid argument:'x'\r\n+No breakpoint in the specified line.\r\n"
        );
        debugger.breakpoint_command(&words("b -2"));
        debugger.breakpoint_command(&words("b"));
        debugger.max_shown_command(&words("m 5"));
        let said = String::from_utf8(debugger.end()).unwrap();
        assert_eq!(
            said,
            "*4\r\n+Breakpoint removed.\r\n+No breakpoints set. Use 'b <line>' to add one.\r\n\
             +<value> replies are truncated at 60 bytes.\r\n+<endsession>\r\n"
        );
    }
}
