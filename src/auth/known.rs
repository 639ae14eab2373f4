//! The cache of recently authenticated requests, so that thousands of pollers with a login do not
//! query the database at every poll.
//!
//! Every write of this process that revokes a right calls [`Known::forget`] after its commit, which
//! invalidates all earlier lookups, including those in progress. Rights revoked by another process
//! (the command line works on the same database) take effect after at most [`FRESH`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Identity, Proof};
use crate::secret::fingerprint;

/// The lifetime of a cached lookup.
pub const FRESH: Duration = Duration::from_secs(1);
/// The largest number of cached identities; the cache is cleared beyond it.
const CAPACITY: usize = 50_000;

/// The proof's kind and fingerprint: true for a session's cookie, false for an API token.
type Key = (bool, String);

/// See the module documentation.
#[derive(Default)]
pub(super) struct Known {
    generation: AtomicU64,
    kept: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    identity: Identity,
    look: Look,
}

/// The state of the cache before a database lookup.
#[derive(Clone, Copy)]
pub(super) struct Look {
    generation: u64,
    at: Instant,
}

impl Known {
    /// Marks the start of a lookup; called before the database is queried.
    pub(super) fn look(&self) -> Look {
        Look {
            generation: self.generation(),
            at: Instant::now(),
        }
    }

    /// Caches the result of `look` for `proof`; removes the entry if nobody was found.
    pub(super) fn keep(&self, proof: &Proof, look: Look, found: Option<&Identity>) {
        let Some(key) = key(proof) else { return };
        let mut kept = self.lock();
        let Some(identity) = found.cloned() else {
            kept.remove(&key);
            return;
        };
        if kept.len() >= CAPACITY && !kept.contains_key(&key) {
            kept.clear();
        }
        kept.insert(key, Kept { identity, look });
    }

    /// The identity of `proof`, if cached and fresh at `now`.
    pub(super) fn get(&self, proof: &Proof, now: Instant) -> Option<Identity> {
        let key = key(proof)?;
        let kept = self.lock();
        let Kept { identity, look } = kept.get(&key)?;
        let is_fresh = now.saturating_duration_since(look.at) < FRESH;
        (is_fresh && look.generation == self.generation()).then(|| identity.clone())
    }

    /// Invalidates all entries after a right was revoked; called after the commit and before
    /// anybody is notified.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(proof: &Proof) -> Option<Key> {
    match proof {
        Proof::None => None,
        Proof::Cookie(token) => Some((true, fingerprint(token.expose()))),
        Proof::Bearer(token) => Some((false, fingerprint(token.expose()))),
    }
}
