//! The load generator: one thread, one epoll loop, as many clients as wanted.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::wire::{Answer, Cursor, Peer, stamped};

const PUBLISHERS: usize = 32;
const READ_BYTES: usize = 256 << 10;

/// Clients of one server in one room, and connections to publish by.
pub struct Load {
    peer: Peer,
    address: SocketAddr,
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    publishers: Vec<Publisher>,
    waiting: VecDeque<Vec<u8>>,
    start: Instant,
    read: Box<[u8]>,
    request: Vec<u8>,
    /// Answers since a caller last reset it.
    pub tally: Tally,
    /// True if clients poll again as soon as they are answered.
    pub goes_on: bool,
}

struct Client {
    stream: TcpStream,
    cursor: Cursor,
    part: Vec<u8>,
    answered: bool,
}

struct Publisher {
    stream: TcpStream,
    part: Vec<u8>,
    busy: bool,
}

/// The answers that clients got.
#[derive(Default)]
pub struct Tally {
    pub replies: usize,
    pub messages: usize,
    /// From publishing (or when it was due) to receiving, in nanoseconds.
    pub latencies: Vec<u64>,
    pub failed: usize,
}

impl Load {
    /// Connects `clients` and parks them.
    pub fn park(peer: Peer, address: SocketAddr, clients: usize) -> io::Result<Load> {
        let mut load = Load {
            peer,
            address,
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            clients: Vec::new(),
            publishers: Vec::new(),
            waiting: VecDeque::new(),
            start: Instant::now(),
            read: vec![0; READ_BYTES].into_boxed_slice(),
            request: Vec::new(),
            tally: Tally::default(),
            goes_on: true,
        };
        for number in 0..clients {
            let stream = load.connect(address, number)?;
            load.clients.push(Client {
                stream,
                cursor: Cursor::default(),
                part: Vec::new(),
                answered: false,
            });
        }
        for number in 0..clients {
            load.ask(number)?;
        }
        if !peer.parks_at_once() {
            let all = load.until(Duration::from_secs(60), |load| {
                load.tally.replies >= clients
            })?;
            assert!(all, "not every client was answered at first");
        }
        // Until the last requests are read and parked.
        load.run(Duration::from_millis(500))?;
        load.tally = Tally::default();
        Ok(load)
    }

    fn connect(&self, address: SocketAddr, token: usize) -> io::Result<TcpStream> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let registry = self.poll.registry();
        registry.register(&mut stream, Token(token), Interest::READABLE)?;
        Ok(stream)
    }

    /// Nanoseconds since this load began.
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn ask(&mut self, number: usize) -> io::Result<()> {
        let client = &mut self.clients[number];
        client.answered = false;
        self.peer.poll(&mut self.request, number, &client.cursor);
        client.stream.write_all(&self.request)
    }

    /// Polls again for every client that was answered and has not polled since.
    pub fn ask_again(&mut self) -> io::Result<()> {
        for number in 0..self.clients.len() {
            if self.clients[number].answered {
                self.ask(number)?;
            }
        }
        Ok(())
    }

    /// Publishes a message that carries `moment`.
    pub fn publish(&mut self, moment: u64) -> io::Result<()> {
        self.waiting.push_back(self.peer.publish(&stamped(moment)));
        self.send_waiting()
    }

    /// True if every published message was answered.
    pub fn is_answered(&self) -> bool {
        self.waiting.is_empty() && self.publishers.iter().all(|publisher| !publisher.busy)
    }

    fn send_waiting(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let free = match self.publishers.iter().position(|p| !p.busy) {
                Some(free) => free,
                None if self.publishers.len() < PUBLISHERS => {
                    let number = self.publishers.len();
                    let stream = self.connect(self.address, self.clients.len() + number)?;
                    self.publishers.push(Publisher {
                        stream,
                        part: Vec::new(),
                        busy: false,
                    });
                    number
                }
                None => break,
            };
            if let Some(request) = self.waiting.pop_front() {
                let publisher = &mut self.publishers[free];
                publisher.busy = true;
                publisher.stream.write_all(&request)?;
            }
        }
        Ok(())
    }

    /// Handles what comes for this long.
    pub fn run(&mut self, time: Duration) -> io::Result<()> {
        self.until(time, |_| false).map(|_| ())
    }

    /// Handles what comes until `done`, at most for `limit`; whether it was done.
    pub fn until(&mut self, limit: Duration, done: impl Fn(&Load) -> bool) -> io::Result<bool> {
        let over = Instant::now() + limit;
        loop {
            if done(self) {
                return Ok(true);
            }
            let left = over.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.turn(left)?;
        }
    }

    /// One round of the loop.
    pub fn turn(&mut self, wait: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            let Token(number) = event.token();
            match number.checked_sub(self.clients.len()) {
                None => self.receive(number)?,
                Some(publisher) => self.confirm(publisher)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn receive(&mut self, number: usize) -> io::Result<()> {
        let client = &mut self.clients[number];
        let length = match client.stream.read(&mut self.read) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            length => length?,
        };
        if length == 0 {
            return Err(io::Error::other("the server closed a client's connection"));
        }
        let joined;
        let bytes = match client.part.is_empty() {
            true => &self.read[..length],
            false => {
                client.part.extend_from_slice(&self.read[..length]);
                joined = std::mem::take(&mut client.part);
                &joined[..]
            }
        };
        let Some((answer, _)) = Answer::read(bytes) else {
            client.part = bytes.to_vec();
            return Ok(());
        };
        let now = self.start.elapsed().as_nanos() as u64;
        self.tally.replies += 1;
        if !answer.is_ok() {
            self.tally.failed += 1;
        }
        for stamp in answer.stamps() {
            self.tally.messages += 1;
            self.tally.latencies.push(now.saturating_sub(stamp));
        }
        self.peer.go_on(&answer, &mut client.cursor);
        client.answered = true;
        if self.goes_on {
            self.ask(number)?;
        }
        Ok(())
    }

    fn confirm(&mut self, number: usize) -> io::Result<()> {
        let publisher = &mut self.publishers[number];
        let length = match publisher.stream.read(&mut self.read) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            length => length?,
        };
        if length == 0 {
            return Err(io::Error::other(
                "the server closed a publisher's connection",
            ));
        }
        publisher.part.extend_from_slice(&self.read[..length]);
        if let Some((answer, _)) = Answer::read(&publisher.part) {
            assert!(answer.is_ok(), "{}", String::from_utf8_lossy(answer.head));
            publisher.part.clear();
            publisher.busy = false;
        }
        self.send_waiting()
    }
}
