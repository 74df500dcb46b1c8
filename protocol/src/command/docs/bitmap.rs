//! Bitmap commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static BITCOUNT: Docs = Docs {
    summary: "Count set bits in a string",
    since: "2.6.0",
    group: Group::Bitmap,
    complexity: Some("O(N)"),
    history: &[("7.0.0", "Added the `BYTE|BIT` option.")],
    arguments: &[
        key("key", 0),
        block(
            "index",
            &[
                integer("start"),
                integer("end"),
                one_of(
                    "index_unit",
                    &[pure_token("byte", "BYTE"), pure_token("bit", "BIT")],
                )
                .since("7.0.0")
                .optional(),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static BITFIELD: Docs = Docs {
    summary: "Perform arbitrary bitfield integer operations on strings",
    since: "3.2.0",
    group: Group::Bitmap,
    complexity: Some("O(1) for each subcommand specified"),
    arguments: &[
        key("key", 0),
        one_of(
            "operation",
            &[
                block("encoding_offset", &[string("encoding"), integer("offset")]).token("GET"),
                block(
                    "write",
                    &[
                        one_of(
                            "wrap_sat_fail",
                            &[
                                pure_token("wrap", "WRAP"),
                                pure_token("sat", "SAT"),
                                pure_token("fail", "FAIL"),
                            ],
                        )
                        .token("OVERFLOW")
                        .optional(),
                        one_of(
                            "write_operation",
                            &[
                                block(
                                    "encoding_offset_value",
                                    &[string("encoding"), integer("offset"), integer("value")],
                                )
                                .token("SET"),
                                block(
                                    "encoding_offset_increment",
                                    &[string("encoding"), integer("offset"), integer("increment")],
                                )
                                .token("INCRBY"),
                            ],
                        ),
                    ],
                ),
            ],
        )
        .optional()
        .multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static BITFIELD_RO: Docs = Docs {
    summary: "Perform arbitrary bitfield integer operations on strings. Read-only variant of \
              BITFIELD",
    since: "6.0.0",
    group: Group::Bitmap,
    complexity: Some("O(1) for each subcommand specified"),
    arguments: &[
        key("key", 0),
        block("encoding_offset", &[string("encoding"), integer("offset")])
            .token("GET")
            .optional()
            .multiple()
            .multiple_token(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static BITOP: Docs = Docs {
    summary: "Perform bitwise operations between strings",
    since: "2.6.0",
    group: Group::Bitmap,
    complexity: Some("O(N)"),
    arguments: &[
        string("operation"),
        key("destkey", 0),
        key("key", 1).multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static BITPOS: Docs = Docs {
    summary: "Find first bit set or clear in a string",
    since: "2.8.7",
    group: Group::Bitmap,
    complexity: Some("O(N)"),
    history: &[("7.0.0", "Added the `BYTE|BIT` option.")],
    arguments: &[
        key("key", 0),
        integer("bit"),
        block(
            "index",
            &[
                integer("start"),
                block(
                    "end_index",
                    &[
                        integer("end"),
                        one_of(
                            "index_unit",
                            &[pure_token("byte", "BYTE"), pure_token("bit", "BIT")],
                        )
                        .since("7.0.0")
                        .optional(),
                    ],
                )
                .optional(),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static GETBIT: Docs = Docs {
    summary: "Returns the bit value at offset in the string value stored at key",
    since: "2.2.0",
    group: Group::Bitmap,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), integer("offset")],
    ..Docs::EMPTY
};

pub(in crate::command) static SETBIT: Docs = Docs {
    summary: "Sets or clears the bit at offset in the string value stored at key",
    since: "2.2.0",
    group: Group::Bitmap,
    complexity: Some("O(1)"),
    arguments: &[key("key", 0), integer("offset"), integer("value")],
    ..Docs::EMPTY
};
