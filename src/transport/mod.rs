//! The wire: long polling, plain polling, Server-Sent Events and WebSockets, in the course's contract
//! and in the full one. Knows the hub, and asks a [`Gate`] who is there and what they may.
//!
//! Every answer on these paths is JSON (or the course's `OK`), errors too. What a held poll was allowed
//! at its beginning is checked again before its answer is written. A stream is polls one after the
//! other: its response body asks the hub when the connection takes more, so nothing piles up here.

mod ask;
pub mod course;
mod course_socket;
mod events;
mod frame;
mod gate;
pub mod lane;
mod origin;
mod poll;
mod refusal;
mod reply;
mod send;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod traffic;

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{ALLOW, HeaderValue},
    },
    web::{self, ServiceConfig},
};

use crate::hub::Hub;

pub use gate::{Asker, Draft, Gate, Soon, Who, later, ready};
pub use refusal::{Code, Refusal};
pub use traffic::{Present, Traffic, Way};

/// The most bytes of one message's decoded content.
pub const CONTENT_BYTES: usize = 64 << 10;

/// What the handlers share.
#[derive(Clone)]
pub struct Wire {
    hub: Hub,
    gate: Arc<dyn Gate>,
    traffic: Arc<Traffic>,
}

impl Wire {
    /// The wire over `hub`, guarded by `gate`.
    pub fn new(hub: Hub, gate: Arc<dyn Gate>) -> Wire {
        Wire {
            hub,
            gate,
            traffic: Arc::default(),
        }
    }

    /// What is counted on the wire.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Adds the routes, each with and without its trailing slash:
    /// `.configure(|config| wire.routes(config))`.
    ///
    /// The server must set `h1_allow_half_closed(false)`, else a message may be written to a client
    /// that has closed, and must not compress these paths.
    pub fn routes(&self, config: &mut ServiceConfig) {
        let wire = web::Data::new(self.clone());
        let get_msg = web::resource(["/get_msg", "/get_msg/"])
            .app_data(wire.clone())
            .route(web::get().to(poll::get_msg))
            .default_service(web::to(|request| wrong_method(request, Method::GET)));
        let send_msg = web::resource(["/send_msg", "/send_msg/"])
            .app_data(wire.clone())
            .route(web::post().to(send::send_msg))
            .default_service(web::to(|request| wrong_method(request, Method::POST)));
        config.service(get_msg).service(send_msg);
        let events = web::get().to(events::events);
        let ws = web::get().to(socket::ws);
        let chat = web::get().to(course_socket::chat);
        for (paths, route) in [
            (["/events", "/events/"], events),
            (["/ws", "/ws/"], ws),
            (["/chat", "/chat/"], chat),
        ] {
            let stream = web::resource(paths)
                .app_data(wire.clone())
                .route(route)
                .default_service(web::to(|request| wrong_method(request, Method::GET)));
            config.service(stream);
        }
    }
}

async fn wrong_method(_: HttpRequest, right: Method) -> HttpResponse {
    let refusal = Refusal::new(Code::Method, "", format!("this path answers {right}"));
    let mut response = refusal.response();
    if let Ok(right) = HeaderValue::from_str(right.as_str()) {
        response.headers_mut().insert(ALLOW, right);
    }
    response
}
