//! What can go wrong with git, in words for a person, and how libgit2's errors become it.

use std::io;
use std::path::Path;
use std::time::Duration;

use git2::{ErrorClass, ErrorCode};

use super::url::{RepoUrl, UrlError};

/// How much of a text from outside is repeated in a message, in characters.
const MAX_QUOTE: usize = 300;

/// Why a git operation failed. Messages name the repository, revision or path, and no secret.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The address is not allowed, by its text or by what its name resolves to.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The git host refused the credential, or asks for one and none was given.
    #[error("{url}: the git host refused the login: {reason}")]
    Authentication {
        /// The repository.
        url: String,
        /// What was refused or missing.
        reason: String,
    },
    /// A credential that this kind of address cannot or must not carry.
    #[error("{url}: {reason}")]
    UnfitCredential {
        /// The repository.
        url: String,
        /// Why it does not fit.
        reason: &'static str,
    },
    /// No connection to the git host, or it broke.
    #[error("{url}: the git host cannot be reached: {reason}")]
    Unreachable {
        /// The repository.
        url: String,
        /// What the system or the host said.
        reason: String,
    },
    /// The git host did not answer in time.
    #[error("{url}: the git host did not answer within {} s", .after.as_secs_f32())]
    TimedOut {
        /// The repository.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// No ssh host key has been accepted for this host yet.
    #[error("{url}: the git host's ssh key has not been accepted yet; it offers {fingerprint}")]
    UnknownHostKey {
        /// The repository.
        url: String,
        /// What it offers, as `SHA256:…`.
        fingerprint: String,
    },
    /// The host shows another ssh key than the accepted one.
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
        /// What the check found.
        reason: String,
    },
    /// The progress callback asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The host answers, but there is no repository, or this login may not see it.
    #[error("{url}: there is no such repository, or this login may not see it: {reason}")]
    NotARepository {
        /// The repository.
        url: String,
        /// What the host said.
        reason: String,
    },
    /// The repository has not been fetched yet.
    #[error("{url}: the repository has not been fetched yet")]
    NotFetched {
        /// The repository.
        url: String,
    },
    /// No branch, tag or commit of that name.
    #[error("{url}: there is no branch, tag or commit {revision:?}")]
    UnknownRevision {
        /// The repository.
        url: String,
        /// What was asked for.
        revision: String,
    },
    /// A full id of a commit that is neither in the mirror nor given by the host.
    #[error(
        "{url}: no branch or tag leads to the commit {commit}; if one did, it was force-pushed or deleted since"
    )]
    UnknownCommit {
        /// The repository.
        url: String,
        /// The commit's id.
        commit: String,
    },
    /// Not the name of a branch, tag or commit at all.
    #[error("{revision:?} is not the name of a branch, tag or commit")]
    InvalidRevision {
        /// What was asked for, cut to a readable length.
        revision: String,
    },
    /// A path in the repository that must not be written.
    #[error("{commit}: the path {path:?} is refused: {reason}")]
    UnsafePath {
        /// The commit's id.
        commit: String,
        /// The path in the repository.
        path: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// More than a limit of the settings allows.
    #[error("{what}: {}; the setting {} allows {most}", .limit.passed(*.count), .limit.setting())]
    TooLarge {
        /// The commit's id or the repository.
        what: String,
        /// Which limit.
        limit: Limit,
        /// How many it has at least: counting ended there.
        count: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// A submodule cannot be put in its place.
    #[error("submodule {path:?}: {cause}")]
    Submodule {
        /// Its folder.
        path: String,
        /// Why not.
        cause: Box<GitError>,
    },
    /// The mirror is damaged. The next fetch builds it anew.
    #[error("{url}: the mirror is damaged and will be built anew by the next fetch: {reason}")]
    BrokenMirror {
        /// The repository.
        url: String,
        /// What is damaged.
        reason: String,
    },
    /// The repository holds an object that libgit2 cannot read. The host has it so; the mirror is whole.
    #[error("{url}: the repository holds an object that cannot be read: {reason}")]
    Malformed {
        /// The repository.
        url: String,
        /// What libgit2 said.
        reason: String,
    },
    /// A file could not be read or written on this machine.
    #[error("{path}: {cause}")]
    Disk {
        /// The file or folder.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The receiver of an archive did not take it.
    #[error("the archive of {commit} could not be written: {cause}")]
    Archive {
        /// The commit's id.
        commit: String,
        /// What the writer said.
        cause: io::Error,
    },
    /// Anything else that libgit2 said.
    #[error("{url}: {reason}")]
    Git {
        /// The repository.
        url: String,
        /// What libgit2 said.
        reason: String,
    },
}

/// What is limited by a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// How many files, folders and symlinks a commit has.
    Files,
    /// How large the files of a commit are together.
    Bytes,
    /// How much one fetch receives.
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

    /// Refuses a `count` past `most`.
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

    /// Whether what was asked for is not there, rather than out of reach.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::UnknownRevision { .. } | Self::UnknownCommit { .. }
        )
    }

    /// An error met while reading a mirror: objects that should be there are not.
    pub(super) fn reading(url: &RepoUrl, error: &git2::Error) -> Self {
        let (url, reason) = (url.as_str().to_owned(), printable(error.message()));
        match is_malformed(error) {
            true => Self::Malformed { url, reason },
            false => Self::BrokenMirror { url, reason },
        }
    }

    /// What is told of a mirror that was just built: whatever is wrong with it is wrong with the
    /// repository.
    pub(super) fn of_new_mirror(self) -> Self {
        match self {
            Self::BrokenMirror { url, reason } => Self::Git { url, reason },
            other => other,
        }
    }

    /// An error met while fetching.
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

/// Whether libgit2 could not make sense of an object that is there, byte for byte as the host sent it.
fn is_malformed(error: &git2::Error) -> bool {
    match error.class() {
        // Whose name or address it could not parse.
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

/// A text from outside, fit for a message: no control characters, and not too long.
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
