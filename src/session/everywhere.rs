//! Commands for all shards at once: scripts and functions, FLUSHALL, SAVE, CONFIG, and everything about the whole keyspace.
//!
//! Guarantee: each shard carries the command out, or the reply is an error; the replies become one as the command table's response
//! policy says ([`route::merge`]), or [`persistence`]. What is about keys never shows one of weft's own: [`keyspace`].
//!
//! No guarantee: the shards do not act at the same instant, and no locks are respected. A client that looks at another shard in between
//! sees FLUSHALL done here and not yet there; of a transaction that commits meanwhile, KEYS and DBSIZE may count one shard's part
//! without the other's. Making them atomic would stop every client of every shard for as long as the slowest one takes. A FLUSHALL in the
//! middle of another's commit is to it like a failover that lost its records: the transaction is applied anew, or not at all.
//!
//! | what goes wrong | what the client is told |
//! |---|---|
//! | a shard answers an error | that error; others may have carried the command out |
//! | a shard cannot be reached | `UNAVAILABLE … other shards may have carried the command out` |
//!
//! All of these commands can be repeated. Between MULTI and EXEC those that change data or wait are refused; the others are answered when the
//! queued commands have been carried out.

mod acknowledge;
mod config;
mod cursor;
mod keyspace;
mod persistence;
mod scripts;

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

pub(super) use acknowledge::Writes;
pub(super) use scripts::Called;
pub use scripts::Scripts;

use super::{Databases, Pending, Session, local};
use crate::command::{Flags, Handling};
use crate::resp::{Proto, ReplyWriter, Request, elements, error_reply};
use crate::route;
use crate::txn::ExecError;

impl Session {
    /// Carries out a command for all shards.
    pub(super) async fn everywhere(&mut self, Pending { spec, request }: Pending) {
        if let Handling::Keyspace(survey) = spec.handling {
            return match self.survey(survey, &request).await {
                Ok(reply) => self.window.reply_with([reply]),
                Err(error) => self.deliver(Err(error)),
            };
        }
        let context = Rc::clone(&self.context);
        let proto = self.client.proto();
        if matches!(spec.name, "flushall" | "flushdb" | "swapdb") {
            context.let_all_look().await;
        }
        let replies = match spec.name {
            _ if spec.flags.contains(Flags::BLOCKING) => self.acknowledged(&request).await,
            "save" => self.saved().await,
            "swapdb" => return self.deliver(self.swapped(&request).await),
            "function|stats" => context.function_stats(&request, proto).await,
            "script|kill" | "function|kill" => context.kill(spec, proto).await,
            _ => context.engine.every_shard(&request, self.client.profile.db, proto).await,
        };
        match replies {
            // One that a shard lacks is given back to it when it is called; where weft needs the text, what shards have does not help.
            Ok(replies) if spec.name == "script|exists" && !replies.iter().any(|reply| route::is_error(reply)) => {
                let lists: Vec<Vec<Bytes>> = replies.iter().filter_map(|reply| elements(reply).ok().flatten()).collect();
                let on_all = |index: usize| lists.iter().all(|list| list.get(index).is_some_and(|found| found.as_ref() == b":1\r\n"));
                self.reply(|reply| {
                    reply.array(request.argc() - 2);
                    for (index, digest) in request.args_from(2).enumerate() {
                        let known = context.scripts.body(digest).is_some();
                        reply.integer(i64::from(known || (on_all(index) && !context.scripts.are_held())));
                    }
                });
            }
            Ok(replies) => {
                context.scripts.note(spec.name, &request);
                if spec.name == "config|resetstat" {
                    context.metrics.reset();
                }
                self.window.reply(|out| route::merge(persistence::response_policy(spec), &replies, out, proto));
            }
            Err(_) => self.reply(|reply| reply.error(error_reply::NOT_EVERYWHERE)),
        }
    }
}

impl Session {
    /// The reply to SWAPDB. What is no number the server says itself.
    async fn swapped(&self, request: &Request) -> Result<Bytes, ExecError> {
        let databases = self.context.settings.databases;
        let count = if let Databases::Count(count) = databases { count } else { 1 };
        if count > 1 && request.args_from(1).any(|index| local::database(index, databases) == Err(error_reply::DB_INDEX)) {
            return error(error_reply::DB_INDEX);
        }
        self.context.engine.swap_databases(request, count, self.client.proto()).await
    }
}

/// A reply that consists of one error of weft's own.
fn error(text: &str) -> Result<Bytes, ExecError> {
    let mut out = BytesMut::new();
    ReplyWriter::new(&mut out, Proto::Resp2).error(text);
    Ok(out.freeze())
}
