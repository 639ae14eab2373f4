//! A conversation with a proxy on a non-blocking socket, with a deadline and a cancel.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::ProxyFault;
use crate::ssh::Cancel;
use crate::ssh::error::{Cause, Phase};
use crate::ssh::link::SLICE;

/// The reason a conversation failed.
pub(super) enum Fault {
    /// A fault of the proxy.
    Proxy(ProxyFault),
    /// A time-out or a cancellation.
    Other(Cause),
}

impl From<ProxyFault> for Fault {
    fn from(fault: ProxyFault) -> Self {
        Self::Proxy(fault)
    }
}

/// The time limits of a conversation.
#[derive(Clone, Copy)]
pub(super) struct Wait<'a> {
    pub(super) until: Instant,
    pub(super) cancel: &'a Cancel,
    /// The whole time for connecting, for error messages.
    pub(super) connect: Duration,
}

pub(super) struct Talk<'a> {
    socket: mio::net::TcpStream,
    poll: Poll,
    events: Events,
    wait: Wait<'a>,
}

impl<'a> Talk<'a> {
    /// Starts on `socket`, which must not block.
    pub(super) fn new(socket: TcpStream, wait: Wait<'a>) -> Result<Self, Fault> {
        let mut socket = mio::net::TcpStream::from_std(socket);
        let registered = Poll::new().and_then(|poll| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(0), interest)?;
            Ok(poll)
        });
        Ok(Self {
            socket,
            poll: registered.map_err(broken)?,
            events: Events::with_capacity(1),
            wait,
        })
    }

    /// The socket, on which the proxy carries bytes to the server from now on.
    pub(super) fn into_socket(mut self) -> Result<TcpStream, Fault> {
        let given_back = self.poll.registry().deregister(&mut self.socket);
        given_back.map_err(broken)?;
        Ok(self.socket.into())
    }

    pub(super) fn send(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(0) => return Err(ProxyFault::HungUp.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) => self.after(&error)?,
            }
        }
        Ok(())
    }

    /// Fills `bytes` and consumes no byte more: the rest may be the server's.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.socket.read(&mut bytes[filled..]) {
                Ok(0) => return Err(ProxyFault::HungUp.into()),
                Ok(count) => filled += count,
                Err(error) => self.after(&error)?,
            }
        }
        Ok(())
    }

    /// Waits if the socket would block.
    fn after(&mut self, error: &io::Error) -> Result<(), Fault> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {}
            io::ErrorKind::Interrupted => return Ok(()),
            _ => return Err(ProxyFault::HungUp.into()),
        }
        if self.wait.cancel.is_cancelled() {
            return Err(Fault::Other(Cause::Cancelled { killed: true }));
        }
        let left = self.wait.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::Other(Cause::TimedOut {
                phase: Phase::Proxy,
                after: self.wait.connect,
            }));
        }
        // A wait that a signal interrupts is only shorter.
        let _ = self.poll.poll(&mut self.events, Some(left.min(SLICE)));
        Ok(())
    }
}

fn broken(error: io::Error) -> Fault {
    let reason = error.to_string();
    ProxyFault::Unreachable { reason }.into()
}
