//! The reasons for which a request is refused, and their HTTP statuses.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use serde_json::{Value, json};

use super::reply;
use crate::hub::{BadCursor, BadName, BadRoom, PollError, TooManyClients};

/// The reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 400: the request is malformed.
    Malformed,
    /// 401: a login is needed.
    Login,
    /// 403: no right, or a foreign origin.
    Forbidden,
    /// 405: another method is needed.
    Method,
    /// 408: the body arrived too slowly.
    Slow,
    /// 413: the content is too large.
    TooLarge,
    /// 426: the path is a WebSocket, and the request is no upgrade.
    Upgrade,
    /// 422: a value is out of bounds.
    Invalid,
    /// 429: too many clients or messages.
    TooMany,
    /// 503: draining, full, or the log is unavailable.
    Unavailable,
    /// 503: the disk is too full to store a message.
    DiskFull,
}

impl Code {
    /// Every code, in declaration order.
    pub const ALL: [Code; 11] = [
        Code::Malformed,
        Code::Login,
        Code::Forbidden,
        Code::Method,
        Code::Slow,
        Code::TooLarge,
        Code::Upgrade,
        Code::Invalid,
        Code::TooMany,
        Code::Unavailable,
        Code::DiskFull,
    ];

    /// The value of `code` in the response.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::Login => "unauthorized",
            Code::Forbidden => "forbidden",
            Code::Method => "method_not_allowed",
            Code::Slow => "too_slow",
            Code::TooLarge => "too_large",
            Code::Upgrade => "upgrade_required",
            Code::Invalid => "invalid",
            Code::TooMany => "too_many",
            Code::Unavailable => "unavailable",
            Code::DiskFull => "disk_full",
        }
    }

    /// The HTTP status of this code.
    pub fn status(self) -> StatusCode {
        match self {
            Code::Malformed => StatusCode::BAD_REQUEST,
            Code::Login => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::Method => StatusCode::METHOD_NOT_ALLOWED,
            Code::Slow => StatusCode::REQUEST_TIMEOUT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Upgrade => StatusCode::UPGRADE_REQUIRED,
            Code::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Code::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable | Code::DiskFull => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A refused request: `{"code","field","message"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: Code,
    field: &'static str,
    message: String,
    retry: Option<Duration>,
}

impl Refusal {
    /// A refusal because of `field` (empty for the whole request), with a plain sentence.
    pub fn new(code: Code, field: &'static str, message: impl Into<String>) -> Refusal {
        let passes = matches!(code, Code::TooMany | Code::Unavailable | Code::DiskFull);
        let retry = passes.then_some(Duration::from_secs(1));
        Refusal {
            code,
            field,
            message: message.into(),
            retry,
        }
    }

    /// A refusal because `field` is not UTF-8.
    pub(super) fn not_utf8(field: &'static str) -> Refusal {
        Refusal::new(Code::Malformed, field, format!("{field} is not UTF-8"))
    }

    /// Replaces the `Retry-After` of one second; the header is in whole seconds, rounded up.
    pub fn retry_after(self, retry: Duration) -> Refusal {
        Refusal {
            retry: Some(retry),
            ..self
        }
    }

    /// The reason.
    pub fn code(&self) -> Code {
        self.code
    }

    pub(super) fn response(&self) -> HttpResponse {
        let mut response = reply::json(self.code.status(), self.body());
        if let Some(seconds) = self.retry_seconds()
            && let Ok(seconds) = HeaderValue::from_str(&seconds.to_string())
        {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.code == Code::Upgrade {
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let version = HeaderValue::from_static("13");
            headers.insert(header::SEC_WEBSOCKET_VERSION, version);
        }
        response
    }

    /// The JSON of the response.
    pub(super) fn body(&self) -> String {
        self.object().to_string()
    }

    /// The JSON object `{"code","field","message"}`.
    pub(super) fn object(&self) -> Value {
        json!({
            "code": self.code.as_str(),
            "field": self.field,
            "message": self.message,
        })
    }

    /// The value of `Retry-After`, in seconds.
    pub(super) fn retry_seconds(&self) -> Option<u128> {
        self.retry.map(|retry| retry.as_millis().div_ceil(1000))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<BadName> for Refusal {
    fn from(bad: BadName) -> Refusal {
        Refusal::new(Code::Invalid, "name", bad.to_string())
    }
}

impl From<BadRoom> for Refusal {
    fn from(bad: BadRoom) -> Refusal {
        Refusal::new(Code::Invalid, "room", bad.to_string())
    }
}

impl From<BadCursor> for Refusal {
    fn from(bad: BadCursor) -> Refusal {
        Refusal::new(Code::Malformed, "after", bad.to_string())
    }
}

impl From<TooManyClients> for Refusal {
    fn from(full: TooManyClients) -> Refusal {
        Refusal::new(Code::TooMany, "", full.to_string())
    }
}

impl From<PollError> for Refusal {
    fn from(error: PollError) -> Refusal {
        match error {
            PollError::Full(full) => full.into(),
            PollError::Rooms { .. } => Refusal::new(Code::Invalid, "room", error.to_string()),
            PollError::Log(error) => {
                tracing::error!(%error, "a poll could not be answered");
                Refusal::new(Code::Unavailable, "", "the message log cannot be read")
            }
        }
    }
}
