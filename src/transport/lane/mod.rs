//! The fast lane: long polls of the full contract, served straight from their connections.
//!
//! A poll by way of the routes costs a request object, header maps, several boxed futures and 16 KiB
//! of buffers a connection; a hall of pollers pays that for every message. The lane is one thread with
//! one loop ([`thread`]): it waits for sockets, reads a request head into the one buffer it has, asks
//! the same question of the same hub, and writes the answer from another. A parked poll is a row in
//! its table and no future; what is published rings the lane's bell once for all of them, and those
//! who have the same answer get the same bytes.
//!
//! It takes nothing but `GET /get_msg` with a room, whole in one piece and without a body; whatever
//! else comes, the connection is handed over to the routes with what was read of it, which answer
//! every request, these too. Questions that have to be waited for (a login that is not fresh, a read
//! of the log) are put to the thread of the routes ([`errand`]); the lane itself never waits for
//! anything but its sockets.

mod connection;
mod deadlines;
mod errand;
mod inbox;
mod request;
mod response;
mod thread;
mod writing;

use std::{future::Future, io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::oneshot};

use super::Wire;
use inbox::{Comer, Inbox};

pub use request::{HEAD_BYTES, is_for_the_lane};

/// Times of the lane's connections.
#[derive(Clone, Copy, Debug)]
pub struct LaneTimes {
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

/// What the lane's thread says of a connection that it is done with.
enum Done {
    Over,
    Handed(std::net::TcpStream, Vec<u8>),
}

/// A lane, for the connections of one thread of the routes; clones share it. With the last clone the
/// lane and all its connections end.
#[derive(Clone)]
pub struct Lane(Rc<Handle>);

struct Handle(Arc<Inbox>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Lane {
    /// Starts a lane over `wire`. When `ended` is ready, connections close as soon as they have no
    /// request to answer. To be called on the thread of the routes, in its runtime: that thread runs
    /// the lane's errands.
    ///
    /// # Errors
    /// Where the system has no thread or no epoll for it.
    pub fn start(
        wire: Wire,
        times: LaneTimes,
        ended: impl Future<Output = ()> + 'static,
    ) -> io::Result<Lane> {
        let poll = mio::Poll::new()?;
        let inbox = Arc::new(Inbox::new(&poll)?);
        let desk = errand::desk(wire.clone(), Arc::clone(&inbox));
        let lane = thread::Thread::new(poll, Arc::clone(&inbox), wire, times, desk);
        std::thread::Builder::new()
            .name("lane".into())
            .spawn(move || lane.run())?;
        let ending = Arc::clone(&inbox);
        actix_web::rt::spawn(async move {
            ended.await;
            ending.end();
        });
        Ok(Lane(Rc::new(Handle(inbox))))
    }

    /// Serves a connection, of which `read` was read already, until it is over or has a request that
    /// is not the lane's.
    ///
    /// # Errors
    /// Where the stream cannot change threads.
    pub async fn serve(&self, stream: TcpStream, read: Vec<u8>) -> io::Result<Left> {
        let peer: Option<IpAddr> = stream.peer_addr().ok().map(|peer| peer.ip());
        let (done, left) = oneshot::channel();
        self.0.0.enter(Comer {
            stream: stream.into_std()?,
            peer,
            read,
            done,
        });
        // A lane that stopped has dropped its connections.
        Ok(match left.await.unwrap_or(Done::Over) {
            Done::Over => Left::Over,
            Done::Handed(stream, read) => Left::Handed(TcpStream::from_std(stream)?, read),
        })
    }
}
