//! Keys of the commands whose key specs do not say it all, and which commands may wait.
//!
//! Where it matters these follow the commands' own parsers rather than the key specs. A spec looks for a word anywhere; a value that
//! looks like the word then hides the real key. A server survives that, but a proxy would lock the wrong key.

use super::keys::{Access, KeyError, KeyRef, KeyRule, Keys};
use super::spec::{BeginSearch, CommandSpec, Flags};
use crate::resp::Request;

/// Whether `request` asks to wait for something that has not happened yet: it has the flag BLOCKING and, in case of XREAD and
/// XREADGROUP, the option BLOCK. In a transaction nothing waits.
pub fn may_wait(spec: &CommandSpec, request: &Request) -> bool {
    spec.flags.contains(Flags::BLOCKING) && (spec.key_rule != KeyRule::Streams || stream_options(request).0)
}

/// `BITFIELD key [GET type offset | OVERFLOW how | SET .. | INCRBY ..]*`
pub(super) fn bitfield(request: &Request, keys: &mut Keys) -> Result<(), KeyError> {
    let mut index = 2;
    while index < request.argc() {
        match () {
            () if is(request, index, "GET") => index += 3,
            () if is(request, index, "OVERFLOW") => index += 2,
            () => return push(keys, 1, Access::Write),
        }
    }
    push(keys, 1, Access::Read)
}

/// `COPY source destination [DB database] [REPLACE]`
pub(super) fn copy(request: &Request, keys: &mut Keys) -> Result<(), KeyError> {
    push(keys, 1, Access::Read)?;
    push(keys, 2, Access::Write)?;
    if (3..request.argc()).any(|index| is(request, index, "DB")) { Err(KeyError::OtherDatabase) } else { Ok(()) }
}

/// `MOVE key database`
pub(super) fn moved(keys: &mut Keys) -> Result<(), KeyError> {
    push(keys, 1, Access::Write)?;
    Err(KeyError::OtherDatabase)
}

/// `GEORADIUS key .. [COUNT n] [STORE key] [STOREDIST key]`, the options from where the spec says. Should there be several
/// destinations, all are returned, although only the last is written.
pub(super) fn georadius(spec: &CommandSpec, request: &Request, keys: &mut Keys) -> Result<(), KeyError> {
    push(keys, 1, Access::Read)?;
    let options = spec.keys.iter().find_map(|key_spec| match key_spec.begin {
        BeginSearch::Keyword { start_from, .. } => usize::try_from(start_from).ok(),
        _ => None,
    });
    let mut index = options.unwrap_or(request.argc());
    while index + 1 < request.argc() {
        if is(request, index, "STORE") || is(request, index, "STOREDIST") {
            push(keys, index + 1, Access::Write)?;
            index += 1;
        } else if is(request, index, "COUNT") {
            index += 1;
        }
        index += 1;
    }
    Ok(())
}

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern]* [STORE destination]`
pub(super) fn sort(spec: &CommandSpec, request: &Request, keys: &mut Keys) -> Result<(), KeyError> {
    push(keys, 1, Access::Read)?;
    let (mut destination, mut made_up) = (None, Ok(()));
    let mut index = 2;
    while index < request.argc() {
        let has_value = index + 1 < request.argc();
        let gets = is(request, index, "GET");
        if is(request, index, "LIMIT") {
            index += 2;
        } else if has_value && (gets || is(request, index, "BY")) {
            made_up = match made_up {
                _ if request.arg(index + 1).contains(&b'*') => Err(KeyError::Pattern),
                Ok(()) if gets => Err(KeyError::Get),
                other => other,
            };
            index += 1;
        } else if has_value && spec.is_write() && is(request, index, "STORE") {
            destination = Some(index + 1);
            index += 1;
        }
        index += 1;
    }
    if let Some(destination) = destination {
        push(keys, destination, Access::Write)?;
    }
    made_up
}

/// XREAD and XREADGROUP: options, STREAMS, keys, as many ids.
pub(super) fn streams(spec: &CommandSpec, request: &Request, keys: &mut Keys) -> Result<(), KeyError> {
    let first = stream_options(request).1.ok_or(KeyError::Syntax)?;
    let count = (request.argc() - first) / 2;
    if count == 0 {
        return Err(KeyError::Syntax);
    }
    let access = if spec.is_write() { Access::Write } else { Access::Read };
    keys.extend((first..first + count).map(|index| KeyRef { index: index as u32, access }));
    Ok(())
}

/// Whether BLOCK is among the options of XREAD or XREADGROUP, and where the keys begin.
fn stream_options(request: &Request) -> (bool, Option<usize>) {
    let (mut block, mut index) = (false, 1);
    while index < request.argc() {
        if is(request, index, "STREAMS") {
            return (block, Some(index + 1));
        } else if is(request, index, "BLOCK") {
            block = true;
            index += 1;
        } else if is(request, index, "COUNT") {
            index += 1;
        } else if is(request, index, "GROUP") {
            index += 2;
        }
        index += 1;
    }
    (block, None)
}

fn is(request: &Request, index: usize, word: &str) -> bool {
    request.arg(index).eq_ignore_ascii_case(word.as_bytes())
}

fn push(keys: &mut Keys, index: usize, access: Access) -> Result<(), KeyError> {
    keys.push(KeyRef { index: index as u32, access });
    Ok(())
}
