//! Credentials for the login.

use std::path::PathBuf;

use crate::secret::Secret;

/// A credential for the login.
#[derive(Debug, Clone)]
pub enum Credential {
    /// By the method `password`, else by `keyboard-interactive`.
    Password(Secret<String>),
    /// A private key in a file of the platform.
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The passphrase, if the key is encrypted.
        passphrase: Option<Secret<String>>,
    },
    /// A private key as text: OpenSSH's format, PEM or PKCS #8.
    KeyInMemory {
        /// The text, with its `BEGIN` and `END` lines.
        key: Secret<String>,
        /// The passphrase, if the key is encrypted.
        passphrase: Option<Secret<String>>,
    },
    /// The keys of the SSH agent that listens on this socket, one after the other.
    Agent(PathBuf),
    /// For a server that asks for several proofs in turn. The first one for which it has a method
    /// is sent, and the next only once the server accepted that and asks for more: a server that
    /// refuses the key never receives the password.
    Several(Vec<Credential>),
}

impl Credential {
    /// An empty password, for servers that let anybody in.
    pub fn nothing() -> Self {
        Self::Password(Secret::new(String::new()))
    }

    /// The same, plus `password` for a server that asks for one as well.
    pub fn and_password(self, password: Option<Secret<String>>) -> Self {
        match password {
            Some(password) => Self::Several(vec![self, Self::Password(password)]),
            None => self,
        }
    }
}
