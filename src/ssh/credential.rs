//! What proves that we may log in.

use std::path::PathBuf;

use crate::secret::Secret;

/// What proves that we may log in.
#[derive(Debug, Clone)]
pub enum Credential {
    /// By the method `password`, else by `keyboard-interactive`.
    Password(Secret<String>),
    /// A private key in a file of the platform's own.
    KeyFile {
        /// Where it is.
        path: PathBuf,
        /// What opens it, if it is encrypted.
        passphrase: Option<Secret<String>>,
    },
    /// A private key as text: OpenSSH's format, PEM or PKCS #8.
    KeyInMemory {
        /// The text, with its `BEGIN` and `END` lines.
        key: Secret<String>,
        /// What opens it, if it is encrypted.
        passphrase: Option<Secret<String>>,
    },
    /// The keys of the SSH agent that listens on this socket, one after the other.
    Agent(PathBuf),
    /// For a server that asks for one proof after another. The first that it has a method for is
    /// shown to it, and a further one only once it has taken that one and asks for more: a server
    /// that refuses the key is never told the password.
    Several(Vec<Credential>),
}

impl Credential {
    /// Opens nothing but what anybody may enter.
    pub fn nothing() -> Self {
        Self::Password(Secret::new(String::new()))
    }

    /// The same, and `password` for a server that asks for one as well.
    pub fn and_password(self, password: Option<Secret<String>>) -> Self {
        match password {
            Some(password) => Self::Several(vec![self, Self::Password(password)]),
            None => self,
        }
    }
}
