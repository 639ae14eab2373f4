//! The pages of releases. Changes to a production project need confirmation: see [`confirm`].

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use minijinja::Value;

use super::api;
use super::error::{Error, Result};
use super::flash::Flash;
use super::forms::release as wanted;
use super::input::{Form, Id, query};
use super::paging;
use super::render::{self, context};
use super::say;
use super::visitor::Visitor;
use crate::deploy::{Change, Freshness, NODE_COLORS};
use crate::i18n::Language;
use crate::store::releases::{self, ReleaseRow};
use crate::store::{ReleaseId, Role, nodes, projects};

const MENU: &str = "releases";
const LIST: &str = "/releases";

/// The number of branches and tags offered by the plain form.
const KNOWN: usize = 21;
mod confirm;

use confirm::Confirmed;

/// The number of characters of an abbreviated commit id.
const SHORT: usize = 8;

fn short(commit: &str) -> &str {
    commit.get(..SHORT).unwrap_or(commit)
}

/// A release in the format of the templates.
fn shown(language: Language, row: &ReleaseRow) -> Value {
    let release = &row.release;
    let seconds = match (release.started_at, release.finished_at) {
        (Some(start), Some(end)) => Some((end.0 - start.0).max(0) / 1000),
        _ => None,
    };
    let commit = release.commit_id.as_deref();
    // A commit that was requested by its id is not shown twice.
    let (asked, short) = match commit.map(short) {
        Some(short) if commit == Some(release.revision.as_str()) => (short, None),
        short => (release.revision.as_str(), short),
    };
    context! {
        id => release.id,
        state => release.state,
        kind => release.kind,
        project => context! {
            id => release.project_id,
            title => row.project_title,
            env => row.project_env,
        },
        ref => asked,
        commit,
        short,
        summary => release.summary,
        author => None::<&str>,
        by => release.requested_by,
        created_at => release.created_at,
        started_at => release.started_at,
        finished_at => release.finished_at,
        seconds,
        error => Some(say::stored(language, &release.message)).filter(|message| !message.is_empty()),
        of => release.target_id,
    }
}

/// `GET /` and `GET /releases`
///
/// # Errors
/// Fails for a sender who is not logged in or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = paging::of_page(&request);
    // The cursor is older than the list, so that no change is missed between the two.
    let cursor = visitor.app().hub().now().to_string();
    let (page, has_projects) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let page = releases::page(conn, None, part)?;
                Ok((page, projects::exist(conn)?))
            })
        })
        .await?;
    let language = visitor.language();
    let context = context! {
        releases => page.items.iter().map(|row| shown(language, row)).collect::<Vec<_>>(),
        pager => paging::pager(&page, LIST),
        cursor,
        can => context! { create => visitor.may(Role::Deployer) },
        has_projects,
    };
    render::found(&visitor, "releases/list.html", MENU, context)
}

async fn form(visitor: &Visitor, status: StatusCode, values: Value, errors: Value) -> Result {
    // The cursor is older than the known refs, so that no change is missed between the two.
    let cursor = visitor.app().hub().now().to_string();
    let projects = visitor.ask(|app| app.store().read(projects::all)).await?;
    let known = known_refs(visitor, &values).await;
    let projects: Vec<Value> = projects
        .into_iter()
        .map(|project| context! { id => project.id, title => project.title, env => project.env })
        .collect();
    let context = context! {
        values,
        errors,
        action => LIST,
        choices => context! { projects },
        known,
        cursor,
    };
    render::page(visitor, status, "releases/new.html", MENU, context)
}

/// The cached branches and tags of the chosen project, for readers without scripts.
async fn known_refs(visitor: &Visitor, values: &Value) -> Option<Value> {
    let project = values.get_attr("project_id").ok()?.to_string();
    let engine = visitor.app().engine();
    let known = engine.refs(project.parse().ok()?, Freshness::Known).await;
    let known = known.ok().filter(|known| known.fetched_at.is_some())?;
    let refs = known.refs.branches.iter().chain(&known.refs.tags);
    let names: Vec<&str> = refs.take(KNOWN).map(|one| one.name.as_str()).collect();
    Some(context! { names, fetched_at => known.fetched_at.map(|at| at.to_string()) })
}

/// `GET /releases/new?project=`
///
/// # Errors
/// Fails for a sender who may not deploy or a malformed query.
pub async fn new(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Deployer)?;
    let project_id = query(&request, "project")?.unwrap_or_default();
    let values = context! { project_id, ref => "", commit => "" };
    form(&visitor, StatusCode::OK, values, context! {}).await
}

/// `POST /releases`
///
/// # Errors
/// Fails for a sender who may not deploy or a database error.
pub async fn create(visitor: Visitor, Form(fields): Form) -> Result {
    let by = visitor.require(Role::Deployer)?.name.clone();
    let typed = render::value(fields.typed());
    let confirmed = Confirmed::read(&fields);
    if confirmed == Confirmed::No
        && let Ok(wanted) = wanted::check(&fields)
        && let Some(preview) = confirm::ask_first(&visitor, wanted.into()).await?
    {
        return confirm::page(&visitor, &preview, LIST, Some(&fields));
    }
    let commit = confirmed.commit();
    match visitor
        .ask(move |app| api::releases::submit(app, &fields, commit, by))
        .await
    {
        Ok(release) => Ok(to_release(release.id)),
        Err(error) => {
            let refusal = error.refusal()?;
            let errors = render::errors(&visitor, &refusal.errors);
            form(&visitor, refusal.status, typed, errors).await
        }
    }
}

/// A redirect to the release's page, which shows its state.
fn to_release(id: ReleaseId) -> actix_web::HttpResponse {
    render::redirect(&format!("{LIST}/{id}"))
}

/// `GET /releases/{id}?node=`
///
/// # Errors
/// Fails for a sender who is not logged in, an unknown id, a malformed query, an error of the
/// engine or a database error.
pub async fn show(visitor: Visitor, Id(id): Id<ReleaseId>, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    // The cursor is older than the snapshot, so that no change is missed between the two.
    let cursor = visitor.app().hub().now().to_string();
    let (row, nodes, target) = visitor
        .ask(move |app| {
            let (row, nodes) = app
                .store()
                .read(|conn| Ok((releases::row(conn, id)?, nodes::of_release(conn, id)?)))?;
            let target = app.engine().rollback_target(&row.release)?;
            Ok::<_, Error>((row, nodes, target))
        })
        .await?;
    let rows = api::releases::rows(visitor.language(), &nodes);
    let asked = query(&request, "node")?;
    let node = nodes
        .iter()
        .zip(&rows)
        .find(|(node, _)| Some(&node.key) == asked.as_ref());
    let selected = match node {
        None => None,
        Some((node, row)) => {
            let key = node.key.clone();
            let log = visitor
                .ask(move |app| api::releases::whole_log(app, id, &key, 0))
                .await?;
            Some(
                context! { key => node.key, text => row.text, state => node.state, log => log.text },
            )
        }
    };
    let deployer = visitor.may(Role::Deployer);
    let active = row.release.state.is_active();
    let rollback = target.filter(|_| deployer && !active).map(|target| {
        context! {
            id => target.id,
            short => target.commit_id.as_deref().map_or(&*target.revision, short),
            at => target.finished_at,
            is_this => target.id == row.release.target_id.unwrap_or(id),
        }
    });
    let context = context! {
        release => shown(visitor.language(), &row),
        rows,
        cursor,
        selected,
        rollback,
        asks_first => confirm::is_asked(row.project_env),
        colors => NODE_COLORS,
        can => context! {
            edit => visitor.may(Role::Admin),
            cancel => deployer && active,
            again => deployer && !active,
        },
    };
    render::found(&visitor, "releases/show.html", MENU, context)
}

/// `POST /releases/{id}/cancel`
///
/// # Errors
/// Fails for a sender who may not deploy, an unknown id, an error of the engine or a database
/// error.
pub async fn cancel(visitor: Visitor, Id(id): Id<ReleaseId>) -> Result {
    let by = visitor.require(Role::Deployer)?.name.clone();
    visitor.ask(move |app| app.engine().cancel(id, &by)).await?;
    let flash = Flash::new("release_cancelling", "");
    Ok(render::redirect_saying(&format!("{LIST}/{id}"), &flash))
}

/// `POST /releases/{id}/rollback`
///
/// # Errors
/// Fails for a sender who may not deploy, an unknown id, an error of the engine or a database
/// error.
pub async fn roll_back(visitor: Visitor, Id(id): Id<ReleaseId>, Form(fields): Form) -> Result {
    let by = visitor.require(Role::Deployer)?.name.clone();
    if Confirmed::read(&fields) == Confirmed::No
        && let Some(preview) = confirm::ask_first(&visitor, Change::RollBack(id)).await?
    {
        return confirm::page(&visitor, &preview, visitor.path(), None);
    }
    let release = visitor
        .ask(move |app| app.engine().roll_back(id, &by))
        .await?;
    Ok(to_release(release.id))
}

/// `POST /releases/{id}/again`: deploys the same commit again.
///
/// # Errors
/// Fails for a sender who may not deploy, an unknown id, an error of the engine or a database
/// error.
pub async fn again(visitor: Visitor, Id(id): Id<ReleaseId>, Form(fields): Form) -> Result {
    let by = visitor.require(Role::Deployer)?.name.clone();
    if Confirmed::read(&fields) == Confirmed::No
        && let Some(preview) = confirm::ask_first(&visitor, Change::Redeploy(id)).await?
    {
        return confirm::page(&visitor, &preview, visitor.path(), None);
    }
    let release = visitor
        .ask(move |app| app.engine().redeploy(id, &by))
        .await?;
    Ok(to_release(release.id))
}
