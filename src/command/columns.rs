//! weft's own columns of the command table: what becomes of a command, and whether its reply survives a Lua script.
//!
//! Written by hand, joined to the generated rows at compile time by name. A command with keys that is not listed under handling is
//! [`Handling::Keyed`]; one without keys that is not listed does not compile, so nothing is routed by a guess. A command that is not
//! listed under script replies runs natively, which is always right and merely slower.

use super::keys::{self, KeyRule};
use super::spec::KeySpec;
use crate::resp::{Proto, Request, error_reply};

/// What weft does with a command. The session has one arm for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Goes where its keys are; they must all lie in one participant.
    Keyed,
    /// Works over keys of several participants.
    Split(SplitKind),
    /// Takes an element from one key and adds it to another, which may be at another participant.
    Move,
    /// Waits until one of its keys has something.
    Blocking,
    /// A user's script or function: goes where its keys are, on a leased connection. One over several participants runs on copies.
    Script,
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
    Transaction,
    /// Publish and subscribe.
    PubSub,
    /// weft answers it itself.
    Local,
    /// The answer is the same from every server, so that any may give it.
    AnyShard,
    /// Goes to every shard; its response policy says how the replies become one.
    Everywhere,
    /// Is about all keys of all shards, but for weft's own.
    Keyspace(Survey),
    /// Answers this error, as a server does that has the feature switched off.
    Disabled(&'static str),
    /// Not there yet. The text says what is missing and fits into an error reply.
    Later(&'static str),
    /// Has no meaning behind a proxy, and never will. The text says why and fits into an error reply.
    Refused(&'static str),
}

/// How a command over several participants is divided, and its replies put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitKind {
    /// MGET: keys; values in the order of the keys.
    Values,
    /// MSET: pairs of key and value; one status.
    Pairs,
    /// MSETNX: pairs, written only if no key exists; 1 or 0.
    PairsIfAbsent,
    /// DEL, UNLINK, EXISTS, TOUCH: keys; the sum of the counts.
    Count,
}

/// What a command wants to know about all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survey {
    /// DBSIZE: how many there are.
    Size,
    /// KEYS: those whose names match.
    Names,
    /// RANDOMKEY: any of them.
    Random,
    /// SCAN: some of them, and where to go on.
    Scan,
}

/// Whether the reply of a command called from Lua and returned (`return redis.pcall(...)`, after `redis.setresp(3)` for RESP3 clients)
/// is, byte for byte, the reply it gives natively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptReply {
    /// Always.
    Exact,
    /// With at most so many arguments, the name included.
    ExactUpTo(u8),
    /// Over RESP2 always; over RESP3 unless an argument is this word (in upper case here).
    ExactUnless(&'static str),
    /// Over RESP2 only: over RESP3 it has doubles, maps, sets, or nulls inside an array.
    ExactInResp2,
    /// An integer that may lie beyond ±2^53, where Lua loses digits. The script then reads it again.
    WideInteger(ReRead),
    /// Not always, or not known: must run natively.
    Native,
}

impl ScriptReply {
    /// What holds for this request: one of `Exact`, `WideInteger` and `Native`.
    pub fn of(self, request: &Request, proto: Proto) -> Self {
        let exact = match self {
            Self::Exact | Self::WideInteger(_) | Self::Native => return self,
            Self::ExactUpTo(argc) => request.argc() <= usize::from(argc),
            Self::ExactUnless(word) => proto == Proto::Resp2 || !request.args_from(1).any(|arg| arg.eq_ignore_ascii_case(word.as_bytes())),
            Self::ExactInResp2 => proto == Proto::Resp2,
        };
        if exact { Self::Exact } else { Self::Native }
    }
}

/// How a script finds all the digits of an integer that it has just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReRead {
    /// `GET key`
    String,
    /// `HGET key field`
    HashField,
}

/// The handling of the command `name`.
pub(super) const fn handling(name: &str, has_keys: bool) -> Handling {
    match find(name, HANDLING) {
        Some(handling) => handling,
        None if has_keys => Handling::Keyed,
        #[expect(clippy::panic, reason = "runs at compile time")]
        None => panic!("a command without keys needs a line in HANDLING"),
    }
}

/// What a script does to the reply of the command `name`.
pub(super) const fn script_reply(name: &str) -> ScriptReply {
    match find(name, SCRIPT_REPLY) {
        Some(reply) => reply,
        None => ScriptReply::Native,
    }
}

/// How the keys of the command `name` are found.
pub(super) const fn key_rule(name: &str, specs: &[KeySpec]) -> KeyRule {
    match find(name, KEY_RULES) {
        Some(rule) => rule,
        None => keys::rule(specs),
    }
}

/// The value in whose line `name` stands.
const fn find<T: Copy>(name: &str, lines: &[(T, &[&str])]) -> Option<T> {
    let mut line = 0;
    while line < lines.len() {
        let mut column = 0;
        while column < lines[line].1.len() {
            if same(name, lines[line].1[column]) {
                return Some(lines[line].0);
            }
            column += 1;
        }
        line += 1;
    }
    None
}

const fn same(one: &str, other: &str) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one.as_bytes()[at] != other.as_bytes()[at] {
            return false;
        }
        at += 1;
    }
    true
}

const CLIENTS: Handling = Handling::Later("what only some servers have");
const USERS: Handling = Handling::Refused("there is one user, set by weft's file");

const TOPOLOGY: Handling = Handling::Refused("the topology is the shards' own");
const REPLICATION: Handling = Handling::Refused("a proxy takes no part in replication");
const PROCESS: Handling = Handling::Refused("a client does not stop servers behind a proxy");
const CONFIGURATION: Handling = Handling::Refused("the shards are configured each for itself, weft by its file");
const DIAGNOSIS: Handling = Handling::Refused("it looks into one server; ask the shard itself");

const CLUSTER: Handling = Handling::Disabled(error_reply::CLUSTER_DISABLED);
const DEBUG: Handling = Handling::Disabled(error_reply::DEBUG_DISABLED);
const MODULES: Handling = Handling::Disabled(error_reply::MODULES_DISABLED);

pub(super) const HANDLING: &[(Handling, &[&str])] = &[
    (Handling::Split(SplitKind::Values), &["mget"]),
    (Handling::Split(SplitKind::Pairs), &["mset"]),
    (Handling::Split(SplitKind::PairsIfAbsent), &["msetnx"]),
    (Handling::Split(SplitKind::Count), &["del", "unlink", "exists", "touch"]),
    (Handling::Script, &["eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"]),
    (Handling::Transaction, &["multi", "exec", "discard", "watch", "unwatch"]),
    (Handling::Local, &["ping", "echo", "hello", "auth", "select", "quit", "reset", "info", "time"]),
    (Handling::AnyShard, &["command", "command|count", "command|info", "command|list", "command|getkeys", "command|getkeysandflags"]),
    (Handling::Local, &["client", "client|id", "client|getname", "client|setname", "client|setinfo", "client|info", "client|list"]),
    (Handling::Local, &["client|reply", "client|no-evict", "client|no-touch", "client|unblock"]),
    (Handling::Local, &["client|kill", "client|pause", "client|unpause"]),
    (Handling::AnyShard, &["lolwut", "pfselftest", "command|docs", "command|help", "client|help"]),
    (Handling::AnyShard, &["object", "object|help", "xgroup", "xgroup|help", "xinfo", "xinfo|help", "memory", "memory|help"]),
    (Handling::Move, &["lmove", "rpoplpush"]),
    (Handling::Blocking, &["blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin"]),
    (Handling::PubSub, &["publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "spublish", "ssubscribe", "sunsubscribe"]),
    (Handling::PubSub, &["pubsub", "pubsub|channels", "pubsub|help", "pubsub|numpat", "pubsub|numsub", "pubsub|shardchannels"]),
    (Handling::PubSub, &["pubsub|shardnumsub"]),
    (Handling::Keyspace(Survey::Size), &["dbsize"]),
    (Handling::Keyspace(Survey::Names), &["keys"]),
    (Handling::Keyspace(Survey::Random), &["randomkey"]),
    (Handling::Keyspace(Survey::Scan), &["scan"]),
    (Handling::Everywhere, &["flushall", "flushdb", "memory|purge", "config|resetstat"]),
    (Handling::Everywhere, &["script|exists", "script|flush", "script|kill", "script|load"]),
    (Handling::Everywhere, &["function|delete", "function|flush", "function|kill", "function|load", "function|restore", "function|stats"]),
    (Handling::Everywhere, &["slowlog|get", "slowlog|len", "slowlog|reset", "latency|reset"]),
    (Handling::Everywhere, &["wait", "waitaof", "save", "bgsave", "bgrewriteaof", "lastsave", "swapdb"]),
    (Handling::Everywhere, &["commandlog|get", "commandlog|len", "commandlog|reset"]),
    (Handling::AnyShard, &["script", "script|help", "function", "function|help", "function|dump", "function|list"]),
    (Handling::AnyShard, &["config", "config|help", "slowlog", "slowlog|help", "commandlog", "commandlog|help", "latency", "latency|help"]),
    (Handling::AnyShard, &["acl", "acl|help", "acl|cat", "acl|genpass", "module", "module|help"]),
    (Handling::Local, &["config|get", "config|set", "role", "acl|whoami", "acl|users", "acl|list", "module|list"]),
    (Handling::Local, &["client|caching", "client|getredir", "client|tracking", "client|trackinginfo"]),
    (Handling::Local, &["monitor", "weft", "weft|help", "weft|txn"]),
    (DIAGNOSIS, &["script|debug", "script|show", "latency|doctor", "latency|graph", "latency|histogram", "latency|history"]),
    (DIAGNOSIS, &["latency|latest", "memory|doctor", "memory|malloc-stats", "memory|stats"]),
    (CONFIGURATION, &["config|rewrite"]),
    (DEBUG, &["debug"]),
    (CLIENTS, &["client|capa", "client|import-source"]),
    (Handling::Local, &["acl|deluser", "acl|dryrun", "acl|getuser", "acl|load", "acl|log", "acl|save"]),
    (USERS, &["acl|setuser"]),
    (CLUSTER, &["cluster", "cluster|addslots", "cluster|addslotsrange", "cluster|bumpepoch", "cluster|cancelslotmigrations"]),
    (CLUSTER, &["cluster|count-failure-reports", "cluster|countkeysinslot", "cluster|delslots", "cluster|delslotsrange"]),
    (CLUSTER, &["cluster|failover", "cluster|flushslot", "cluster|flushslots", "cluster|forget", "cluster|getkeysinslot"]),
    (CLUSTER, &["cluster|getslotmigrations", "cluster|help", "cluster|info", "cluster|keyslot", "cluster|links"]),
    (CLUSTER, &["cluster|meet", "cluster|migrateslots", "cluster|myid", "cluster|myshardid", "cluster|nodes"]),
    (CLUSTER, &["cluster|replicas", "cluster|replicate", "cluster|reset", "cluster|saveconfig", "cluster|set-config-epoch"]),
    (CLUSTER, &["cluster|setslot", "cluster|shards", "cluster|slaves", "cluster|slot-stats", "cluster|slots"]),
    (CLUSTER, &["cluster|syncslots", "clusterscan", "asking", "readonly", "readwrite"]),
    (TOPOLOGY, &["migrate", "restore-asking", "failover"]),
    (REPLICATION, &["replicaof", "slaveof", "replconf", "psync", "sync"]),
    (MODULES, &["module|load", "module|loadex", "module|unload"]),
    (PROCESS, &["shutdown"]),
];

/// Found by running each command natively and from Lua, over RESP2 and RESP3, against Redis 7.0 and Valkey 9, in the states that give
/// different kinds of replies; a test does it again. What is missing here and why: commands that only one of the two knows (an unknown
/// command's error reads differently from Lua); TTL and its kin (beyond 2^53, nothing to read again); SORT (GET gives nulls, and from Lua
/// a set comes sorted); LMPOP, ZMPOP, GEOPOS, XREAD, XPENDING (null arrays); BITFIELD (wide integers, and nulls).
pub(super) const SCRIPT_REPLY: &[(ScriptReply, &[&str])] = &[
    (ScriptReply::Exact, &["copy", "del", "dump", "exists", "expire", "expireat", "persist", "pexpire", "pexpireat", "rename"]),
    (ScriptReply::Exact, &["renamenx", "restore", "touch", "type", "unlink", "memory|usage"]),
    (ScriptReply::Exact, &["object|encoding", "object|freq", "object|idletime", "object|refcount"]),
    (ScriptReply::Exact, &["append", "get", "getdel", "getex", "getrange", "getset", "incrbyfloat", "mset", "msetnx", "psetex", "set"]),
    (ScriptReply::Exact, &["setex", "setnx", "setrange", "strlen", "substr", "bitcount", "bitop", "bitpos", "getbit", "setbit"]),
    (ScriptReply::Exact, &["hdel", "hexists", "hget", "hincrbyfloat", "hkeys", "hlen", "hmset", "hscan", "hset", "hsetnx", "hstrlen"]),
    (ScriptReply::Exact, &["hvals", "lindex", "linsert", "llen", "lmove", "lpos", "lpush", "lpushx", "lrange", "lrem", "lset", "ltrim"]),
    (ScriptReply::Exact, &["rpoplpush", "rpush", "rpushx", "pfadd", "pfcount", "pfmerge"]),
    (ScriptReply::Exact, &["sadd", "scard", "sdiffstore", "sintercard", "sinterstore", "sismember", "smismember", "smove", "srem"]),
    (ScriptReply::Exact, &["sscan", "sunionstore", "geoadd", "geodist", "geosearchstore"]),
    (ScriptReply::Exact, &["xack", "xadd", "xdel", "xlen", "xrange", "xrevrange", "xsetid", "xtrim"]),
    (ScriptReply::Exact, &["xgroup|create", "xgroup|createconsumer", "xgroup|delconsumer", "xgroup|destroy", "xgroup|setid"]),
    (ScriptReply::Exact, &["zcard", "zcount", "zdiffstore", "zintercard", "zinterstore", "zlexcount", "zrangebylex", "zrangestore"]),
    (ScriptReply::Exact, &["zrem", "zremrangebylex", "zremrangebyrank", "zremrangebyscore", "zrevrangebylex", "zscan", "zunionstore"]),
    (ScriptReply::ExactUpTo(2), &["lpop", "rpop", "spop", "srandmember", "hrandfield", "zrandmember"]),
    (ScriptReply::ExactUpTo(3), &["zrank", "zrevrank"]),
    (ScriptReply::ExactUnless("INCR"), &["zadd"]),
    (ScriptReply::ExactUnless("IDX"), &["lcs"]),
    (ScriptReply::ExactUnless("WITHSCORES"), &["zdiff", "zinter", "zrange", "zrangebyscore", "zrevrange", "zrevrangebyscore", "zunion"]),
    (ScriptReply::ExactInResp2, &["hgetall", "hmget", "mget", "sdiff", "sinter", "smembers", "sunion"]),
    (ScriptReply::ExactInResp2, &["zincrby", "zmscore", "zpopmax", "zpopmin", "zscore", "geohash"]),
    (ScriptReply::ExactInResp2, &["georadius", "georadius_ro", "georadiusbymember", "georadiusbymember_ro", "geosearch"]),
    (ScriptReply::WideInteger(ReRead::String), &["decr", "decrby", "incr", "incrby"]),
    (ScriptReply::WideInteger(ReRead::HashField), &["hincrby"]),
];

/// The commands whose key specs do not say it all.
pub(super) const KEY_RULES: &[(KeyRule, &[&str])] = &[
    (KeyRule::Bitfield, &["bitfield"]),
    (KeyRule::Copy, &["copy"]),
    (KeyRule::Move, &["move"]),
    (KeyRule::GeoRadius, &["georadius", "georadiusbymember"]),
    (KeyRule::Sort, &["sort", "sort_ro"]),
    (KeyRule::Streams, &["xread", "xreadgroup"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Flags, all};

    fn names<T>(lines: &[(T, &[&'static str])]) -> Vec<&'static str> {
        lines.iter().flat_map(|(_, names)| *names).copied().collect()
    }

    #[test]
    fn every_name_is_a_command_and_stands_once() {
        for mut listed in [names(HANDLING), names(SCRIPT_REPLY), names(KEY_RULES)] {
            for name in &listed {
                assert!(all().any(|spec| spec.name == *name), "{name} is no command");
            }
            let count = listed.len();
            listed.sort_unstable();
            listed.dedup();
            assert_eq!(listed.len(), count, "a name stands twice");
        }
    }

    #[test]
    fn no_script_is_asked_to_run_what_scripts_may_not() {
        for spec in all().filter(|spec| spec.script_reply != ScriptReply::Native) {
            assert!(!spec.flags.intersects(Flags::NOSCRIPT | Flags::BLOCKING), "{}", spec.name);
            assert!(matches!(spec.handling, Handling::Keyed | Handling::Move | Handling::Split(_)), "{}", spec.name);
        }
    }

    #[test]
    fn what_is_keyed_has_keys_and_does_not_always_wait() {
        for spec in all().filter(|spec| matches!(spec.handling, Handling::Keyed | Handling::Split(_) | Handling::Script)) {
            assert!(!spec.keys.is_empty(), "{}", spec.name);
            assert!(!spec.flags.contains(Flags::BLOCKING) || spec.key_rule == KeyRule::Streams, "{}", spec.name);
        }
    }

    #[test]
    fn conditions_of_script_replies_look_at_the_request() {
        let zadd = ScriptReply::ExactUnless("INCR");
        let plain = Request::new(&["zadd", "k", "1", "a"]);
        let incr = Request::new(&["zadd", "k", "incr", "1", "a"]);
        assert_eq!(zadd.of(&plain, Proto::Resp3), ScriptReply::Exact);
        assert_eq!(zadd.of(&incr, Proto::Resp3), ScriptReply::Native);
        assert_eq!(zadd.of(&incr, Proto::Resp2), ScriptReply::Exact);
        assert_eq!(ScriptReply::ExactUpTo(2).of(&plain, Proto::Resp2), ScriptReply::Native);
        assert_eq!(ScriptReply::ExactInResp2.of(&plain, Proto::Resp3), ScriptReply::Native);
    }
}
