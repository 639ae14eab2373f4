//! `/api/v1/projects`

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::Value;

use super::{READ_ONLY, nothing};
use crate::app::App;
use crate::deploy::{DeployError, Freshness, KnownRefs};
use crate::git::Refs;
use crate::store::projects::{self, Project};
use crate::store::{Moment, ProjectId, Role, ServerId};
use crate::web::error::{Error, Result};
use crate::web::forms::project::{self, FIELDS};
use crate::web::input::{Id, Json, query};
use crate::web::paging::{ApiPage, bounded};
use crate::web::visitor::Visitor;

/// The largest number of commits listed.
const COMMITS: i64 = 50;
/// The longest wait for branches and tags, in seconds.
const LONGEST_WAIT: i64 = 60;

/// A project in the API.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    project: Project,
    server_ids: Vec<ServerId>,
}

impl Whole {
    fn new((project, server_ids): (Project, Vec<ServerId>)) -> Self {
        Self {
            project,
            server_ids,
        }
    }

    fn find(app: &App, id: ProjectId) -> Result<Self> {
        let whole = app
            .store()
            .read(|conn| Ok((projects::find(conn, id)?, projects::server_ids(conn, id)?)));
        Ok(Self::new(whole?))
    }
}

/// `GET projects`
///
/// # Errors
/// Fails for a sender who is not logged in, a malformed query or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = ApiPage::of(&request)?;
    let (page, mut servers) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let page = projects::page(conn, part.request())?;
                let ids: Vec<ProjectId> = page.items.iter().map(|project| project.id).collect();
                let servers = projects::server_ids_of(conn, &ids)?;
                Ok((page, servers))
            })
        })
        .await?;
    Ok(part.respond(page, |project| {
        let servers = servers.remove(&project.id).unwrap_or_default();
        Whole::new((project, servers))
    }))
}

/// `POST projects`
///
/// # Errors
/// Fails for a sender who is not an admin, invalid fields or a database error.
pub async fn create(visitor: Visitor, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &[])?;
    let whole = project::create(&visitor, fields).await?;
    Ok(HttpResponse::Created().json(Whole::new(whole)))
}

/// `GET projects/{id}`
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id or a database error.
pub async fn show(visitor: Visitor, Id(id): Id<ProjectId>) -> Result {
    visitor.require(Role::Viewer)?;
    let whole = visitor.ask(move |app| Whole::find(app, id)).await?;
    Ok(HttpResponse::Ok().json(whole))
}

/// `PUT projects/{id}`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, invalid fields or a database error.
pub async fn update(visitor: Visitor, Id(id): Id<ProjectId>, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&FIELDS, &READ_ONLY)?;
    let whole = project::update(&visitor, id, fields).await?;
    Ok(HttpResponse::Ok().json(Whole::new(whole)))
}

/// `DELETE projects/{id}`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn delete(visitor: Visitor, Id(id): Id<ProjectId>) -> Result {
    visitor.require(Role::Admin)?;
    visitor
        .ask(move |app| app.store().write(|conn| projects::delete(conn, id)))
        .await?;
    Ok(nothing())
}

/// `GET projects/{id}/refs?fetch=&wait=`
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id, a malformed query or an error of the
/// engine.
pub async fn refs(visitor: Visitor, Id(id): Id<ProjectId>, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let wait = bounded(&request, "wait", 0, LONGEST_WAIT)?;
    let freshness = match (query(&request, "fetch")?.as_deref(), wait) {
        (Some("false"), _) => Freshness::Known,
        (None | Some("true" | ""), Some(seconds)) => {
            Freshness::Within(Duration::from_secs(seconds.unsigned_abs()))
        }
        (None | Some("true" | ""), None) => Freshness::Usual,
        (Some(_), _) => return Err(Error::Parameter("fetch")),
    };
    let known = visitor.app().engine().refs(id, freshness).await?;
    let mut response = match known.fetched_at {
        None if known.fetching => HttpResponse::Accepted(),
        _ => HttpResponse::Ok(),
    };
    Ok(response.json(Listed::new(&visitor, known)))
}

/// Branches and tags in the API.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    refs: Refs,
    fetched_at: Option<Moment>,
    fetching: bool,
    error: Option<Value>,
}

impl Listed {
    fn new(visitor: &Visitor, known: KnownRefs) -> Self {
        let error = known.error.map(DeployError::Fetch).map(Error::from);
        Self {
            refs: known.refs,
            fetched_at: known.fetched_at,
            fetching: known.fetching,
            error: error.map(|error| error.described(visitor)),
        }
    }
}

/// `GET projects/{id}/commits?ref=`; the repository's default branch without `ref`.
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id, a malformed query or an error of the
/// engine.
pub async fn commits(visitor: Visitor, Id(id): Id<ProjectId>, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let asked = query(&request, "ref")?.filter(|asked| !asked.is_empty());
    let limit = bounded(&request, "limit", 1, COMMITS)?.unwrap_or(COMMITS);
    let limit = usize::try_from(limit).map_err(|_| Error::Parameter("limit"))?;
    let commits = visitor.app().engine().commits(id, asked, limit).await?;
    Ok(HttpResponse::Ok().json(commits))
}

/// `POST projects/{id}/check`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or an error of the engine.
pub async fn check(visitor: Visitor, Id(id): Id<ProjectId>) -> Result {
    visitor.require(Role::Admin)?;
    let check = visitor.app().engine().check_git_host(id).await?;
    Ok(HttpResponse::Ok().json(super::check(&visitor, &check)))
}

/// `POST projects/{id}/host_key`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, invalid fields, an error of the engine or
/// a database error.
pub async fn accept_key(visitor: Visitor, Id(id): Id<ProjectId>, Json(fields): Json) -> Result {
    visitor.require(Role::Admin)?;
    fields.only(&["fingerprint"], &[])?;
    let fingerprint = fields.required("fingerprint")?;
    let git = &visitor.app().pools().git;
    let whole = visitor
        .ask_in(git, move |app| {
            app.engine().accept_git_host_key(id, &fingerprint)?;
            Whole::find(app, id)
        })
        .await?;
    Ok(HttpResponse::Ok().json(whole))
}
