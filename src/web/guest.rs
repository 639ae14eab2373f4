//! Cookies of a visitor without a login: a token that identifies the browser as one voter, and the
//! last name its user entered.

use std::borrow::Cow;

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::{HttpRequest, HttpResponse};

use super::visitor::Visitor;
use crate::auth::head_of;
use crate::secret::{Secret, new_token};

const TOKEN: &str = "longshore_guest";
const NAME: &str = "longshore_name";
/// The lifetime of the token's cookie.
const LIFE: Duration = Duration::days(365);
/// A token's length, in characters.
const TOKEN_CHARS: usize = 43;

/// The token of `request`.
pub fn token(request: &HttpRequest) -> Option<Secret<String>> {
    let token = head_of(request).cookie(TOKEN)?;
    let is_token = token.len() == TOKEN_CHARS && token.is_ascii();
    is_token.then(|| Secret::new(token.into_owned()))
}

/// The token of `request`, or a new one, which [`keep_token`] must give to the browser.
pub fn token_or_new(request: &HttpRequest) -> Secret<String> {
    token(request).unwrap_or_else(new_token)
}

/// The last name entered in this browser. `chat.js` writes this cookie, because responses under the
/// course's contract set only that contract's own.
pub fn name(request: &HttpRequest) -> Option<String> {
    head_of(request).cookie(NAME).map(Cow::into_owned)
}

/// Stores `token` in the browser.
pub fn keep_token(visitor: &Visitor, token: &Secret<String>, response: &mut HttpResponse) {
    let urls = &visitor.app().settings().public_urls;
    let cookie = Cookie::build(TOKEN, token.expose().clone())
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(!urls.is_empty() && urls.iter().all(|url| url.starts_with("https:")))
        .max_age(LIFE)
        .finish();
    if let Err(error) = response.add_cookie(&cookie) {
        tracing::error!(%error, "a cookie could not be written");
    }
}
