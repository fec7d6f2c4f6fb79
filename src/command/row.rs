//! How a row of the table is written: short words for flags, short forms for key specs. Everything here runs at compile time.

use super::columns;
use super::spec::{BeginSearch, Categories, CommandSpec, FindKeys, Flags, KeyFlags, KeySpec};
use super::spec::{Output, RequestPolicy, ResponsePolicy, Tips};

/// No tips.
pub(super) const NO_TIPS: Tips = tips(RequestPolicy::None, ResponsePolicy::None, Output::Deterministic);

/// The tips of a row.
pub(super) const fn tips(request_policy: RequestPolicy, response_policy: ResponsePolicy, output: Output) -> Tips {
    Tips { request_policy, response_policy, output }
}

/// A row without subcommands.
pub(super) const fn row(name: &'static str, arity: i16, flags: u32, categories: u32, keys: &'static [KeySpec], tips: Tips) -> CommandSpec {
    CommandSpec {
        name,
        arity,
        flags: Flags::from_bits_retain(flags),
        own_categories: Categories::from_bits_retain(categories),
        keys,
        key_rule: columns::key_rule(name, keys),
        tips,
        handling: columns::handling(name, !keys.is_empty()),
        script_reply: columns::script_reply(name),
        subcommands: &[],
    }
}

/// A row with subcommands.
pub(super) const fn container(
    name: &'static str,
    arity: i16,
    flags: u32,
    categories: u32,
    keys: &'static [KeySpec],
    tips: Tips,
    subcommands: &'static [CommandSpec],
) -> CommandSpec {
    CommandSpec { subcommands, ..row(name, arity, flags, categories, keys, tips) }
}

/// One key, at `index`.
pub(super) const fn one(index: u8, flags: u16) -> KeySpec {
    range(index, 0, 1, flags)
}

/// Keys from `index` on.
pub(super) const fn range(index: u8, last_key: i8, step: u8, flags: u16) -> KeySpec {
    let find = FindKeys::Range { last_key, step, limit: 0 };
    KeySpec { flags: KeyFlags::from_bits_retain(flags), begin: BeginSearch::Index(index), find }
}

/// Keys whose number stands at `index`, right before them.
pub(super) const fn counted(index: u8, flags: u16) -> KeySpec {
    keynum(index, 0, 1, 1, flags)
}

/// Keys whose number stands somewhere after `begin`.
pub(super) const fn keynum(begin: u8, index: u8, first: u8, step: u8, flags: u16) -> KeySpec {
    let find = FindKeys::KeyNum { index, first, step };
    KeySpec { flags: KeyFlags::from_bits_retain(flags), begin: BeginSearch::Index(begin), find }
}

/// Keys after a word.
pub(super) const fn keyword(word: &'static str, start_from: i8, last_key: i8, step: u8, limit: u8, flags: u16) -> KeySpec {
    let find = FindKeys::Range { last_key, step, limit };
    KeySpec { flags: KeyFlags::from_bits_retain(flags), begin: BeginSearch::Keyword { word, start_from }, find }
}

/// Keys that only the command's own code finds.
pub(super) const fn unknown(flags: u16) -> KeySpec {
    KeySpec { flags: KeyFlags::from_bits_retain(flags), begin: BeginSearch::Unknown, find: FindKeys::Unknown }
}

/// Names each flag by itself, as a number: rows join them with `|`, which the flag types cannot do at compile time.
macro_rules! words {
    ($($kind:ident: $bits:ty { $($prefix:ident = $word:ident)* })*) => {$($(
        pub(super) const $prefix: $bits = $kind::$word.bits();
    )*)*};
}

/// No flag, no category.
pub(super) const NONE: u32 = 0;

words! {
    Flags: u32 {
        WRITE = WRITE
        READONLY = READONLY
        DENYOOM = DENYOOM
        ADMIN = ADMIN
        PUBSUB = PUBSUB
        NOSCRIPT = NOSCRIPT
        BLOCKING = BLOCKING
        LOADING = LOADING
        STALE = STALE
        SKIP_MONITOR = SKIP_MONITOR
        SKIP_SLOWLOG = SKIP_SLOWLOG
        FAST = FAST
        ASKING = ASKING
        NO_AUTH = NO_AUTH
        NO_MULTI = NO_MULTI
        MOVABLEKEYS = MOVABLEKEYS
        ALLOW_BUSY = ALLOW_BUSY
        NO_ASYNC_LOADING = NO_ASYNC_LOADING
        NO_MANDATORY_KEYS = NO_MANDATORY_KEYS
    }
    Categories: u32 {
        IN_ADMIN = ADMIN
        IN_BITMAP = BITMAP
        IN_CONNECTION = CONNECTION
        IN_DANGEROUS = DANGEROUS
        IN_GEO = GEO
        IN_HASH = HASH
        IN_HYPERLOGLOG = HYPERLOGLOG
        IN_KEYSPACE = KEYSPACE
        IN_LIST = LIST
        IN_SCRIPTING = SCRIPTING
        IN_SET = SET
        IN_SORTEDSET = SORTEDSET
        IN_STREAM = STREAM
        IN_STRING = STRING
        IN_TRANSACTION = TRANSACTION
    }
    KeyFlags: u16 {
        RO = RO
        RW = RW
        OW = OW
        RM = RM
        ACCESS = ACCESS
        UPDATE = UPDATE
        INSERT = INSERT
        DELETE = DELETE
        NOT_KEY = NOT_KEY
        INCOMPLETE = INCOMPLETE
        VARIABLE_FLAGS = VARIABLE_FLAGS
    }
}
