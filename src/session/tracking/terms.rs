//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR as far as they need nobody else: what a client asks for, and what it is told of it.
//!
//! Pure. Texts and the order in which mistakes are found are those of Redis 7.0.

use bytes::Bytes;

use crate::resp::{ReplyWriter, Request, error_reply};
use crate::session::client::ClientState;

/// On what terms a client is told of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which changes.
    pub kind: Kind,
    /// Not of those that it made itself.
    pub noloop: bool,
    /// The client that is told in its place.
    pub redirect: Option<u64>,
    /// That client was gone when it was to be told.
    pub is_broken: bool,
    /// CLIENT CACHING was said, and the command that it is about has yet to come.
    pub caching: bool,
}

/// Of which changes a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of those to keys that it has read.
    Read,
    /// Likewise, if it said CLIENT CACHING YES before.
    OptIn,
    /// Likewise, unless it said CLIENT CACHING NO before.
    OptOut,
    /// Of those to keys that begin with its prefixes.
    Broadcast,
}

impl Terms {
    /// Whether the keys that are read now are to be remembered.
    pub(in crate::session) fn remembers(&self) -> bool {
        match self.kind {
            Kind::Read => true,
            Kind::OptIn => self.caching,
            Kind::OptOut => !self.caching,
            Kind::Broadcast => false,
        }
    }
}

/// What a CLIENT TRACKING that has no mistakes asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To be told no longer.
    Off,
    /// To be told, on these terms and of these prefixes.
    On(Terms, Vec<Bytes>),
}

impl Wish {
    /// Reads `CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix …] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]` of `client`; `is_connected` tells
    /// whether there is a client of that number.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::session) fn read(request: &Request, client: &ClientState, is_connected: impl Fn(u64) -> bool) -> Result<Self, String> {
        let options = Options::read(request, is_connected)?;
        match request.arg(2) {
            word if word.eq_ignore_ascii_case(b"on") => options.checked(client),
            word if word.eq_ignore_ascii_case(b"off") => Ok(Self::Off),
            _ => Err(error_reply::SYNTAX.to_owned()),
        }
    }
}

#[derive(Default)]
struct Options {
    redirect: Option<u64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    prefixes: Vec<Bytes>,
}

impl Options {
    fn read(request: &Request, is_connected: impl Fn(u64) -> bool) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = request.args_from(3);
        while let Some(word) = words.next() {
            let flag = match () {
                () if word.eq_ignore_ascii_case(b"bcast") => &mut options.broadcast,
                () if word.eq_ignore_ascii_case(b"optin") => &mut options.opt_in,
                () if word.eq_ignore_ascii_case(b"optout") => &mut options.opt_out,
                () if word.eq_ignore_ascii_case(b"noloop") => &mut options.noloop,
                () => {
                    let value = words.next().ok_or_else(|| error_reply::SYNTAX.to_owned())?;
                    options.take(word, value, &is_connected)?;
                    continue;
                }
            };
            *flag = true;
        }
        Ok(options)
    }

    fn take(&mut self, word: &[u8], value: &[u8], is_connected: impl Fn(u64) -> bool) -> Result<(), String> {
        if word.eq_ignore_ascii_case(b"prefix") {
            // Copied: a slice would keep the read buffer alive.
            self.prefixes.push(Bytes::copy_from_slice(value));
            return Ok(());
        }
        if !word.eq_ignore_ascii_case(b"redirect") {
            return Err(error_reply::SYNTAX.to_owned());
        }
        if self.redirect.is_some() {
            return Err(error_reply::TRACKING_ONE_REDIRECT.to_owned());
        }
        let id: i64 = std::str::from_utf8(value).ok().and_then(|id| id.parse().ok()).ok_or(error_reply::NOT_AN_INTEGER)?;
        self.redirect = u64::try_from(id).ok().filter(|id| is_connected(*id));
        if self.redirect.is_some() { Ok(()) } else { Err(error_reply::TRACKING_NO_SUCH_CLIENT.to_owned()) }
    }

    /// Whether the options go together, and with those that `client` has.
    fn checked(self, client: &ClientState) -> Result<Wish, String> {
        let before = client.profile.tracking;
        let was = |kind| before.is_some_and(|terms| terms.kind == kind);
        let refusals = [
            (!self.broadcast && !self.prefixes.is_empty(), error_reply::TRACKING_PREFIX_WITHOUT_BCAST),
            (before.is_some() && was(Kind::Broadcast) != self.broadcast, error_reply::TRACKING_SWITCHES_BCAST),
            (self.broadcast && (self.opt_in || self.opt_out), error_reply::TRACKING_OPT_WITH_BCAST),
            (self.opt_in && self.opt_out, error_reply::TRACKING_BOTH_OPTS),
            (self.opt_in && was(Kind::OptOut) || self.opt_out && was(Kind::OptIn), error_reply::TRACKING_SWITCHES_OPT),
        ];
        if let Some((_, text)) = refusals.iter().find(|(holds, _)| *holds) {
            return Err((*text).to_owned());
        }
        self.check_prefixes(client.tracked_prefixes())?;
        let kind = match () {
            () if self.broadcast => Kind::Broadcast,
            () if self.opt_in => Kind::OptIn,
            () if self.opt_out => Kind::OptOut,
            () => Kind::Read,
        };
        let caching = before.is_some_and(|terms| terms.caching);
        let terms = Terms { kind, noloop: self.noloop, redirect: self.redirect, is_broken: false, caching };
        let mut prefixes = client.tracked_prefixes().to_vec();
        prefixes.extend(self.prefixes.iter().cloned());
        if self.broadcast && self.prefixes.is_empty() {
            prefixes.push(Bytes::new());
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        Ok(Wish::On(terms, prefixes))
    }

    /// Prefixes of one client must not overlap: it would be told twice of a key.
    fn check_prefixes(&self, existing: &[Bytes]) -> Result<(), String> {
        let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        for (index, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = existing.iter().find(|other| overlap(prefix, other)) {
                return Err(error_reply::overlapping_prefixes(prefix, "an existing", other));
            }
            if let Some(other) = self.prefixes[index + 1..].iter().find(|other| overlap(prefix, other)) {
                return Err(error_reply::overlapping_prefixes(prefix, "another provided", other));
            }
        }
        Ok(())
    }
}

/// CLIENT CACHING `word`, on the terms that the client has.
///
/// # Errors
/// Why the word is of no use to it.
pub(in crate::session) fn caching(word: &[u8], terms: Option<&mut Terms>) -> Result<(), &'static str> {
    let Some(terms) = terms else { return Err(error_reply::CACHING_WITHOUT_TRACKING) };
    terms.caching |= match terms.kind {
        Kind::OptIn if word.eq_ignore_ascii_case(b"yes") => true,
        Kind::OptOut if word.eq_ignore_ascii_case(b"no") => true,
        _ if word.eq_ignore_ascii_case(b"yes") => return Err(error_reply::CACHING_YES_WITHOUT_OPTIN),
        _ if word.eq_ignore_ascii_case(b"no") => return Err(error_reply::CACHING_NO_WITHOUT_OPTOUT),
        _ => return Err(error_reply::SYNTAX),
    };
    Ok(())
}

/// The number of the client that is told instead: 0 for none, -1 if nobody is told. As in CLIENT LIST and CLIENT GETREDIR.
pub(in crate::session) fn redirection(terms: Option<&Terms>) -> i64 {
    terms.map_or(-1, |terms| terms.redirect.unwrap_or(0) as i64)
}

/// Writes the reply to CLIENT TRACKINGINFO.
pub(in crate::session) fn describe(client: &ClientState, reply: &mut ReplyWriter<'_>) {
    let terms = client.profile.tracking;
    let is = |kind| terms.is_some_and(|terms| terms.kind == kind);
    let has = |flag: fn(&Terms) -> bool| terms.as_ref().is_some_and(flag);
    let caching = has(|terms| terms.caching);
    let flags = [
        (terms.is_some(), "on"),
        (terms.is_none(), "off"),
        (is(Kind::Broadcast), "bcast"),
        (is(Kind::OptIn), "optin"),
        (is(Kind::OptIn) && caching, "caching-yes"),
        (is(Kind::OptOut), "optout"),
        (is(Kind::OptOut) && caching, "caching-no"),
        (has(|terms| terms.noloop), "noloop"),
        (has(|terms| terms.is_broken), "broken_redirect"),
    ];
    let set: Vec<&str> = flags.into_iter().filter_map(|(holds, flag)| holds.then_some(flag)).collect();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(set.len());
    set.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(redirection(terms.as_ref()));
    reply.bulk(b"prefixes");
    reply.array(client.tracked_prefixes().len());
    client.tracked_prefixes().iter().for_each(|prefix| reply.bulk(prefix));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::session::client::Peer;

    /// What is made of `words` behind CLIENT TRACKING by a client that has said `before`; client 7 is another.
    fn read(before: &str, words: &str) -> Result<Wish, String> {
        let peer = Peer { addr: "[::1]:1".parse().unwrap(), laddr: "[::1]:2".parse().unwrap(), fd: 3 };
        let mut client = ClientState::new(1, peer, true, Instant::now(), Arc::default());
        let read = |client: &ClientState, words: &str| {
            let words: Vec<&str> = ["CLIENT", "TRACKING"].into_iter().chain(words.split(' ')).collect();
            Wish::read(&Request::new(&words), client, |id| id == 7)
        };
        if let Ok(Wish::On(terms, prefixes)) = read(&client, before) {
            client.set_tracking(Some(terms), prefixes);
        }
        read(&client, words)
    }

    #[test]
    fn mistakes_are_found_as_redis_finds_them() {
        for (before, words, text) in [
            ("", "maybe", "ERR syntax error"),
            ("", "on nonsense", "ERR syntax error"),
            ("", "off nonsense x", "ERR syntax error"),
            ("", "on prefix", "ERR syntax error"),
            ("", "off redirect x", "ERR value is not an integer or out of range"),
            ("", "on redirect 8", "ERR The client ID you want redirect to does not exist"),
            ("", "on redirect -1", "ERR The client ID you want redirect to does not exist"),
            ("", "on redirect 7 redirect 7", "ERR A client can only redirect to a single other client"),
            ("", "on prefix a", "ERR PREFIX option requires BCAST mode to be enabled"),
            ("", "on bcast optin", "ERR OPTIN and OPTOUT are not compatible with BCAST"),
            ("", "on optin optout", "ERR You can't specify both OPTIN mode and OPTOUT mode"),
            (
                "on bcast",
                "on",
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a \
                 different mode.",
            ),
            (
                "on optin",
                "on optout",
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a \
                 different mode.",
            ),
            (
                "on bcast prefix FOO",
                "on bcast prefix FO",
                "ERR Prefix 'FO' overlaps with an existing prefix 'FOO'. Prefixes for a single client must not overlap.",
            ),
            (
                "",
                "on bcast prefix FOOBAR prefix FOO",
                "ERR Prefix 'FOOBAR' overlaps with another provided prefix 'FOO'. Prefixes for a single client must not overlap.",
            ),
        ] {
            assert_eq!(read(before, words), Err(text.to_owned()), "{words}");
        }
    }

    #[test]
    fn options_say_who_is_told_and_of_what() {
        let plain = Terms { kind: Kind::Read, noloop: false, redirect: None, is_broken: false, caching: false };
        let broadcast = Terms { kind: Kind::Broadcast, ..plain };
        for (before, words, wish) in [
            ("", "OFF", Wish::Off),
            ("", "ON", Wish::On(plain, vec![])),
            ("on optin", "ON NOLOOP REDIRECT 7", Wish::On(Terms { noloop: true, redirect: Some(7), ..plain }, vec![])),
            ("", "on OptOut", Wish::On(Terms { kind: Kind::OptOut, ..plain }, vec![])),
            ("", "on bcast", Wish::On(broadcast, vec!["".into()])),
            ("on bcast prefix b prefix c", "on prefix a bcast", Wish::On(broadcast, vec!["a".into(), "b".into(), "c".into()])),
        ] {
            assert_eq!(read(before, words), Ok(wish), "{words}");
        }
    }

    #[test]
    fn caching_is_for_those_who_opt() {
        let mut terms = Terms { kind: Kind::OptIn, noloop: false, redirect: None, is_broken: false, caching: false };
        assert_eq!(caching(b"yes", None), Err(error_reply::CACHING_WITHOUT_TRACKING));
        assert_eq!(caching(b"no", Some(&mut terms)), Err(error_reply::CACHING_NO_WITHOUT_OPTOUT));
        assert_eq!(caching(b"perhaps", Some(&mut terms)), Err(error_reply::SYNTAX));
        assert!(!terms.remembers());
        assert_eq!(caching(b"YES", Some(&mut terms)), Ok(()));
        assert!(terms.remembers());
        terms = Terms { kind: Kind::OptOut, ..terms };
        assert!(!terms.remembers());
        assert_eq!(caching(b"yes", Some(&mut terms)), Err(error_reply::CACHING_YES_WITHOUT_OPTIN));
    }
}
