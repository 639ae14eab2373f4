//! The positions of clients that keep no cursor themselves (the course's contract, by curl).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{cursor::Cursor, room::ClientId};

/// The time after which an unused position is forgotten; the client then starts from now.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// One position per client, in memory. It advances when a reply is written, so each message is
/// delivered at most once.
#[derive(Debug)]
pub struct Positions {
    most: usize,
    kept: Mutex<HashMap<ClientId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    at: Cursor,
    used: Instant,
}

impl Positions {
    pub(super) fn new(most: usize) -> Positions {
        Positions {
            most,
            kept: Mutex::default(),
        }
    }

    /// The client's position; a client without one gets `now`.
    pub fn get_or_set(&self, client: &ClientId, now: Cursor) -> Cursor {
        if let Some(kept) = self.lock().get_mut(client) {
            kept.used = Instant::now();
            return kept.at;
        }
        self.set(client, now);
        now
    }

    /// Sets the client's position to `at`. If there are too many positions, those used most recently
    /// are kept.
    pub fn set(&self, client: &ClientId, at: Cursor) {
        let used = Instant::now();
        let mut kept = self.lock();
        if kept.len() >= self.most.max(1) && !kept.contains_key(client) {
            // A tenth at once, so that not every new client costs a scan of all.
            let mut times: Vec<Instant> = kept.values().map(|kept| kept.used).collect();
            let last_to_go = times.len() / 10;
            let (_, oldest, _) = times.select_nth_unstable(last_to_go);
            let oldest = *oldest;
            kept.retain(|_, kept| kept.used > oldest);
        }
        kept.insert(client.clone(), Kept { at, used });
    }

    /// Forgets the positions unused for a day.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut kept = self.lock();
        kept.retain(|_, kept| now.duration_since(kept.used) < IDLE);
        kept.shrink_to_fit();
    }

    /// Advances the client from `from` to `to`. `false` if it is no longer at `from`: another reply has
    /// advanced it, and the contents of this one may have been delivered already.
    pub fn advance(&self, client: &ClientId, from: &Cursor, to: &Cursor) -> bool {
        match self.lock().get_mut(client) {
            Some(kept) if kept.at == *from => {
                kept.at = *to;
                kept.used = Instant::now();
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
