//! Where the keys of commands are, told to a Lua script, which has to find them in what another script calls.
//!
//! One string with ` name=rule ` for every command, that a script searches for ` name=`. A rule is one of
//!
//! | | |
//! |---|---|
//! | `>` | a container: the rule stands under `name\|subcommand` |
//! | `-` | no keys, and the same answer everywhere, or the server's own refusal |
//! | `!` | not for scripts behind weft |
//! | `?` | about a server rather than keys: not for scripts whose keys are not where they run |
//! | `r1,-1,2` | keys from argument 1 to the last but none, every second; a last one that is not negative counts from the first |
//! | `n1,3,1` | keys from argument 3 on, each, as many as argument 1 says |
//!
//! Ranges may be several. A tilde before them: the command only reads. An asterisk: the reply may name keys. A capital behind them is for what options tell: `S` of SORT,
//! `G5` of GEORADIUS from argument 5 on, `X` of XREAD, `C` of COPY.

use super::columns::Handling;
use super::keys::KeyRule;
use super::lookup::all;
use super::spec::{BeginSearch, CommandSpec, FindKeys, Flags, KeyFlags, KeySpec};

/// The rules of all commands.
pub fn lua_rules() -> String {
    let rules: Vec<String> = all().map(|spec| format!("{}={}", spec.name, rule(spec))).collect();
    format!(" {} ", rules.join(" "))
}

pub(super) fn rule(spec: &CommandSpec) -> String {
    let without_keys = match spec.handling {
        _ if !spec.subcommands.is_empty() => ">",
        // What is said of a lock is said of one database.
        _ if spec.name == "select" => "!",
        Handling::Keyed | Handling::Split(_) | Handling::Move | Handling::Blocking if spec.key_rule != KeyRule::Move => "",
        _ if spec.flags.contains(Flags::NOSCRIPT) || spec.handling == Handling::AnyShard || HARMLESS.contains(&spec.name) => "-",
        _ if spec.is_write() || spec.keys.iter().any(|key_spec| !key_spec.flags.contains(KeyFlags::NOT_KEY)) => "!",
        // The pattern may be of keys that are elsewhere.
        _ if spec.name == "keys" => "P",
        _ => "?",
    };
    if !without_keys.is_empty() {
        return without_keys.to_owned();
    }
    let reads = if spec.is_write() { "" } else { "~" };
    let names = if NAMING.contains(&spec.name) { "*" } else { "" };
    let ranges: String = spec.keys.iter().filter_map(range).collect();
    format!("{reads}{names}{ranges}{}", options(spec))
}

fn range(key_spec: &KeySpec) -> Option<String> {
    let BeginSearch::Index(begin) = key_spec.begin else { return None };
    match key_spec.find {
        _ if key_spec.flags.contains(KeyFlags::NOT_KEY) => None,
        FindKeys::Range { last_key, step, .. } => Some(format!("r{begin},{last_key},{step}")),
        FindKeys::KeyNum { index, first, step } => Some(format!("n{},{},{step}", begin + index, begin + first)),
        FindKeys::Unknown => None,
    }
}

fn options(spec: &CommandSpec) -> String {
    match spec.key_rule {
        KeyRule::First(_) | KeyRule::Specs | KeyRule::Bitfield | KeyRule::Move => String::new(),
        KeyRule::Copy => "C".to_owned(),
        KeyRule::GeoRadius => {
            let options = spec.keys.iter().find_map(|key_spec| match key_spec.begin {
                BeginSearch::Keyword { start_from, .. } => Some(start_from),
                _ => None,
            });
            format!("G{}", options.unwrap_or_default())
        }
        KeyRule::Sort => "S".to_owned(),
        KeyRule::Streams => "X".to_owned(),
    }
}

/// weft answers these itself; a server's answer is as good.
const HARMLESS: &[&str] = &["ping", "echo", "time"];

/// The replies to these name keys.
const NAMING: &[&str] = &["lmpop", "blmpop", "zmpop", "bzmpop", "blpop", "brpop", "bzpopmin", "bzpopmax", "xread", "xreadgroup"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_command_has_its_rule() {
        let rules = lua_rules();
        for expected in [
            "get=~r1,0,1",
            "mset=r1,-1,2",
            "bitop=r2,0,1r3,-1,1",
            "zunionstore=r1,0,1n2,3,1",
            "lmpop=*n1,2,1",
            "object=>",
            "object|encoding=~r2,0,1",
            "sort=r1,0,1S",
            "georadius=r1,0,1G6",
            "georadiusbymember=r1,0,1G5",
            "xread=~*X",
            "copy=r1,0,1r2,0,1C",
            "time=-",
            "multi=-",
            "eval=-",
            "publish=?",
            "move=!",
            "select=!",
            "migrate=!",
            "scan=?",
            "keys=P",
            "flushall=!",
        ] {
            assert!(rules.contains(&format!(" {expected} ")), "{expected}");
        }
    }

    #[test]
    fn no_command_with_keys_is_without_a_rule_for_them() {
        for spec in all().filter(|spec| spec.key_rule != KeyRule::Specs || spec.keys.iter().any(|key_spec| range(key_spec).is_some())) {
            let rule = rule(spec);
            assert!(
                rule.contains(',') || rule.contains('X') || spec.flags.contains(Flags::NOSCRIPT) || rule == "!",
                "{} {rule}",
                spec.name
            );
        }
    }
}
