//! What weft knows about commands: one table, and what follows from it.
//!
//! A request is looked up here once, by name; whatever is decided about it afterwards (where it goes, whether it needs a lock, whether it
//! may run in a script) is a column of its row, never a match on its name elsewhere. The table has every command of Redis 7.0 and of
//! Valkey 9, including those that weft refuses: an unknown command and one that is not supported are different errors.

mod columns;
mod keys;
mod literal;
mod lookup;
mod lua;
mod row;
mod sort;
mod spec;
mod special;
mod table;

pub use columns::{Handling, ReRead, ScriptReply, SplitKind, Survey};
pub use keys::{Access, KeyError, KeyRef, Keys, keys};
pub use literal::uses_keys_literally;
pub use lookup::{LookupError, all, lookup};
pub use lua::lua_rules;
pub use sort::{Arranged, Known, Lookup, Pattern, Sort, Source};
pub use spec::{
    BeginSearch, Categories, CommandSpec, FindKeys, Flags, KeyFlags, KeySpec, MultiKeyClass, Output, RequestPolicy, ResponsePolicy, Tips,
};
pub use special::may_wait;
