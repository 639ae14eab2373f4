//! `/api/v1/credentials`: names and kinds; secrets are write-only.

use actix_web::{HttpRequest, HttpResponse};

use super::{READ_ONLY, nothing};
use crate::store::credentials;
use crate::store::{CredentialId, Role};
use crate::web::error::Result;
use crate::web::forms::credential::{self, FIELDS};
use crate::web::input::{Id, Json};
use crate::web::paging::ApiPage;
use crate::web::visitor::Visitor;

/// `GET credentials`
///
/// # Errors
/// Fails for a sender who is not logged in, a malformed query or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = ApiPage::of(&request)?;
    let page = visitor
        .ask(move |app| {
            app.store()
                .read(|conn| credentials::page(conn, part.request()))
        })
        .await?;
    Ok(part.respond(page, |credential| credential))
}

/// `POST credentials`
///
/// # Errors
/// Fails for a sender who is not an admin, invalid fields or a database error.
pub async fn create(visitor: Visitor, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &[])?;
    let credential = visitor
        .ask(move |app| credential::create(app, &fields))
        .await?;
    Ok(HttpResponse::Created().json(credential))
}

/// `GET credentials/{id}`
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id or a database error.
pub async fn show(visitor: Visitor, Id(id): Id<CredentialId>) -> Result {
    visitor.require(Role::Viewer)?;
    let credential = visitor
        .ask(move |app| app.store().read(|conn| credentials::find(conn, id)))
        .await?;
    Ok(HttpResponse::Ok().json(credential))
}

/// `PUT credentials/{id}`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, invalid fields or a database error.
pub async fn update(visitor: Visitor, Id(id): Id<CredentialId>, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &READ_ONLY)?;
    let credential = visitor
        .ask(move |app| credential::update(app, id, &fields))
        .await?;
    Ok(HttpResponse::Ok().json(credential))
}

/// `DELETE credentials/{id}`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn delete(visitor: Visitor, Id(id): Id<CredentialId>) -> Result {
    visitor.require(Role::Admin)?;
    visitor
        .ask(move |app| app.store().write(|conn| credentials::delete(conn, id)))
        .await?;
    Ok(nothing())
}
