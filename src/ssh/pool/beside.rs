//! More connections beside one of a pool's, within the pool's bounds.

use std::ops::Deref;
use std::sync::Weak;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::shelf::Shelf;
use super::{Inner, Leased, Pool, want};
use crate::ssh::error::{Cause, SshError};
use crate::ssh::{Cancel, Connection, Target, Timeouts};

/// The pool that a connection is of, if any.
#[derive(Default, Clone)]
pub(in crate::ssh) struct Home(pub(super) Weak<Inner>);

/// A connection beside another one.
pub(in crate::ssh) enum Other {
    /// The pool's.
    Leased(Leased),
    /// Nobody else's, since the first one is of no pool either.
    Own(Connection),
}

impl Deref for Other {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Leased(leased) => leased,
            Self::Own(own) => own,
        }
    }
}

impl Home {
    /// One more connection to `target`, given up within 2 s of `cancel`. `longest`: how long a turn
    /// is waited for.
    fn open(
        &self,
        target: &Target,
        timeouts: &Timeouts,
        (cancel, longest): (&Cancel, Duration),
    ) -> Result<Other, SshError> {
        match self.0.upgrade().map(Pool) {
            Some(pool) => {
                let wait = (cancel, longest);
                let leased = pool.get(&want(target), target, timeouts, wait, Shelf::turn);
                leased.map(Other::Leased)
            }
            None => {
                let own = Connection::open_unless(target, timeouts, cancel);
                own.map(Other::Own)
            }
        }
    }
}

impl Connection {
    /// Does `work` on another connection to the same server, within the bounds of its pool. `longest`:
    /// how long a turn is waited for.
    pub(in crate::ssh) fn beside<T>(
        &self,
        longest: Duration,
        work: impl FnOnce(&Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let wait = (&Cancel::new(), longest);
        let other = self.home.open(&self.target, &self.timeouts, wait);
        let other = other.map_err(|error| error.cause)?;
        let done = work(&other);
        if done.is_err() {
            other.mark_broken();
        }
        done
    }

    /// Starts to open up to `count` more connections to the same server, one after the other and until
    /// `enough`; each is given as soon as it stands. A server that refuses one is asked for no further
    /// one, and nobody waits for a turn.
    pub(in crate::ssh) fn others(&self, count: usize, enough: &Cancel) -> Receiver<Other> {
        let (sender, opened) = mpsc::channel();
        let (home, target, timeouts) = (self.home.clone(), self.target.clone(), self.timeouts);
        let enough = enough.clone();
        // Nobody waits for its end either: a login may take longer than what it is for.
        let opening = thread::Builder::new().name("ssh-lanes".to_owned());
        let opening = opening.spawn(move || {
            for _ in 0..count {
                let opened = home.open(&target, &timeouts, (&enough, Duration::ZERO));
                let Ok(other) = opened else { break };
                if enough.is_cancelled() || sender.send(other).is_err() {
                    break;
                }
            }
        });
        if let Err(error) = opening {
            tracing::warn!(%error, "no further connection is opened");
        }
        opened
    }
}
