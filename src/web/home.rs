//! The chat page.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;

use super::error::{Error, Result};
use super::input::query;
use super::render::{self, context};
use super::visitor::Visitor;
use crate::settings::ChatAccess;

/// The longest name of a client, in characters, as the wire has it.
const LONGEST_NAME: usize = 64;

/// `GET /home/?name=`: a client's chat page, which starts from now; without a name it asks for one.
pub async fn show(visitor: Visitor, request: HttpRequest) -> Result {
    match visitor.app().settings().chat {
        ChatAccess::Off => return Err(Error::NoSuchAddress),
        ChatAccess::Members if visitor.identity().is_none() => return Err(Error::NotLoggedIn),
        ChatAccess::Members | ChatAccess::Open => {}
    }
    let asked = query(&request, "name").unwrap_or_default();
    let fits = asked.chars().count() <= LONGEST_NAME && !asked.chars().any(char::is_control);
    let (status, name) = if fits {
        (StatusCode::OK, asked)
    } else {
        (StatusCode::UNPROCESSABLE_ENTITY, String::new())
    };
    let cursor = visitor.app().hub().now().to_string();
    render::page(
        &visitor,
        status,
        "chat.html",
        "chat",
        context! { name, cursor },
    )
}
