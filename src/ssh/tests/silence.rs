//! Hosts that do not answer: packets to them are dropped.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::exec::exec;
use super::sshd::Sshd;
use crate::ssh::{Cancel, Cause, Phase, Pool, Timeouts};

/// A port whose queue of connections is full: the system drops further requests.
struct Blackhole {
    listener: TcpListener,
    _held: Vec<TcpStream>,
}

impl Blackhole {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let try_one = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let held = std::iter::from_fn(|| try_one().ok()).collect();
        Self {
            listener,
            _held: held,
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

/// Fault 2 of the list.
#[test]
fn a_host_that_drops_every_packet_costs_itself_and_its_time_out_alone() {
    let (hole, sshd) = (Blackhole::new(), Sshd::start());
    let mut lost = sshd.target();
    lost.port = hole.address().port();
    let timeouts = Timeouts {
        connect: Duration::from_secs(2),
        ..Timeouts::default()
    };
    let pool = Pool::default();
    let good = sshd.target();
    thread::scope(|scope| {
        let start = Instant::now();
        let waiting: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| pool.lease(&lost, &timeouts, &Cancel::new()).unwrap_err()))
            .collect();
        let leased = pool.lease(&good, &timeouts, &Cancel::new()).unwrap();
        assert!(exec(&leased, "true").0.success());
        assert!(start.elapsed() < timeouts.connect, "{:?}", start.elapsed());
        for waiting in waiting {
            let error = waiting.join().unwrap();
            let is_late = |cause: &Cause| {
                matches!(
                    cause,
                    Cause::TimedOut {
                        phase: Phase::Connect,
                        ..
                    }
                )
            };
            assert!(is_late(&error.cause), "{error}");
        }
        // Eight at once, and then four.
        let took = start.elapsed();
        assert!(
            took >= 2 * timeouts.connect && took < 3 * timeouts.connect,
            "{took:?}"
        );
    });
    assert_eq!(pool.counts(), (1, 0));
}

#[test]
fn waiting_for_such_a_host_ends_with_its_cancel() {
    let (hole, sshd) = (Blackhole::new(), Sshd::start());
    let mut lost = sshd.target();
    lost.port = hole.address().port();
    let timeouts = Timeouts {
        connect: Duration::from_secs(60),
        ..Timeouts::default()
    };
    let (pool, cancel) = (Pool::default(), Cancel::new());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.lease(&lost, &timeouts, &cancel).unwrap_err());
        super::sshd::wait_until("it is being opened", || pool.counts() == (0, 1));
        let start = Instant::now();
        cancel.cancel();
        let error = waiting.join().unwrap();
        assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2));
    });
}
