//! A git host's ssh key: shown to the user, pinned, and compared at every fetch.

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use git2::cert::Cert;
use git2::{CertificateCheckStatus, Direction, Remote, RemoteCallbacks};
use serde::Serialize;

use super::error::GitError;
use super::fetch::Target;
use super::url::{RepoUrl, UrlPolicy};
use super::{GitCredential, address, relay::Relay};

/// The ssh key that a git host offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostKey {
    /// `SHA256:` and the hash in base64 without padding, as OpenSSH shows it.
    pub fingerprint: String,
    /// The key's kind, such as `ssh-ed25519`.
    pub kind: String,
}

/// Fetches the host key of an ssh address, for the user to accept. Nothing is authenticated. Ends
/// within about `timeout`.
///
/// # Errors
/// An address that is not allowed or not over ssh, and a host that does not answer.
pub fn host_key(url: &RepoUrl, policy: &UrlPolicy, timeout: Duration) -> Result<HostKey, GitError> {
    url.check(policy)?;
    if !url.is_ssh() {
        return Err(GitError::Git {
            url: url.as_str().to_owned(),
            reason: "only ssh addresses have a host key".to_owned(),
        });
    }
    let (stream, address) = address::connect(url, policy, timeout, &AtomicBool::new(false))?;
    let relay = Relay::start(url, stream, address, timeout)
        .map_err(|error| GitError::unreachable(url, &error.to_string()))?;
    let offered = RefCell::new(None);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.certificate_check(|cert, _| {
        *offered.borrow_mut() = read(cert);
        Err(git2::Error::from_str("the key is known now"))
    });
    let target = Target::through(url, &GitCredential::None, relay.port());
    let connected = Remote::create_detached(target.url.as_str()).and_then(|mut remote| {
        remote
            .connect_auth(Direction::Fetch, Some(callbacks), None)
            .map(drop)
    });
    match (offered.into_inner(), connected) {
        (Some(key), _) => Ok(key),
        (None, _) if relay.stalled() => Err(GitError::timed_out(url, timeout)),
        (None, Err(error)) => Err(GitError::fetching(url, &error)),
        (None, Ok(())) => Err(GitError::unreachable(url, "it offered no ssh key")),
    }
}

/// Checks the certificate or key of one connection: https is left to libgit2, an ssh key must be
/// the pinned one. `refusal` receives the error if it is not.
pub(super) fn check(
    url: &RepoUrl,
    pinned: Option<&str>,
    cert: &Cert<'_>,
    refusal: &RefCell<Option<GitError>>,
) -> Result<CertificateCheckStatus, git2::Error> {
    if !url.is_ssh() {
        return Ok(CertificateCheckStatus::CertificatePassthrough);
    }
    let offered = read(cert).map_or_else(String::new, |key| key.fingerprint);
    let url = url.as_str().to_owned();
    let error = match pinned {
        Some(pinned) if pinned == offered && !offered.is_empty() => {
            return Ok(CertificateCheckStatus::CertificateOk);
        }
        Some(pinned) => GitError::HostKeyChanged {
            url,
            pinned: pinned.to_owned(),
            offered,
        },
        None => GitError::UnknownHostKey {
            url,
            fingerprint: offered,
        },
    };
    *refusal.borrow_mut() = Some(error);
    Err(git2::Error::from_str("the host key is not the pinned one"))
}

fn read(cert: &Cert<'_>) -> Option<HostKey> {
    let key = cert.as_hostkey()?;
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(key.hash_sha256()?));
    let kind = key.hostkey().and_then(kind_of).unwrap_or_default();
    Some(HostKey { fingerprint, kind })
}

/// The key type of a public key in ssh's wire form, which begins with it as a length-prefixed
/// string (RFC 4253, section 6.6).
fn kind_of(wire: &[u8]) -> Option<String> {
    let (length, rest) = wire.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let kind = std::str::from_utf8(rest.get(..length)?).ok()?;
    kind.is_ascii().then(|| kind.to_owned())
}
