//! One client's connection: what it carries, what is answered here, what goes to the shards.

pub mod client;
pub mod local;
pub mod registry;

pub use client::{ClientState, Peer, Profile, ReplyMode};
pub use local::{Call, Databases, LocalContext, LocalOutcome, LocalSettings, needs_auth};
pub use registry::{ClientRegistry, Registration};
