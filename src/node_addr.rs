//! The address of a server, as it is written in `proxy.yaml` and in the cluster's own replies: `host:port`, `[v6]:port`.
//!
//! A host stays the text that was given. It is resolved each time it is dialled, so that a name which moves is followed, and two
//! addresses are the same node only if they are spelled the same.

use std::fmt;
use std::str::FromStr;

/// Where a server listens. The host is never empty and the port never zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddr {
    host: Box<str>,
    port: u16,
}

impl NodeAddr {
    /// The address `host:port`, unless the host is empty, has a blank or control character in it, or the port is zero.
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let usable = !host.is_empty() && port != 0 && !host.contains(|c: char| c.is_whitespace() || c.is_control());
        usable.then(|| Self { host: host.into(), port })
    }

    /// A name or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, never zero.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// The text is not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form host:port")]
pub struct NotAnAddress;

impl FromStr for NodeAddr {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NotAnAddress)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(NotAnAddress)?,
            None if host.contains(':') => return Err(NotAnAddress),
            None => host,
        };
        Self::new(host, port.parse().map_err(|_| NotAnAddress)?).ok_or(NotAnAddress)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_is_displayed_as_it_was_written() {
        for text in ["127.0.0.1:7001", "redis-0.redis.svc:6379", "[::1]:7001"] {
            assert_eq!(text.parse::<NodeAddr>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:7001".parse::<NodeAddr>().unwrap().host(), "::1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "localhost", ":7001", "localhost:", "localhost:0", "localhost:70000", "::1:7001", "[::1:7001", "a b:7001"] {
            assert_eq!(text.parse::<NodeAddr>(), Err(NotAnAddress), "{text:?}");
        }
    }
}
