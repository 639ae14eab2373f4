//! A second connection beside one of a pool's, within the pool's bounds.

use std::sync::Weak;
use std::time::Duration;

use super::shelf::Shelf;
use super::{Inner, Pool, want};
use crate::ssh::error::Cause;
use crate::ssh::{Cancel, Connection};

/// The pool that a connection is of, if any.
#[derive(Default)]
pub(in crate::ssh) struct Home(pub(super) Weak<Inner>);

impl Connection {
    /// Does `work` on another connection to the same server, within the bounds of its pool. `longest`:
    /// how long a turn is waited for.
    pub(in crate::ssh) fn beside<T>(
        &self,
        longest: Duration,
        work: impl FnOnce(&Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let (target, timeouts) = (&self.target, &self.timeouts);
        let Some(pool) = self.home.0.upgrade().map(Pool) else {
            let other = Self::open(target, timeouts).map_err(|error| error.cause)?;
            return work(&other);
        };
        let wait = (&Cancel::new(), longest);
        let other = pool.get(&want(target), target, timeouts, wait, Shelf::turn);
        let other = other.map_err(|error| error.cause)?;
        let done = work(&other);
        if done.is_err() {
            other.mark_broken();
        }
        done
    }
}
