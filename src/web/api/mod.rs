//! The JSON API, a file a domain. Answers hold no secret; ids are strings, times RFC 3339.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::say;
use super::visitor::Visitor;
use crate::deploy::Check;
use crate::i18n;

pub mod credentials;
pub mod projects;
pub mod releases;
pub mod servers;

/// What a PUT may send back as it was read, though it cannot be changed.
const READ_ONLY: [&str; 4] = ["id", "host_key", "created_at", "updated_at"];

/// What a check found, in the reader's language where the words are ours.
pub fn check(visitor: &Visitor, check: &Check) -> Value {
    let language = visitor.language();
    let known = check.accepted.as_deref();
    let code = match &check.fingerprint {
        _ if check.ok => None,
        Some(_) if check.changed => Some("host_key_changed"),
        Some(_) if known.is_none() => Some("host_key_unknown"),
        _ => None,
    };
    let message = match code {
        Some(code) => i18n::text(language, &format!("error.{code}"), &[]),
        None if check.ok => {
            let connected = i18n::text(language, "check.connected", &[]);
            format!("{connected} {}", say::message(language, &check.message))
                .trim()
                .to_owned()
        }
        None => say::message(language, &check.message),
    };
    json!({
        "ok": check.ok,
        "code": code,
        "fingerprint": check.fingerprint,
        "known_fingerprint": known.map(fingerprint),
        "key_kind": check.key_kind,
        "message": message,
        "milliseconds": check.milliseconds,
    })
}

/// The fingerprint of a pinned key, before which the key's kind may stand.
fn fingerprint(pinned: &str) -> &str {
    pinned.rsplit(' ').next().unwrap_or(pinned)
}

/// Done, and nothing to say.
fn nothing() -> HttpResponse {
    HttpResponse::NoContent().finish()
}
