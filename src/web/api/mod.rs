//! The JSON API, one file per domain. Responses hold no secrets; ids are strings, times RFC 3339.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::say;
use super::visitor::Visitor;
use crate::deploy::{Check, Found};
use crate::i18n::{self, Language};

pub mod by_hand;
pub mod credentials;
pub mod projects;
pub mod releases;
pub mod servers;

/// The read-only fields that a PUT may contain; they are ignored.
const READ_ONLY: [&str; 4] = ["id", "host_key", "created_at", "updated_at"];

/// The JSON of a check's result, with messages in the reader's language.
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
        "found": check.found,
        "details": check.found.as_ref().map(|found| details(language, found)),
    })
}

/// The findings on a server as pairs of label and text in the reader's language.
fn details(language: Language, found: &Found) -> Vec<(String, String)> {
    let text = |key: &str, args: &[(&str, &str)]| i18n::text(language, key, args);
    let mut details = Vec::new();
    let mut add = |key: &str, value: String| details.push((text(key, &[]), value));
    if let Some(user) = &found.user {
        add("check.user", user.clone());
    }
    for folder in &found.folders {
        let key = match folder.writable {
            true => "check.writable",
            false => "check.not_writable",
        };
        add("check.folder", text(key, &[("path", &folder.path)]));
    }
    if let Some(free) = found.free_bytes {
        let gibibytes = format!("{:.1}", free as f64 / f64::from(1 << 30));
        add(
            "check.free",
            text("check.gibibytes", &[("count", &gibibytes)]),
        );
    }
    if !found.shell {
        add("check.tools", text("check.no_shell", &[]));
        return details;
    }
    let names = |there: bool| -> Vec<&str> {
        let tools = found.tools.iter().filter(|tool| tool.found == there);
        tools.map(|tool| tool.name.as_str()).collect()
    };
    add("check.tools", names(true).join(", "));
    let missing = names(false);
    if !missing.is_empty() {
        add("check.missing_tools", missing.join(", "));
    }
    if let Some(ahead) = found.clock_ahead_seconds {
        let key = match ahead {
            -2..=2 => "check.clock_right",
            3.. => "check.clock_ahead",
            _ => "check.clock_behind",
        };
        let seconds = ahead.unsigned_abs().to_string();
        add("check.clock", text(key, &[("seconds", &seconds)]));
    }
    details
}

/// The fingerprint of a pinned key, without a leading key kind.
fn fingerprint(pinned: &str) -> &str {
    pinned.rsplit(' ').next().unwrap_or(pinned)
}

/// The empty response 204.
fn nothing() -> HttpResponse {
    HttpResponse::NoContent().finish()
}
