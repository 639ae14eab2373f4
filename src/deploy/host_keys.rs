//! Acceptance of servers' host keys: a key that a person saw, or those of a `known_hosts` file.

use serde::Serialize;

use super::by_hand::{By, ByHand};
use super::engine::Engine;
use super::error::DeployError;
use super::said::Message;
use crate::ssh::{self, Credential, HostKey, Known, KnownHosts};
use crate::store::servers::{self, Server};
use crate::store::{AuditOutcome, Conn, ServerId, ServerKind, StoreError};

/// The fingerprint in a pinned key, which may begin with the key's kind.
pub(super) fn fingerprint_of(pinned: &str) -> &str {
    pinned.rsplit(' ').next().unwrap_or(pinned)
}

/// The result of importing a `known_hosts` file.
#[derive(Debug, Default, Serialize)]
pub struct Import {
    /// The servers that it names, sorted by name.
    pub servers: Vec<Imported>,
    /// The numbers of the lines that could not be read, from 1.
    pub unread: Vec<usize>,
}

/// The result for one server.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// The server.
    pub id: ServerId,
    /// Its name.
    pub hostname: String,
    /// The action taken.
    pub outcome: ImportOutcome,
    /// The fingerprint of the file's key. `None` for an authority's line only.
    pub fingerprint: Option<String>,
    /// The fingerprint that was accepted before.
    pub known_fingerprint: Option<String>,
}

/// The action taken on a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportOutcome {
    /// The server had no accepted key and has this one now.
    Accepted,
    /// The server already had this key.
    Same,
    /// The server has another key, which stays: a person must decide.
    Differs,
    /// The accepted key is revoked in the file and is no longer accepted.
    Withdrawn,
    /// The file only revokes keys of the server; nothing was changed.
    Revoked,
    /// The file has only a certificate authority, which is not supported.
    Authority,
}

/// Decides on the action, and the key it is about.
fn decide(known: &Known, pinned: Option<&str>) -> Option<(ImportOutcome, Option<HostKey>)> {
    let find = |keys: &[HostKey]| {
        let pinned = fingerprint_of(pinned?);
        keys.iter().find(|key| key.fingerprint == pinned).cloned()
    };
    if let Some(revoked) = find(&known.revoked) {
        return Some((ImportOutcome::Withdrawn, Some(revoked)));
    }
    if let Some(same) = find(&known.keys) {
        return Some((ImportOutcome::Same, Some(same)));
    }
    let first = known.keys.first().cloned();
    match (first, pinned) {
        (Some(key), Some(_)) => Some((ImportOutcome::Differs, Some(key))),
        (Some(key), None) => Some((ImportOutcome::Accepted, Some(key))),
        (None, _) => match known.revoked.first() {
            Some(revoked) => Some((ImportOutcome::Revoked, Some(revoked.clone()))),
            None if known.authority => Some((ImportOutcome::Authority, None)),
            None => None,
        },
    }
}

fn import_one(
    conn: &mut Conn,
    file: &KnownHosts,
    server: Server,
) -> Result<Option<Imported>, StoreError> {
    let port = u16::try_from(server.port).unwrap_or_default();
    let known = file.of(&server.host, port);
    let Some((outcome, key)) = decide(&known, server.host_key.as_deref()) else {
        return Ok(None);
    };
    match (outcome, &key) {
        (ImportOutcome::Accepted, Some(key)) => {
            servers::set_host_key(conn, server.id, Some(&key.pin()))?;
        }
        (ImportOutcome::Withdrawn, _) => servers::set_host_key(conn, server.id, None)?,
        _ => {}
    }
    Ok(Some(Imported {
        id: server.id,
        hostname: server.hostname,
        outcome,
        fingerprint: key.map(|key| key.fingerprint),
        known_fingerprint: server
            .host_key
            .as_deref()
            .map(|pinned| fingerprint_of(pinned).to_owned()),
    }))
}

impl ByHand {
    /// Accepts host keys from the text of a `known_hosts` file for the servers that have none yet. A
    /// key that differs from the accepted one changes nothing; an accepted key that the file revokes
    /// is withdrawn.
    ///
    /// # Errors
    /// The database fails. Lines that cannot be read are no error.
    pub fn import_known_hosts(&self, by: &By, text: &str) -> Result<Import, DeployError> {
        let file = KnownHosts::read(text);
        let deed = self.begin(by, "import_host_keys", None, "known_hosts")?;
        let imported = self.keyring.store.write(|conn| {
            let mut imported = Vec::new();
            for server in servers::all(conn)? {
                if server.kind == ServerKind::Ssh {
                    imported.extend(import_one(conn, &file, server)?);
                }
            }
            Ok(imported)
        })?;
        let changed: Vec<&str> = imported
            .iter()
            .filter(|it| {
                matches!(
                    it.outcome,
                    ImportOutcome::Accepted | ImportOutcome::Withdrawn
                )
            })
            .map(|it| it.hostname.as_str())
            .collect();
        self.end(deed, AuditOutcome::Succeeded, &changed.join(", "))?;
        Ok(Import {
            servers: imported,
            unread: file.unread,
        })
    }

    /// Pins a server's host key: the one that a person saw, if the server still shows it.
    ///
    /// # Errors
    /// The server has no host key, cannot be reached or shows another key, or the database fails.
    pub fn accept_key(&self, by: &By, id: ServerId, fingerprint: &str) -> Result<(), DeployError> {
        let store = &self.keyring.store;
        let server = store.read(|conn| servers::find(conn, id))?;
        if server.kind == ServerKind::Local {
            return Err(DeployError::NoHostKey {
                what: server.hostname,
            });
        }
        let named = Some((id, server.hostname.as_str()));
        let deed = self.begin(by, "accept_host_key", named, fingerprint)?;
        match self.accept(&server, fingerprint) {
            Ok(offered) => self.end(deed, AuditOutcome::Succeeded, &offered.pin()),
            Err(error) => {
                self.end(deed, AuditOutcome::Failed, &Message::from(&error).stored())?;
                Err(error)
            }
        }
    }

    fn accept(&self, server: &Server, fingerprint: &str) -> Result<HostKey, DeployError> {
        // No login takes place: the server's credential may not work yet.
        let target = self.keyring.target_with(server, Credential::nothing())?;
        let offered = ssh::offered_key(&target, &self.keyring.timeouts(server))?;
        same(fingerprint, &offered.fingerprint)?;
        let store = &self.keyring.store;
        store.write(|conn| servers::set_host_key(conn, server.id, Some(&offered.pin())))?;
        Ok(offered)
    }
}

impl Engine {
    /// Remote commands and files outside releases.
    pub fn by_hand(&self) -> ByHand {
        ByHand {
            keyring: self.keyring().clone(),
        }
    }
}

pub(super) fn same(accepted: &str, offered: &str) -> Result<(), DeployError> {
    if fingerprint_of(accepted.trim()) == offered {
        return Ok(());
    }
    Err(DeployError::FingerprintMismatch {
        accepted: accepted.to_owned(),
        offered: offered.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> HostKey {
        HostKey {
            fingerprint: format!("SHA256:{name}"),
            kind: "ssh-ed25519".to_owned(),
        }
    }

    #[test]
    fn only_a_server_without_an_accepted_key_gets_one() {
        use ImportOutcome::*;
        let known = |keys: &[&str], revoked: &[&str], authority| Known {
            keys: keys.iter().map(|name| key(name)).collect(),
            revoked: revoked.iter().map(|name| key(name)).collect(),
            authority,
        };
        let pinned = key("a").pin();
        let decided = |known: Known, pinned: Option<&str>| {
            decide(&known, pinned).map(|(outcome, key)| {
                (
                    outcome,
                    key.map_or(String::new(), |key| key.fingerprint[7..].to_owned()),
                )
            })
        };
        let is = |outcome, key: &str| Some((outcome, key.to_owned()));
        let a = Some(pinned.as_str());
        assert_eq!(decided(known(&["b"], &[], false), None), is(Accepted, "b"));
        assert_eq!(decided(known(&["b", "a"], &[], false), a), is(Same, "a"));
        assert_eq!(decided(known(&["b"], &[], false), a), is(Differs, "b"));
        assert_eq!(decided(known(&["b"], &["a"], false), a), is(Withdrawn, "a"));
        assert_eq!(decided(known(&[], &["c"], true), None), is(Revoked, "c"));
        assert_eq!(decided(known(&[], &[], true), None), is(Authority, ""));
        assert_eq!(decided(known(&[], &[], false), a), None);
        // A bare fingerprint is equal to one with its kind.
        let bare = Some("SHA256:a");
        assert_eq!(decided(known(&["a"], &[], false), bare), is(Same, "a"));
    }
}
