//! Projects: a repository and how to release it.

use std::collections::HashMap;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::schema::{project_servers, projects, releases, servers};
use super::servers::Server;
use super::{
    Conn, CredentialId, Environment, Moment, Page, PageRequest, ProjectId, ReleaseId, ReleaseState,
    Result, ServerId, StoreError, Unchanged,
};

/// A project.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = projects)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name, unique within an environment.
    pub title: String,
    /// The repository's address.
    pub repo: String,
    /// The repository's credential, if it is private.
    pub credential_id: Option<CredentialId>,
    /// The git host's SSH key that a person accepted.
    pub host_key: Option<String>,
    /// The environment it releases to.
    pub env: Environment,
    /// Its folder on its servers, relative to each server's root.
    pub path: String,
    /// The number of releases its servers keep, the current one included.
    pub keep: i32,
    /// The build command, run in the work tree; empty: none.
    pub build: String,
    /// The restart command, run on each server in `PATH/current`; empty: none.
    pub restart: String,
    /// A hook on the platform before the code is fetched; empty: none.
    pub before_download: String,
    /// A hook on the platform, in the work tree.
    pub after_download: String,
    /// A hook on each server, in the new release's folder, before the switch.
    pub before_deploy: String,
    /// A hook on each server, in `PATH/current`, after the restart.
    pub after_deploy: String,
    /// The way its servers carry over files that a release did not change.
    #[serde(default = "copies")]
    pub unchanged: Unchanged,
    /// The creation time.
    #[serde(skip_deserializing, default = "Moment::now")]
    pub created_at: Moment,
    /// The time of the last change.
    #[serde(skip_deserializing, default = "Moment::now")]
    pub updated_at: Moment,
    /// The number of commits fetched of each branch and tag; 0: all.
    #[serde(default)]
    pub depth: i32,
    /// True if submodules are released too.
    #[serde(default)]
    pub submodules: bool,
    /// The health check's command, run on each server in `PATH/current` after the restart; empty: none.
    #[serde(default)]
    pub health: String,
    /// The time limit for the health check to succeed on a server, in seconds.
    #[serde(default = "health_seconds")]
    pub health_seconds: i32,
    /// True if hooks, build and restart end at the first failing line (`set -e`).
    #[serde(default)]
    pub hooks_stop: bool,
    /// True if its commands run in the account's login shell, with the environment of its start-up
    /// files.
    #[serde(default)]
    pub login_shell: bool,
}

impl Project {
    /// True if a release is exactly one commit: nothing on the platform changes the tree, and it
    /// contains no other repository's files.
    pub fn is_released_as_committed(&self) -> bool {
        self.build.is_empty() && self.after_download.is_empty() && !self.submodules
    }
}

/// A project's values from a validated form.
#[derive(Debug, Clone, Insertable, AsChangeset)]
#[diesel(table_name = projects, treat_none_as_null = true)]
pub struct ProjectValues {
    /// See [`Project`].
    pub title: String,
    /// See [`Project`].
    pub repo: String,
    /// See [`Project`].
    pub credential_id: Option<CredentialId>,
    /// See [`Project`].
    pub env: Environment,
    /// See [`Project`].
    pub path: String,
    /// See [`Project`].
    pub keep: i32,
    /// See [`Project`].
    pub build: String,
    /// See [`Project`].
    pub restart: String,
    /// See [`Project`].
    pub before_download: String,
    /// See [`Project`].
    pub after_download: String,
    /// See [`Project`].
    pub before_deploy: String,
    /// See [`Project`].
    pub after_deploy: String,
    /// See [`Project`].
    pub depth: i32,
    /// See [`Project`].
    pub submodules: bool,
    /// See [`Project`].
    pub unchanged: Unchanged,
    /// See [`Project`].
    pub health: String,
    /// See [`Project`].
    pub health_seconds: i32,
    /// See [`Project`].
    pub hooks_stop: bool,
    /// See [`Project`].
    pub login_shell: bool,
}

/// The default time limit for the health check, in seconds.
pub const HEALTH_SECONDS: i32 = 30;

/// The meaning of plans stored by versions without this field.
fn copies() -> Unchanged {
    Unchanged::Copy
}

fn health_seconds() -> i32 {
    HEALTH_SECONDS
}

/// Adds a project with its servers.
///
/// # Errors
/// [`StoreError::Taken`] if the title is in use in its environment; database errors.
pub fn add(conn: &mut Conn, values: &ProjectValues, servers: &[ServerId]) -> Result<Project> {
    let now = Moment::now();
    let project: Project = diesel::insert_into(projects::table)
        .values((
            values,
            projects::created_at.eq(now),
            projects::updated_at.eq(now),
        ))
        .returning(Project::as_returning())
        .get_result(conn)
        .map_err(StoreError::taken("title"))?;
    set_servers(conn, project.id, servers)?;
    Ok(project)
}

/// Replaces a project's values and servers. Drops the accepted host key if the repository changes,
/// because it may be on another git host.
///
/// # Errors
/// [`StoreError::NotFound`] or [`StoreError::Taken`] for the title; database errors.
pub fn update(
    conn: &mut Conn,
    id: ProjectId,
    values: &ProjectValues,
    servers: &[ServerId],
) -> Result<Project> {
    let old = find(conn, id)?;
    let project = diesel::update(projects::table.find(id))
        .set((
            values,
            projects::host_key.eq(old.host_key.filter(|_| old.repo == values.repo)),
            projects::updated_at.eq(Moment::now()),
        ))
        .returning(Project::as_returning())
        .get_result(conn)
        .map_err(StoreError::taken("title"))?;
    set_servers(conn, id, servers)?;
    if old.path != values.path {
        let own = project_servers::table.filter(project_servers::project_id.eq(id));
        diesel::update(own)
            .set(project_servers::real_path.eq(None::<String>))
            .execute(conn)?;
    }
    Ok(project)
}

fn set_servers(conn: &mut Conn, id: ProjectId, servers: &[ServerId]) -> Result<()> {
    let left = project_servers::table
        .filter(project_servers::project_id.eq(id))
        .filter(project_servers::server_id.ne_all(servers));
    diesel::delete(left).execute(conn)?;
    for server in servers {
        diesel::insert_or_ignore_into(project_servers::table)
            .values((
                project_servers::project_id.eq(id),
                project_servers::server_id.eq(server),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// Pins the git host's key that a person accepted.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn set_host_key(conn: &mut Conn, id: ProjectId, host_key: &str) -> Result<()> {
    match diesel::update(projects::table.find(id))
        .set(projects::host_key.eq(host_key))
        .execute(conn)?
    {
        0 => Err(StoreError::NotFound {
            what: "project",
            id: id.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The project with this id.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn find(conn: &mut Conn, id: ProjectId) -> Result<Project> {
    projects::table
        .find(id)
        .select(Project::as_select())
        .first(conn)
        .map_err(StoreError::missing("project", id))
}

/// The ids of a project's servers.
///
/// # Errors
/// Database errors.
pub fn server_ids(conn: &mut Conn, id: ProjectId) -> Result<Vec<ServerId>> {
    Ok(project_servers::table
        .filter(project_servers::project_id.eq(id))
        .order(project_servers::server_id)
        .select(project_servers::server_id)
        .load(conn)?)
}

/// The ids of the servers of each of `projects`.
///
/// # Errors
/// Database errors.
pub fn server_ids_of(
    conn: &mut Conn,
    projects: &[ProjectId],
) -> Result<HashMap<ProjectId, Vec<ServerId>>> {
    let rows: Vec<(ProjectId, ServerId)> = project_servers::table
        .filter(project_servers::project_id.eq_any(projects))
        .order(project_servers::server_id)
        .select((project_servers::project_id, project_servers::server_id))
        .load(conn)?;
    let mut servers: HashMap<ProjectId, Vec<ServerId>> = HashMap::new();
    for (project, server) in rows {
        servers.entry(project).or_default().push(server);
    }
    Ok(servers)
}

/// A project's folder on one of its servers, as configured and as resolved.
#[derive(Debug, Clone, Queryable)]
pub struct PlacementRow {
    /// The project.
    pub project: ProjectId,
    /// Its title.
    pub title: String,
    /// Its path below the server's root.
    pub path: String,
    /// The resolved path of the folder, as of the last connection test.
    pub real_path: Option<String>,
    /// The server.
    pub server: Server,
}

/// The folders of every project on every server of its own.
///
/// # Errors
/// Those of the database.
pub fn placements(conn: &mut Conn) -> Result<Vec<PlacementRow>> {
    Ok(projects::table
        .inner_join(project_servers::table.inner_join(servers::table))
        .order((projects::id, servers::hostname))
        .select((
            projects::id,
            projects::title,
            projects::path,
            project_servers::real_path,
            Server::as_select(),
        ))
        .load(conn)?)
}

/// Stores the real path of a project's folder on a server.
///
/// # Errors
/// Those of the database.
pub fn set_real_path(
    conn: &mut Conn,
    project: ProjectId,
    server: ServerId,
    real_path: Option<&str>,
) -> Result<()> {
    diesel::update(project_servers::table.find((project, server)))
        .set(project_servers::real_path.eq(real_path))
        .execute(conn)?;
    Ok(())
}

/// One page of the projects, by title.
///
/// # Errors
/// Database errors.
pub fn page(conn: &mut Conn, request: PageRequest) -> Result<Page<Project>> {
    let total = projects::table.count().get_result(conn)?;
    request.place(total, |offset, limit| {
        projects::table
            .order((projects::title, projects::env, projects::id))
            .offset(offset)
            .limit(limit)
            .select(Project::as_select())
            .load(conn)
    })
}

/// True if any project exists.
///
/// # Errors
/// Database errors.
pub fn exist(conn: &mut Conn) -> Result<bool> {
    Ok(
        diesel::select(diesel::dsl::exists(projects::table.select(projects::id)))
            .get_result(conn)?,
    )
}

/// Every project, by title.
///
/// # Errors
/// Database errors.
pub fn all(conn: &mut Conn) -> Result<Vec<Project>> {
    Ok(projects::table
        .order((projects::title, projects::env))
        .select(Project::as_select())
        .load(conn)?)
}

/// Deletes a project with its releases, unless one is active. Files on the servers stay.
///
/// # Errors
/// [`StoreError::ReleaseActive`] or [`StoreError::NotFound`]; database errors.
pub fn delete(conn: &mut Conn, id: ProjectId) -> Result<()> {
    let active: Option<ReleaseId> = releases::table
        .filter(releases::project_id.eq(id))
        .filter(releases::state.eq_any(ReleaseState::ACTIVE))
        .select(releases::id)
        .first(conn)
        .optional()?;
    if let Some(active) = active {
        return Err(StoreError::ReleaseActive { active });
    }
    match diesel::delete(projects::table.find(id)).execute(conn)? {
        0 => Err(StoreError::NotFound {
            what: "project",
            id: id.to_string(),
        }),
        _ => Ok(()),
    }
}
