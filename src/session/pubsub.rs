//! SUBSCRIBE, PUBLISH and their kin.
//!
//! A worker listens to each shard on one connection, whoever wants to hear what ([`hub`]); a client's subscription is an entry there. It
//! is confirmed to the client when the shard has confirmed it, so whatever any proxy publishes after the confirmation is heard; so is its
//! end. All messages are published at one shard and come in one order, whatever their channels; those on shard channels (SPUBLISH) are
//! spread over the shards, each channel's in order. They go between the replies of a client, never into one; a client that does not
//! read them is disconnected when more than `client_output_bytes_max` wait for it.
//!
//! PUBLISH goes out after everything that the client wrote before it: who is told of a change finds it. Queued in a transaction it is sent
//! when the transaction has been carried out, and not at all if that fails. Its reply is the number of receivers as far as it can be
//! known; see [`census`].

pub(super) mod census;
pub(super) mod glob;
pub(super) mod hub;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use self::hub::{Hub, Listener, home_slot};
use super::client;
use super::dispatch::Step;
use super::window::{Lane, Shape, Window};
use super::{Context, Pending, Session};
use crate::command::{CommandSpec, Keys};
use crate::resp::{Proto, ReplyWriter, Request, Value, error_reply};
use crate::route::{Place, Reach, Routed};
use crate::topology::Mode;
use crate::txn::ExecError;
use crate::upstream::{ReplySink, Topic, TopicKind, goes_apart};

/// What one client listens to. Dropping it ends that.
pub(super) struct Subscriptions {
    hub: Rc<Hub>,
    listener: Rc<Listener>,
    topics: BTreeSet<Topic>,
}

impl Subscriptions {
    /// None yet, for the client behind `window`.
    pub(super) fn new(hub: Rc<Hub>, window: Rc<Window>) -> Self {
        Self {
            hub,
            listener: Rc::new(Listener { window, proto: Cell::new(Proto::Resp2), listens: Cell::new(false) }),
            topics: BTreeSet::new(),
        }
    }

    /// The client as those know it who tell it something.
    pub(super) fn listener(&self) -> &Rc<Listener> {
        &self.listener
    }

    /// The client reads `proto` from now on.
    pub(super) fn set_proto(&self, proto: Proto) {
        self.listener.proto.set(proto);
    }

    /// Ends all of them.
    pub(super) fn clear(&mut self) {
        std::mem::take(&mut self.topics).iter().for_each(|topic| self.hub.leave(topic, &self.listener));
        self.listener.listens.set(false);
    }

    /// Takes over a hold on `topic`; tells what the client listens to now.
    fn add(&mut self, topic: &Topic) -> client::Subscriptions {
        if self.topics.insert(topic.clone()) {
            self.hub.join(topic, &self.listener);
        } else {
            self.hub.release(topic);
        }
        self.listener.listens.set(true);
        self.count()
    }

    /// Gives `topic` up; tells what the client listens to now.
    fn remove(&mut self, topic: &Topic) -> client::Subscriptions {
        if self.topics.remove(topic) {
            self.hub.leave(topic, &self.listener);
        }
        self.listener.listens.set(!self.topics.is_empty());
        self.count()
    }

    fn of(&self, kind: TopicKind) -> impl Iterator<Item = &Topic> {
        self.topics.iter().filter(move |topic| topic.kind == kind)
    }

    fn count(&self) -> client::Subscriptions {
        let count = |kind| self.of(kind).count() as u32;
        client::Subscriptions {
            channels: count(TopicKind::Channel),
            patterns: count(TopicKind::Pattern),
            shard_channels: count(TopicKind::Shard),
        }
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether a RESP2 client that listens may send the command: it reads messages, and could not tell other replies from them.
pub(super) fn is_for_listeners(spec: &CommandSpec) -> bool {
    is_confirmed(spec) || matches!(spec.name, "ping" | "quit" | "reset")
}

/// Whether the command is answered by messages.
pub(super) fn is_confirmed(spec: &CommandSpec) -> bool {
    matches!(spec.name, "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe")
}

impl Session {
    /// Sends a command of publish and subscribe on its way.
    pub(super) fn pubsub(&mut self, pending: Pending) -> Step {
        match pending.spec.name {
            "publish" => self.publish(TopicKind::Channel, pending),
            "spublish" => self.publish(TopicKind::Shard, pending),
            _ => Step::Alone(pending),
        }
    }

    /// Carries out a command of publish and subscribe with nothing in flight.
    pub(super) async fn pubsub_alone(&mut self, Pending { spec, request }: Pending) {
        let context = Rc::clone(&self.context);
        let proto = self.client.proto();
        let result = match spec.name {
            "subscribe" => return self.subscribe(TopicKind::Channel, &request).await,
            "psubscribe" => return self.subscribe(TopicKind::Pattern, &request).await,
            "ssubscribe" => return self.subscribe(TopicKind::Shard, &request).await,
            "unsubscribe" => return self.unsubscribe(TopicKind::Channel, &request).await,
            "punsubscribe" => return self.unsubscribe(TopicKind::Pattern, &request).await,
            "sunsubscribe" => return self.unsubscribe(TopicKind::Shard, &request).await,
            "publish" => context.publish(TopicKind::Channel, spec, &request, proto).await,
            "spublish" => context.publish(TopicKind::Shard, spec, &request, proto).await,
            "pubsub|channels" | "pubsub|shardchannels" => context.channels(&request, proto).await,
            "pubsub|numsub" => context.subscribers(TopicKind::Channel, &request, proto).await,
            "pubsub|shardnumsub" => context.subscribers(TopicKind::Shard, &request, proto).await,
            "pubsub|numpat" => context.patterns(&request, proto).await,
            _ => context.engine.any_shard(&request, proto).await,
        };
        self.deliver(result);
    }

    fn publish(&mut self, kind: TopicKind, Pending { spec, request }: Pending) -> Step {
        if goes_apart([&request]) {
            return Step::Alone(Pending { spec, request });
        }
        if self.window.has_writes() {
            return Step::Stalled(Pending { spec, request });
        }
        let topic = Topic { kind, name: request.arg_bytes(1) };
        let context = &self.context;
        let Some(place) = context.place_of(&topic) else { return self.refuse(error_reply::CLUSTERDOWN_SLOT) };
        let Some(node) = context.upstreams.primary(place.shard) else { return self.refuse(error_reply::UPSTREAM_UNAVAILABLE) };
        let shape = Shape::Published { excess: context.hub.census().excess_receivers(&topic) };
        let ticket = self.window.push(shape, place, Lane::Read, request.clone());
        let sink: Rc<dyn ReplySink> = Rc::<Window>::clone(&self.window);
        node.shared(0, self.client.proto()).send(sink, ticket, shape.frames(), |out| out.extend_from_slice(request.bytes()));
        Step::Sent
    }

    async fn subscribe(&mut self, kind: TopicKind, request: &Request) {
        let hub = Rc::clone(&self.context.hub);
        let topics: Vec<Topic> =
            (1..request.argc()).map(|index| Topic { kind, name: Bytes::copy_from_slice(request.arg(index)) }).collect();
        topics.iter().for_each(|topic| hub.hold(topic));
        let patience = self.context.config.upstream.reply_timeout;
        if tokio::time::timeout(patience, hub.confirmed(&topics)).await.is_err() {
            topics.iter().for_each(|topic| hub.release(topic));
            return self.reply(|reply| reply.error(error_reply::UPSTREAM_UNAVAILABLE));
        }
        for topic in &topics {
            let count = self.subscriptions.add(topic);
            self.tell(kind, SUBSCRIBED, Some(&topic.name), count);
        }
    }

    async fn unsubscribe(&mut self, kind: TopicKind, request: &Request) {
        let topics: Vec<Topic> = match request.argc() {
            1 => self.subscriptions.of(kind).cloned().collect(),
            argc => (1..argc).map(|index| Topic { kind, name: request.arg_bytes(index) }).collect(),
        };
        let counts: Vec<client::Subscriptions> = topics.iter().map(|topic| self.subscriptions.remove(topic)).collect();
        // A shard that does not answer has nobody to tell anything to.
        let hub = Rc::clone(&self.context.hub);
        let _ = tokio::time::timeout(self.context.config.upstream.reply_timeout, hub.settled(&topics)).await;
        if topics.is_empty() {
            self.tell(kind, UNSUBSCRIBED, None, self.subscriptions.count());
        }
        for (topic, count) in topics.iter().zip(counts) {
            self.tell(kind, UNSUBSCRIBED, Some(&topic.name), count);
        }
    }

    /// Confirms that the client listens to `name`, or no longer does, and to how many others it does.
    fn tell(&mut self, kind: TopicKind, words: [&str; 3], name: Option<&[u8]>, count: client::Subscriptions) {
        self.client.profile.subscriptions = count;
        self.client.publish();
        let (word, left) = match kind {
            TopicKind::Channel => (words[0], count.channels + count.patterns),
            TopicKind::Pattern => (words[1], count.channels + count.patterns),
            TopicKind::Shard => (words[2], count.shard_channels),
        };
        self.reply(|reply| {
            reply.push(3);
            reply.bulk(word.as_bytes());
            match name {
                Some(name) => reply.bulk(name),
                None => reply.null(),
            }
            reply.integer(i64::from(left));
        });
    }
}

const SUBSCRIBED: [&str; 3] = ["subscribe", "psubscribe", "ssubscribe"];
const UNSUBSCRIBED: [&str; 3] = ["unsubscribe", "punsubscribe", "sunsubscribe"];

impl Context {
    /// Where messages on `topic` are published.
    fn place_of(&self, topic: &Topic) -> Option<Place> {
        let map = self.upstreams.map();
        let slot = home_slot(topic);
        Some(Place { slot: (map.mode() == Mode::Cluster).then_some(slot), shard: map.owner(slot)?, db: 0 })
    }

    async fn publish(&self, kind: TopicKind, spec: &'static CommandSpec, request: &Request, proto: Proto) -> Result<Bytes, ExecError> {
        let topic = Topic { kind, name: request.arg_bytes(1) };
        let place = self.place_of(&topic).ok_or(ExecError::Unreachable)?;
        let routed = Routed { spec, request: request.clone(), place, keys: Keys::new(), reach: Reach::Keys };
        let excess = self.hub.census().excess_receivers(&topic);
        self.engine.single(routed, proto, false).await.map(|reply| add(&reply, excess))
    }

    /// The names that all shards know.
    async fn channels(&self, request: &Request, proto: Proto) -> Result<Bytes, ExecError> {
        let replies = self.engine.every_shard(request, 0, Proto::Resp2).await?;
        let mut names: BTreeSet<Bytes> = BTreeSet::new();
        for reply in &replies {
            let value = Value::parse(reply).map_err(|_| ExecError::Unreachable)?;
            names.extend(value.items().ok_or_else(|| ExecError::Refused(reply.clone()))?.iter().filter_map(Value::text).cloned());
        }
        Ok(written(proto, |reply| {
            reply.array(names.len());
            names.iter().for_each(|name| reply.bulk(name));
        }))
    }

    /// How many listen to each of the names in the request: told by the shard that each is published at.
    async fn subscribers(&self, kind: TopicKind, request: &Request, proto: Proto) -> Result<Bytes, ExecError> {
        let topics: Vec<Topic> = (2..request.argc()).map(|index| Topic { kind, name: request.arg_bytes(index) }).collect();
        let replies = join_all(topics.iter().map(async |topic| {
            let question = Request::new(&[request.arg(0), request.arg(1), &topic.name]);
            let reply = self.ask(topic, &question).await?;
            let count = reply.items().and_then(|items| items.get(1)?.integer());
            count.ok_or(ExecError::Unreachable).map(|count| count + self.hub.census().excess(topic))
        }));
        let counts = replies.await.into_iter().collect::<Result<Vec<i64>, ExecError>>()?;
        Ok(written(proto, |reply| {
            reply.array(counts.len() * 2);
            for (topic, count) in topics.iter().zip(&counts) {
                reply.bulk(&topic.name);
                reply.integer(*count);
            }
        }))
    }

    /// How many different patterns are listened to.
    async fn patterns(&self, request: &Request, proto: Proto) -> Result<Bytes, ExecError> {
        let any = Topic { kind: TopicKind::Pattern, name: Bytes::new() };
        let count = self.ask(&any, request).await?.integer().ok_or(ExecError::Unreachable)?;
        Ok(written(proto, |reply| reply.integer(count)))
    }

    /// Puts a question about `topic` to the shard that it is published at.
    async fn ask(&self, topic: &Topic, question: &Request) -> Result<Value, ExecError> {
        let shard = self.upstreams.map().owner(home_slot(topic)).ok_or(ExecError::Unreachable)?;
        let reply = self.engine.one_shard(shard, question, 0, Proto::Resp2).await?;
        Value::parse(&reply).map_err(|_| ExecError::Unreachable)
    }
}

/// The number of receivers that `reply` tells, and `excess`.
pub(super) fn add(reply: &[u8], excess: i64) -> Bytes {
    match Value::parse(&Bytes::copy_from_slice(reply)) {
        Ok(Value::Integer(count)) => written(Proto::Resp2, |reply| reply.integer((count + excess).max(0))),
        _ => Bytes::copy_from_slice(reply),
    }
}

fn written(proto: Proto, write: impl FnOnce(&mut ReplyWriter<'_>)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut ReplyWriter::new(&mut out, proto));
    out.freeze()
}
