//! Nodes: the vertices of a release's plan.

use diesel::prelude::*;
use serde::Serialize;

use super::schema::{nodes, releases};
use super::{
    Conn, Moment, NodeState, ProjectId, ReleaseId, ReleaseKind, Result, ServerId, StoreError,
};

/// A node.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = nodes)]
pub struct Node {
    /// The release it belongs to.
    pub release_id: ReleaseId,
    /// Its name within the plan.
    pub key: String,
    /// The node that must succeed before it.
    pub parent: Option<String>,
    /// Its position in the plan; higher than its parent's.
    pub position: i32,
    /// Its step, see `deploy::plan::Step`.
    pub step: String,
    /// The server it acts on; none: the platform.
    pub server_id: Option<ServerId>,
    /// That server's name at the time of planning.
    pub server_name: Option<String>,
    /// Its state.
    pub state: NodeState,
    /// The reason it is not `succeeded`, as `deploy::Message` is stored.
    pub message: String,
    /// Its current activity in a word or two, while it runs.
    pub progress: String,
    /// Incremented by each change.
    pub version: i64,
    /// The time it started to run.
    pub started_at: Option<Moment>,
    /// The time it ended.
    pub finished_at: Option<Moment>,
}

/// A node of a plan not yet stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// See [`Node`].
    pub key: String,
    /// See [`Node`].
    pub parent: Option<String>,
    /// See [`Node`].
    pub step: String,
    /// See [`Node`].
    pub server: Option<(ServerId, String)>,
}

/// Stores a plan.
pub(super) fn add(conn: &mut Conn, release: ReleaseId, new: &[NewNode]) -> Result<()> {
    for (position, node) in (0..).zip(new) {
        diesel::insert_into(nodes::table)
            .values((
                nodes::release_id.eq(release),
                nodes::key.eq(&node.key),
                nodes::parent.eq(&node.parent),
                nodes::position.eq::<i32>(position),
                nodes::step.eq(&node.step),
                nodes::server_id.eq(node.server.as_ref().map(|(id, _)| *id)),
                nodes::server_name.eq(node.server.as_ref().map(|(_, name)| name)),
                nodes::state.eq(NodeState::Waiting),
                nodes::message.eq(""),
                nodes::progress.eq(""),
                nodes::version.eq(1),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// The nodes of a release, parents before children.
///
/// # Errors
/// Database errors.
pub fn of_release(conn: &mut Conn, release: ReleaseId) -> Result<Vec<Node>> {
    Ok(nodes::table
        .filter(nodes::release_id.eq(release))
        .order(nodes::position)
        .select(Node::as_select())
        .load(conn)?)
}

/// The node `key` of a release.
///
/// # Errors
/// [`StoreError::NotFound`]; database errors.
pub fn find(conn: &mut Conn, release: ReleaseId, key: &str) -> Result<Node> {
    nodes::table
        .find((release, key))
        .select(Node::as_select())
        .first(conn)
        .map_err(StoreError::missing("node", key))
}

/// Moves `node` (as read in this transaction) to `state`, with a message that says why.
///
/// # Errors
/// Database errors.
pub fn set_state(conn: &mut Conn, node: &Node, state: NodeState, message: &str) -> Result<Node> {
    let now = Moment::now();
    let (started, finished) = match state {
        NodeState::Waiting => (None, None),
        NodeState::Running => (Some(now), None),
        _ => (node.started_at, Some(now)),
    };
    Ok(
        diesel::update(nodes::table.find((node.release_id, &node.key)))
            .set((
                nodes::state.eq(state),
                nodes::message.eq(message),
                nodes::progress.eq(""),
                nodes::version.eq(node.version + 1),
                nodes::started_at.eq(started),
                nodes::finished_at.eq(finished),
            ))
            .returning(Node::as_returning())
            .get_result(conn)?,
    )
}

/// Records a running node's current activity.
///
/// # Errors
/// Database errors.
pub fn set_progress(conn: &mut Conn, node: &Node, progress: &str) -> Result<Node> {
    Ok(
        diesel::update(nodes::table.find((node.release_id, &node.key)))
            .set((
                nodes::progress.eq(progress),
                nodes::version.eq(node.version + 1),
            ))
            .returning(Node::as_returning())
            .get_result(conn)?,
    )
}

/// The number of a server's releases that are examined, newest first.
const LOOK_BACK: i64 = 500;

/// A release sent to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The release.
    pub release: ReleaseId,
    /// True if all its steps on that server succeeded.
    pub is_whole: bool,
}

/// The releases of `project`, except `current`, whose upload to `server` has begun, newest first,
/// at most 500. Any other folder there does not belong to this project.
///
/// # Errors
/// Database errors.
pub fn sent_to(
    conn: &mut Conn,
    project: ProjectId,
    server: ServerId,
    current: ReleaseId,
) -> Result<Vec<Sent>> {
    let sent: Vec<ReleaseId> = nodes::table
        .inner_join(releases::table)
        .filter(releases::project_id.eq(project))
        .filter(releases::kind.eq(ReleaseKind::Deploy))
        .filter(releases::id.ne(current))
        .filter(nodes::server_id.eq(server))
        .filter(nodes::step.eq("upload"))
        .filter(nodes::started_at.is_not_null())
        .order(releases::id.desc())
        .limit(LOOK_BACK)
        .select(releases::id)
        .load(conn)?;
    let unfinished: Vec<ReleaseId> = nodes::table
        .filter(nodes::release_id.eq_any(&sent))
        .filter(nodes::server_id.eq(server))
        .filter(nodes::state.ne(NodeState::Succeeded))
        .select(nodes::release_id)
        .distinct()
        .load(conn)?;
    let sent = sent.into_iter().map(|release| Sent {
        release,
        is_whole: !unfinished.contains(&release),
    });
    Ok(sent.collect())
}

/// The servers on which every step of `release` succeeded.
///
/// # Errors
/// Database errors.
pub fn servers_reached(conn: &mut Conn, release: ReleaseId) -> Result<Vec<ServerId>> {
    let all = of_release(conn, release)?;
    let mut servers: Vec<ServerId> = all.iter().filter_map(|node| node.server_id).collect();
    servers.sort_unstable();
    servers.dedup();
    servers.retain(|server| {
        all.iter()
            .filter(|node| node.server_id == Some(*server))
            .all(|node| node.state == NodeState::Succeeded)
    });
    Ok(servers)
}
