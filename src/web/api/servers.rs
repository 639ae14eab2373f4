//! `/api/v1/servers`

use actix_web::{HttpRequest, HttpResponse};

use super::{READ_ONLY, fingerprint, nothing};
use crate::store::servers::{self, Server};
use crate::store::{AuditWay, Role, ServerId};
use crate::web::error::Result;
use crate::web::forms::server::{self, FIELDS};
use crate::web::input::{Id, Json};
use crate::web::paging::ApiPage;
use crate::web::visitor::Visitor;

/// A server in the API: the host key is reduced to its fingerprint, as checks show it, and only
/// admins see the proxy command.
fn shown(visitor: &Visitor, mut server: Server) -> Server {
    if !visitor.may(Role::Admin) {
        server.proxy_command = None;
    }
    server.host_key = server
        .host_key
        .as_deref()
        .map(fingerprint)
        .map(str::to_owned);
    server
}

/// `GET servers`
///
/// # Errors
/// Fails for a sender who is not logged in, a malformed query or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = ApiPage::of(&request)?;
    let page = visitor
        .ask(move |app| app.store().read(|conn| servers::page(conn, part.request())))
        .await?;
    Ok(part.respond(page, |server| shown(&visitor, server)))
}

/// `POST servers`
///
/// # Errors
/// Fails for a sender who is not an admin, invalid fields or a database error.
pub async fn create(visitor: Visitor, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &[])?;
    let server = server::create(&visitor, fields).await?;
    Ok(HttpResponse::Created().json(shown(&visitor, server)))
}

/// `GET servers/{id}`
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id or a database error.
pub async fn show(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Viewer)?;
    let server = visitor
        .ask(move |app| app.store().read(|conn| servers::find(conn, id)))
        .await?;
    Ok(HttpResponse::Ok().json(shown(&visitor, server)))
}

/// `PUT servers/{id}`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, invalid fields or a database error.
pub async fn update(visitor: Visitor, Id(id): Id<ServerId>, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &READ_ONLY)?;
    let server = server::update(&visitor, id, fields).await?;
    Ok(HttpResponse::Ok().json(shown(&visitor, server)))
}

/// `DELETE servers/{id}`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn delete(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Admin)?;
    visitor
        .ask(move |app| app.store().write(|conn| servers::delete(conn, id)))
        .await?;
    Ok(nothing())
}

/// `POST servers/{id}/check`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or an error of the engine.
pub async fn check(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Admin)?;
    let check = visitor.app().engine().check_server(id).await?;
    Ok(HttpResponse::Ok().json(super::check(&visitor, &check)))
}

/// `POST servers/{id}/host_key`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, invalid fields, an error of the engine or
/// a database error.
pub async fn accept_key(visitor: Visitor, Id(id): Id<ServerId>, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&["fingerprint"], &[])?;
    let fingerprint = fields.required("fingerprint")?;
    let by = visitor.by(AuditWay::Api)?;
    let servers = &visitor.app().pools().servers;
    let server = visitor
        .ask_in(servers, move |app| {
            app.engine().by_hand().accept_key(&by, id, &fingerprint)?;
            Ok::<_, crate::web::error::Error>(app.store().read(|conn| servers::find(conn, id))?)
        })
        .await?;
    Ok(HttpResponse::Ok().json(shown(&visitor, server)))
}
