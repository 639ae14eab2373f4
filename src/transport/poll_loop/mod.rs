//! The poll loop: long polls of the full contract, served directly from their sockets.
//!
//! A poll through the actix routes costs a request object, header maps, several boxed futures and
//! 16 KiB of buffers per connection, and many pollers pay that for every message. The poll loop is
//! one thread with one event loop ([`thread`]): it waits for sockets, reads a request head into one
//! shared buffer, polls the same hub, and writes the reply from another shared buffer. A parked
//! poll is a row in its table and not a future. A published message wakes the loop once for all
//! parked polls, and polls with the same reply share its bytes.
//!
//! The loop accepts only `GET /get_msg` with a room and `POST /send_msg`, complete in one read. For
//! any other request, the connection is handed over to the routes, which can answer every request,
//! together with the bytes that were read. Questions that need waiting (a login that is not cached,
//! a read of the log) are offloaded to the thread of the routes ([`offload`]); the loop itself waits
//! only for its sockets.

mod connection;
mod deadlines;
mod inbox;
mod offload;
mod request;
mod response;
mod thread;
mod writing;

use std::{future::Future, io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::oneshot};

use super::Wire;
use inbox::{Accepted, Inbox};

pub use request::{HEAD_BYTES, is_for_poll_loop};

/// Timeouts of the connections of the poll loop.
#[derive(Clone, Copy, Debug)]
pub struct PollLoopTimes {
    /// The time after which an idle connection is closed.
    pub keep_alive: Duration,
    /// The time after which a connection is closed whose client does not read its reply.
    pub write: Duration,
}

/// The outcome of serving a connection.
#[derive(Debug)]
pub enum Left {
    /// The connection is closed.
    Over,
    /// A request came that the poll loop does not serve: the stream, and the bytes read from it.
    Handed(TcpStream, Vec<u8>),
}

/// The outcome of a connection, as reported by the thread of the poll loop.
enum Done {
    Over,
    Handed(std::net::TcpStream, Vec<u8>),
}

/// The poll loop for the connections of one thread of the routes; clones share it. The loop and all
/// its connections end with the last clone.
#[derive(Clone)]
pub struct PollLoop(Rc<Handle>);

struct Handle(Arc<Inbox>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl PollLoop {
    /// Starts a poll loop over `wire`. After `ended` completes, connections close as soon as they
    /// have no request to answer. Must be called on the thread of the routes, in its runtime: that
    /// thread runs the offloaded work.
    ///
    /// # Errors
    /// The system cannot create a thread or an epoll instance.
    pub fn start(
        wire: Wire,
        times: PollLoopTimes,
        ended: impl Future<Output = ()> + 'static,
    ) -> io::Result<PollLoop> {
        let poll = mio::Poll::new()?;
        let inbox = Arc::new(Inbox::new(&poll)?);
        let queue = offload::queue(wire.clone(), Arc::clone(&inbox));
        let poll_loop = thread::Thread::new(poll, Arc::clone(&inbox), wire, times, queue);
        std::thread::Builder::new()
            .name("poll-loop".into())
            .spawn(move || poll_loop.run())?;
        let ending = Arc::clone(&inbox);
        actix_web::rt::spawn(async move {
            ended.await;
            ending.end();
        });
        Ok(PollLoop(Rc::new(Handle(inbox))))
    }

    /// Serves a connection of which `read` was read already, until it is closed or a request comes
    /// that the poll loop does not serve.
    ///
    /// # Errors
    /// The stream cannot be moved to the other thread.
    pub async fn serve(&self, stream: TcpStream, read: Vec<u8>) -> io::Result<Left> {
        let peer: Option<IpAddr> = stream.peer_addr().ok().map(|peer| peer.ip());
        let (done, left) = oneshot::channel();
        self.0.0.enter(Accepted {
            stream: stream.into_std()?,
            peer,
            read,
            done,
        });
        // A loop that stopped has dropped its connections.
        Ok(match left.await.unwrap_or(Done::Over) {
            Done::Over => Left::Over,
            Done::Handed(stream, read) => Left::Handed(TcpStream::from_std(stream)?, read),
        })
    }
}
