//! The course's contract: a poll has only `name`, the room is `chat`, a reply has one message. The
//! cursor is in a cookie; for a client without cookies, the position is kept in memory.

use std::{mem, net::IpAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    cookie::{Cookie, SameSite},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Wire, access::Who, half_close::ClientEnd, poll::Held, refusal::Refusal, reply};
use crate::http::Head;
use crate::hub::{
    Batch, ClientId, Cursor, Hub, Kind, Message, Poll, PollError, Position, RoomName,
};

/// The delay of a reply if the log cannot be read: the course's page stops polling on any status
/// but success, and after a success polls again at once.
const PAUSE: Duration = Duration::from_secs(1);

/// Resets a client that opens `/home`: its position in the cookie and its position in memory become
/// now. The caller sets the returned cookie on the page's response.
///
/// # Errors
/// 422 for a name out of bounds.
pub fn enter(hub: &Hub, account: Option<String>, name: &str) -> Result<Cookie<'static>, Refusal> {
    let client = ClientId::new(account, name)?;
    let now = hub.now();
    hub.positions().set(&client, now);
    Ok(cookie(name, &now))
}

/// The cookie that [`enter`] would return now, for a `HEAD` request, which resets nothing.
pub fn cookie_of_now(hub: &Hub, name: &str) -> Cookie<'static> {
    cookie(name, &hub.now())
}

fn cookie(name: &str, cursor: &Cursor) -> Cookie<'static> {
    Cookie::build(cookie_name(name), cursor.to_string())
        .path("/get_msg")
        .http_only(true)
        .same_site(SameSite::Lax)
        .finish()
}

/// The cookie name of a client name. Hashed because a client name may be long and may contain
/// characters that are not allowed in cookie names.
fn cookie_name(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    format!("ls_{}", URL_SAFE_NO_PAD.encode(&hash[..16]))
}

/// The cursor that a course poll carries in its cookie.
pub(super) enum Carried {
    /// No cookie: the client does not keep cookies.
    Nothing,
    /// A cookie with a position.
    Cursor(Cursor),
    /// A cookie that is not a cursor of this server.
    Garbage,
}

impl Carried {
    pub(super) fn read(head: &Head<'_>, name: &str) -> Carried {
        match head.cookie(&cookie_name(name)) {
            None => Carried::Nothing,
            Some(cookie) => match Cursor::parse(&cookie) {
                Ok(cursor) => Carried::Cursor(cursor),
                Err(_) => Carried::Garbage,
            },
        }
    }
}

/// Holds the poll until a message comes, the wait is over or the client is gone; then replies with
/// the message and the next cookie.
pub(super) async fn get_msg(
    wire: &Wire,
    who: &Who,
    client: ClientId,
    carried: Carried,
    held: Held,
) -> Result<HttpResponse, Refusal> {
    let rooms = [RoomName::chat()];
    wire.access.may_read(who, &rooms).await?;
    let call = Call {
        hub: &wire.hub,
        client,
        address: who.address,
        over: Instant::now() + held.wait,
        client_end: held.client_end,
        takes_messages: held.takes_messages,
    };
    let came = std::time::Instant::now();
    let (given, cursor) = match carried {
        Carried::Nothing => call.by_memory().await?,
        Carried::Cursor(cursor) => {
            let position = call.hub.kept_position(&cursor);
            call.next(position, cursor).await?
        }
        Carried::Garbage => {
            let now = call.hub.now();
            call.next(Position::from(now), now).await?
        }
    };
    wire.access.may_read(who, &rooms).await?;
    if let Some(message) = given.as_ref().filter(|_| call.takes_messages) {
        wire.hub.meter().delivered(message, message.is_newer(came));
    }
    let mut response = wire.reply(reply::course(given.as_deref()));
    if let Err(error) = response.add_cookie(&cookie(call.client.name(), &cursor)) {
        tracing::error!(%error, "a course poll's cookie could not be written");
    }
    Ok(response)
}

type Given = (Option<Arc<Message>>, Cursor);

struct Call<'a> {
    hub: &'a Hub,
    client: ClientId,
    address: Option<IpAddr>,
    over: Instant,
    client_end: ClientEnd,
    takes_messages: bool,
}

impl Call<'_> {
    /// The next chat message after `position` and the cursor after it; no message if the wait is
    /// over. Gaps are skipped: the course continues with the oldest message that is kept.
    async fn next(&self, mut position: Position, mut cursor: Cursor) -> Result<Given, Refusal> {
        loop {
            let wait = self.over.saturating_duration_since(Instant::now());
            let poll = Poll {
                client: Arc::new(self.client.clone()),
                rooms: Arc::new([RoomName::chat()]),
                address: self.address,
                after: position,
                wait,
                messages: 1,
                may_be_superseded: false,
            };
            let batch = match self.hub.poll_until(poll, self.client_end.come()).await {
                Ok(batch) => batch,
                Err(PollError::Log(error)) => {
                    tracing::error!(%error, "a course poll could not be answered");
                    tokio::time::sleep(PAUSE).await;
                    return Ok((None, cursor));
                }
                Err(error) => return Err(error.into()),
            };
            let over = batch.messages.is_empty() && batch.gap.is_empty() && !batch.more;
            let message = chat_message(&batch);
            let before = mem::replace(&mut cursor, batch.cursor);
            if let Some(retry) = batch.retry
                && message.is_none()
                && !batch.held
            {
                // The client cannot be told to wait, so its reply is delayed. Polls that were
                // parked when the drain began were answered at once, and the next poll is delayed
                // here.
                let over = self.over.min(Instant::now() + retry);
                tokio::select! {
                    () = self.hub.ended() => {}
                    () = self.client_end.come() => {}
                    () = tokio::time::sleep_until(over) => {}
                }
            }
            if message.is_some() && !self.takes_messages {
                return Ok((message, before));
            }
            if message.is_some() || over {
                return Ok((message, cursor));
            }
            position = Position::from(cursor);
        }
    }

    /// [`next`](Self::next) from the position in memory. If two polls find the same message, one
    /// advances the position and returns the message; the other tries again from the new position.
    async fn by_memory(&self) -> Result<Given, Refusal> {
        let positions = self.hub.positions();
        loop {
            let at = positions.get_or_set(&self.client, self.hub.now());
            let position = Position::from(at);
            let (message, cursor) = self.next(position, at).await?;
            if !self.takes_messages {
                return Ok((message, cursor));
            }
            if positions.advance(&self.client, &at, &cursor) || message.is_none() {
                return Ok((message, cursor));
            }
        }
    }
}

fn chat_message(batch: &Batch) -> Option<Arc<Message>> {
    let is_chat = |message: &&Arc<Message>| message.kind == Kind::Message;
    batch.messages.first().filter(is_chat).cloned()
}
