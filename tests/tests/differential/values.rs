//! What stands in the places of the templates: keys, values, numbers, bounds.
//!
//! Small pools, so that commands meet each other's keys, fields and members; each pool
//! has its odd ones.

use rand::Rng;
use rand::rngs::StdRng;

pub fn pick<'a, T: ?Sized>(rng: &mut StdRng, choices: &[&'a T]) -> &'a T {
    choices[rng.random_range(0..choices.len())]
}

pub fn one_in(rng: &mut StdRng, times: u32) -> bool {
    rng.random_range(0..times) == 0
}

/// Commands that make one key of each kind and encoding, for DUMP and RESTORE.
pub const SAMPLES: &[&str] = &[
    "SET d:string some-text",
    "SET d:int 12345",
    "RPUSH d:list a b c 4 55555 -6",
    "SADD d:intset 1 2 3 70000",
    "SADD d:set a b c",
    "HSET d:hash f1 v1 f2 2",
    "ZADD d:zset 1 a 2.5 b inf c",
    "XADD d:stream 7-1 f v g w",
    "PFADD d:hll a b c",
];

/// Keys of a family: mostly holding its type. `family` is the first letter.
pub fn key(rng: &mut StdRng, family: u8) -> Vec<u8> {
    match rng.random_range(0..100) {
        0 => vec![],
        1 => b"with space\r\n\0\xff".to_vec(),
        2 => vec![family; 300],
        3..7 => any_key(rng),
        _ => format!("{}{}", char::from(family), rng.random_range(0..6)).into_bytes(),
    }
}

/// A sorted set whose members all have one score, as the commands by lexical range
/// want it: nothing else is written there.
pub fn lexical_key(rng: &mut StdRng) -> Vec<u8> {
    match one_in(rng, 30) {
        true => b"k0".to_vec(),
        false => format!("y{}", rng.random_range(0..4)).into_bytes(),
    }
}

/// A geo set: other scores than GEOADD's lie in one place, and what is equally far is
/// in no order.
pub fn geo_key(rng: &mut StdRng) -> Vec<u8> {
    match one_in(rng, 30) {
        true => b"k0".to_vec(),
        false => format!("g{}", rng.random_range(0..6)).into_bytes(),
    }
}

pub const FAMILIES: &[u8] = b"khlszxbp";

pub fn any_key(rng: &mut StdRng) -> Vec<u8> {
    let family = FAMILIES[rng.random_range(0..FAMILIES.len())];
    match rng.random_range(0..60) {
        0 => vec![],
        1 => b"with space\r\n\0\xff".to_vec(),
        2 => vec![family; 300],
        _ => format!("{}{}", char::from(family), rng.random_range(0..6)).into_bytes(),
    }
}

/// A field of a hash or stream, a member of a set.
pub fn member(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..40) {
        0 => vec![],
        1 => b"bin\0\r\n\xfe".to_vec(),
        2 => vec![b'm'; rng.random_range(62..68)],
        3 => b"007".to_vec(),
        4 => i64::MAX.to_string().into_bytes(),
        5..16 => rng.random_range(-12..30).to_string().into_bytes(),
        16 => rng.random_range(-70_000..70_000).to_string().into_bytes(),
        _ => format!("m{}", rng.random_range(0..15)).into_bytes(),
    }
}

pub fn value(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..24) {
        0 => vec![],
        1 => i64::MAX.to_string().into_bytes(),
        2 => i64::MIN.to_string().into_bytes(),
        3 => b" 12".to_vec(),
        4 => b"007".to_vec(),
        5 => (0..rng.random_range(1..600))
            .map(|_| rng.random())
            .collect(),
        6 => format!("{:.3}", rng.random_range(-1000.0..1000.0)).into_bytes(),
        7 => vec![b'x'; rng.random_range(40..50)],
        8 => vec![b'y'; rng.random_range(62..67)],
        9..15 => rng.random_range(-300..300).to_string().into_bytes(),
        _ => {
            let length = rng.random_range(1..30);
            (0..length)
                .map(|_| b"abcde"[rng.random_range(0..5)])
                .collect()
        }
    }
}

const ODD_INTEGERS: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "abc",
    "1.5",
    "+5",
    "",
    " 1",
    "01",
    "-0",
];

/// An integer that is mostly small and now and then none at all.
pub fn integer(rng: &mut StdRng) -> Vec<u8> {
    match one_in(rng, 12) {
        true => pick(rng, ODD_INTEGERS).as_bytes().to_vec(),
        false => rng.random_range(-50..50).to_string().into_bytes(),
    }
}

/// A position: -8 to 12, or an odd one.
pub fn index(rng: &mut StdRng) -> Vec<u8> {
    match one_in(rng, 15) {
        true => pick(rng, ODD_INTEGERS).as_bytes().to_vec(),
        false => rng.random_range(-8..12).to_string().into_bytes(),
    }
}

/// A count: 0 to 9, sometimes negative or odd.
pub fn count(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..20) {
        0 => pick(rng, ODD_INTEGERS).as_bytes().to_vec(),
        1 => rng.random_range(-5..0).to_string().into_bytes(),
        _ => rng.random_range(0..10).to_string().into_bytes(),
    }
}

/// An offset that stays small, or one that is refused.
pub fn offset(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 => b"-1".to_vec(),
        1 => b"x".to_vec(),
        2 => b"536870912".to_vec(),
        _ => rng.random_range(0..100).to_string().into_bytes(),
    }
}

/// A position in bits, small or refused: a large one costs half a gigabyte.
pub fn bit_offset(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..16) {
        0 => pick(rng, &["-1", "4294967296", "x", "", "1.0"])
            .as_bytes()
            .to_vec(),
        _ => rng.random_range(0..300).to_string().into_bytes(),
    }
}

pub fn float(rng: &mut StdRng) -> Vec<u8> {
    const ODD: &[&str] = &[
        "1e3",
        "-2.5",
        "0.1",
        "3.0e-5",
        "inf",
        "-inf",
        "nan",
        "x",
        "10000000000000000",
        " 1",
        "0x10",
        "+1",
        "-0",
        "infinity",
        "",
        "1.",
        ".5",
        "1e17",
        "123456789.123456789",
    ];
    match rng.random_range(0..8) {
        0 | 1 => pick(rng, ODD).as_bytes().to_vec(),
        2..5 => format!("{:.4}", rng.random_range(-100.0..100.0)).into_bytes(),
        _ => rng.random_range(-100..100).to_string().into_bytes(),
    }
}

pub fn score(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 | 1 => float(rng),
        2 => format!("{:.2}", rng.random_range(-10.0..10.0)).into_bytes(),
        _ => rng.random_range(-8..15).to_string().into_bytes(),
    }
}

/// A bound of ZRANGEBYSCORE.
pub fn score_bound(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 | 1 => pick(rng, &["-inf", "+inf", "inf"]).as_bytes().to_vec(),
        2 => pick(rng, &["(", "(inf", "((1", "nan", "x", "", "(-inf", "[1"])
            .as_bytes()
            .to_vec(),
        3..6 => [b"(".to_vec(), score(rng)].concat(),
        _ => score(rng),
    }
}

/// A bound of ZRANGEBYLEX.
pub fn lex_bound(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0..4 => pick(rng, &["-", "+"]).as_bytes().to_vec(),
        4 => pick(rng, &["", "x", "(", "[", "--", "+a"])
            .as_bytes()
            .to_vec(),
        _ => [pick(rng, &["(", "["]).as_bytes().to_vec(), member(rng)].concat(),
    }
}

/// Seconds that no run lives to see end, or that are past, or no time at all.
pub fn seconds(rng: &mut StdRng) -> Vec<u8> {
    let text = match rng.random_range(0..12) {
        0 => "0".to_owned(),
        1 => "-5".to_owned(),
        2 => "x".to_owned(),
        3 => "9223372036854775807".to_owned(),
        _ => rng.random_range(1_000..100_000).to_string(),
    };
    text.into_bytes()
}

pub fn milliseconds(rng: &mut StdRng) -> Vec<u8> {
    thousands(seconds(rng))
}

/// A time for SET and GETEX: far, or refused. Not past: Redis keeps such a key, and
/// counts it, until something comes across it.
pub fn far_seconds(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..8) {
        0 => b"0".to_vec(),
        1 => b"-1".to_vec(),
        _ => unix_time(rng),
    }
}

pub fn far_milliseconds(rng: &mut StdRng) -> Vec<u8> {
    thousands(far_seconds(rng))
}

/// A time for EXPIREAT, which removes a key at once when it is past.
pub fn unix_seconds(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 => b"1".to_vec(),
        1 => b"-1".to_vec(),
        _ => unix_time(rng),
    }
}

pub fn unix_milliseconds(rng: &mut StdRng) -> Vec<u8> {
    thousands(unix_seconds(rng))
}

fn unix_time(rng: &mut StdRng) -> Vec<u8> {
    let time = 4_000_000_000_u64 + rng.random_range(0..1_000);
    time.to_string().into_bytes()
}

fn thousands(seconds: Vec<u8>) -> Vec<u8> {
    match seconds.first() {
        Some(b'1'..=b'9') if seconds.len() > 2 && seconds.len() < 15 => {
            [seconds, b"123".to_vec()].concat()
        }
        _ => seconds,
    }
}

pub fn pattern(rng: &mut StdRng) -> Vec<u8> {
    let patterns = [
        "*", "k1*", "k?", "k[0-5]", "m*", "m[1-4]", "k[^1]", "\\k1", "nothing", "*0", "k[5-",
        "*1?", "", "[", "m[^", "**", "?*",
    ];
    pick(rng, &patterns).as_bytes().to_vec()
}

pub fn longitude(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..14) {
        0 => pick(rng, &["180", "-180", "180.1", "x", "nan", "inf", ""])
            .as_bytes()
            .to_vec(),
        1..8 => format!("{:.6}", rng.random_range(13.0..16.0)).into_bytes(),
        _ => format!("{:.5}", rng.random_range(-180.0..180.0)).into_bytes(),
    }
}

pub fn latitude(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..14) {
        0 => pick(rng, &["85.05112878", "-85.05112878", "86", "x", "nan", ""])
            .as_bytes()
            .to_vec(),
        1..8 => format!("{:.6}", rng.random_range(37.0..39.0)).into_bytes(),
        _ => format!("{:.5}", rng.random_range(-85.0..85.0)).into_bytes(),
    }
}

pub fn radius(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 => pick(rng, &["0", "-1", "x", "nan", "inf", ""])
            .as_bytes()
            .to_vec(),
        1..5 => rng.random_range(1..20_000).to_string().into_bytes(),
        _ => format!("{:.2}", rng.random_range(0.0..400.0)).into_bytes(),
    }
}

const ODD_IDS: &[&str] = &[
    "0-0", "0", "abc", "1-", "-1", "1-2-3", "", "(1", "+", "-", "$", ">",
];

/// An ID of an entry that is there or could be.
pub fn stream_id(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..16) {
        0 => pick(rng, ODD_IDS).as_bytes().to_vec(),
        1..8 => rng.random_range(0..60).to_string().into_bytes(),
        _ => format!("{}-{}", rng.random_range(0..60), rng.random_range(0..3)).into_bytes(),
    }
}

/// An ID for XADD: increasing often enough.
pub fn new_id(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 => pick(rng, ODD_IDS).as_bytes().to_vec(),
        1..3 => stream_id(rng),
        3..6 => format!("{}-*", rng.random_range(0..60)).into_bytes(),
        _ => format!("{}-{}", rng.random_range(20..60), rng.random_range(0..9)).into_bytes(),
    }
}

/// A bound of XRANGE.
pub fn id_bound(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0..3 => pick(rng, &["-", "+"]).as_bytes().to_vec(),
        3..5 => [b"(".to_vec(), stream_id(rng)].concat(),
        5 => pick(
            rng,
            &[
                "(",
                "(-",
                "(+",
                "( 1",
                "(18446744073709551615-18446744073709551615",
            ],
        )
        .as_bytes()
        .to_vec(),
        _ => stream_id(rng),
    }
}

/// A type of BITFIELD.
pub fn bit_type(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..14) {
        0 => pick(rng, &["u64", "i65", "u0", "i0", "x8", "u", "", "8", "u63x"])
            .as_bytes()
            .to_vec(),
        1 => b"i64".to_vec(),
        2 => b"u63".to_vec(),
        _ => format!("{}{}", pick(rng, &["u", "i"]), rng.random_range(1..17)).into_bytes(),
    }
}

/// An offset of BITFIELD.
pub fn field_offset(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..14) {
        0 => pick(rng, &["-1", "#-1", "x", "#", "", "#x", "4294967296"])
            .as_bytes()
            .to_vec(),
        1..5 => format!("#{}", rng.random_range(0..12)).into_bytes(),
        _ => rng.random_range(0..120).to_string().into_bytes(),
    }
}

/// Any of the above: what a careless client might send.
pub fn odd(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..12) {
        0 => integer(rng),
        1 => float(rng),
        2 => member(rng),
        3 => any_key(rng),
        4 => score_bound(rng),
        5 => lex_bound(rng),
        6 => stream_id(rng),
        7 => vec![],
        8 => pick(
            rng,
            &[
                "WITHSCORES",
                "LIMIT",
                "COUNT",
                "MATCH",
                "GET",
                "STORE",
                "NX",
                "KEYS",
                "-",
                "+",
                "*",
                "LEFT",
                "RIGHT",
                "MAXLEN",
                "=",
                "~",
                "STREAMS",
                "WEIGHTS",
                "AGGREGATE",
                "DESC",
                "ASC",
                "REV",
                "BY",
            ],
        )
        .as_bytes()
        .to_vec(),
        _ => value(rng),
    }
}

pub const SCRIPTS: &[&str] = &[
    "return 1",
    "return KEYS",
    "return ARGV",
    "return {1,2.9,'x',false,true,nil,4}",
    "return {ok='fine'}",
    "return {err='My error'}",
    "return redis.error_reply('ERR bad')",
    "return redis.status_reply('st')",
    "return redis.call('GET',KEYS[1])",
    "return redis.pcall('INCR',KEYS[1])",
    "redis.call('SET',KEYS[1],ARGV[1] or 'd') return redis.call('STRLEN',KEYS[1])",
    "return redis.call('NOSUCH')",
    "return redis.call('GET')",
    "return redis.call()",
    "return nosuchglobal",
    "x = 1",
    "return (",
    "error('boom')",
    "error({err='ERR table'})",
    "return redis.sha1hex(ARGV[1] or '')",
    "return cjson.encode({1,2,{a=1}})",
    "return cjson.decode('[1,2,null,\"x\"]')",
    "return cmsgpack.unpack(cmsgpack.pack({1,'a'}))",
    "return struct.pack('>I2',258)",
    "return bit.band(255,15)",
    "return tostring(1/3)",
    "return 3.99",
    "return -3.99",
    "return redis.call('HLEN',KEYS[1] or '')",
    "return {double=3.5}",
    "redis.setresp(3) return {map={a=1}}",
    "redis.setresp(3) return redis.call('ZADD','z0','INCR','1.5','m')",
    "#!lua flags=no-writes\nreturn redis.call('SET','k0','1')",
    "#!lua flags=nosuch\nreturn 1",
    "#!lua\nreturn redis.call('GET','k1')",
    "return string.rep('x',10)",
    "return #ARGV",
    "return math.floor(-2.5)",
    "return {1,{2,{3,{}}}}",
    "return redis.call('SELECT',1)",
    "return redis.call('MULTI')",
    "return redis.call('RPUSH','l0',unpack(ARGV))",
    "return 1e300",
    "return tonumber('0x10')",
    "return redis.log(redis.LOG_DEBUG,'x')",
    "return redis.acl_check_cmd('GET','k0')",
    "return redis.REDIS_VERSION_NUM > 458752",
    "return type(redis.call('TIME'))",
    "local t=redis.call('LRANGE','l0',0,-1) return #t",
    "return redis.pcall('HSET','l0','a')",
    "return {redis.call('PING'),redis.call('ECHO','a')}",
    "return loadstring('return 5')()",
    "return next({})",
    "return os.clock() >= 0",
    "return _VERSION",
    "return redis.breakpoint()",
    "return print",
    "return {[1]='a',[3]='c'}",
    "return '\\0\\255'",
];

pub const LIBRARIES: &[&str] = &[
    "#!lua name=lib1\nredis.register_function('f1', function(keys, args) return redis.call('SET', keys[1] or 'k0', args[1] or 'd') end)",
    "#!lua name=lib1\nredis.register_function{function_name='f2', callback=function(keys, args) return {#keys, #args, args[1]} end, flags={'no-writes'}}\nredis.register_function('f3', function() return redis.pcall('INCR', 'l0') end)",
    "#!lua name=lib2\nredis.register_function('f1', function() return 1 end)",
    "#!lua name=lib1\nredis.register_function('f3', function() error('boom') end)",
    "#!lua name=lib1",
    "#!lua name=lib-1\nredis.register_function('f9', function() end)",
    "#!nolua name=a\nx",
    "no shebang",
    "#!lua name=lib1\nredis.register_function('f1')",
    "#!lua name=lib1\nreturn redis.call('GET','a')",
    "#!lua name=lib1\n(",
    "#!lua name=lib1 name=b\nx",
    "#!lua foo=bar\nx",
    "#!lua name=lib1\nredis.register_function{function_name='f2', callback=function() return redis.call('SET','k0','1') end, flags={'no-writes'}}",
    "#!lua name=lib1\nredis.register_function{function_name='f2', callback=function() end, flags={'what'}}",
    "#!lua name=lib1\nredis.register_function('f1', function() end) redis.register_function('f1', function() end)",
];

/// SHA-1 of some of the scripts, and one in capitals.
pub const SHAS: &[&str] = &[
    "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
    "d3ed5fff0309732dcbcea78573fd99627f2feee9",
    "38f675b563275d8fdf05da23e8c12b7b9efe5f23",
    "620cd258c2c9c88c9d10db67812ccf663d96bdc6",
    "b489d6280a6a53a2b1ff1634d55ee2d7f43ce75a",
    "D3ED5FFF0309732DCBCEA78573FD99627F2FEEE9",
];
