//! What is sent: a row a form of a command, with its weight and what its reply may
//! differ in. The language of templates is explained in `invent`.
//!
//! What differs and may:
//!
//! | what | why |
//! |---|---|
//! | order of elements where Redis has a hash table, or of several sets together | Redis's order is that of its table's seed; ours is that of the rows |
//! | cursors of scans in parts | positions in a hash table there, in rows here; scans are compared whole |
//! | random draws | only number and kinds are compared, then the key is removed on both sides |
//! | times left, idle times, the clock | two servers read two clocks |
//! | OBJECT ENCODING `int` for `embstr` | a number that INCRBYFLOAT or APPEND made: Redis keeps the form until it loads the key again, here a value's form follows from its bytes |
//! | DUMP's bytes | packing and compression are free; `contents` has each side restore the other's |
//! | lexical ranges of members with several scores | Redis documents them as unspecified; they depend on the levels of its skip list |
//! | the number and whole list of commands | some of those in `SKIPPED` are not there |
//! | bytes of an error's text that are no UTF-8 | shown as U+FFFD here |
//! | COMMAND INFO through a RESP3 script | its sets go through Lua tables, whose order is Lua's |
//! | numbers beyond a double or 64 bits (`1e400`) | not sent: Redis's SORT looks at the errno that an earlier command left |
//! | OBJECT ENCODING `listpack` for `skiplist` | SORT turns a sorted set into a skip list there, whatever its size |
//! | order of FUNCTION LIST | that of a hash table there |
//! | geo searches among equally far members | Redis's sort is not stable: geo sets are written by geo commands alone |
//! | SORT ... ALPHA BY where weights are equal | Redis's sort is not stable |
//! | `SKIPPED` | see there |

use super::compare::Compare;

/// How a command may be spoiled: some would not end if any argument changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    Any,
    /// Too few or too many arguments only: a small number in place of a time would
    /// end within the run, another key in place of one of its kind would be unspecified.
    Number,
    Never,
}

pub struct Row {
    pub weight: u32,
    pub template: &'static str,
    pub compare: fn() -> Compare,
    pub spoil: Spoil,
    /// Also in transactions and scripts: its reply needs no look at another.
    pub anywhere: bool,
}

const fn row(weight: u32, template: &'static str) -> Row {
    Row {
        weight,
        template,
        compare: || Compare::Exact,
        spoil: Spoil::Any,
        anywhere: true,
    }
}

impl Row {
    const fn with(mut self, compare: fn() -> Compare) -> Row {
        self.compare = compare;
        self
    }

    const fn members(self) -> Row {
        self.with(|| Compare::Members)
    }

    const fn hashed_members(self) -> Row {
        self.with(|| Compare::IfHashed(Box::new(Compare::Members)))
    }

    const fn hashed_pairs(self) -> Row {
        self.with(|| Compare::IfHashed(Box::new(Compare::Pairs)))
    }

    const fn shape(self) -> Row {
        self.with(|| Compare::Shape)
    }

    const fn kind(self) -> Row {
        self.with(|| Compare::Kind)
    }

    const fn times(self) -> Row {
        self.with(|| Compare::Times)
    }

    /// Arguments are times.
    const fn timed(mut self) -> Row {
        self.spoil = Spoil::Number;
        self
    }

    const fn unspoiled(mut self) -> Row {
        self.spoil = Spoil::Never;
        self
    }

    /// Not in transactions and scripts: what it says there depends on the connection,
    /// or it acts on more than this connection's data.
    const fn alone(mut self) -> Row {
        self.anywhere = false;
        self
    }
}

pub fn rows() -> impl Iterator<Item = &'static Row> {
    [
        STRINGS,
        KEYS,
        HASHES,
        LISTS,
        SETS,
        SORTED_SETS,
        GEO,
        STREAMS,
        BITS,
        SERVER,
        WRONG,
    ]
    .into_iter()
    .flatten()
}

static STRINGS: &[Row] = &[
    row(12, "SET <k> <v> & ( NX | XX | GET | KEEPTTL | EX <seconds> | PX <ms> | EXAT <far> | PXAT <far-ms> | WHAT | PERSIST )").timed(),
    row(8, "GET <k>"),
    row(3, "APPEND <k> <v>"),
    row(3, "( INCR | DECR ) <k>"),
    row(3, "( INCRBY | DECRBY ) <k> <int>"),
    row(3, "INCRBYFLOAT <k> <float>"),
    row(1, "GETDEL <k>"),
    row(3, "GETEX <k> [ ( PERSIST | EX <seconds> | PX <ms> | EXAT <far> | PXAT <far-ms> | EX <seconds> PERSIST ) ]").timed(),
    row(3, "( GETRANGE | SUBSTR ) <k> <int> <int>"),
    row(1, "GETSET <k> <v>"),
    row(2, "LCS <k> <k> & ( LEN | IDX | WITHMATCHLEN | MINMATCHLEN <int> )"),
    row(3, "MGET { <k> } [ <any> ]"),
    row(3, "MSET { <k> <v> }"),
    row(2, "MSETNX { <k> <v> }"),
    row(2, "SETEX <k> <seconds> <v>").timed(),
    row(2, "PSETEX <k> <ms> <v>").timed(),
    row(2, "SETNX <k> <v>"),
    row(3, "SETRANGE <k> <offset> <v>"),
    row(3, "STRLEN <k>"),
];

static KEYS: &[Row] = &[
    row(4, "DEL { <any> }"),
    row(2, "UNLINK { <any> }"),
    row(3, "EXISTS { <any> }"),
    row(1, "TOUCH { <any> }"),
    row(5, "EXPIRE <any> <seconds> [ ( NX | XX | GT | LT | NO | NX XX | GT LT ) ]").timed(),
    row(3, "PEXPIRE <any> <ms> [ ( NX | XX | GT | LT | NO | NX GT ) ]").timed(),
    row(3, "EXPIREAT <any> <unix> [ ( NX | XX | GT | LT | NO ) ]").timed(),
    row(3, "PEXPIREAT <any> <unix-ms> [ ( NX | XX | GT | LT | NO ) ]").timed(),
    row(3, "( TTL | EXPIRETIME ) <any>").with(|| Compare::Near(2)),
    row(3, "( PTTL | PEXPIRETIME ) <any>").with(|| Compare::Near(5_000)),
    row(2, "PERSIST <any>"),
    row(3, "TYPE <any>"),
    row(3, "RENAME <any> <any>"),
    row(2, "RENAMENX <any> <any>"),
    row(4, "COPY <any> <any> & ( DB <db> | REPLACE | DB <int> )"),
    row(2, "MOVE <any> <db>"),
    row(1, "KEYS <pattern>").members(),
    row(1, "RANDOMKEY").kind(),
    row(6, "OBJECT ENCODING <any>").with(|| Compare::Encoding),
    row(1, "OBJECT ( REFCOUNT | IDLETIME ) <any>").kind(),
    row(1, "OBJECT FREQ <any>"),
    row(2, "SCAN 0 COUNT 1000000 & ( MATCH <pattern> | TYPE ( hash | list | string | zset | set | stream | nosuch ) )").with(|| Compare::Scan).timed(),
    row(1, "SCAN ( x | 0 | -1 | 1.5 ) COUNT ( 0 | x | -1 )"),
    row(2, "DUMP <any>").kind(),
    row(4, "RESTORE <any> ( 0 | <ms> | -1 | x ) <payload> & ( REPLACE | ABSTTL | IDLETIME <count> | FREQ <count> | WHAT )").timed(),
    row(1, "RESTORE <any> <unix-ms> <payload> ABSTTL REPLACE").timed(),
    row(2, "SORT <l> & ( ALPHA | LIMIT <index> <index> | ASC | DESC )").with(|| Compare::Exact),
    row(2, "SORT ( <l> | <s> | <z> ) & ( LIMIT <index> <index> | ASC | DESC | BY ( k* | h*->m1 | h*->m2 | l* | none* ) | GET ( k* | # | h*->m1 | h*-> ) )"),
    row(1, "( SORT | SORT_RO ) ( <l> | <s> | <z> ) & ( ALPHA | ASC | DESC | BY ( k* | h*->m1 ) )").members(),
    row(1, "SORT <l> BY nosort & ( LIMIT <index> <index> | ASC | DESC | GET # )").kind(),
    row(1, "SORT_RO ( <l> | <s> | <z> ) & ( LIMIT <index> <index> | ALPHA | STORE l0 )"),
    row(2, "SORT ( <l> | <s> | <z> ) & ( LIMIT <index> <index> | ASC | DESC | ALPHA | GET k* | GET # ) STORE <l>"),
];

static HASHES: &[Row] = &[
    row(12, "HSET <h> { <m> <v> } {{ <m> <v> }}"),
    row(2, "HMSET <h> { <m> <v> }"),
    row(3, "HSETNX <h> <m> <v>"),
    row(4, "HGET <h> <m>"),
    row(3, "HMGET <h> { <m> }"),
    row(3, "HDEL <h> { <m> }"),
    row(4, "HGETALL <h>").hashed_pairs(),
    row(2, "( HKEYS | HVALS ) <h>").hashed_members(),
    row(2, "HLEN <h>"),
    row(2, "HSTRLEN <h> <m>"),
    row(2, "HEXISTS <h> <m>"),
    row(4, "HINCRBY <h> <m> <int>"),
    row(3, "HINCRBYFLOAT <h> <m> <float>"),
    row(2, "HRANDFIELD <h> [ <count> [ WITHVALUES ] ]").shape(),
    row(2, "HSCAN <h> 0 COUNT 1000000 [ MATCH <pattern> ]")
        .with(|| Compare::IfHashed(Box::new(Compare::ScanPairs)))
        .timed(),
    row(1, "HSCAN <h> ( x | 0 | -1 ) COUNT ( 0 | x )"),
];

static LISTS: &[Row] = &[
    row(10, "( RPUSH | LPUSH ) <l> { <v> } {{ <v> }}"),
    row(2, "( RPUSHX | LPUSHX ) <l> { <v> }"),
    row(5, "( LPOP | RPOP ) <l> [ <count> ]"),
    row(2, "LLEN <l>"),
    row(5, "LRANGE <l> <index> <index>"),
    row(3, "LINDEX <l> <index>"),
    row(3, "LSET <l> <index> <v>"),
    row(3, "LINSERT <l> ( BEFORE | AFTER | MIDDLE ) <v> <v>"),
    row(3, "LREM <l> <index> <v>"),
    row(2, "LTRIM <l> <index> <index>"),
    row(
        3,
        "LPOS <l> <v> & ( RANK <index> | COUNT <count> | MAXLEN <count> )",
    ),
    row(3, "LMOVE <l> <l> ( LEFT | RIGHT | UP ) ( LEFT | RIGHT )"),
    row(2, "RPOPLPUSH <l> <l>"),
    row(
        3,
        "LMPOP <numkeys:l> ( LEFT | RIGHT | UP ) [ COUNT <count> ]",
    ),
    row(1, "( BLPOP | BRPOP ) { <l> } 0.01").unspoiled(),
    row(1, "BLMOVE <l> <l> ( LEFT | RIGHT ) ( LEFT | RIGHT ) 0.01").unspoiled(),
    row(1, "BRPOPLPUSH <l> <l> 0.01").unspoiled(),
    row(
        1,
        "BLMPOP 0.01 <numkeys:l> ( LEFT | RIGHT ) [ COUNT <count> ]",
    )
    .unspoiled(),
];

static SETS: &[Row] = &[
    row(12, "SADD <s> { <m> } {{ <int> }} {{ <m> }}"),
    row(4, "SREM <s> { <m> }"),
    row(3, "SMEMBERS <s>").hashed_members(),
    row(2, "SCARD <s>"),
    row(2, "SISMEMBER <s> <m>"),
    row(2, "SMISMEMBER <s> { <m> }"),
    row(3, "SMOVE <s> <s> <m>"),
    row(4, "( SINTER | SUNION | SDIFF ) { <s> }").members(),
    row(4, "( SINTERSTORE | SUNIONSTORE | SDIFFSTORE ) <s> { <s> }"),
    row(3, "SINTERCARD <numkeys:s> [ LIMIT <count> ]"),
    row(2, "SRANDMEMBER <s> [ <count> ]").shape(),
    row(2, "SSCAN <s> 0 COUNT 1000000 [ MATCH <pattern> ]")
        .with(|| Compare::IfHashed(Box::new(Compare::Scan)))
        .timed(),
    row(1, "SSCAN <s> ( x | 0 | -1 ) COUNT ( 0 | x )"),
];

static SORTED_SETS: &[Row] = &[
    row(12, "ZADD <z> & ( NX | XX | GT | LT | CH | INCR ) { <score> <m> } {{ <score> <m> }}"),
    row(4, "ZINCRBY <z> <score> <m>"),
    row(3, "ZREM <z> { <m> }"),
    row(2, "ZCARD <z>"),
    row(3, "ZSCORE <z> <m>"),
    row(2, "ZMSCORE <z> { <m> }"),
    row(3, "( ZRANK | ZREVRANK ) <z> <m>"),
    row(3, "ZCOUNT <z> <min> <min>"),
    row(2, "ZLEXCOUNT <y> <lex> <lex>").timed(),
    row(4, "ZRANGE <z> <index> <index> & ( REV | WITHSCORES | LIMIT <index> <index> )"),
    row(3, "ZRANGE <z> <min> <min> BYSCORE & ( REV | WITHSCORES | LIMIT <index> <index> )"),
    row(3, "ZRANGE <y> <lex> <lex> BYLEX & ( REV | WITHSCORES | LIMIT <index> <index> )").timed(),
    row(2, "ZREVRANGE <z> <index> <index> [ WITHSCORES ]"),
    row(3, "( ZRANGEBYSCORE | ZREVRANGEBYSCORE ) <z> <min> <min> & ( WITHSCORES | LIMIT <index> <index> )"),
    row(3, "( ZRANGEBYLEX | ZREVRANGEBYLEX ) <y> <lex> <lex> [ LIMIT <index> <index> ]").timed(),
    row(3, "ZRANGESTORE <z> ( <z> <index> <index> | <z> <min> <min> BYSCORE | <y> <lex> <lex> BYLEX ) & ( REV | LIMIT <index> <index> )").timed(),
    row(4, "ZADD <y> 0 <m> [ 0 <m> 0 <m> ] {{ 0 <v> }}").unspoiled(),
    row(1, "( ZREM <y> <m> | ZPOPMIN <y> | ZPOPMAX <y> | DEL <y> )").unspoiled(),
    row(1, "ZREMRANGEBYRANK <z> <index> <index>"),
    row(1, "ZREMRANGEBYSCORE <z> <min> <min>"),
    row(1, "ZREMRANGEBYLEX <y> <lex> <lex>").timed(),
    row(3, "( ZPOPMIN | ZPOPMAX ) <z> [ <count> ]"),
    row(2, "ZMPOP <numkeys:z> ( MIN | MAX | MID ) [ COUNT <count> ]"),
    row(1, "( BZPOPMIN | BZPOPMAX ) { <z> } 0.01").unspoiled(),
    row(1, "BZMPOP 0.01 <numkeys:z> ( MIN | MAX ) [ COUNT <count> ]").unspoiled(),
    row(4, "( ZUNION | ZINTER ) <numkeys:zzs> & ( WEIGHTS <weights> | AGGREGATE ( SUM | MIN | MAX | AVG ) | WITHSCORES )"),
    row(2, "ZDIFF <numkeys:zzs> [ WITHSCORES ]"),
    row(4, "( ZUNIONSTORE | ZINTERSTORE ) <z> <numkeys:zzs> & ( WEIGHTS <weights> | AGGREGATE ( SUM | MIN | MAX | AVG ) | WITHSCORES )"),
    row(2, "ZDIFFSTORE <z> <numkeys:zzs>"),
    row(2, "ZINTERCARD <numkeys:zzs> [ LIMIT <count> ]"),
    row(2, "ZRANDMEMBER <z> [ <count> [ WITHSCORES ] ]").shape(),
    row(2, "ZSCAN <z> 0 COUNT 1000000 [ MATCH <pattern> ]").with(|| Compare::IfHashed(Box::new(Compare::ScanPairs))).timed(),
    row(1, "ZSCAN <z> ( x | 0 | -1 ) COUNT ( 0 | x )"),
];

static GEO: &[Row] = &[
    row(6, "GEOADD <g> & ( NX | XX | CH ) { <lon> <lat> <m> }"),
    row(3, "GEODIST <g> <m> <m> [ ( m | km | mi | ft | cm ) ]"),
    row(2, "GEOHASH <g> { <m> }"),
    row(2, "GEOPOS <g> { <m> }"),
    row(
        4,
        "GEOSEARCH <g> & ( FROMMEMBER <m> | FROMLONLAT <lon> <lat> ) & ( BYRADIUS <radius> km | BYBOX <radius> <radius> km ) & ( ASC | DESC | COUNT <count> | COUNT <count> ANY | WITHCOORD | WITHDIST | WITHHASH )",
    ),
    row(
        5,
        "GEOSEARCH <g> ( FROMMEMBER <m> | FROMLONLAT <lon> <lat> ) ( BYRADIUS <radius> ( km | m | mi | ft ) | BYBOX <radius> <radius> ( km | m ) ) & ( ASC | DESC | COUNT <count> | COUNT <count> ANY | WITHCOORD | WITHDIST | WITHHASH )",
    ),
    row(
        3,
        "GEOSEARCHSTORE <g> <g> ( FROMMEMBER <m> | FROMLONLAT <lon> <lat> ) ( BYRADIUS <radius> km | BYBOX <radius> <radius> km ) & ( ASC | DESC | COUNT <count> | STOREDIST | WITHDIST )",
    ),
    row(
        2,
        "( GEORADIUS | GEORADIUS_RO ) <g> <lon> <lat> <radius> ( km | m | mi | ft ) & ( ASC | DESC | COUNT <count> | WITHCOORD | WITHDIST | WITHHASH )",
    ),
    row(
        2,
        "( GEORADIUSBYMEMBER | GEORADIUSBYMEMBER_RO ) <g> <m> <radius> ( km | m | mi | ft ) & ( ASC | DESC | COUNT <count> | WITHCOORD | WITHDIST | WITHHASH )",
    ),
    row(
        1,
        "( GEORADIUS | GEORADIUS_RO ) <g> <lon> <lat> <radius> km & ( ASC | COUNT <count> | STORE <g> | STOREDIST <g> | WITHDIST )",
    ),
    row(
        1,
        "( GEORADIUSBYMEMBER | GEORADIUSBYMEMBER_RO ) <g> <m> <radius> km & ( ASC | COUNT <count> | STORE <g> | STOREDIST <g> | WITHDIST )",
    ),
    row(1, "ZRANGE <g> 0 -1 WITHSCORES"),
];

static STREAMS: &[Row] = &[
    row(10, "XADD <x> [ NOMKSTREAM ] [ ( MAXLEN | MINID ) [ ( = | ~ ) ] <count> [ LIMIT <count> ] ] <new-id> { <m> <v> }").timed(),
    row(2, "XLEN <x>"),
    row(4, "( XRANGE | XREVRANGE ) <x> <id-bound> <id-bound> [ COUNT <count> ]"),
    row(3, "XDEL <x> { <id> }"),
    row(3, "XTRIM <x> ( MAXLEN | MINID | NONE ) [ ( = | ~ ) ] <count> [ LIMIT <count> ]").timed(),
    row(1, "XSETID <x> <id> [ ENTRIESADDED <count> MAXDELETEDID <id> ]"),
    row(3, "XREAD & ( COUNT <count> ) STREAMS <x> <x> <id> <id>"),
    row(2, "XREAD [ COUNT <count> ] STREAMS { <x> } { <id> }"),
    row(6, "XGROUP CREATE <x> ( g1 | g2 ) ( <id> | $ | 0 ) & ( MKSTREAM | ENTRIESREAD <count> )"),
    row(1, "XGROUP SETID <x> ( g1 | g2 | none ) ( <id> | $ ) [ ENTRIESREAD <count> ]"),
    row(1, "XGROUP DESTROY <x> ( g1 | g2 | none )"),
    row(2, "XGROUP ( CREATECONSUMER | DELCONSUMER ) <x> ( g1 | g2 | none ) ( alice | bob | <m> )"),
    row(8, "XREADGROUP GROUP ( g1 | g2 | none ) ( alice | bob ) & ( COUNT <count> | NOACK ) STREAMS <x> ( > | <id> )").timed(),
    row(2, "XREADGROUP GROUP ( g1 | g2 ) ( alice | bob ) & ( COUNT <count> | NOACK ) STREAMS <x> <x> > ( > | <id> )").timed(),
    row(3, "XACK <x> ( g1 | g2 | none ) { <id> }"),
    row(2, "XPENDING <x> ( g1 | g2 | none )"),
    row(3, "XPENDING <x> ( g1 | g2 ) [ IDLE ( 0 | 1000000000 ) ] <id-bound> <id-bound> <count> [ ( alice | bob | carol ) ]").times().timed(),
    row(4, "XCLAIM <x> ( g1 | g2 | none ) ( alice | bob | carol ) ( 0 | 1000000000 | x ) { <id> } & ( IDLE 500000 | TIME 1000 | RETRYCOUNT <count> | FORCE | JUSTID | LASTID <id> )").timed(),
    row(3, "XAUTOCLAIM <x> ( g1 | g2 | none ) ( alice | bob | carol ) ( 0 | 1000000000 | x ) ( <id> | 0-0 ) & ( COUNT <count> | JUSTID )").timed(),
    row(3, "XINFO STREAM <x>"),
    row(2, "XINFO STREAM <x> FULL [ COUNT <count> ]").times(),
    row(1, "XINFO GROUPS <x>"),
    row(1, "XINFO CONSUMERS <x> ( g1 | g2 | none )").times(),
];

static BITS: &[Row] = &[
    row(4, "SETBIT <b> <bit> ( 0 | 1 | 2 )").timed(),
    row(2, "GETBIT <b> <bit>"),
    row(3, "BITCOUNT <b> [ <index> <index> [ ( BYTE | BIT | NIBBLE ) ] ]"),
    row(3, "BITPOS <b> ( 0 | 1 | 2 ) [ <index> [ <index> [ ( BYTE | BIT ) ] ] ]"),
    row(3, "BITOP ( AND | OR | XOR | NOT | NAND ) <b> { <b> }"),
    row(6, "BITFIELD <b> & ( GET <bit-type> <bit-field> | SET <bit-type> <bit-field> <int> | INCRBY <bit-type> <bit-field> <int> | OVERFLOW ( WRAP | SAT | FAIL | NO ) | GET <bit-type> <bit-field> )").timed(),
    row(1, "BITFIELD_RO <b> { GET <bit-type> <bit-field> }").timed(),
    row(1, "GET <b>"),
    row(5, "PFADD <p> { <m> } {{ <v> }}"),
    row(3, "PFCOUNT { <p> }"),
    row(3, "PFMERGE <p> { <p> }"),
    row(2, "GET <p>"),
    row(1, "PFDEBUG ( GETREG | DECODE | ENCODING | TODENSE | WHAT ) <p>"),
];

static SERVER: &[Row] = &[
    row(4, "SELECT <db>").alone(),
    row(1, "SELECT ( 99 | x | -1 )"),
    row(4, "DBSIZE"),
    row(2, "ECHO <v>"),
    row(3, "PING [ <v> ]"),
    row(1, "SWAPDB <db> <db>"),
    row(1, "SWAPDB ( 0 | x ) ( 99 | y )"),
    row(1, "TIME").shape(),
    // Spoiled it waits for ever for a replica.
    row(1, "WAIT 0 0").unspoiled(),
    row(1, "LASTSAVE").kind(),
    row(1, "ROLE"),
    row(1, "CLIENT ( GETNAME | GETREDIR | TRACKINGINFO | UNPAUSE )").alone(),
    row(1, "CLIENT SETNAME ( some-name | <v> )").alone(),
    row(1, "CLIENT ( ID | INFO | LIST )").kind().alone(),
    row(1, "CLIENT ( NO-EVICT ( ON | OFF | MAYBE ) | REPLY ( ON | MAYBE ) | CACHING ( YES | NO ) | TRACKING ( OFF | MAYBE ) | UNBLOCK ( 999999 | x ) | KILL ID 999999 | KILL nowhere:1 | PAUSE ( x | -1 ) )").alone().unspoiled(),
    row(2, "CONFIG GET ( maxclients | nosuch | hash-max-listpack-entries | maxclients nosuch )"),
    row(1, "CONFIG SET nosuch 1"),
    row(1, "CONFIG RESETSTAT"),
    row(1, "COMMAND COUNT").kind(),
    row(2, "COMMAND INFO { ( get | set | zadd | xadd | eval | config|get | nosuch | sort | mset | xreadgroup | geoadd | blpop | hello ) }").alone().unspoiled(),
    row(1, "COMMAND DOCS ( get | set | zadd | xadd | config|get | nosuch | hset )").unspoiled(),
    row(1, "COMMAND LIST").kind(),
    row(1, "COMMAND LIST FILTERBY ( ACLCAT ( hash | stream | nosuch ) | PATTERN ( x* | h*get | z?*r* ) | MODULE none | WHAT x )").members().unspoiled(),
    row(1, "( OBJECT | XINFO | XGROUP | PUBSUB | SCRIPT | FUNCTION | MEMORY | LATENCY | SLOWLOG | CLIENT | CONFIG | COMMAND | CLUSTER ) HELP").alone().unspoiled(),
    row(1, "PUBLISH nobody <v>"),
    row(1, "SPUBLISH nobody <v>"),
    row(1, "PUBSUB ( CHANNELS | NUMPAT | NUMSUB | NUMSUB a b | SHARDCHANNELS | SHARDNUMSUB a )"),
    row(1, "LATENCY ( LATEST | HISTORY nosuch | RESET | GRAPH nosuch )"),
    row(1, "MEMORY ( USAGE <any> | DOCTOR )").kind(),
    row(1, "SLOWLOG GET ( x | -2 )").unspoiled(),
    row(1, "ACL ( WHOAMI | CAT nosuch )"),
    row(1, "ACL CAT [ ( hash | read | sortedset | blocking ) ]").members(),
    row(1, "CLUSTER ( INFO | KEYSLOT a | SLOTS | MEET h 1 | RESET | FORGET x )"),
    row(1, "( READONLY | READWRITE | ASKING )"),
    row(1, "AUTH ( x | nosuch x )").alone().unspoiled(),
    row(1, "HELLO ( 9 | x | 3.0 )").alone().unspoiled(),
    row(2, "EVAL <script> ( 0 | 1 <any> | 2 <any> <any> | x | -1 | 9 <any> ) [ <v> <v> ]"),
    row(1, "( EVALSHA | EVALSHA_RO ) ( nosuch | <sha> ) ( 0 | 1 <any> ) [ <v> ]"),
    row(1, "SCRIPT ( LOAD <script> | EXISTS <sha> nosuch | FLUSH | FLUSH WHAT | KILL )"),
    row(2, "FUNCTION LOAD [ REPLACE ] <library>").alone(),
    row(1, "FUNCTION LIST [ LIBRARYNAME lib1 ]").kind().alone(),
    row(1, "FUNCTION ( DELETE lib1 | DELETE nosuch | STATS | KILL | FLUSH | RESTORE x )").alone(),
    row(4, "( FCALL | FCALL_RO ) ( f1 | f2 | f3 | nosuch ) ( 0 | 1 <any> | x ) [ <v> ]"),
    row(1, "( FLUSHDB | FLUSHALL ) [ ( SYNC | ASYNC | WHAT ) ]").alone(),
    row(1, "( EXEC | DISCARD | UNWATCH )").alone(),
];

/// Unknown names, wrong numbers of arguments, subcommands that do not exist.
static WRONG: &[Row] = &[
    row(2, "NOSUCH [ a b ] <v>"),
    row(3, "( GET | SET a | MSET a | MSET a 1 b | DEL | EXPIRE a | OBJECT | OBJECT NOSUCH a | CLIENT | CLIENT NOSUCH | CONFIG NOSUCH | COPY a | LCS a | INCR | RANDOMKEY a | DBSIZE a | SELECT | SETRANGE a 1 | GETEX | COMMAND NOSUCH | PING a b | ECHO | MOVE a )").unspoiled(),
    row(3, "( HSET a | HSET a b c d | HGET a | ZADD a | ZADD a 1 | ZADD a NX | XADD a | XADD a 1-1 f | SADD a | RPUSH a | LINSERT a BEFORE | XGROUP | XGROUP NOSUCH a b | XINFO | XINFO NOSUCH | XREAD STREAMS | XREAD STREAMS a | XREADGROUP | SORT | BITOP AND | GEOADD a 1 2 | PFADD | ZRANGE a 0 | EVAL | EVAL x | SCRIPT | SCRIPT NOSUCH | FUNCTION NOSUCH | MEMORY NOSUCH | BLPOP a | MULTI x | WATCH | SUBSCRIBE | ACL NOSUCH )").unspoiled(),
];

/// Commands that are not sent, and why.
pub const SKIPPED: &[(&str, &str)] = &[
    (
        "BGREWRITEAOF",
        "no AOF and RDB files here; what is on disk is another format",
    ),
    ("BGSAVE", "the same"),
    ("SAVE", "the same"),
    ("DEBUG", "shows and changes the insides, which differ"),
    (
        "FAILOVER",
        "replication differs; Redis's suite covers the texts",
    ),
    ("PSYNC", "the same"),
    ("REPLCONF", "the same"),
    ("REPLICAOF", "the same"),
    ("SLAVEOF", "the same"),
    ("SYNC", "the same"),
    ("INFO", "names this server"),
    ("LOLWUT", "draws at random, and names the version"),
    ("MIGRATE", "needs a third server"),
    ("MODULE", "modules are compiled against Redis itself"),
    ("MONITOR", "does not end"),
    ("PFSELFTEST", "tests the server's own code"),
    ("QUIT", "ends the connection"),
    ("RESET", "changes the protocol"),
    (
        "RESTORE-ASKING",
        "is RESTORE; part of a cluster's inner talk",
    ),
    ("SHUTDOWN", "ends the server"),
];
