//! The middleware of every request and response.
//!
//! It recognizes the sender and refuses requests from other sites' pages, and changes by a login
//! cookie without the CSRF token. It reads bodies whole and bounded, since the token may be a
//! form's field. Errors become responses, and every response gets its security headers.

use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::StreamExt as _;

use super::error::{Error, Result};
use super::input::{Body, Fields};
use super::visitor::Visitor;
use crate::auth::{AuthError, head_of};
use crate::http::{Fault, NotUtf8, canonical_path};

/// The largest body of a recognized sender, in bytes; handlers bound each field.
pub const BODY_LIMIT: usize = 2 << 20;
/// The largest body of an unknown sender, in bytes.
pub const STRANGERS_BODY_LIMIT: usize = 64 << 10;
/// The largest excess of a body that is read and discarded, in bytes, so that the sender receives
/// the response instead of a connection reset.
const DISCARD_LIMIT: usize = 16 << 20;
/// The time limit for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The path that needs no CSRF token: a login is the way to get one.
const WITHOUT_CSRF: &str = "/login";
const CSRF_HEADER: &str = "x-csrf-token";
/// Every method that some address supports.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
/// The form field of the CSRF token.
pub const CSRF_FIELD: &str = "csrf";

const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; object-src 'none'; base-uri 'none'; \
                      frame-ancestors 'none'; form-action 'self'";

/// Runs the middleware around the handler; see the module documentation.
///
/// # Errors
/// Errors of the framework; those of Longshore become responses.
pub async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let (visitor, recognized) = Visitor::recognize(request.request()).await;
    request.extensions_mut().insert(visitor.clone());
    let fault = request.extensions().get::<Fault>().copied();
    let admitted = match (recognized, fault) {
        (Ok(()), None) => admit(&visitor, &mut request).await,
        (Ok(()), Some(fault)) => Err(Error::Http(fault)),
        (Err(error), _) => Err(error),
    };
    let mut response = match admitted {
        Err(error) if fault.is_some() => {
            let response = error.respond_to_script(&visitor);
            request.into_response(with_methods(response))
        }
        Err(error) => request.into_response(error.respond(&visitor)),
        Ok(()) => {
            let response = next.call(request).await?.map_into_boxed_body();
            answer_errors(&visitor, response)
        }
    };
    let secure = visitor
        .app()
        .settings()
        .public_urls
        .iter()
        .any(|url| url.starts_with("https:"));
    add_headers(response.headers_mut(), secure);
    Ok(response)
}

/// Admits a request, or returns the reason for its refusal.
async fn admit(visitor: &Visitor, request: &mut ServiceRequest) -> Result<()> {
    canonical_path(request.path()).map_err(|NotUtf8| Error::NotText("path".to_owned()))?;
    let is_safe = request.method().is_safe();
    let auth = visitor.app().auth();
    auth.check_source(is_safe, &head_of(request.request()))?;
    if is_safe {
        return Ok(());
    }
    let limit = match visitor.identity() {
        Some(_) => BODY_LIMIT,
        None => STRANGERS_BODY_LIMIT,
    };
    let body = match is_upload(request) {
        true => Bytes::new(),
        false => tokio::time::timeout(BODY_TIME, read_body(request, limit))
            .await
            .map_err(|_| Error::TooSlow)??,
    };
    if let Some(identity) = visitor.identity()
        && request.path().trim_end_matches('/') != WITHOUT_CSRF
    {
        let in_header = request.headers().get(CSRF_HEADER);
        let in_form = || {
            Fields::from_form(request.content_type(), &body)
                .ok()?
                .line(CSRF_FIELD)
        };
        let given = in_header
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
            .or_else(in_form);
        if !identity.accepts_csrf(given.as_deref()) {
            return Err(AuthError::Csrf.into());
        }
    }
    request.extensions_mut().insert(Body(body));
    Ok(())
}

/// True if the body is streamed to a server: its handler reads and bounds it, and the CSRF token
/// must be in a header. The path is canonical here, so that the router sees the same one.
fn is_upload(request: &ServiceRequest) -> bool {
    let path = request.path().trim_end_matches('/');
    let rest = path.strip_prefix("/api/v1/servers/");
    let end = rest.and_then(|rest| rest.split_once('/'));
    request.method() == Method::PUT && matches!(end, Some((_, "file" | "tree")))
}

async fn read_body(request: &mut ServiceRequest, limit: usize) -> Result<Bytes> {
    let encoded = request.headers().get(header::CONTENT_ENCODING);
    if encoded.is_some_and(|encoding| encoding != "identity") {
        return Err(Error::ContentType);
    }
    // A client that waits for `100 Continue` has not sent its body, so it gets the response at
    // once.
    if request.headers().contains_key(header::EXPECT) && announced(request) > limit as u64 {
        return Err(Error::TooLarge);
    }
    let mut body = BytesMut::new();
    let mut length = 0;
    let mut payload = request.take_payload();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Error::Malformed("body"))?;
        length += chunk.len();
        if length <= limit {
            body.extend_from_slice(&chunk);
        } else {
            body.clear();
        }
        if length > limit + DISCARD_LIMIT {
            break;
        }
    }
    if length > limit {
        return Err(Error::TooLarge);
    }
    Ok(body.freeze())
}

/// The `Content-Length`, or 0.
fn announced(request: &ServiceRequest) -> u64 {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or_default()
}

/// Replaces a bare error by a response that its reader understands.
fn answer_errors(
    visitor: &Visitor,
    response: ServiceResponse<BoxBody>,
) -> ServiceResponse<BoxBody> {
    let answer = match response.response().error() {
        Some(cause) => match cause.as_error::<Error>() {
            Some(error) => Some(error.respond(visitor)),
            None => Some(Error::Malformed("request").respond(visitor)),
        },
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            let mut answer = Error::Method.respond(visitor);
            if let Some(allowed) = response.headers().get(header::ALLOW) {
                answer.headers_mut().insert(header::ALLOW, allowed.clone());
            }
            Some(answer)
        }
        None => None,
    };
    match answer {
        Some(answer) => response.into_response(answer),
        None => response,
    }
}

/// Adds the supported methods to a response 405 (RFC 9110 §15.5.6).
fn with_methods(mut response: HttpResponse) -> HttpResponse {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let methods = HeaderValue::from_static(METHODS);
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

fn add_headers(headers: &mut HeaderMap, secure: bool) {
    let mut add = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    add(header::CONTENT_SECURITY_POLICY, POLICY);
    add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    add(header::REFERRER_POLICY, "same-origin");
    add(header::X_FRAME_OPTIONS, "DENY");
    if secure {
        add(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
