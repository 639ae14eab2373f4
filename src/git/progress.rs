//! The progress of a fetch, a listing or a write.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::GitError;

/// The interval of calls to a caller's callback.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Receives the progress about ten times a second; `Break` stops the operation with
/// [`GitError::Cancelled`].
pub type Report<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// The stage of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Another fetch of the same mirror is running; this one follows it.
    #[default]
    Waiting,
    /// Connecting to the git host and asking for its refs.
    Connecting,
    /// Objects are being received.
    Receiving,
    /// All objects are here and are being indexed.
    Resolving,
    /// The files of a commit are being listed.
    Listing,
    /// Files are being written.
    Writing,
}

/// A snapshot, given about ten times a second; during a fetch also while nothing moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The current stage.
    pub stage: Stage,
    /// Objects received, or files listed or written, so far.
    pub objects: usize,
    /// The total number of objects or files, 0 while unknown.
    pub total_objects: usize,
    /// Bytes received or written so far.
    pub bytes: usize,
    /// The total number of bytes, 0 if unknown.
    pub total_bytes: usize,
}

/// Calls a callback at intervals from a loop over the files of a tree.
pub(super) struct Pulse<'a> {
    report: Report<'a>,
    next: Instant,
}

impl<'a> Pulse<'a> {
    pub(super) fn new(report: Report<'a>) -> Self {
        Self {
            report,
            next: Instant::now(),
        }
    }

    /// Call it often; the callback is called ten times a second.
    pub(super) fn beat(&mut self, progress: impl FnOnce() -> Progress) -> Result<(), GitError> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + INTERVAL;
        match (self.report)(&progress()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GitError::Cancelled),
        }
    }

    /// The callback itself, for an operation with a pulse of its own.
    pub(super) fn report(&mut self) -> Report<'_> {
        self.report
    }
}

impl From<git2::Progress<'_>> for Progress {
    fn from(progress: git2::Progress<'_>) -> Self {
        let objects = progress.received_objects();
        let total_objects = progress.total_objects();
        let complete = total_objects > 0 && objects >= total_objects;
        Self {
            stage: if complete {
                Stage::Resolving
            } else {
                Stage::Receiving
            },
            objects,
            total_objects,
            bytes: progress.received_bytes(),
            total_bytes: 0,
        }
    }
}
