//! The fast lane: long polls of the full contract, served straight from their connections.
//!
//! A poll by way of the routes costs a request object, header maps, several boxed futures and 16 KiB
//! of buffers a connection; a hall of pollers pays that for every message. The lane reads a request
//! head into one buffer that all connections of a thread share, asks the same question of the same
//! hub, and writes the answer from another. It takes nothing but `GET /get_msg` with a room, whole in
//! one piece and without a body; whatever else comes, the connection is handed over to the routes with
//! what was read of it, which answer every request, these too.

mod connection;
mod request;
mod response;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use tokio::net::TcpStream;

use super::Wire;
use crate::hub::RoomName;
use connection::Connection;
use response::Clock;

/// The longest request head; longer ones are the routes'.
const HEAD_BYTES: usize = 8 << 10;

/// Times of the lane's connections.
#[derive(Clone, Copy, Debug)]
pub struct LaneTimes {
    /// How long the first request may take to arrive.
    pub head: Duration,
    /// How long a connection is kept between two requests.
    pub keep_alive: Duration,
    /// How long an answer may stand still on its way to a client that does not read.
    pub write: Duration,
}

/// What became of a connection.
#[derive(Debug)]
pub enum Left {
    /// It is over.
    Over,
    /// It has a request that is not the lane's: the stream, and what was read from it.
    Handed(TcpStream, Vec<u8>),
}

/// The lane of one thread; clones share it.
#[derive(Clone)]
pub struct Lane(Rc<Shared>);

struct Shared {
    wire: Wire,
    times: LaneTimes,
    ending: Cell<bool>,
    /// Connections between two requests, to be woken when the server ends.
    idle: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    buffers: RefCell<Buffers>,
}

/// What a connection uses only while it runs, never while it waits.
struct Buffers {
    head: Box<[u8]>,
    body: String,
    answer: Vec<u8>,
    clock: Clock,
    /// What was asked for last.
    rooms: Arc<[RoomName]>,
}

impl Lane {
    /// The lane of this thread over `wire`. When `ended` is ready, connections close as soon as they
    /// have no request to answer.
    pub fn start(wire: Wire, times: LaneTimes, ended: impl Future<Output = ()> + 'static) -> Lane {
        let lane = Lane(Rc::new(Shared {
            wire,
            times,
            ending: Cell::new(false),
            idle: RefCell::default(),
            free: RefCell::default(),
            buffers: RefCell::new(Buffers {
                head: vec![0; HEAD_BYTES].into_boxed_slice(),
                body: String::new(),
                answer: Vec::new(),
                clock: Clock::default(),
                rooms: Arc::default(),
            }),
        }));
        let ending = lane.clone();
        actix_web::rt::spawn(async move {
            ended.await;
            ending.0.ending.set(true);
            let idle: Vec<Waker> = ending
                .0
                .idle
                .borrow_mut()
                .iter_mut()
                .filter_map(Option::take)
                .collect();
            idle.into_iter().for_each(Waker::wake);
        });
        lane
    }

    /// Serves a connection until it is over or has a request that is not the lane's.
    pub async fn serve(&self, stream: TcpStream) -> Left {
        Connection::new(self.clone(), stream).serve().await
    }

    fn is_ending(&self) -> bool {
        self.0.ending.get()
    }
}

/// A connection's place among those that are woken when the server ends.
struct Place {
    lane: Lane,
    at: usize,
}

impl Place {
    fn of(lane: &Lane) -> Place {
        let mut idle = lane.0.idle.borrow_mut();
        let at = lane.0.free.borrow_mut().pop().unwrap_or(idle.len());
        if at == idle.len() {
            idle.push(None);
        }
        Place {
            lane: lane.clone(),
            at,
        }
    }

    fn keep(&self, waker: &Waker) {
        match self.lane.0.idle.borrow_mut().get_mut(self.at) {
            Some(Some(kept)) => kept.clone_from(waker),
            Some(kept) => *kept = Some(waker.clone()),
            None => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(kept) = self.lane.0.idle.borrow_mut().get_mut(self.at) {
            *kept = None;
        }
        self.lane.0.free.borrow_mut().push(self.at);
    }
}
