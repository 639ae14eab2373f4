//! How far a fetch, a listing or a writing has come.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::GitError;

/// How often a caller's callback is called.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Hears about ten times a second how far something has come; `Break` ends it with
/// [`GitError::Cancelled`].
pub type Report<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Another fetch of the same mirror is running; this one follows it.
    #[default]
    Waiting,
    /// Connecting to the git host and asking what it has.
    Connecting,
    /// Objects are coming in.
    Receiving,
    /// All objects are here and are being put together.
    Resolving,
    /// The files of a commit are being listed.
    Listing,
    /// Files are being written.
    Writing,
}

/// A snapshot, given about ten times a second; while a fetch runs also when nothing moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Objects received, or files listed or written, so far.
    pub objects: usize,
    /// How many there will be, 0 while that is not known.
    pub total_objects: usize,
    /// Bytes received or written so far.
    pub bytes: usize,
    /// How many there will be, 0 where that is not known.
    pub total_bytes: usize,
}

/// Calls a callback now and then from a loop that is about the files of a tree.
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

    /// To be called often; the callback hears of it ten times a second.
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

    /// The callback itself, for something that has a pulse of its own.
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
