//! Decrypts stored credentials at the moment of use.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::git::{GitCredential, RepoUrl, Source, UrlPolicy};
use crate::secret::{Secret, Vault, VaultError};
use crate::ssh::{
    Cancel, Cause, Credential as SshCredential, KeyFolders, Leased, Pool, Proxy, ProxyCommand,
    ProxyServer, SshError, Target, Timeouts,
};
use crate::store::credentials::{self, Credential, PASSPHRASE, PASSWORD, SECRET};
use crate::store::projects::Project;
use crate::store::servers::{self, PROXY_PASSWORD, Server};
use crate::store::{CredentialId, CredentialKind, Store, StoreError, Words};

use super::error::{DeployError, StepError};
use super::proxy_command::LocalLauncher;

/// SSH connections, time-outs and keys.
#[derive(Clone, Debug)]
pub struct SshAccess {
    /// The open connections.
    pub pool: Pool,
    /// The time-outs for servers without time-outs of their own.
    pub timeouts: Timeouts,
    /// The folders in which the platform's own key files may be.
    pub key_folders: KeyFolders,
    /// The SSH agent that may be used.
    pub agent: Agent,
    /// The account that proxy commands run as. `None`: the platform's account.
    pub run_as: Option<String>,
}

/// The platform's own SSH agent.
#[derive(Clone, Debug)]
pub enum Agent {
    /// The settings do not allow it.
    Off,
    /// The settings allow it, but there is none.
    Missing,
    /// The path of its socket.
    At(PathBuf),
}

/// Finds and decrypts credentials, and builds connection targets from them.
#[derive(Clone)]
pub(super) struct Keyring {
    pub(super) store: Store,
    pub(super) vault: Vault,
    pub(super) policy: UrlPolicy,
    pub(super) ssh: SshAccess,
}

impl Keyring {
    fn find(&self, id: Option<CredentialId>) -> Result<Option<Credential>, DeployError> {
        Ok(match id {
            Some(id) => Some(self.store.read(|conn| credentials::find(conn, id))?),
            None => None,
        })
    }

    fn passphrase(&self, credential: &Credential) -> Result<Option<Secret<String>>, VaultError> {
        self.opened(credential.passphrase.as_ref(), PASSPHRASE)
    }

    fn opened(
        &self,
        sealed: Option<&Vec<u8>>,
        purpose: &str,
    ) -> Result<Option<Secret<String>>, VaultError> {
        sealed
            .map(|sealed| self.vault.open_text(sealed, purpose))
            .transpose()
    }

    /// A connection to `server`, through its jump servers.
    pub(super) fn lease(&self, server: &Server, cancel: &Cancel) -> Result<Leased, StepError> {
        let target = self.target(server)?;
        Ok(self
            .ssh
            .pool
            .lease(&target, &self.timeouts(server), cancel)?)
    }

    /// The time-outs of `server`.
    pub(super) fn timeouts(&self, server: &Server) -> Timeouts {
        let own = |seconds: Option<i32>| {
            let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
            seconds.map(Duration::from_secs)
        };
        Timeouts {
            connect: own(server.connect_seconds).unwrap_or(self.ssh.timeouts.connect),
            idle: own(server.idle_seconds).unwrap_or(self.ssh.timeouts.idle),
        }
    }

    /// The address, login and host key of `server`. Without a credential an empty password is tried,
    /// which sshd refuses unless its operator allows it.
    pub(super) fn target(&self, server: &Server) -> Result<Target, DeployError> {
        let credential = self.server_credential(server)?;
        self.target_with(server, credential)
    }

    /// [`target`](Self::target) with another credential for `server` itself.
    pub(super) fn target_with(
        &self,
        server: &Server,
        credential: SshCredential,
    ) -> Result<Target, DeployError> {
        let jump = server.jump_id;
        let way = self
            .store
            .read(|conn| servers::way(conn, server.id, jump))?;
        let mut via = None;
        for jump in way.iter().rev() {
            let mut hop = target(jump, self.server_credential(jump)?, via);
            hop.proxy = self.proxy(jump)?;
            via = Some(hop);
        }
        let mut target = target(server, credential, via);
        target.proxy = self.proxy(server)?;
        Ok(target)
    }

    /// The proxy in front of `server`. A server behind a jump server has none.
    fn proxy(&self, server: &Server) -> Result<Option<Proxy>, DeployError> {
        if server.jump_id.is_some() {
            return Ok(None);
        }
        if let Some(Words(arguments)) = &server.proxy_command {
            return Ok(Some(Proxy::Command(ProxyCommand {
                arguments: arguments.clone(),
                launcher: Arc::new(LocalLauncher {
                    run_as: self.ssh.run_as.clone(),
                }),
            })));
        }
        let Some(address) = &server.proxy else {
            return Ok(None);
        };
        let proxy = ProxyServer::parse(address).map_err(|error| StoreError::Corrupt {
            what: format!("the proxy of {}", server.hostname),
            cause: error.to_string(),
        })?;
        let id = server.id;
        let sealed = self.store.read(|conn| servers::proxy_password(conn, id))?;
        let password = self.opened(sealed.as_ref(), PROXY_PASSWORD)?;
        Ok(Some(Proxy::Server(proxy.with_password(password))))
    }

    fn server_credential(&self, server: &Server) -> Result<SshCredential, DeployError> {
        let found = self.find(server.credential_id)?;
        self.ssh_credential(found.as_ref())
            .map_err(|cause| match cause {
                Denied::Here(error) => error,
                Denied::Key(cause) => DeployError::Ssh(SshError {
                    address: server.hostname.clone(),
                    cause,
                }),
            })
    }

    fn ssh_credential(&self, credential: Option<&Credential>) -> Result<SshCredential, Denied> {
        let Some(credential) = credential else {
            return Ok(SshCredential::nothing());
        };
        let secret = || self.vault.open_text(&credential.secret, SECRET);
        let proof = match credential.kind {
            CredentialKind::SshKey | CredentialKind::GitSshKey => SshCredential::KeyInMemory {
                key: secret()?,
                passphrase: self.passphrase(credential)?,
            },
            CredentialKind::SshKeyFile => {
                let path = Path::new(credential.path.as_deref().unwrap_or_default());
                SshCredential::KeyFile {
                    path: self.ssh.key_folders.find(path)?,
                    passphrase: self.passphrase(credential)?,
                }
            }
            CredentialKind::SshAgent => match &self.ssh.agent {
                Agent::At(socket) => SshCredential::Agent(socket.clone()),
                Agent::Off => return Err(Denied::Key(Cause::AgentOff)),
                Agent::Missing => return Err(Denied::Key(Cause::no_agent())),
            },
            CredentialKind::Password | CredentialKind::GitToken => {
                SshCredential::Password(secret()?)
            }
        };
        let password = self.opened(credential.password.as_ref(), PASSWORD)?;
        Ok(proof.and_password(password))
    }

    /// The address and credential of `project`'s repository.
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
            CredentialKind::SshKeyFile | CredentialKind::SshAgent => {
                return Err(DeployError::WrongCredential {
                    name: credential.name.clone(),
                });
            }
        })
    }
}

/// The reason why a credential cannot be used.
enum Denied {
    Here(DeployError),
    Key(Cause),
}

impl From<VaultError> for Denied {
    fn from(error: VaultError) -> Self {
        Self::Here(error.into())
    }
}

impl From<Cause> for Denied {
    fn from(cause: Cause) -> Self {
        Self::Key(cause)
    }
}

fn target(server: &Server, credential: SshCredential, via: Option<Target>) -> Target {
    Target {
        host: server.host.clone(),
        port: u16::try_from(server.port).unwrap_or_default(),
        user: server.user.clone(),
        credential,
        host_key: server.host_key.clone(),
        via: via.map(Box::new),
        proxy: None,
    }
}
