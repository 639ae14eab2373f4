//! The dispatcher gives queued releases to workers, oldest first.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::engine::Engine;
use super::error::DeployError;
use super::node_log::LogBook;
use super::plan::{Spec, Step};
use super::recorder::{self, Recorder};
use super::run::{Run, Stop};
use super::said::{Causes, Message};
use super::script::folders::Owner;
use super::worker;
use crate::store::installation;
use crate::store::releases::{self, Release, ReleaseChange};
use crate::store::{NodeState, ReleaseId, ReleaseState, StoreError};

/// The interval at which the dispatcher looks for work without being woken.
const GLANCE: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.0.changed.notify_all();
    }

    /// Gives queued releases to workers, oldest first, until the engine is stopped.
    pub(super) fn dispatch(&self) {
        loop {
            let mut dispatch = self.lock();
            if !dispatch.woken && !dispatch.ending {
                dispatch = self
                    .0
                    .changed
                    .wait_timeout(dispatch, GLANCE)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            if dispatch.ending {
                return;
            }
            // Cleared before the queue is read, so that a release queued from here on wakes the
            // dispatcher again.
            dispatch.woken = false;
            drop(dispatch);
            if let Err(error) = self.sweep_abandoned() {
                tracing::error!(%error, "releases without a worker cannot be ended");
            }
            if let Err(error) = self.start_queued() {
                tracing::error!(%error, "queued releases cannot be started");
                thread::sleep(GLANCE);
            }
        }
    }

    fn start_queued(&self) -> Result<(), DeployError> {
        for release in self.0.store.read(releases::active_ones)? {
            if release.state != ReleaseState::Queued {
                continue;
            }
            let stop = Stop::default();
            {
                let mut dispatch = self.lock();
                if dispatch.ending || dispatch.running.len() >= self.0.options.releases_at_once {
                    return Ok(());
                }
                dispatch.running.insert(release.id, stop.clone());
            }
            let id = release.id;
            let started = self.claim(release).and_then(|claimed| match claimed {
                Some(release) => self.run(release, stop).map(|()| true),
                None => Ok(false),
            });
            if !matches!(started, Ok(true)) {
                self.lock().running.remove(&id);
            }
            started?;
        }
        Ok(())
    }

    /// Claims a queued release. `None` if it is no longer queued.
    fn claim(&self, release: Release) -> Result<Option<Release>, DeployError> {
        let change = ReleaseChange {
            state: Some(ReleaseState::Running),
            ..ReleaseChange::default()
        };
        let (claimed, _) = self
            .0
            .store
            .record(|conn, log| recorder::change_release(conn, log, &release, &change))?;
        Ok(claimed)
    }

    fn run(&self, release: Release, stop: Stop) -> Result<(), DeployError> {
        let id = release.id;
        let run = match self.prepare(release, stop) {
            Ok(run) => run,
            Err(error) => {
                self.give_up(id, &error)?;
                return Err(error);
            }
        };
        let engine = self.clone();
        let spawned = thread::Builder::new()
            .name(format!("release-{id}"))
            .spawn(move || {
                let _free = Free(engine, id);
                if let Err(error) = worker::walk(run) {
                    tracing::error!(release = %id, %error, "release not written down");
                }
            });
        if let Err(cause) = spawned {
            let error = DeployError::File {
                path: format!("thread of release {id}").into(),
                cause,
            };
            self.give_up(id, &error)?;
            return Err(error);
        }
        Ok(())
    }

    fn prepare(&self, release: Release, stop: Stop) -> Result<Run, DeployError> {
        let spec: Spec =
            serde_json::from_str(&release.spec).map_err(|error| StoreError::Corrupt {
                what: format!("the plan of release {}", release.id),
                cause: error.to_string(),
            })?;
        let options = self.0.options.clone();
        let recorder = Recorder::new(self.0.store.clone(), release.id);
        let logs = LogBook::open(
            &options.logs,
            release.id,
            recorder.clone(),
            options.node_log_bytes,
        )
        .map_err(DeployError::file(&options.logs))?;
        let installation = self.0.store.read(installation::find)?;
        Ok(Run {
            owner: Owner::of(&installation, spec.project.id),
            work: options.work.join(release.id.to_string()),
            commit: Mutex::new(release.commit_id.clone()),
            keyring: self.0.keyring.clone(),
            mirrors: self.0.mirrors.clone(),
            release,
            spec,
            options,
            recorder,
            logs,
            stop,
        })
    }

    /// Ends a claimed release that got no worker.
    fn give_up(&self, id: ReleaseId, error: &DeployError) -> Result<(), StoreError> {
        let mut causes = Causes::default();
        causes.add(None, Step::Start.as_str(), Message::from(error), 1);
        let causes = Message::Causes(causes);
        Recorder::new(self.0.store.clone(), id).try_end(
            (NodeState::Failed, &Message::default()),
            NodeState::Skipped,
            |_| ReleaseChange {
                state: Some(ReleaseState::Failed),
                message: Some(causes.stored()),
                ..ReleaseChange::default()
            },
        )
    }
}

/// A worker's entry among the running releases, removed on drop.
struct Free(Engine, ReleaseId);

impl Drop for Free {
    fn drop(&mut self) {
        self.0.lock().running.remove(&self.1);
        self.0.wake();
    }
}
