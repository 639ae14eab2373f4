//! Texts of git failures.

use super::Said;
use super::reason::reason;
use crate::git::{GitError, Limit, UrlError};

impl From<&GitError> for Said {
    fn from(error: &GitError) -> Self {
        let at = |key: &str, url: &str| Self::new(key, error).arg("url", url);
        match error {
            GitError::Url(error) => error.into(),
            GitError::Authentication { url, reason: why } => {
                at("failure.git.login", url).with("reason", reason(why))
            }
            GitError::UnfitCredential { url, reason: why } => {
                at("failure.git.unfit_credential", url).with("reason", reason(why))
            }
            GitError::Unreachable { url, reason: why } => {
                at("failure.git.unreachable", url).with("reason", reason(why))
            }
            GitError::TimedOut { url, after } => {
                at("failure.git.timed_out", url).arg("seconds", after.as_secs_f32())
            }
            GitError::UnknownHostKey { url, fingerprint } => {
                at("failure.git.unknown_host_key", url).arg("fingerprint", fingerprint)
            }
            GitError::HostKeyChanged {
                url,
                pinned,
                offered,
            } => at("failure.git.host_key_changed", url)
                .arg("pinned", pinned)
                .arg("offered", offered),
            GitError::CertificateNotTrusted { url, reason: why } => {
                at("failure.git.certificate", url).with("reason", reason(why))
            }
            GitError::Cancelled => Self::new("failure.cancelled", error),
            GitError::NotARepository { url, reason: why } => {
                at("failure.git.no_repository", url).with("reason", reason(why))
            }
            GitError::NotFetched { url } => at("failure.git.not_fetched", url),
            GitError::UnknownRevision { url, revision } => {
                at("failure.git.unknown_revision", url).arg("revision", escaped(revision))
            }
            GitError::UnknownCommit { url, commit } => {
                at("failure.git.unknown_commit", url).arg("commit", commit)
            }
            GitError::InvalidRevision { revision } => {
                Self::new("failure.git.invalid_revision", error).arg("revision", escaped(revision))
            }
            GitError::UnsafePath {
                commit,
                path,
                reason: why,
            } => Self::new("failure.git.unsafe_path", error)
                .arg("commit", commit)
                .arg("path", escaped(path))
                .with("reason", reason(why)),
            GitError::TooLarge {
                what,
                limit,
                count,
                most,
            } => Self::new(limit_key(*limit), error)
                .arg("what", what)
                .arg("count", count)
                .arg("most", most)
                .arg("setting", limit.setting()),
            GitError::Submodule { path, cause } => Self::new("failure.git.submodule", error)
                .arg("path", escaped(path))
                .said("cause", &**cause),
            GitError::BrokenMirror { url, reason: why } => {
                at("failure.git.broken_mirror", url).with("reason", reason(why))
            }
            GitError::Malformed { url, reason: why } => {
                at("failure.git.malformed", url).with("reason", reason(why))
            }
            GitError::Disk { path, cause } => Self::new("failure.file", error)
                .arg("path", path)
                .arg("cause", cause),
            GitError::Archive { commit, cause } => Self::new("failure.git.archive", error)
                .arg("commit", commit)
                .arg("cause", cause),
            GitError::Git { url, reason: why } => {
                at("failure.git.other", url).with("reason", reason(why))
            }
        }
    }
}

fn limit_key(limit: Limit) -> &'static str {
    match limit {
        Limit::Files => "failure.git.too_many_files",
        Limit::Bytes => "failure.git.files_too_large",
        Limit::FetchBytes => "failure.git.fetch_too_large",
    }
}

/// The text as `Debug` writes it, without the quotes.
fn escaped(text: &str) -> String {
    let quoted = format!("{text:?}");
    quoted[1..quoted.len() - 1].to_owned()
}

impl From<&UrlError> for Said {
    fn from(error: &UrlError) -> Self {
        let key = match error {
            UrlError::Empty => "failure.url.empty",
            UrlError::TooLong => "failure.url.too_long",
            UrlError::Character => "failure.url.character",
            UrlError::Scheme => "failure.url.scheme",
            UrlError::PlainHttp => "failure.url.plain_http",
            UrlError::Host => "failure.url.host",
            UrlError::Port => "failure.url.port",
            UrlError::User => "failure.url.user",
            UrlError::PasswordInside => "failure.url.password_inside",
            UrlError::Path => "failure.url.path",
            UrlError::Loopback => "failure.url.loopback",
            UrlError::LinkLocal => "failure.url.link_local",
            UrlError::LocalFolder => "failure.url.local_folder",
        };
        Self::new(key, error)
    }
}
