//! One connection's row in the lane's table.

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
    errand::Admitted,
    request::{HEAD_BYTES, Usual},
};
use crate::{
    hub::{BadName, ClientId, Hold, Known},
    transport::traffic::Present,
};

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: Option<IpAddr>,
    pub(super) state: State,
    /// Grows with every question, so that a late answer to an older one is known as such.
    pub(super) turn: u32,
    pub(super) deadline: Deadline,
    pub(super) usual: Usual,
    pub(super) known: Known,
    /// Room for the next poll that is admitted.
    pub(super) spare: Option<Box<Admitted>>,
    client: Option<(Arc<str>, Arc<ClientId>)>,
    /// What came while an answer was waited for: the client is ahead of it.
    early: Vec<u8>,
    /// The socket may have more than what was read.
    has_more: bool,
    /// The client sends nothing more.
    is_half: bool,
    pub(super) done: oneshot::Sender<Done>,
}

pub(super) enum State {
    /// Between two requests.
    Idle,
    /// A question about its request is an errand; a poll is on the wire all the same.
    Asking(Option<Present>),
    Parked(Parked),
    /// The rest of an answer that the socket did not take at once.
    Writing {
        rest: Vec<u8>,
        close: bool,
    },
}

/// A poll that waits at the hub.
pub(super) struct Parked {
    pub(super) hold: Hold,
    pub(super) admitted: Box<Admitted>,
    pub(super) present: Present,
}

/// The outcome of a read.
pub(super) enum Came {
    Bytes(usize),
    Nothing,
    /// The client sends nothing more.
    End,
    /// The connection is broken.
    Broken,
}

/// The client of a request that is not answered yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// It may send more.
    Open,
    /// It sends nothing more, and may wait for its answer.
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
            usual: Usual::default(),
            known: Known::default(),
            spare: None,
            client: None,
            early: read,
            has_more: true,
            is_half: false,
            done,
        }
    }

    /// The socket has something; `to_the_end`: its last.
    pub(super) fn notice(&mut self, to_the_end: bool) {
        self.has_more = true;
        self.is_half |= to_the_end;
    }

    /// Takes the next piece into `head`: what came early, else what the socket has.
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
                    // epoll(7): a short read has emptied a stream, but not told of its end.
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

    /// Keeps what comes before the answer is there, up to the length of a head; more waits in the
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

    /// Writes as much as the socket takes; what is left.
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

    /// The client `name` of `account`, made once for polls that follow each other.
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
