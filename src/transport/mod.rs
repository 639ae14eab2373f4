//! The wire: long polling, plain polling, Server-Sent Events and WebSockets, in the course's
//! contract and in the full contract. Uses the hub, and asks a [`Access`] for the identity and the
//! rights of a client.
//!
//! Every response on these paths is JSON (or the course's `OK`), errors included. The rights of a
//! held poll are checked again before its response is written. A stream is a series of polls: its
//! response body polls the hub each time the connection accepts more data, so nothing is buffered
//! here.

mod access;
mod ask;
pub mod course;
mod course_socket;
mod events;
mod frame;
mod frame_reader;
mod half_close;
mod origin;
mod poll;
pub mod poll_loop;
mod refusal;
mod reply;
mod send;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod traffic;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, Route,
    dev::Service as _,
    guard::{Any, Get, Head},
    http::{
        ConnectionType, Method, StatusCode,
        header::{ALLOW, HeaderValue},
    },
    web::{self, ServiceConfig},
};

use crate::hub::Hub;

pub use access::{Access, Asker, Draft, Soon, Who, later, ready};
pub use half_close::ClientEnd;
pub use refusal::{Code, Refusal};
pub use traffic::{Present, Traffic, Way};

/// The most bytes of one message's decoded content.
pub const CONTENT_BYTES: usize = 64 << 10;

/// The paths of WebSockets.
const WS: [&str; 2] = ["/ws", "/ws/"];
const CHAT: [&str; 2] = ["/chat", "/chat/"];

/// True if the resource at this canonical path accepts an upgrade to WebSocket.
pub fn is_socket(path: &str) -> bool {
    WS.contains(&path) || CHAT.contains(&path)
}

/// Limits on the size and the duration of a request body.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most bytes of a message's decoded content; at most [`CONTENT_BYTES`].
    pub content: usize,
    /// The time in which a body must arrive; 30 s by default.
    pub body_time: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            content: CONTENT_BYTES,
            body_time: Duration::from_secs(30),
        }
    }
}

/// The methods and paths of the wire.
pub const ENDPOINTS: [(&str, &str); 5] = [
    ("GET", "/get_msg"),
    ("POST", "/send_msg"),
    ("GET", "/events"),
    ("GET", "/ws"),
    ("GET", "/chat"),
];

/// The state that all handlers share.
#[derive(Clone)]
pub struct Wire {
    hub: Hub,
    access: Arc<dyn Access>,
    traffic: Arc<Traffic>,
    bounds: Bounds,
}

impl Wire {
    /// A wire over `hub` with access control by `access`.
    pub fn new(hub: Hub, access: Arc<dyn Access>) -> Wire {
        Wire {
            hub,
            access,
            traffic: Arc::default(),
            bounds: Bounds::default(),
        }
    }

    /// Replaces the bounds.
    pub fn bounded(self, bounds: Bounds) -> Wire {
        Wire { bounds, ..self }
    }

    /// The response to a poll. While the server drains, the connection is closed after it.
    fn reply(&self, body: String) -> HttpResponse {
        let mut response = reply::json(StatusCode::OK, body);
        self.close_if_draining(&mut response);
        response
    }

    fn close_if_draining(&self, response: &mut HttpResponse) {
        if self.hub.is_draining() {
            let head = response.head_mut();
            head.set_connection_type(ConnectionType::Close);
        }
    }

    /// The counters of the wire.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Adds the routes, each with and without a trailing slash: `.configure(|config|
    /// wire.routes(config))`.
    ///
    /// The server must not compress these paths. If it allows half-closed connections, it must give
    /// each connection a [`ClientEnd`]; otherwise a message may be written to a client that is
    /// gone.
    pub fn routes(&self, config: &mut ServiceConfig) {
        let wire = web::Data::new(self.clone());
        let get_msg = web::resource(["/get_msg", "/get_msg/"])
            .app_data(wire.clone())
            .route(reading().to(poll::get_msg))
            .default_service(web::to(|request| wrong_method(request, Method::GET)));
        let send_msg = web::resource(["/send_msg", "/send_msg/"])
            .app_data(wire.clone())
            .route(web::post().to(send::send_msg))
            .default_service(web::to(|request| wrong_method(request, Method::POST)));
        config.service(get_msg).service(send_msg);
        let events = reading().to(events::events);
        let ws = reading().to(socket::ws);
        let chat = reading().to(course_socket::chat);
        for (paths, route) in [(["/events", "/events/"], events), (WS, ws), (CHAT, chat)] {
            let traffic = Arc::clone(&self.traffic);
            let stream = web::resource(paths)
                .app_data(wire.clone())
                .route(route)
                .default_service(web::to(|request| wrong_method(request, Method::GET)))
                .wrap_fn(move |request, service| {
                    let (traffic, answer) = (Arc::clone(&traffic), service.call(request));
                    async move {
                        let answer = answer.await?;
                        let error = answer.response().error();
                        if let Some(refusal) = error.and_then(|error| error.as_error::<Refusal>()) {
                            traffic.refuse(refusal);
                        }
                        Ok(answer)
                    }
                });
            config.service(stream);
        }
    }
}

/// A route for `GET` and `HEAD`.
fn reading() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

async fn wrong_method(_: HttpRequest, right: Method) -> HttpResponse {
    let refusal = Refusal::new(Code::Method, "", format!("this path answers {right}"));
    let mut response = refusal.response();
    if let Ok(right) = HeaderValue::from_str(right.as_str()) {
        response.headers_mut().insert(ALLOW, right);
    }
    response
}
