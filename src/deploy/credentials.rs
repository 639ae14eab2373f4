//! Opens stored credentials for the one moment in which they are used.

use std::num::NonZeroU32;

use crate::git::{GitCredential, RepoUrl, Source, UrlPolicy};
use crate::secret::{Secret, Vault, VaultError};
use crate::ssh::{Credential as SshCredential, Target};
use crate::store::credentials::{self, Credential, PASSPHRASE, SECRET};
use crate::store::projects::Project;
use crate::store::servers::Server;
use crate::store::{CredentialId, CredentialKind, Store};

use super::error::DeployError;

/// Finds and opens credentials.
#[derive(Clone)]
pub(super) struct Keyring {
    pub(super) store: Store,
    pub(super) vault: Vault,
    pub(super) policy: UrlPolicy,
}

impl Keyring {
    fn find(&self, id: Option<CredentialId>) -> Result<Option<Credential>, DeployError> {
        Ok(match id {
            Some(id) => Some(self.store.read(|conn| credentials::find(conn, id))?),
            None => None,
        })
    }

    fn passphrase(&self, credential: &Credential) -> Result<Option<Secret<String>>, VaultError> {
        credential
            .passphrase
            .as_ref()
            .map(|sealed| self.vault.open_text(sealed, PASSPHRASE))
            .transpose()
    }

    /// What opens `server`. Without a credential an empty password is tried, which sshd refuses
    /// unless its operator allows it.
    pub(super) fn target(&self, server: &Server) -> Result<Target, super::error::StepError> {
        let credential = self
            .find(server.credential_id)
            .and_then(|credential| self.ssh_credential(credential.as_ref()))?;
        Ok(Target {
            host: server.host.clone(),
            port: u16::try_from(server.port).unwrap_or_default(),
            user: server.user.clone(),
            credential,
            host_key: server.host_key.clone(),
        })
    }

    fn ssh_credential(
        &self,
        credential: Option<&Credential>,
    ) -> Result<SshCredential, DeployError> {
        let Some(credential) = credential else {
            return Ok(SshCredential::Password(Secret::new(String::new())));
        };
        let secret = self.vault.open_text(&credential.secret, SECRET)?;
        Ok(match credential.kind {
            CredentialKind::SshKey | CredentialKind::GitSshKey => SshCredential::KeyInMemory {
                key: secret,
                passphrase: self.passphrase(credential)?,
            },
            CredentialKind::Password | CredentialKind::GitToken => SshCredential::Password(secret),
        })
    }

    /// Where `project`'s repository is and what opens it.
    pub(super) fn source(&self, project: &Project) -> Result<Source, DeployError> {
        let credential = match self.find(project.credential_id)? {
            Some(credential) => self.git_credential(&credential)?,
            None => GitCredential::None,
        };
        Ok(Source {
            url: RepoUrl::parse(&project.repo, &self.policy).map_err(crate::git::GitError::from)?,
            credential,
            host_key: project.host_key.clone(),
            depth: u32::try_from(project.depth).ok().and_then(NonZeroU32::new),
            submodules: project.submodules,
        })
    }

    fn git_credential(&self, credential: &Credential) -> Result<GitCredential, DeployError> {
        let secret = self.vault.open_text(&credential.secret, SECRET)?;
        Ok(match credential.kind {
            CredentialKind::GitToken | CredentialKind::Password => {
                match secret.expose().split_once(':') {
                    Some((user, token)) => GitCredential::Token {
                        user: Some(user.to_owned()),
                        token: Secret::new(token.to_owned()),
                    },
                    None => GitCredential::Token {
                        user: None,
                        token: secret,
                    },
                }
            }
            CredentialKind::GitSshKey | CredentialKind::SshKey => GitCredential::SshKey {
                user: None,
                key: secret,
                passphrase: self.passphrase(credential)?,
            },
        })
    }
}
