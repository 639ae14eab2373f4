//! Servers worked on by hand, over HTTP: commands with their output while they run, files and trees
//! as streams. Who goes away cancels what he asked for; nothing is kept in memory whole.

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

/// How many pieces of a stream are under way between its two ends.
const PIECES: usize = 8;

/// How long an upload may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does blocking work that may take minutes, apart from the pages' own: few at once, none waits.
pub async fn work<T: Send + 'static>(
    visitor: &Visitor,
    work: impl FnOnce(&App) -> T + Send + 'static,
) -> Result<T> {
    let app = visitor.app().clone();
    let working = visitor.app().pools().by_hand.run_now(move || work(&app))?;
    working.await.map_err(|_| Error::from(Busy))
}

/// A piece of what a person sends; only a stream that has its end is whole.
enum Piece {
    Bytes(Bytes),
    End,
}

/// What a person sends, for a thread that reads.
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

/// Gives a request's body, of at most `limit` bytes, to `receive`, which runs on a thread.
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
    // A client that waits for a `100` asks first and sends then; nothing is begun for a question.
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
    // What the body is refused for is the reason of what became of it.
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
        // Nobody takes it any more where the other end has failed, which says why.
        if pieces.send(piece).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// What a thread sends to a person.
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

/// Answers with what `send` writes, as it comes. What goes wrong before the first byte is an answer
/// of its own; after it, the answer breaks off.
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
