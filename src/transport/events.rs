//! `GET /events`: Server-Sent Events.

use std::{convert::Infallible, fmt::Write, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header::HeaderName},
    web,
};
use futures_util::stream;
use rand::Rng;
use serde_json::json;

use super::{
    Wire,
    access::Asker,
    ask::Subscribe,
    half_close::ClientEnd,
    origin,
    refusal::Refusal,
    reply,
    stream::{Subscription, Turn},
    traffic::Way,
};
use crate::auth::head_of;
use crate::hub::{Batch, Hub};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The length in bytes of the comment at the beginning: old proxies and browsers buffer the first
/// kilobytes.
const PRELUDE: usize = 2048;

/// Authorizes the request, then streams.
pub(super) async fn events(
    request: HttpRequest,
    wire: web::Data<Wire>,
) -> Result<HttpResponse, Refusal> {
    origin::is_ours(&wire, &head_of(&request))?;
    let last = request.headers().get(LAST_EVENT_ID);
    let last = last.map(|last| last.to_str().unwrap_or("?"));
    let subscribe = Subscribe::parse(request.query_string(), last)?;
    let who = wire.access.who(Asker::of(&wire, &request)).await?;
    let client_end = ClientEnd::of(&request);
    let is_head = request.method() == Method::HEAD;
    drop(request);
    let subscription = Subscription::open(&wire, Way::Sse, who, subscribe).await?;
    if is_head {
        return Ok(reply::events(stream::empty()));
    }
    let events = Events {
        hub: wire.hub.clone(),
        subscription,
        client_end,
        at: At::Beginning,
    };
    Ok(reply::events(stream::unfold(
        events,
        |mut events| async move {
            let text = events.next().await?;
            Some((Ok::<_, Infallible>(web::Bytes::from(text)), events))
        },
    )))
}

enum At {
    Beginning,
    Middle,
    End,
}

struct Events {
    hub: Hub,
    subscription: Subscription,
    client_end: ClientEnd,
    at: At,
}

impl Events {
    /// The next chunk of the stream; `None` at its end.
    async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        match self.at {
            At::End => return None,
            At::Beginning => {
                self.at = At::Middle;
                opening(&mut text, &self.subscription.position());
                return Some(text);
            }
            At::Middle => {}
        }
        let turn = tokio::select! {
            biased;
            turn = self.subscription.next() => turn,
            () = self.client_end.come() => return None,
        };
        match turn {
            Turn::Batch { before, batch } => told(&mut text, &self.hub, &before, &batch),
            Turn::Idle => text.push_str(":\n\n"),
            Turn::Retry(retry) => {
                self.at = At::End;
                come_back(&mut text, retry);
                // Scripts cannot read the `retry:` field above.
                let data = json!({ "retry": retry.as_millis() as u64 }).to_string();
                event(&mut text, None, "retry", &data);
            }
            Turn::Refused(refusal) => {
                self.at = At::End;
                event(&mut text, None, "refused", &refusal.body());
            }
        }
        Some(text)
    }
}

fn opening(text: &mut String, position: &str) {
    let _ = writeln!(text, ":{:PRELUDE$}", "");
    // Spreads reconnects: otherwise all clients of a crashed server would come back at the same
    // moment.
    let spread = Duration::from_millis(rand::rng().random_range(1000..=3000));
    come_back(text, spread);
    let data = json!({ "cursor": position }).to_string();
    event(text, Some(position), "cursor", &data);
}

/// Writes a batch as events. The id of each event is a cursor of its own, so a stream that breaks
/// off between two events resumes from there.
fn told(text: &mut String, hub: &Hub, before: &str, batch: &Batch) {
    if !batch.gap.is_empty() {
        let behind = batch.cursor.to_string();
        let cursor = match batch.messages.is_empty() {
            true => &behind,
            false => before,
        };
        let rooms: Vec<&str> = batch.gap.iter().map(|room| room.as_str()).collect();
        let data = json!({ "rooms": rooms, "cursor": cursor }).to_string();
        event(text, Some(cursor), "gap", &data);
    }
    for message in &batch.messages {
        let id = hub.behind(message).to_string();
        event(text, Some(&id), message.kind.as_str(), message.encoded());
    }
}

fn come_back(text: &mut String, after: Duration) {
    let _ = writeln!(text, "retry: {}", after.as_millis());
}

fn event(text: &mut String, id: Option<&str>, name: &str, data: &str) {
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = writeln!(text, "event: {name}");
    // JSON has line breaks only between tokens, so splitting at them is safe.
    for line in data.split(['\r', '\n']) {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
}
