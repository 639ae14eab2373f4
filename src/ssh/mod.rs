//! The SSH wrapper: connections, host keys, credentials, exec, transfer.
//!
//! One [`Connection`] is one TCP connection with one login. It blocks, belongs to one thread at a
//! time, and does one thing at a time: a server that hangs blocks only the thread that waits for
//! it. Callers run it on their bounded pool of blocking threads.
//!
//! libssh2 itself is driven without blocking (see `link`), because its own time-outs count whole
//! seconds of one call, are off by default, and cannot be cancelled.
//!
//! Every error is an [`SshError`]: the address, and a [`Cause`] to match on. It holds no secret.

mod agent_relay;
mod cipher;
mod command;
mod connection;
mod credential;
mod dial;
mod error;
mod exec;
mod feed;
mod follow;
mod host_key;
mod jump;
mod known_hosts;
mod lines;
mod link;
mod login;
mod output;
mod parallel_upload;
mod pool;
mod private_key;
mod proxy;
mod script;
mod sftp;
mod sftp_content;
mod sftp_removal;
mod sftp_rename;
mod sftp_tree;
#[cfg(test)]
pub(crate) mod tests;
mod transfer;
mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use command::{Command, Exit, Followed, OnLine, Stream};
pub use connection::Connection;
pub use credential::Credential;
pub use dial::addresses;
pub use error::{Cause, Phase, SshError};
pub use follow::Underway;
pub use host_key::{HostKey, host_key, offered_key};
pub use known_hosts::{Known, KnownHosts};
pub use pool::{Leased, Pool, PoolOptions};
pub use private_key::{KeyFolders, check_key, check_key_file, normal_key};
pub use proxy::{BadProxy, Launcher, Proxy, ProxyCommand, ProxyFault, ProxyServer, check_argument};
pub use script::quote;
pub use sftp::{Files, Kind, RemoteFile};
pub use sftp_content::NewRemoteFile;

/// The address, login and host key of a server.
#[derive(Debug, Clone)]
pub struct Target {
    /// A name or an address, without port.
    pub host: String,
    /// The TCP port, usually 22.
    pub port: u16,
    /// The login name.
    pub user: String,
    /// The credential.
    pub credential: Credential,
    /// The accepted host key: [`HostKey::pin`], or a bare `SHA256:…` fingerprint. `None`: no key
    /// was accepted yet, and [`Connection::open`] refuses.
    pub host_key: Option<String>,
    /// The jump server on the way, which may have a jump server of its own. Names are resolved by
    /// the last jump server.
    pub via: Option<Box<Target>>,
    /// The proxy on the way, if there is no jump server.
    pub proxy: Option<Proxy>,
}

/// Time-outs for a server.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// The time to connect: name lookup, TCP, handshake and login together. Each jump server on the
    /// way has this time too.
    pub connect: Duration,
    /// The time without a sign of life during an operation. A command may be silent for longer: the
    /// server is then asked for a sign of life, and given up after this time, but not before 9 s.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect, 30 s without a sign of life.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
        }
    }
}

/// A flag that stops an operation. Clones share it; once set it stays set.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    set: AtomicBool,
    above: Option<Cancel>,
}

/// Sets its flag when it is dropped, with the request that it belongs to.
#[derive(Debug, Default)]
pub struct CancelOnDrop(pub Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag for a part of this one's operation: it counts as set when this one is.
    pub fn part(&self) -> Self {
        Self(Arc::new(Flag {
            set: AtomicBool::new(false),
            above: Some(self.clone()),
        }))
    }

    /// Sets the flag; the operation stops within 2 s.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::Release);
    }

    /// True if the flag is set.
    pub fn is_cancelled(&self) -> bool {
        let above = self.0.above.as_ref();
        self.0.set.load(Ordering::Acquire) || above.is_some_and(Self::is_cancelled)
    }
}
