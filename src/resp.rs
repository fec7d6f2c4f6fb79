//! RESP, the wire protocol of Redis, as byte ranges: requests, replies, and what weft itself says.
//!
//! A proxy reads every byte twice and should touch it hardly more often. So nothing here builds a tree on the way through:
//! [`RequestDecoder`] turns a client's bytes into [`Request`]s, each a slice of the read buffer with the places of its arguments;
//! [`ReplyScanner`] finds out how long a shard's reply is, and the slice goes to the client who waits for it.
//! Both keep what they have understood, so that neither long nor slowly arriving frames are read twice, and neither
//! allocates because of a number that a peer announced.
//!
//! Why not the `redis-protocol` crate on this path: it starts over from the first byte whenever a frame is incomplete, allocates a
//! vector per aggregate, accepts numbers that are not canonical and never looks at the bytes behind a bulk string, so what it
//! accepted could not be forwarded as it is. It also takes four to ten times as long; the figures stand in the headers of `decoder` and
//! `scanner`.
//!
//! Trust differs by side. A client may be hostile: whatever it sends is canonical, encoded anew, or refused with Redis's
//! own words ([`ProtocolError`]). A shard is on our side but may repeat hostile text: whatever is not RESP is a [`ReplyError`], and its
//! connection is closed, because on a shared connection one reply out of step gives every client the reply of another.
//!
//! Everything here is pure: no clock, no I/O. [`ReplyWriter`] and [`error_reply`] are weft's own voice; [`Value`] and [`elements`]
//! take apart the few replies that weft reads itself.

mod decoder;
mod encode;
mod error;
pub mod error_reply;
mod frame;
mod inline;
mod limits;
mod line;
mod reply;
mod request;
mod scanner;

pub use decoder::RequestDecoder;
pub use encode::{Proto, Reply as ReplyWriter};
pub use error::{ProtocolError, ReplyError};
pub use frame::{Frame, FrameWriter, Pieces};
pub use limits::Limits;
pub use reply::{Value, elements};
pub use request::Request;
pub use scanner::{NESTING_MAX, ReplyScanner};
