//! RESP, the wire protocol of Redis, as byte ranges: requests, replies, and what weft itself says.

mod encode;
mod request;

pub use encode::{Proto, Reply as ReplyWriter};
pub use request::Request;
