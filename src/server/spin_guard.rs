//! Keeps one connection from occupying a whole thread.
//!
//! A client may pipeline requests. If it sends very many while one is held, the HTTP layer parses
//! all of them at once and then polls in a busy loop to see if it may continue. So a connection is
//! read in pieces, and a connection that spins is closed.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that are read before the HTTP layer gets to process them.
const PIECE: usize = 16 << 10;
/// A connection polled this often within [`ROUNDS_TIME`] without moving a byte is spinning.
const ROUNDS: u32 = 2000;
const ROUNDS_TIME: Duration = Duration::from_millis(500);

/// Counts the bytes that have moved on a connection, in both directions; clones share it.
#[derive(Clone, Default)]
pub(super) struct Meter(Rc<Cell<u64>>);

impl Meter {
    /// The number of bytes so far.
    pub(super) fn moved(&self) -> u64 {
        self.0.get()
    }

    fn add(&self, bytes: usize) {
        self.0.set(self.0.get().wrapping_add(bytes as u64));
    }
}

/// A stream that is read in pieces of at most [`PIECE`] bytes and counts the bytes that move.
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
    piece: usize,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: Meter) -> Self {
        Self {
            stream,
            meter,
            piece: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.piece >= PIECE {
            self.piece = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        let read = into.filled().len() - before;
        self.meter.add(read);
        self.piece = if polled.is_ready() {
            self.piece + read
        } else {
            0
        };
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, from);
        if let Poll::Ready(Ok(written)) = polled {
            self.meter.add(written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Runs `serving` and returns its output; `None` if it spins while no byte moves by `meter`.
pub(super) async fn unless_spinning<T>(
    serving: impl Future<Output = T>,
    meter: Meter,
) -> Option<T> {
    let mut serving = pin!(serving);
    let (mut moved, mut rounds, mut since) = (meter.0.get(), 0, None);
    poll_fn(|cx| {
        if let Poll::Ready(output) = serving.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        rounds += 1;
        if meter.0.get() != moved {
            (moved, rounds, since) = (meter.0.get(), 0, None);
        } else if rounds >= ROUNDS {
            // The clock is read only once per [`ROUNDS`] polls.
            let now = Instant::now();
            let begun = since.replace(now);
            rounds = 0;
            if begun.is_some_and(|begun| now.duration_since(begun) < ROUNDS_TIME) {
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn circles_are_cut_and_patience_is_not() {
        let circles = poll_fn(|cx: &mut Context<'_>| -> Poll<()> {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(unless_spinning(circles, Meter::default()).await, None);
        let patient = tokio::time::sleep(Duration::from_millis(50));
        assert_eq!(unless_spinning(patient, Meter::default()).await, Some(()));
    }

    #[tokio::test]
    async fn what_moves_is_no_circle() {
        let meter = Meter::default();
        let moving = async {
            for _ in 0..3 * ROUNDS {
                meter.add(1);
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(unless_spinning(moving, meter.clone()).await, Some(()));
    }

    #[tokio::test]
    async fn pieces_make_the_whole() {
        let sent: Vec<u8> = (0..5 * PIECE + 7).map(|i| (i % 251) as u8).collect();
        let mut stream = Metered::new(&sent[..], Meter::default());
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, sent);
        assert_eq!(stream.meter.0.get(), sent.len() as u64);
    }
}
