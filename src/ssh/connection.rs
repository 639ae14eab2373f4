//! A logged-in connection.

use std::cell::Cell;
use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::dial::{Way, dial};
use super::error::{Cause, SshError};
use super::host_key::{self, HostKey};
use super::link::{Fault, Link, Patience};
use super::login::log_in;
use super::pool::PoolHandle;
use super::proxy::ProxyProcess;
use super::{Cancel, Target, Timeouts};

/// A logged-in connection to one server. It may move between threads but belongs to one at a time,
/// and it does one thing at a time. After an error it may be [broken](Self::is_broken): then it
/// should be dropped and a new one opened.
pub struct Connection {
    pub(super) link: Link,
    pub(super) target: Target,
    pub(super) timeouts: Timeouts,
    pub(super) pool: PoolHandle,
    host_key: HostKey,
    broken: Cell<bool>,
    /// True if the server is known to answer any request with SFTP.
    pub(super) files_alone: Cell<bool>,
    /// Dropped after the link, which disconnects through it.
    _process: Option<ProxyProcess>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, checks the host key, then logs in. No credential is sent to a server whose key is
    /// not the pinned one. A jump server on the way is connected to first, by the same rules.
    ///
    /// # Errors
    /// The [`Cause`] of the step that failed: lookup, connection, handshake, host key, login.
    pub fn open(target: &Target, timeouts: &Timeouts) -> Result<Self, SshError> {
        Self::open_unless(target, timeouts, &Cancel::new())
    }

    /// [`open`](Self::open), abandoned within 2 s of `cancel`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Cause::Cancelled`].
    pub fn open_unless(
        target: &Target,
        timeouts: &Timeouts,
        cancel: &Cancel,
    ) -> Result<Self, SshError> {
        let Way {
            socket,
            until,
            mut process,
        } = dial(target, timeouts, cancel)?;
        let patience = Patience {
            until: Some(until),
            idle: None,
            cancel: Some(cancel),
        };
        match Self::log_in(socket, target, timeouts, patience) {
            Ok(mut connection) => {
                connection._process = process;
                Ok(connection)
            }
            Err(cause) => {
                let cause = match &mut process {
                    Some(process) => process.blame(cause),
                    None => cause,
                };
                Err(SshError::at(&target.host, target.port, cause))
            }
        }
    }

    fn log_in(
        socket: OwnedFd,
        target: &Target,
        timeouts: &Timeouts,
        patience: Patience<'_>,
    ) -> Result<Self, Cause> {
        let pinned = target.host_key.as_deref();
        let link = Link::open(socket, timeouts, patience, pinned)?;
        let host_key = link.host_key()?;
        host_key::check(pinned, host_key.clone())?;
        log_in(
            &link,
            &target.user,
            &target.credential,
            patience,
            timeouts.connect,
        )?;
        Ok(Self {
            link,
            target: target.clone(),
            timeouts: *timeouts,
            pool: PoolHandle::default(),
            host_key,
            broken: Cell::new(false),
            files_alone: Cell::new(false),
            _process: None,
        })
    }

    /// The server's key, which is the pinned one.
    pub fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    /// True if an error left it in a state in which it must not be used any more.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// True if no unexpected data has arrived.
    pub(super) fn is_quiet(&self) -> bool {
        self.link.is_quiet()
    }

    /// True if the server answers within `limit`: it is asked for a channel, which starts nothing.
    pub(super) fn is_there(&self, limit: Duration) -> bool {
        let patience = Patience::until(Instant::now() + limit);
        let session = &self.link.session;
        let opened = self
            .link
            .drive_opening(patience, || Ok(session.channel_session()?));
        match opened {
            Ok(mut channel) => {
                let closed = self.link.drive(patience, || Ok(channel.close()?));
                let gone = self.link.drive(patience, || Ok(channel.wait_close()?));
                closed.is_ok() && gone.is_ok()
            }
            // A refusal because of too many channels is an answer.
            Err(fault) => matches!(fault, Fault::Failed { .. }) && !fault.is_lost(),
        }
    }

    pub(super) fn mark_broken(&self) {
        self.broken.set(true);
    }

    pub(super) fn failed(&self, cause: Cause) -> SshError {
        if !cause.is_harmless() {
            self.mark_broken();
        }
        SshError::at(&self.target.host, self.target.port, cause)
    }
}
