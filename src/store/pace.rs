//! How the log's writer keeps pace: plain atomics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The writer's counters.
#[derive(Debug, Default)]
pub(super) struct Pace {
    messages: AtomicU64,
    groups: AtomicU64,
    failed: AtomicU64,
    micros: AtomicU64,
}

/// What the log's writer has done since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPace {
    /// Messages accepted, by the journal or by a commit.
    pub messages: u64,
    /// Groups that they were committed in.
    pub groups: u64,
    /// Groups that the database did not take.
    pub failed: u64,
    /// How long all commits took together.
    pub committing: Duration,
    /// Messages that wait for the writer at this moment.
    pub waiting: usize,
}

impl Pace {
    /// The journal took a message, which will be committed with others.
    pub(super) fn journaled(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// A group of so many messages was committed, or was not, and took so long.
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

    pub(super) fn read(&self, waiting: usize) -> LogPace {
        LogPace {
            messages: self.messages.load(Relaxed),
            groups: self.groups.load(Relaxed),
            failed: self.failed.load(Relaxed),
            committing: Duration::from_micros(self.micros.load(Relaxed)),
            waiting,
        }
    }
}
