//! A byte stream to a server's sshd: a TCP connection, a channel through a jump server, or a
//! connection through a proxy.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::error::{Cause, Phase, SshError};
use super::jump;
use super::link::SLICE;
use super::proxy::{Proxy, ProxyProcess};
use super::{Cancel, Target, Timeouts};

/// A stream to a server's sshd.
pub(super) struct Way {
    pub(super) socket: OwnedFd,
    /// The deadline of what follows: reaching a jump server has its own time-out.
    pub(super) until: Instant,
    /// The command that carries the stream, if there is one.
    pub(super) process: Option<ProxyProcess>,
}

impl Way {
    fn of(socket: OwnedFd, until: Instant) -> Self {
        Self {
            socket,
            until,
            process: None,
        }
    }
}

/// Reaches `target`'s sshd, through its jump server or proxy if it has one.
pub(super) fn dial(target: &Target, timeouts: &Timeouts, cancel: &Cancel) -> Result<Way, SshError> {
    if let Some(via) = &target.via {
        let hop = Connection::open_unless(via, timeouts, cancel)?;
        let until = Instant::now() + timeouts.connect;
        let channel = jump::through(hop, target, until, cancel)?;
        return Ok(Way::of(channel, until));
    }
    let until = Instant::now() + timeouts.connect;
    let (host, port) = (target.host.as_str(), target.port);
    let way = match &target.proxy {
        None => resolve(host, port, timeouts, until, cancel)
            .and_then(|addresses| connect(&addresses, timeouts, until, cancel))
            .map(|socket| Way::of(socket.into(), until)),
        Some(Proxy::Server(proxy)) => proxy
            .reach((host, port), timeouts, until, cancel)
            .map(|socket| Way::of(socket.into(), until)),
        Some(Proxy::Command(command)) => {
            let started = command.start((host, port, &target.user));
            started.map(|(socket, process)| Way {
                socket,
                until,
                process: Some(process),
            })
        }
    };
    way.map_err(|cause| SshError::at(host, port, cause))
}

/// The addresses of `host`, as a connection to it would try them.
///
/// # Errors
/// [`Cause::Unresolved`], or [`Cause::TimedOut`] after `within`.
pub fn addresses(host: &str, within: Duration) -> Result<Vec<IpAddr>, Cause> {
    let timeouts = Timeouts {
        connect: within,
        idle: within,
    };
    let until = Instant::now() + within;
    let found = resolve(host, 0, &timeouts, until, &Cancel::default())?;
    Ok(found.iter().map(|it| it.ip().to_canonical()).collect())
}

/// All addresses of `host`. The system's resolver cannot be interrupted: it runs on a thread that
/// is abandoned if it takes too long.
pub(super) fn resolve(
    host: &str,
    port: u16,
    timeouts: &Timeouts,
    until: Instant,
    cancel: &Cancel,
) -> Result<Vec<SocketAddr>, Cause> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        let _ = sender.send(found.map(Iterator::collect::<Vec<_>>));
    });
    loop {
        let left = time_left(until, cancel)?;
        match receiver.recv_timeout(left.min(SLICE)) {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) => {
                return Err(Cause::Unresolved {
                    reason: "it has no address".to_owned(),
                });
            }
            Ok(Err(error)) => {
                return Err(Cause::Unresolved {
                    reason: error.to_string(),
                });
            }
            Err(_) if left.is_zero() => {
                return Err(Cause::TimedOut {
                    phase: Phase::Lookup,
                    after: timeouts.connect,
                });
            }
            Err(_) => {}
        }
    }
}

fn time_left(until: Instant, cancel: &Cancel) -> Result<Duration, Cause> {
    match cancel.is_cancelled() {
        true => Err(Cause::Cancelled { killed: true }),
        false => Ok(until.saturating_duration_since(Instant::now())),
    }
}

/// Connects to the first address that accepts. Each gets its share of the remaining time, so that a
/// dead one does not use up the time of the next.
pub(super) fn connect(
    addresses: &[SocketAddr],
    timeouts: &Timeouts,
    until: Instant,
    cancel: &Cancel,
) -> Result<TcpStream, Cause> {
    let mut refusals = Vec::new();
    let mut timed_out = 0;
    for (index, address) in addresses.iter().enumerate() {
        let left = time_left(until, cancel)?;
        let share = left / (addresses.len() - index) as u32;
        match try_address(*address, Instant::now() + share, cancel)? {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                timed_out += 1;
                refusals.push(format!("{}: no answer", address.ip()));
            }
            Err(error) => refusals.push(format!("{}: {error}", address.ip())),
        }
    }
    match timed_out == addresses.len() {
        true => Err(Cause::TimedOut {
            phase: Phase::Connect,
            after: timeouts.connect,
        }),
        false => Err(Cause::Unreachable {
            reason: refusals.join(", "),
        }),
    }
}

/// Tries one address; the outer error is a cancellation.
fn try_address(
    address: SocketAddr,
    until: Instant,
    cancel: &Cancel,
) -> Result<io::Result<TcpStream>, Cause> {
    let begun = || -> io::Result<(mio::net::TcpStream, Poll)> {
        let mut socket = mio::net::TcpStream::connect(address)?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut socket, Token(0), Interest::WRITABLE)?;
        Ok((socket, poll))
    };
    let (socket, mut poll) = match begun() {
        Ok(begun) => begun,
        Err(error) => return Ok(Err(error)),
    };
    let mut events = Events::with_capacity(1);
    loop {
        let left = time_left(until, cancel)?;
        if left.is_zero() {
            return Ok(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Err(error) = poll.poll(&mut events, Some(left.min(SLICE)))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Ok(Err(error));
        }
        match socket.take_error() {
            Ok(None) if events.is_empty() => {}
            Ok(None) => break,
            Ok(Some(error)) | Err(error) => return Ok(Err(error)),
        }
    }
    let connected = || -> io::Result<TcpStream> {
        socket.peer_addr()?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        Ok(socket)
    };
    Ok(connected())
}
