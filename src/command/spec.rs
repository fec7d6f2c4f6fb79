//! The columns of the command table, in the words of Redis's `src/commands/*.json`.

use bitflags::bitflags;

use super::columns::{Handling, ScriptReply, SplitKind};
use super::keys::KeyRule;

/// One command, or one subcommand of a container.
#[derive(Debug)]
pub struct CommandSpec {
    /// In lower case; a subcommand is written `container|subcommand`.
    pub name: &'static str,
    /// How many arguments there must be, the name included; negative: at least that many.
    pub arity: i16,
    /// What servers know about the command as a whole.
    pub flags: Flags,
    /// ACL categories beyond those that follow from the flags; [`CommandSpec::categories`] has all.
    pub own_categories: Categories,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// How they are found.
    pub(super) key_rule: KeyRule,
    /// What a client should know before it sends the command to a cluster.
    pub tips: Tips,
    /// What weft does with it.
    pub handling: Handling,
    /// Whether its reply survives a Lua script.
    pub script_reply: ScriptReply,
    /// Its subcommands, if it is a container, sorted by name.
    pub subcommands: &'static [CommandSpec],
}

impl CommandSpec {
    /// Whether a request of `argc` arguments, the name included, has enough of them and not too many.
    pub const fn admits(&self, argc: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { argc >= least } else { argc == least }
    }

    /// Whether it may change the keyspace.
    pub const fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }

    /// Of which class it is where its keys are on several participants.
    pub const fn multi_key_class(&self) -> MultiKeyClass {
        match (self.handling, self.key_rule) {
            (Handling::Split(SplitKind::Pairs | SplitKind::PairsIfAbsent), _) => MultiKeyClass::Writes,
            (Handling::Split(SplitKind::Values | SplitKind::Count), _) if !self.is_write() => MultiKeyClass::Reads,
            (Handling::Split(_), _) => MultiKeyClass::Deletes,
            (Handling::Script, _) => MultiKeyClass::Scripts,
            (_, KeyRule::Streams) => MultiKeyClass::Reads,
            _ => MultiKeyClass::Computed,
        }
    }

    /// All ACL categories of the command, as a server derives them.
    pub fn categories(&self) -> Categories {
        let mut all = self.own_categories;
        for (flag, category) in [
            (Flags::WRITE, Categories::WRITE),
            (Flags::PUBSUB, Categories::PUBSUB),
            (Flags::BLOCKING, Categories::BLOCKING),
            (Flags::ADMIN, Categories::ADMIN | Categories::DANGEROUS),
        ] {
            if self.flags.contains(flag) {
                all |= category;
            }
        }
        if self.flags.contains(Flags::READONLY) && !all.contains(Categories::SCRIPTING) {
            all |= Categories::READ;
        }
        all | if self.flags.contains(Flags::FAST) { Categories::FAST } else { Categories::SLOW }
    }
}

/// What people tell apart where a command's keys are on several participants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiKeyClass {
    /// Reads each key for itself.
    Reads,
    /// Writes each key for itself.
    Writes,
    /// Deletes each key for itself.
    Deletes,
    /// Needs values of one participant at another.
    Computed,
    /// A user's script.
    Scripts,
}

bitflags! {
    /// What a server knows about a command as a whole. A name in lower case is the word that `COMMAND` uses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// May change the keyspace.
        const WRITE = 1;
        /// Reads keys and changes nothing.
        const READONLY = 1 << 1;
        /// Refused when memory is full.
        const DENYOOM = 1 << 2;
        /// For administrators.
        const ADMIN = 1 << 3;
        /// Belongs to publish and subscribe.
        const PUBSUB = 1 << 4;
        /// Not allowed in scripts.
        const NOSCRIPT = 1 << 5;
        /// May wait for something that has not happened yet.
        const BLOCKING = 1 << 6;
        /// Allowed while the server loads its data.
        const LOADING = 1 << 7;
        /// Allowed on a replica that lost its primary.
        const STALE = 1 << 8;
        /// Not shown to `MONITOR`.
        const SKIP_MONITOR = 1 << 9;
        /// Not kept in the slow log (Valkey: `skip_commandlog`).
        const SKIP_SLOWLOG = 1 << 10;
        /// Allowed on an importing slot without `ASKING`.
        const ASKING = 1 << 11;
        /// Takes constant or logarithmic time.
        const FAST = 1 << 12;
        /// Allowed before authentication.
        const NO_AUTH = 1 << 13;
        /// Not allowed in a transaction.
        const NO_MULTI = 1 << 14;
        /// Its keys are not at a fixed place.
        const MOVABLEKEYS = 1 << 15;
        /// Allowed while a script runs for too long.
        const ALLOW_BUSY = 1 << 16;
        /// Refused during asynchronous loading.
        const NO_ASYNC_LOADING = 1 << 17;
        /// May name no key although it has key specs.
        const NO_MANDATORY_KEYS = 1 << 18;
    }

    /// The ACL categories.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Categories: u32 {
        /// `@keyspace`
        const KEYSPACE = 1;
        /// `@read`
        const READ = 1 << 1;
        /// `@write`
        const WRITE = 1 << 2;
        /// `@set`
        const SET = 1 << 3;
        /// `@sortedset`
        const SORTEDSET = 1 << 4;
        /// `@list`
        const LIST = 1 << 5;
        /// `@hash`
        const HASH = 1 << 6;
        /// `@string`
        const STRING = 1 << 7;
        /// `@bitmap`
        const BITMAP = 1 << 8;
        /// `@hyperloglog`
        const HYPERLOGLOG = 1 << 9;
        /// `@geo`
        const GEO = 1 << 10;
        /// `@stream`
        const STREAM = 1 << 11;
        /// `@pubsub`
        const PUBSUB = 1 << 12;
        /// `@admin`
        const ADMIN = 1 << 13;
        /// `@fast`
        const FAST = 1 << 14;
        /// `@slow`
        const SLOW = 1 << 15;
        /// `@blocking`
        const BLOCKING = 1 << 16;
        /// `@dangerous`
        const DANGEROUS = 1 << 17;
        /// `@connection`
        const CONNECTION = 1 << 18;
        /// `@transaction`
        const TRANSACTION = 1 << 19;
        /// `@scripting`
        const SCRIPTING = 1 << 20;
    }

    /// What a command does with the keys of one key spec.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct KeyFlags: u16 {
        /// Reads the value.
        const RO = 1;
        /// Changes the value.
        const RW = 1 << 1;
        /// Overwrites the value without looking at it.
        const OW = 1 << 2;
        /// Removes the key.
        const RM = 1 << 3;
        /// Returns, copies or otherwise uses the user's data.
        const ACCESS = 1 << 4;
        /// Replaces the user's data.
        const UPDATE = 1 << 5;
        /// Adds data, without changing or deleting any.
        const INSERT = 1 << 6;
        /// Deletes the user's data.
        const DELETE = 1 << 7;
        /// Not a key: only routed like one (a channel).
        const NOT_KEY = 1 << 8;
        /// The spec does not find all the keys.
        const INCOMPLETE = 1 << 9;
        /// What really happens depends on other arguments.
        const VARIABLE_FLAGS = 1 << 10;
    }
}

/// How to find some of a command's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What is done with them.
    pub flags: KeyFlags,
    /// Where they begin.
    pub begin: BeginSearch,
    /// How they go on from there.
    pub find: FindKeys,
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    /// At this argument.
    Index(u8),
    /// After a word.
    Keyword {
        /// In upper case; requests may write it in any.
        word: &'static str,
        /// The first argument that may be the word; negative: counted from the end, and searched backwards.
        start_from: i8,
    },
    /// Nobody can say.
    Unknown,
}

/// Which arguments are keys, seen from where the search began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// One at a fixed distance after the other.
    Range {
        /// The last one, relative to the first; negative: relative to the number of arguments.
        last_key: i8,
        /// The distance.
        step: u8,
        /// Only the first `1/limit` of the remaining arguments, when above 1.
        limit: u8,
    },
    /// As many as an argument says.
    KeyNum {
        /// Where the number is.
        index: u8,
        /// Where the first key is.
        first: u8,
        /// The distance between keys.
        step: u8,
    },
    /// Nobody can say.
    Unknown,
}

/// Redis's command tips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tips {
    /// Which nodes of a cluster the command concerns.
    pub request_policy: RequestPolicy,
    /// How their replies become one.
    pub response_policy: ResponsePolicy,
    /// Whether the same command on the same data gives the same reply.
    pub output: Output,
}

/// Which nodes a command concerns when it is not a matter of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPolicy {
    /// By its keys, or any node.
    None,
    /// All nodes, replicas too.
    AllNodes,
    /// All primaries.
    AllShards,
    /// The primaries of its keys, each with its part.
    MultiShard,
    /// Something else.
    Special,
}

/// How the replies of several nodes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponsePolicy {
    /// In the order of the keys, or any order.
    None,
    /// Success if one succeeded.
    OneSucceeded,
    /// Success if all succeeded.
    AllSucceeded,
    /// Logical and.
    AggLogicalAnd,
    /// Logical or.
    AggLogicalOr,
    /// The least.
    AggMin,
    /// The greatest.
    AggMax,
    /// The sum.
    AggSum,
    /// Something else.
    Special,
}

/// Whether a command's reply is a function of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is.
    Deterministic,
    /// It is not.
    Nondeterministic,
    /// It is, but for the order of its elements.
    NondeterministicOrder,
}
