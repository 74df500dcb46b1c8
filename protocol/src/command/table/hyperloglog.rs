//! HyperLogLog commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "pfadd",
        id: id::PFADD,
        arity: -2,
        flags: flags![WRITE, DENYOOM, FAST],
        categories: categories![WRITE, HYPERLOGLOG, FAST],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RW, INSERT])],
        docs: &docs::hyperloglog::PFADD,
        ..COMMAND
    },
    CommandSpec {
        name: "pfcount",
        id: id::PFCOUNT,
        arity: -2,
        flags: flags![READONLY, MAY_REPLICATE],
        categories: categories![READ, HYPERLOGLOG, SLOW],
        first_key: 1,
        last_key: -1,
        step: 1,
        key_specs: &[KeySpec::range(1, -1, 1, key_flags![RW, ACCESS]).notes(
            "RW because it may change the internal representation of the key, and \
                 propagate to replicas",
        )],
        docs: &docs::hyperloglog::PFCOUNT,
        ..COMMAND
    },
    CommandSpec {
        name: "pfdebug",
        id: id::PFDEBUG,
        arity: 3,
        flags: flags![WRITE, DENYOOM, ADMIN],
        categories: categories![WRITE, HYPERLOGLOG, ADMIN, SLOW, DANGEROUS],
        first_key: 2,
        last_key: 2,
        step: 1,
        key_specs: &[KeySpec::range(2, 0, 1, key_flags![RW, ACCESS])],
        docs: &docs::hyperloglog::PFDEBUG,
        ..COMMAND
    },
    CommandSpec {
        name: "pfmerge",
        id: id::PFMERGE,
        arity: -2,
        flags: flags![WRITE, DENYOOM],
        categories: categories![WRITE, HYPERLOGLOG, SLOW],
        first_key: 1,
        last_key: -1,
        step: 1,
        key_specs: &[
            KeySpec::range(1, 0, 1, key_flags![RW, ACCESS, INSERT]),
            KeySpec::range(2, -1, 1, key_flags![RO, ACCESS]),
        ],
        docs: &docs::hyperloglog::PFMERGE,
        ..COMMAND
    },
    CommandSpec {
        name: "pfselftest",
        id: id::PFSELFTEST,
        arity: 1,
        flags: flags![ADMIN],
        categories: categories![HYPERLOGLOG, ADMIN, SLOW, DANGEROUS],
        docs: &docs::hyperloglog::PFSELFTEST,
        ..COMMAND
    },
];
