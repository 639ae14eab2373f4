//! Git failures, worded for the user, and the conversion of libgit2's errors.

use std::io;
use std::path::Path;
use std::time::Duration;

use git2::{ErrorClass, ErrorCode};

use super::url::{RepoUrl, UrlError};

/// The most characters of a foreign text that are repeated in a message.
const MAX_QUOTE: usize = 300;

/// The reason a git operation failed. Messages name the repository, revision or path, and no
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The address is not allowed, by its text or by the addresses its name resolves to.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The git host refused the credential, or requires one and none was given.
    #[error("{url}: the git host refused the login: {reason}")]
    Authentication {
        /// The repository.
        url: String,
        /// The refused or missing credential.
        reason: String,
    },
    /// A credential that cannot or must not be sent to this kind of address.
    #[error("{url}: {reason}")]
    UnfitCredential {
        /// The repository.
        url: String,
        /// The reason it does not fit.
        reason: &'static str,
    },
    /// The git host could not be reached, or the connection broke.
    #[error("{url}: the git host cannot be reached: {reason}")]
    Unreachable {
        /// The repository.
        url: String,
        /// The message of the system or the host.
        reason: String,
    },
    /// The git host did not answer in time.
    #[error("{url}: the git host did not answer within {} s", .after.as_secs_f32())]
    TimedOut {
        /// The repository.
        url: String,
        /// The time waited.
        after: Duration,
    },
    /// No ssh host key has been accepted for this host yet.
    #[error("{url}: the git host's ssh key has not been accepted yet; it offers {fingerprint}")]
    UnknownHostKey {
        /// The repository.
        url: String,
        /// The offered key, as `SHA256:…`.
        fingerprint: String,
    },
    /// The host offers another ssh key than the accepted one.
    #[error(
        "{url}: the git host's ssh key has changed: accepted was {pinned}, it now offers {offered}"
    )]
    HostKeyChanged {
        /// The repository.
        url: String,
        /// The accepted fingerprint.
        pinned: String,
        /// The offered fingerprint.
        offered: String,
    },
    /// The https certificate is not signed by a trusted authority, or is for another name.
    #[error("{url}: the git host's certificate is not trusted: {reason}")]
    CertificateNotTrusted {
        /// The repository.
        url: String,
        /// The result of the check.
        reason: String,
    },
    /// The progress callback requested a stop.
    #[error("cancelled")]
    Cancelled,
    /// The host answers, but the repository does not exist, or this login may not see it.
    #[error("{url}: there is no such repository, or this login may not see it: {reason}")]
    NotARepository {
        /// The repository.
        url: String,
        /// The host's message.
        reason: String,
    },
    /// The repository has not been fetched yet.
    #[error("{url}: the repository has not been fetched yet")]
    NotFetched {
        /// The repository.
        url: String,
    },
    /// No branch, tag or commit has that name.
    #[error("{url}: there is no branch, tag or commit {revision:?}")]
    UnknownRevision {
        /// The repository.
        url: String,
        /// The requested revision.
        revision: String,
    },
    /// The full id of a commit that is neither in the mirror nor served by the host.
    #[error(
        "{url}: no branch or tag leads to the commit {commit}; if one did, it was force-pushed or deleted since"
    )]
    UnknownCommit {
        /// The repository.
        url: String,
        /// The commit's id.
        commit: String,
    },
    /// Not a valid name of a branch, tag or commit.
    #[error("{revision:?} is not the name of a branch, tag or commit")]
    InvalidRevision {
        /// The requested revision, cut to a readable length.
        revision: String,
    },
    /// A path in the repository that must not be written.
    #[error("{commit}: the path {path:?} is refused: {reason}")]
    UnsafePath {
        /// The commit's id.
        commit: String,
        /// The path in the repository.
        path: String,
        /// The reason it is refused.
        reason: &'static str,
    },
    /// More than a limit of the settings allows.
    #[error("{what}: {}; the setting {} allows {most}", .limit.passed(*.count), .limit.setting())]
    TooLarge {
        /// The commit's id or the repository.
        what: String,
        /// The limit that was passed.
        limit: Limit,
        /// The count so far; counting stopped there.
        count: u64,
        /// The limit's value.
        most: u64,
    },
    /// A submodule cannot be checked out.
    #[error("submodule {path:?}: {cause}")]
    Submodule {
        /// The submodule's folder.
        path: String,
        /// The cause.
        cause: Box<GitError>,
    },
    /// The mirror is damaged. The next fetch rebuilds it.
    #[error("{url}: the mirror is damaged and will be built anew by the next fetch: {reason}")]
    BrokenMirror {
        /// The repository.
        url: String,
        /// The damage.
        reason: String,
    },
    /// The repository holds an object that libgit2 cannot read. The host has the same bytes; the
    /// mirror is intact.
    #[error("{url}: the repository holds an object that cannot be read: {reason}")]
    Malformed {
        /// The repository.
        url: String,
        /// The message of libgit2.
        reason: String,
    },
    /// A file could not be read or written on this machine.
    #[error("{path}: {cause}")]
    Disk {
        /// The file or folder.
        path: String,
        /// The error of the system.
        cause: io::Error,
    },
    /// The receiver of an archive failed.
    #[error("the archive of {commit} could not be written: {cause}")]
    Archive {
        /// The commit's id.
        commit: String,
        /// The error of the writer.
        cause: io::Error,
    },
    /// Any other error of libgit2.
    #[error("{url}: {reason}")]
    Git {
        /// The repository.
        url: String,
        /// The message of libgit2.
        reason: String,
    },
}

/// A limit that a setting defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The number of files, folders and symlinks of a commit.
    Files,
    /// The total size of a commit's files, in bytes.
    Bytes,
    /// The bytes that one fetch receives.
    FetchBytes,
}

impl Limit {
    /// The name of the setting.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Files => "git_files",
            Self::Bytes => "git_bytes",
            Self::FetchBytes => "git_fetch_bytes",
        }
    }

    /// Refuses a `count` above `most`.
    pub(super) fn hold(
        self,
        count: u64,
        most: u64,
        what: impl FnOnce() -> String,
    ) -> Result<(), GitError> {
        if count <= most {
            return Ok(());
        }
        Err(GitError::TooLarge {
            what: what(),
            limit: self,
            count,
            most,
        })
    }

    fn passed(self, count: u64) -> String {
        match self {
            Self::Files => format!("it has {count} files and folders or more"),
            Self::Bytes => format!("its files have {count} bytes or more"),
            Self::FetchBytes => format!("the repository has {count} bytes or more"),
        }
    }
}

impl GitError {
    pub(super) fn timed_out(url: &RepoUrl, after: Duration) -> Self {
        let url = url.as_str().to_owned();
        Self::TimedOut { url, after }
    }

    pub(super) fn unreachable(url: &RepoUrl, reason: &str) -> Self {
        Self::Unreachable {
            url: url.as_str().to_owned(),
            reason: printable(reason),
        }
    }

    pub(super) fn disk(path: &Path, cause: io::Error) -> Self {
        Self::Disk {
            path: path.display().to_string(),
            cause,
        }
    }

    /// True if the requested revision does not exist, rather than being out of reach.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::UnknownRevision { .. } | Self::UnknownCommit { .. }
        )
    }

    /// Converts an error from reading a mirror: objects that should exist are missing.
    pub(super) fn reading(url: &RepoUrl, error: &git2::Error) -> Self {
        let (url, reason) = (url.as_str().to_owned(), printable(error.message()));
        match is_malformed(error) {
            true => Self::Malformed { url, reason },
            false => Self::BrokenMirror { url, reason },
        }
    }

    /// Converts an error about a mirror that was just built: the fault is then in the repository.
    pub(super) fn of_new_mirror(self) -> Self {
        match self {
            Self::BrokenMirror { url, reason } => Self::Git { url, reason },
            other => other,
        }
    }

    /// Converts an error from fetching.
    pub(super) fn fetching(url: &RepoUrl, error: &git2::Error) -> Self {
        let reason = printable(error.message());
        let text = reason.to_ascii_lowercase();
        let named = url.as_str().to_owned();
        match (error.code(), error.class()) {
            (ErrorCode::Certificate, _) | (_, ErrorClass::Ssl) if text.contains("certificate") => {
                Self::CertificateNotTrusted { url: named, reason }
            }
            (ErrorCode::Auth, _) => Self::Authentication { url: named, reason },
            (ErrorCode::Owner, _) => Self::NotARepository { url: named, reason },
            _ if is_malformed(error) => Self::Malformed { url: named, reason },
            _ if text.contains("status code: 401") || text.contains("status code: 403") => {
                Self::Authentication { url: named, reason }
            }
            _ if says_no_repository(&text) => Self::NotARepository { url: named, reason },
            (_, ErrorClass::Ssh) if says_bad_key(&text) => {
                let reason = format!(
                    "the key cannot be read: it is damaged, of an unsupported kind, or its passphrase is wrong ({reason})"
                );
                Self::Authentication { url: named, reason }
            }
            (_, ErrorClass::Net | ErrorClass::Http | ErrorClass::Ssh | ErrorClass::Ssl) => {
                Self::Unreachable { url: named, reason }
            }
            (
                _,
                ErrorClass::Odb
                | ErrorClass::Zlib
                | ErrorClass::Object
                | ErrorClass::Reference
                | ErrorClass::Repository
                | ErrorClass::Tree
                | ErrorClass::Tag
                | ErrorClass::Config,
            ) => Self::BrokenMirror { url: named, reason },
            (_, ErrorClass::Os) => Self::Disk {
                path: named,
                cause: io::Error::other(reason),
            },
            _ => Self::Git { url: named, reason },
        }
    }
}

/// True if libgit2 could not parse an object that is byte for byte as the host sent it.
fn is_malformed(error: &git2::Error) -> bool {
    match error.class() {
        // A person whose name or address it could not parse.
        ErrorClass::Invalid => error.message().contains("signature"),
        ErrorClass::Object | ErrorClass::Tree | ErrorClass::Tag => {
            error.code() == ErrorCode::Invalid || error.message().contains("failed to parse")
        }
        _ => false,
    }
}

fn says_no_repository(text: &str) -> bool {
    [
        "status code: 404",
        "repository not exported",
        "not appear to be a git repository",
        "not found",
        "could not find repository",
        "not a git repository",
        "no such repository",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

fn says_bad_key(text: &str) -> bool {
    text.contains("private key") || text.contains("public key") || text.contains("key file")
}

/// A foreign text made fit for a message: without control characters, and not too long.
pub(super) fn printable(text: &str) -> String {
    let is_hidden = |letter: char| {
        letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.trim()
        .chars()
        .map(|letter| if is_hidden(letter) { ' ' } else { letter })
        .take(MAX_QUOTE)
        .collect()
}
