//! What can go wrong with a release, before it runs and while it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::health::{Unhealthy, WayBack};
use super::said::refusal::Refusal;
use crate::git::GitError;
use crate::pools::Busy;
use crate::secret::VaultError;
use crate::ssh::{Cause, Exit, SshError};
use crate::store::projects::Sharing;
use crate::store::{ReleaseId, ReleaseState, StoreError};

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository or its host.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The repository or its host, as everybody is told who waited for one fetch.
    #[error("{0}")]
    Fetch(Arc<GitError>),
    /// A fetch takes longer than somebody waits for what it may bring.
    #[error("the repository is being fetched")]
    Fetching,
    /// Too much is going on.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// A server.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A stored secret.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A project without servers has nowhere to go.
    #[error("this project has no servers")]
    NoServers,
    /// Two releases would write into one folder of a server.
    #[error("{0}")]
    Shared(Sharing),
    /// Only an active release can be cancelled.
    #[error("release {id} has ended already: {state}")]
    Ended {
        /// The release.
        id: ReleaseId,
        /// How it ended.
        state: ReleaseState,
    },
    /// A release whose files never came to the servers cannot be gone back to.
    #[error("release {id} cannot be gone back to: it {why}")]
    NotKept {
        /// The release.
        id: ReleaseId,
        /// Why.
        why: &'static str,
    },
    /// The accepted fingerprint is not the one that the host shows now.
    #[error("the host shows {offered} now, not {accepted}")]
    FingerprintMismatch {
        /// What a person accepted.
        accepted: String,
        /// What the host shows.
        offered: String,
    },
    /// Only hosts that speak SSH have a host key.
    #[error("{what} is not reached over SSH, so it has no host key")]
    NoHostKey {
        /// The server or the repository.
        what: String,
    },
    /// The platform's own machine is no server to log in to.
    #[error("{what} is this machine itself, which is not reached over SSH")]
    ThisMachine {
        /// The server.
        what: String,
    },
    /// A credential for servers alone.
    #[error("the credential {name} opens servers, not repositories")]
    WrongCredential {
        /// Its name.
        name: String,
    },
    /// The account of the setting `run_as` is not there.
    #[error("setting {0}")]
    Account(String),
    /// A file of the platform's own.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl DeployError {
    /// The fault of git's, if it is one.
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

/// Why a step failed: the cause that its node shows.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// A person or the platform's own end stopped it.
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
    /// A command ended with something else than 0.
    #[error("the command ended with {0}")]
    Command(Exit),
    /// One of our own scripts said why it could not.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The health check did not hold.
    #[error("{0}")]
    Unhealthy(Unhealthy),
    /// The release does not work on the server, which is where `way` says.
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
    /// A symlink that a command made and that no server may get.
    #[error("{path} is a symlink to {target}, which leaves the work tree")]
    LinkOutside { path: PathBuf, target: PathBuf },
    #[error("the command could not be started: {0}")]
    Start(io::Error),
    /// The account of the setting `run_as` is not there.
    #[error("run_as: there is no account '{0}' here")]
    Account(String),
}

impl StepError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { path, cause }
    }

    /// Whether the server takes no connections.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Ssh(error) if matches!(error.cause, Cause::Unreachable { .. }))
    }

    /// Whether the server runs no commands, and may still take files.
    pub(super) fn is_without_shell(&self) -> bool {
        matches!(self, Self::Ssh(error) if error.is_without_shell())
    }
}
