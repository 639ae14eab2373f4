//! The course's WebSocket, `/chat/`: plain text messages, broadcast to every client.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use rand::{Rng, distr::Alphanumeric};

use super::{
    Wire,
    access::Asker,
    ask::Subscribe,
    frame::{Closing, Frames},
    refusal::Refusal,
    send::{self, Fields},
    socket::{Dialect, Line, Upgrade},
    stream::Subscription,
    traffic::Way,
};
use crate::http::{NotUtf8, pairs};
use crate::hub::{Batch, Kind, Position, RoomName};

/// `GET /chat/`, from now on. The course's page gives no name; a client that gives one publishes
/// under it.
pub(super) async fn chat(
    request: HttpRequest,
    payload: web::Payload,
    wire: web::Data<Wire>,
) -> Result<HttpResponse, Refusal> {
    let upgrade = Upgrade::new(&wire, &request, payload)?;
    let name = name_of(request.query_string())?;
    let subscribe = Subscribe {
        name: name.clone().unwrap_or_else(nobody),
        rooms: vec![RoomName::chat()],
        after: Position::Now,
    };
    let who = wire.access.who(Asker::of(&wire, &request)).await?;
    let subscription = Subscription::open(&wire, Way::WebSocket, who, subscribe).await?;
    let line = Line {
        wire: Wire::clone(&wire),
        request,
    };
    Ok(upgrade.talk(line, subscription.beside_others(), Plain { name }))
}

/// The first `name` in the query, if there is one.
fn name_of(query: &str) -> Result<Option<String>, Refusal> {
    let mut pairs = pairs(query.as_bytes());
    let pair = pairs.find(|pair| pair.name.as_deref() == Ok("name"));
    let name = pair.map(|pair| pair.value.map_err(|NotUtf8| Refusal::not_utf8("name")));
    Ok(name.transpose()?.map(Cow::into_owned))
}

/// A random name for a client without one, so that it has its own queue. Other clients see it in
/// the presence list.
fn nobody() -> String {
    let mark = rand::rng().sample_iter(Alphanumeric).take(10);
    format!("guest {}", mark.map(char::from).collect::<String>())
}

struct Plain {
    name: Option<String>,
}

impl Dialect for Plain {
    fn open(&mut self, _: &str, out: &mut Frames) {
        // An immediate frame shows proxies and clients that the socket is open; page scripts do not
        // see a ping.
        out.ping();
    }

    fn tell(&mut self, _: &str, batch: &Batch, out: &mut Frames) {
        for message in &batch.messages {
            if let (Kind::Message, Some(text)) = (message.kind, message.text()) {
                out.text(&text);
            }
        }
    }

    fn tell_retry(&mut self, _: u128, _: &mut Frames) {}

    fn tell_refusal(&mut self, _: &Refusal, _: &mut Frames) {}

    /// Publishes `text`. A refusal closes the socket, since the course's protocol has no frame for
    /// errors.
    async fn answer(&mut self, line: &Line, text: String, out: &mut Frames) {
        if text.is_empty() {
            return;
        }
        let fields = Fields {
            content: Some(text),
            room: None,
            name: self.name.clone(),
        };
        if let Err(refusal) = send::publish(&line.wire, &line.request, fields).await {
            out.close(Closing::of(&refusal), &refusal.to_string());
        }
    }
}
