//! The chat pages: the course's room and named rooms.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, web};
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::guest;
use super::input::query;
use super::render::{self, context};
use super::visitor::Visitor;
use crate::chat::{self, Refused};
use crate::hub::{ClientId, RoomName};
use crate::pools::Busy;
use crate::store::{Event, StoreError, events};
use crate::transport::course;

/// The number of messages shown on entering.
const LAST: i64 = 50;

/// Checks that `visitor` may use chats and votes under the present settings.
///
/// # Errors
/// A missing login, the feature being off, or a foreign `Host` of a visitor without a login.
pub fn check_access(visitor: &Visitor) -> Result<()> {
    let access = visitor.app().settings().chat;
    chat::may_use(access, visitor.identity().is_some()).map_err(|refused| match refused {
        Refused::LoginNeeded => Error::NotLoggedIn,
        Refused::Off => Error::NoSuchAddress,
    })?;
    match visitor.identity().is_none() && visitor.has_foreign_host() {
        true => Err(Error::ForeignHost),
        false => Ok(()),
    }
}

/// `GET /home/?name=`: a client's chat page, which starts from now; without a name, a form that
/// asks for one. `room=NAME` selects another room.
///
/// # Errors
/// Access denied, a malformed query, too much work at once or a database error.
pub async fn show(visitor: Visitor, request: HttpRequest) -> Result {
    check_access(&visitor)?;
    let asked = query(&request, "room")?.unwrap_or_default();
    let asked = asked.trim().trim_start_matches('#');
    let Some(room) = room_of(asked) else {
        let asking = Asking {
            room: asked,
            room_is_bad: true,
            ..Asking::default()
        };
        return ask(&visitor, &request, asking);
    };
    let name = query(&request, "name")?.unwrap_or_default();
    enter(&visitor, &request, &room, &name).await
}

/// `GET /chat/{name}`: the page of the room `chat/NAME`. An account enters under its own name.
///
/// # Errors
/// Access denied, an unknown room, a malformed query or a database error.
pub async fn room(visitor: Visitor, request: HttpRequest, path: web::Path<String>) -> Result {
    check_access(&visitor)?;
    let room = room_of(&path).ok_or(Error::NoSuchAddress)?;
    let account = || visitor.identity().map(|identity| identity.name.clone());
    let name = query(&request, "name")?.or_else(account);
    enter(&visitor, &request, &room, &name.unwrap_or_default()).await
}

/// The room of this name; the course's room if empty.
fn room_of(name: &str) -> Option<RoomName> {
    match name {
        "" | "chat" => Some(RoomName::chat()),
        name => RoomName::parse(&format!("chat/{name}")).ok(),
    }
}

#[derive(Default)]
struct Asking<'a> {
    room: &'a str,
    room_is_bad: bool,
    name_is_bad: bool,
}

/// Shows the form that asks for a name and a room.
fn ask(visitor: &Visitor, request: &HttpRequest, asking: Asking<'_>) -> Result {
    let status = match asking.room_is_bad || asking.name_is_bad {
        false => StatusCode::OK,
        true => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let context = context! {
        name => "",
        room => asking.room,
        room_is_bad => asking.room_is_bad,
        name_is_bad => asking.name_is_bad,
        known_name => guest::name(request).unwrap_or_default(),
    };
    render::page(visitor, status, "chat.html", "chat", context)
}

async fn enter(visitor: &Visitor, request: &HttpRequest, room: &RoomName, name: &str) -> Result {
    let account = visitor.identity().map(|identity| identity.name.clone());
    if ClientId::new(account.clone(), name).is_err() {
        let asking = Asking {
            room: room.rest().unwrap_or_default(),
            name_is_bad: !name.is_empty(),
            ..Asking::default()
        };
        return ask(visitor, request, asking);
    }
    let hub = visitor.app().hub();
    let cookie = match room.rest() {
        None if request.method() == Method::HEAD => Some(course::cookie_of_now(hub, name)),
        None => Some(course::enter(hub, account.clone(), name).map_err(|_| Busy)?),
        Some(_) => None,
    };
    // Taken before the snapshot, so that later messages are polled.
    let cursor = hub.now().to_string();
    let here = hub.presence(room);
    // A return in the same browser is not a second person.
    let is_own = guest::name(request).as_deref() == Some(name);
    let is_taken = account.is_none() && !is_own && here.has_guest(name);
    let of = room.as_str().to_owned();
    let last = visitor
        .ask(move |app| app.store().read_log(|conn| events::last(conn, &of, LAST)))
        .await?;
    let context = context! {
        name,
        room => room.rest().unwrap_or_default(),
        is_taken,
        data => json!({
            "name": name,
            "account": account,
            "room": room.as_str(),
            "cursor": cursor,
            "is_taken": is_taken,
            "here": here.data(room),
            "messages": messages(last)?,
        }),
    };
    let mut page = render::found(visitor, "chat.html", "chat", context)?;
    if let Some(cookie) = cookie
        && let Err(error) = page.add_cookie(&cookie)
    {
        tracing::error!(%error, "the client's position could not be written");
    }
    Ok(page)
}

/// Messages of the log in wire format.
fn messages(events: Vec<Event>) -> Result<Vec<Value>> {
    let message = |event: Event| {
        let data: Value =
            serde_json::from_str(&event.data).map_err(|error| StoreError::Corrupt {
                what: format!("message {}", event.number),
                cause: error.to_string(),
            })?;
        Ok(json!({
            "id": event.number.to_string(),
            "room": event.room,
            "kind": event.kind,
            "from": event.sender,
            "data": data,
            "at": event.at,
        }))
    };
    events.into_iter().map(message).collect()
}
