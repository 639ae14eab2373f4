//! One connection of the lane: read, ask, write, again.

use std::{
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    pin::{Pin, pin},
    task::{Context, Poll as Step},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::{
    Buffers, HEAD_BYTES, Lane, Left, Place,
    request::{self, Usual},
};
use crate::transport::poll::{self, Asked, Habit};

pub(super) struct Connection {
    lane: Lane,
    stream: TcpStream,
    peer: Option<IpAddr>,
    habit: Habit,
    usual: Usual,
    /// What came in while an answer was waited for: the client is ahead of it.
    early: Vec<u8>,
    place: Option<Place>,
}

enum Came {
    Poll(Asked),
    Other(Vec<u8>),
    Nothing,
}

impl Connection {
    pub(super) fn new(lane: Lane, stream: TcpStream) -> Connection {
        Connection {
            peer: stream.peer_addr().ok().map(|peer| peer.ip()),
            lane,
            stream,
            habit: Habit::default(),
            usual: Usual::default(),
            early: Vec::new(),
            place: None,
        }
    }

    pub(super) async fn serve(mut self) -> Left {
        let mut patience = self.lane.0.times.head;
        loop {
            match self.next(patience).await {
                Came::Poll(asked) => {
                    if !self.answer(asked).await {
                        return Left::Over;
                    }
                }
                Came::Other(read) => return Left::Handed(self.stream, read),
                Came::Nothing => return Left::Over,
            }
            patience = self.lane.0.times.keep_alive;
        }
    }

    /// The next request, where it comes within `patience`.
    async fn next(&mut self, patience: Duration) -> Came {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            return match request::read(
                &early,
                self.peer,
                &mut self.usual,
                &mut self.lane.0.buffers.borrow_mut().rooms,
            ) {
                Some(asked) => Came::Poll(asked),
                None => Came::Other(early),
            };
        }
        let over = Instant::now() + patience;
        poll_fn(|cx| {
            let mut buffers = self.lane.0.buffers.borrow_mut();
            let Buffers { head, rooms, .. } = &mut *buffers;
            let mut head = ReadBuf::new(head);
            match Pin::new(&mut self.stream).poll_read(cx, &mut head) {
                Step::Ready(Ok(())) if !head.filled().is_empty() => {
                    return Step::Ready(
                        match request::read(head.filled(), self.peer, &mut self.usual, rooms) {
                            Some(asked) => Came::Poll(asked),
                            None => Came::Other(head.filled().to_vec()),
                        },
                    );
                }
                Step::Ready(_) => return Step::Ready(Came::Nothing),
                Step::Pending => {}
            }
            if self.lane.is_ending() || self.habit.alarm.is_due(over, cx) {
                return Step::Ready(Came::Nothing);
            }
            self.place
                .get_or_insert_with(|| Place::of(&self.lane))
                .keep(cx.waker());
            Step::Pending
        })
        .await
    }

    /// Answers a poll; `false` where the connection is over.
    async fn answer(&mut self, asked: Asked) -> bool {
        let answer = {
            let Connection {
                lane,
                stream,
                habit,
                early,
                ..
            } = self;
            let mut full = pin!(poll::full(&lane.0.wire, asked, habit));
            poll_fn(|cx| match full.as_mut().poll(cx) {
                Step::Ready(answer) => Step::Ready(Some(answer)),
                Step::Pending if is_gone(lane, stream, early, cx) => Step::Ready(None),
                Step::Pending => Step::Pending,
            })
            .await
        };
        let Some(answer) = answer else {
            return false;
        };
        self.lane.0.wire.traffic.count(&answer);
        let close = self.lane.is_ending() || self.lane.0.wire.hub.is_draining();
        let written = {
            let mut buffers = self.lane.0.buffers.borrow_mut();
            buffers.write(&answer, close);
            let written = match self.stream.try_write(&buffers.answer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                written => written,
            };
            let rest = written.map(|length| buffers.answer[length..].to_vec());
            buffers.shrink();
            rest
        };
        match written {
            Ok(rest) => (rest.is_empty() || self.write(&rest).await) && !close,
            Err(_) => false,
        }
    }

    /// Writes what the socket did not take at once; `false` where the client does not take it either.
    async fn write(&mut self, mut rest: &[u8]) -> bool {
        let patience = self.lane.0.times.write;
        while !rest.is_empty() {
            let over = Instant::now() + patience;
            let written = poll_fn(|cx| match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Step::Ready(written) => Step::Ready(written.unwrap_or(0)),
                Step::Pending if self.habit.alarm.is_due(over, cx) => Step::Ready(0),
                Step::Pending => Step::Pending,
            })
            .await;
            if written == 0 {
                return false;
            }
            rest = &rest[written..];
        }
        true
    }
}

/// Whether the client has closed. What it sends before it has its answer is kept, up to the length of
/// a head; more waits in the socket.
fn is_gone(lane: &Lane, stream: &mut TcpStream, early: &mut Vec<u8>, cx: &mut Context<'_>) -> bool {
    let mut buffers = lane.0.buffers.borrow_mut();
    while early.len() < HEAD_BYTES {
        let mut read = ReadBuf::new(&mut buffers.head);
        match Pin::new(&mut *stream).poll_read(cx, &mut read) {
            Step::Ready(Ok(())) if !read.filled().is_empty() => early.extend(read.filled()),
            Step::Ready(_) => return true,
            Step::Pending => return false,
        }
    }
    false
}
