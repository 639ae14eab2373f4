//! Errors of a release, before it runs and while it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::health::{Unhealthy, WayBack};
use super::placement::Clash;
use super::said::refusal::Refusal;
use crate::git::GitError;
use crate::pools::Busy;
use crate::secret::VaultError;
use crate::ssh::{Cause, Exit, SshError};
use crate::store::{ReleaseId, ReleaseState, StoreError};

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository or its host.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The repository or its host, shared by all waiters of one fetch.
    #[error("{0}")]
    Fetch(Arc<GitError>),
    /// The fetch takes longer than the caller waits.
    #[error("the repository is being fetched")]
    Fetching,
    /// Too many operations are in progress.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// A server.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A stored secret.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The project has no servers.
    #[error("this project has no servers")]
    NoServers,
    /// Two projects would write into one folder of a server.
    #[error("{0}")]
    Shared(Clash),
    /// The release has ended and cannot be cancelled.
    #[error("release {id} has ended already: {state}")]
    Ended {
        /// The release.
        id: ReleaseId,
        /// The state it ended in.
        state: ReleaseState,
    },
    /// The release's files never reached the servers, so it cannot be rolled back to.
    #[error("release {id} cannot be gone back to: it {why}")]
    NotKept {
        /// The release.
        id: ReleaseId,
        /// The reason, as the rest of a sentence.
        why: &'static str,
    },
    /// The accepted fingerprint is not the one that the host shows now.
    #[error("the host shows {offered} now, not {accepted}")]
    FingerprintMismatch {
        /// The fingerprint that a person accepted.
        accepted: String,
        /// The fingerprint that the host shows.
        offered: String,
    },
    /// The host is not reached over SSH and has no host key.
    #[error("{what} is not reached over SSH, so it has no host key")]
    NoHostKey {
        /// The server or the repository.
        what: String,
    },
    /// The platform's own machine is not a server to log in to.
    #[error("{what} is this machine itself, which is not reached over SSH")]
    ThisMachine {
        /// The server.
        what: String,
    },
    /// A credential that is for servers only.
    #[error("the credential {name} opens servers, not repositories")]
    WrongCredential {
        /// Its name.
        name: String,
    },
    /// The account of the setting `run_as` does not exist.
    #[error("setting {0}")]
    Account(String),
    /// A file of the platform.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

impl DeployError {
    /// The git error, if it is one.
    pub fn git(&self) -> Option<&GitError> {
        match self {
            Self::Git(error) => Some(error),
            Self::Fetch(error) => Some(error),
            _ => None,
        }
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { path, cause }
    }
}

/// An error of a step: the cause that its node shows.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// Stopped by a person or by the platform's shutdown.
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The command's exit status is not 0.
    #[error("the command ended with {0}")]
    Command(Exit),
    /// One of the platform's own scripts refused, with the reason.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The health check failed.
    #[error("{0}")]
    Unhealthy(Unhealthy),
    /// The release does not work on the server; `way` says what its `current` points to now.
    #[error("{cause}; {way}")]
    SentBack { cause: Box<StepError>, way: WayBack },
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error("the command did not end within {} s", .0.as_secs())]
    CommandTimedOut(Duration),
    #[error("the step did not end within {} s", .0.as_secs())]
    StepTimedOut(Duration),
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    /// A symlink that leaves the work tree must not reach a server.
    #[error("{path} is a symlink to {target}, which leaves the work tree")]
    LinkOutside { path: PathBuf, target: PathBuf },
    #[error("the command could not be started: {0}")]
    Start(io::Error),
    /// The account of the setting `run_as` does not exist.
    #[error("run_as: there is no account '{0}' here")]
    Account(String),
}

impl StepError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { path, cause }
    }

    /// True if the server accepts no connections.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Ssh(error) if matches!(error.cause, Cause::Unreachable { .. }))
    }

    /// True if the server runs no commands; it may still accept files.
    pub(super) fn is_without_shell(&self) -> bool {
        matches!(self, Self::Ssh(error) if error.is_without_shell())
    }
}
