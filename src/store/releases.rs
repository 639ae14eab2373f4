//! Releases, each one attempt to bring a revision to a project's servers.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use serde::Serialize;

use super::nodes::{self, NewNode};
use super::schema::{projects, releases};
use super::{
    Conn, Environment, Moment, Page, PageRequest, ProjectId, ReleaseId, ReleaseKind, ReleaseState,
    Result, StoreError,
};

/// A release.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = releases)]
pub struct Release {
    /// Its id, also the name of its folder on the servers.
    pub id: ReleaseId,
    /// The project.
    pub project_id: ProjectId,
    /// The kind of release.
    pub kind: ReleaseKind,
    /// The target of a rollback: the release that `current` points back to.
    pub target_id: Option<ReleaseId>,
    /// The requested branch, tag or commit.
    #[serde(rename = "ref")]
    pub revision: String,
    /// The commit the revision was resolved to, once known.
    #[serde(rename = "commit")]
    pub commit_id: Option<String>,
    /// The first line of the commit's message.
    pub summary: String,
    /// Its state.
    pub state: ReleaseState,
    /// The reason it is not `succeeded`: server, step and cause, as `deploy::Message` is stored.
    pub message: String,
    /// The account that requested it.
    pub requested_by: String,
    /// The project and servers at that time, in the format of `deploy::plan`.
    #[serde(skip)]
    pub spec: String,
    /// Incremented by each change.
    pub version: i64,
    /// The time it was requested.
    pub created_at: Moment,
    /// The time a worker took it.
    pub started_at: Option<Moment>,
    /// The time it ended.
    pub finished_at: Option<Moment>,
}

/// A requested release.
#[derive(Debug, Clone)]
pub struct NewRelease {
    /// See [`Release`].
    pub project_id: ProjectId,
    /// See [`Release`].
    pub kind: ReleaseKind,
    /// See [`Release`].
    pub target_id: Option<ReleaseId>,
    /// See [`Release`].
    pub revision: String,
    /// See [`Release`].
    pub commit_id: Option<String>,
    /// See [`Release`].
    pub summary: String,
    /// See [`Release`].
    pub requested_by: String,
    /// See [`Release`].
    pub spec: String,
    /// Its plan, parents before children.
    pub nodes: Vec<NewNode>,
}

/// Stores a release as queued, with its plan.
///
/// # Errors
/// [`StoreError::ReleaseActive`] if its project has an active release; database errors.
pub fn add(conn: &mut Conn, new: &NewRelease) -> Result<Release> {
    let inserted = diesel::insert_into(releases::table)
        .values((
            releases::project_id.eq(new.project_id),
            releases::kind.eq(new.kind),
            releases::target_id.eq(new.target_id),
            releases::revision.eq(&new.revision),
            releases::commit_id.eq(&new.commit_id),
            releases::summary.eq(&new.summary),
            releases::state.eq(ReleaseState::Queued),
            releases::message.eq(""),
            releases::requested_by.eq(&new.requested_by),
            releases::spec.eq(&new.spec),
            releases::version.eq(1),
            releases::created_at.eq(Moment::now()),
        ))
        .returning(Release::as_returning())
        .get_result(conn);
    let release = match inserted {
        Ok(release) => release,
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            let active = active_of_project(conn, new.project_id)?;
            return Err(match active {
                Some(active) => StoreError::ReleaseActive { active },
                None => StoreError::Taken {
                    field: "project_id",
                },
            });
        }
        Err(other) => return Err(other.into()),
    };
    nodes::add(conn, release.id, &new.nodes)?;
    Ok(release)
}

/// The project's active release.
///
/// # Errors
/// Database errors.
pub fn active_of_project(conn: &mut Conn, project: ProjectId) -> Result<Option<ReleaseId>> {
    Ok(releases::table
        .filter(releases::project_id.eq(project))
        .filter(releases::state.eq_any(ReleaseState::ACTIVE))
        .select(releases::id)
        .first(conn)
        .optional()?)
}

/// Every active release, oldest first.
///
/// # Errors
/// Database errors.
pub fn active_ones(conn: &mut Conn) -> Result<Vec<Release>> {
    Ok(releases::table
        .filter(releases::state.eq_any(ReleaseState::ACTIVE))
        .order(releases::id)
        .select(Release::as_select())
        .load(conn)?)
}

/// The number of releases in each state that has any.
///
/// # Errors
/// Database errors.
pub fn count_by_state(conn: &mut Conn) -> Result<Vec<(ReleaseState, i64)>> {
    Ok(releases::table
        .group_by(releases::state)
        .select((releases::state, diesel::dsl::count_star()))
        .load(conn)?)
}

/// The release with this id.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn find(conn: &mut Conn, id: ReleaseId) -> Result<Release> {
    releases::table
        .find(id)
        .select(Release::as_select())
        .first(conn)
        .map_err(StoreError::missing("release", id))
}

/// A change of a release.
#[derive(Debug, Clone, Default)]
pub struct ReleaseChange {
    /// The next state.
    pub state: Option<ReleaseState>,
    /// The reason for its end.
    pub message: Option<String>,
    /// The commit the revision was resolved to, and its summary.
    pub commit: Option<(String, String)>,
}

/// Applies `change` if the release still has `version`; `None` if it was changed meanwhile.
///
/// # Errors
/// Database errors.
pub fn change(
    conn: &mut Conn,
    id: ReleaseId,
    version: i64,
    change: &ReleaseChange,
) -> Result<Option<Release>> {
    #[derive(AsChangeset)]
    #[diesel(table_name = releases)]
    struct Columns<'a> {
        state: Option<ReleaseState>,
        message: Option<&'a str>,
        commit_id: Option<&'a str>,
        summary: Option<&'a str>,
        version: i64,
        started_at: Option<Moment>,
        finished_at: Option<Moment>,
    }
    let now = Moment::now();
    let columns = Columns {
        state: change.state,
        message: change.message.as_deref(),
        commit_id: change.commit.as_ref().map(|(id, _)| id.as_str()),
        summary: change.commit.as_ref().map(|(_, summary)| summary.as_str()),
        version: version + 1,
        started_at: (change.state == Some(ReleaseState::Running)).then_some(now),
        finished_at: change
            .state
            .is_some_and(|state| !state.is_active())
            .then_some(now),
    };
    Ok(diesel::update(
        releases::table
            .find(id)
            .filter(releases::version.eq(version)),
    )
    .set(columns)
    .returning(Release::as_returning())
    .get_result(conn)
    .optional()?)
}

/// A release as lists show it.
#[derive(Debug, Clone, Queryable, Serialize)]
pub struct ReleaseRow {
    /// The release itself.
    #[serde(flatten)]
    pub release: Release,
    /// Its project's title.
    pub project_title: String,
    /// Its project's environment.
    pub project_env: Environment,
}

/// The release with this id, as lists show it.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn row(conn: &mut Conn, id: ReleaseId) -> Result<ReleaseRow> {
    releases::table
        .inner_join(projects::table)
        .filter(releases::id.eq(id))
        .select((Release::as_select(), projects::title, projects::env))
        .first(conn)
        .map_err(StoreError::missing("release", id))
}

/// One page of the releases of one project or of all, newest first.
///
/// # Errors
/// Database errors.
pub fn page(
    conn: &mut Conn,
    project: Option<ProjectId>,
    request: PageRequest,
) -> Result<Page<ReleaseRow>> {
    let total = match project {
        Some(project) => releases::table
            .filter(releases::project_id.eq(project))
            .count()
            .get_result(conn)?,
        None => releases::table.count().get_result(conn)?,
    };
    request.place(total, |offset, limit| {
        let mut query = releases::table
            .inner_join(projects::table)
            .order(releases::id.desc())
            .offset(offset)
            .limit(limit)
            .select((Release::as_select(), projects::title, projects::env))
            .into_boxed();
        if let Some(project) = project {
            query = query.filter(releases::project_id.eq(project));
        }
        query.load(conn)
    })
}

/// The newest release of each of `projects`; projects without releases are absent.
///
/// # Errors
/// Database errors.
pub fn newest_of(
    conn: &mut Conn,
    projects: &[ProjectId],
) -> Result<HashMap<ProjectId, (ReleaseId, ReleaseState)>> {
    let newest: Vec<Option<ReleaseId>> = releases::table
        .filter(releases::project_id.eq_any(projects))
        .group_by(releases::project_id)
        .select(diesel::dsl::max(releases::id))
        .load(conn)?;
    let newest: Vec<ReleaseId> = newest.into_iter().flatten().collect();
    let rows: Vec<(ProjectId, ReleaseId, ReleaseState)> = releases::table
        .filter(releases::id.eq_any(newest))
        .select((releases::project_id, releases::id, releases::state))
        .load(conn)?;
    let of_project = |(project, id, state)| (project, (id, state));
    Ok(rows.into_iter().map(of_project).collect())
}

/// The release whose files were live before `release`: those of the newest earlier success. `None`
/// if nothing had succeeded, or if those are the files of `release` itself.
///
/// # Errors
/// Database errors.
pub fn live_before(conn: &mut Conn, release: &Release) -> Result<Option<Release>> {
    let files = release.target_id.unwrap_or(release.id);
    newest_success(conn, release.project_id, release.id)?
        .map(|(_, before)| before)
        .filter(|before| *before != files)
        .map(|before| find(conn, before))
        .transpose()
}

/// The release that brought the files of the newest success of `project`: a rollback counts as its
/// target.
///
/// # Errors
/// Database errors.
pub fn last_success(conn: &mut Conn, project: ProjectId) -> Result<Option<Release>> {
    newest_success(conn, project, NEWEST)?
        .map(|(_, files)| find(conn, files))
        .transpose()
}

/// An id greater than that of any release.
const NEWEST: ReleaseId = ReleaseId(i64::MAX);

/// The newest success of `project` before `before`, and the release that brought its files.
fn newest_success(
    conn: &mut Conn,
    project: ProjectId,
    before: ReleaseId,
) -> Result<Option<(ReleaseId, ReleaseId)>> {
    let newest: Option<(ReleaseId, Option<ReleaseId>)> = releases::table
        .filter(releases::project_id.eq(project))
        .filter(releases::state.eq(ReleaseState::Succeeded))
        .filter(releases::id.lt(before))
        .order(releases::id.desc())
        .select((releases::id, releases::target_id))
        .first(conn)
        .optional()?;
    Ok(newest.map(|(id, target)| (id, target.unwrap_or(id))))
}

/// The release whose files are live on all servers of `project`, as far as the platform knows: that
/// of its newest success, unless a later release has switched a server to its own files.
///
/// # Errors
/// Database errors.
pub fn live(conn: &mut Conn, project: ProjectId) -> Result<Option<ReleaseId>> {
    use super::schema::nodes::dsl as node;
    let Some((id, files)) = newest_success(conn, project, NEWEST)? else {
        return Ok(None);
    };
    let later: Vec<ReleaseId> = releases::table
        .filter(releases::project_id.eq(project))
        .filter(releases::id.gt(id))
        .select(releases::id)
        .load(conn)?;
    let switched_later = node::nodes
        .filter(node::release_id.eq_any(later))
        .filter(node::step.eq("switch"))
        .filter(node::started_at.is_not_null());
    let switched_later = diesel::select(diesel::dsl::exists(switched_later)).get_result(conn)?;
    Ok(if switched_later { None } else { Some(files) })
}
