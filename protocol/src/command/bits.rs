//! The small sets of a command's facts: flags, ACL categories, key flags.
//!
//! The order of `NAMES` is the order in which Redis lists the members in a
//! reply. Bit values are this program's own and are never stored.

macro_rules! bitset {
    (
        $(#[$meta:meta])*
        $set:ident($repr:ty) { $($(#[$member_meta:meta])* $member:ident = $bit:expr,)* }
        names { $($named:ident = $text:expr,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $set($repr);

        impl $set {
            pub const NONE: Self = Self(0);
            $($(#[$member_meta])* pub const $member: Self = Self(1 << $bit);)*

            /// The members that replies show, in reply order.
            pub const NAMES: &'static [(Self, &'static str)] = &[$((Self::$named, $text)),*];

            pub const fn bits(self) -> $repr {
                self.0
            }

            /// The members of both.
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether all members of `other` are here.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any member of `other` is here.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The shown names of the members, in reply order.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMES
                    .iter()
                    .filter(move |(member, _)| self.contains(*member))
                    .map(|(_, name)| *name)
            }

            /// The member of that shown name, whatever the case of its letters.
            pub fn from_name(name: &[u8]) -> Option<Self> {
                Self::NAMES
                    .iter()
                    .find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name))
                    .map(|(member, _)| *member)
            }
        }

        impl std::ops::BitOr for $set {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }
    };
}

bitset! {
    /// How a command behaves towards the server that runs it.
    Flags(u32) {
        /// May change the data set.
        WRITE = 0,
        /// Reads keys and changes none.
        READONLY = 1,
        /// May grow memory: refused when the memory limit is reached.
        DENYOOM = 2,
        ADMIN = 3,
        PUBSUB = 4,
        /// Not callable from scripts.
        NOSCRIPT = 5,
        /// May block its client.
        BLOCKING = 6,
        /// Allowed while the data set is being loaded.
        LOADING = 7,
        /// Allowed on a replica that serves stale data.
        STALE = 8,
        SKIP_MONITOR = 9,
        SKIP_SLOWLOG = 10,
        /// Behaves as if ASKING preceded it.
        ASKING = 11,
        FAST = 12,
        /// Allowed before authentication.
        NO_AUTH = 13,
        /// May have effects although it is no write (PUBLISH, EVAL). Not shown.
        MAY_REPLICATE = 14,
        /// Legal without any key, although it has key positions.
        NO_MANDATORY_KEYS = 15,
        /// Needs its own permission in the configuration (DEBUG). Not shown.
        PROTECTED = 16,
        NO_ASYNC_LOADING = 17,
        /// Not allowed inside MULTI.
        NO_MULTI = 18,
        /// `first_key`, `last_key` and `step` do not tell all keys.
        MOVABLEKEYS = 19,
        /// Allowed while a script has run past its time limit.
        ALLOW_BUSY = 20,
        /// May modify keys that its arguments do not name. Not shown.
        TOUCHES_ARBITRARY_KEYS = 21,
    }
    names {
        WRITE = "write",
        READONLY = "readonly",
        DENYOOM = "denyoom",
        ADMIN = "admin",
        PUBSUB = "pubsub",
        NOSCRIPT = "noscript",
        BLOCKING = "blocking",
        LOADING = "loading",
        STALE = "stale",
        SKIP_MONITOR = "skip_monitor",
        SKIP_SLOWLOG = "skip_slowlog",
        ASKING = "asking",
        FAST = "fast",
        NO_AUTH = "no_auth",
        NO_MANDATORY_KEYS = "no_mandatory_keys",
        NO_ASYNC_LOADING = "no_async_loading",
        NO_MULTI = "no_multi",
        MOVABLEKEYS = "movablekeys",
        ALLOW_BUSY = "allow_busy",
    }
}

bitset! {
    /// The ACL categories of a command; a category's name has no `@` here.
    AclCategories(u32) {
        KEYSPACE = 0,
        READ = 1,
        WRITE = 2,
        SET = 3,
        SORTEDSET = 4,
        LIST = 5,
        HASH = 6,
        STRING = 7,
        BITMAP = 8,
        HYPERLOGLOG = 9,
        GEO = 10,
        STREAM = 11,
        PUBSUB = 12,
        ADMIN = 13,
        FAST = 14,
        SLOW = 15,
        BLOCKING = 16,
        DANGEROUS = 17,
        CONNECTION = 18,
        TRANSACTION = 19,
        SCRIPTING = 20,
    }
    names {
        KEYSPACE = "keyspace",
        READ = "read",
        WRITE = "write",
        SET = "set",
        SORTEDSET = "sortedset",
        LIST = "list",
        HASH = "hash",
        STRING = "string",
        BITMAP = "bitmap",
        HYPERLOGLOG = "hyperloglog",
        GEO = "geo",
        STREAM = "stream",
        PUBSUB = "pubsub",
        ADMIN = "admin",
        FAST = "fast",
        SLOW = "slow",
        BLOCKING = "blocking",
        DANGEROUS = "dangerous",
        CONNECTION = "connection",
        TRANSACTION = "transaction",
        SCRIPTING = "scripting",
    }
}

bitset! {
    /// What a command does to a key. The first four say what becomes of the
    /// value as a whole, the next four what becomes of the user's data in it.
    KeyFlags(u16) {
        /// Reads the value only.
        RO = 0,
        /// Modifies the value.
        RW = 1,
        /// Overwrites the value without looking at it.
        OW = 2,
        /// Deletes the key.
        RM = 3,
        /// Returns, copies or uses the user's data.
        ACCESS = 4,
        /// Changes data, the new value may depend on the old.
        UPDATE = 5,
        /// Adds data, changes and deletes none.
        INSERT = 6,
        /// Deletes content of the value.
        DELETE = 7,
        /// No key, but routed as one (a shard channel).
        NOT_KEY = 8,
        /// The spec may miss some keys.
        INCOMPLETE = 9,
        /// The flags depend on other arguments.
        VARIABLE_FLAGS = 10,
    }
    names {
        RO = "RO",
        RW = "RW",
        OW = "OW",
        RM = "RM",
        ACCESS = "access",
        UPDATE = "update",
        INSERT = "insert",
        DELETE = "delete",
        NOT_KEY = "not_key",
        INCOMPLETE = "incomplete",
        VARIABLE_FLAGS = "variable_flags",
    }
}

bitset! {
    /// Remarks on a command as a whole.
    DocFlags(u8) {
        DEPRECATED = 0,
        /// For the system's own use, not for applications.
        SYSCMD = 1,
    }
    names {
        DEPRECATED = "deprecated",
        SYSCMD = "syscmd",
    }
}
