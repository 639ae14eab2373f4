//! A cache of rooms of releases and projects that exist, so that their polls do not each query the
//! database.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hub::RoomName;

/// The time for which an entry is valid.
const FRESH: Duration = Duration::from_secs(1);
/// The most entries; the cache is cleared when it is full.
const CAPACITY: usize = 10_000;

/// The cache; see the module.
#[derive(Default)]
pub(super) struct AuthorizationCache(Mutex<HashMap<RoomName, Instant>>);

impl AuthorizationCache {
    /// Records that the subject of the room existed in a database query that began at `asked`.
    pub(super) fn keep(&self, room: &RoomName, asked: Instant) {
        let mut cache = self.lock();
        if cache.len() >= CAPACITY {
            cache.clear();
        }
        cache.insert(room.clone(), asked);
    }

    /// True if the subject existed less than [`FRESH`] before `now`.
    pub(super) fn has(&self, room: &RoomName, now: Instant) -> bool {
        let cache = self.lock().get(room).copied();
        cache.is_some_and(|asked| now.saturating_duration_since(asked) < FRESH)
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
        let (cache, asked) = (AuthorizationCache::default(), Instant::now());
        let [one, other] = ["release/1", "project/1"].map(|name| RoomName::parse(name).unwrap());
        cache.keep(&one, asked);
        assert!(cache.has(&one, asked) && !cache.has(&other, asked));
        assert!(!cache.has(&one, asked + FRESH));
    }
}
