//! A running release and the frame of each of its steps.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Options;
use super::credentials::Keyring;
use super::destination::{Destination, Ongoing};
use super::error::StepError;
use super::node_log::LogBook;
use super::plan::Spec;
use super::recorder::Recorder;
use super::removal;
use super::said::Message;
use super::script::folders::Owner;
use crate::git::Mirrors;
use crate::ssh::Cancel;
use crate::store::releases::Release;
use crate::store::{NodeState, ReleaseId, StoreError};

/// The least time between two progress notes of a node.
const PROGRESS_PAUSE: Duration = Duration::from_millis(300);

/// The reason why a release was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// A person cancelled it.
    Cancelled,
    /// The platform shuts down.
    Interrupted,
}

/// Asks a running release to stop. Clones share the state; the first reason stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    cancel: Cancel,
    reason: Arc<AtomicU8>,
}

impl Stop {
    pub(super) fn stop(&self, reason: StopReason) {
        let code = match reason {
            StopReason::Cancelled => 1,
            StopReason::Interrupted => 2,
        };
        let _ = self
            .reason
            .compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        self.cancel.cancel();
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        match self.reason.load(Ordering::Acquire) {
            0 => None,
            1 => Some(StopReason::Cancelled),
            _ => Some(StopReason::Interrupted),
        }
    }

    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

/// The common state of the steps of one release.
pub(super) struct Run {
    pub(super) release: Release,
    pub(super) spec: Spec,
    pub(super) options: Options,
    pub(super) keyring: Keyring,
    pub(super) mirrors: Mirrors,
    pub(super) recorder: Recorder,
    pub(super) logs: LogBook,
    pub(super) stop: Stop,
    /// The release's own folder on the platform; removed when it ends.
    pub(super) work: PathBuf,
    /// The commit, once it is known.
    pub(super) commit: Mutex<Option<String>>,
    /// The owner mark of the project's releases on servers.
    pub(super) owner: Owner,
}

/// A step that is running.
pub(super) struct StepFrame<'a> {
    run: &'a Run,
    key: &'a str,
    deadline: Instant,
    noted: Mutex<Option<Instant>>,
}

impl Run {
    /// The work tree.
    pub(super) fn tree(&self) -> PathBuf {
        self.work.join("tree")
    }

    /// The folder for temporary files of the release's commands.
    pub(super) fn temporary(&self) -> PathBuf {
        self.work.join("tmp")
    }

    /// The commit, once it is known.
    pub(super) fn commit(&self) -> Option<String> {
        let commit = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        commit.clone()
    }

    pub(super) fn set_commit(&self, commit: &str) {
        *self.commit.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit.to_owned());
    }

    /// The variables of hook, build, restart and health commands.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let commit = self.commit().unwrap_or_default();
        self.variables_of(Some(self.release.id), &self.release.revision, commit)
    }

    /// The variables of commands for `release` with its `revision` and `commit`. `None`: a release
    /// that is not known here.
    pub(super) fn variables_of(
        &self,
        release: Option<ReleaseId>,
        revision: &str,
        commit: String,
    ) -> Vec<(&'static str, String)> {
        let project = &self.spec.project;
        vec![
            (
                "LONGSHORE_RELEASE",
                release.map_or_else(String::new, |id| id.to_string()),
            ),
            ("LONGSHORE_PROJECT", project.title.clone()),
            ("LONGSHORE_ENV", project.env.to_string()),
            ("LONGSHORE_REF", revision.to_owned()),
            ("LONGSHORE_COMMIT", commit),
        ]
    }

    /// Runs one step: its node is `running` while `work` runs, then takes the state of its result.
    /// True if the next step may run.
    pub(super) fn step(
        &self,
        key: &str,
        work: impl FnOnce(&StepFrame<'_>) -> Result<Message, StepError>,
    ) -> Result<bool, StoreError> {
        if self.stop.reason().is_some() {
            return Ok(false);
        }
        self.begun_step(key, work)
    }

    /// [`step`](Self::step) for a step that runs already, so a stop ends it as a running one.
    pub(super) fn begun_step(
        &self,
        key: &str,
        work: impl FnOnce(&StepFrame<'_>) -> Result<Message, StepError>,
    ) -> Result<bool, StoreError> {
        self.recorder
            .node(key, NodeState::Running, &Message::default())?;
        let frame = StepFrame {
            run: self,
            key,
            deadline: Instant::now() + self.options.step_limit,
            noted: Mutex::new(None),
        };
        let (state, message) = match (work(&frame), self.stop.reason()) {
            (Ok(message), _) => (NodeState::Succeeded, message),
            (Err(_), Some(StopReason::Cancelled)) => (NodeState::Cancelled, Message::default()),
            (Err(_), Some(StopReason::Interrupted)) => {
                (NodeState::Interrupted, Message::platform_stopped())
            }
            (Err(error), None) => (NodeState::Failed, Message::from(&error)),
        };
        if state == NodeState::Failed {
            let cause = message.english();
            frame.line(&cause);
            tracing::warn!(release = %self.release.id, node = key, cause, "step failed");
        }
        self.logs.finish(key);
        self.recorder.node(key, state, &message)?;
        Ok(state == NodeState::Succeeded)
    }

    /// Marks the nodes `keys` behind a failed one as `skipped`. If the release was stopped, its end
    /// sets their state instead.
    pub(super) fn skip(&self, keys: &[String]) -> Result<(), StoreError> {
        if self.stop.reason().is_some() {
            return Ok(());
        }
        for key in keys {
            self.recorder
                .node(key, NodeState::Skipped, &Message::default())?;
        }
        Ok(())
    }
}

impl StepFrame<'_> {
    /// Adds a line to the node's log.
    pub(super) fn line(&self, line: &str) {
        self.run.logs.line(self.key, line);
    }

    /// Sets the progress note, at most every [`PROGRESS_PAUSE`].
    pub(super) fn progress(&self, note: impl FnOnce() -> String) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if noted.is_some_and(|last| now.duration_since(last) < PROGRESS_PAUSE) {
            return;
        }
        *noted = Some(now);
        if let Err(error) = self.run.recorder.progress(self.key, &note()) {
            tracing::warn!(release = %self.run.release.id, node = self.key, %error, "progress lost");
        }
    }

    /// Fails if the step is to end now, by a stop or its time limit.
    pub(super) fn check(&self) -> Result<(), StepError> {
        if self.run.stop.reason().is_some() {
            return Err(StepError::Stopped);
        }
        if Instant::now() >= self.deadline {
            return Err(StepError::StepTimedOut(self.run.options.step_limit));
        }
        Ok(())
    }

    /// Runs one of the platform's own scripts on a server.
    pub(super) fn run(
        &self,
        destination: &Destination,
        script: &str,
        stdin: Option<&mut (dyn Read + Send)>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), StepError> {
        destination.run(script, stdin, self.time_left(), self.cancel(), on_line)
    }

    /// [`run`](Self::run) until the script prints the line `until` and goes on.
    pub(super) fn run_until(
        &self,
        until: &str,
        destination: &Destination,
        script: &str,
        stdin: Option<&mut (dyn Read + Send)>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Option<Ongoing>, StepError> {
        let limit = self.time_left();
        destination.run_until(until, script, stdin, limit, self.cancel(), on_line)
    }

    /// The cancellation that a stop of the release sets.
    pub(super) fn cancel(&self) -> &Cancel {
        self.run.stop.cancel()
    }

    /// The time limit of a command of this step.
    pub(super) fn command_limit(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.run.options.command_limit.min(left)
    }

    /// The time that the step has left.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A byte count for people: `3.2 MiB`.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.0} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

/// Makes an empty folder in place of any entry at `path`. A symlink is removed, not its target. An
/// entry that cannot be removed is moved aside.
pub(super) fn empty_folder(path: &Path) -> Result<(), StepError> {
    if let Err(cause) = removal::remove_all(path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!("{name}.left-{:08x}", rand::random::<u32>()));
        std::fs::rename(path, aside)
            .map_err(|_| cause)
            .map_err(StepError::file(path))?;
    }
    std::fs::create_dir_all(path).map_err(StepError::file(path))
}
