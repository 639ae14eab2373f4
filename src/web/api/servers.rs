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

/// A server as the API gives it: of the accepted host key its fingerprint, as checks show it, and the
/// command that it is reached by to admins alone.
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
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = ApiPage::of(&request)?;
    let page = visitor
        .ask(move |app| app.store().read(|conn| servers::page(conn, part.request())))
        .await?;
    Ok(part.respond(page, |server| shown(&visitor, server)))
}

/// `POST servers`
pub async fn create(visitor: Visitor, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &[])?;
    let server = visitor.ask(move |app| server::create(app, &fields)).await?;
    Ok(HttpResponse::Created().json(shown(&visitor, server)))
}

/// `GET servers/{id}`
pub async fn show(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Viewer)?;
    let server = visitor
        .ask(move |app| app.store().read(|conn| servers::find(conn, id)))
        .await?;
    Ok(HttpResponse::Ok().json(shown(&visitor, server)))
}

/// `PUT servers/{id}`
pub async fn update(visitor: Visitor, Id(id): Id<ServerId>, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &READ_ONLY)?;
    let server = visitor
        .ask(move |app| server::update(app, id, &fields))
        .await?;
    Ok(HttpResponse::Ok().json(shown(&visitor, server)))
}

/// `DELETE servers/{id}`
pub async fn delete(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Admin)?;
    visitor
        .ask(move |app| app.store().write(|conn| servers::delete(conn, id)))
        .await?;
    Ok(nothing())
}

/// `POST servers/{id}/check`
pub async fn check(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Admin)?;
    let check = visitor.app().engine().check_server(id).await?;
    Ok(HttpResponse::Ok().json(super::check(&visitor, &check)))
}

/// `POST servers/{id}/host_key`
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
