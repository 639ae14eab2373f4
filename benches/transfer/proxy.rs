//! A TCP proxy that counts the bytes and holds them back for half a round trip each way.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

/// The most pieces of up to [`PIECE`] bytes on their way at once; many, for only the delay of a line is
/// tried here, not its bandwidth.
const PIECES: usize = 4096;
const PIECE: usize = 64 << 10;

/// A proxy; it lives as long as the benchmark.
pub struct Proxy {
    pub port: u16,
    bytes: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens on a free port of `address`.
    pub fn start(address: Ipv4Addr, to: SocketAddr, round_trip: Duration) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(to) else {
                    continue;
                };
                let _ = near.set_nodelay(true);
                let _ = far.set_nodelay(true);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let from = from.try_clone().expect("a socket");
                    let to = to.try_clone().expect("a socket");
                    let counter = Arc::clone(&counter);
                    thread::spawn(move || carry(from, to, round_trip / 2, &counter));
                }
            }
        });
        Self { port, bytes }
    }

    /// The number of bytes that went through, both ways, since the last call.
    pub fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::AcqRel)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration, counter: &AtomicU64) {
    let (sender, pieces) = sync_channel::<(Instant, Vec<u8>)>(PIECES);
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender
                .send((Instant::now() + delay, buffer[..length].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    for (due, piece) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        counter.fetch_add(piece.len() as u64, Ordering::AcqRel);
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = reader.join();
}
