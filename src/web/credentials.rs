//! The pages of credentials. Secrets are write-only.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use minijinja::Value;

use super::deletion;
use super::error::Result;
use super::flash::Flash;
use super::forms::{self, FieldErrors};
use super::input::{Form, Id};
use super::paging;
use super::render::{self, context};
use super::visitor::Visitor;
use crate::store::credentials::{self, Credential};
use crate::store::{CredentialId, Role};

const MENU: &str = "credentials";
const LIST: &str = "/credentials";

/// `GET /credentials`
///
/// # Errors
/// Fails for a sender who is not logged in or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = paging::of_page(&request);
    let (page, users) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let page = credentials::page(conn, part)?;
                let ids: Vec<CredentialId> = page.items.iter().map(|row| row.id).collect();
                let users = credentials::used_by(conn, &ids)?;
                Ok((page, users))
            })
        })
        .await?;
    let rows: Vec<Value> = page
        .items
        .iter()
        .map(|credential| {
            context! {
                used_by => users.get(&credential.id).cloned().unwrap_or_default(),
                ..render::value(credential)
            }
        })
        .collect();
    let context = context! {
        credentials => rows,
        pager => paging::pager(&page, LIST),
        can => context! { edit => visitor.may(Role::Admin) },
    };
    render::found(&visitor, "credentials/list.html", MENU, context)
}

fn form(
    visitor: &Visitor,
    status: StatusCode,
    present: Option<&Credential>,
    values: Value,
    errors: &FieldErrors,
) -> Result {
    let action = match present {
        Some(credential) => format!("{LIST}/{}/edit", credential.id),
        None => format!("{LIST}/new"),
    };
    let context = context! {
        values,
        errors => render::errors(visitor, errors),
        action,
        is_new => present.is_none(),
        id => present.map(|credential| credential.id),
        name => present.map(|credential| &credential.name),
        has_password => present.is_some_and(|credential| credential.password.is_some()),
    };
    render::page(visitor, status, "credentials/form.html", MENU, context)
}

async fn find(visitor: &Visitor, id: CredentialId) -> Result<Credential> {
    visitor
        .ask(move |app| app.store().read(|conn| credentials::find(conn, id)))
        .await
}

/// `GET /credentials/new`
///
/// # Errors
/// Fails for a sender who is not an admin.
pub async fn new(visitor: Visitor) -> Result {
    visitor.require(Role::Admin)?;
    let defaults = context! { kind => "ssh_key" };
    form(
        &visitor,
        StatusCode::OK,
        None,
        defaults,
        &FieldErrors::default(),
    )
}

/// `POST /credentials/new`
///
/// # Errors
/// Fails for a sender who is not an admin or a database error.
pub async fn create(visitor: Visitor, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let typed = render::value(fields.typed());
    match visitor
        .ask(move |app| forms::credential::create(app, &fields))
        .await
    {
        Ok(credential) => {
            let flash = Flash::new("created", &credential.name);
            Ok(render::redirect_saying(LIST, &flash))
        }
        Err(error) => {
            let refusal = error.refusal()?;
            form(&visitor, refusal.status, None, typed, &refusal.errors)
        }
    }
}

/// `GET /credentials/{id}/edit`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn edit(visitor: Visitor, Id(id): Id<CredentialId>) -> Result {
    visitor.require(Role::Admin)?;
    let credential = find(&visitor, id).await?;
    let values = render::value(&credential);
    let errors = FieldErrors::default();
    form(&visitor, StatusCode::OK, Some(&credential), values, &errors)
}

/// `POST /credentials/{id}/edit`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn update(visitor: Visitor, Id(id): Id<CredentialId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let typed = render::value(fields.typed());
    match visitor
        .ask(move |app| forms::credential::update(app, id, &fields))
        .await
    {
        Ok(credential) => {
            let flash = Flash::new("saved", &credential.name);
            Ok(render::redirect_saying(LIST, &flash))
        }
        Err(error) => {
            let refusal = error.refusal()?;
            let credential = find(&visitor, id).await?;
            form(
                &visitor,
                refusal.status,
                Some(&credential),
                typed,
                &refusal.errors,
            )
        }
    }
}

/// `GET /credentials/{id}/delete?page=`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn ask_delete(
    visitor: Visitor,
    Id(id): Id<CredentialId>,
    request: HttpRequest,
) -> Result {
    visitor.require(Role::Admin)?;
    let (credential, blocked) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let credential = credentials::find(conn, id)?;
                Ok((credential, credentials::used_by(conn, &[id])?.remove(&id)))
            })
        })
        .await?;
    let item = (id, credential.name.as_str());
    deletion::ask(&visitor, &request, MENU, item, blocked.unwrap_or_default())
}

/// `POST /credentials/{id}/delete`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn delete(visitor: Visitor, Id(id): Id<CredentialId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let credential = visitor
        .ask(move |app| {
            app.store().write(|conn| {
                let credential = credentials::find(conn, id)?;
                credentials::delete(conn, id)?;
                Ok(credential)
            })
        })
        .await?;
    deletion::done(MENU, &fields, &credential.name)
}
