//! The pages of servers.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use minijinja::Value;

use super::api;
use super::deletion;
use super::error::{Refusal, Result};
use super::flash::Flash;
use super::forms::{self, FieldErrors};
use super::input::{Fields, Form, Id};
use super::paging;
use super::render::{self, context};
use super::visitor::Visitor;
use crate::ssh::ProxyServer;
use crate::store::servers::{self, Server};
use crate::store::{AuditWay, Role, ServerId, ServerKind, credentials};

const MENU: &str = "servers";
const LIST: &str = "/servers";

/// `GET /servers`
///
/// # Errors
/// Fails for a sender who is not logged in or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = paging::of_page(&request);
    let (page, users) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let page = servers::page(conn, part)?;
                let ids: Vec<ServerId> = page.items.iter().map(|server| server.id).collect();
                let users = servers::used_by(conn, &ids)?;
                Ok((page, users))
            })
        })
        .await?;
    let rows: Vec<Value> = page
        .items
        .iter()
        .map(|server| {
            context! {
                host_key => host_key_state(server),
                projects => users.get(&server.id).map_or(0, Vec::len),
                ..render::value(server)
            }
        })
        .collect();
    let context = context! {
        servers => rows,
        pager => paging::pager(&page, LIST),
        can => context! { edit => visitor.may(Role::Admin) },
    };
    render::found(&visitor, "servers/list.html", MENU, context)
}

/// A saved server in the format of its form.
fn saved(server: &Server) -> Value {
    let words = server
        .proxy_command
        .as_ref()
        .map(|words| words.0.join("\n"));
    context! { proxy_command => words, ..render::value(server) }
}

/// The values entered, without the proxy's password.
fn typed(fields: &Fields) -> Value {
    let proxy = fields
        .line("proxy")
        .map(|text| match ProxyServer::parse(&text) {
            Ok(proxy) => proxy.address(),
            // In a malformed address the password may be anywhere before the `@`.
            Err(_) => match text.rsplit_once('@') {
                Some((_, host)) => host.to_owned(),
                None => text,
            },
        });
    context! { proxy, ..render::value(fields.typed()) }
}

fn host_key_state(server: &Server) -> &'static str {
    match (server.kind, &server.host_key) {
        (ServerKind::Local, _) => "none",
        (ServerKind::Ssh, Some(_)) => "accepted",
        (ServerKind::Ssh, None) => "unknown",
    }
}

/// The content of a server's form.
struct Shown {
    status: StatusCode,
    values: Value,
    errors: FieldErrors,
    check: Option<Value>,
}

impl Shown {
    fn values(values: Value) -> Self {
        Self {
            status: StatusCode::OK,
            values,
            errors: FieldErrors::default(),
            check: None,
        }
    }

    fn refused(values: Value, refusal: Refusal) -> Self {
        Self {
            status: refusal.status,
            values,
            errors: refusal.errors,
            check: None,
        }
    }
}

async fn form(visitor: &Visitor, present: Option<&Server>, shown: Shown) -> Result {
    let own = present.map(|server| server.id);
    let (choices, jumps, has_password) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let password = match own {
                    Some(own) => servers::proxy_password(conn, own)?,
                    None => None,
                };
                let choices = credentials::choices(conn, false)?;
                Ok((choices, servers::all(conn)?, password.is_some()))
            })
        })
        .await?;
    let choices: Vec<Value> = choices
        .into_iter()
        .map(|credential| context! { id => credential.id, label => credential.name })
        .collect();
    let jumps: Vec<Value> = jumps
        .into_iter()
        .filter(|server| server.kind == ServerKind::Ssh && Some(server.id) != own)
        .map(|server| context! { id => server.id, label => server.hostname })
        .collect();
    let action = match present {
        Some(server) => format!("{LIST}/{}/edit", server.id),
        None => format!("{LIST}/new"),
    };
    let context = context! {
        values => shown.values,
        errors => render::errors(visitor, &shown.errors),
        action,
        is_new => present.is_none(),
        id => present.map(|server| server.id),
        name => present.map(|server| &server.hostname),
        has_proxy_password => has_password,
        choices => context! { credentials => choices, jumps => jumps },
        check => shown.check,
    };
    render::page(visitor, shown.status, "servers/form.html", MENU, context)
}

async fn find(visitor: &Visitor, id: ServerId) -> Result<Server> {
    visitor
        .ask(move |app| app.store().read(|conn| servers::find(conn, id)))
        .await
}

/// `GET /servers/new`
///
/// # Errors
/// Fails for a sender who is not an admin or a database error.
pub async fn new(visitor: Visitor) -> Result {
    visitor.require(Role::Admin)?;
    let defaults = context! { kind => "ssh", port => "22", root => "/" };
    form(&visitor, None, Shown::values(defaults)).await
}

/// `POST /servers/new`
///
/// # Errors
/// Fails for a sender who is not an admin or a database error.
pub async fn create(visitor: Visitor, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let typed = typed(&fields);
    match forms::server::create(&visitor, fields).await {
        Ok(server) => {
            let flash = Flash::new("created", &server.hostname);
            Ok(render::redirect_saying(
                &format!("{LIST}/{}/edit", server.id),
                &flash,
            ))
        }
        Err(error) => form(&visitor, None, Shown::refused(typed, error.refusal()?)).await,
    }
}

/// `GET /servers/{id}/edit`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn edit(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Admin)?;
    let server = find(&visitor, id).await?;
    form(&visitor, Some(&server), Shown::values(saved(&server))).await
}

/// `POST /servers/{id}/edit`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn update(visitor: Visitor, Id(id): Id<ServerId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let typed = typed(&fields);
    match forms::server::update(&visitor, id, fields).await {
        Ok(server) => {
            let flash = Flash::new("saved", &server.hostname);
            Ok(render::redirect_saying(LIST, &flash))
        }
        Err(error) => {
            let refusal = error.refusal()?;
            let server = find(&visitor, id).await?;
            form(&visitor, Some(&server), Shown::refused(typed, refusal)).await
        }
    }
}

/// `GET /servers/{id}/delete?page=`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn ask_delete(visitor: Visitor, Id(id): Id<ServerId>, request: HttpRequest) -> Result {
    visitor.require(Role::Admin)?;
    let (server, blocked) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let server = servers::find(conn, id)?;
                Ok((server, servers::needed_by(conn, id)?))
            })
        })
        .await?;
    let item = (id, server.hostname.as_str());
    deletion::ask(&visitor, &request, MENU, item, blocked)
}

/// `POST /servers/{id}/delete`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn delete(visitor: Visitor, Id(id): Id<ServerId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let server = visitor
        .ask(move |app| {
            app.store().write(|conn| {
                let server = servers::find(conn, id)?;
                servers::delete(conn, id)?;
                Ok(server)
            })
        })
        .await?;
    deletion::done(MENU, &fields, &server.hostname)
}

/// `POST /servers/{id}/check`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, an error of the engine or a database
/// error.
pub async fn check(visitor: Visitor, Id(id): Id<ServerId>) -> Result {
    visitor.require(Role::Admin)?;
    let server = find(&visitor, id).await?;
    let check = visitor.app().engine().check_server(id).await?;
    let mut shown = Shown::values(saved(&server));
    shown.check = Some(render::value(api::check(&visitor, &check)));
    form(&visitor, Some(&server), shown).await
}

/// `POST /servers/{id}/host_key`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or an error of the engine.
pub async fn accept_key(visitor: Visitor, Id(id): Id<ServerId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let by = visitor.by(AuditWay::Page)?;
    let fingerprint = fields.line("fingerprint").unwrap_or_default();
    let servers = &visitor.app().pools().servers;
    visitor
        .ask_in(servers, move |app| {
            app.engine().by_hand().accept_key(&by, id, &fingerprint)
        })
        .await?;
    let flash = Flash::new("host_key_accepted", "");
    Ok(render::redirect_saying(
        &format!("{LIST}/{id}/edit"),
        &flash,
    ))
}
