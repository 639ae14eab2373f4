//! Responses, formatted by hand around messages that are already encoded.

use std::{convert::Infallible, fmt::Write};

use actix_web::{
    HttpResponse,
    body::BodyStream,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
    },
    web,
};
use futures_util::Stream;

use crate::hub::{Batch, Message};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store, no-transform");
const ACCEL: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A JSON response that caches and proxies must not store, transform or buffer.
pub(super) fn json(status: StatusCode, body: String) -> HttpResponse {
    answer(status, "application/json", body)
}

/// A plain text response.
pub(super) fn text(body: &str) -> HttpResponse {
    answer(StatusCode::OK, "text/plain; charset=utf-8", body.to_owned())
}

/// An event stream; each chunk is sent as soon as it is there.
pub(super) fn events(
    pieces: impl Stream<Item = Result<web::Bytes, Infallible>> + 'static,
) -> HttpResponse {
    let body = BodyStream::new(Box::pin(pieces));
    let mut response = HttpResponse::new(StatusCode::OK).set_body(body);
    head(&mut response, "text/event-stream");
    response.map_into_boxed_body()
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> HttpResponse {
    let mut response = HttpResponse::new(status).set_body(body);
    head(&mut response, kind);
    response.map_into_boxed_body()
}

fn head<B>(response: &mut HttpResponse<B>, kind: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(ACCEL, HeaderValue::from_static("no"));
}

/// The body of a reply in the full contract.
pub(super) fn batch(batch: &Batch) -> String {
    let bytes: usize = batch.messages.iter().map(|m| m.encoded().len() + 1).sum();
    let mut body = String::with_capacity(bytes + 160);
    write_batch(&mut body, batch);
    body
}

/// Appends the body of [`batch`] to `body`.
pub(super) fn write_batch(body: &mut String, batch: &Batch) {
    let status = !batch.messages.is_empty();
    // Writing to a String cannot fail.
    let _ = write!(
        body,
        r#"{{"status":{status},"cursor":"{}","messages":["#,
        batch.cursor
    );
    for (i, message) in batch.messages.iter().enumerate() {
        if i > 0 {
            body.push(',');
        }
        body.push_str(message.encoded());
    }
    body.push(']');
    if !batch.gap.is_empty() {
        let rooms: Vec<&str> = batch.gap.iter().map(|room| room.as_str()).collect();
        let _ = write!(body, r#","gap":{}"#, serde_json::Value::from(rooms));
    }
    if batch.more {
        body.push_str(r#","more":true"#);
    }
    if batch.superseded {
        body.push_str(r#","superseded":true"#);
    }
    if let Some(retry) = batch.retry {
        let _ = write!(body, r#","retry":{}"#, retry.as_millis());
    }
    body.push('}');
}

/// The body of a reply in the course's contract: one message, or the timeout.
pub(super) fn course(message: Option<&Message>) -> String {
    match message {
        Some(message) => format!(r#"{{"status":true,"msg":{}}}"#, message.data()),
        None => r#"{"status":false,"msg":""}"#.to_owned(),
    }
}
