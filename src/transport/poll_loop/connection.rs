//! The state of one connection in the table of the poll loop.

use std::{
    io::{self, Read, Write},
    net::IpAddr,
    sync::Arc,
};

use mio::net::TcpStream;
use tokio::sync::oneshot;

use super::{
    Done,
    deadlines::Deadline,
    offload::Admitted,
    request::{HEAD_BYTES, LastRequest},
};
use crate::{
    hub::{BadName, ClientId, Known, ParkedPoll},
    transport::traffic::Present,
};

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: Option<IpAddr>,
    pub(super) state: State,
    /// Incremented with every offloaded question, so that a late reply to an older one is
    /// recognized.
    pub(super) turn: u32,
    pub(super) deadline: Deadline,
    pub(super) last_request: LastRequest,
    pub(super) known: Known,
    /// A box that is reused for the next admitted poll.
    pub(super) spare: Option<Box<Admitted>>,
    client: Option<(Arc<str>, Arc<ClientId>)>,
    /// Bytes that came while a reply was pending: the client pipelines.
    early: Vec<u8>,
    /// The socket may have more bytes than were read.
    has_more: bool,
    /// The client has closed its half of the connection.
    is_half: bool,
    pub(super) done: oneshot::Sender<Done>,
}

pub(super) enum State {
    /// Between two requests.
    Idle,
    /// A question about its request is offloaded; a poll counts as present meanwhile.
    Asking(Option<Present>),
    Parked(Parked),
    /// The rest of a reply that the socket did not accept at once.
    Writing {
        rest: Vec<u8>,
        close: bool,
    },
}

/// A poll that is parked at the hub.
pub(super) struct Parked {
    pub(super) poll: ParkedPoll,
    pub(super) admitted: Box<Admitted>,
    pub(super) present: Present,
}

/// The outcome of a read.
pub(super) enum Came {
    Bytes(usize),
    Nothing,
    /// The client has closed its half of the connection.
    End,
    /// The connection is broken.
    Broken,
}

/// The client of a request that is not answered yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// It may send more.
    Open,
    /// It has closed its half of the connection, and may still read its reply.
    Ended,
    /// Its connection is broken.
    Gone,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: Option<IpAddr>,
        read: Vec<u8>,
        done: oneshot::Sender<Done>,
    ) -> Connection {
        Connection {
            stream,
            peer,
            state: State::Idle,
            turn: 0,
            deadline: Deadline::default(),
            last_request: LastRequest::default(),
            known: Known::default(),
            spare: None,
            client: None,
            early: read,
            has_more: true,
            is_half: false,
            done,
        }
    }

    /// Notes that the socket is readable; `to_the_end`: up to its end.
    pub(super) fn notice(&mut self, to_the_end: bool) {
        self.has_more = true;
        self.is_half |= to_the_end;
    }

    /// Reads the next bytes into `head`: those that came early, else those in the socket.
    pub(super) fn take(&mut self, head: &mut [u8]) -> Came {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            let length = early.len().min(head.len());
            head[..length].copy_from_slice(&early[..length]);
            return Came::Bytes(length);
        }
        self.read(head)
    }

    fn read(&mut self, into: &mut [u8]) -> Came {
        if !self.has_more {
            return Came::Nothing;
        }
        loop {
            match self.stream.read(into) {
                Ok(0) => return Came::End,
                Ok(length) => {
                    // epoll(7): after a short read the stream is drained, but its end may still be
                    // unread.
                    self.has_more = length == into.len() || self.is_half;
                    return Came::Bytes(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.has_more = false;
                    return Came::Nothing;
                }
                Err(_) => return Came::Broken,
            }
        }
    }

    /// Buffers what comes before the reply is sent, up to the length of a head; more stays in the
    /// socket.
    pub(super) fn read_ahead(&mut self, head: &mut [u8]) -> Client {
        while self.early.len() < HEAD_BYTES {
            let room = (HEAD_BYTES - self.early.len()).min(head.len());
            match self.read(&mut head[..room]) {
                Came::Bytes(length) => self.early.extend_from_slice(&head[..length]),
                Came::Nothing => return Client::Open,
                Came::End => return Client::Ended,
                Came::Broken => return Client::Gone,
            }
        }
        Client::Open
    }

    /// Writes as much as the socket accepts; returns the rest.
    pub(super) fn write<'a>(&mut self, mut rest: &'a [u8]) -> io::Result<&'a [u8]> {
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(rest)
    }

    /// The client `name` of `account`, reused while consecutive polls have the same.
    pub(super) fn client(
        &mut self,
        account: Option<&str>,
        name: &Arc<str>,
    ) -> Result<Arc<ClientId>, BadName> {
        if let Some((last, client)) = &self.client
            && Arc::ptr_eq(last, name)
            && client.account() == account
        {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(ClientId::new(account.map(str::to_owned), name)?);
        self.client = Some((Arc::clone(name), Arc::clone(&client)));
        Ok(client)
    }
}
