//! The client's byte stream as the HTTP layer sees it: each request head is read whole, validated
//! and passed on in canonical form, and requests that must not be executed never arrive.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::pipeline::Pipeline;
use crate::http::{Behind, BodyFrame, Fault, HEAD_BYTES, RequestHead, stand_in};
use crate::transport::{ClientEnd, is_socket};

/// The size of one read in bytes; the rest waits in the socket.
const PIECE: usize = 4 << 10;
/// The most bytes of further requests that are buffered while one is being answered.
const AHEAD_BYTES: usize = 8 << 10;
/// The time in which a request head must arrive.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// The most bytes after the last request of a connection that are read, to detect if the client
/// closes.
const QUIET_BYTES: usize = 64 << 10;
/// The time for which a client that still sends is read from after the last response, and the most
/// bytes: closing the connection earlier could discard the response (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

/// A stream of validated requests; see the module.
pub(super) struct RequestStream<S> {
    stream: S,
    /// The bytes that were read and not passed on yet.
    input: Vec<u8>,
    /// The number of bytes of `input` that were searched and are not a whole head.
    looked_at: usize,
    /// The bytes to be passed on.
    output: Vec<u8>,
    phase: Phase,
    /// The timeout of the head in `input`.
    head_timer: Option<Pin<Box<Sleep>>>,
    client_end: ClientEnd,
    pipeline: Pipeline,
    closing: Closing,
}

enum Phase {
    /// Before a request, or in its head.
    Head,
    Body(BodyFrame, Behind),
    /// WebSocket frames, passed on unchanged.
    Frames,
    /// After the last request: the number of bytes that were read and discarded.
    Quiet(usize),
    /// In a malformed body.
    Broken,
}

/// The progress of closing a connection.
enum Closing {
    Open,
    /// Writing has ended; the timeout, and the number of bytes read since.
    Lingering(Pin<Box<Sleep>>, usize),
    Done,
}

impl<S> RequestStream<S> {
    pub(super) fn new(input: Vec<u8>, stream: S) -> Self {
        Self {
            stream,
            input,
            looked_at: 0,
            output: Vec::new(),
            phase: Phase::Head,
            head_timer: None,
            client_end: ClientEnd::default(),
            pipeline: Pipeline::default(),
            closing: Closing::Open,
        }
    }

    /// The signal that the client has sent its last byte.
    pub(super) fn client_end(&self) -> &ClientEnd {
        &self.client_end
    }

    /// The request order of this connection.
    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Processes the input; true if there is output now or the phase has changed.
    fn advance(&mut self) -> bool {
        match mem::replace(&mut self.phase, Phase::Broken) {
            Phase::Head if self.pipeline.is_busy() => {
                self.phase = Phase::Head;
                false
            }
            Phase::Head => self.read_head(),
            Phase::Body(mut frame, behind) => {
                let passed = frame.pass(&self.input, &mut self.output);
                self.phase = match passed {
                    Ok(read) => {
                        self.took(read);
                        if frame.is_over() {
                            after(behind)
                        } else {
                            Phase::Body(frame, behind)
                        }
                    }
                    Err(_) => Phase::Broken,
                };
                true
            }
            Phase::Frames => {
                self.phase = Phase::Frames;
                self.output = mem::take(&mut self.input);
                true
            }
            Phase::Quiet(bytes) => {
                self.phase = Phase::Quiet(bytes + self.input.len());
                self.input = Vec::new();
                true
            }
            Phase::Broken => false,
        }
    }

    fn read_head(&mut self) -> bool {
        self.phase = Phase::Head;
        let looked_at = mem::replace(&mut self.looked_at, self.input.len());
        // A head can only end at the end of a line, so a head that comes in small pieces is not
        // parsed again for each.
        let is_line = self.input[looked_at..].contains(&b'\n');
        if looked_at > 0 && !is_line && self.input.len() < HEAD_BYTES {
            return false;
        }
        let read = RequestHead::read(&self.input, is_socket);
        match read.and_then(checked) {
            Ok(None) => return false,
            Ok(Some(head)) => {
                self.took(head.length);
                self.pipeline.begin();
                self.client_end.set_ahead(!self.input.is_empty());
                self.output = head.bytes;
                self.phase = if head.body.is_over() {
                    after(head.behind)
                } else {
                    Phase::Body(head.body, head.behind)
                };
            }
            Err(fault) => self.refuse(fault),
        }
        self.looked_at = 0;
        self.head_timer = None;
        true
    }

    /// Removes this many bytes, which were passed on, from the input.
    fn took(&mut self, bytes: usize) {
        self.input.drain(..bytes);
        if self.input.is_empty() {
            // Frees the buffer, so that a parked poll does not keep it.
            self.input = Vec::new();
        }
    }

    /// Passes on a stand-in for the faulty request, and nothing after it.
    fn refuse(&mut self, fault: Fault) {
        self.output = stand_in(fault, &self.input);
        // The client may have more to send.
        self.phase = Phase::Quiet(self.input.len().max(1));
        self.input = Vec::new();
    }

    fn hand_on(&mut self, into: &mut ReadBuf<'_>) {
        let length = self.output.len().min(into.remaining());
        into.put_slice(&self.output[..length]);
        self.output.drain(..length);
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }

    /// True if the client may still be sending when the connection ends.
    fn is_unfinished(&self) -> bool {
        match &self.phase {
            Phase::Head => !self.input.is_empty(),
            Phase::Body(..) | Phase::Broken => true,
            Phase::Frames => false,
            Phase::Quiet(bytes) => *bytes > 0,
        }
    }
}

/// The phase after a complete request.
fn after(behind: Behind) -> Phase {
    match behind {
        Behind::Request => Phase::Head,
        Behind::Nothing => Phase::Quiet(0),
        Behind::Frames => Phase::Frames,
    }
}

/// Refuses a target that the HTTP layer cannot parse.
fn checked(head: Option<RequestHead>) -> Result<Option<RequestHead>, Fault> {
    let target = |head: &RequestHead| {
        let mut words = head.bytes.split(|byte| *byte == b' ');
        Uri::try_from(words.nth(1)?).ok()
    };
    match head {
        Some(head) if target(&head).is_none() => Err(Fault::Head),
        head => Ok(head),
    }
}

impl<S: AsyncRead + Unpin> RequestStream<S> {
    /// Reads the next bytes; returns their number, 0 at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        if read == 0 {
            self.client_end.tell();
        }
        if let Phase::Quiet(bytes) = &mut self.phase {
            // Discarded bytes are not stored.
            *bytes += read;
        } else {
            self.input.extend_from_slice(piece.filled());
        }
        Poll::Ready(Ok(read))
    }

    /// Reads a body without copying it.
    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Phase::Body(frame, behind) = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let passing = usize::try_from(frame.passing()).unwrap_or(usize::MAX);
        let room = into.initialize_unfilled_to(passing.min(into.remaining()));
        let mut body = ReadBuf::new(room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut body))?;
        let read = body.filled().len();
        into.advance(read);
        frame.passed(read as u64);
        if frame.is_over() {
            self.phase = after(*behind);
        }
        if read == 0 {
            self.client_end.tell();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if into.filled().len() == before {
            self.client_end.tell();
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the response to the last request. Bytes that come meanwhile are buffered, up to
    /// [`AHEAD_BYTES`], so that the end of the client is noticed.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.pipeline.wake_when_answered(cx);
        if self.input.len() >= AHEAD_BYTES {
            return Poll::Pending;
        }
        let read = ready!(self.poll_piece(cx))?;
        self.client_end.set_ahead(!self.input.is_empty());
        if read == 0 && !self.input.is_empty() {
            // Requests that came before the end are processed first.
            return Poll::Pending;
        }
        Poll::Ready(Ok(read))
    }

    /// Waits for more of a head, up to [`HEAD_LIMIT`].
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.poll_piece(cx) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending if self.input.is_empty() => Poll::Pending,
            Poll::Pending => {
                let timer = self
                    .head_timer
                    .get_or_insert_with(|| Box::pin(sleep(HEAD_LIMIT)));
                ready!(timer.as_mut().poll(cx));
                self.head_timer = None;
                self.refuse(Fault::Slow);
                Poll::Ready(Ok(1))
            }
        }
    }

    /// Reads on until the client ends or a bound of lingering is reached.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            let Closing::Lingering(timer, bytes) = &mut self.closing else {
                return Poll::Ready(());
            };
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() && *bytes < LINGER_BYTES => {
                    *bytes += piece.filled().len();
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(timer.as_mut().poll(cx));
                    break;
                }
            }
        }
        self.closing = Closing::Done;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        loop {
            if !me.output.is_empty() {
                me.hand_on(into);
                return Poll::Ready(Ok(()));
            }
            if matches!(me.phase, Phase::Head) && me.pipeline.is_closed() {
                me.phase = Phase::Quiet(0);
            }
            if !me.input.is_empty() && me.advance() {
                continue;
            }
            let read = match &me.phase {
                Phase::Head if me.pipeline.is_busy() => ready!(me.poll_ahead(cx))?,
                Phase::Head => ready!(me.poll_head(cx))?,
                Phase::Body(frame, _) if frame.passing() > 0 => return me.poll_body(cx, into),
                Phase::Body(..) => ready!(me.poll_piece(cx))?,
                Phase::Frames => return me.poll_frames(cx, into),
                // The rest stays in the socket; the connection ends with its last response.
                Phase::Quiet(QUIET_BYTES..) => return Poll::Pending,
                Phase::Quiet(_) => ready!(me.poll_piece(cx))?,
                Phase::Broken => 0,
            };
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RequestStream<S> {
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
        let me = &mut *self;
        if matches!(me.closing, Closing::Open) {
            ready!(Pin::new(&mut me.stream).poll_shutdown(cx))?;
            me.closing = if me.is_unfinished() && !me.client_end.has_come() {
                Closing::Lingering(Box::pin(sleep(LINGER)), 0)
            } else {
                Closing::Done
            };
        }
        me.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    /// A client that sends in chunks.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(into.remaining()));
                into.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    /// The output for input in chunks of `step` bytes.
    fn passed_on(sent: &[u8], step: usize) -> Vec<u8> {
        let pieces = sent.chunks(step).map(<[u8]>::to_vec).collect();
        let mut stream = RequestStream::new(Vec::new(), Pieces(pieces));
        let mut read = Vec::new();
        let all = async {
            while stream.read_buf(&mut read).await.unwrap() > 0 {
                stream.pipeline().answered(false);
            }
        };
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(all);
        assert!(stream.client_end().has_come() || matches!(stream.phase, Phase::Broken));
        read
    }

    #[test]
    fn heads_are_written_anew_and_bodies_pass() {
        let body = "杰".repeat(5000);
        let sent = format!(
            "POST /好 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}\
             POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: x\r\n\r\n\
             GET /last HTTP/1.1\nhost: a\nConnection: close\n\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n",
            body.len()
        );
        let sought = format!(
            "POST /%E5%A5%BD HTTP/1.1\r\nHost: a\r\ncontent-length: {}\r\n\r\n{body}\
             POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            body.len()
        );
        for step in [1, 2, 3, 100, PIECE, 1 << 20] {
            let read = passed_on(sent.as_bytes(), step);
            assert_eq!(String::from_utf8(read).unwrap(), sought, "{step}");
        }
    }

    #[test]
    fn a_fault_takes_the_place_of_its_request_and_of_all_behind_it() {
        let sound = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = format!("{sound}HEAD x HTTP/1.1\r\nHost: a\r\n\r\n{sound}");
        let fault = stand_in(Fault::Head, b"HEAD x");
        let sought = [sound.as_bytes(), &fault].concat();
        for step in [1, 7, 1000] {
            assert_eq!(passed_on(sent.as_bytes(), step), sought, "{step}");
        }
        assert_eq!(
            passed_on(b"GET http://[/ HTTP/1.1\r\nHost: a\r\n\r\n", 9),
            stand_in(Fault::Head, b"")
        );
    }

    #[test]
    fn a_garbled_body_breaks_off() {
        let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let sent = format!("{head}3\r\nabcd\r\n0\r\n\r\n{head}");
        let read = passed_on(sent.as_bytes(), 5);
        assert_eq!(String::from_utf8(read).unwrap(), format!("{head}3\r\nabc"));
    }

    #[test]
    fn frames_pass_as_they_are() {
        let head =
            "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let sent = [head.as_bytes(), b"\x81\x00GET x\r\n\r\n"].concat();
        assert_eq!(passed_on(&sent, 3), sent);
        assert_eq!(passed_on(&sent, 1000), sent);
    }

    #[tokio::test]
    async fn behind_the_last_request_a_connection_is_open_and_quiet() {
        let (mut client, server) = duplex(16 << 10);
        let mut stream = RequestStream::new(Vec::new(), server);
        let last = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(last).await.unwrap();
        let mut read = vec![0; last.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, last);
        // Input up to a bound is discarded; the rest stays in the socket.
        let sending = async {
            let junk = vec![b'x'; 1 << 20];
            client.write_all(&junk).await
        };
        let reading = async { timeout(Duration::from_millis(200), stream.read(&mut read)).await };
        let (sent, read) = tokio::join!(timeout(Duration::from_millis(200), sending), reading);
        assert!(sent.is_err() && read.is_err());
        assert!(stream.input.capacity() == 0 && stream.output.capacity() == 0);
    }

    #[tokio::test]
    async fn a_request_waits_for_the_answer_to_the_one_before() {
        let (mut client, server) = duplex(16 << 10);
        let mut stream = RequestStream::new(Vec::new(), server);
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        client.write_all(&request.repeat(3)).await.unwrap();
        client.shutdown().await.unwrap();
        let mut read = vec![0; 1000];
        for _ in 0..2 {
            let length = stream.read(&mut read).await.unwrap();
            assert_eq!(&read[..length], request);
            let waits = timeout(Duration::from_millis(50), stream.read(&mut read)).await;
            assert!(waits.is_err() && stream.client_end().is_ahead());
            assert!(stream.client_end().has_come());
            stream.pipeline().answered(false);
        }
        let length = stream.read(&mut read).await.unwrap();
        assert_eq!(&read[..length], request);
        assert_eq!(stream.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nothing_is_passed_on_behind_an_answer_that_ends_the_connection() {
        let (mut client, server) = duplex(16 << 10);
        let mut stream = RequestStream::new(Vec::new(), server);
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        client.write_all(&request.repeat(2)).await.unwrap();
        let mut read = vec![0; 1000];
        assert_eq!(stream.read(&mut read).await.unwrap(), request.len());
        stream.pipeline().answered(true);
        let waits = timeout(Duration::from_millis(50), stream.read(&mut read)).await;
        assert!(waits.is_err() && stream.input.is_empty());
        drop(client);
        assert_eq!(stream.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_goes_behind_the_last_request_is_noticed() {
        let (mut client, server) = duplex(16 << 10);
        let mut stream = RequestStream::new(Vec::new(), server);
        let last = b"GET / HTTP/1.0\r\nconnection: close\r\n\r\n";
        client
            .write_all(&[&last[..], b"GET / HTTP/1.0\r\n\r\n"].concat())
            .await
            .unwrap();
        let mut read = vec![0; last.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert!(!stream.client_end().has_come());
        drop(client);
        assert_eq!(stream.read(&mut read).await.unwrap(), 0);
        assert!(stream.client_end().has_come());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            sent in "((GET|PUT) /[a-zé<]{0,3} HTTP/1.[01]\r\n\
                     (Host: a\r\n)?(Connection: (close|keep-alive)\r\n)?\
                     (\r\n|Content-Length: 3\r\n\r\nabc|Transfer-Encoding: chunked\r\n\r\n(2;a\r\nab\r\n){0,2}(0\r\n\r\n|x))){1,4}",
            step in 1..30usize,
        ) {
            prop_assert_eq!(passed_on(sent.as_bytes(), step), passed_on(sent.as_bytes(), 1 << 20));
        }
    }
}
