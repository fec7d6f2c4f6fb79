//! SORT and SORT_RO with patterns: which keys these name, and how what was read becomes the answer.
//!
//! A pattern (`BY weight_*`, `GET data_*->name`) names a key for each element, and that may be anywhere. No server has them all, and
//! those of a cluster refuse BY and GET altogether. So weft reads what the patterns name, and does itself what is left to do, as
//! `sort.c` of Redis does it:
//!
//! - Elements of the same number are in the order of their bytes; of the same text, in that of the source. DESC turns all of it round.
//! - Without a weight an element weighs 0, or less than any text.
//! - With a BY that is no pattern nothing is sorted. But what goes from a set into a list must have *some* order, so it is sorted as text.
//! - Patterns, and numbers, end at their first zero byte, as C's strings do.
//!
//! Where neither a pattern weighs nor anything is stored a server still sorts: how texts compare is a matter of its locale. Weights that are
//! texts are compared byte by byte, as a server does in the locale `C`; for STORE it does so in every locale.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};

use super::keys::integer;
use super::spec::CommandSpec;
use crate::resp::{Request, Value, error_reply};
use crate::slot::{self, Slot};

/// A request, taken apart.
#[derive(Clone, Debug)]
pub struct Sort {
    source: Bytes,
    by: By,
    descending: bool,
    alpha: bool,
    limit: Option<(i64, i64)>,
    gets: Vec<Get>,
    destination: Option<Bytes>,
}

/// What elements are sorted by.
#[derive(Clone, Debug)]
enum By {
    Itself,
    /// They are not.
    Nothing,
    Pattern(Pattern),
}

/// What is told of an element.
#[derive(Clone, Debug)]
enum Get {
    Itself,
    /// A name without a star in it names nothing.
    Nothing,
    Pattern(Pattern),
}

/// `before*after` or `before*after->field`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    before: Bytes,
    after: Bytes,
    field: Option<Bytes>,
}

/// What a pattern names for one element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookup {
    /// A string, or a hash.
    pub key: Bytes,
    /// The field of the hash.
    pub field: Option<Bytes>,
}

/// What was looked up: a value, or that there is none.
pub type Known = HashMap<Lookup, Option<Bytes>>;

/// What the source holds.
#[derive(Debug)]
pub struct Source {
    elements: Vec<Bytes>,
    is_set: bool,
}

/// What can be said of the answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Arranged {
    /// This is it.
    Done(Vec<Option<Bytes>>),
    /// These have to be looked up too; perhaps others after them.
    Wanting(Vec<Lookup>),
    /// A weight is no number.
    NotNumbers,
}

impl Sort {
    /// Takes `request` apart, whose row is `spec`.
    ///
    /// # Errors
    /// The text that a server answers.
    pub fn parse(spec: &CommandSpec, request: &Request) -> Result<Self, &'static str> {
        let source = request.arg_bytes(1);
        let mut sort = Self { source, by: By::Itself, descending: false, alpha: false, limit: None, gets: Vec::new(), destination: None };
        let mut index = 2;
        while index < request.argc() {
            let word = |text: &str| request.arg(index).eq_ignore_ascii_case(text.as_bytes());
            let values = request.argc() - index - 1;
            index += match () {
                () if word("ASC") || word("DESC") => {
                    sort.descending = word("DESC");
                    1
                }
                () if word("ALPHA") => {
                    sort.alpha = true;
                    1
                }
                () if word("LIMIT") && values >= 2 => {
                    let number = |at| integer(request.arg(at)).ok_or(error_reply::NOT_AN_INTEGER);
                    sort.limit = Some((number(index + 1)?, number(index + 2)?));
                    3
                }
                () if word("STORE") && values >= 1 && spec.is_write() => {
                    sort.destination = Some(request.arg_bytes(index + 1));
                    2
                }
                () if word("BY") && values >= 1 => {
                    // One that is no pattern has the last word wherever it stands.
                    sort.by = match (&sort.by, Pattern::parse(request.arg_bytes(index + 1))) {
                        (By::Nothing, _) | (_, None) => By::Nothing,
                        (_, Some(pattern)) => By::Pattern(pattern),
                    };
                    2
                }
                () if word("GET") && values >= 1 => {
                    sort.gets.push(Get::parse(request.arg_bytes(index + 1)));
                    2
                }
                () => return Err(error_reply::SYNTAX),
            };
        }
        Ok(sort)
    }

    /// Where STORE puts the answer.
    pub fn destination(&self) -> Option<&Bytes> {
        self.destination.as_ref()
    }

    /// All that name keys.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let weight = if let By::Pattern(pattern) = &self.by { Some(pattern) } else { None };
        let gets = self.gets.iter().filter_map(|get| if let Get::Pattern(pattern) = get { Some(pattern) } else { None });
        weight.into_iter().chain(gets)
    }

    /// What to ask about the source; [`Self::source`] reads the replies.
    pub fn source_requests(&self) -> Vec<Request> {
        let mut words: Vec<&[u8]> = vec![b"SORT_RO", &self.source];
        if !self.is_sorted_by_server() {
            words.extend([&b"BY"[..], b"nosort"]);
            return vec![Request::new(&words), Request::new(&[b"TYPE", &self.source[..]])];
        }
        if let By::Nothing = self.by {
            words.extend([&b"BY"[..], b"nosort"]);
        }
        words.extend(self.alpha.then_some(&b"ALPHA"[..]));
        words.extend(self.descending.then_some(&b"DESC"[..]));
        let limit = self.limit.map(|(start, count)| (start.to_string(), count.to_string()));
        if let Some((start, count)) = &limit {
            words.extend([b"LIMIT", start.as_bytes(), count.as_bytes()]);
        }
        vec![Request::new(&words)]
    }

    /// What the source holds, as the replies to [`Self::source_requests`] say.
    ///
    /// # Errors
    /// The error among them.
    pub fn source(&self, replies: &[Bytes]) -> Result<Source, Bytes> {
        if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
            return Err(error.clone());
        }
        let items = replies.first().and_then(|frame| Value::parse(frame).ok());
        let elements = items.iter().filter_map(Value::items).flatten().filter_map(Value::text).cloned().collect();
        Ok(Source { elements, is_set: replies.get(1).is_some_and(|kind| kind.as_ref() == b"+set\r\n") })
    }

    /// The answer, as far as what is `known` allows.
    pub fn arrange(&self, source: Source, known: &Known) -> Arranged {
        let mut reader = Reader { known, wanting: Vec::new() };
        let mut elements = source.elements;
        if !self.is_sorted_by_server() {
            match self.sorted(elements, source.is_set, &mut reader) {
                Some(sorted) => elements = sorted,
                None => return Arranged::NotNumbers,
            }
            // Of whom LIMIT wants to hear shows when all weights are there.
            if self.limit.is_some() && !reader.wanting.is_empty() {
                return Arranged::Wanting(reader.wanting);
            }
            elements = self.within_limit(elements);
        }
        let mut values = Vec::with_capacity(elements.len() * self.gets.len().max(1));
        for element in elements {
            if self.gets.is_empty() {
                values.push(Some(element));
                continue;
            }
            values.extend(self.gets.iter().map(|get| match get {
                Get::Itself => Some(element.clone()),
                Get::Nothing => None,
                Get::Pattern(pattern) => reader.value(pattern, &element),
            }));
        }
        if reader.wanting.is_empty() { Arranged::Done(values) } else { Arranged::Wanting(reader.wanting) }
    }

    fn is_sorted_by_server(&self) -> bool {
        self.destination.is_none() && !matches!(self.by, By::Pattern(_))
    }

    /// `None` if a weight should be a number and is not.
    fn sorted(&self, mut elements: Vec<Bytes>, is_set: bool, reader: &mut Reader<'_>) -> Option<Vec<Bytes>> {
        let weights: Vec<Option<Bytes>> = match &self.by {
            By::Nothing if !is_set => {
                if self.descending {
                    elements.reverse();
                }
                return Some(elements);
            }
            By::Itself | By::Nothing => elements.iter().cloned().map(Some).collect(),
            By::Pattern(pattern) => elements.iter().map(|element| reader.value(pattern, element)).collect(),
        };
        if self.alpha || matches!(self.by, By::Nothing) {
            return Some(self.in_order(weights, elements, |one, other| one.0.cmp(&other.0)));
        }
        let weights = weights.iter().map(|weight| weight.as_ref().map_or(Some(0.0), |text| number(text)));
        let weights: Vec<f64> = weights.collect::<Option<_>>()?;
        Some(self.in_order(weights, elements, |one, other| one.0.total_cmp(&other.0).then_with(|| one.1.cmp(&other.1))))
    }

    fn in_order<W>(&self, weights: Vec<W>, elements: Vec<Bytes>, compare: impl Fn(&(W, Bytes), &(W, Bytes)) -> Ordering) -> Vec<Bytes> {
        let mut weighed: Vec<(W, Bytes)> = weights.into_iter().zip(elements).collect();
        weighed.sort_by(|one, other| if self.descending { compare(other, one) } else { compare(one, other) });
        weighed.into_iter().map(|(_, element)| element).collect()
    }

    fn within_limit(&self, elements: Vec<Bytes>) -> Vec<Bytes> {
        let (start, count) = self.limit.unwrap_or((0, -1));
        let start = usize::try_from(start).unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        elements.into_iter().skip(start).take(count).collect()
    }
}

impl Get {
    fn parse(text: Bytes) -> Self {
        match Pattern::parse(text.clone()) {
            _ if text.as_ref() == b"#" => Self::Itself,
            Some(pattern) => Self::Pattern(pattern),
            None => Self::Nothing,
        }
    }
}

impl Pattern {
    /// `None` if `text` has no star.
    fn parse(text: Bytes) -> Option<Self> {
        let star = memchr(b'*', until_zero(&text))?;
        let (before, after) = (text.slice(..star), text.slice(star + 1..));
        let arrow = memmem::find(until_zero(&after), b"->").filter(|arrow| after.get(arrow + 2).is_some_and(|byte| *byte != 0));
        Some(match arrow {
            Some(arrow) => Self { before, field: Some(after.slice(arrow + 2..)), after: after.slice(..arrow) },
            None => Self { before, after, field: None },
        })
    }

    /// The slot of every key that it may name, if its hash tag says so.
    pub fn slot(&self) -> Option<Slot> {
        (slot::hash_tag(&self.before).len() < self.before.len()).then(|| Slot::of(&self.before))
    }

    fn lookup(&self, element: &[u8]) -> Lookup {
        let mut key = BytesMut::with_capacity(self.before.len() + element.len() + self.after.len());
        [&self.before[..], element, &self.after].iter().for_each(|part| key.extend_from_slice(part));
        Lookup { key: key.freeze(), field: self.field.clone() }
    }
}

impl Lookup {
    /// What finds it. For a key of another type the server answers WRONGTYPE: then there is no value.
    pub fn request(&self) -> Request {
        match &self.field {
            None => Request::new(&[b"GET", &self.key[..]]),
            Some(field) => Request::new(&[b"HGET", &self.key[..], field]),
        }
    }
}

/// What is known, and what of it was missed.
struct Reader<'a> {
    known: &'a Known,
    wanting: Vec<Lookup>,
}

impl Reader<'_> {
    fn value(&mut self, pattern: &Pattern, element: &[u8]) -> Option<Bytes> {
        let lookup = pattern.lookup(element);
        match self.known.get(&lookup) {
            Some(value) => value.clone(),
            None => {
                self.wanting.push(lookup);
                None
            }
        }
    }
}

/// The part of `text` that C sees.
fn until_zero(text: &[u8]) -> &[u8] {
    &text[..memchr(0, text).unwrap_or(text.len())]
}

/// `text` as `strtod` reads all of it: white space may precede the number, hexadecimal digits may form it. What is out of range is none.
fn number(text: &[u8]) -> Option<f64> {
    let text = until_zero(text);
    if text.is_empty() {
        return Some(0.0);
    }
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let text = &text[text.iter().take_while(|byte| blank(byte)).count()..];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let magnitude = match digits {
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
        _ if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") => f64::INFINITY,
        [b'0'..=b'9' | b'.', ..] => {
            let value: f64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
            let mantissa = digits.split(|byte| byte.eq_ignore_ascii_case(&b'e')).next().unwrap_or_default();
            let is_zero = mantissa.iter().all(|byte| matches!(byte, b'0' | b'.'));
            Some(value).filter(|value| is_zero || value.is_normal())?
        }
        _ => return None,
    };
    // There is one zero only, as far as order goes.
    Some(if negative && magnitude != 0.0 { -magnitude } else { magnitude })
}

/// What follows `0x`: digits, perhaps with a point, perhaps `p` and a power of two.
fn hexadecimal(text: &[u8]) -> Option<f64> {
    let (digits, power) = match text.iter().position(|byte| byte.eq_ignore_ascii_case(&b'p')) {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let mut parts = digits.split(|byte| *byte == b'.');
    let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if parts.next().is_some() || whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut value = 0.0;
    for byte in whole.iter().chain(fraction) {
        value = value * 16.0 + f64::from((*byte as char).to_digit(16)?);
    }
    let power = power.saturating_sub(4 * i32::try_from(fraction.len()).ok()?);
    let scaled = value * 2.0_f64.powi(power);
    Some(scaled).filter(|scaled| value == 0.0 || scaled.is_normal())
}

#[cfg(test)]
mod tests;
