//! Extra connections to the server of a connection, within the bounds of its pool.

use std::ops::Deref;
use std::sync::Weak;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::slots::Slots;
use super::{Inner, Leased, Pool, request};
use crate::ssh::error::{Cause, SshError};
use crate::ssh::{Cancel, Connection, Target, Timeouts};

/// The pool of a connection, if it has one.
#[derive(Default, Clone)]
pub(in crate::ssh) struct PoolHandle(pub(super) Weak<Inner>);

/// An extra connection.
pub(in crate::ssh) enum ExtraConnection {
    /// Leased from the pool.
    Leased(Leased),
    /// Opened for this use: the first connection has no pool either.
    Own(Connection),
}

impl Deref for ExtraConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Leased(leased) => leased,
            Self::Own(own) => own,
        }
    }
}

impl PoolHandle {
    /// Opens one more connection to `target`, abandoned within 2 s of `cancel`. `longest` bounds
    /// the wait for a slot.
    fn open(
        &self,
        target: &Target,
        timeouts: &Timeouts,
        (cancel, longest): (&Cancel, Duration),
    ) -> Result<ExtraConnection, SshError> {
        match self.0.upgrade().map(Pool) {
            Some(pool) => {
                let wait = (cancel, longest);
                let leased = pool.acquire(&request(target), target, timeouts, wait, Slots::acquire);
                leased.map(ExtraConnection::Leased)
            }
            None => {
                let own = Connection::open_unless(target, timeouts, cancel);
                own.map(ExtraConnection::Own)
            }
        }
    }
}

impl Connection {
    /// Runs `work` on an extra connection to the same server, within the bounds of its pool.
    /// `longest` bounds the wait for a slot.
    ///
    /// # Errors
    /// Those of the connection and of `work`.
    pub(in crate::ssh) fn on_extra_connection<T>(
        &self,
        longest: Duration,
        work: impl FnOnce(&Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let wait = (&Cancel::new(), longest);
        let other = self.pool.open(&self.target, &self.timeouts, wait);
        let other = other.map_err(|error| error.cause)?;
        let done = work(&other);
        if done.is_err() {
            other.mark_broken();
        }
        done
    }

    /// Starts to open up to `count` extra connections to the same server, one after the other and
    /// until `enough` is set; each is sent when it is connected. The first refusal stops it. It
    /// never waits for a slot.
    pub(in crate::ssh) fn open_extra(
        &self,
        count: usize,
        enough: &Cancel,
    ) -> Receiver<ExtraConnection> {
        let (sender, opened) = mpsc::channel();
        let (pool, target, timeouts) = (self.pool.clone(), self.target.clone(), self.timeouts);
        let enough = enough.clone();
        // Detached: a login may take longer than the work it is for.
        let opening = thread::Builder::new().name("ssh-extra".to_owned());
        let opening = opening.spawn(move || {
            for _ in 0..count {
                let opened = pool.open(&target, &timeouts, (&enough, Duration::ZERO));
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
