//! Records a release's changes: each change of state is checked, stored and appended to the message
//! log in one transaction.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::said::Message;
use super::state;
use super::tree::{node_data, release_data};
use crate::store::nodes::{self, Node};
use crate::store::releases::{self, Release, ReleaseChange};
use crate::store::{
    Conn, Moment, NewEvent, NodeState, ProjectId, ReleaseId, Result, Store, StoreError,
};

/// The pause before the first retry of a write.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause; the pauses double.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The room with the messages of all releases.
pub const RELEASES: &str = "releases";

/// The room of one release.
pub fn room(release: ReleaseId) -> String {
    format!("release/{release}")
}

/// The room of one project.
pub fn project_room(project: ProjectId) -> String {
    format!("project/{project}")
}

/// Announces in the rooms of `projects` that a fetch of their repository has ended. `fetched_at` is
/// the time of the last successful fetch, `ok` is true if this fetch succeeded.
pub(super) fn announce_refs<'a>(
    store: &Store,
    projects: impl IntoIterator<Item = &'a ProjectId>,
    fetched_at: Option<Moment>,
    ok: bool,
) -> Result<()> {
    let now = Moment::now();
    let of = |project: &ProjectId| {
        let data = serde_json::json!({
            "id": project,
            "what": "refs",
            "version": now.0,
            "ok": ok,
            "fetched_at": fetched_at,
        });
        event(project_room(*project), "project", &data)
    };
    let events: Vec<NewEvent> = projects.into_iter().map(of).collect();
    store.record(|_, log| {
        log.extend(events);
        Ok(())
    })?;
    Ok(())
}

fn event(room: String, kind: &str, data: &Value) -> NewEvent {
    NewEvent {
        room,
        kind: kind.to_owned(),
        sender: String::new(),
        data: data.to_string(),
        at: Moment::now(),
    }
}

/// Announces a change of `release` in its room and in [`RELEASES`].
pub(super) fn announce(release: &Release, log: &mut Vec<NewEvent>) {
    let data = release_data(release);
    log.push(event(room(release.id), "release", &data));
    log.push(event(RELEASES.to_owned(), "release", &data));
}

fn announce_node(node: &Node, log: &mut Vec<NewEvent>) {
    log.push(event(room(node.release_id), "node", &node_data(node)));
}

/// Ends the active nodes of a release: running ones become `running_to`, waiting ones `waiting_to`.
pub(super) fn end_nodes(
    conn: &mut Conn,
    log: &mut Vec<NewEvent>,
    release: ReleaseId,
    running_to: (NodeState, &Message),
    waiting_to: NodeState,
) -> Result<()> {
    for node in nodes::of_release(conn, release)? {
        let (to, message) = match node.state {
            NodeState::Running => (running_to.0, running_to.1.stored()),
            NodeState::Waiting => (waiting_to, String::new()),
            _ => continue,
        };
        announce_node(&nodes::set_state(conn, &node, to, &message)?, log);
    }
    Ok(())
}

/// Changes a release if its state allows it. `None` if its version has changed meanwhile.
pub(super) fn change_release(
    conn: &mut Conn,
    log: &mut Vec<NewEvent>,
    release: &Release,
    change: &ReleaseChange,
) -> Result<Option<Release>> {
    if let Some(to) = change.state
        && !state::release_may(release.state, to)
    {
        return Err(StoreError::IllegalChange {
            what: format!("release {}", release.id),
            from: release.state.as_str(),
            to: to.as_str(),
        });
    }
    let changed = releases::change(conn, release.id, release.version, change)?;
    if let Some(changed) = &changed {
        announce(changed, log);
    }
    Ok(changed)
}

/// Records one release.
#[derive(Clone)]
pub(super) struct Recorder {
    store: Store,
    release: ReleaseId,
}

impl Recorder {
    pub(super) fn new(store: Store, release: ReleaseId) -> Self {
        Self { store, release }
    }

    /// Changes the state of a node to `to`. Retries while the database is locked or the disk is full.
    ///
    /// # Errors
    /// [`StoreError::IllegalChange`] if the node's state does not allow it; other faults of the
    /// database.
    pub(super) fn node(&self, key: &str, to: NodeState, message: &Message) -> Result<()> {
        self.until_written(|| {
            self.store.record(|conn, log| {
                let node = nodes::find(conn, self.release, key)?;
                if !state::node_may(node.state, to) {
                    return Err(StoreError::IllegalChange {
                        what: format!("node {key} of release {}", self.release),
                        from: node.state.as_str(),
                        to: to.as_str(),
                    });
                }
                announce_node(&nodes::set_state(conn, &node, to, &message.stored())?, log);
                Ok(())
            })?;
            Ok(())
        })
    }

    /// Sets the progress note of a running node. A node that has ended keeps its last note.
    pub(super) fn progress(&self, key: &str, progress: &str) -> Result<()> {
        self.store.record(|conn, log| {
            let node = nodes::find(conn, self.release, key)?;
            if node.state == NodeState::Running {
                announce_node(&nodes::set_progress(conn, &node, progress)?, log);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Changes the release itself. Retries while the database is locked or the disk is full.
    ///
    /// # Errors
    /// Those of [`node`](Self::node).
    pub(super) fn release(&self, change: &ReleaseChange) -> Result<()> {
        self.until_written(|| {
            self.store.record(|conn, log| {
                let release = releases::find(conn, self.release)?;
                change_release(conn, log, &release, change)?;
                Ok(())
            })?;
            Ok(())
        })
    }

    /// Ends the release with its active nodes. Retries while the database is locked or the disk is
    /// full.
    ///
    /// # Errors
    /// Those of [`node`](Self::node).
    pub(super) fn end(
        &self,
        running_to: (NodeState, &Message),
        waiting_to: NodeState,
        decide: impl Fn(&[Node]) -> ReleaseChange,
    ) -> Result<()> {
        self.until_written(|| self.try_end(running_to, waiting_to, &decide))
    }

    /// [`end`](Self::end) without retries. A release that has ended stays as it is.
    ///
    /// # Errors
    /// The database fails.
    pub(super) fn try_end(
        &self,
        running_to: (NodeState, &Message),
        waiting_to: NodeState,
        decide: impl Fn(&[Node]) -> ReleaseChange,
    ) -> Result<()> {
        self.store.record(|conn, log| {
            let release = releases::find(conn, self.release)?;
            if !release.state.is_active() {
                return Ok(());
            }
            end_nodes(conn, log, self.release, running_to, waiting_to)?;
            let change = decide(&nodes::of_release(conn, self.release)?);
            change_release(conn, log, &release, &change)?;
            Ok(())
        })?;
        Ok(())
    }

    /// Retries `write` while the database is locked or its disk is full. A lost write would leave the
    /// release active for ever.
    fn until_written(&self, write: impl Fn() -> Result<()>) -> Result<()> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match write() {
                Err(error) if error.is_passing() => {
                    if pause == SHORTEST_PAUSE {
                        tracing::warn!(release = %self.release, %error, "not written down yet; trying again");
                    }
                }
                done => return done,
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Appends a piece of a node's log to the release's room.
    pub(super) fn log_text(&self, key: &str, offset: u64, text: &str) -> Result<()> {
        let data = serde_json::json!({ "key": key, "offset": offset, "text": text });
        self.store.record(|_, log| {
            log.push(event(room(self.release), "log", &data));
            Ok(())
        })?;
        Ok(())
    }
}
