//! Stands between weft and a shard, so that the same commands always find the same course of events.
//!
//! How much weft does for a reply depends on what else has come by the time that it looks: two replies that it finds together cost less than
//! two that wake it one after the other, and which of it happens is the scheduler's whim, which grows with the load of the machine. Here
//! bytes are passed on only when both ends sleep, everything that has gathered until then at once; and what comes back from the shards
//! is passed on piece by piece, each when weft has dealt with the one before.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const POLL: Duration = Duration::from_micros(20);
/// More than anything that is sent at once here.
const CHUNK_BYTES: usize = 64 * 1024;

/// A process that may sleep; 0 is none, which always does.
pub(super) type Process = Arc<AtomicU32>;

/// Whose turn it is to wake weft.
pub(super) type Turn = Arc<Mutex<()>>;

/// Accepts weft's connections to `shard`; where it does. It does so until this program ends.
pub(super) fn start(weft: &Process, shard: SocketAddr, shard_process: u32, turn: &Turn) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let ends = [Arc::clone(weft), Arc::new(AtomicU32::new(shard_process))];
    let turn = Arc::clone(turn);
    thread::spawn(move || {
        for near in listener.incoming() {
            // An error is weft's to notice: the connection ends.
            let _ = near.and_then(|near| connect(near, shard, &ends, &turn));
        }
    });
    Ok(address)
}

/// Waits until `process` sleeps.
pub(super) fn wait_until_asleep(process: &AtomicU32) {
    while !is_asleep(process.load(Ordering::Relaxed)) {
        thread::sleep(POLL);
    }
}

fn connect(near: TcpStream, shard: SocketAddr, ends: &[Process; 2], turn: &Turn) -> std::io::Result<()> {
    let far = TcpStream::connect(shard)?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let (back, forth) = ((far.try_clone()?, near.try_clone()?), (near, far));
    let (ends_back, ends_forth, turn) = (ends.clone(), ends.clone(), Arc::clone(turn));
    thread::spawn(move || pass_on(forth.0, forth.1, &ends_forth, None));
    thread::spawn(move || pass_on(back.0, back.1, &ends_back, Some(&turn)));
    Ok(())
}

/// Passes bytes on until either end closes.
fn pass_on(mut from: TcpStream, mut to: TcpStream, ends: &[Process; 2], turn: Option<&Turn>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let _turn = turn.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        ends.iter().for_each(|end| wait_until_asleep(end));
        let rest = rest_of(&mut from, &mut chunk[length..]);
        if to.write_all(&chunk[..length + rest]).is_err() {
            break;
        }
    }
    // Whoever has gone already does not mind.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// What has come meanwhile. The other direction writes little, and to a reader that keeps up: it never finds its socket full.
fn rest_of(from: &mut TcpStream, chunk: &mut [u8]) -> usize {
    let mut length = 0;
    if from.set_nonblocking(true).is_ok() {
        loop {
            match from.read(&mut chunk[length..]) {
                Ok(more @ 1..) => length += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
    }
    let _ = from.set_nonblocking(false);
    length
}

/// Whether all threads of `process` wait for something. One that is gone does.
fn is_asleep(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(Path::new("/proc").join(process.to_string()).join("task")) else { return true };
    threads.flatten().all(|thread| fs::read_to_string(thread.path().join("stat")).map_or(true, |stat| sleeps(&stat)))
}

/// The state follows the command's name, which is in parentheses and may hold any.
fn sleeps(stat: &str) -> bool {
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['S', 'Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_state_is_found_behind_a_hostile_name() {
        assert!(sleeps("7712 (a) R) S 7692 7712"));
        assert!(!sleeps("7712 (a) S) R 7692 7712"));
    }

    #[test]
    fn this_process_does_not_sleep_while_it_looks() {
        assert!(!is_asleep(std::process::id()));
        assert!(is_asleep(0));
    }

    #[test]
    fn bytes_pass_both_ways_and_the_end_too() -> anyhow::Result<()> {
        let shard = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let nobody = Arc::new(AtomicU32::new(0));
        let mut near = TcpStream::connect(start(&nobody, shard.local_addr()?, 0, &Turn::default())?)?;
        let (mut far, _) = shard.accept()?;
        let mut bytes = [0; 4];
        near.write_all(b"ping")?;
        far.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"ping");
        far.write_all(b"pong")?;
        near.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"pong");
        drop(far);
        assert_eq!(near.read(&mut bytes)?, 0);
        Ok(())
    }

    #[test]
    fn nothing_is_passed_on_to_whoever_is_awake() -> anyhow::Result<()> {
        let shard = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let weft = Arc::new(AtomicU32::new(0));
        let mut near = TcpStream::connect(start(&weft, shard.local_addr()?, 0, &Turn::default())?)?;
        let (mut far, _) = shard.accept()?;
        // This process is awake as long as this thread asks.
        weft.store(std::process::id(), Ordering::Relaxed);
        near.write_all(b"one")?;
        far.set_nonblocking(true)?;
        let end = Instant::now() + Duration::from_millis(30);
        while Instant::now() < end {
            assert_eq!(far.read(&mut [0; 8]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        }
        near.write_all(b"two")?;
        weft.store(0, Ordering::Relaxed);
        far.set_nonblocking(false)?;
        let mut bytes = [0; 6];
        far.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"onetwo");
        Ok(())
    }
}
