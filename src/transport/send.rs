//! `POST /send_msg`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName},
    },
    web,
};
use futures_util::StreamExt;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::{
    CONTENT_BYTES, Wire,
    gate::Draft,
    refusal::{Code, Refusal},
    reply,
};
use crate::hub::{ClientId, Family, Kind, RoomName};

/// The largest body: each byte of the content may come as `\u0041`, and the other fields want room.
const BODY_BYTES: usize = 6 * CONTENT_BYTES + (16 << 10);
/// A body that is too large is read to its end up to here, so that its sender hears why.
const DRAINED_BYTES: usize = 4 << 20;

/// Check, authorise, append, answer.
pub(super) async fn send_msg(
    request: HttpRequest,
    payload: web::Payload,
    wire: web::Data<Wire>,
) -> HttpResponse {
    let sent = accept(&request, payload, &wire).await;
    let mut response = sent.unwrap_or_else(|refusal| refusal.response());
    wire.close_if_draining(&mut response);
    response
}

async fn accept(
    request: &HttpRequest,
    payload: web::Payload,
    wire: &Wire,
) -> Result<HttpResponse, Refusal> {
    let body = tokio::time::timeout(wire.bounds.body_time, read(request, payload))
        .await
        .map_err(|_| Refusal::new(Code::Slow, "", "the body came too slowly"))??;
    if wire.hub.is_draining() {
        let message = "the server is going down; send it again";
        let refusal = Refusal::new(Code::Unavailable, "", message);
        return Err(refusal.retry_after(wire.hub.drain_retry()));
    }
    let kind = header(request, CONTENT_TYPE);
    let Sent {
        content,
        room,
        name,
    } = Sent::parse(kind, &body, wire.bounds.content)?;
    let kind = match room.family() {
        Family::Chat => Kind::Message,
        Family::Vote => Kind::Vote,
        Family::Presence | Family::Release | Family::Releases => {
            let message = "clients publish to chat and vote rooms alone";
            return Err(Refusal::new(Code::Forbidden, "room", message));
        }
    };
    let who = wire.gate.who(wire.asker(request)).await?;
    let draft = Draft {
        room,
        kind,
        from: who.account.clone().unwrap_or(name),
        content,
    };
    wire.gate.may_publish(request, &who, &draft).await?;
    let number = wire.gate.append(draft).await?;
    Ok(match wants_json(header(request, ACCEPT)) {
        true => reply::json(StatusCode::OK, format!(r#"{{"id":"{number}"}}"#)),
        false => reply::text("OK"),
    })
}

struct Sent {
    content: String,
    room: RoomName,
    name: String,
}

impl Sent {
    fn parse(kind: &str, body: &[u8], most: usize) -> Result<Sent, Refusal> {
        let kind = kind.split(';').next().unwrap_or("").trim();
        let fields = match kind.to_ascii_lowercase().as_str() {
            "application/json" => json_fields(body)?,
            "" | "application/x-www-form-urlencoded" => form_fields(body),
            _ => {
                let message = "send a form or JSON";
                return Err(Refusal::new(Code::Malformed, "", message));
            }
        };
        let Fields {
            content,
            room,
            name,
        } = fields;
        let Some(content) = content else {
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
        if let Some(name) = &name {
            ClientId::new(None, name)?;
        }
        Ok(Sent {
            content,
            room: room.map_or(Ok(RoomName::chat()), |room| RoomName::parse(&room))?,
            name: name.unwrap_or_default(),
        })
    }
}

#[derive(Default)]
struct Fields {
    content: Option<String>,
    room: Option<String>,
    name: Option<String>,
}

fn form_fields(body: &[u8]) -> Fields {
    let mut fields = Fields::default();
    for (key, value) in form_urlencoded::parse(body) {
        let field = match &*key {
            "content" => &mut fields.content,
            "room" => &mut fields.room,
            "name" => &mut fields.name,
            _ => continue,
        };
        field.get_or_insert_with(|| value.into_owned());
    }
    fields
}

fn json_fields(body: &[u8]) -> Result<Fields, Refusal> {
    let bad = |_| Refusal::new(Code::Malformed, "", "the body is not a JSON object");
    let mut object: Map<String, Value> = serde_json::from_slice(body).map_err(bad)?;
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

/// The whole body, by hand: actix's own extractors would answer with errors of their own.
async fn read(request: &HttpRequest, mut payload: web::Payload) -> Result<Vec<u8>, Refusal> {
    let announced = header(request, CONTENT_LENGTH).parse().unwrap_or(0);
    if announced > DRAINED_BYTES {
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

fn wants_json(accept: &str) -> bool {
    accept
        .split(',')
        .filter_map(|kind| kind.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
