//! The context of a request: its account, language and preferences.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::header::ACCEPT_LANGUAGE;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};

use super::error::{Error, Result};
use super::flash::Flash;
use crate::app::App;
use crate::auth::{Identity, Proof, head_of};
use crate::deploy::By;
use crate::http::Head;
use crate::i18n::Language;
use crate::pools::BlockingPool;
use crate::store::{AuditWay, Role};

/// The path of the JSON API.
pub const API: &str = "/api";
/// The path of the metrics, also read by programs.
const METRICS: &str = "/metrics";

/// The sender of a request; stored by the guard, an argument of handlers.
#[derive(Clone)]
pub struct Visitor(Rc<Inner>);

struct Inner {
    app: App,
    language: Language,
    theme: &'static str,
    /// The path with its query.
    path: String,
    is_get: bool,
    foreign_host: bool,
    is_https: bool,
    proof: Proof,
    identity: Option<Identity>,
    flash: Option<Flash>,
}

impl Visitor {
    /// Recognizes the sender of `request`. With an error, the visitor holds everything known
    /// without the database.
    ///
    /// # Errors
    /// In the second value: too much work at once, or a database error.
    pub async fn recognize(request: &HttpRequest) -> (Self, Result<()>) {
        let app = app_of(request);
        let head = head_of(request);
        // Assets need no login, so they cost no database query.
        let proof = match request.path().starts_with("/assets/") {
            true => Proof::None,
            false => Proof::of(&head),
        };
        let known = match &proof {
            Proof::None => Ok(None),
            proof => {
                let proof = proof.clone();
                match app.blocking(move |app| app.auth().who(&proof)).await {
                    Ok(who) => who.map_err(Error::from),
                    Err(busy) => Err(busy.into()),
                }
            }
        };
        let (identity, verdict) = match known {
            Ok(identity) => (identity, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let foreign_host = !app.auth().sites().know_host(&head);
        let peer = request.peer_addr().map(|peer| peer.ip());
        let is_https = app.auth().is_https(&head, peer);
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let visitor = Self(Rc::new(Inner {
            app,
            language: language(request, &head),
            theme: theme(&head),
            foreign_host,
            is_https,
            path: path.to_owned(),
            is_get: request.method().is_safe(),
            proof,
            identity,
            flash: Flash::of(&head),
        }));
        (visitor, verdict)
    }

    /// The application.
    pub fn app(&self) -> &App {
        &self.0.app
    }

    /// The reader's language.
    pub fn language(&self) -> Language {
        self.0.language
    }

    /// The reader's theme: `light`, `dark` or `auto`.
    pub fn theme(&self) -> &'static str {
        self.0.theme
    }

    /// The path with its query.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The path without its query, for the log.
    pub fn bare_path(&self) -> &str {
        self.0.path.split('?').next().unwrap_or_default()
    }

    /// The credentials of the request.
    pub fn proof(&self) -> &Proof {
        &self.0.proof
    }

    /// The account, if recognized.
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity.as_ref()
    }

    /// The flash message from the previous page.
    pub fn flash(&self) -> Option<&Flash> {
        self.0.flash.as_ref()
    }

    /// True if responses are JSON.
    pub fn is_api(&self) -> bool {
        let is_below = |base| {
            let rest = self.0.path.strip_prefix(base);
            rest.is_some_and(|rest: &str| rest.is_empty() || rest.starts_with(['/', '?']))
        };
        is_below(API) || is_below(METRICS)
    }

    /// True if the request's `Host` may be another site's name for this server. Such a request gets
    /// nothing that is open to everybody; see [`Sites::know_host`](crate::http::Sites::know_host).
    pub fn has_foreign_host(&self) -> bool {
        self.0.foreign_host
    }

    /// True if the browser came over https.
    pub fn is_https(&self) -> bool {
        self.0.is_https
    }

    /// True if opening the address repeats the request.
    pub fn may_come_back(&self) -> bool {
        self.0.is_get
    }

    /// The login page, which leads back to this address.
    pub fn login_address(&self) -> String {
        let next: String = url::form_urlencoded::byte_serialize(self.0.path.as_bytes()).collect();
        format!("/login?next={next}")
    }

    /// The sender's account, which needs `role` or higher.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`] or [`Error::NotAllowed`].
    pub fn require(&self, role: Role) -> Result<&Identity> {
        let identity = self.identity().ok_or(Error::NotLoggedIn)?;
        if identity.may(role) {
            Ok(identity)
        } else {
            Err(Error::NotAllowed)
        }
    }

    /// The sender as named in the audit log, with the way of the request.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`].
    pub fn by(&self, way: AuditWay) -> Result<By> {
        let identity = self.identity().ok_or(Error::NotLoggedIn)?;
        Ok(By {
            who: identity.name.clone(),
            way,
        })
    }

    /// True if the sender has `role` or higher.
    pub fn may(&self, role: Role) -> bool {
        self.identity().is_some_and(|identity| identity.may(role))
    }

    /// Runs blocking work on the database pool.
    ///
    /// # Errors
    /// [`Error::Busy`] if the pool is full; errors of `work`.
    pub async fn ask<T, E>(
        &self,
        work: impl FnOnce(&App) -> std::result::Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Send + 'static,
        Error: From<E>,
    {
        self.ask_in(&self.0.app.pools().database, work).await
    }

    /// Like [`ask`](Self::ask), on `pool`, for work that waits for other machines.
    ///
    /// # Errors
    /// [`Error::Busy`] if the pool is full; errors of `work`.
    pub async fn ask_in<T, E>(
        &self,
        pool: &BlockingPool,
        work: impl FnOnce(&App) -> std::result::Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Send + 'static,
        Error: From<E>,
    {
        Ok(self.0.app.blocking_in(pool, work).await??)
    }
}

impl FromRequest for Visitor {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let visitor = request.extensions().get::<Visitor>().cloned();
        ready(visitor.ok_or(Error::NotLoggedIn))
    }
}

/// The application of the worker that serves `request`.
#[allow(clippy::expect_used)] // a server that was started without it cannot serve anything
fn app_of(request: &HttpRequest) -> App {
    request
        .app_data::<web::Data<App>>()
        .map(|app| app.get_ref().clone())
        .expect("the server gives its workers the App")
}

fn language(request: &HttpRequest, head: &Head<'_>) -> Language {
    let cookie = head.cookie("lang");
    let header = request.headers().get(ACCEPT_LANGUAGE);
    Language::negotiate(
        cookie.as_deref(),
        header.and_then(|header| header.to_str().ok()),
    )
}

fn theme(head: &Head<'_>) -> &'static str {
    match head.cookie("theme").as_deref() {
        Some("light") => "light",
        Some("dark") => "dark",
        _ => "auto",
    }
}
