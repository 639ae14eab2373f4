//! A connection whose request targets are ASCII, whatever the client wrote: the HTTP layer takes no
//! others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::Framing;

/// A piece that is looked at; the rest waits in the socket.
const PIECE: usize = 4 << 10;

/// See the module.
pub(super) struct Encoded<S> {
    stream: S,
    framing: Framing,
    /// What was read and did not fit.
    rest: Vec<u8>,
}

impl<S> Encoded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            framing: Framing::default(),
            rest: Vec::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Encoded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.rest.is_empty() {
            let passing = usize::try_from(me.framing.passing()).unwrap_or(usize::MAX);
            if passing > 0 {
                return me.pass(passing, cx, into);
            }
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut me.stream).poll_read(cx, &mut piece))?;
            me.framing.encode(piece.filled(), &mut me.rest);
        }
        let length = me.rest.len().min(into.remaining());
        into.put_slice(&me.rest[..length]);
        me.rest.drain(..length);
        if me.rest.is_empty() {
            // A parked poll keeps no room.
            me.rest = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Encoded<S> {
    /// Reads of a body, without a copy.
    fn pass(
        &mut self,
        passing: usize,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = into.initialize_unfilled_to(passing.min(into.remaining()));
        let mut body = ReadBuf::new(room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut body))?;
        let read = body.filled().len();
        into.advance(read);
        self.framing.passed(read as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Encoded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn bodies_pass_and_targets_are_encoded() {
        let body: Vec<u8> = (0..3 * PIECE).map(|i| (i % 251) as u8).collect();
        let head = format!(
            "POST /好 HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = [
            head.as_bytes(),
            &body,
            "GET /好 HTTP/1.1\r\n\r\n".as_bytes(),
        ]
        .concat();
        let mut read = Vec::new();
        Encoded::new(&sent[..])
            .read_to_end(&mut read)
            .await
            .unwrap();
        let written = "%E5%A5%BD".as_bytes();
        let sought = [
            &b"POST /"[..],
            written,
            &head.as_bytes()["POST /好".len()..],
            &body,
            b"GET /",
            written,
            b" HTTP/1.1\r\n\r\n",
        ];
        assert!(read == sought.concat());
    }
}
