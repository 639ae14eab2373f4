//! Keeps one connection from taking a whole thread.
//!
//! A client may send requests ahead of their answers. What it sends beyond all measure behind a
//! request that is held makes the HTTP layer below parse it all at once, and then look again and
//! again, without a pause, whether it may go on. So a connection reads a piece at a time, and one that
//! only goes round in circles is cut.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many bytes are read before what was read is looked at.
const PIECE: usize = 16 << 10;
/// So often within [`ROUNDS_TIME`] nothing on earth wakes a connection on which nothing moves.
const ROUNDS: u32 = 2000;
const ROUNDS_TIME: Duration = Duration::from_millis(500);

/// How many bytes have moved on a connection, either way; clones share it.
#[derive(Clone, Default)]
pub(super) struct Meter(Rc<Cell<u64>>);

impl Meter {
    /// So many bytes have moved so far.
    pub(super) fn moved(&self) -> u64 {
        self.0.get()
    }

    fn add(&self, bytes: usize) {
        self.0.set(self.0.get().wrapping_add(bytes as u64));
    }
}

/// A stream that is read a piece at a time and counts what moves.
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

/// What `serving` gives; `None` where it went round in circles while nothing moved by `meter`.
pub(super) async fn unless_in_circles<T>(
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
            // The clock is asked now and then only.
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
        assert_eq!(unless_in_circles(circles, Meter::default()).await, None);
        let patient = tokio::time::sleep(Duration::from_millis(50));
        assert_eq!(unless_in_circles(patient, Meter::default()).await, Some(()));
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
        assert_eq!(unless_in_circles(moving, meter.clone()).await, Some(()));
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
