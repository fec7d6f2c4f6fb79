//! The unit inside which Redis itself runs several keys atomically.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use super::Malformed;
use crate::slot::Slot;

/// A slot of a cluster, or a database of a static shard.
///
/// Not a node: the slots of a node can part ways between prepare and commit. The order is the global order in which
/// ordered attempts prepare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Participant {
    /// A slot of a Redis Cluster. Its text form is `s` and the number.
    Slot(Slot),
    /// A database of a static shard. Its text form is `name/db`.
    Shard {
        /// The shard's name in the configuration: no space, no slash.
        name: Arc<str>,
        /// The database's number.
        db: u32,
    },
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "s{slot}"),
            // Part by part: it is written for every transaction, and a format string takes several times as long.
            Self::Shard { name, db } => {
                f.write_str(name)?;
                f.write_str("/")?;
                f.write_str(itoa::Buffer::new().format(*db))
            }
        }
    }
}

impl FromStr for Participant {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let participant = match text.split_once('/') {
            Some((name, db)) => Self::Shard { name: name.into(), db: db.parse().map_err(|_| Malformed)? },
            None => {
                let index = text.strip_prefix('s').and_then(|index| index.parse().ok());
                Self::Slot(index.and_then(Slot::new).ok_or(Malformed)?)
            }
        };
        let empty_name = text.starts_with('/') || text.contains(char::is_whitespace);
        if !empty_name && participant.to_string() == text { Ok(participant) } else { Err(Malformed) }
    }
}

/// The list of a transaction's participants as its records hold it, the same in all of them.
pub fn participants_text<'a>(participants: impl IntoIterator<Item = &'a Participant>) -> String {
    let mut text = String::new();
    for participant in participants {
        if !text.is_empty() {
            text.push(' ');
        }
        // A string takes whatever is written.
        let _ = write!(text, "{participant}");
    }
    text
}

/// Reads what [`participants_text`] wrote.
pub fn parse_participants(text: &str) -> Result<Vec<Participant>, Malformed> {
    text.split(' ').map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_its_text_form() {
        let list = vec![
            Participant::Slot(Slot::of(b"foo")),
            Participant::Slot(Slot::of(b"123456789")),
            Participant::Shard { name: "s1".into(), db: 0 },
            Participant::Shard { name: "east-2".into(), db: 15 },
        ];
        assert_eq!(participants_text(&list), "s12182 s12739 s1/0 east-2/15");
        assert_eq!(parse_participants(&participants_text(&list)), Ok(list));
    }

    #[test]
    fn any_other_text_is_no_participant() {
        for text in ["", "s", "s16384", "s01", "s-1", "s+1", "x1", "/0", "a/", "a/01", "a/b/0", "a b/0", "a/0 "] {
            assert_eq!(text.parse::<Participant>(), Err(Malformed), "{text:?}");
        }
    }
}
