//! What every new connection says first: who we are, the protocol version, the database, and the scripts that it will call. Last it asks
//! whom it leads to.

use std::rc::Rc;

use bytes::Bytes;

use crate::resp::{Proto, Request};

/// How to introduce a connection; the same for all connections of a worker.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The user to authenticate as; `default` where there is only a password.
    pub username: Option<String>,
    /// The password; none sends no AUTH.
    pub password: Option<String>,
    /// Requests whose success the callers count on later, such as SCRIPT LOAD.
    pub preload: Rc<[Request]>,
}

impl Handshake {
    /// The requests to send on a connection that is to speak `proto` and work in database `db`.
    ///
    /// The first of them, up to the number in the second place, must succeed; of the others only the number of replies counts.
    /// The last asks which [`Run`](super::Run) this is.
    pub(super) fn requests(&self, proto: Proto, db: u32) -> (Vec<Request>, usize) {
        let mut requests = Vec::new();
        if let Some(password) = &self.password {
            let user = self.username.as_deref().unwrap_or("default");
            requests.push(Request::new(&["AUTH", user, password]));
        }
        if proto == Proto::Resp3 {
            requests.push(Request::new(&["HELLO", "3"]));
        }
        if db != 0 {
            requests.push(Request::new(&["SELECT", &db.to_string()]));
        }
        let required = requests.len();
        requests.push(Request::new(&["CLIENT", "SETNAME", "weft"]));
        requests.extend(self.preload.iter().cloned());
        requests.push(Request::new(&["INFO", "server"]));
        (requests, required)
    }
}

/// The error text in `reply`, if it is one.
pub(super) fn error_text(reply: &Bytes) -> Option<String> {
    (reply.first() == Some(&b'-')).then(|| String::from_utf8_lossy(&reply[1..]).trim_end().to_owned())
}
