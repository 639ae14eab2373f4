//! Credentials: they prove our identity to a git host.

use std::cell::RefCell;

use git2::{Cred, CredentialType};

use super::error::GitError;
use super::url::{RepoUrl, Scheme};
use crate::secret::Secret;

/// The user name that git hosts expect over ssh if none is given.
const SSH_USER: &str = "git";
/// The user name sent with a token if none is given; most hosts check only the token.
const TOKEN_USER: &str = "git";

/// A credential for a git host. Secrets never appear in messages.
#[derive(Clone, Debug, Default)]
pub enum GitCredential {
    /// No credential: a public repository.
    #[default]
    None,
    /// An access token, for https.
    Token {
        /// The user name, if the host requires one.
        user: Option<String>,
        /// The token.
        token: Secret<String>,
    },
    /// A user and password, for https or ssh.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// A private key held in memory, for ssh.
    SshKey {
        /// The user name; else the one in the address, else `git`.
        user: Option<String>,
        /// The private key, in OpenSSH, PEM or PKCS8 form.
        key: Secret<String>,
        /// The key's passphrase, if it is encrypted.
        passphrase: Option<Secret<String>>,
    },
}

impl GitCredential {
    /// Checks that this kind of credential may be sent to this kind of address.
    pub(super) fn check(&self, url: &RepoUrl) -> Result<(), GitError> {
        let reason = match (self, url.scheme) {
            (Self::None, _) | (_, Scheme::Local) => return Ok(()),
            (_, Scheme::Http) => "a password or token is never sent over plain http; use https",
            (_, Scheme::Git) => "git:// has no login; use https or ssh for a private repository",
            (Self::SshKey { .. }, Scheme::Https) => "an ssh key cannot be used over https",
            (Self::Token { .. }, Scheme::Ssh | Scheme::Scp) => {
                "a token cannot be used over ssh; use an ssh key"
            }
            _ => return Ok(()),
        };
        Err(GitError::UnfitCredential {
            url: url.as_str().to_owned(),
            reason,
        })
    }

    /// The user name for ssh: from the credential, else from the address, else `git`.
    pub(super) fn ssh_user<'a>(&'a self, url: &'a RepoUrl) -> &'a str {
        let own = match self {
            Self::SshKey { user, .. } => user.as_deref(),
            Self::Password { user, .. } => Some(user.as_str()),
            Self::None | Self::Token { .. } => None,
        };
        own.or(url.user.as_deref()).unwrap_or(SSH_USER)
    }

    /// Bytes that distinguish two credentials, so that a mirror fetched with one is not read with
    /// another.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Token { user, token } => format!("token\0{user:?}\0{}", token.expose()),
            Self::Password { user, password } => format!("password\0{user}\0{}", password.expose()),
            Self::SshKey { user, key, .. } => format!("key\0{user:?}\0{}", key.expose()),
        }
    }
}

/// Presents the credential to libgit2, which asks again after every refusal: it is sent once.
pub(super) struct Presenter<'a> {
    credential: &'a GitCredential,
    url: &'a RepoUrl,
    shown: bool,
    refusal: &'a RefCell<Option<String>>,
}

impl<'a> Presenter<'a> {
    /// `refusal` receives the reason if the login failed.
    pub(super) fn new(
        credential: &'a GitCredential,
        url: &'a RepoUrl,
        refusal: &'a RefCell<Option<String>>,
    ) -> Self {
        Self {
            credential,
            url,
            shown: false,
            refusal,
        }
    }

    /// Answers one request of libgit2.
    pub(super) fn answer(&mut self, allowed: CredentialType) -> Result<Cred, git2::Error> {
        let user = self.credential.ssh_user(self.url);
        if allowed.is_username() && !allowed.is_user_pass_plaintext() {
            return Cred::username(user);
        }
        if std::mem::replace(&mut self.shown, true) {
            return Err(self.refuse("the credential was not accepted"));
        }
        match self.credential {
            GitCredential::Token { user, token } if allowed.is_user_pass_plaintext() => {
                let user = user.as_deref().or(self.url.user.as_deref());
                Cred::userpass_plaintext(user.unwrap_or(TOKEN_USER), token.expose())
            }
            GitCredential::Password { user, password } if allowed.is_user_pass_plaintext() => {
                Cred::userpass_plaintext(user, password.expose())
            }
            GitCredential::SshKey {
                key, passphrase, ..
            } if allowed.is_ssh_memory() => {
                let passphrase = passphrase.as_ref().map(|text| text.expose().as_str());
                Cred::ssh_key_from_memory(user, None, key.expose(), passphrase)
            }
            GitCredential::None => Err(self.refuse("it asks for a login, and none was given")),
            _ => Err(self.refuse("it does not accept this kind of credential")),
        }
    }

    fn refuse(&self, reason: &str) -> git2::Error {
        *self.refusal.borrow_mut() = Some(reason.to_owned());
        git2::Error::new(git2::ErrorCode::Auth, git2::ErrorClass::Callback, reason)
    }
}
