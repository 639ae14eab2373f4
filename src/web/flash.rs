//! What the next page says on top, once: a short-lived cookie between a change and the page that
//! it leads to.

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::http::Head;

const COOKIE: &str = "longshore_flash";
/// A name longer than that is cut: cookies are small.
const LONGEST_NAME: usize = 100;

/// A text of the catalogue, `flash.KEY`, with the name of what it is about.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Flash {
    /// The end of the text's key.
    pub key: String,
    /// What `{name}` stands for in it.
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

    /// What a request with these headers brings along.
    pub fn of(head: &Head<'_>) -> Option<Self> {
        let cookie = head.cookie(COOKIE)?;
        let bytes = URL_SAFE_NO_PAD.decode(cookie.as_bytes()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The cookie that carries it.
    pub fn cookie(&self) -> Cookie<'static> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let mut cookie = bare(URL_SAFE_NO_PAD.encode(bytes));
        cookie.set_max_age(Duration::seconds(60));
        cookie
    }

    /// The cookie that ends it, once it was shown.
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
