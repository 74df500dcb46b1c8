//! Geo commands: what COMMAND DOCS says of them.

use super::*;

pub(in crate::command) static GEOADD: Docs = Docs {
    summary: "Add one or more geospatial items in the geospatial index represented using a \
              sorted set",
    since: "3.2.0",
    group: Group::Geo,
    complexity: Some(
        "O(log(N)) for each item added, where N is the number of elements in the \
                      sorted set.",
    ),
    history: &[("6.2.0", "Added the `CH`, `NX` and `XX` options.")],
    arguments: &[
        key("key", 0),
        one_of(
            "condition",
            &[pure_token("nx", "NX"), pure_token("xx", "XX")],
        )
        .since("6.2.0")
        .optional(),
        pure_token("change", "CH").since("6.2.0").optional(),
        block(
            "longitude_latitude_member",
            &[double("longitude"), double("latitude"), string("member")],
        )
        .multiple(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static GEODIST: Docs = Docs {
    summary: "Returns the distance between two members of a geospatial index",
    since: "3.2.0",
    group: Group::Geo,
    complexity: Some("O(log(N))"),
    arguments: &[
        key("key", 0),
        string("member1"),
        string("member2"),
        one_of(
            "unit",
            &[
                pure_token("m", "M"),
                pure_token("km", "KM"),
                pure_token("ft", "FT"),
                pure_token("mi", "MI"),
            ],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static GEOHASH: Docs = Docs {
    summary: "Returns members of a geospatial index as standard geohash strings",
    since: "3.2.0",
    group: Group::Geo,
    complexity: Some(
        "O(log(N)) for each member requested, where N is the number of elements \
                      in the sorted set.",
    ),
    arguments: &[key("key", 0), string("member").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static GEOPOS: Docs = Docs {
    summary: "Returns longitude and latitude of members of a geospatial index",
    since: "3.2.0",
    group: Group::Geo,
    complexity: Some("O(N) where N is the number of members requested."),
    arguments: &[key("key", 0), string("member").multiple()],
    ..Docs::EMPTY
};

pub(in crate::command) static GEORADIUS: Docs = Docs {
    summary: "Query a sorted set representing a geospatial index to fetch members matching a \
              given maximum distance from a point",
    since: "3.2.0",
    group: Group::Geo,
    complexity: Some(
        "O(N+log(M)) where N is the number of elements inside the bounding box \
                      of the circular area delimited by center and radius and M is the number \
                      of items inside the index.",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument"),
    history: &[
        ("6.2.0", "Added the `ANY` option for `COUNT`."),
        ("7.0.0", "Added support for uppercase unit names."),
    ],
    arguments: &[
        key("key", 0),
        double("longitude"),
        double("latitude"),
        double("radius"),
        one_of(
            "unit",
            &[
                pure_token("m", "M"),
                pure_token("km", "KM"),
                pure_token("ft", "FT"),
                pure_token("mi", "MI"),
            ],
        ),
        pure_token("withcoord", "WITHCOORD").optional(),
        pure_token("withdist", "WITHDIST").optional(),
        pure_token("withhash", "WITHHASH").optional(),
        block(
            "count",
            &[
                integer("count").token("COUNT"),
                pure_token("any", "ANY").since("6.2.0").optional(),
            ],
        )
        .optional(),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
        key("key", 1).token("STORE").optional(),
        key("key", 2).token("STOREDIST").optional(),
    ],
};

pub(in crate::command) static GEORADIUS_RO: Docs = Docs {
    summary: "A read-only variant for GEORADIUS",
    since: "3.2.10",
    group: Group::Geo,
    complexity: Some(
        "O(N+log(M)) where N is the number of elements inside the bounding box \
                      of the circular area delimited by center and radius and M is the number \
                      of items inside the index.",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`GEOSEARCH` with the `BYRADIUS` argument"),
    history: &[("6.2.0", "Added the `ANY` option for `COUNT`.")],
    arguments: &[
        key("key", 0),
        double("longitude"),
        double("latitude"),
        double("radius"),
        one_of(
            "unit",
            &[
                pure_token("m", "M"),
                pure_token("km", "KM"),
                pure_token("ft", "FT"),
                pure_token("mi", "MI"),
            ],
        ),
        pure_token("withcoord", "WITHCOORD").optional(),
        pure_token("withdist", "WITHDIST").optional(),
        pure_token("withhash", "WITHHASH").optional(),
        block(
            "count",
            &[
                integer("count").token("COUNT"),
                pure_token("any", "ANY").since("6.2.0").optional(),
            ],
        )
        .optional(),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
    ],
};

pub(in crate::command) static GEORADIUSBYMEMBER: Docs = Docs {
    summary: "Query a sorted set representing a geospatial index to fetch members matching a \
              given maximum distance from a member",
    since: "3.2.0",
    group: Group::Geo,
    complexity: Some(
        "O(N+log(M)) where N is the number of elements inside the bounding box \
                      of the circular area delimited by center and radius and M is the number \
                      of items inside the index.",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some(
        "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` \
                       arguments",
    ),
    history: &[("7.0.0", "Added support for uppercase unit names.")],
    arguments: &[
        key("key", 0),
        string("member"),
        double("radius"),
        one_of(
            "unit",
            &[
                pure_token("m", "M"),
                pure_token("km", "KM"),
                pure_token("ft", "FT"),
                pure_token("mi", "MI"),
            ],
        ),
        pure_token("withcoord", "WITHCOORD").optional(),
        pure_token("withdist", "WITHDIST").optional(),
        pure_token("withhash", "WITHHASH").optional(),
        block(
            "count",
            &[
                integer("count").token("COUNT"),
                pure_token("any", "ANY").optional(),
            ],
        )
        .optional(),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
        key("key", 1).token("STORE").optional(),
        key("key", 2).token("STOREDIST").optional(),
    ],
};

pub(in crate::command) static GEORADIUSBYMEMBER_RO: Docs = Docs {
    summary: "A read-only variant for GEORADIUSBYMEMBER",
    since: "3.2.10",
    group: Group::Geo,
    complexity: Some(
        "O(N+log(M)) where N is the number of elements inside the bounding box \
                      of the circular area delimited by center and radius and M is the number \
                      of items inside the index.",
    ),
    doc_flags: doc_flags![DEPRECATED],
    deprecated_since: Some("6.2.0"),
    replaced_by: Some("`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments"),
    arguments: &[
        key("key", 0),
        string("member"),
        double("radius"),
        one_of(
            "unit",
            &[
                pure_token("m", "M"),
                pure_token("km", "KM"),
                pure_token("ft", "FT"),
                pure_token("mi", "MI"),
            ],
        ),
        pure_token("withcoord", "WITHCOORD").optional(),
        pure_token("withdist", "WITHDIST").optional(),
        pure_token("withhash", "WITHHASH").optional(),
        block(
            "count",
            &[
                integer("count").token("COUNT"),
                pure_token("any", "ANY").optional(),
            ],
        )
        .optional(),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static GEOSEARCH: Docs = Docs {
    summary: "Query a sorted set representing a geospatial index to fetch members inside an \
              area of a box or a circle.",
    since: "6.2.0",
    group: Group::Geo,
    complexity: Some(
        "O(N+log(M)) where N is the number of elements in the grid-aligned \
                      bounding box area around the shape provided as the filter and M is the \
                      number of items inside the shape",
    ),
    history: &[("7.0.0", "Added support for uppercase unit names.")],
    arguments: &[
        key("key", 0),
        one_of(
            "from",
            &[
                string("member").token("FROMMEMBER"),
                block(
                    "longitude_latitude",
                    &[double("longitude"), double("latitude")],
                )
                .token("FROMLONLAT"),
            ],
        ),
        one_of(
            "by",
            &[
                block(
                    "circle",
                    &[
                        double("radius").token("BYRADIUS"),
                        one_of(
                            "unit",
                            &[
                                pure_token("m", "M"),
                                pure_token("km", "KM"),
                                pure_token("ft", "FT"),
                                pure_token("mi", "MI"),
                            ],
                        ),
                    ],
                ),
                block(
                    "box",
                    &[
                        double("width").token("BYBOX"),
                        double("height"),
                        one_of(
                            "unit",
                            &[
                                pure_token("m", "M"),
                                pure_token("km", "KM"),
                                pure_token("ft", "FT"),
                                pure_token("mi", "MI"),
                            ],
                        ),
                    ],
                ),
            ],
        ),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
        block(
            "count",
            &[
                integer("count").token("COUNT"),
                pure_token("any", "ANY").optional(),
            ],
        )
        .optional(),
        pure_token("withcoord", "WITHCOORD").optional(),
        pure_token("withdist", "WITHDIST").optional(),
        pure_token("withhash", "WITHHASH").optional(),
    ],
    ..Docs::EMPTY
};

pub(in crate::command) static GEOSEARCHSTORE: Docs = Docs {
    summary: "Query a sorted set representing a geospatial index to fetch members inside an \
              area of a box or a circle, and store the result in another key.",
    since: "6.2.0",
    group: Group::Geo,
    complexity: Some(
        "O(N+log(M)) where N is the number of elements in the grid-aligned \
                      bounding box area around the shape provided as the filter and M is the \
                      number of items inside the shape",
    ),
    history: &[("7.0.0", "Added support for uppercase unit names.")],
    arguments: &[
        key("destination", 0),
        key("source", 1),
        one_of(
            "from",
            &[
                string("member").token("FROMMEMBER"),
                block(
                    "longitude_latitude",
                    &[double("longitude"), double("latitude")],
                )
                .token("FROMLONLAT"),
            ],
        ),
        one_of(
            "by",
            &[
                block(
                    "circle",
                    &[
                        double("radius").token("BYRADIUS"),
                        one_of(
                            "unit",
                            &[
                                pure_token("m", "M"),
                                pure_token("km", "KM"),
                                pure_token("ft", "FT"),
                                pure_token("mi", "MI"),
                            ],
                        ),
                    ],
                ),
                block(
                    "box",
                    &[
                        double("width").token("BYBOX"),
                        double("height"),
                        one_of(
                            "unit",
                            &[
                                pure_token("m", "M"),
                                pure_token("km", "KM"),
                                pure_token("ft", "FT"),
                                pure_token("mi", "MI"),
                            ],
                        ),
                    ],
                ),
            ],
        ),
        one_of(
            "order",
            &[pure_token("asc", "ASC"), pure_token("desc", "DESC")],
        )
        .optional(),
        block(
            "count",
            &[
                integer("count").token("COUNT"),
                pure_token("any", "ANY").optional(),
            ],
        )
        .optional(),
        pure_token("storedist", "STOREDIST").optional(),
    ],
    ..Docs::EMPTY
};
