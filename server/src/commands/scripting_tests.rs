//! EVAL as clients see it: exact replies, what stays of a failed script, the
//! sandbox, the libraries.

use cairn_protocol::resp::Version;

use super::super::testing::Bench;
use crate::txn::EventClass;

fn eval(bench: &mut Bench, script: &str) -> String {
    eval_with(bench, script, &["0"])
}

fn eval_with(bench: &mut Bench, script: &str, rest: &[&str]) -> String {
    let mut args = vec!["EVAL", script];
    args.extend(rest);
    let reply = bench.run_args(&args);
    String::from_utf8_lossy(&reply).into_owned()
}

fn sha1(script: &str) -> String {
    let hex = crate::scripting::sha1::hex(script.as_bytes());
    String::from_utf8(hex.to_vec()).unwrap()
}

/// The error of a script as Redis words it.
fn error_at(script: &str, text: &str) -> String {
    let sha1 = sha1(script);
    format!("-{text} script: {sha1}, on @user_script:1.\r\n")
}

#[test]
fn values_become_replies() {
    let bench = &mut Bench::new();
    let cases = [
        ("return 100.9", ":100\r\n"),
        ("return 'hello'", "$5\r\nhello\r\n"),
        ("return true", ":1\r\n"),
        ("return false", "$-1\r\n"),
        ("return nil", "$-1\r\n"),
        ("return {ok='fine'}", "+fine\r\n"),
        ("return {err='ERR bad'}", "-ERR bad\r\n"),
        (
            "return {1,2,{'a'},nil,3}",
            "*3\r\n:1\r\n:2\r\n*1\r\n$1\r\na\r\n",
        ),
        ("return {double=3.5}", "$3\r\n3.5\r\n"),
        ("return {map={a=1}}", "*2\r\n$1\r\na\r\n:1\r\n"),
        ("return {set={a=true}}", "*1\r\n$1\r\na\r\n"),
        ("return {big_number='12\\r\\n3'}", "$5\r\n12  3\r\n"),
        ("return 0/0", ":-9223372036854775808\r\n"),
        ("return {}", "*0\r\n"),
        ("return redis.status_reply('X')", "+X\r\n"),
        ("return redis.error_reply('MY code')", "-MY code\r\n"),
        ("return redis.error_reply('')", "-ERR \r\n"),
        ("return function() end", "$-1\r\n"),
    ];
    for (script, reply) in cases {
        assert_eq!(eval(bench, script), reply, "{script}");
    }
}

#[test]
fn values_become_replies_of_resp3() {
    let bench = &mut Bench::new();
    bench.version = Version::V3;
    let cases = [
        ("return {double=3.5}", ",3.5\r\n"),
        ("return {map={a={1}}}", "%1\r\n$1\r\na\r\n*1\r\n:1\r\n"),
        ("return {set={a=true}}", "~1\r\n$1\r\na\r\n"),
        ("return false", "_\r\n"),
        ("redis.setresp(3) return false", "#f\r\n"),
        (
            "return {verbatim_string={format='txt', string='hi'}}",
            "=6\r\ntxt:hi\r\n",
        ),
    ];
    for (script, reply) in cases {
        assert_eq!(eval(bench, script), reply, "{script}");
    }
}

#[test]
fn a_table_that_contains_itself_ends_at_the_limit_of_the_stack() {
    let bench = &mut Bench::new();
    let reply = eval(bench, "local a = {}; local b = {a}; a[1] = b; return a");
    assert!(reply.starts_with("*1\r\n*1\r\n"));
    assert!(reply.ends_with("-ERR reached lua stack limit\r\n"));
}

#[test]
fn keys_and_arguments_are_tables() {
    let bench = &mut Bench::new();
    let script = "return {KEYS[1], KEYS[2], ARGV[1], #ARGV}";
    assert_eq!(
        eval_with(bench, script, &["2", "a", "b", "c", "d"]),
        "*4\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n:2\r\n"
    );
    let wrong = |bench: &mut Bench, n: &str| eval_with(bench, "return 1", &[n, "a"]);
    assert_eq!(
        wrong(bench, "2"),
        "-ERR Number of keys can't be greater than number of args\r\n"
    );
    assert_eq!(
        wrong(bench, "-1"),
        "-ERR Number of keys can't be negative\r\n"
    );
    assert_eq!(
        wrong(bench, "x"),
        "-ERR value is not an integer or out of range\r\n"
    );
}

#[test]
fn a_script_changes_data_and_announces_it() {
    let bench = &mut Bench::new();
    let reply = eval(
        bench,
        "redis.call('SET', 'a', 1) return redis.call('INCR', 'a')",
    );
    assert_eq!(reply, ":2\r\n");
    assert_eq!(bench.event_names(), ["new", "set", "incrby"]);
    assert_eq!(bench.events[1].0, EventClass::String);
    assert_eq!(bench.run("GET a"), "$1\r\n2\r\n");
}

#[test]
fn what_a_failed_script_has_done_stays() {
    let bench = &mut Bench::new();
    let script = "redis.call('SET', 'a', 'x') redis.call('INCR', 'a')";
    let text = "ERR value is not an integer or out of range";
    assert_eq!(eval(bench, script), error_at(script, text));
    assert_eq!(bench.run("GET a"), "$1\r\nx\r\n");
}

#[test]
fn pcall_gives_the_error_and_goes_on() {
    let bench = &mut Bench::new();
    let script = "redis.call('SET', 'a', 'x') local e = redis.pcall('INCR', 'a') \
                  return {type(e), e.err}";
    assert_eq!(
        eval(bench, script),
        "*2\r\n$5\r\ntable\r\n$43\r\nERR value is not an integer or out of range\r\n"
    );
    let script = "local ok, e = pcall(redis.call, 'INCR', 'a') return {tostring(ok), e}";
    assert_eq!(
        eval(bench, script),
        "*2\r\n$5\r\nfalse\r\n$43\r\nERR value is not an integer or out of range\r\n"
    );
}

#[test]
fn commands_are_checked_as_redis_checks_them() {
    let bench = &mut Bench::new();
    let cases = [
        (
            "redis.call('NOPE')",
            "Unknown Redis command called from script",
        ),
        (
            "redis.call('GET')",
            "Wrong number of args calling Redis command from script",
        ),
        (
            "redis.call()",
            "Please specify at least one argument for this redis lib call",
        ),
        (
            "redis.call('GET', {})",
            "Lua redis lib command arguments must be strings or integers",
        ),
        (
            "redis.call('CONFIG', 'GET', 'x')",
            "This Redis command is not allowed from script",
        ),
        ("redis.setresp(4)", "RESP version must be 2 or 3."),
        ("redis.sha1hex()", "wrong number of arguments"),
        (
            "redis.log(1)",
            "redis.log() requires two arguments or more.",
        ),
        (
            "redis.set_repl()",
            "redis.set_repl() requires two arguments.",
        ),
        (
            "redis.set_repl(99)",
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ),
    ];
    for (script, text) in cases {
        let line = format!("ERR {text}");
        assert_eq!(eval(bench, script), error_at(script, &line), "{script}");
    }
}

#[test]
fn replicas_are_not_told_what_a_script_keeps_from_them() {
    let bench = &mut Bench::new();
    bench.context.recorded = true;
    let script = "redis.call('SET', 'a', 1)
                  redis.set_repl(redis.REPL_NONE)
                  redis.call('SET', 'b', 2)
                  redis.set_repl(redis.REPL_REPLICA)
                  redis.call('SET', 'c', 3)
                  redis.set_repl(redis.REPL_AOF)
                  redis.call('SET', 'd', 4)
                  redis.set_repl(redis.REPL_ALL)
                  redis.call('SET', 'e', 5)";
    assert_eq!(eval(bench, script), "$-1\r\n");
    let told = String::from_utf8(bench.told.clone()).unwrap();
    let words = told.split("\r\n").filter(|w| !w.starts_with(['$', '*']));
    let words = words.collect::<Vec<_>>().join(" ");
    assert_eq!(words.trim(), "SET a 1 SET c 3 SET e 5");
    assert_eq!(bench.run("EXISTS a b c d e"), ":5\r\n");
}

#[test]
fn a_script_that_only_reads_writes_nothing() {
    let bench = &mut Bench::new();
    let script = "return redis.call('SET', 'a', 1)";
    let text = "ERR Write commands are not allowed from read-only scripts.";
    let reply = bench.run_args(&["EVAL_RO", script, "0"]);
    assert_eq!(String::from_utf8(reply).unwrap(), error_at(script, text));
    let script = "#!lua flags=no-writes\nreturn redis.call('GET', 'a')";
    assert_eq!(eval(bench, script), "$-1\r\n");
    let script = "#!lua\nreturn 1";
    let reply = bench.run_args(&["EVAL_RO", script, "0"]);
    assert_eq!(
        String::from_utf8(reply).unwrap(),
        "-ERR Can not execute a script with write flag using *_ro command.\r\n"
    );
}

#[test]
fn scripts_are_known_by_their_sha1() {
    let bench = &mut Bench::new();
    let script = "return 'known by its sha1'";
    let sha1 = sha1(script);
    let missing = "-NOSCRIPT No matching script. Please use EVAL.\r\n";
    assert_eq!(bench.run(&format!("EVALSHA {sha1} 0")), missing);
    assert_eq!(bench.run("EVALSHA short 0"), missing);
    eval(bench, script);
    let upper = sha1.to_uppercase();
    assert_eq!(
        bench.run(&format!("EVALSHA {upper} 0")),
        "$17\r\nknown by its sha1\r\n"
    );
}

#[test]
fn select_is_the_scripts_own() {
    let bench = &mut Bench::new();
    eval(
        bench,
        "redis.call('SELECT', 3) redis.call('SET', 'a', 'in 3')",
    );
    assert_eq!(bench.run("GET a"), "$-1\r\n");
    bench.context.db = 3;
    assert_eq!(bench.run("GET a"), "$4\r\nin 3\r\n");
}

#[test]
fn cold_data_undoes_the_whole_script_whatever_it_catches() {
    let bench = &mut Bench::new();
    bench.run("SET cold 1");
    bench.store.flush().unwrap();
    bench.store.cache.clear();
    bench.context.disk = false;
    let scripts = [
        "redis.call('SET', 'a', 1) return redis.call('GET', 'cold')",
        "redis.call('SET', 'a', 1) redis.pcall('GET', 'cold') return 1",
        "redis.call('SET', 'a', 1) pcall(redis.call, 'GET', 'cold') return 1",
        "redis.call('SET', 'a', 1) xpcall(function() redis.call('GET', 'cold') end, print_ or \
         function() end) return 1",
        "redis.call('SET', 'a', 1) local c = coroutine.create(function() \
         redis.call('GET', 'cold') end) coroutine.resume(c) return 1",
    ];
    for script in scripts {
        let script = script.replace("print_ or ", "");
        bench.store.cache.clear();
        let reply = eval(bench, &script);
        // The row may be in a block that is cached by now: then it is an answer.
        let cold = "-ERR the data could not be fetched from disk\r\n";
        assert!(
            reply == cold || !reply.starts_with('-'),
            "{script}: {reply}"
        );
    }
}

#[test]
fn globals_are_protected() {
    let bench = &mut Bench::new();
    let read_only = "ERR user_script:1: Attempt to modify a readonly table";
    let scripts = [
        "a = 1",
        "redis = 1",
        "_G = {}",
        "redis.call = 1",
        "cjson.encode = 1",
        "getmetatable(_G).__index = {}",
        "getmetatable('').__index = 1",
    ];
    for script in scripts {
        assert_eq!(eval(bench, script), error_at(script, read_only), "{script}");
    }
    let scripts = [
        "setmetatable(_G, {})",
        "rawset(_G, 'a', 1)",
        "rawset(string, 'format', 1)",
        "table.insert(math, 1)",
    ];
    for script in scripts {
        let read_only = "ERR Attempt to modify a readonly table";
        assert_eq!(eval(bench, script), error_at(script, read_only), "{script}");
    }
    for name in [
        "print", "dofile", "loadfile", "os", "io", "require", "debug", "setfenv",
    ] {
        let script = format!("return {name}.x");
        let text = format!(
            "ERR user_script:1: Script attempted to access nonexistent global variable '{name}'"
        );
        assert_eq!(eval(bench, &script), error_at(&script, &text));
    }
}

#[test]
fn protected_tables_can_be_read() {
    let bench = &mut Bench::new();
    let cases = [
        ("return _G", "*0\r\n"),
        ("return type(_G.redis.call)", "$8\r\nfunction\r\n"),
        ("return ('x'):rep(3)", "$3\r\nxxx\r\n"),
        (
            "local n = 0 for k, v in pairs(bit) do n = n + 1 end return n",
            ":12\r\n",
        ),
        ("return rawget(bit, 'nope') == nil", ":1\r\n"),
        ("return type(rawget(math, 'floor'))", "$8\r\nfunction\r\n"),
        ("return type(next(string))", "$6\r\nstring\r\n"),
        ("return getmetatable(math) == nil", ":1\r\n"),
        ("return getmetatable('').__index == string", ":1\r\n"),
    ];
    for (script, reply) in cases {
        assert_eq!(eval(bench, script), reply, "{script}");
    }
}

#[test]
fn unpack_counts_beyond_no_bound() {
    let bench = &mut Bench::new();
    for (first, last) in [
        ("-2", "2147483647"),
        ("0", "2147483647"),
        ("-2147483648", "-2"),
        ("1", "100000"),
    ] {
        let script = format!("return {{unpack({{1,2,3}}, {first}, {last})}}");
        let text = "ERR user_script:1: too many results to unpack";
        assert_eq!(eval(bench, &script), error_at(&script, text), "{script}");
    }
    assert_eq!(
        eval(bench, "return {unpack({1,2,3})}"),
        "*3\r\n:1\r\n:2\r\n:3\r\n"
    );
    assert_eq!(
        eval(bench, "return {unpack({1,2,3}, 2)}"),
        "*2\r\n:2\r\n:3\r\n"
    );
    assert_eq!(eval(bench, "return {unpack({1,2,3}, -1, -2)}"), "*0\r\n");
    assert_eq!(
        eval(bench, "return select('#', unpack({1,2,3}, -1, 5))"),
        ":7\r\n"
    );
    let script = "return unpack(nil)";
    let text = "ERR user_script:1: bad argument #1 to 'unpack' (table expected, got nil)";
    assert_eq!(eval(bench, script), error_at(script, text));
}

#[test]
fn compiled_code_is_not_loaded() {
    let bench = &mut Bench::new();
    let script = "return loadstring(string.dump(function() return 1 end))()";
    let text = "ERR user_script:1: attempt to call a nil value";
    assert_eq!(eval(bench, script), error_at(script, text));
    let script = "local d = string.dump(function() return 1 end) local done = false \
                  return load(function() if not done then done = true return d end end) == nil";
    assert_eq!(eval(bench, script), ":1\r\n");
    let reply = eval(bench, "\x1bLua");
    assert!(reply.starts_with("-ERR Error compiling script (new function): "));
    assert_eq!(eval(bench, "return loadstring('return 7')()"), ":7\r\n");
}

#[test]
fn memory_of_a_script_is_bounded() {
    let bench = &mut Bench::new();
    let script = "local s = string.rep('x', 1048576) while true do s = s .. s end";
    let sha1 = sha1(script);
    assert_eq!(
        eval(bench, script),
        format!("-ERR Error running script {sha1}, not enough memory\r\n")
    );
    assert_eq!(eval(bench, "return 1"), ":1\r\n");
}

#[test]
fn json_is_written_and_read() {
    let bench = &mut Bench::new();
    let cases = [
        (
            "return cjson.encode({1, 2.5, 'a\\n/', true, cjson.null})",
            r#"[1,2.5,"a\n\/",true,null]"#,
        ),
        ("return cjson.encode({})", "{}"),
        ("return cjson.encode({a={b={}}})", r#"{"a":{"b":{}}}"#),
        ("return cjson.encode(1e20)", "1e+20"),
        ("return cjson.encode(0.1 + 0.2)", "0.3"),
        ("return cjson.encode({[1]=1, [3]=3})", "[1,null,3]"),
        ("return cjson.encode('\\127\\1')", r#""\u007f\u0001""#),
        (
            "return cjson.encode(cjson.decode('[1,[],{\"a\":null}]'))",
            r#"[1,{},{"a":null}]"#,
        ),
        (
            "return cjson.decode('\"\\\\u00e9\\\\ud83d\\\\ude00\"')",
            "é😀",
        ),
        (
            "return tostring(cjson.decode('null') == cjson.null)",
            "true",
        ),
    ];
    for (script, text) in cases {
        let reply = format!("${}\r\n{text}\r\n", text.len());
        assert_eq!(eval(bench, script), reply, "{script}");
    }
    let errors = [
        (
            "return cjson.decode('[1,')",
            "Expected value but found T_END at character 4",
        ),
        (
            "return cjson.decode('{1:2}')",
            "Expected object key string but found T_NUMBER at character 2",
        ),
        (
            "return cjson.decode('[1 2]')",
            "Expected comma or array end but found T_NUMBER at character 4",
        ),
        (
            "return cjson.encode({[100]=1})",
            "Cannot serialise table: excessively sparse array",
        ),
        (
            "return cjson.encode(0/0)",
            "Cannot serialise number: must not be NaN or Inf",
        ),
        (
            "return cjson.encode(function() end)",
            "Cannot serialise function: type not supported",
        ),
        (
            "return cjson.encode({[true]=1})",
            "Cannot serialise boolean: table key must be a number or string",
        ),
        (
            "return cjson.encode()",
            "bad argument #1 to 'encode' (expected 1 argument)",
        ),
    ];
    for (script, text) in errors {
        let text = format!("ERR user_script:1: {text}");
        assert_eq!(eval(bench, script), error_at(script, &text), "{script}");
    }
}

#[test]
fn json_is_bounded_in_depth() {
    let bench = &mut Bench::new();
    let script = "local t = {} for i = 1, 1001 do t = {t} end return cjson.encode(t)";
    let text = "ERR user_script:1: Cannot serialise, excessive nesting (1001)";
    assert_eq!(eval(bench, script), error_at(script, text));
    let script = "return cjson.decode(string.rep('[', 100000))";
    let text = "ERR user_script:1: Found too many nested data structures (1001) at character 1001";
    assert_eq!(eval(bench, script), error_at(script, text));
}

#[test]
fn message_pack_is_written_and_read() {
    let bench = &mut Bench::new();
    let hex = "local h = '' for i = 1, #p do h = h .. string.format('%02x', p:byte(i)) end \
               return h";
    let cases = [
        ("0.1", "cb3fb999999999999a"),
        ("0.5", "ca3f000000"),
        ("-1099511627776", "d3ffffff0000000000"),
        ("-1", "ff"),
        ("200", "ccc8"),
        ("70000", "ce00011170"),
        ("{1,2}", "920102"),
        ("{a=1}", "81a16101"),
        ("{}", "90"),
        ("nil", "c0"),
        ("true, 'x'", "c3a178"),
    ];
    for (value, packed) in cases {
        let script = format!("local p = cmsgpack.pack({value}) {hex}");
        let reply = format!("${}\r\n{packed}\r\n", packed.len());
        assert_eq!(eval(bench, &script), reply, "{value}");
    }
    let script = "return {cmsgpack.unpack(cmsgpack.pack(1, 'a', {2}))}";
    assert_eq!(eval(bench, script), "*3\r\n:1\r\n$1\r\na\r\n*1\r\n:2\r\n");
    let script = "local p = cmsgpack.pack(1, 2) return {cmsgpack.unpack_one(p, 1)}";
    assert_eq!(eval(bench, script), "*2\r\n:-1\r\n:2\r\n");
    let errors = [
        (
            "return cmsgpack.unpack('\\146\\1')",
            "Missing bytes in input.",
        ),
        (
            "return cmsgpack.unpack('\\193')",
            "Bad data format in input.",
        ),
        (
            "return cmsgpack.unpack('\\221\\255\\255\\255\\255')",
            "Missing bytes in input.",
        ),
    ];
    for (script, text) in errors {
        let text = format!("ERR user_script:1: {text}");
        assert_eq!(eval(bench, script), error_at(script, &text), "{script}");
    }
}

#[test]
fn structures_are_packed_and_unpacked() {
    let bench = &mut Bench::new();
    let cases = [
        (
            "return struct.pack('>I2i4s', 258, -2, 'ab')",
            "$9\r\n\u{1}\u{2}",
        ),
        ("return struct.size('!8i1d')", ":16\r\n"),
        (
            "return {struct.unpack('>I2B', '\\1\\2\\3')}",
            "*3\r\n:258\r\n:3\r\n:4\r\n",
        ),
        (
            "return {struct.unpack('bc0', '\\2abc')}",
            "*2\r\n$2\r\nab\r\n:4\r\n",
        ),
    ];
    for (script, reply) in cases {
        assert!(eval(bench, script).starts_with(reply), "{script}");
    }
    let errors = [
        (
            "return struct.unpack('i4', 'ab')",
            "bad argument #2 to 'unpack' (data string too short)",
        ),
        (
            "return struct.pack('i99', 1)",
            "integral size 99 is larger than limit of 32",
        ),
        (
            "return struct.pack('q', 1)",
            "bad argument #1 to 'pack' (invalid format option 'q')",
        ),
        (
            "return struct.size('s')",
            "bad argument #1 to 'size' (option 's' has no fixed size)",
        ),
    ];
    for (script, text) in errors {
        let text = format!("ERR user_script:1: {text}");
        assert_eq!(eval(bench, script), error_at(script, &text), "{script}");
    }
}

#[test]
fn bits_are_those_of_32_bit_integers() {
    let bench = &mut Bench::new();
    let cases = [
        ("return bit.tobit(4294967295)", ":-1\r\n"),
        ("return bit.band(255, 15, 6)", ":6\r\n"),
        ("return bit.rshift(-1, 28)", ":15\r\n"),
        ("return bit.arshift(-16, 2)", ":-4\r\n"),
        ("return bit.rol(1, 33)", ":2\r\n"),
        ("return bit.bswap(1)", ":16777216\r\n"),
        ("return bit.tohex(255, -4)", "$4\r\n00FF\r\n"),
    ];
    for (script, reply) in cases {
        assert_eq!(eval(bench, script), reply, "{script}");
    }
}

#[test]
fn a_script_scans_with_cursors_that_it_made_numbers() {
    let bench = &mut Bench::new();
    for i in 0..100 {
        bench.run(&format!("SET k{i} v"));
    }
    let script = "local cursor, seen = 0, 0 \
                  repeat \
                  local page = redis.call('SCAN', cursor) \
                  cursor, seen = tonumber(page[1]), seen + #page[2] \
                  until cursor == 0 \
                  return seen";
    assert_eq!(eval(bench, script), ":100\r\n");
}
