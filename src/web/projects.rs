//! The pages of projects.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use minijinja::Value;

use super::api;
use super::deletion;
use super::error::{Refusal, Result};
use super::flash::Flash;
use super::forms::{self, FieldErrors};
use super::input::{Form, Id};
use super::paging;
use super::render::{self, context};
use super::visitor::Visitor;
use crate::store::projects::{self, Project};
use crate::store::{ProjectId, Role, ServerId, ServerKind, credentials, releases, servers};

const MENU: &str = "projects";
const LIST: &str = "/projects";

/// `GET /projects`
///
/// # Errors
/// Fails for a sender who is not logged in or a database error.
pub async fn list(visitor: Visitor, request: HttpRequest) -> Result {
    visitor.require(Role::Viewer)?;
    let part = paging::of_page(&request);
    let (page, servers, newest) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let page = projects::page(conn, part)?;
                let ids: Vec<ProjectId> = page.items.iter().map(|project| project.id).collect();
                let servers = projects::server_ids_of(conn, &ids)?;
                Ok((page, servers, releases::newest_of(conn, &ids)?))
            })
        })
        .await?;
    let rows: Vec<Value> = page
        .items
        .iter()
        .map(|project| {
            let last = newest.get(&project.id);
            context! {
                id => project.id,
                title => project.title,
                repo => project.repo,
                env => project.env,
                servers => servers.get(&project.id).map_or(0, Vec::len),
                last => last.map(|(id, state)| context! { id, state }),
            }
        })
        .collect();
    let can = context! {
        edit => visitor.may(Role::Admin),
        release => visitor.may(Role::Deployer),
    };
    let context = context! { projects => rows, pager => paging::pager(&page, LIST), can };
    render::found(&visitor, "projects/list.html", MENU, context)
}

/// A project with its servers.
type Whole = (Project, Vec<ServerId>);

/// The content of a project's form.
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

    fn saved((project, server_ids): &Whole) -> Self {
        Self::values(context! { server_ids, ..render::value(project) })
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

async fn form(visitor: &Visitor, present: Option<&Project>, shown: Shown) -> Result {
    let (credentials, servers) = visitor
        .ask(|app| {
            app.store()
                .read(|conn| Ok((credentials::choices(conn, true)?, servers::all(conn)?)))
        })
        .await?;
    let credentials: Vec<Value> = credentials
        .into_iter()
        .map(|credential| context! { id => credential.id, label => credential.name })
        .collect();
    let servers: Vec<Value> = servers
        .into_iter()
        .map(|server| {
            let note = match server.kind {
                ServerKind::Ssh => format!("{}@{}", server.user, server.host),
                ServerKind::Local => server.root,
            };
            context! { id => server.id, label => server.hostname, note }
        })
        .collect();
    let action = match present {
        Some(project) => format!("{LIST}/{}/edit", project.id),
        None => format!("{LIST}/new"),
    };
    let context = context! {
        values => shown.values,
        errors => render::errors(visitor, &shown.errors),
        action,
        is_new => present.is_none(),
        id => present.map(|project| project.id),
        name => present.map(|project| &project.title),
        choices => context! { credentials, servers },
        check => shown.check,
        unconfined => visitor.app().engine().unconfined(),
    };
    render::page(visitor, shown.status, "projects/form.html", MENU, context)
}

async fn find(visitor: &Visitor, id: ProjectId) -> Result<Whole> {
    visitor
        .ask(move |app| {
            app.store()
                .read(|conn| Ok((projects::find(conn, id)?, projects::server_ids(conn, id)?)))
        })
        .await
}

/// `GET /projects/new`
///
/// # Errors
/// Fails for a sender who is not an admin or a database error.
pub async fn new(visitor: Visitor) -> Result {
    visitor.require(Role::Admin)?;
    let defaults = context! { env => "test", keep => "5", submodules => "false", depth => "0", health_seconds => "30", unchanged => "copy", hooks_stop => "true", login_shell => "false" };
    form(&visitor, None, Shown::values(defaults)).await
}

/// `POST /projects/new`
///
/// # Errors
/// Fails for a sender who is not an admin or a database error.
pub async fn create(visitor: Visitor, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let typed = render::value(fields.typed());
    match forms::project::create(&visitor, fields).await {
        Ok((project, _)) => {
            let flash = Flash::new("created", &project.title);
            Ok(render::redirect_saying(
                &format!("{LIST}/{}/edit", project.id),
                &flash,
            ))
        }
        Err(error) => form(&visitor, None, Shown::refused(typed, error.refusal()?)).await,
    }
}

/// `GET /projects/{id}/edit`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn edit(visitor: Visitor, Id(id): Id<ProjectId>) -> Result {
    visitor.require(Role::Admin)?;
    let whole = find(&visitor, id).await?;
    form(&visitor, Some(&whole.0), Shown::saved(&whole)).await
}

/// `POST /projects/{id}/edit`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn update(visitor: Visitor, Id(id): Id<ProjectId>, Form(mut fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    // Browsers omit a group of boxes if none is ticked.
    fields.or_empty("server_ids");
    let typed = render::value(fields.typed());
    match forms::project::update(&visitor, id, fields).await {
        Ok((project, _)) => {
            let flash = Flash::new("saved", &project.title);
            Ok(render::redirect_saying(LIST, &flash))
        }
        Err(error) => {
            let refusal = error.refusal()?;
            let (project, _) = find(&visitor, id).await?;
            form(&visitor, Some(&project), Shown::refused(typed, refusal)).await
        }
    }
}

/// `GET /projects/{id}/delete?page=`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn ask_delete(visitor: Visitor, Id(id): Id<ProjectId>, request: HttpRequest) -> Result {
    visitor.require(Role::Admin)?;
    let (project, active) = visitor
        .ask(move |app| {
            app.store().read(|conn| {
                let project = projects::find(conn, id)?;
                Ok((project, releases::active_of_project(conn, id)?))
            })
        })
        .await?;
    let blocked: Vec<String> = active.iter().map(|release| format!("#{release}")).collect();
    let item = (id, project.title.as_str());
    deletion::ask(&visitor, &request, MENU, item, blocked)
}

/// `POST /projects/{id}/delete`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or a database error.
pub async fn delete(visitor: Visitor, Id(id): Id<ProjectId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let project = visitor
        .ask(move |app| {
            app.store().write(|conn| {
                let project = projects::find(conn, id)?;
                projects::delete(conn, id)?;
                Ok(project)
            })
        })
        .await?;
    deletion::done(MENU, &fields, &project.title)
}

/// `POST /projects/{id}/check`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id, an error of the engine or a database
/// error.
pub async fn check(visitor: Visitor, Id(id): Id<ProjectId>) -> Result {
    visitor.require(Role::Admin)?;
    let whole = find(&visitor, id).await?;
    let check = visitor.app().engine().check_git_host(id).await?;
    let mut shown = Shown::saved(&whole);
    shown.check = Some(render::value(api::check(&visitor, &check)));
    form(&visitor, Some(&whole.0), shown).await
}

/// `POST /projects/{id}/host_key`
///
/// # Errors
/// Fails for a sender who is not an admin, an unknown id or an error of the engine.
pub async fn accept_key(visitor: Visitor, Id(id): Id<ProjectId>, Form(fields): Form) -> Result {
    visitor.require(Role::Admin)?;
    let fingerprint = fields.line("fingerprint").unwrap_or_default();
    let git = &visitor.app().pools().git;
    visitor
        .ask_in(git, move |app| {
            app.engine().accept_git_host_key(id, &fingerprint)
        })
        .await?;
    let flash = Flash::new("host_key_accepted", "");
    Ok(render::redirect_saying(
        &format!("{LIST}/{id}/edit"),
        &flash,
    ))
}
