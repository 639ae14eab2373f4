//! Errors and their responses.
//!
//! Handlers return [`Error`]; `answer` alone decides its status, code and text. The guard turns it
//! into a response in the reader's language: JSON below `/api`, a page elsewhere. Internal errors
//! are logged with a number that the response shows; their details reach nobody else.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value, json};

use super::forms::{FieldError, FieldErrors};
use super::render;
use super::say;
use super::visitor::Visitor;
use crate::auth::AuthError;
use crate::deploy::{DeployError, Said};
use crate::http::Fault;
use crate::i18n;
use crate::pools::Busy;
use crate::secret::VaultError;
use crate::store::StoreError;
use crate::vote::VoteError;

mod answer;

use answer::Answer;

/// Reasons for which a request is refused or fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A malformed request; the text names the part.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A malformed or out-of-range query parameter.
    #[error("malformed: {0}")]
    Parameter(&'static str),
    /// A field, by name, that is not UTF-8.
    #[error("not UTF-8: {0}")]
    NotText(String),
    /// A request rejected before it reached a handler.
    #[error("refused: {}", .0.as_str())]
    Http(Fault),
    /// More fields than any form has.
    #[error("too many fields")]
    TooManyFields,
    /// A `Host` that may be another site's name for this server.
    #[error("a Host that is not known")]
    ForeignHost,
    /// No login.
    #[error("nobody is logged in")]
    NotLoggedIn,
    /// An account whose role does not allow the request.
    #[error("not allowed for this role")]
    NotAllowed,
    /// An unknown address.
    #[error("no such address")]
    NoSuchAddress,
    /// A method that the address does not support.
    #[error("method not allowed")]
    Method,
    /// A body that did not arrive in time.
    #[error("the request's body did not come in time")]
    TooSlow,
    /// A body that is too large.
    #[error("the request's body is too large")]
    TooLarge,
    /// A body of an unsupported content type.
    #[error("unsupported content type")]
    ContentType,
    /// Invalid fields.
    #[error("refused fields")]
    Fields(FieldErrors),
    /// Too many requests of the same kind.
    #[error("too often; try again in {} s", .retry_after.as_secs())]
    TooOften {
        /// The time after which the request may be repeated.
        retry_after: Duration,
    },
    /// Too much work at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// See [`AuthError`].
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`DeployError`].
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// See [`VaultError`].
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// See [`VoteError`].
    #[error(transparent)]
    Vote(#[from] VoteError),
    /// A failing template.
    #[error("template: {0:#}")]
    Template(#[from] minijinja::Error),
}

/// The result of a handler.
pub type Result<T = HttpResponse> = std::result::Result<T, Error>;

impl From<FieldErrors> for Error {
    fn from(errors: FieldErrors) -> Self {
        Self::Fields(errors)
    }
}

/// A refused form, to be shown again.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The page's status.
    pub status: StatusCode,
    /// The errors, by field.
    pub errors: FieldErrors,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Adds `Retry-After` to the page if the refusal has a delay.
    pub fn finish(&self, mut page: HttpResponse) -> HttpResponse {
        add_retry_after(&mut page, self.retry_after);
        page
    }
}

fn add_retry_after(response: &mut HttpResponse, after: Option<Duration>) {
    if let Some(after) = after {
        let seconds = HeaderValue::from(after.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
}

impl Error {
    /// The errors by field; `None` if the error concerns no field.
    pub fn fields(&self) -> Option<FieldErrors> {
        if let Self::Fields(errors) = self {
            return Some(errors.clone());
        }
        let answer = self.answer();
        answer.field.map(|field| {
            FieldErrors::one(FieldError {
                field: field.into_owned(),
                code: answer.code,
                args: answer.args,
                cause: cause_of(answer.said),
            })
        })
    }

    /// The refusal of a form: its status and the errors beside its fields.
    ///
    /// # Errors
    /// The error itself if it does not concern the form.
    pub fn refusal(self) -> Result<Refusal> {
        let answer = self.answer();
        let errors = match self.fields() {
            Some(errors) => errors,
            None if answer.status == StatusCode::CONFLICT => FieldErrors::one(FieldError {
                field: "form".into(),
                code: answer.code,
                args: answer.args,
                cause: cause_of(answer.said),
            }),
            None => return Err(self),
        };
        Ok(Refusal {
            status: answer.status,
            errors,
            retry_after: answer.retry_after,
        })
    }

    /// The response for `visitor`.
    pub fn respond(&self, visitor: &Visitor) -> HttpResponse {
        let mut answer = self.answer();
        if answer.status == StatusCode::INTERNAL_SERVER_ERROR {
            let id = format!("{:08x}", rand::random::<u32>());
            tracing::error!(id, path = visitor.bare_path(), error = %self, "request failed");
            answer = answer.arg("id", id);
        } else if answer.status.is_server_error() {
            tracing::warn!(path = visitor.bare_path(), error = %self, "request not served");
        }
        let mut response = if visitor.is_api() {
            self.json(visitor, &answer)
        } else {
            page(visitor, &answer)
        };
        add_retry_after(&mut response, answer.retry_after);
        if answer.status == StatusCode::UNAUTHORIZED && visitor.is_api() {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }

    /// The JSON response for a script at an address of pages.
    pub fn respond_to_script(&self, visitor: &Visitor) -> HttpResponse {
        let answer = self.answer();
        let mut response = self.json(visitor, &answer);
        add_retry_after(&mut response, answer.retry_after);
        response
    }

    /// The error's code and text, as part of another response.
    pub fn described(&self, visitor: &Visitor) -> Value {
        let answer = self.answer();
        json!({ "code": answer.code, "message": text(visitor, &answer) })
    }

    fn json(&self, visitor: &Visitor, answer: &Answer) -> HttpResponse {
        let language = visitor.language();
        let body = match self.fields() {
            Some(errors) => {
                let first = errors.first();
                let messages: Map<String, Value> = errors
                    .messages(language)
                    .into_iter()
                    .map(|(field, message)| (field, message.into()))
                    .collect();
                json!({
                    "code": first.map_or(answer.code, |first| first.code),
                    "field": first.map_or("", |first| first.field.as_ref()),
                    "message": first.map(|first| first.message(language)),
                    "errors": messages,
                })
            }
            None => json!({
                "code": answer.code,
                "field": "",
                "message": text(visitor, answer),
            }),
        };
        HttpResponse::build(answer.status).json(body)
    }
}

/// The value of `{cause}` in a field's text.
fn cause_of(said: Vec<(&'static str, Said)>) -> Option<Said> {
    let mut said = said.into_iter();
    said.find(|(name, _)| *name == "cause")
        .map(|(_, said)| said)
}

fn text(visitor: &Visitor, answer: &Answer) -> String {
    let language = visitor.language();
    let said: Vec<(&str, String)> = answer
        .said
        .iter()
        .map(|(name, said)| (*name, say::said(language, said)))
        .collect();
    let args: Vec<(&str, &str)> = answer
        .args
        .iter()
        .chain(&said)
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let key = format!("error.{}", answer.code);
    let text = i18n::text(language, &key, &args);
    debug_assert_ne!(text, key, "the catalogue lacks it");
    text
}

fn page(visitor: &Visitor, answer: &Answer) -> HttpResponse {
    if answer.status == StatusCode::UNAUTHORIZED && visitor.may_come_back() {
        return render::redirect(&visitor.login_address());
    }
    let context = render::context! {
        status => answer.status.as_u16(),
        message => text(visitor, answer),
    };
    render::page(visitor, answer.status, "error.html", "", context).unwrap_or_else(|error| {
        tracing::error!(%error, "the error page failed");
        HttpResponse::build(answer.status).body(text(visitor, answer))
    })
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.answer().status
    }

    /// The guard replaces this response by [`Error::respond`], which knows the reader.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}
