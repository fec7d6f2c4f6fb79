//! A TCP proxy that breaks things at a chosen moment: it passes bytes between weft and a shard until those that a [`Fault`] waits for
//! come along, and then holds them back, cuts the connection instead of passing them on, or adds to them.
//!
//! What is held or cut never reaches the other side: a request cut here was not executed, a reply cut here was. So the tests know what
//! happened at the shard without a race.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use super::{PATIENCE, eventually};

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From weft to the shard.
    Requests,
    /// From the shard to weft.
    Replies,
}

/// What happens to the bytes that were waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They are dropped, and the connection is closed on both sides.
    Cut,
    /// They, and what follows them on the connection, wait until [`FaultProxy::release`].
    Hold,
    /// These bytes are slipped in before them.
    Insert(&'static [u8]),
    /// These bytes come right behind them.
    Append(&'static [u8]),
}

/// A proxy before one server.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    /// They spring in this order, each once.
    traps: VecDeque<Trap>,
    mangle: Option<Box<Mangle>>,
    holding: bool,
    ended: bool,
    /// Both streams of each connection, for whoever cuts it, by a number that tells connections apart.
    streams: HashMap<u64, [TcpStream; 2]>,
    connections: u64,
}

type Mangle = dyn FnMut(&[u8]) -> Vec<u8> + Send;

struct Trap {
    way: Way,
    pattern: Vec<u8>,
    /// How many more times the pattern passes unharmed.
    passes: usize,
    fault: Fault,
}

impl FaultProxy {
    /// A proxy that passes everything to `server`.
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { server, state: Mutex::default(), released: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.lock().ended {
                    return;
                }
                if let Ok(client) = client {
                    accepting.serve(client);
                }
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets `fault` befall the next bytes that go `way` and contain `pattern`; once, and after the faults that were set before.
    pub(crate) fn set(&self, way: Way, pattern: impl AsRef<[u8]>, fault: Fault) {
        self.set_after(0, way, pattern, fault);
    }

    /// Like [`Self::set`], after `passes` others with the pattern have passed.
    pub(crate) fn set_after(&self, passes: usize, way: Way, pattern: impl AsRef<[u8]>, fault: Fault) {
        self.shared.lock().traps.push_back(Trap { way, pattern: pattern.as_ref().to_vec(), passes, fault });
    }

    /// From now on every piece of a reply goes through `mangle` before it is passed on. When less comes out, the connection is closed
    /// behind it.
    pub(crate) fn mangle(&self, mangle: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) {
        self.shared.lock().mangle = Some(Box::new(mangle));
    }

    /// Ends [`Self::mangle`].
    pub(crate) fn leave_alone(&self) {
        self.shared.lock().mangle = None;
    }

    /// Waits until every fault has happened.
    #[track_caller]
    pub(crate) fn must_spring(&self) {
        eventually(PATIENCE, "the bytes that the fault waits for come along", || self.has_sprung());
    }

    /// Whether every fault has happened.
    pub(crate) fn has_sprung(&self) -> bool {
        self.shared.lock().traps.is_empty()
    }

    /// Takes back the faults that have not happened.
    pub(crate) fn disarm(&self) {
        self.shared.lock().traps.clear();
    }

    /// Lets go of what is held.
    pub(crate) fn release(&self) {
        self.shared.lock().holding = false;
        self.shared.released.notify_all();
    }

    /// Closes every connection, with what is held on them.
    pub(crate) fn cut_all(&self) {
        let mut state = self.shared.lock();
        state.holding = false;
        state.streams.drain().flat_map(|(_, both)| both).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        self.shared.released.notify_all();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.cut_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.server) else { return };
        let both = |stream: &TcpStream| stream.set_nodelay(true).and_then(|()| stream.try_clone());
        let (Ok(client2), Ok(server2)) = (both(&client), both(&server)) else { return };
        let (Ok(client3), Ok(server3)) = (client.try_clone(), server.try_clone()) else { return };
        let mut state = self.lock();
        state.connections += 1;
        let number = state.connections;
        state.streams.insert(number, [client3, server3]);
        drop(state);
        for (from, to, way) in [(client, server2, Way::Requests), (server, client2, Way::Replies)] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                shared.pump(from, to, way);
                shared.lock().streams.remove(&number);
            });
        }
    }

    /// Passes bytes until the connection ends or is cut.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let mut chunk = vec![0; 1 << 20];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            let bytes = match self.spring(way, &chunk[..length]) {
                Some(Fault::Cut) => break,
                Some(Fault::Hold) => {
                    drop(self.released.wait_while(self.lock(), |state| state.holding).unwrap());
                    Cow::from(&chunk[..length])
                }
                Some(Fault::Insert(more)) => [more, &chunk[..length]].concat().into(),
                Some(Fault::Append(more)) => [&chunk[..length], more].concat().into(),
                None => Cow::from(&chunk[..length]),
            };
            let bytes = match &mut self.lock().mangle {
                Some(mangle) if way == Way::Replies => mangle(&bytes).into(),
                _ => bytes,
            };
            if to.write_all(&bytes).is_err() || bytes.len() < length {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn spring(&self, way: Way, chunk: &[u8]) -> Option<Fault> {
        let mut state = self.lock();
        let trap = state.traps.front_mut().filter(|trap| trap.way == way && contains(chunk, &trap.pattern))?;
        if trap.passes > 0 {
            trap.passes -= 1;
            return None;
        }
        let fault = trap.fault;
        state.traps.pop_front();
        state.holding |= fault == Fault::Hold;
        Some(fault)
    }
}

fn contains(chunk: &[u8], pattern: &[u8]) -> bool {
    chunk.windows(pattern.len()).any(|window| window == pattern)
}
