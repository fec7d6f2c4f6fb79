//! MONITOR: a client that is shown every command which this process takes from any client.
//!
//! A command is shown when it is taken on, those of a transaction when EXEC has carried them out, in Redis's words and with what
//! Redis leaves out: commands of administrators, and passwords ([`mod@line`]). While nobody watches, a command pays for reading one
//! number. Who watches and reads too slowly is sent away like a subscriber, when more than `client_output_bytes_max` wait for it.
//!
//! What scripts call, only the shards see. So while somebody watches, the shards are watched too, and what they tell of users' scripts is
//! passed on ([`scripts`]). That comes from other connections, a moment later than the commands of clients that follow.
//!
//! Not shown: what clients of other proxies send, and what a script calls whose keys are on several shards, because it runs on copies. Of a
//! transaction whose MULTI was sent before anybody watched, what was queued by then.

mod line;
mod scripts;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context as TaskContext;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use futures::future::join_all;
use futures::task::AtomicWaker;

use self::scripts::Calls;
use super::window::Window;
use super::{Context, Mode, Session, dispatch, local};
use crate::command::{CommandSpec, Flags};
use crate::resp::{Proto, Request};
use crate::upstream::Ear;

/// The clients of all workers that watch.
#[derive(Debug, Default)]
pub struct Monitors {
    /// How many they are: read for every command, without the lock.
    count: AtomicUsize,
    posts: Mutex<Vec<Arc<Post>>>,
}

/// What waits to be shown to one of them. Its session holds the other end.
#[derive(Debug)]
struct Post {
    lines: Mutex<BytesMut>,
    bytes_max: usize,
    /// The session's task.
    reader: AtomicWaker,
}

/// A command that was queued, and the database that it is for.
pub(super) type Shown = (u32, Request);

impl Monitors {
    /// Whether anybody watches.
    pub(super) fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Shows `commands` of the client at `from` to all who watch.
    fn show<'a>(&self, from: SocketAddr, commands: impl IntoIterator<Item = (u32, &'a Request)>) {
        // Under the lock, so that times grow from line to line.
        let posts = self.lock();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut lines = BytesMut::new();
        commands.into_iter().for_each(|(db, request)| line::write(&mut lines, time, db, from, request));
        posts.iter().for_each(|post| post.put(&lines));
    }

    fn join(&self, bytes_max: usize) -> Arc<Post> {
        let post = Arc::new(Post { lines: Mutex::default(), bytes_max, reader: AtomicWaker::new() });
        self.lock().push(Arc::clone(&post));
        self.count.fetch_add(1, Ordering::Relaxed);
        post
    }

    fn leave(&self, post: &Arc<Post>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, post));
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Post>>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Post {
    fn put(&self, lines: &[u8]) {
        let mut waiting = self.lock();
        // Whoever has more to read than it may will be sent away when it hears so: that is enough.
        if waiting.len() <= self.bytes_max {
            waiting.extend_from_slice(lines);
        }
        drop(waiting);
        self.reader.wake();
    }

    fn take(&self, cx: &TaskContext<'_>) -> BytesMut {
        self.reader.register(cx.waker());
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's watching. Dropping it ends that.
pub(super) struct Watching {
    monitors: Arc<Monitors>,
    post: Arc<Post>,
    ears: Vec<Ear>,
    /// The primaries that the ears are at.
    version: u64,
}

impl Watching {
    fn new(context: &Context) -> Self {
        let post = context.monitors.join(context.config.limits.client_output_bytes_max);
        let mut watching = Self { monitors: Arc::clone(&context.monitors), post, ears: Vec::new(), version: 0 };
        watching.follow(context);
        watching
    }

    /// Listens to the primaries as they are now.
    fn follow(&mut self, context: &Context) {
        self.version = context.upstreams.version();
        self.ears = context.upstreams.primaries().iter().map(|node| node.ear(Box::new(Calls::new(&self.post)))).collect();
    }

    /// Appends what is to be shown to what the client reads.
    fn show(&mut self, context: &Context, window: &Window, cx: &TaskContext<'_>) {
        if self.version != context.upstreams.version() {
            self.follow(context);
        }
        let lines = self.post.take(cx);
        if !lines.is_empty() {
            window.message(Proto::Resp2, &lines, self.post.bytes_max);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.monitors.leave(&self.post);
    }
}

impl Session {
    /// MONITOR. As in Redis a client that watches already hears no reply.
    pub(super) async fn monitor(&mut self) {
        if self.watching.is_some() {
            return;
        }
        let context = Rc::clone(&self.context);
        let watching = self.watching.insert(Watching::new(&context));
        // Where a shard cannot be heard, what its scripts call is not shown.
        let _ = tokio::time::timeout(context.config.upstream.connect_timeout, join_all(watching.ears.iter().map(Ear::ready))).await;
        self.client.profile.monitors = true;
        self.reply(|reply| reply.simple("OK"));
    }

    /// Shows the client, if it watches, what others do.
    pub(super) fn overhear(&mut self, cx: &TaskContext<'_>) {
        if let Some(watching) = &mut self.watching {
            watching.show(&self.context, &self.window, cx);
        }
    }

    /// Shows a command that was taken on to those who watch; one that is queued, when EXEC comes.
    pub(super) fn show(&mut self, spec: &CommandSpec, request: &Request) {
        if spec.flags.contains(Flags::ADMIN) {
            return;
        }
        let context = Rc::clone(&self.context);
        let before = match &self.mode {
            Mode::Multi(queue) => queue.db(),
            Mode::Plain => self.client.profile.db,
        };
        // As in Redis a line tells the database that the command leaves behind.
        let db = match spec.name {
            "select" => local::selected(request, context.settings.databases).unwrap_or(before),
            "reset" => 0,
            _ => before,
        };
        match &mut self.mode {
            Mode::Multi(_) if spec.name == "exec" => {}
            Mode::Multi(queue) if !dispatch::acts_at_once(spec.name) => queue.note((db, request.clone())),
            _ => context.monitors.show(self.client.peer().addr, [(db, request)]),
        }
    }

    /// Shows `exec`, and before it the commands that it has carried out.
    pub(super) fn show_transaction(&self, carried_out: &[Shown], exec: &Request) {
        if self.context.monitors.is_any() {
            let commands = carried_out.iter().map(|(db, request)| (*db, request)).chain([(self.client.profile.db, exec)]);
            self.context.monitors.show(self.client.peer().addr, commands);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn who_does_not_read_is_kept_no_more_than_it_may_have() {
        let monitors = Monitors::default();
        assert!(!monitors.is_any());
        let post = monitors.join(100);
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        let request = Request::new(&["SET", "key", "value"]);
        (0..100).for_each(|_| monitors.show(from, [(0, &request)]));
        let cx = TaskContext::from_waker(Waker::noop());
        let waiting = post.take(&cx).len();
        assert!((101..200).contains(&waiting), "{waiting}");
        assert!(post.take(&cx).is_empty());
        monitors.leave(&post);
        monitors.show(from, [(0, &request)]);
        assert!(!monitors.is_any() && post.take(&cx).is_empty());
    }
}
