//! Login, logout, one-time links, and the reader's language and theme.

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};

use super::error::{Error, Result};
use super::flash::Flash;
use super::forms::FieldErrors;
use super::input::{Fields, Form, local_address, query};
use super::render::{self, context};
use super::visitor::Visitor;
use crate::auth::{AuthError, Login};
use crate::i18n::Language;
use crate::secret::Secret;

/// The lifetime of the language and theme cookies.
const CHOICE_LIFE: Duration = Duration::days(365);

/// The address after a login: a local page other than the login and logout pages, or else `/`.
fn next(asked: Option<String>) -> String {
    asked
        .as_deref()
        .and_then(local_address)
        .filter(|next| !next.starts_with("/login") && !next.starts_with("/logout"))
        .unwrap_or("/")
        .to_owned()
}

/// `GET /login`
///
/// # Errors
/// A malformed query or a database error.
pub async fn show(visitor: Visitor, request: HttpRequest) -> Result {
    let next = next(query(&request, "next")?);
    if visitor.identity().is_some() {
        return Ok(render::redirect(&next));
    }
    // Before the first account exists, a visitor needs the set-up link instead of a password.
    let is_new = visitor.ask(|app| app.auth().needs_setup()).await?;
    let context = context! { values => context! {}, errors => context! {}, next, is_new };
    render::found(&visitor, "login.html", "", context)
}

/// `POST /login`
///
/// # Errors
/// Errors that do not concern the form, such as those of the database.
pub async fn log_in(visitor: Visitor, request: HttpRequest, Form(fields): Form) -> Result {
    let next = next(fields.line("next"));
    let name = fields.line("name").unwrap_or_default();
    let password = Secret::new(fields.line("password").unwrap_or_default());
    let address = visitor.app().auth().sender(&request);
    let proof = visitor.proof().clone();
    let entered = visitor
        .ask(move |app| {
            // Only tests without a connection have no address.
            let address = address.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
            app.auth().log_in(&name, &password, address, &proof)
        })
        .await;
    let refusal = match entered {
        Ok(login) => return Ok(entered_to(&visitor, &login, &next)),
        Err(error) => error.refusal()?,
    };
    let context = context! {
        values => fields.typed(),
        errors => render::errors(&visitor, &refusal.errors),
        next,
    };
    let page = render::page(&visitor, refusal.status, "login.html", "", context)?;
    Ok(refusal.finish(page))
}

fn entered_to(visitor: &Visitor, login: &Login, address: &str) -> HttpResponse {
    tracing::info!(account = login.user.name, "logged in");
    let mut response = render::redirect(address);
    let cookies = visitor.app().auth().cookies(login, visitor.is_https());
    add_cookies(&mut response, &cookies);
    response
}

/// `POST /logout`
///
/// # Errors
/// Database errors.
pub async fn log_out(visitor: Visitor) -> Result {
    let proof = visitor.proof().clone();
    visitor.ask(move |app| app.auth().log_out(&proof)).await?;
    let mut response = render::redirect_saying("/login", &Flash::new("signed_out", ""));
    let cookies = visitor.app().auth().no_cookies(visitor.is_https());
    add_cookies(&mut response, &cookies);
    Ok(response)
}

fn add_cookies(response: &mut HttpResponse, cookies: &[Cookie<'_>]) {
    for cookie in cookies {
        if let Err(error) = response.add_cookie(cookie) {
            tracing::error!(%error, "a login cookie could not be written");
        }
    }
}

/// `GET /enter/{link}`
///
/// # Errors
/// [`AuthError::LinkExpired`] or a database error.
pub async fn enter(visitor: Visitor, request: HttpRequest) -> Result {
    let link = request.match_info().query("link").to_owned();
    let proof = visitor.proof().clone();
    match visitor
        .ask(move |app| app.auth().enter(&link, &proof))
        .await
    {
        Ok(login) => Ok(entered_to(&visitor, &login, "/")),
        // A reload or a second click on the link by a visitor who is logged in.
        Err(Error::Auth(AuthError::LinkExpired)) if visitor.identity().is_some() => {
            Ok(render::redirect("/"))
        }
        Err(error) => Err(error),
    }
}

/// `GET /setup/{link}`
///
/// # Errors
/// [`AuthError::LinkExpired`] or a database error.
pub async fn show_setup(visitor: Visitor, request: HttpRequest) -> Result {
    let link = request.match_info().query("link").to_owned();
    if !visitor
        .ask(move |app| app.auth().setup_is_open(&link))
        .await?
    {
        return Err(AuthError::LinkExpired.into());
    }
    let nothing = (Fields::default(), FieldErrors::default());
    setup_page(&visitor, &request, StatusCode::OK, &nothing.0, &nothing.1)
}

/// `POST /setup/{link}`
///
/// # Errors
/// [`AuthError::AlreadySetUp`], or errors that do not concern the form.
pub async fn set_up(visitor: Visitor, request: HttpRequest, Form(fields): Form) -> Result {
    let link = request.match_info().query("link").to_owned();
    let name = fields.line("name").unwrap_or_default();
    let password = fields.line("password").unwrap_or_default();
    if fields.line("password_again").unwrap_or_default() != password {
        let mut errors = FieldErrors::default();
        errors.add("password_again", "passwords_differ");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return setup_page(&visitor, &request, status, &fields, &errors);
    }
    let password = Secret::new(password);
    let made = visitor
        .ask(move |app| app.auth().set_up(&link, &name, &password))
        .await;
    match made {
        Ok(login) => Ok(entered_to(&visitor, &login, "/")),
        Err(error @ Error::Auth(AuthError::AlreadySetUp)) => Err(error),
        Err(error) => {
            let refusal = error.refusal()?;
            setup_page(&visitor, &request, refusal.status, &fields, &refusal.errors)
        }
    }
}

fn setup_page(
    visitor: &Visitor,
    request: &HttpRequest,
    status: StatusCode,
    fields: &Fields,
    errors: &FieldErrors,
) -> Result {
    let context = context! {
        values => fields.typed(),
        errors => render::errors(visitor, errors),
        action => request.path(),
    };
    render::page(visitor, status, "setup.html", "", context)
}

/// `POST /preferences`
///
/// # Errors
/// Never fails; the type is that of handlers.
pub async fn prefer(Form(fields): Form) -> Result {
    let next = fields.line("next").unwrap_or_default();
    let mut response = render::redirect(local_address(&next).unwrap_or("/"));
    let mut keep = |name: &'static str, value: &'static str| {
        let cookie = Cookie::build(name, value)
            .path("/")
            .same_site(SameSite::Lax)
            // theme.js writes this cookie too.
            .http_only(name != "theme")
            .max_age(CHOICE_LIFE)
            .finish();
        response.add_cookie(&cookie)
    };
    let language = fields.line("lang").and_then(|tag| Language::from_tag(&tag));
    let themes = ["light", "dark", "auto"];
    let theme = fields.line("theme");
    let theme = themes
        .into_iter()
        .find(|known| theme.as_deref() == Some(known));
    let kept = [
        language.map(|language| keep("lang", language.code())),
        theme.map(|theme| keep("theme", theme)),
    ];
    if let Some(Err(error)) = kept.into_iter().flatten().find(std::result::Result::is_err) {
        tracing::error!(%error, "a choice could not be kept");
    }
    Ok(response)
}
