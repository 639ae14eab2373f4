//! Another site's page may use nothing of the wire.

use actix_web::HttpRequest;

use super::{
    Wire,
    refusal::{Code, Refusal},
};
use crate::auth::{Proof, head_of};
use crate::http::{Head, Source};

/// Refuses what another site's page asks for.
///
/// # Errors
/// 403.
pub(super) fn is_ours(wire: &Wire, head: &Head<'_>) -> Result<(), Refusal> {
    match wire.gate.sites().source(head) {
        Source::Foreign => Err(refusal("the request comes from another site's page")),
        Source::Own | Source::Unstated => Ok(()),
    }
}

/// Refuses a change that another site's page asks for. With a login cookie it has to say where it comes
/// from.
///
/// # Errors
/// 403.
pub(super) fn is_our_change(source: Source, proof: &Proof) -> Result<(), Refusal> {
    match (source, proof) {
        (Source::Foreign, _) => Err(refusal("the request comes from another site's page")),
        (Source::Unstated, Proof::Cookie(_)) => Err(refusal(
            "a request with a login cookie needs an Origin or Referer",
        )),
        (Source::Own | Source::Unstated, _) => Ok(()),
    }
}

/// The same for a WebSocket, to which no same-origin rule of the browser applies: with a login cookie
/// it has to say where it comes from.
///
/// # Errors
/// 403.
pub(super) fn is_our_socket(wire: &Wire, request: &HttpRequest) -> Result<(), Refusal> {
    let head = head_of(request);
    is_ours(wire, &head)?;
    match (wire.gate.sites().source(&head), Proof::of(&head)) {
        (Source::Unstated, Proof::Cookie(_)) => {
            Err(refusal("a WebSocket with a login cookie needs an Origin"))
        }
        _ => Ok(()),
    }
}

fn refusal(message: &str) -> Refusal {
    Refusal::new(Code::Forbidden, "origin", message)
}
