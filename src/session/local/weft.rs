//! WEFT: the command for weft's operators, in the form of Redis's own containers.
//!
//! Here is what can be answered without a shard: help, and errors in what was asked. The questions that are left go to
//! `operator`.

use std::time::Duration;

use super::{Call, LocalOutcome, integer};
use crate::resp::error_reply;
use crate::txn::TxnId;

/// What an operator wants to know, or to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// `WEFT TXN LIST [COUNT count] [MINAGE milliseconds]`
    List {
        /// How many transactions at most.
        count: usize,
        /// How long ago they must have started at least.
        least_age: Duration,
    },
    /// `WEFT TXN SHOW tid`
    Show(TxnId),
    /// `WEFT TXN RESOLVE tid`
    Resolve(TxnId),
}

/// `WEFT HELP`
pub(super) fn help(mut call: Call<'_>) -> LocalOutcome {
    write_help(&mut call, HELP)
}

/// `WEFT TXN …`
pub(super) fn transactions(mut call: Call<'_>) -> LocalOutcome {
    match inquiry(&call) {
        Ok(Some(inquiry)) => LocalOutcome::Inquiry(inquiry),
        Ok(None) => write_help(&mut call, TXN_HELP),
        Err(text) => call.error(&text),
    }
}

/// What is asked for; `None` is help.
fn inquiry(call: &Call<'_>) -> Result<Option<Inquiry>, String> {
    let (word, argc) = (call.arg(2), call.request.argc());
    let Some((name, arity)) = SUBCOMMANDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())) else {
        return Err(error_reply::unknown_subcommand("weft txn", word));
    };
    if !(*arity == argc as i64 || (*arity < 0 && argc as i64 >= -arity)) {
        return Err(error_reply::wrong_arity(&format!("weft|txn|{name}")));
    }
    Ok(match *name {
        "list" => Some(list(call)?),
        "show" => Some(Inquiry::Show(tid(call)?)),
        "resolve" => Some(Inquiry::Resolve(tid(call)?)),
        _ => None,
    })
}

fn list(call: &Call<'_>) -> Result<Inquiry, String> {
    let (mut count, mut least_age) = (LIST_COUNT, Duration::ZERO);
    let mut options = call.args_from(3);
    while let Some(option) = options.next() {
        let number = options.next().ok_or(error_reply::SYNTAX)?;
        let number = integer(number).ok_or(error_reply::NOT_AN_INTEGER)?;
        if option.eq_ignore_ascii_case(b"count") {
            count = usize::try_from(number).ok().filter(|count| (1..=LIST_COUNT_MAX).contains(count)).ok_or(error_reply::LIST_COUNT)?;
        } else if option.eq_ignore_ascii_case(b"minage") {
            least_age = Duration::from_millis(u64::try_from(number).map_err(|_| error_reply::NOT_AN_INTEGER)?);
        } else {
            return Err(error_reply::SYNTAX.to_owned());
        }
    }
    Ok(Inquiry::List { count, least_age })
}

fn tid(call: &Call<'_>) -> Result<TxnId, String> {
    std::str::from_utf8(call.arg(3)).ok().and_then(|text| text.parse().ok()).ok_or_else(|| error_reply::TXN_ID.to_owned())
}

/// The subcommands of WEFT TXN with their number of arguments, at least so many if it is negative.
const SUBCOMMANDS: &[(&str, i64)] = &[("help", 3), ("list", -3), ("resolve", 4), ("show", 4)];

/// How many transactions are listed unless COUNT says otherwise.
const LIST_COUNT: usize = 100;

/// How many can be listed at most: all participants of each are asked.
const LIST_COUNT_MAX: usize = 10_000;

fn write_help(call: &mut Call<'_>, lines: &[&str]) -> LocalOutcome {
    let mut reply = call.reply();
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    LocalOutcome::Replied
}

const HELP: &[&str] = &[
    "WEFT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "TXN <subcommand> [<arg> ...]",
    "    Look into transactions over several shards; see WEFT TXN HELP.",
    "HELP",
    "    Print this help.",
];

const TXN_HELP: &[&str] = &[
    "WEFT TXN <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LIST [COUNT <count>] [MINAGE <milliseconds>]",
    "    Return the transactions of which a shard has a record, the oldest first, with their",
    "    state at each participant. At most <count>, by default 100, that started at least",
    "    <milliseconds> ago. `complete` is 0 if there are more, or if a shard could not be",
    "    looked through within 10 seconds.",
    "SHOW <tid>",
    "    Return all that the shards know of a transaction, but for the values. Nil if they",
    "    know nothing.",
    "RESOLVE <tid>",
    "    Finish a transaction now, whether or not its proxy is at it: committed if all",
    "    participants are prepared or any has committed, else aborted. Return `committed`,",
    "    `aborted`, `unknown` if no shard knows it, or `unresolved` if a shard that is",
    "    needed does not answer.",
    "HELP",
    "    Print this help.",
];
