//! Every error that weft says itself, once.
//!
//! Texts begin with their code and lack only the leading `-`: they are what [`ReplyWriter::error`](super::ReplyWriter::error)
//! takes. Those that Redis has as well are Redis 7.0's letter for letter, because clients compare them. Those of weft's
//! own answer what a client must know before it retries: whether anything was applied. Errors of shards are not here: they are
//! passed on as they come.

// What Redis says.

/// An option or a combination of options that the command does not have.
pub const SYNTAX: &str = "ERR syntax error";
/// An argument that should be an integer.
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
/// A command before AUTH where a password is required.
pub const NOAUTH: &str = "NOAUTH Authentication required.";
/// HELLO without AUTH where a password is required.
pub const NOAUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
                                <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                                same time";
/// AUTH or HELLO AUTH with the wrong user or password.
pub const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
/// AUTH with a password alone where none is set.
pub const AUTH_WITHOUT_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                                         your configuration is correct?";
/// HELLO with a version other than 2 and 3.
pub const NOPROTO: &str = "NOPROTO unsupported protocol version";
/// HELLO with a version that is no number.
pub const PROTOCOL_VERSION: &str = "ERR Protocol version is not an integer or out of range";
/// EXEC after a command that was refused while it was queued.
pub const EXECABORT: &str = "EXECABORT Transaction discarded because of previous errors.";
/// EXEC outside of MULTI.
pub const EXEC_WITHOUT_MULTI: &str = "ERR EXEC without MULTI";
/// DISCARD outside of MULTI.
pub const DISCARD_WITHOUT_MULTI: &str = "ERR DISCARD without MULTI";
/// MULTI inside of MULTI.
pub const NESTED_MULTI: &str = "ERR MULTI calls can not be nested";
/// WATCH inside of MULTI.
pub const WATCH_INSIDE_MULTI: &str = "ERR WATCH inside MULTI is not allowed";
/// A command inside of MULTI that cannot be queued.
pub const NOT_IN_TRANSACTION: &str = "ERR Command not allowed inside a transaction";
/// An argument that should be a 32-bit integer.
pub const NOT_A_32_BIT_INTEGER: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";
/// SELECT of another database than 0 where the shards are a cluster, which has no other.
pub const SELECT_IN_CLUSTER: &str = "ERR SELECT is not allowed in cluster mode";
/// SWAPDB there.
pub const SWAPDB_IN_CLUSTER: &str = "ERR SWAPDB is not allowed in cluster mode";
/// CLIENT LIST ID with something that is no number.
pub const CLIENT_ID: &str = "ERR Invalid client ID";
/// CLIENT KILL ID with a number that no client has.
pub const CLIENT_ID_RANGE: &str = "ERR client-id should be greater than 0";
/// CLIENT KILL with an address that nobody came from.
pub const NO_SUCH_CLIENT: &str = "ERR No such client";
/// CLIENT PAUSE with another mode.
pub const PAUSE_MODE: &str = "ERR CLIENT PAUSE mode must be WRITE or ALL";
/// CLIENT SETNAME or HELLO SETNAME with a name that would break the lines of CLIENT LIST.
pub const CLIENT_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
/// SELECT of a database that does not exist.
pub const DB_INDEX: &str = "ERR DB index is out of range";
/// A connection more than `maxclients`.
pub const MAX_CLIENTS: &str = "ERR max number of clients reached";
/// Keys of several slots where the configuration says `reject`.
pub const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";
/// No node answers for the slot.
pub const CLUSTERDOWN_SLOT: &str = "CLUSTERDOWN Hash slot not served";
/// No node of the cluster can be asked.
pub const CLUSTERDOWN: &str = "CLUSTERDOWN The cluster is down";
/// CLUSTER and its kin: clients see a single server, and a server that is no cluster's node says so.
pub const CLUSTER_DISABLED: &str = "ERR This instance has cluster support disabled";
/// DEBUG, as a server answers it that was not told to allow it.
pub const DEBUG_DISABLED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
                                  from a local connection, otherwise you need to set this option in the configuration file, and then \
                                  restart the server.";
/// MODULE LOAD, likewise.
pub const MODULES_DISABLED: &str = "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run it \
                                    from a local connection, otherwise you need to set this option in the configuration file, and then \
                                    restart the server.";
/// SCAN with a cursor that is no number.
pub const INVALID_CURSOR: &str = "ERR invalid cursor";
/// A connection from elsewhere while no password is set. The beginning is Redis's; the remedies are weft's.
pub const PROTECTED_MODE: &str = "DENIED weft is running in protected mode because no password is set. In this mode connections are only \
                                  accepted from the loopback interface. If you want to connect from external computers, set a password in \
                                  the configuration and restart weft.";

/// BLPOP and its kin with a time-out that is no number.
pub const TIMEOUT_NOT_A_FLOAT: &str = "ERR timeout is not a float or out of range";
/// XREAD BLOCK with a time-out that is no integer.
pub const TIMEOUT_NOT_AN_INTEGER: &str = "ERR timeout is not an integer or out of range";
/// A time-out below zero.
pub const TIMEOUT_NEGATIVE: &str = "ERR timeout is negative";
/// LMPOP and its kin with a number of keys that is none.
pub const NUMKEYS: &str = "ERR numkeys should be greater than 0";
/// LMPOP and its kin with a COUNT that is none.
pub const COUNT: &str = "ERR count should be greater than 0";
/// SORT by what are no numbers.
pub const SCORES: &str = "ERR One or more scores can't be converted into double";
/// A command on a key that holds another type.
pub const WRONGTYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
/// MOVE to the database where the key is.
pub const SAME_OBJECT: &str = "ERR source and destination objects are the same";
/// A blocking command that CLIENT UNBLOCK ended with ERROR.
pub const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
/// XREADGROUP waited for a stream that was deleted or became something else.
pub const STREAM_GONE: &str = "UNBLOCKED the stream key no longer exists";
/// XREADGROUP waited for a group that was destroyed.
pub const GROUP_GONE: &str = "NOGROUP the consumer group this client was blocked on no longer exists";
/// SAVE that a shard has not brought to an end.
pub const SAVE_FAILED: &str = "ERR a shard could not write its snapshot; see its log";
/// ACL LOAD or SAVE of a server whose users are in no file.
pub const ACL_WITHOUT_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the \
     ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the \
     Redis configuration.";
/// ACL DELUSER of the user that there always is.
pub const ACL_DEFAULT_USER: &str = "ERR The 'default' user cannot be removed";
/// MONITOR between MULTI and EXEC.
pub const MONITOR_IN_TRANSACTION: &str = "ERR MONITOR isn't allowed for DENY BLOCKING client";
/// CLIENT UNBLOCK with another word than TIMEOUT or ERROR.
pub const UNBLOCK_REASON: &str = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";

/// EXEC that was refused, with the error that it was refused with.
pub fn exec_abort(error: &str) -> String {
    format!("EXECABORT Transaction discarded because of: {}", error.strip_prefix("ERR ").unwrap_or(error))
}

/// A command with too few or too many arguments; `name` is the table's, in lower case (`get`, `client|id`).
pub fn wrong_arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

/// A command that does not exist. `args` are those behind its name; as in Redis no more of them is shown than about 128 bytes.
pub fn unknown_command<'a>(name: &[u8], args: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut shown = Vec::new();
    for arg in args {
        if shown.len() >= SHOWN_MAX {
            break;
        }
        let arg = shown_part(arg, SHOWN_MAX - shown.len());
        shown.push(b'\'');
        shown.extend_from_slice(arg);
        shown.extend_from_slice(b"' ");
    }
    let name = String::from_utf8_lossy(shown_part(name, SHOWN_MAX));
    format!("ERR unknown command '{name}', with args beginning with: {}", String::from_utf8_lossy(&shown))
}

/// A command that a RESP2 client may not send while it listens to channels.
pub fn listening(name: &str) -> String {
    format!("ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
}

/// A subcommand that does not exist; `command` is its container.
pub fn unknown_subcommand(command: &str, subcommand: &[u8]) -> String {
    let shown = String::from_utf8_lossy(shown_part(subcommand, SHOWN_MAX));
    format!("ERR unknown subcommand '{shown}'. Try {} HELP.", command.to_ascii_uppercase())
}

/// A subcommand that exists, with arguments that it does not take; `command` is its container.
pub fn subcommand_syntax(command: &str, subcommand: &[u8]) -> String {
    let shown = String::from_utf8_lossy(shown_part(subcommand, SHOWN_MAX));
    format!("ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {} HELP.", command.to_ascii_uppercase())
}

/// HELLO with an option that it does not have.
pub fn hello_option(option: &[u8]) -> String {
    format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(shown_part(option, option.len())))
}

/// CONFIG SET of a parameter that a client may not set; `reason` says why.
pub fn config_set(parameter: &[u8], reason: &str) -> String {
    let shown = String::from_utf8_lossy(shown_part(parameter, SHOWN_MAX));
    format!("ERR CONFIG SET failed (possibly related to argument '{shown}') - {reason}")
}

/// CONFIG SET of a parameter that does not exist.
pub fn config_unknown(parameter: &[u8]) -> String {
    format!("ERR Unknown option or number of arguments for CONFIG SET - '{}'", String::from_utf8_lossy(shown_part(parameter, SHOWN_MAX)))
}

/// CLIENT LIST TYPE with a kind of client that does not exist.
pub fn client_type(kind: &[u8]) -> String {
    format!("ERR Unknown client type '{}'", String::from_utf8_lossy(shown_part(kind, kind.len())))
}

/// CLIENT KILL of a user that does not exist.
pub fn no_such_user(name: &[u8]) -> String {
    format!("ERR No such user '{}'", String::from_utf8_lossy(shown_part(name, name.len())))
}

/// ACL DRYRUN of a user that does not exist.
pub fn acl_no_such_user(name: &[u8]) -> String {
    format!("ERR User '{}' not found", String::from_utf8_lossy(shown_part(name, name.len())))
}

/// ACL DRYRUN of a command that does not exist.
pub fn acl_no_such_command(name: &[u8]) -> String {
    format!("ERR Command '{}' not found", String::from_utf8_lossy(shown_part(name, name.len())))
}

/// CLIENT SETINFO with an attribute that does not exist (as from Redis 7.2 on).
pub fn client_attribute(attribute: &[u8]) -> String {
    format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(shown_part(attribute, attribute.len())))
}

/// CLIENT SETINFO with a value that would break the lines of CLIENT LIST; `attribute` is in lower case (as from Redis 7.2 on).
pub fn client_attribute_value(attribute: &str) -> String {
    format!("ERR {attribute} cannot contain spaces, newlines or special characters.")
}

// What weft says. Codes of its own tell a program what it may do; `ERR` tells it nothing, so it stands only where the request itself
// is at fault.

/// A key stayed locked by other transactions for longer than `lock_wait_timeout_ms`. Safe to retry.
pub const LOCK_WAIT: &str = "LOCKWAIT timed out waiting for a transaction that holds a key of this command; nothing was applied";
/// The connection broke between a write and its reply. Not safe to retry unless the command is idempotent.
pub const OUTCOME_UNKNOWN: &str = "UNKNOWN the connection to the shard was lost before it answered; the command may have been applied";
/// CLIENT TRACKING with REDIRECT twice.
pub const TRACKING_ONE_REDIRECT: &str = "ERR A client can only redirect to a single other client";
/// CLIENT TRACKING with REDIRECT to nobody.
pub const TRACKING_NO_SUCH_CLIENT: &str = "ERR The client ID you want redirect to does not exist";
/// CLIENT TRACKING with PREFIX, but without BCAST.
pub const TRACKING_PREFIX_WITHOUT_BCAST: &str = "ERR PREFIX option requires BCAST mode to be enabled";
/// CLIENT TRACKING with BCAST where it was without, or the other way round.
pub const TRACKING_SWITCHES_BCAST: &str = "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
     re-enabling it with a different mode.";
/// CLIENT TRACKING with BCAST and OPTIN or OPTOUT.
pub const TRACKING_OPT_WITH_BCAST: &str = "ERR OPTIN and OPTOUT are not compatible with BCAST";
/// CLIENT TRACKING with OPTIN and OPTOUT.
pub const TRACKING_BOTH_OPTS: &str = "ERR You can't specify both OPTIN mode and OPTOUT mode";
/// CLIENT TRACKING with OPTIN where it was OPTOUT, or the other way round.
pub const TRACKING_SWITCHES_OPT: &str = "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
     re-enabling it with a different mode.";
/// CLIENT CACHING of a client that is not told of changes.
pub const CACHING_WITHOUT_TRACKING: &str =
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled";
/// CLIENT CACHING YES without OPTIN.
pub const CACHING_YES_WITHOUT_OPTIN: &str = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
/// CLIENT CACHING NO without OPTOUT.
pub const CACHING_NO_WITHOUT_OPTOUT: &str = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";

/// Prefixes of one client of which one begins with the other; `which` says what the other one is.
pub fn overlapping_prefixes(prefix: &[u8], which: &str, other: &[u8]) -> String {
    let shown = |text| String::from_utf8_lossy(shown_part(text, text.len())).into_owned();
    format!(
        "ERR Prefix '{}' overlaps with {which} prefix '{}'. Prefixes for a single client must not overlap.",
        shown(prefix),
        shown(other)
    )
}

/// A transaction over several shards is in doubt, and resolving it took longer than the client's patience. It will be
/// applied everywhere or nowhere.
pub const TXNUNKNOWN: &str =
    "TXNUNKNOWN the transaction was applied on all its shards or on none, and which could not be found out in time";
/// A transaction is decided, but its replies are gone or a shard cannot be reached. It will be applied, and exactly once.
pub const TXNPENDING: &str = "TXNPENDING committed, replies unavailable";
/// A transaction is applied on all its shards, and one of them has too few replicas, or none in time, that have it: a failover may lose it.
pub const TXNUNCONFIRMED: &str = "TXNUNCONFIRMED committed, but too few replicas have confirmed it in time";
/// A shard's clock and weft's are more than five minutes apart, so that weft could not tell a late message from a current one.
pub const CLOCK_APART: &str = "TXNREFUSED the clocks of weft and of a shard are more than five minutes apart; nothing was applied";
/// Every shard lost a transaction that had been decided, before any of them applied it.
pub const TXN_LOST: &str = "TXNLOST all shards lost the transaction before it was applied; nothing was applied";
/// The shard could not be reached, and nothing was sent to it. Safe to retry.
pub const UPSTREAM_UNAVAILABLE: &str = "UNAVAILABLE the shard cannot be reached; nothing was applied";
/// A command for all shards got no reply from one of them. Such commands may all be repeated.
pub const NOT_EVERYWHERE: &str = "UNAVAILABLE a shard cannot be reached; other shards may have carried the command out";
/// SCAN came to a position in a shard that does not fit into the cursor beside the number of the shard.
pub const CURSOR_TOO_WIDE: &str = "ERR a shard's SCAN cursor is too large for weft";
/// A shard did not accept a value that another shard has computed: it is of an older version.
pub const COMPUTED_NOT_TAKEN: &str =
    "ERR a shard did not accept a value that another shard has computed, and has its old one; are the servers of different versions?";
/// What stands before the errors below where weft makes a script end with one, and before the token of the call.
pub const SCRIPT_REFUSED: &str = "WEFTREFUSED ";
/// A script over several shards uses the key `%s`, which it has not declared.
pub const SCRIPT_KEY: &str = "CROSSSLOT a script over several shards cannot use '%s', which is not among the keys that it declares";
/// A script uses the key `%s`, which it has not declared and which lives elsewhere, or may. A rule that begins with `%s` would keep it with
/// the script's first key.
pub const SCRIPT_KEY_RULE: &str = "CROSSSLOT a script cannot use '%s', which it does not declare and which may be on another shard; \
     declare it, or keep both together by a hash tag in their names or by a rule under `affinity`, for instance '%s*'";
/// The same where the names have nothing in common.
pub const SCRIPT_KEY_TAG: &str = "CROSSSLOT a script cannot use '%s', which it does not declare and which may be on another shard; \
     declare it, or keep it together with a key that is declared, by a hash tag in both names or by a rule under `affinity`";
/// The same in a cluster, where no rule helps: `%s` is the hash tag of the script's first key, or one that would do for both.
pub const SCRIPT_KEY_HASH_TAG: &str = "CROSSSLOT a script cannot use '%s', which it does not declare and which may be on another shard; \
     declare it, or keep it together with a key that is declared, by a hash tag in both names, for instance '%s'";
/// The same where the names have nothing in common.
pub const SCRIPT_KEY_NO_TAG: &str = "CROSSSLOT a script cannot use '%s', which it does not declare and which may be on another shard; \
     declare it, or keep it together with a key that is declared, by a hash tag in both names";
/// A script over several shards calls the command `%s` in a way that touches more than its keys.
pub const SCRIPT_COMMAND: &str = "CROSSSLOT a script over several shards cannot call '%s', which reaches beyond the keys that it declares";
/// A script calls the command `%s`, which is about whole databases or moves a key to another.
pub const SCRIPT_COMMAND_HERE: &str = "CROSSSLOT a script cannot call '%s', which reaches beyond its keys and this shard";
/// SCRIPT KILL while a function runs.
pub const BUSY_FUNCTION: &str = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
/// What a server says of a script that SCRIPT KILL has ended.
pub const SCRIPT_KILLED: &[u8] = b"Script killed by user";
/// What a server says to a function that registers another, behind what it calls itself.
pub const REGISTERED_LATE: &str = ".register_function can only be called on FUNCTION LOAD command";
/// A client names a key of weft's own.
pub const INTERNAL_KEY: &str = "ERR keys that begin with '__weft:' are reserved for weft";

/// WEFT TXN with something that is no transaction's name.
pub const TXN_ID: &str = "ERR Invalid transaction ID";
/// WEFT TXN LIST with a COUNT out of bounds.
pub const LIST_COUNT: &str = "ERR COUNT must be between 1 and 10000";

/// A command that Redis has and weft does not yet.
pub fn not_supported(name: &str) -> String {
    format!("ERR '{name}' is not supported by weft yet")
}

/// A command that a proxy will never carry out; `reason` says why.
pub fn refused(name: &str, reason: &str) -> String {
    format!("ERR '{name}' is refused by weft: {reason}")
}

/// A command whose keys are on several shards, where weft cannot yet carry it out.
pub fn several_shards(name: &str) -> String {
    format!("CROSSSLOT '{name}' over keys of several shards is not supported by weft yet")
}

/// A command that changes all shards, queued after MULTI.
pub fn everywhere_in_multi(name: &str) -> String {
    format!("ERR '{name}' inside a transaction is refused by weft: it would not be atomic over all shards")
}

/// A transaction over several shards, one of which may evict the records and locks that hold it together.
pub fn eviction(shard: &str, policy: &str) -> String {
    format!(
        "TXNREFUSED shard '{shard}' has maxmemory-policy {policy}, which may evict the records of a transaction over several shards; use \
         noeviction, or set transactions.allow_eviction"
    )
}

/// A transaction that would have to wait for replicas, or a file, that do not confirm what they should. Safe to retry.
pub fn unconfirmable(shard: &str) -> String {
    format!(
        "NOREPLICAS shard '{shard}' does not confirm in time what transactions.wait_replicas and wait_fsync ask for; nothing was applied"
    )
}

/// More commands, or more bytes of them, queued after MULTI than the configuration allows; EXEC will be refused.
/// `limit` is the option's name.
pub fn queue_limit(limit: &str, max: usize) -> String {
    limited("transaction is too long", limit, max)
}

/// More keys watched at once than the configuration allows. `limit` is the option's name.
pub fn watch_limit(limit: &str, max: usize) -> String {
    limited("too many watched keys", limit, max)
}

/// A command over several shards whose keys hold more than the configuration allows to be moved; nothing was applied.
pub fn compute_limit(max: usize) -> String {
    limited("the keys lie on several shards and hold too many bytes to be computed on one", "compute_bytes_max", max)
}

/// A command over more participants than connections may be held for it; nothing was applied.
pub fn compute_participants(max: usize) -> String {
    format!("ERR the keys lie on more than {max} slots of one shard, half of upstream.leased_connections_max")
}

/// A command that reads more keys than a server should have to watch; nothing was applied.
pub fn too_many_keys(max: usize) -> String {
    format!("ERR the command reads more than {max} keys of one shard at one moment")
}

fn limited(what: &str, limit: &str, max: usize) -> String {
    format!("ERR {what}: {limit} is {max}")
}

/// What C's `%.*s` prints of `text`: up to its first zero byte, `max` bytes at most.
fn shown_part(text: &[u8], max: usize) -> &[u8] {
    let text = &text[..text.len().min(max)];
    memchr::memchr(0, text).map_or(text, |zero| &text[..zero])
}

/// How much of a client's own bytes an error repeats.
const SHOWN_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_commands_are_described_as_redis_does_it() {
        assert_eq!(unknown_command(b"x", []), "ERR unknown command 'x', with args beginning with: ");
        assert_eq!(unknown_command(b"x", [&b"a"[..], b"b"]), "ERR unknown command 'x', with args beginning with: 'a' 'b' ");
        let long = [b'y'; 200];
        let first = "y".repeat(128);
        assert_eq!(
            unknown_command(&long, [&long[..], b"b"]),
            format!("ERR unknown command '{first}', with args beginning with: '{first}' ")
        );
        let rest = "y".repeat(128 - 4);
        assert_eq!(
            unknown_command(b"x", [&b"a"[..], &long, b"b"]),
            format!("ERR unknown command 'x', with args beginning with: 'a' '{rest}' ")
        );
        assert_eq!(unknown_command(b"x\0y", [&b"\0"[..]]), "ERR unknown command 'x', with args beginning with: '' ");
    }

    #[test]
    fn subcommands_name_their_container_in_capitals() {
        assert_eq!(unknown_subcommand("client", b"foo"), "ERR unknown subcommand 'foo'. Try CLIENT HELP.");
        assert_eq!(wrong_arity("client|id"), "ERR wrong number of arguments for 'client|id' command");
    }
}
