//! Geo commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "geoadd",
        id: id::GEOADD,
        arity: -5,
        flags: flags![WRITE, DENYOOM],
        categories: categories![WRITE, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RW, UPDATE])],
        docs: &docs::geo::GEOADD,
        ..COMMAND
    },
    CommandSpec {
        name: "geodist",
        id: id::GEODIST,
        arity: -4,
        flags: flags![READONLY],
        categories: categories![READ, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::geo::GEODIST,
        ..COMMAND
    },
    CommandSpec {
        name: "geohash",
        id: id::GEOHASH,
        arity: -2,
        flags: flags![READONLY],
        categories: categories![READ, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::geo::GEOHASH,
        ..COMMAND
    },
    CommandSpec {
        name: "geopos",
        id: id::GEOPOS,
        arity: -2,
        flags: flags![READONLY],
        categories: categories![READ, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::geo::GEOPOS,
        ..COMMAND
    },
    CommandSpec {
        name: "georadius",
        id: id::GEORADIUS,
        arity: -6,
        flags: flags![WRITE, DENYOOM, MOVABLEKEYS],
        categories: categories![WRITE, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[
            KeySpec::range(1, 0, 1, key_flags![RO, ACCESS]),
            KeySpec::new(
                BeginSearch::Keyword("STORE", 6),
                FindKeys::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                key_flags![OW, UPDATE],
            ),
            KeySpec::new(
                BeginSearch::Keyword("STOREDIST", 6),
                FindKeys::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                key_flags![OW, UPDATE],
            ),
        ],
        key_finder: Some(KeyFinder::GeoRadius),
        docs: &docs::geo::GEORADIUS,
        ..COMMAND
    },
    CommandSpec {
        name: "georadius_ro",
        id: id::GEORADIUS_RO,
        arity: -6,
        flags: flags![READONLY],
        categories: categories![READ, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::geo::GEORADIUS_RO,
        ..COMMAND
    },
    CommandSpec {
        name: "georadiusbymember",
        id: id::GEORADIUSBYMEMBER,
        arity: -5,
        flags: flags![WRITE, DENYOOM, MOVABLEKEYS],
        categories: categories![WRITE, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[
            KeySpec::range(1, 0, 1, key_flags![RO, ACCESS]),
            KeySpec::new(
                BeginSearch::Keyword("STORE", 5),
                FindKeys::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                key_flags![OW, UPDATE],
            ),
            KeySpec::new(
                BeginSearch::Keyword("STOREDIST", 5),
                FindKeys::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                key_flags![OW, UPDATE],
            ),
        ],
        key_finder: Some(KeyFinder::GeoRadius),
        docs: &docs::geo::GEORADIUSBYMEMBER,
        ..COMMAND
    },
    CommandSpec {
        name: "georadiusbymember_ro",
        id: id::GEORADIUSBYMEMBER_RO,
        arity: -5,
        flags: flags![READONLY],
        categories: categories![READ, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::geo::GEORADIUSBYMEMBER_RO,
        ..COMMAND
    },
    CommandSpec {
        name: "geosearch",
        id: id::GEOSEARCH,
        arity: -7,
        flags: flags![READONLY],
        categories: categories![READ, GEO, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::geo::GEOSEARCH,
        ..COMMAND
    },
    CommandSpec {
        name: "geosearchstore",
        id: id::GEOSEARCHSTORE,
        arity: -8,
        flags: flags![WRITE, DENYOOM],
        categories: categories![WRITE, GEO, SLOW],
        first_key: 1,
        last_key: 2,
        step: 1,
        key_specs: &[
            KeySpec::range(1, 0, 1, key_flags![OW, UPDATE]),
            KeySpec::range(2, 0, 1, key_flags![RO, ACCESS]),
        ],
        docs: &docs::geo::GEOSEARCHSTORE,
        ..COMMAND
    },
];
