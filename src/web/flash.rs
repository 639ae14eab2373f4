//! The flash message: shown once at the top of the page that follows a change, carried by a
//! short-lived cookie.

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::http::Head;

const COOKIE: &str = "longshore_flash";
/// The longest name, in characters; longer names are cut because cookies are small.
const LONGEST_NAME: usize = 100;

/// The text `flash.KEY` of the catalogue, with the name it mentions.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Flash {
    /// The key, without `flash.`.
    pub key: String,
    /// The value of `{name}`.
    pub name: String,
}

impl Flash {
    /// The text `flash.KEY` about `name`.
    pub fn new(key: &str, name: &str) -> Self {
        Self {
            key: key.to_owned(),
            name: name.chars().take(LONGEST_NAME).collect(),
        }
    }

    /// The flash message in a request's headers.
    pub fn of(head: &Head<'_>) -> Option<Self> {
        let cookie = head.cookie(COOKIE)?;
        let bytes = URL_SAFE_NO_PAD.decode(cookie.as_bytes()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The cookie that carries the message for 60 seconds.
    pub fn cookie(&self) -> Cookie<'static> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let mut cookie = bare(URL_SAFE_NO_PAD.encode(bytes));
        cookie.set_max_age(Duration::seconds(60));
        cookie
    }

    /// The cookie that removes the message after it was shown.
    pub fn no_cookie() -> Cookie<'static> {
        let mut cookie = bare(String::new());
        cookie.make_removal();
        cookie
    }
}

fn bare(value: String) -> Cookie<'static> {
    Cookie::build(COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .finish()
}
