//! The platform's metrics, for Prometheus and for the admin's page.
//!
//! The page requests its numbers once per [`STEP`](crate::metrics::STEP) while it is visible. It
//! does not subscribe to a room: a display of the push service's health must not depend on that
//! service, and momentary numbers need neither log nor replay.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde_json::json;

use super::error::{Error, Result};
use super::input::query;
use super::render::{self, context};
use super::visitor::Visitor;
use crate::auth::head_of;
use crate::metrics::{KEPT, Metrics, STEP};
use crate::store::Role;
use crate::transport::Way;

/// The content type of the OpenMetrics format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The largest number of rooms shown.
const ROOMS: usize = 10;
/// `GET /metrics`: for admins, and for the addresses in the setting `metrics_from`.
///
/// # Errors
/// Fails for any other sender and for too much work at once.
pub async fn text(visitor: Visitor, request: HttpRequest, metrics: web::Data<Metrics>) -> Result {
    if !comes_from_there(&visitor, &request) {
        visitor.require(Role::Admin)?;
    }
    let text = visitor.ask(move |_| metrics.text()).await?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, OPEN_METRICS))
        .body(text))
}

/// True if the request comes from an address in the setting. Behind a reverse proxy on the same
/// machine every connection comes from loopback, so a forwarded request counts only if a trusted
/// proxy names its sender. A request with a foreign `Host` does not count either: a browser on this
/// machine may send it for another site's page.
fn comes_from_there(visitor: &Visitor, request: &HttpRequest) -> bool {
    let auth = visitor.app().auth();
    let Some(peer) = request.peer_addr() else {
        return false;
    };
    let head = head_of(request);
    let is_told =
        auth.proxies().trust(peer.ip().to_canonical()) && !head.forwarded_for().is_empty();
    if visitor.has_foreign_host() || head.is_forwarded() && !is_told {
        return false;
    }
    let allowed = &visitor.app().settings().metrics_from;
    auth.sender(request)
        .is_some_and(|sender| allowed.iter().any(|network| network.has(sender)))
}

/// `GET /admin/push`: the page.
///
/// # Errors
/// Fails for a sender who is not an admin.
pub async fn page(visitor: Visitor) -> Result {
    visitor.require(Role::Admin)?;
    let ways = Way::ALL.map(Way::as_str);
    let page = json!({ "step": STEP.as_millis() as u64, "kept": KEPT, "ways": ways });
    render::found(
        &visitor,
        "push.html",
        "push",
        context! { ways, data => page },
    )
}

/// `GET /api/v1/push?after=NUMBER`: the samples after that number, and the present state.
///
/// # Errors
/// Fails for a sender who is not an admin or for a malformed query.
pub async fn live(visitor: Visitor, request: HttpRequest, metrics: web::Data<Metrics>) -> Result {
    visitor.require(Role::Admin)?;
    let after = match query(&request, "after")? {
        Some(number) => number.parse().map_err(|_| Error::Parameter("after"))?,
        None => 0,
    };
    let census = metrics.census();
    Ok(HttpResponse::Ok().json(json!({
        "clients": census.clients,
        "polls": census.polls,
        "rooms": census.rooms,
        "fullest": metrics.fullest_rooms(ROOMS),
        "samples": metrics.samples(after),
    })))
}
