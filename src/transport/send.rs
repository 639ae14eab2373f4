//! `POST /send_msg`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName},
    },
    web,
};
use futures_util::StreamExt;
use serde_json::{Map, Value};

use super::{
    CONTENT_BYTES, Wire,
    access::{Asker, Draft, Who, at_once},
    origin::is_our_change,
    refusal::{Code, Refusal},
    reply,
};
use crate::auth::{Proof, head_of};
use crate::http::{NotUtf8, Source, pairs};
use crate::hub::{ClientId, Family, Kind, RoomName};

/// The largest body: each byte of the content may be escaped as `\u0041`, plus 16 KiB for the other
/// fields.
const BODY_BYTES: usize = 6 * CONTENT_BYTES + (16 << 10);
/// A body that is too large is read up to this many bytes, so that the sender receives the refusal.
const DRAINED_BYTES: usize = 4 << 20;

/// Validates, authorizes, appends, replies.
pub(super) async fn send_msg(
    request: HttpRequest,
    payload: web::Payload,
    wire: web::Data<Wire>,
) -> HttpResponse {
    let answer = accept(&request, payload, &wire).await;
    wire.traffic.count(&answer);
    let mut response = answer.unwrap_or_else(|refusal| refusal.response());
    wire.close_if_draining(&mut response);
    response
}

async fn accept(
    request: &HttpRequest,
    payload: web::Payload,
    wire: &Wire,
) -> Result<HttpResponse, Refusal> {
    let head = head_of(request);
    // Before the body is read, so that a client that waits for `100 Continue` is refused at once.
    is_our_change(wire.access.sites().source(&head), &Proof::of(&head))?;
    let body = tokio::time::timeout(wire.bounds.body_time, read(request, payload))
        .await
        .map_err(|_| Refusal::new(Code::Slow, "", "the body came too slowly"))??;
    let fields = Fields::parse(header(request, CONTENT_TYPE), &body)?;
    let number = publish(wire, request, fields).await?;
    let form = AnswerForm::of(header(request, ACCEPT));
    let body = form.body(number);
    Ok(match form {
        AnswerForm::Json => reply::json(StatusCode::OK, body),
        AnswerForm::Text => reply::text(&body),
    })
}

/// Publishes a message that came by any transport: runs all checks, then appends to the log.
/// Returns the number of the message. `request` identifies the sender: this request, or the one
/// that opened the socket.
pub(super) async fn publish(
    wire: &Wire,
    request: &HttpRequest,
    fields: Fields,
) -> Result<u64, Refusal> {
    let publication = Publication::check(wire, fields)?;
    let source = wire.access.sites().source(&head_of(request));
    let who = wire.access.who(Asker::of(wire, request)).await?;
    is_our_change(source, &who.proof)?;
    let draft = publication.draft(&who);
    wire.access.may_publish(&who, &draft).await?;
    wire.access.append(draft).await
}

/// The outcome of [`publish_at_once`].
pub(super) enum AtOnce {
    /// Published under this number.
    Published(u64),
    /// All checks passed; the append has to be awaited.
    Append(Draft),
    /// Another answer has to be awaited, or the message is refused; nothing was appended.
    Undecided,
}

/// [`publish`] as far as it needs no waiting, for the sender `asker` and a page from `source`.
pub(super) fn publish_at_once(
    wire: &Wire,
    source: Source,
    asker: Asker<'_>,
    fields: Fields,
) -> AtOnce {
    let decided = || {
        let publication = Publication::check(wire, fields).ok()?;
        let who = at_once(wire.access.who(asker))?.ok()?;
        is_our_change(source, &who.proof).ok()?;
        let draft = publication.draft(&who);
        at_once(wire.access.may_publish(&who, &draft))?.ok()?;
        Some(draft)
    };
    let Some(draft) = decided() else {
        return AtOnce::Undecided;
    };
    match wire.access.append_at_once(&draft) {
        Some(number) => AtOnce::Published(number),
        None => AtOnce::Append(draft),
    }
}

/// A message to be published, with its bounds checked and its sender not yet identified.
struct Publication {
    sent: Sent,
    kind: Kind,
}

impl Publication {
    fn check(wire: &Wire, fields: Fields) -> Result<Self, Refusal> {
        if wire.hub.is_draining() {
            let message = "the server is going down; send it again";
            let refusal = Refusal::new(Code::Unavailable, "", message);
            return Err(refusal.retry_after(wire.hub.drain_retry()));
        }
        let sent = fields.check(wire.bounds.content)?;
        let kind = match sent.room.family() {
            Family::Chat => Kind::Message,
            Family::Vote => Kind::Vote,
            Family::Presence | Family::Release | Family::Releases | Family::Project => {
                let message = "clients publish to chat and vote rooms alone";
                return Err(Refusal::new(Code::Forbidden, "room", message));
            }
        };
        Ok(Self { sent, kind })
    }

    fn draft(self, who: &Who) -> Draft {
        Draft {
            room: self.sent.room,
            kind: self.kind,
            is_account: who.account.is_some(),
            from: who.account.clone().unwrap_or(self.sent.name),
            content: self.sent.content,
        }
    }
}

struct Sent {
    content: String,
    room: RoomName,
    name: String,
}

/// The fields of a message, not yet checked.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) content: Option<String>,
    pub(super) room: Option<String>,
    pub(super) name: Option<String>,
}

impl Fields {
    pub(super) fn parse(kind: &str, body: &[u8]) -> Result<Fields, Refusal> {
        let kind = kind.split(';').next().unwrap_or("").trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => {
                let bad = |_| Refusal::new(Code::Malformed, "", "the body is not a JSON object");
                Fields::take(&mut serde_json::from_slice(body).map_err(bad)?)
            }
            "" | "application/x-www-form-urlencoded" => form_fields(body),
            _ => {
                let message = "send a form or JSON";
                Err(Refusal::new(Code::Malformed, "", message))
            }
        }
    }

    /// Removes the fields from a JSON object.
    pub(super) fn take(object: &mut Map<String, Value>) -> Result<Fields, Refusal> {
        let mut text = |field: &'static str| match object.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::new(
                Code::Malformed,
                field,
                format!("{field} is a string"),
            )),
        };
        Ok(Fields {
            content: text("content")?,
            room: text("room")?,
            name: text("name")?,
        })
    }

    fn check(self, most: usize) -> Result<Sent, Refusal> {
        let Some(content) = self.content else {
            let message = "the content is missing";
            return Err(Refusal::new(Code::Malformed, "content", message));
        };
        if content.is_empty() {
            return Err(Refusal::new(
                Code::Invalid,
                "content",
                "the content is empty",
            ));
        }
        if content.len() > most {
            return Err(too_large(most));
        }
        if let Some(name) = &self.name {
            ClientId::new(None, name)?;
        }
        let room = self.room.map(|room| RoomName::parse(&room));
        Ok(Sent {
            content,
            room: room.unwrap_or(Ok(RoomName::chat()))?,
            name: self.name.unwrap_or_default(),
        })
    }
}

/// Parses the fields of a form. The first field of each name counts; unknown fields may contain any
/// bytes.
fn form_fields(body: &[u8]) -> Result<Fields, Refusal> {
    let mut fields = Fields::default();
    for pair in pairs(body) {
        let (name, field) = match pair.name.as_deref() {
            Ok("content") => ("content", &mut fields.content),
            Ok("room" | "room[]") => ("room", &mut fields.room),
            Ok("name") => ("name", &mut fields.name),
            _ => continue,
        };
        if field.is_none() {
            let value = pair.value.map_err(|NotUtf8| Refusal::not_utf8(name))?;
            *field = Some(value.into_owned());
        }
    }
    Ok(fields)
}

/// Reads the whole body. Not by the extractors of actix, which respond with errors of their own.
async fn read(request: &HttpRequest, mut payload: web::Payload) -> Result<Vec<u8>, Refusal> {
    let announced = header(request, CONTENT_LENGTH).parse().unwrap_or(0);
    // A client that waits for `100 Continue` has not begun to send.
    let most = if request.headers().contains_key(EXPECT) {
        BODY_BYTES
    } else {
        DRAINED_BYTES
    };
    if announced > most {
        return Err(too_large(CONTENT_BYTES));
    }
    let (mut body, mut read) = (Vec::with_capacity(announced.min(BODY_BYTES)), 0);
    while let Some(piece) = payload.next().await {
        let piece = piece
            .map_err(|_| Refusal::new(Code::Malformed, "", "the body broke off or is garbled"))?;
        read += piece.len();
        if read > DRAINED_BYTES {
            break;
        }
        if read <= BODY_BYTES {
            body.extend_from_slice(&piece);
        }
    }
    match read > BODY_BYTES {
        true => Err(too_large(CONTENT_BYTES)),
        false => Ok(body),
    }
}

fn too_large(most: usize) -> Refusal {
    let message = format!("the content has at most {most} bytes");
    Refusal::new(Code::TooLarge, "content", message)
}

fn header(request: &HttpRequest, name: HeaderName) -> &str {
    let value = request.headers().get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The format of the reply to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// `OK`.
    Text,
    /// `{"id":"…"}`.
    Json,
}

impl AnswerForm {
    /// The format that an `Accept` header asks for.
    pub(super) fn of(accept: &str) -> Self {
        let is_json = accept
            .split(',')
            .filter_map(|kind| kind.split(';').next())
            .any(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if is_json { Self::Json } else { Self::Text }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    pub(super) fn body(self, number: u64) -> String {
        match self {
            Self::Text => "OK".to_owned(),
            Self::Json => format!(r#"{{"id":"{number}"}}"#),
        }
    }
}
