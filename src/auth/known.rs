//! Who showed which proof a moment ago, so that thousands of pollers who are logged in do not ask the
//! database at every poll.
//!
//! What takes a right away in this process calls [`Known::forget`] after its commit, and nothing that
//! was looked up before counts any more, not even what is still being looked up. What another process
//! takes away (the command line works on the same database) is seen after [`FRESH`] at the latest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Identity, Proof};
use crate::secret::fingerprint;

/// How long what was looked up counts.
pub const FRESH: Duration = Duration::from_secs(1);
/// So many proofs are kept; then it begins anew.
const CAPACITY: usize = 50_000;

/// The kind of a proof and its fingerprint: a session's token is no API token.
type Key = (bool, String);

/// See the module.
#[derive(Default)]
pub(super) struct Known {
    generation: AtomicU64,
    kept: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    identity: Identity,
    look: Look,
}

/// The moment before a look into the database.
#[derive(Clone, Copy)]
pub(super) struct Look {
    generation: u64,
    at: Instant,
}

impl Known {
    /// To be called before the database is asked.
    pub(super) fn look(&self) -> Look {
        Look {
            generation: self.generation(),
            at: Instant::now(),
        }
    }

    /// Keeps what `look` found for `proof`; where it found nobody, nobody is known any more.
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

    /// Who showed `proof` a moment before `now`; none where that is not known.
    pub(super) fn get(&self, proof: &Proof, now: Instant) -> Option<Identity> {
        let key = key(proof)?;
        let kept = self.lock();
        let Kept { identity, look } = kept.get(&key)?;
        let is_fresh = now.saturating_duration_since(look.at) < FRESH;
        (is_fresh && look.generation == self.generation()).then(|| identity.clone())
    }

    /// A right was taken away: to be called after the commit and before anybody is told.
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
