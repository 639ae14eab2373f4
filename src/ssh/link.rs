//! One SSH connection, driven without blocking.
//!
//! libssh2 returns `EAGAIN` when it must wait for the socket; [`Link::drive`] waits and repeats the
//! call until it is done, until its patience ends or until it is cancelled.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::net::{RecvFlags, Shutdown};
use ssh2::{BlockDirections, DisconnectCode, ErrorCode, MethodType, Session};

use super::cipher;
use super::error::{Cause, Phase};
use super::host_key::{self, HostKey};
use super::{Cancel, Timeouts};

/// The message of an sshd that has too many connections that are not logged in yet.
const TOO_MANY: &[u8] = b"Exceeded MaxStartups";

/// The longest wait before cancellation and time limits are checked again.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// The time for which a cancelled call may continue, so that it ends between two packets and the
/// connection stays usable for the clean-up.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// The shortest interval at which libssh2 asks for a sign of life, in seconds.
const SHORTEST_QUESTION: u32 = 2;

/// The time limit of libssh2's blocking close on drop.
const DROP_LIMIT: Duration = Duration::from_secs(2);

/// The time for which a refused channel is requested again: sshd may count a channel that was just
/// closed a moment longer against its `MaxSessions`.
const CHANNEL_GRACE: Duration = Duration::from_secs(1);

const EAGAIN: ErrorCode = ErrorCode::Session(-37);

/// `CHANNEL_FAILURE`.
pub(super) const CHANNEL_REFUSED: ErrorCode = ErrorCode::Session(-21);

const SOCKET_RECV: ErrorCode = ErrorCode::Session(-43);

/// `SOCKET_SEND`, `SOCKET_DISCONNECT`, `SOCKET_RECV`, `BAD_SOCKET`.
const SOCKET_CODES: [ErrorCode; 4] = [
    ErrorCode::Session(-7),
    ErrorCode::Session(-13),
    SOCKET_RECV,
    ErrorCode::Session(-45),
];

/// The reason a call on the connection failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It would have to wait; only seen inside this module and `exec`.
    Blocked,
    /// The caller cancelled it.
    Cancelled,
    /// Its patience ended.
    TimedOut,
    /// libssh2 or the server refused; `code` if it is known.
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
    /// The cause, if the fault concerns the connection and not the requested operation.
    pub(super) fn general(self, phase: Phase, after: Duration) -> Cause {
        match self {
            Self::Cancelled => Cause::Cancelled { killed: true },
            Self::TimedOut | Self::Blocked => Cause::TimedOut { phase, after },
            Self::Failed { reason, .. } => Cause::ConnectionLost { reason },
        }
    }

    /// True if the connection itself broke.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if SOCKET_CODES.contains(code))
    }

    pub(super) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Failed { code, .. } => *code,
            _ => None,
        }
    }

    /// A fault after which the connection is unusable.
    pub(super) fn lost(reason: &str) -> Self {
        Self::Failed {
            code: Some(SOCKET_RECV),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Failed { reason, .. } => reason,
            _ => "",
        }
    }
}

/// The time limits of a call.
#[derive(Clone, Copy, Default)]
pub(super) struct Patience<'a> {
    /// The deadline of the whole call.
    pub(super) until: Option<Instant>,
    /// The longest time without any packet from or to the server.
    pub(super) idle: Option<Duration>,
    /// The flag that can end it earlier.
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

/// A connection after its SSH handshake.
pub(super) struct Link {
    pub(super) session: Session,
    socket: OwnedFd,
    poll: RefCell<(Poll, Events)>,
}

impl Link {
    /// Performs the handshake over `socket`. `pinned` decides which host key is requested; the
    /// caller must check the key that is offered.
    pub(super) fn open(
        socket: OwnedFd,
        timeouts: &Timeouts,
        patience: Patience<'_>,
        pinned: Option<&str>,
    ) -> Result<Self, Cause> {
        let link = Self::over(socket).map_err(|fault| Cause::Unreachable {
            reason: fault.reason().to_owned(),
        })?;
        let timed_out = |fault: Fault| fault.general(Phase::Handshake, timeouts.connect);
        if link
            .drive(patience, || link.is_turned_away())
            .map_err(timed_out)?
        {
            return Err(Cause::TurnedAway);
        }
        link.prefer(pinned)
            .and_then(|()| link.shake_hands(patience))
            .map_err(|fault| match fault {
                Fault::Failed { reason, .. } => Cause::Handshake { reason },
                fault => timed_out(fault),
            })?;
        Ok(link)
    }

    fn over(socket: OwnedFd) -> Result<Self, Fault> {
        let poll = Poll::new()?;
        let mut session = Session::new()?;
        session.set_tcp_stream(socket.try_clone()?);
        session.set_blocking(false);
        session.set_timeout(DROP_LIMIT.as_millis() as u32);
        let link = Self {
            session,
            socket,
            poll: RefCell::new((poll, Events::with_capacity(4))),
        };
        link.also_watch(link.socket.as_raw_fd())?;
        Ok(link)
    }

    /// Makes [`wait`](Self::wait) also end when something happens on another socket.
    pub(super) fn also_watch(&self, socket: RawFd) -> io::Result<()> {
        self.poll.borrow().0.registry().register(
            &mut SourceFd(&socket),
            Token(socket as usize),
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// True if the server closes before it identifies itself, as sshd does when it has too many
    /// connections that are not logged in yet. Peeks at the data and consumes none.
    fn is_turned_away(&self) -> Result<bool, Fault> {
        let mut first = [0; TOO_MANY.len()];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let length = match rustix::net::recv(&self.socket, &mut first, flags) {
            Ok((_, length)) => length,
            Err(rustix::io::Errno::CONNRESET) => return Ok(true),
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        let said = &first[..length];
        Ok(said.is_empty() || said == TOO_MANY)
    }

    /// True if no unexpected data has arrived, and the other end has not closed as far as is known.
    pub(super) fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(&self.socket, &mut [0], flags);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }

    fn prefer(&self, pinned: Option<&str>) -> Result<(), Fault> {
        for direction in [MethodType::CryptCs, MethodType::CryptSc] {
            let supported = self.session.supported_algs(direction)?;
            let order = cipher::preference(&supported, cipher::has_aes());
            self.session.method_pref(direction, &order)?;
        }
        let Some(pinned) = pinned else { return Ok(()) };
        let supported = self.session.supported_algs(MethodType::HostKey)?;
        match host_key::preference(pinned, &supported) {
            Some(order) => Ok(self.session.method_pref(MethodType::HostKey, &order)?),
            None => Ok(()),
        }
    }

    fn shake_hands(&self, patience: Patience<'_>) -> Result<(), Fault> {
        let mut session = self.session.clone();
        self.drive(patience, || Ok(session.handshake()?))
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

    /// Repeats `call` until it no longer blocks.
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

    /// Waits until something happens on the socket, at most for `longest`; true if something did.
    ///
    /// The readiness is edge-triggered: call it only after libssh2 returned `EAGAIN`.
    pub(super) fn wait(&self, longest: Duration) -> bool {
        // The server may hold its next packet back until the last one is acknowledged, which the
        // system delays by 40 ms if nothing else is to be sent. Sockets other than TCP have no such
        // option.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.socket, true);
        let (poll, events) = &mut *self.poll.borrow_mut();
        match poll.poll(events, Some(longest)) {
            Ok(()) => !events.is_empty(),
            Err(_) => false,
        }
    }

    /// True if libssh2, which has just returned `EAGAIN`, only waits for the server: no packet is
    /// half sent.
    pub(super) fn has_sent(&self) -> bool {
        matches!(
            self.session.block_directions(),
            BlockDirections::Inbound | BlockDirections::None
        )
    }

    /// Makes a drop not wait for a server that does not answer.
    pub(super) fn hurry(&self) {
        self.session.set_timeout(SLICE.as_millis() as u32);
    }

    /// Asks the server for a sign of life, unless a packet is half sent: another one must not come
    /// between.
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

    /// Adds libssh2's code to a fault that lost it on the way through `io::Error`.
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
        // With the socket shut down, any data that libssh2 still sends while it frees its parts
        // fails at once.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        self.session.set_blocking(true);
    }
}
