//! The chat page.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;

use super::error::{Error, Result};
use super::input::query;
use super::render::{self, context};
use super::visitor::Visitor;
use crate::app::Busy;
use crate::chat::{self, Refused};
use crate::hub::ClientId;
use crate::transport::course;

/// `GET /home/?name=`: a client's chat page, which starts from now; without a name it asks for one.
pub async fn show(visitor: Visitor, request: HttpRequest) -> Result {
    let account = visitor.identity().map(|identity| identity.name.clone());
    let access = visitor.app().settings().chat;
    chat::may_use(access, account.is_some()).map_err(|refused| match refused {
        Refused::LoginNeeded => Error::NotLoggedIn,
        Refused::Off => Error::NoSuchAddress,
    })?;
    let hub = visitor.app().hub();
    let cursor = hub.now().to_string();
    let name = query(&request, "name").unwrap_or_default();
    if ClientId::new(account.clone(), &name).is_err() {
        let status = match name.is_empty() {
            true => StatusCode::OK,
            false => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let asking = context! { name => "", cursor };
        return render::page(&visitor, status, "chat.html", "chat", asking);
    }
    let cookie = course::enter(hub, account, &name).map_err(|_| Busy)?;
    let mut page = render::found(&visitor, "chat.html", "chat", context! { name, cursor })?;
    if let Err(error) = page.add_cookie(&cookie) {
        tracing::error!(%error, "the client's position could not be written");
    }
    Ok(page)
}
