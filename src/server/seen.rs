//! Which releases were there a moment ago, so that pollers of their rooms do not ask the database at
//! every poll.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::ReleaseId;

/// How long a look counts.
const FRESH: Duration = Duration::from_secs(1);
/// So many are kept; then it begins anew.
const CAPACITY: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<ReleaseId, Instant>>);

impl Seen {
    /// The release was there when the database was asked, which began at `asked`.
    pub(super) fn keep(&self, release: ReleaseId, asked: Instant) {
        let mut seen = self.lock();
        if seen.len() >= CAPACITY {
            seen.clear();
        }
        seen.insert(release, asked);
    }

    /// Whether it was there a moment before `now`.
    pub(super) fn has(&self, release: ReleaseId, now: Instant) -> bool {
        let seen = self.lock().get(&release).copied();
        seen.is_some_and(|asked| now.saturating_duration_since(asked) < FRESH)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ReleaseId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_for_a_second() {
        let (seen, asked) = (Seen::default(), Instant::now());
        let [one, other] = ["1", "2"].map(|id| id.parse::<ReleaseId>().unwrap());
        seen.keep(one, asked);
        assert!(seen.has(one, asked) && !seen.has(other, asked));
        assert!(!seen.has(one, asked + FRESH));
    }
}
