//! Host keys: the identity of a server, shown to the user once and pinned from then on.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

use super::credential::Credential;
use super::dial::{Way, dial};
use super::error::{Cause, SshError};
use super::link::{Link, Patience};
use super::{Cancel, Target, Timeouts};

/// A server's public key, as far as needed to recognise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// The key's type by its SSH name, such as `ssh-ed25519`.
    pub kind: String,
}

impl HostKey {
    /// The key of a server from its encoding (RFC 4253 section 6.6), which begins with the type.
    pub(super) fn from_encoded(encoded: &[u8]) -> Self {
        let kind = encoded
            .split_first_chunk()
            .and_then(|(length, rest)| rest.get(..u32::from_be_bytes(*length) as usize))
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .unwrap_or_default();
        let digest = STANDARD_NO_PAD.encode(Sha256::digest(encoded));
        Self {
            fingerprint: format!("SHA256:{digest}"),
            kind,
        }
    }

    /// The text to keep when the user accepts this key: type and fingerprint, `ssh-ed25519
    /// SHA256:…`. Later connections ask for this type first, so that a server with several keys
    /// does not appear changed.
    pub fn pin(&self) -> String {
        format!("{} {}", self.kind, self.fingerprint)
    }

    fn is_pinned_as(&self, pinned: &str) -> bool {
        let (kind, fingerprint) = split(pinned);
        fingerprint == self.fingerprint && kind.is_none_or(|kind| kind == self.kind)
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.pin())
    }
}

/// The current key of the server at `host` and `port`, to be shown to the user. No login takes
/// place.
///
/// # Errors
/// Those of connecting and of the handshake.
pub fn host_key(host: &str, port: u16, timeouts: &Timeouts) -> Result<HostKey, SshError> {
    offered_key(
        &Target {
            host: host.to_owned(),
            port,
            user: String::new(),
            credential: Credential::nothing(),
            host_key: None,
            via: None,
            proxy: None,
        },
        timeouts,
    )
}

/// The current key of `target`, regardless of the pin. No login takes place there, but on its jump
/// servers, whose keys must be the pinned ones.
///
/// # Errors
/// Those of connecting and of the handshake, and those of the jump servers' logins.
pub fn offered_key(target: &Target, timeouts: &Timeouts) -> Result<HostKey, SshError> {
    let Way {
        socket,
        until,
        mut process,
    } = dial(target, timeouts, &Cancel::new())?;
    Link::open(socket, timeouts, Patience::until(until), None)
        .and_then(|link| link.host_key())
        .map_err(|cause| match &mut process {
            Some(process) => process.blame(cause),
            None => cause,
        })
        .map_err(|cause| SshError::at(&target.host, target.port, cause))
}

/// Refuses every key but the pinned one.
pub(super) fn check(pinned: Option<&str>, offered: HostKey) -> Result<(), Cause> {
    match pinned {
        Some(pinned) if offered.is_pinned_as(pinned) => Ok(()),
        Some(pinned) => Err(Cause::HostKeyChanged {
            pinned: pinned.to_owned(),
            offered,
        }),
        None => Err(Cause::UnknownHostKey { offered }),
    }
}

/// The host key algorithms in order of preference: those of the pinned key's type first, then the
/// others, so that a server that lost that key is detected as changed.
pub(super) fn preference(pinned: &str, supported: &[&str]) -> Option<String> {
    let kind = split(pinned).0?;
    let signs_for_pinned = |algorithm: &str| match kind {
        "ssh-rsa" => algorithm.starts_with("rsa-sha2-") && !algorithm.contains("cert"),
        kind => algorithm == kind,
    };
    let (first, last): (Vec<_>, Vec<_>) = supported
        .iter()
        .copied()
        .partition(|algorithm| signs_for_pinned(algorithm));
    match first.is_empty() {
        true => None,
        false => Some([first, last].concat().join(",")),
    }
}

fn split(pinned: &str) -> (Option<&str>, &str) {
    match pinned.trim().split_once(' ') {
        Some((kind, fingerprint)) => (Some(kind), fingerprint.trim()),
        None => (None, pinned.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey::from_encoded(b"\0\0\0\x0bssh-ed25519\0\0\0\x01x")
    }

    #[test]
    fn only_the_pinned_key_passes() {
        let key = key();
        assert_eq!(key.kind, "ssh-ed25519");
        assert!(key.fingerprint.starts_with("SHA256:"));
        assert!(check(Some(&key.pin()), key.clone()).is_ok());
        assert!(check(Some(&key.fingerprint), key.clone()).is_ok());
        let other_kind = format!("ssh-rsa {}", key.fingerprint);
        for changed in ["SHA256:other", "ssh-ed25519 SHA256:other", &other_kind, ""] {
            assert!(
                matches!(
                    check(Some(changed), key.clone()),
                    Err(Cause::HostKeyChanged { .. })
                ),
                "{changed}"
            );
        }
        assert!(matches!(
            check(None, key),
            Err(Cause::UnknownHostKey { .. })
        ));
    }

    #[test]
    fn the_pinned_kind_is_asked_for_first_and_none_is_dropped() {
        let supported = [
            "ssh-ed25519",
            "rsa-sha2-512",
            "rsa-sha2-256",
            "ecdsa-sha2-nistp256",
        ];
        assert_eq!(
            preference("ssh-rsa SHA256:x", &supported).as_deref(),
            Some("rsa-sha2-512,rsa-sha2-256,ssh-ed25519,ecdsa-sha2-nistp256")
        );
        assert_eq!(preference("SHA256:x", &supported), None);
        assert_eq!(preference("ssh-dss SHA256:x", &supported), None);
    }

    #[test]
    fn a_broken_encoding_is_no_panic() {
        assert_eq!(HostKey::from_encoded(b"\xff\xff\xff\xffx").kind, "");
        assert_eq!(HostKey::from_encoded(b"").kind, "");
    }
}
