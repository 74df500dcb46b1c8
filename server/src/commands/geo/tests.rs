//! Exact replies of geo commands.

use cairn_protocol::resp::Version;

use crate::commands::testing::Bench;

const SYNTAX: &str = "-ERR syntax error\r\n";

fn script(bench: &mut Bench, lines: &[(&str, &str)]) {
    for (line, want) in lines {
        assert_eq!(bench.run(line), *want, "{line}");
    }
}

fn sicily() -> Bench {
    let mut bench = Bench::new();
    bench.run("GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania");
    bench
}

#[test]
fn positions_are_added_and_read_back() {
    let mut bench = sicily();
    script(
        &mut bench,
        &[
            ("GEOADD s XX CH 13.361389 38.115556 Palermo", ":0\r\n"),
            ("GEOADD s NX 1 1 Palermo 2 2 new", ":1\r\n"),
            ("ZREM s new", ":1\r\n"),
            ("ZSCORE s Palermo", "$16\r\n3479099956230698\r\n"),
            ("GEOHASH s Palermo x", "*2\r\n$11\r\nsqc8b49rny0\r\n$-1\r\n"),
            (
                "GEOPOS s Catania x",
                "*2\r\n*2\r\n$20\r\n15.08726745843887329\r\n$20\r\n37.50266842333162032\r\n*-1\r\n",
            ),
            ("GEODIST s Palermo Catania", "$11\r\n166274.1516\r\n"),
            ("GEODIST s Palermo Catania km", "$8\r\n166.2742\r\n"),
            ("GEODIST s Palermo Catania MI", "$8\r\n103.3182\r\n"),
            ("GEODIST s Palermo Palermo", "$6\r\n0.0000\r\n"),
            ("GEODIST s Palermo x", "$-1\r\n"),
            (
                "GEODIST s Palermo Catania yd",
                "-ERR unsupported unit provided. please use M, KM, FT, MI\r\n",
            ),
            ("GEODIST s a b m m", SYNTAX),
            ("GEOADD s 1 2 a 3", SYNTAX),
            ("GEOADD s NX XX 1 2 a", SYNTAX),
            (
                "GEOADD s 200 100 a",
                "-ERR invalid longitude,latitude pair 200.000000,100.000000\r\n",
            ),
            ("GEOADD s x 1 a", "-ERR value is not a valid float\r\n"),
        ],
    );
    bench.version = Version::V3;
    assert_eq!(
        bench.run("GEOPOS s Catania"),
        "*1\r\n*2\r\n,15.08726745843887329\r\n,37.50266842333162032\r\n"
    );
}

#[test]
fn searches_answer_in_all_their_forms() {
    let mut bench = sicily();
    script(
        &mut bench,
        &[
            (
                "GEORADIUS s 15 37 200 km WITHDIST",
                "*2\r\n*2\r\n$7\r\nPalermo\r\n$8\r\n190.4424\r\n*2\r\n$7\r\nCatania\r\n$7\r\n56.4413\r\n",
            ),
            (
                "GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ASC",
                "*2\r\n$7\r\nCatania\r\n$7\r\nPalermo\r\n",
            ),
            (
                "GEOSEARCH s FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHHASH COUNT 1",
                "*1\r\n*2\r\n$7\r\nPalermo\r\n:3479099956230698\r\n",
            ),
            (
                "GEORADIUSBYMEMBER s Palermo 200 km COUNT 1",
                "*1\r\n$7\r\nPalermo\r\n",
            ),
            (
                "GEORADIUSBYMEMBER_RO s x 200 km",
                "-ERR could not decode requested zset member\r\n",
            ),
            ("GEORADIUS none 15 37 200 km", "*0\r\n"),
            ("GEORADIUS_RO s 15 37 200 km STORE d", SYNTAX),
            ("GEORADIUS s 15 37 200 km STORE d", ":2\r\n"),
            ("ZSCORE d Palermo", "$16\r\n3479099956230698\r\n"),
            (
                "GEOSEARCHSTORE d s FROMMEMBER Catania BYRADIUS 1 m STOREDIST",
                ":1\r\n",
            ),
            ("ZSCORE d Catania", "$1\r\n0\r\n"),
            (
                "GEOSEARCHSTORE d none FROMLONLAT 0 0 BYRADIUS 1 m",
                ":0\r\n",
            ),
            ("EXISTS d", ":0\r\n"),
            (
                "GEOSEARCH s FROMLONLAT 15 37 ASC DESC",
                "-ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH\r\n",
            ),
            (
                "GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ANY",
                "-ERR the ANY argument requires COUNT argument\r\n",
            ),
            (
                "GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km COUNT 0",
                "-ERR COUNT must be > 0\r\n",
            ),
            (
                "GEORADIUS s 15 37 200 km STORE d WITHDIST",
                "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options\r\n",
            ),
            (
                "GEORADIUS s 15 37 -1 km",
                "-ERR radius cannot be negative\r\n",
            ),
            ("GEORADIUS s 15 37 x km", "-ERR need numeric radius\r\n"),
        ],
    );
    bench.run("GEORADIUS s 15 37 200 km STORE d");
    assert_eq!(bench.event_names(), ["new", "georadiusstore"]);
}
