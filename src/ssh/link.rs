//! One TCP connection that speaks SSH, driven without blocking.
//!
//! libssh2 says `EAGAIN` when it must wait for the socket; [`Link::drive`] waits and repeats the
//! call until it is done, until its patience ends or until it is cancelled.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ssh2::{BlockDirections, DisconnectCode, ErrorCode, MethodType, Session};

use super::error::{Cause, Phase};
use super::host_key::{self, HostKey};
use super::{Cancel, Timeouts};

/// The longest wait before cancellation and time limits are looked at again.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// How long a cancelled call may go on, so that it ends between two packets and the connection
/// stays usable to clear up.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// libssh2 asks no more often for a sign of life, in seconds.
const SHORTEST_QUESTION: u32 = 2;

/// libssh2 closes what is dropped by blocking; this bounds it.
const DROP_LIMIT: Duration = Duration::from_secs(2);

/// How long a refused channel is asked for again: sshd may count the one just closed a moment
/// longer against its `MaxSessions`.
const CHANNEL_GRACE: Duration = Duration::from_secs(1);

const EAGAIN: ErrorCode = ErrorCode::Session(-37);

/// `CHANNEL_FAILURE`.
const CHANNEL_REFUSED: ErrorCode = ErrorCode::Session(-21);

/// `SOCKET_SEND`, `SOCKET_DISCONNECT`, `SOCKET_RECV`, `BAD_SOCKET`.
const SOCKET_CODES: [ErrorCode; 4] = [
    ErrorCode::Session(-7),
    ErrorCode::Session(-13),
    ErrorCode::Session(-43),
    ErrorCode::Session(-45),
];

/// Why a call on the connection did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It would have to wait; only seen inside of this module and of `exec`.
    Blocked,
    /// The caller cancelled it.
    Cancelled,
    /// Its patience ended.
    TimedOut,
    /// libssh2 or the server refused; `code` where it is known.
    Failed {
        code: Option<ErrorCode>,
        reason: String,
    },
}

impl From<ssh2::Error> for Fault {
    fn from(error: ssh2::Error) -> Self {
        match error.code() {
            EAGAIN => Self::Blocked,
            code => Self::Failed {
                code: Some(code),
                reason: error.message().to_owned(),
            },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Blocked,
            _ => Self::Failed {
                code: None,
                reason: error.to_string(),
            },
        }
    }
}

impl Fault {
    /// The cause, where the fault is not about what was asked for but about the connection.
    pub(super) fn general(self, phase: Phase, after: Duration) -> Cause {
        match self {
            Self::Cancelled => Cause::Cancelled { killed: true },
            Self::TimedOut | Self::Blocked => Cause::TimedOut { phase, after },
            Self::Failed { reason, .. } => Cause::ConnectionLost { reason },
        }
    }

    /// Whether the connection itself broke.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if SOCKET_CODES.contains(code))
    }

    pub(super) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Failed { code, .. } => *code,
            _ => None,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Failed { reason, .. } => reason,
            _ => "",
        }
    }
}

/// How long a call may take.
#[derive(Clone, Copy, Default)]
pub(super) struct Patience<'a> {
    /// The end of it all.
    pub(super) until: Option<Instant>,
    /// The longest time without any packet from or to the server.
    pub(super) idle: Option<Duration>,
    /// Who may end it before.
    pub(super) cancel: Option<&'a Cancel>,
}

impl Patience<'_> {
    pub(super) fn until(instant: Instant) -> Self {
        Self {
            until: Some(instant),
            ..Self::default()
        }
    }
}

/// A TCP connection after its SSH handshake.
pub(super) struct Link {
    pub(super) session: Session,
    socket: TcpStream,
    poll: RefCell<(Poll, Events)>,
}

impl Link {
    /// Connects and shakes hands. `pinned` decides which host key is asked for; whether it is the
    /// right one is the caller's to check.
    pub(super) fn open(
        host: &str,
        port: u16,
        timeouts: &Timeouts,
        until: Instant,
        pinned: Option<&str>,
    ) -> Result<Self, Cause> {
        let socket = connect(&resolve(host, port, timeouts, until)?, timeouts, until)?;
        let link = Self::over(socket).map_err(|fault| Cause::Unreachable {
            reason: fault.reason().to_owned(),
        })?;
        link.prefer(pinned)
            .and_then(|()| link.shake_hands(until))
            .map_err(|fault| match fault {
                Fault::Failed { reason, .. } => Cause::Handshake { reason },
                fault => fault.general(Phase::Handshake, timeouts.connect),
            })?;
        Ok(link)
    }

    fn over(socket: TcpStream) -> Result<Self, Fault> {
        socket.set_nodelay(true)?;
        let poll = Poll::new()?;
        poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            Token(0),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let mut session = Session::new()?;
        session.set_tcp_stream(socket.try_clone()?);
        session.set_blocking(false);
        session.set_timeout(DROP_LIMIT.as_millis() as u32);
        Ok(Self {
            session,
            socket,
            poll: RefCell::new((poll, Events::with_capacity(4))),
        })
    }

    fn prefer(&self, pinned: Option<&str>) -> Result<(), Fault> {
        let Some(pinned) = pinned else { return Ok(()) };
        let supported = self.session.supported_algs(MethodType::HostKey)?;
        match host_key::preference(pinned, &supported) {
            Some(order) => Ok(self.session.method_pref(MethodType::HostKey, &order)?),
            None => Ok(()),
        }
    }

    fn shake_hands(&self, until: Instant) -> Result<(), Fault> {
        let mut session = self.session.clone();
        self.drive(Patience::until(until), || Ok(session.handshake()?))
    }

    /// The key that the server has just proved to own.
    pub(super) fn host_key(&self) -> Result<HostKey, Cause> {
        match self.session.host_key() {
            Some((encoded, _)) => Ok(HostKey::from_encoded(encoded)),
            None => Err(Cause::Handshake {
                reason: "the server showed no host key".to_owned(),
            }),
        }
    }

    /// Repeats `call` until it no longer says that it would block.
    pub(super) fn drive<T>(
        &self,
        patience: Patience<'_>,
        mut call: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut last_sign = Instant::now();
        let mut cancelled_at = None;
        loop {
            match call() {
                Err(Fault::Blocked) => {}
                Err(fault) => return Err(self.with_code(fault)),
                done => return done,
            }
            let now = Instant::now();
            if patience.cancel.is_some_and(Cancel::is_cancelled)
                && now.duration_since(*cancelled_at.get_or_insert(now)) >= CANCEL_GRACE
            {
                return Err(Fault::Cancelled);
            }
            if patience.until.is_some_and(|until| now >= until)
                || patience
                    .idle
                    .is_some_and(|idle| now.duration_since(last_sign) >= idle)
            {
                return Err(Fault::TimedOut);
            }
            let rest = patience
                .until
                .map_or(SLICE, |until| until.duration_since(now));
            if self.wait(rest.min(SLICE)) {
                last_sign = Instant::now();
            }
        }
    }

    /// [`drive`](Self::drive) for a call that opens a channel.
    pub(super) fn drive_opening<T>(
        &self,
        patience: Patience<'_>,
        mut open: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let give_up = Instant::now() + CHANNEL_GRACE;
        loop {
            match self.drive(patience, &mut open) {
                Err(fault) if fault.code() == Some(CHANNEL_REFUSED) && Instant::now() < give_up => {
                    thread::sleep(SLICE / 5);
                }
                result => return result,
            }
        }
    }

    /// Waits until something happens on the socket, at most for `longest`; whether it did.
    ///
    /// The readiness is edge-triggered: only to be called after libssh2 said that it would block.
    pub(super) fn wait(&self, longest: Duration) -> bool {
        let (poll, events) = &mut *self.poll.borrow_mut();
        match poll.poll(events, Some(longest)) {
            Ok(()) => !events.is_empty(),
            Err(_) => false,
        }
    }

    /// Asks the server for a sign of life, unless a packet is only half sent: another one must
    /// not come between.
    pub(super) fn ask_for_sign(&self) -> Result<(), Fault> {
        let directions = self.session.block_directions();
        if matches!(
            directions,
            BlockDirections::Outbound | BlockDirections::Both
        ) {
            return Ok(());
        }
        self.session.set_keepalive(true, SHORTEST_QUESTION);
        self.session.keepalive_send()?;
        Ok(())
    }

    /// What came by way of `io::Error` has lost libssh2's code.
    pub(super) fn with_code(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Failed { code: None, reason } => Fault::Failed {
                code: ssh2::Error::last_session_error(&self.session).map(|error| error.code()),
                reason,
            },
            fault => fault,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let goodbye = Patience::until(Instant::now() + SLICE);
        let _ = self.drive(goodbye, || {
            Ok(self
                .session
                .disconnect(Some(DisconnectCode::ByApplication), "", None)?)
        });
        // With the socket shut, what libssh2 still wants to send while it frees its parts fails
        // at once.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.session.set_blocking(true);
    }
}

/// All addresses of `host`. The system's resolver cannot be interrupted: it gets a thread that is
/// left behind when it takes too long.
fn resolve(
    host: &str,
    port: u16,
    timeouts: &Timeouts,
    until: Instant,
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
    match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(Cause::Unresolved {
            reason: "it has no address".to_owned(),
        }),
        Ok(Err(error)) => Err(Cause::Unresolved {
            reason: error.to_string(),
        }),
        Err(_) => Err(Cause::TimedOut {
            phase: Phase::Lookup,
            after: timeouts.connect,
        }),
    }
}

/// The first address that accepts. Each gets its share of the time that is left, so that a dead
/// one does not starve the next.
fn connect(
    addresses: &[SocketAddr],
    timeouts: &Timeouts,
    until: Instant,
) -> Result<TcpStream, Cause> {
    let mut refusals = Vec::new();
    let mut timed_out = 0;
    for (index, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - index) as u32;
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
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
