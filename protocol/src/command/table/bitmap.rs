//! Bitmap commands.

use super::prelude::*;

pub(super) static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "bitcount",
        id: id::BITCOUNT,
        arity: -2,
        flags: flags![READONLY],
        categories: categories![READ, BITMAP, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::bitmap::BITCOUNT,
        ..COMMAND
    },
    CommandSpec {
        name: "bitfield",
        id: id::BITFIELD,
        arity: -2,
        flags: flags![WRITE, DENYOOM],
        categories: categories![WRITE, BITMAP, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[
            KeySpec::range(1, 0, 1, key_flags![RW, ACCESS, UPDATE, VARIABLE_FLAGS])
                .notes("This command allows both access and modification of the key"),
        ],
        key_finder: Some(KeyFinder::BitField),
        docs: &docs::bitmap::BITFIELD,
        ..COMMAND
    },
    CommandSpec {
        name: "bitfield_ro",
        id: id::BITFIELD_RO,
        arity: -2,
        flags: flags![READONLY, FAST],
        categories: categories![READ, BITMAP, FAST],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::bitmap::BITFIELD_RO,
        ..COMMAND
    },
    CommandSpec {
        name: "bitop",
        id: id::BITOP,
        arity: -4,
        flags: flags![WRITE, DENYOOM],
        categories: categories![WRITE, BITMAP, SLOW],
        first_key: 2,
        last_key: -1,
        step: 1,
        key_specs: &[
            KeySpec::range(2, 0, 1, key_flags![OW, UPDATE]),
            KeySpec::range(3, -1, 1, key_flags![RO, ACCESS]),
        ],
        docs: &docs::bitmap::BITOP,
        ..COMMAND
    },
    CommandSpec {
        name: "bitpos",
        id: id::BITPOS,
        arity: -3,
        flags: flags![READONLY],
        categories: categories![READ, BITMAP, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::bitmap::BITPOS,
        ..COMMAND
    },
    CommandSpec {
        name: "getbit",
        id: id::GETBIT,
        arity: 3,
        flags: flags![READONLY, FAST],
        categories: categories![READ, BITMAP, FAST],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RO, ACCESS])],
        docs: &docs::bitmap::GETBIT,
        ..COMMAND
    },
    CommandSpec {
        name: "setbit",
        id: id::SETBIT,
        arity: 4,
        flags: flags![WRITE, DENYOOM],
        categories: categories![WRITE, BITMAP, SLOW],
        first_key: 1,
        last_key: 1,
        step: 1,
        key_specs: &[KeySpec::range(1, 0, 1, key_flags![RW, ACCESS, UPDATE])],
        docs: &docs::bitmap::SETBIT,
        ..COMMAND
    },
];
