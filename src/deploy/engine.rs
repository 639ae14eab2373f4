//! The engine's interface: submit, cancel, roll back.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::check::CHECKS_OF_SERVER;
use super::credentials::Keyring;
use super::error::DeployError;
use super::fetches::Fetches;
use super::local::Account;
use super::node_log::{self, NodeLog};
use super::placement::{self, Placement, Resolved};
use super::plan::{self, Spec};
use super::recorder::{self, Recorder};
use super::run::{Stop, StopReason};
use super::said::Message;
use super::{Options, platform, worker};
use crate::git::{CommitId, Mirrors, UrlPolicy, check_revision};
use crate::pools::Shares;
use crate::secret::Vault;
use crate::store::nodes;
use crate::store::releases::{self, NewRelease, Release, ReleaseChange};
use crate::store::{
    NodeState, ProjectId, ReleaseId, ReleaseKind, ReleaseState, ServerId, Store, StoreError,
    projects, servers,
};

/// The number of attempts to cancel a release that changes state meanwhile.
const CANCEL_TRIES: usize = 50;
/// The pause between two such attempts.
const CANCEL_PAUSE: Duration = Duration::from_millis(20);

/// A request for a release.
#[derive(Clone, Debug)]
pub struct Order {
    /// The project to release.
    pub project: ProjectId,
    /// A branch, tag or commit.
    pub revision: String,
    /// The commit that a person saw for the revision and confirmed. It is released even if the branch
    /// has moved since.
    pub commit: Option<CommitId>,
    /// The account that requests the release.
    pub by: String,
}

/// The release engine; clones share it.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) keyring: Keyring,
    pub(super) mirrors: Mirrors,
    pub(super) options: Options,
    pub(super) fetches: Fetches,
    pub(super) checks: Shares<ServerId>,
    dispatch: Mutex<Dispatch>,
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct Dispatch {
    /// True if a release was queued or a worker became free since the last look.
    pub(super) woken: bool,
    pub(super) ending: bool,
    pub(super) running: HashMap<ReleaseId, Stop>,
}

impl Engine {
    /// An engine that does not run yet. Releases that were active when the platform last ended become
    /// `interrupted` here, which frees their projects.
    ///
    /// # Errors
    /// The account `run_as` does not exist, the work folder cannot be prepared, or the database fails.
    pub fn new(
        store: Store,
        vault: Vault,
        mirrors: Mirrors,
        policy: UrlPolicy,
        options: Options,
    ) -> Result<Self, DeployError> {
        if let Some(name) = &options.run_as {
            Account::find(name).map_err(|error| DeployError::Account(error.to_string()))?;
        }
        platform::prepare_work_folder(&options.work).map_err(DeployError::file(&options.work))?;
        let keyring = Keyring {
            store: store.clone(),
            vault,
            policy,
            ssh: options.ssh.clone(),
        };
        let fetches = Fetches::new(super::repository::on_fetched(&store));
        let engine = Self(Arc::new(Inner {
            store,
            keyring,
            mirrors,
            options,
            fetches,
            checks: Shares::new(CHECKS_OF_SERVER),
            dispatch: Mutex::default(),
            changed: Condvar::new(),
        }));
        engine.interrupt_active()?;
        let work = &engine.0.options.work;
        engine
            .sweep_work_folder_beside()
            .map_err(DeployError::file(work))?;
        Ok(engine)
    }

    fn interrupt_active(&self) -> Result<(), StoreError> {
        for release in self.0.store.read(releases::active_ones)? {
            self.end_abandoned(release.id, &Message::platform_stopped())?;
            tracing::warn!(release = %release.id, "interrupted: it was active when the platform ended");
        }
        Ok(())
    }

    /// Ends an active release that has no worker, with the reason `why`.
    fn end_abandoned(&self, id: ReleaseId, why: &Message) -> Result<(), StoreError> {
        Recorder::new(self.0.store.clone(), id).try_end(
            (NodeState::Interrupted, why),
            NodeState::Skipped,
            |nodes| worker::abandoned(nodes, why),
        )
    }

    /// Ends releases that run in the database but have no worker: the worker crashed, or the database
    /// did not accept the release's end.
    pub(super) fn sweep_abandoned(&self) -> Result<(), StoreError> {
        for release in self.0.store.read(releases::active_ones)? {
            if release.state != ReleaseState::Running || self.is_running(release.id) {
                continue;
            }
            self.end_abandoned(release.id, &Message::platform_failed())?;
            tracing::error!(release = %release.id, "ended: it was running without a worker");
        }
        Ok(())
    }

    fn is_running(&self, id: ReleaseId) -> bool {
        self.lock().running.contains_key(&id)
    }

    /// The reason why commands on the platform have no full sandbox. `None` if they have.
    pub fn unconfined(&self) -> Option<&str> {
        let sandbox = &self.0.options.sandbox;
        match sandbox.isolation().confines() {
            true => None,
            false => Some(sandbox.refusal().unwrap_or("build_sandbox = \"off\"")),
        }
    }

    /// Starts the dispatcher.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(&self) -> std::io::Result<()> {
        let engine = self.clone();
        thread::Builder::new()
            .name("dispatcher".to_owned())
            .spawn(move || engine.dispatch())?;
        Ok(())
    }

    /// Takes no more releases and stops those that run, which become `interrupted`. True if all of
    /// them ended within `patience`.
    pub fn stop(&self, patience: Duration) -> bool {
        let mut dispatch = self.lock();
        dispatch.ending = true;
        for stop in dispatch.running.values() {
            stop.stop(StopReason::Interrupted);
        }
        self.0.changed.notify_all();
        let deadline = Instant::now() + patience;
        while !dispatch.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            dispatch = self
                .0
                .changed
                .wait_timeout(dispatch, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Dispatch> {
        self.0
            .dispatch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The project and its servers as they are now. Refused if a server's folder is shared with
    /// another project.
    fn spec(&self, project: ProjectId) -> Result<Spec, DeployError> {
        let (spec, placed) = self.0.store.read(|conn| {
            let spec = Spec {
                project: projects::find(conn, project)?,
                servers: servers::of_project(conn, project)?,
            };
            Ok((spec, projects::placements(conn)?))
        })?;
        if spec.servers.is_empty() {
            return Err(DeployError::NoServers);
        }
        let (own, others): (Vec<_>, Vec<_>) = placed.iter().partition(|row| row.project == project);
        let own: Vec<Placement> = own.into_iter().map(Placement::from).collect();
        let others: Vec<Placement> = others.into_iter().map(Placement::from).collect();
        let (known, data) = (Resolved::default(), &self.0.options.data);
        match placement::clashes(&own, &others, &known, data).next() {
            Some(clash) => Err(DeployError::Shared(clash)),
            None => Ok(spec),
        }
    }

    /// Plans a release and queues it.
    ///
    /// # Errors
    /// [`StoreError::ReleaseActive`] if the project has an active release; no valid revision name; no
    /// servers; a folder shared with another project; the database fails. A revision that does not
    /// exist fails the release's download instead.
    pub fn submit(&self, order: Order) -> Result<Release, DeployError> {
        check_revision(&order.revision)?;
        let spec = self.spec(order.project)?;
        self.queue(NewRelease {
            project_id: order.project,
            kind: ReleaseKind::Deploy,
            target_id: None,
            revision: order.revision,
            commit_id: order.commit.map(|commit| commit.to_string()),
            summary: String::new(),
            requested_by: order.by,
            nodes: plan::deploy(&spec),
            spec: encode(&spec)?,
        })
    }

    /// Queues a release that points `current` back to the files of `target`, without an upload.
    ///
    /// # Errors
    /// [`DeployError::NotKept`] if `target` did not succeed on any server; otherwise as
    /// [`submit`](Self::submit).
    pub fn roll_back(&self, target: ReleaseId, by: &str) -> Result<Release, DeployError> {
        let asked = self.0.store.read(|conn| releases::find(conn, target))?;
        let kept = asked.target_id.unwrap_or(asked.id);
        let (kept, reached) = self.0.store.read(|conn| {
            Ok((
                releases::find(conn, kept)?,
                nodes::servers_reached(conn, kept)?,
            ))
        })?;
        if reached.is_empty() {
            return Err(DeployError::NotKept {
                id: target,
                why: "did not succeed on any server",
            });
        }
        let spec = self.spec(kept.project_id)?;
        self.queue(NewRelease {
            project_id: kept.project_id,
            kind: ReleaseKind::Rollback,
            target_id: Some(kept.id),
            revision: kept.revision,
            commit_id: kept.commit_id,
            summary: kept.summary,
            requested_by: by.to_owned(),
            nodes: plan::rollback(&spec),
            spec: encode(&spec)?,
        })
    }

    /// Repeats release `id`: the same commit, or the same rollback.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit) and [`roll_back`](Self::roll_back).
    pub fn redeploy(&self, id: ReleaseId, by: &str) -> Result<Release, DeployError> {
        let earlier = self.0.store.read(|conn| releases::find(conn, id))?;
        match earlier.target_id {
            Some(target) => self.roll_back(target, by),
            None => self.submit(Order {
                project: earlier.project_id,
                revision: earlier.commit_id.unwrap_or(earlier.revision),
                commit: None,
                by: by.to_owned(),
            }),
        }
    }

    fn queue(&self, new: NewRelease) -> Result<Release, DeployError> {
        let (release, _) = self.0.store.record(|conn, log| {
            let release = releases::add(conn, &new)?;
            recorder::announce(&release, log);
            Ok(release)
        })?;
        tracing::info!(release = %release.id, project = %release.project_id, revision = release.revision, by = release.requested_by, "queued");
        self.wake();
        Ok(release)
    }

    /// Stops an active release. A queued release, or one without a worker, is cancelled at once. A
    /// running one ends within seconds, with a message in its room.
    ///
    /// # Errors
    /// [`DeployError::Ended`] if it has ended already, or the database fails.
    pub fn cancel(&self, id: ReleaseId, by: &str) -> Result<Release, DeployError> {
        let mut told = false;
        let mut was_running = false;
        for _ in 0..CANCEL_TRIES {
            if let Some(stop) = self.lock().running.get(&id) {
                stop.stop(StopReason::Cancelled);
                told = true;
                tracing::info!(release = %id, by, "cancel asked for");
            }
            let release = self.0.store.read(|conn| releases::find(conn, id))?;
            match release.state {
                ReleaseState::Running if told => return Ok(release),
                ReleaseState::Queued => {
                    if let Some(cancelled) = self.cancel_queued(&release)? {
                        tracing::info!(release = %id, by, "cancelled in the queue");
                        return Ok(cancelled);
                    }
                }
                // Claimed after the workers were checked: check them again.
                ReleaseState::Running if !was_running => was_running = true,
                ReleaseState::Running => {
                    self.cancel_abandoned(id)?;
                    tracing::warn!(release = %id, by, "cancelled: it was running without a worker");
                    return Ok(self.0.store.read(|conn| releases::find(conn, id))?);
                }
                // Claimed and ended between two attempts, by this cancel.
                ReleaseState::Cancelled if told => return Ok(release),
                state => return Err(DeployError::Ended { id, state }),
            }
            thread::sleep(CANCEL_PAUSE);
        }
        Ok(self.0.store.read(|conn| releases::find(conn, id))?)
    }

    fn cancel_abandoned(&self, id: ReleaseId) -> Result<(), StoreError> {
        Recorder::new(self.0.store.clone(), id).try_end(
            (NodeState::Cancelled, &Message::default()),
            NodeState::Cancelled,
            |nodes| worker::ending(nodes, Some(StopReason::Cancelled)),
        )
    }

    fn cancel_queued(&self, release: &Release) -> Result<Option<Release>, StoreError> {
        let change = ReleaseChange {
            state: Some(ReleaseState::Cancelled),
            ..ReleaseChange::default()
        };
        let (changed, _) = self.0.store.record(|conn, log| {
            let Some(changed) = recorder::change_release(conn, log, release, &change)? else {
                return Ok(None);
            };
            recorder::end_nodes(
                conn,
                log,
                release.id,
                (NodeState::Cancelled, &Message::default()),
                NodeState::Cancelled,
            )?;
            Ok(Some(changed))
        })?;
        Ok(changed)
    }

    /// A node's log from byte `offset` on.
    ///
    /// # Errors
    /// The release has no such node, the log cannot be read, or the database fails.
    pub fn read_log(&self, id: ReleaseId, key: &str, offset: u64) -> Result<NodeLog, DeployError> {
        let node = self.0.store.read(|conn| nodes::find(conn, id, key))?;
        let path = node_log::path(&self.0.options.logs, id, &node.key);
        node_log::read(&path, key, offset)
    }

    pub(super) fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }
}

fn encode(spec: &Spec) -> Result<String, StoreError> {
    serde_json::to_string(spec).map_err(|error| StoreError::Corrupt {
        what: "the plan".to_owned(),
        cause: error.to_string(),
    })
}
