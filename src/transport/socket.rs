//! WebSockets: the loop that all of them share, and `/ws` with its JSON frames.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use actix_http::ws;
use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodyStream, BoxBody},
    web::{self, Bytes},
};
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{
    CONTENT_BYTES, Wire,
    access::Asker,
    ask::Subscribe,
    frame::{Closing, Frames},
    frame_reader::{FrameReader, Message},
    origin,
    refusal::{Code, Refusal},
    send::{self, Fields},
    stream::{Subscription, Turn},
    traffic::Way,
};
use crate::hub::{Batch, Cursor};

/// The most unacknowledged messages in flight to a client that acknowledges.
const UNACKNOWLEDGED: usize = 256;
/// The most unacknowledged bytes in flight to a client that acknowledges.
const UNACKNOWLEDGED_BYTES: usize = 256 << 10;

/// The time in which a client must answer a close frame.
const FAREWELL: Duration = Duration::from_secs(2);

/// The protocol on a socket: the frames that the server sends and its replies.
pub(super) trait Dialect {
    /// Writes the first frame.
    fn open(&mut self, position: &str, out: &mut Frames);
    /// Writes a batch.
    fn tell(&mut self, before: &str, batch: &Batch, out: &mut Frames);
    /// Writes that the client should reconnect after this many milliseconds.
    fn tell_retry(&mut self, milliseconds: u128, out: &mut Frames);
    /// Writes the reason before the socket is closed.
    fn tell_refusal(&mut self, refusal: &Refusal, out: &mut Frames);
    /// Handles a text message of the client.
    async fn answer(&mut self, line: &Line, text: String, out: &mut Frames);
    /// True if nothing more may be sent until the client sends a message.
    fn is_full(&self) -> bool {
        false
    }
}

/// The context of a socket.
pub(super) struct Line {
    pub(super) wire: Wire,
    /// The request that opened the socket. Every message that the client publishes is authorized by
    /// it anew.
    pub(super) request: HttpRequest,
}

/// A WebSocket handshake, not yet sent.
pub(super) struct Upgrade {
    response: HttpResponse,
    heard: Heard,
}

impl Upgrade {
    /// Validates the handshake.
    ///
    /// # Errors
    /// 403 for a page of another site, 426 if the request is not a WebSocket upgrade.
    pub(super) fn new(
        wire: &Wire,
        request: &HttpRequest,
        payload: web::Payload,
    ) -> Result<Upgrade, Refusal> {
        origin::is_our_socket(wire, request)?;
        let mut response = ws::handshake(request.head()).map_err(|_| {
            let message = "this path is a WebSocket of version 13";
            Refusal::new(Code::Upgrade, "upgrade", message)
        })?;
        let response = response.message_body(BoxBody::new(()));
        let response = response.map_err(|error| {
            tracing::error!(%error, "a socket's handshake could not be answered");
            Refusal::new(Code::Unavailable, "", "the socket could not be opened")
        })?;
        Ok(Upgrade {
            response: response.into(),
            heard: Heard::new(payload),
        })
    }

    /// The response that becomes the socket: its body produces frames as the connection accepts
    /// them.
    pub(super) fn talk(
        self,
        line: Line,
        subscription: Subscription,
        dialect: impl Dialect + 'static,
    ) -> HttpResponse {
        let socket = Socket {
            line,
            subscription,
            heard: self.heard,
            dialect,
            at: At::Beginning,
        };
        let frames = stream::unfold(socket, |mut socket| async move {
            let frames = socket.next().await?;
            Some((Ok::<_, Infallible>(frames.into_bytes()), socket))
        });
        self.response
            .set_body(BodyStream::new(Box::pin(frames)))
            .map_into_boxed_body()
    }
}

/// Decodes the client's messages. A chunk is read from the connection only after the previous one
/// is used up, so nothing is buffered here.
struct Heard {
    payload: web::Payload,
    piece: Bytes,
    reader: FrameReader,
}

impl Heard {
    fn new(payload: web::Payload) -> Self {
        Self {
            payload,
            piece: Bytes::new(),
            reader: FrameReader::new(CONTENT_BYTES),
        }
    }

    /// The next message, or the status code to close the socket with; `None` if the client is gone.
    /// Cancel-safe.
    async fn next(&mut self) -> Option<Result<Message, Closing>> {
        loop {
            let mut rest = &self.piece[..];
            let read = self.reader.read(&mut rest).transpose();
            self.piece = self.piece.slice(self.piece.len() - rest.len()..);
            if read.is_some() {
                return read;
            }
            self.piece = self.payload.next().await?.ok()?;
        }
    }

    /// Reads and discards up to the end of the connection.
    async fn discard(&mut self) {
        while let Some(Ok(_)) = self.payload.next().await {}
    }
}

enum At {
    Beginning,
    Middle,
    Closing,
    End,
}

struct Socket<D> {
    line: Line,
    subscription: Subscription,
    heard: Heard,
    dialect: D,
    at: At,
}

impl<D: Dialect> Socket<D> {
    /// The next frames; `None` at the end.
    async fn next(&mut self) -> Option<Frames> {
        let mut out = Frames::default();
        match self.at {
            At::Closing => {
                // Closing the connection too early could discard the close frame.
                let _ = timeout(FAREWELL, self.hear_farewell()).await;
                return None;
            }
            At::End => return None,
            At::Beginning => {
                self.at = At::Middle;
                self.dialect.open(&self.subscription.position(), &mut out);
            }
            At::Middle => {}
        }
        while out.is_empty() && !out.is_closed() {
            self.subscription.pause(self.dialect.is_full());
            tokio::select! {
                turn = self.subscription.next() => self.turn(turn, &mut out),
                heard = self.heard.next() => {
                    if let Some(text) = out.hear(heard) {
                        self.dialect.answer(&self.line, text, &mut out).await;
                    }
                }
            }
        }
        match (out.is_closed(), out.is_one_sided()) {
            (false, _) => {}
            (true, false) => self.at = At::End,
            (true, true) => self.at = At::Closing,
        }
        (!out.is_empty()).then_some(out)
    }

    async fn hear_farewell(&mut self) {
        loop {
            match self.heard.next().await {
                None | Some(Ok(Message::Close)) => return,
                Some(Ok(_)) => {}
                // The start of the next frame is unknown.
                Some(Err(_)) => return self.heard.discard().await,
            }
        }
    }

    fn turn(&mut self, turn: Turn, out: &mut Frames) {
        match turn {
            Turn::Batch { before, batch } => self.dialect.tell(&before, &batch, out),
            Turn::Idle => out.ping(),
            Turn::Retry(retry) => {
                self.dialect.tell_retry(retry.as_millis(), out);
                out.close(Closing::Away, "come back");
            }
            Turn::Refused(refusal) => {
                self.dialect.tell_refusal(&refusal, out);
                out.close(Closing::of(&refusal), &refusal.to_string());
            }
        }
    }
}

/// `GET /ws`.
pub(super) async fn ws(
    request: HttpRequest,
    payload: web::Payload,
    wire: web::Data<Wire>,
) -> Result<HttpResponse, Refusal> {
    let upgrade = Upgrade::new(&wire, &request, payload)?;
    let subscribe = Subscribe::parse(request.query_string(), None)?;
    let name = subscribe.name.clone();
    let who = wire.access.who(Asker::of(&wire, &request)).await?;
    let subscription = Subscription::open(&wire, Way::WebSocket, who, subscribe).await?;
    let wire = Wire::clone(&wire);
    let dialect = Json {
        wire: wire.clone(),
        name,
        unacknowledged: None,
    };
    Ok(upgrade.talk(Line { wire, request }, subscription, dialect))
}

/// The JSON frames of the full contract.
struct Json {
    wire: Wire,
    name: String,
    /// The messages sent since the client's first acknowledgement and not acknowledged yet, with
    /// their sizes in bytes.
    unacknowledged: Option<VecDeque<(Cursor, usize)>>,
}

impl Dialect for Json {
    fn open(&mut self, position: &str, out: &mut Frames) {
        out.text(&json!({ "cursor": position }).to_string());
    }

    fn tell(&mut self, before: &str, batch: &Batch, out: &mut Frames) {
        if !batch.gap.is_empty() {
            let behind = batch.cursor.to_string();
            let cursor = match batch.messages.is_empty() {
                true => &behind,
                false => before,
            };
            let rooms: Vec<&str> = batch.gap.iter().map(|room| room.as_str()).collect();
            out.text(&json!({ "gap": rooms, "cursor": cursor }).to_string());
        }
        for message in &batch.messages {
            let cursor = self.wire.hub.behind(message);
            // The encoded message, with the key `cursor` added.
            let encoded = message.encoded();
            let object = encoded.strip_suffix('}').unwrap_or(encoded);
            let text = format!(r#"{object},"cursor":"{cursor}"}}"#);
            out.text(&text);
            if let Some(sent) = &mut self.unacknowledged {
                sent.push_back((cursor, text.len()));
            }
        }
    }

    fn tell_retry(&mut self, milliseconds: u128, out: &mut Frames) {
        out.text(&format!(r#"{{"retry":{milliseconds}}}"#));
    }

    fn tell_refusal(&mut self, refusal: &Refusal, out: &mut Frames) {
        out.text(&refusal.body());
    }

    async fn answer(&mut self, line: &Line, text: String, out: &mut Frames) {
        let mut object: Map<String, Value> = match serde_json::from_str(&text) {
            Ok(object) => object,
            Err(_) => {
                let refusal = Refusal::new(Code::Malformed, "", "the frame is not a JSON object");
                return out.text(&refusal.body());
            }
        };
        let reference = object.remove("ref");
        let mut answer = match self.handle(line, object).await {
            Ok(None) => return,
            Ok(Some(answer)) => answer,
            Err(refusal) => refusal.object(),
        };
        if let (Some(reference), Some(answer)) = (reference, answer.as_object_mut()) {
            answer.insert("ref".to_owned(), reference);
        }
        out.text(&answer.to_string());
    }

    fn is_full(&self) -> bool {
        self.unacknowledged.as_ref().is_some_and(|sent| {
            let bytes: usize = sent.iter().map(|(_, bytes)| bytes).sum();
            sent.len() > UNACKNOWLEDGED || bytes > UNACKNOWLEDGED_BYTES
        })
    }
}

impl Json {
    async fn handle(
        &mut self,
        line: &Line,
        mut object: Map<String, Value>,
    ) -> Result<Option<Value>, Refusal> {
        if let Some(echo) = object.remove("ping") {
            return Ok(Some(json!({ "pong": echo })));
        }
        if let Some(cursor) = object.remove("ack") {
            self.acknowledge(&cursor)?;
            return Ok(None);
        }
        if !object.contains_key("content") {
            let message = "a frame has content, ack or ping";
            return Err(Refusal::new(Code::Malformed, "content", message));
        }
        let mut fields = Fields::take(&mut object)?;
        fields.name.get_or_insert_with(|| self.name.clone());
        let number = send::publish(&line.wire, &line.request, fields).await?;
        Ok(Some(json!({ "id": number.to_string(), "sent": true })))
    }

    /// Acknowledges everything up to `cursor`. A cursor that was not sent on this socket since its
    /// first acknowledgement is ignored.
    fn acknowledge(&mut self, cursor: &Value) -> Result<(), Refusal> {
        let bad = || Refusal::new(Code::Malformed, "ack", "not a cursor");
        let cursor = Cursor::parse(cursor.as_str().ok_or_else(bad)?).map_err(|_| bad())?;
        let sent = self.unacknowledged.get_or_insert_default();
        if let Some(at) = sent.iter().position(|(given, _)| *given == cursor) {
            sent.drain(..=at);
        }
        Ok(())
    }
}
