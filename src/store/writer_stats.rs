//! Statistics of the log's writer, in plain atomics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The writer's counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    messages: AtomicU64,
    groups: AtomicU64,
    failed: AtomicU64,
    micros: AtomicU64,
}

/// Statistics of the log's writer since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Messages accepted, by the journal or by a commit.
    pub messages: u64,
    /// Groups committed.
    pub groups: u64,
    /// Groups the database rejected.
    pub failed: u64,
    /// The total time of all commits.
    pub committing: Duration,
    /// Messages queued for the writer now.
    pub waiting: usize,
}

impl Counters {
    /// Counts a message accepted by the journal, to be committed with others.
    pub(super) fn journaled(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// Counts a group of `messages` that was committed (`done`) or failed, in the time `took`.
    pub(super) fn committed(&self, messages: usize, took: Duration, done: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
        if done {
            self.messages.fetch_add(messages as u64, Relaxed);
            self.groups.fetch_add(1, Relaxed);
        } else {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn read(&self, waiting: usize) -> WriterStats {
        WriterStats {
            messages: self.messages.load(Relaxed),
            groups: self.groups.load(Relaxed),
            failed: self.failed.load(Relaxed),
            committing: Duration::from_micros(self.micros.load(Relaxed)),
            waiting,
        }
    }
}
