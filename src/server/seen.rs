//! Which rooms of releases and projects were there a moment ago, so that their pollers do not ask the
//! database at every poll.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hub::RoomName;

/// How long a look counts.
const FRESH: Duration = Duration::from_secs(1);
/// So many are kept; then it begins anew.
const CAPACITY: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<RoomName, Instant>>);

impl Seen {
    /// What the room is about was there when the database was asked, which began at `asked`.
    pub(super) fn keep(&self, room: &RoomName, asked: Instant) {
        let mut seen = self.lock();
        if seen.len() >= CAPACITY {
            seen.clear();
        }
        seen.insert(room.clone(), asked);
    }

    /// Whether it was there a moment before `now`.
    pub(super) fn has(&self, room: &RoomName, now: Instant) -> bool {
        let seen = self.lock().get(room).copied();
        seen.is_some_and(|asked| now.saturating_duration_since(asked) < FRESH)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomName, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_for_a_second() {
        let (seen, asked) = (Seen::default(), Instant::now());
        let [one, other] = ["release/1", "project/1"].map(|name| RoomName::parse(name).unwrap());
        seen.keep(&one, asked);
        assert!(seen.has(&one, asked) && !seen.has(&other, asked));
        assert!(!seen.has(&one, asked + FRESH));
    }
}
