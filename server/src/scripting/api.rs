//! The `redis` table of scripts.

use std::borrow::Cow;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use super::host::{Abort, Host, arguments, push_abort};
use super::lua::{
    Raise, State, bytes, c_text, check_integer, ffi, format_g, native, push, push_error_reply,
    set_function, set_number, set_raw, set_text,
};
use super::reply::push_reply;
use super::run::Refusal;
use super::{debugger, library, sha1};
use crate::commands::connection::REDIS_VERSION;

// What `redis.set_repl` takes, bit by bit.
const REPL_AOF: i32 = 1;
const REPL_REPLICA: i32 = 2;
const REPL_ALL: i32 = REPL_AOF | REPL_REPLICA;

/// Pushes the table that scripts see; `eval` brings what only scripts of EVAL have.
pub(super) unsafe fn open(state: State, eval: bool) {
    unsafe {
        ffi::lua_createtable(state, 0, 28);
        set_function(state, -1, c"call", native!(call));
        set_function(state, -1, c"pcall", native!(pcall));
        set_log(state);
        set_version(state);
        set_function(state, -1, c"setresp", native!(setresp));
        set_function(state, -1, c"sha1hex", native!(sha1hex));
        set_function(state, -1, c"error_reply", native!(error_reply));
        set_function(state, -1, c"status_reply", native!(status_reply));
        set_function(state, -1, c"set_repl", native!(set_repl));
        let targets = [
            (c"REPL_NONE", 0),
            (c"REPL_AOF", REPL_AOF),
            (c"REPL_SLAVE", REPL_REPLICA),
            (c"REPL_REPLICA", REPL_REPLICA),
            (c"REPL_ALL", REPL_ALL),
        ];
        for (name, value) in targets {
            set_number(state, -1, name, f64::from(value));
        }
        set_function(state, -1, c"acl_check_cmd", native!(acl_check_cmd));
        if eval {
            set_function(state, -1, c"breakpoint", native!(breakpoint));
            set_function(state, -1, c"debug", native!(debug));
            set_function(
                state,
                -1,
                c"replicate_commands",
                native!(replicate_commands),
            );
        }
    }
}

/// Pushes the table that the code of a library sees while it is loaded.
pub(super) unsafe fn open_loading(state: State) {
    unsafe {
        ffi::lua_createtable(state, 0, 8);
        let register = native!(library::register_function);
        set_function(state, -1, c"register_function", register);
        set_log(state);
        set_version(state);
    }
}

unsafe fn set_log(state: State) {
    unsafe {
        set_function(state, -1, c"log", native!(log));
        let levels = [
            (c"LOG_DEBUG", 0),
            (c"LOG_VERBOSE", 1),
            (c"LOG_NOTICE", 2),
            (c"LOG_WARNING", 3),
        ];
        for (name, level) in levels {
            set_number(state, -1, name, f64::from(level));
        }
    }
}

unsafe fn set_version(state: State) {
    unsafe {
        let number = REDIS_VERSION
            .split('.')
            .filter_map(|part| part.parse::<u32>().ok())
            .fold(0, |all, part| (all << 8) | part);
        set_number(state, -1, c"REDIS_VERSION_NUM", f64::from(number));
        set_text(state, -1, c"REDIS_VERSION", REDIS_VERSION.as_bytes());
    }
}

/// Pushes the function `redis.call`.
pub(super) unsafe fn push_call(state: State) {
    unsafe { ffi::lua_pushcclosure(state, native!(call), 0) }
}

/// redis.call(command, ...)
unsafe fn call(state: State) -> Result<c_int, Raise> {
    unsafe { run_command(state, true) }
}

/// redis.pcall(command, ...)
unsafe fn pcall(state: State) -> Result<c_int, Raise> {
    unsafe { run_command(state, false) }
}

unsafe fn run_command(state: State, raise: bool) -> Result<c_int, Raise> {
    unsafe {
        let Some(run) = Host::run_of(state) else {
            return Err(Raise::reply(
                "redis.call/pcall can only be called inside a script invocation",
            ));
        };
        if let Some(abort) = Host::of(state).abort.get() {
            return end_script(state, abort);
        }
        let debugger = Host::of(state).debugger();
        if let Err(text) = check_arguments(state) {
            if let Some(debugger) = debugger {
                debugger::show_error(debugger, text.as_bytes());
            }
            return give_error(state, text.as_bytes(), raise);
        }
        run.request((1..=arguments(state)).map(|at| argument(state, at)));
        ffi::lua_settop(state, 0);
        if let Some(debugger) = debugger {
            debugger::show_command(debugger, &run.words());
        }
        match run.execute() {
            Ok(()) => {}
            Err(Refusal::Abort) => return end_script(state, Abort::Undo),
            Err(Refusal::Text(text)) => {
                if let Some(debugger) = debugger {
                    debugger::show_error(debugger, text.as_bytes());
                }
                push_error_reply(state, text.as_bytes());
                mark_counted(state);
                return finish(raise);
            }
        }
        let reply = run.reply();
        if let Some(debugger) = debugger {
            debugger::show_reply(debugger, &reply);
        }
        if push_reply(state, &reply).is_err() {
            ffi::lua_settop(state, 0);
            return give_error(state, b"the reply is too large for a script", raise);
        }
        if reply.first() == Some(&b'-') {
            mark_counted(state);
            return finish(raise);
        }
        Ok(1)
    }
}

/// The command has counted its error in the statistics: whoever shows it does not.
unsafe fn mark_counted(state: State) {
    unsafe {
        ffi::lua_pushboolean(state, 1);
        set_raw(state, -2, c"ignore_error_stats_update");
    }
}

fn finish(raise: bool) -> Result<c_int, Raise> {
    match raise {
        true => Err(Raise::Top),
        false => Ok(1),
    }
}

unsafe fn give_error(state: State, text: &[u8], raise: bool) -> Result<c_int, Raise> {
    unsafe {
        ffi::lua_settop(state, 0);
        push_error_reply(state, text);
        finish(raise)
    }
}

unsafe fn end_script(state: State, abort: Abort) -> Result<c_int, Raise> {
    unsafe {
        Host::of(state).abort.set(Some(abort));
        ffi::lua_settop(state, 0);
        push_abort(state, abort);
        Err(Raise::Top)
    }
}

unsafe fn check_arguments(state: State) -> Result<(), &'static str> {
    unsafe {
        let given = arguments(state);
        if given == 0 {
            return Err("Please specify at least one argument for this redis lib call");
        }
        let all = (1..=given).all(|at| ffi::lua_isstring(state, at) != 0);
        match all {
            true => Ok(()),
            false => Err("Lua redis lib command arguments must be strings or integers"),
        }
    }
}

/// An argument of a command: Lua itself would write fewer digits of a number.
unsafe fn argument<'a>(state: State, at: c_int) -> Cow<'a, [u8]> {
    unsafe {
        if ffi::lua_type(state, at) != ffi::LUA_TNUMBER {
            return Cow::Borrowed(bytes(state, at).unwrap_or_default());
        }
        let number = ffi::lua_tonumber(state, at);
        let mut text = Vec::new();
        format_g(number, 17, &mut text);
        Cow::Owned(text)
    }
}

/// redis.setresp(version)
unsafe fn setresp(state: State) -> Result<c_int, Raise> {
    use cairn_protocol::resp::Version;
    unsafe {
        let Some(run) = Host::run_of(state) else {
            let text = "redis.setresp can only be called inside a script invocation";
            return Err(Raise::reply(text));
        };
        if arguments(state) != 1 {
            return Err(Raise::reply("redis.setresp() requires one argument."));
        }
        run.version = match ffi::lua_tonumber(state, 1) as i64 {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Err(Raise::reply("RESP version must be 2 or 3.")),
        };
        Ok(0)
    }
}

/// redis.sha1hex(text)
unsafe fn sha1hex(state: State) -> Result<c_int, Raise> {
    unsafe {
        if arguments(state) != 1 {
            return Err(Raise::reply("wrong number of arguments"));
        }
        let digest = sha1::hex(bytes(state, 1).unwrap_or_default());
        push(state, &digest);
        Ok(1)
    }
}

/// Whether the one argument is a string; if not, the error is what is returned.
unsafe fn one_string(state: State) -> bool {
    unsafe {
        let right = arguments(state) == 1 && ffi::lua_type(state, 1) == ffi::LUA_TSTRING;
        if !right {
            push_error_reply(state, b"wrong number or type of arguments");
        }
        right
    }
}

/// redis.error_reply(line)
unsafe fn error_reply(state: State) -> Result<c_int, Raise> {
    unsafe {
        if one_string(state) {
            let line = c_text(bytes(state, 1).unwrap_or_default());
            match line.first() {
                Some(b'-') => push_error_reply(state, line),
                _ => push_error_reply(state, &[b"-", line].concat()),
            }
        }
        Ok(1)
    }
}

/// redis.status_reply(line)
unsafe fn status_reply(state: State) -> Result<c_int, Raise> {
    unsafe {
        if one_string(state) {
            ffi::lua_createtable(state, 0, 1);
            ffi::lua_pushvalue(state, 1);
            set_raw(state, -2, c"ok");
        }
        Ok(1)
    }
}

/// redis.set_repl(targets)
///
/// Replicas that speak Redis's protocol are not told what is not for them. The log
/// of the group has it all the same: it is what is stored here.
unsafe fn set_repl(state: State) -> Result<c_int, Raise> {
    unsafe {
        let Some(run) = Host::run_of(state) else {
            let text = "redis.set_repl can only be called inside a script invocation";
            return Err(Raise::reply(text));
        };
        if arguments(state) != 1 {
            return Err(Raise::reply("redis.set_repl() requires two arguments."));
        }
        let targets = ffi::lua_tonumber(state, 1) as i32;
        if targets & !REPL_ALL != 0 {
            return Err(Raise::reply(
                "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
            ));
        }
        run.mute(targets & REPL_REPLICA == 0);
        Ok(0)
    }
}

/// redis.acl_check_cmd(command, ...)
unsafe fn acl_check_cmd(state: State) -> Result<c_int, Raise> {
    unsafe {
        let Some(run) = Host::run_of(state) else {
            let text = "redis.acl_check_cmd can only be called inside a script invocation";
            return Err(Raise::reply(text));
        };
        if let Err(text) = check_arguments(state) {
            return Err(Raise::reply(text));
        }
        let mut requests = cairn_protocol::resp::Requests::default();
        requests.push_owned((1..=arguments(state)).map(|at| argument(state, at)));
        let args = requests.get(0);
        let known = cairn_protocol::command::resolve(&args);
        let cairn_protocol::command::Resolved::Command(spec) = known else {
            let text = "Invalid command passed to redis.acl_check_cmd()";
            return Err(Raise::reply(text));
        };
        ffi::lua_pushboolean(state, run.may(spec, &args).into());
        Ok(1)
    }
}

/// redis.log(level, text, ...)
unsafe fn log(state: State) -> Result<c_int, Raise> {
    unsafe {
        let given = arguments(state);
        if given < 2 {
            return Err(Raise::reply("redis.log() requires two arguments or more."));
        }
        if ffi::lua_isnumber(state, 1) == 0 {
            return Err(Raise::reply("First argument must be a number (log level)."));
        }
        let level = ffi::lua_tonumber(state, 1) as i64;
        let words: Vec<Cow<'_, str>> = (2..=given)
            .filter_map(|at| bytes(state, at))
            .map(String::from_utf8_lossy)
            .collect();
        let text = words.join(" ");
        match level {
            0 | 1 => tracing::debug!("{text}"),
            2 => tracing::info!("{text}"),
            3 => tracing::warn!("{text}"),
            _ => return Err(Raise::reply("Invalid debug level.")),
        }
        Ok(0)
    }
}

/// redis.breakpoint(): whether there is a debugger to stop in.
unsafe fn breakpoint(state: State) -> Result<c_int, Raise> {
    unsafe {
        let debugger = Host::of(state).debugger();
        if let Some(debugger) = debugger {
            debugger::breakpoint(debugger);
        }
        ffi::lua_pushboolean(state, debugger.is_some().into());
        Ok(1)
    }
}

/// redis.debug(...): for a debugger, if there is one.
unsafe fn debug(state: State) -> Result<c_int, Raise> {
    unsafe {
        if let Some(debugger) = Host::of(state).debugger() {
            debugger::debug(state, debugger);
        }
        Ok(0)
    }
}

/// redis.replicate_commands(): always so.
unsafe fn replicate_commands(state: State) -> Result<c_int, Raise> {
    unsafe { ffi::lua_pushboolean(state, 1) };
    Ok(1)
}

// math.random, the same on every machine for the same seed.

/// The 48 bits of `lrand48` (POSIX), as a fresh process of Redis has them.
static RANDOM: AtomicU64 = AtomicU64::new(0x1234_abcd_330e);

fn next_random() -> f64 {
    let step = |x: u64| x.wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & 0xffff_ffff_ffff;
    let before = RANDOM.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(step(x)));
    let after = before.map_or(0, step);
    let max = f64::from(i32::MAX);
    let drawn = (after >> 17) as f64;
    if drawn == max { 0.0 } else { drawn / max }
}

/// Puts our `random` and `randomseed` into the table `math` on top.
pub(super) unsafe fn replace_random(state: State) {
    unsafe {
        set_function(state, -1, c"random", native!(random));
        set_function(state, -1, c"randomseed", native!(randomseed));
    }
}

/// math.random([low,] high)
unsafe fn random(state: State) -> Result<c_int, Raise> {
    unsafe {
        if Host::run_of(state).is_none() {
            let text = "math.random can only be called inside a script invocation";
            return Err(Raise::error(text));
        }
        let r = next_random();
        let drawn = match arguments(state) {
            0 => r,
            1 => {
                let high = check_integer(state, 1)? as i32;
                if high < 1 {
                    return Err(Raise::argument(1, "interval is empty"));
                }
                (r * f64::from(high)).floor() + 1.0
            }
            2 => {
                let low = check_integer(state, 1)? as i32;
                let high = check_integer(state, 2)? as i32;
                if low > high {
                    return Err(Raise::argument(2, "interval is empty"));
                }
                let width = high.wrapping_sub(low).wrapping_add(1);
                (r * f64::from(width)).floor() + f64::from(low)
            }
            _ => return Err(Raise::error("wrong number of arguments")),
        };
        ffi::lua_pushnumber(state, drawn);
        Ok(1)
    }
}

/// math.randomseed(seed)
unsafe fn randomseed(state: State) -> Result<c_int, Raise> {
    unsafe {
        if Host::run_of(state).is_none() {
            let text = "math.randomseed can only be called inside a script invocation";
            return Err(Raise::error(text));
        }
        let seed = check_integer(state, 1)? as u32;
        RANDOM.store((u64::from(seed) << 16) | 0x330e, Ordering::Relaxed);
        Ok(0)
    }
}
