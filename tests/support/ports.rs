//! Ports for servers that are told where to listen.
//!
//! They come from below the range that the kernel gives to outgoing connections: a port from that range could be taken by somebody's
//! connection while its server is down, and then the server could not be started again. No port is handed out twice by this process;
//! against other processes the search starts at a random place, and whoever starts a server tries again on another port.
//!
//! Whoever will be killed and started again must find its port free, and must not be taken for another process's server that was started
//! there meanwhile. Nor must two wefts be given one port at the same moment: their sockets would share it, and each other's clients. So
//! both keep a [`Reservation`].

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port of the loopback address on which nobody listens, different at each call.
pub(crate) fn free_port() -> u16 {
    reserved_port().0
}

/// Such a port, which no other process of these tests is given as long as the reservation is kept.
pub(crate) fn reserved_port() -> (u16, Reservation) {
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(GOLDEN);
    loop {
        let step = HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no port is free");
        let port = LOWEST + (first.wrapping_add(step) % COUNT) as u16;
        // Reserved first: who had it until then may have begun to listen.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            return (port, Reservation { _socket: socket });
        }
    }
}

/// What keeps a port from other processes of these tests while it lives: the UDP port of the same number, which is in nobody's way.
pub(crate) struct Reservation {
    _socket: UdpSocket,
}

const LOWEST: u16 = 10_000;
const COUNT: u32 = 22_000;
/// Spreads neighbouring process ids far apart.
const GOLDEN: u32 = 0x9E37_79B9;
