//! The origin policy of the wire: pages of other sites may not use it.

use actix_web::HttpRequest;

use super::{
    Wire,
    refusal::{Code, Refusal},
};
use crate::auth::{Proof, head_of};
use crate::http::{Head, Source};

/// Refuses a request from a page of another site.
///
/// # Errors
/// 403 if `Origin` or `Referer` names another site.
pub(super) fn is_ours(wire: &Wire, head: &Head<'_>) -> Result<(), Refusal> {
    match wire.access.sites().source(head) {
        Source::Foreign => Err(refusal("the request comes from another site's page")),
        Source::Own | Source::Unstated => Ok(()),
    }
}

/// Refuses a write from a page of another site. A request with a login cookie must state its
/// origin.
///
/// # Errors
/// 403 if `Origin` or `Referer` names another site, or a login cookie comes without either.
pub(super) fn is_our_change(source: Source, proof: &Proof) -> Result<(), Refusal> {
    match (source, proof) {
        (Source::Foreign, _) => Err(refusal("the request comes from another site's page")),
        (Source::Unstated, Proof::Cookie(_)) => Err(refusal(
            "a request with a login cookie needs an Origin or Referer",
        )),
        (Source::Own | Source::Unstated, _) => Ok(()),
    }
}

/// Refuses a WebSocket from a page of another site. Browsers do not apply the same-origin policy to
/// WebSockets, so a request with a login cookie must state its origin.
///
/// # Errors
/// 403 if `Origin` or `Referer` names another site, or a login cookie comes without either.
pub(super) fn is_our_socket(wire: &Wire, request: &HttpRequest) -> Result<(), Refusal> {
    let head = head_of(request);
    is_ours(wire, &head)?;
    match (wire.access.sites().source(&head), Proof::of(&head)) {
        (Source::Unstated, Proof::Cookie(_)) => {
            Err(refusal("a WebSocket with a login cookie needs an Origin"))
        }
        _ => Ok(()),
    }
}

fn refusal(message: &str) -> Refusal {
    Refusal::new(Code::Forbidden, "origin", message)
}
