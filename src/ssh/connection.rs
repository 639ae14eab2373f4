//! A logged-in connection.

use std::fmt;
use std::time::Instant;

use super::credential::log_in;
use super::error::{Cause, SshError};
use super::host_key::{self, HostKey};
use super::link::{Link, Patience};
use super::{Target, Timeouts};

/// A logged-in connection to one server. It may move between threads but belongs to one at a
/// time, and it does one thing at a time. After an error other than [`Cause::RemoteFile`],
/// [`Cause::LocalFile`] or [`Cause::DiskFull`] it should be dropped and a new one opened.
pub struct Connection {
    pub(super) link: Link,
    pub(super) target: Target,
    pub(super) timeouts: Timeouts,
    host_key: HostKey,
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
    /// Connects, checks the host key, then logs in. No credential is sent to a server whose key
    /// is not the pinned one.
    pub fn open(target: &Target, timeouts: &Timeouts) -> Result<Self, SshError> {
        Self::open_inner(target, timeouts)
            .map_err(|cause| SshError::at(&target.host, target.port, cause))
    }

    fn open_inner(target: &Target, timeouts: &Timeouts) -> Result<Self, Cause> {
        let until = Instant::now() + timeouts.connect;
        let pinned = target.host_key.as_deref();
        let link = Link::open(&target.host, target.port, timeouts, until, pinned)?;
        let host_key = link.host_key()?;
        host_key::check(pinned, host_key.clone())?;
        log_in(
            &link,
            &target.user,
            &target.credential,
            Patience::until(until),
            timeouts.connect,
        )?;
        Ok(Self {
            link,
            target: target.clone(),
            timeouts: *timeouts,
            host_key,
        })
    }

    /// The server's key, which is the pinned one.
    pub fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    pub(super) fn failed(&self, cause: Cause) -> SshError {
        SshError::at(&self.target.host, self.target.port, cause)
    }
}
