//! `/api/v1/releases`

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::app::App;
use crate::deploy::{self, NodeLog, Order};
use crate::git::CommitId;
use crate::i18n::{self, Language};
use crate::store::nodes::{self, Node};
use crate::store::releases::{self, Release};
use crate::store::{Moment, NodeState, ReleaseId, Role, StoreError};
use crate::web::error::{Error, Result};
use crate::web::forms::FieldErrors;
use crate::web::forms::release::{self, FIELDS};
use crate::web::input::{Fields, Id, Json, query};
use crate::web::paging::{ApiPage, bounded};
use crate::web::say;
use crate::web::visitor::Visitor;

/// `GET releases?project_id=`
///
/// # Errors
/// Fails for a sender who is not logged in, a malformed query or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = ApiPage::of(&request)?;
    let project = query(&request, "project_id")?
        .map(|id| id.parse().map_err(|_| Error::Parameter("project_id")))
        .transpose()?;
    let page = visitor
        .ask(move |app| {
            app.store()
                .read(|conn| releases::page(conn, project, part.request()))
        })
        .await?;
    let language = visitor.language();
    Ok(part.respond(page, |row| say::row(language, row)))
}

/// Queues the release requested by `fields`. `commit` is the commit confirmed for the branch or
/// tag.
///
/// # Errors
/// Invalid fields, and errors of the engine.
pub fn submit(app: &App, fields: &Fields, commit: Option<CommitId>, by: String) -> Result<Release> {
    let wanted = release::check(fields)?;
    let order = Order {
        project: wanted.project,
        revision: wanted.revision,
        commit,
        by,
    };
    app.engine().submit(order).map_err(|error| {
        let (field, code) = match &error {
            deploy::DeployError::Store(StoreError::NotFound { .. }) => {
                ("project_id", "unknown_choice")
            }
            deploy::DeployError::Git(crate::git::GitError::InvalidRevision { .. }) => {
                (wanted.field, "invalid_revision")
            }
            _ => return error.into(),
        };
        let mut errors = FieldErrors::default();
        errors.add(field, code);
        errors.into()
    })
}

/// `POST releases`
///
/// # Errors
/// Fails for a sender who may not deploy, invalid fields, an error of the engine or a database
/// error.
pub async fn create(visitor: Visitor, Json(fields): Json) -> Result {
    let by = visitor.require(Role::Deployer)?.name.clone();
    fields.only(&FIELDS, &[])?;
    let release = visitor
        .ask(move |app| submit(app, &fields, None, by))
        .await?;
    Ok(HttpResponse::Created().json(release))
}

/// `GET releases/{id}`
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id or a database error.
pub async fn show(visitor: Visitor, Id(id): Id<ReleaseId>) -> Result {
    visitor.require(Role::Viewer)?;
    let row = visitor
        .ask(move |app| app.store().read(|conn| releases::row(conn, id)))
        .await?;
    Ok(HttpResponse::Ok().json(say::row(visitor.language(), row)))
}

/// `POST releases/{id}/cancel`
///
/// # Errors
/// Fails for a sender who may not deploy, an unknown id, an error of the engine or a database
/// error.
pub async fn cancel(visitor: Visitor, Id(id): Id<ReleaseId>) -> Result {
    let by = visitor.require(Role::Deployer)?.name.clone();
    let release = visitor.ask(move |app| app.engine().cancel(id, &by)).await?;
    Ok(HttpResponse::Ok().json(say::release(visitor.language(), release)))
}

/// `POST releases/{id}/rollback`
///
/// # Errors
/// Fails for a sender who may not deploy, an unknown id, an error of the engine or a database
/// error.
pub async fn roll_back(visitor: Visitor, Id(id): Id<ReleaseId>) -> Result {
    let by = visitor.require(Role::Deployer)?.name.clone();
    let release = visitor
        .ask(move |app| app.engine().roll_back(id, &by))
        .await?;
    Ok(HttpResponse::Created().json(release))
}

/// A node of the release's tree, in the format of the course's diagram.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    key: &'a str,
    parent: Option<&'a str>,
    /// The label in the reader's language; the server's name is part of a server's first node.
    pub text: String,
    figure: &'static str,
    color: &'static str,
    link_color: &'static str,
    link_text: &'a str,
    state: NodeState,
    version: i64,
    message: String,
    started_at: Option<Moment>,
    finished_at: Option<Moment>,
}

/// The tree of `nodes`, parents before children.
pub fn rows(language: Language, nodes: &[Node]) -> Vec<Row<'_>> {
    nodes
        .iter()
        .map(|node| {
            let color = deploy::color(node.state);
            Row {
                key: &node.key,
                parent: node.parent.as_deref(),
                text: text(language, node, nodes),
                figure: deploy::figure(&node.step),
                color,
                link_color: color,
                link_text: &node.progress,
                state: node.state,
                version: node.version,
                message: say::stored(language, &node.message),
                started_at: node.started_at,
                finished_at: node.finished_at,
            }
        })
        .collect()
}

fn text(language: Language, node: &Node, nodes: &[Node]) -> String {
    let parent = nodes
        .iter()
        .find(|other| Some(&other.key) == node.parent.as_ref());
    let is_first = parent.is_none_or(|parent| parent.server_id != node.server_id);
    match &node.server_name {
        Some(server) if is_first => i18n::text(language, "node.upload", &[("server", server)]),
        _ => i18n::text(language, &format!("node.{}", node.step), &[]),
    }
}

/// `GET releases/{id}/tree`
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id or a database error.
pub async fn tree(visitor: Visitor, Id(id): Id<ReleaseId>) -> Result {
    visitor.require(Role::Viewer)?;
    let nodes = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                releases::find(conn, id)?;
                nodes::of_release(conn, id)
            })
        })
        .await?;
    Ok(HttpResponse::Ok().json(rows(visitor.language(), &nodes)))
}

/// A node's log from byte `offset` to its present end.
///
/// # Errors
/// Errors of the engine, such as an unknown release.
pub fn whole_log(app: &App, id: ReleaseId, key: &str, offset: u64) -> Result<NodeLog> {
    let mut log = app.engine().read_log(id, key, offset)?;
    while log.more {
        let piece = app.engine().read_log(id, key, log.end)?;
        log.more = piece.more && piece.end > log.end;
        log.end = piece.end;
        log.text.push_str(&piece.text);
    }
    Ok(log)
}

/// `GET releases/{id}/nodes/{key}/log?offset=`: plain text from byte `X-Log-Offset` up to, but not
/// including, byte `X-Log-End`.
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id, a malformed query or a database error.
pub async fn log(visitor: Visitor, Id(id): Id<ReleaseId>, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let key = request.match_info().query("key").to_owned();
    let offset = bounded(&request, "offset", 0, i64::MAX)?
        .unwrap_or(0)
        .unsigned_abs();
    let log = visitor
        .ask(move |app| whole_log(app, id, &key, offset))
        .await?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("X-Log-Offset", log.offset.to_string()))
        .insert_header(("X-Log-End", log.end.to_string()))
        .body(log.text))
}
