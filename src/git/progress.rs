//! How far a fetch has come.

use serde::Serialize;

/// What a fetch is doing.
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
}

/// A snapshot of a running fetch, given about ten times a second, also while nothing moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Objects received so far.
    pub objects: usize,
    /// Objects that will come, 0 while that is not known.
    pub total_objects: usize,
    /// Bytes received so far.
    pub bytes: usize,
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
        }
    }
}
