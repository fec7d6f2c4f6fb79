//! A password that cannot end up in a log line by accident.

use std::fmt;

/// A password. Its `Debug` form is `***`; the text is only had by asking for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is the password, in a time that depends only on the candidate's length.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let password = self.0.as_bytes();
        let byte = |at: usize| password.get(at).copied().unwrap_or(0);
        let difference = candidate.iter().enumerate().fold(0, |difference, (at, b)| difference | (b ^ byte(at)));
        difference == 0 && candidate.len() == password.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Some(Secret::new("tr0ub4dor"))), "Some(***)");
    }

    #[test]
    fn a_secret_matches_only_itself() {
        let secret = Secret::new("abc");
        assert!(secret.matches(b"abc"));
        for other in [&b""[..], b"ab", b"abd", b"abcd", b"abc\0"] {
            assert!(!secret.matches(other), "{other:?}");
        }
        assert!(!Secret::new("").matches(b"\0") && Secret::new("").matches(b""));
    }
}
