//! What leaves together, seen at what still waits when somebody else has their turn.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::config::UpstreamConfig;
use crate::metrics::WorkerMetrics;
use crate::resp::Proto;
use crate::upstream::{Handshake, Node};

/// Counts its replies.
#[derive(Default)]
struct Replies(Cell<u32>, Cell<Option<Waker>>);

impl ReplySink for Replies {
    fn frame(&self, _ticket: u64, _frame: &[u8]) {
        self.0.set(self.0.get() + 1);
        self.1.take().into_iter().for_each(Waker::wake);
    }
    fn failed(&self, _ticket: u64, error: UpstreamError) {
        unreachable!("{error}");
    }
    fn gated(&self, _ticket: u64) {
        unreachable!();
    }
}

impl Replies {
    async fn are(&self, count: u32) {
        poll_fn(|cx| {
            self.1.set(Some(cx.waker().clone()));
            if self.0.get() < count { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

/// Answers each line of a client with PONG, and what it says at first with as many.
fn pongs() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut buf = [0; 4096];
        while let Ok(received @ 1..) = client.read(&mut buf) {
            let requests = buf[..received].iter().filter(|byte| **byte == b'*').count();
            client.write_all(&b"+PONG\r\n".repeat(requests)).unwrap();
        }
    });
    address
}

/// How many bytes of the first `requests` still wait when another one comes, for which a socket had something before they were made.
fn waiting_behind(pace: Pace, requests: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let address = pongs().to_string().parse().unwrap();
        let node = Node::new(address, Handshake::default(), UpstreamConfig::default(), Arc::new(WorkerMetrics::default()));
        let (conn, replies) = (SharedConn::open(node.link(0, Proto::Resp2), pace), Rc::new(Replies::default()));
        let ping =
            |conn: &SharedConn, replies: &Rc<Replies>| conn.send(Rc::<Replies>::clone(replies), 0, 1, |out| out.extend_from_slice(PING));
        ping(&conn, &replies);
        replies.are(1).await;

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
        let session = spawn_local({
            let (conn, replies) = (Rc::clone(&conn), Rc::clone(&replies));
            async move {
                socket.read_u8().await.unwrap();
                let waiting = conn.state.borrow().out.len();
                ping(&conn, &replies);
                waiting
            }
        });
        tokio::task::yield_now().await;
        client.write_all(b"x").unwrap();
        (0..requests).for_each(|_| ping(&conn, &replies));
        let waiting = session.await.unwrap();
        replies.are(requests as u32 + 2).await;
        conn.close();
        waiting
    })
}

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

#[test]
fn a_few_requests_wait_for_those_whose_sockets_have_something_and_many_do_not() {
    assert_eq!(waiting_behind(Pace::Gathering, 2), 2 * PING.len());
    assert_eq!(waiting_behind(Pace::Gathering, 40), 0);
    assert_eq!(waiting_behind(Pace::Prompt, 2), 0);
}
