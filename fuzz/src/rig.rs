//! A weft in this process before two shards that are made up, for the targets that fuzz it as a whole.
//!
//! The shards know as much of Redis as weft needs to carry out commands and transactions, and keep nothing. They may be told to answer
//! with given bytes instead.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use weft::config::Config;
use weft::resp::{Limits, ReplyScanner, Request, RequestDecoder};
use weft::txn::Script;

/// The running weft.
pub struct Rig {
    address: SocketAddr,
    /// What the shards answer next, instead of sense.
    nonsense: Arc<Mutex<Vec<u8>>>,
}

impl Rig {
    /// The one of this process, started when it is first asked for.
    pub fn running() -> &'static Self {
        static RIG: OnceLock<Rig> = OnceLock::new();
        RIG.get_or_init(Self::start)
    }

    fn start() -> Self {
        let nonsense = Arc::new(Mutex::default());
        let shards: Vec<String> = (0..2).map(|index| format!("{{name: s{index}, address: \"{}\"}}", shard(&nonsense))).collect();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a free port");
        let yaml = format!(
            "listen: \"{address}\"\nworkers: 1\ntopology: {{static: {{shards: [{}]}}}}\nupstream: {{reply_timeout_ms: 100}}\n\
             transactions: {{patience_ms: 500, lock_wait_timeout_ms: 300, lease_ms: 100}}\n",
            shards.join(", ")
        );
        let config = Config::parse(&yaml, "rig").expect("a valid configuration");
        thread::spawn(|| weft::server::run(config).expect("weft serves"));
        let rig = Self { address, nonsense };
        rig.must_recover();
        rig
    }

    /// Where weft listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the shards answer the next request with `bytes` and then hang up; sensibly again if there are none.
    pub fn answer(&self, bytes: &[u8]) {
        *self.nonsense.lock().expect("no panic") = bytes.to_vec();
    }

    /// Waits until everything is carried out again.
    pub fn must_recover(&self) {
        let start = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect(self.address) {
                let mut client = Client { stream, received: Vec::new() };
                client.send(b"GET key\r\nGET other\r\n");
                if client.receive(24) == b"$5\r\nvalue\r\n$5\r\nvalue\r\n" {
                    return;
                }
            }
            assert!(start.elapsed() < PATIENCE, "it does not recover");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A connection to weft.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects to `address`.
    pub fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).expect("weft accepts"), received: Vec::new() }
    }

    /// Sends `bytes`, as far as they are taken.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.set_read_timeout(Some(PATIENCE)).and_then(|()| self.stream.write_all(bytes));
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// How many replies come until weft hangs up; what they are if they are not RESP.
    pub fn receive_all(&mut self) -> Result<usize, Vec<u8>> {
        self.receive(usize::MAX);
        let (mut scanner, mut at, mut count) = (ReplyScanner::new(), 0, 0);
        while at < self.received.len() {
            match scanner.scan(&self.received[at..]) {
                Ok(Some(length)) => at += length,
                // Cut off.
                Ok(None) => break,
                Err(_) => return Err(self.received.clone()),
            }
            count += 1;
        }
        Ok(count)
    }

    /// The next bytes are these.
    pub fn must_receive(&mut self, expected: &[u8]) {
        assert_eq!(self.receive(expected.len()), expected);
    }

    /// The first `length` bytes, fewer if weft hangs up before. It must not go silent.
    fn receive(&mut self, length: usize) -> &[u8] {
        let mut chunk = [0; 16 * 1024];
        while self.received.len() < length {
            match self.stream.read(&mut chunk) {
                Ok(read @ 1..) => self.received.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing comes for {PATIENCE:?}"),
                _ => break,
            }
        }
        &self.received
    }
}

/// Starts a shard; where it listens.
fn shard(nonsense: &Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let (address, nonsense) = (listener.local_addr().expect("an address"), Arc::clone(nonsense));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let nonsense = Arc::clone(&nonsense);
            thread::spawn(move || serve(stream, &nonsense));
        }
    });
    address
}

/// Answers requests until either side hangs up.
fn serve(mut stream: TcpStream, nonsense: &Mutex<Vec<u8>>) -> Option<()> {
    let (mut decoder, mut input, mut chunk, mut queued) = (RequestDecoder::new(), BytesMut::new(), [0; 16 * 1024], None);
    loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        input.extend_from_slice(&chunk[..read]);
        let mut out = Vec::new();
        while let Some(request) = decoder.decode(&mut input, &Limits::default()).expect("weft sends requests") {
            let name = request.arg(0).to_ascii_uppercase();
            if !INTRODUCTION.contains(&&name[..]) {
                let bytes = std::mem::take(&mut *nonsense.lock().expect("no panic"));
                if !bytes.is_empty() {
                    out.extend_from_slice(&bytes);
                    let _ = stream.write_all(&out);
                    return None;
                }
            }
            answer(&name, &request, &mut queued, &mut out);
        }
        stream.write_all(&out).ok()?;
    }
}

/// What is always answered with sense: otherwise no connection would ever be made.
const INTRODUCTION: &[&[u8]] = &[b"AUTH", b"HELLO", b"SELECT", b"CLIENT", b"SCRIPT", b"INFO"];

/// As Redis would answer, were there always a `value`. `queued` counts what MULTI has queued.
fn answer(name: &[u8], request: &Request, queued: &mut Option<usize>, out: &mut Vec<u8>) {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let reply = match (name, &queued) {
        (b"MULTI", _) => {
            *queued = Some(0);
            "+OK\r\n".to_owned()
        }
        // The first of them is the look at the locks.
        (b"EXEC", Some(count)) => {
            let reply = format!("*{count}\r\n:0\r\n{}", "$5\r\nvalue\r\n".repeat(count.saturating_sub(1)));
            *queued = None;
            reply
        }
        (_, Some(count)) => {
            *queued = Some(count + 1);
            "+QUEUED\r\n".to_owned()
        }
        (b"INFO", None) => {
            bulk("redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:0\r\nrun_id:rig\r\nmaxmemory_policy:noeviction\r\n")
        }
        (b"HELLO", None) => "%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n".to_owned(),
        (b"SCRIPT", None) => bulk(&"0".repeat(40)),
        (b"EXISTS", None) => ":0\r\n".to_owned(),
        (b"GET", None) => bulk("value"),
        (b"PING", None) => "+PONG\r\n".to_owned(),
        (b"SCAN", None) => "*2\r\n$1\r\n0\r\n*0\r\n".to_owned(),
        (b"EVALSHA", None) => step(request),
        (_, None) => "+OK\r\n".to_owned(),
    };
    out.extend_from_slice(reply.as_bytes());
}

/// The answer of a script, as if everything went well.
fn step(request: &Request) -> String {
    let script = Script::ALL.into_iter().find(|script| script.sha1().as_bytes() == request.arg(1));
    match script {
        Some(Script::Guarded) => "*1\r\n+OK\r\n",
        Some(Script::Prepare) => "*1\r\n$8\r\nprepared\r\n",
        Some(Script::Commit | Script::Reapply) => "*2\r\n$9\r\ncommitted\r\n*1\r\n:1\r\n",
        Some(Script::Fence) => "*2\r\n$7\r\naborted\r\n$1\r\n0\r\n",
        Some(Script::Abort | Script::Inspect) => "*1\r\n$4\r\ngone\r\n",
        Some(Script::Forget) => ":1\r\n",
        None => "-NOSCRIPT No matching script.\r\n",
    }
    .to_owned()
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
