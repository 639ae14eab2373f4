//! Streams of remote commands and files over HTTP: output while a command runs, files and trees in
//! pieces. A closed connection cancels the work; nothing is kept in memory whole.

use std::io::{self, Read, Write};
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::error::{Error, Result};
use super::visitor::Visitor;
use crate::app::App;
use crate::deploy::DeployError;
use crate::pools::Busy;
use crate::ssh::{Cancel, CancelOnDrop};

/// The number of pieces of a stream in transit.
const PIECES: usize = 8;

/// The time limit without data in an upload.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs blocking work that may take minutes, on a pool apart from that of the pages: a few at once,
/// none queued.
///
/// # Errors
/// [`Error::Busy`] if too much runs already.
pub async fn work<T: Send + 'static>(
    visitor: &Visitor,
    work: impl FnOnce(&App) -> T + Send + 'static,
) -> Result<T> {
    let app = visitor.app().clone();
    let working = visitor.app().pools().by_hand.run_now(move || work(&app))?;
    working.await.map_err(|_| Error::from(Busy))
}

/// A piece of an upload; a stream without `End` is incomplete.
enum Piece {
    Bytes(Bytes),
    End,
}

/// An upload, for a thread that reads.
struct Incoming {
    pieces: Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.rest = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

/// Passes a request's body, of at most `limit` bytes, to `receive`, which runs on a thread.
///
/// # Errors
/// A body that is too large, too slow or malformed; too much work at once; errors of `receive`.
pub async fn take_in<T: Send + 'static>(
    visitor: &Visitor,
    request: &HttpRequest,
    body: Payload,
    limit: u64,
    receive: impl FnOnce(&App, &mut dyn Read, &Cancel) -> std::result::Result<T, DeployError>
    + Send
    + 'static,
) -> Result<T> {
    let told = request
        .headers()
        .get("content-length")
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge);
    }
    // A client that waits for `100 Continue` sends its body only then, so no work starts before the
    // first byte.
    let mut body = Box::pin(body.peekable());
    if tokio::time::timeout(PATIENCE, body.as_mut().peek())
        .await
        .is_err()
    {
        return Err(Error::TooSlow);
    }
    let guard = CancelOnDrop::default();
    let cancel = guard.0.clone();
    let (sender, pieces) = mpsc::channel(PIECES);
    let received = work(visitor, move |app| {
        let mut incoming = Incoming {
            pieces,
            rest: Bytes::new(),
            ended: false,
        };
        receive(app, &mut incoming, &cancel)
    });
    let (received, fed) = tokio::join!(received, feed(body, sender, limit));
    // A refused body is the cause of the error of `receive`, so it is reported first.
    fed?;
    Ok(received??)
}

async fn feed(
    mut body: impl Stream<Item = std::result::Result<Bytes, PayloadError>> + Unpin,
    pieces: Sender<Piece>,
    limit: u64,
) -> Result<()> {
    let mut length = 0;
    loop {
        let piece = match tokio::time::timeout(PATIENCE, body.next()).await {
            Err(_) => return Err(Error::TooSlow),
            Ok(Some(Err(_))) => return Err(Error::Malformed("body")),
            Ok(Some(Ok(bytes))) => Piece::Bytes(bytes),
            Ok(None) => Piece::End,
        };
        if let Piece::Bytes(bytes) = &piece {
            length += bytes.len() as u64;
            if length > limit {
                return Err(Error::TooLarge);
            }
        }
        let is_end = matches!(piece, Piece::End);
        // A closed channel means that `receive` has failed; its error tells why.
        if pieces.send(piece).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// A download, for a thread that writes.
pub struct Outgoing(Sender<std::result::Result<Bytes, Error>>);

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        match self.0.blocking_send(Ok(piece)) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Streams the output of `send` as the response. An error before the first byte becomes a response
/// of its own; a later one aborts the stream.
///
/// # Errors
/// Too much work at once; an error of `send` before its first byte.
pub async fn give_out(
    visitor: &Visitor,
    content_type: &str,
    file_name: Option<&str>,
    send: impl FnOnce(&App, &mut Outgoing, &Cancel) -> std::result::Result<(), Error> + Send + 'static,
) -> Result {
    let guard = CancelOnDrop::default();
    let cancel = guard.0.clone();
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let app = visitor.app().clone();
    visitor.app().pools().by_hand.run_now(move || {
        let mut outgoing = Outgoing(sender);
        if let Err(error) = send(&app, &mut outgoing, &cancel) {
            let _ = outgoing.0.blocking_send(Err(error));
        }
    })?;
    let first = match pieces.recv().await {
        Some(Err(error)) => return Err(error),
        Some(Ok(bytes)) => bytes,
        None => Bytes::new(),
    };
    let rest = stream::unfold((pieces, guard), |(mut pieces, guard)| async move {
        let piece = pieces.recv().await?;
        Some((piece, (pieces, guard)))
    });
    let body = stream::once(async { Ok::<_, Error>(first) }).chain(rest);
    let mut response = HttpResponse::Ok();
    response.content_type(content_type);
    if let Some(name) = file_name {
        let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let encoded = encoded.replace('+', "%20");
        let disposition = format!("attachment; filename*=UTF-8''{encoded}");
        response.insert_header(("Content-Disposition", disposition));
    }
    Ok(response.streaming(Box::pin(body)))
}
