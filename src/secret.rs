//! Secrets: wrapped so that they cannot be printed, encrypted before they are stored.
//!
//! Every secret (password, private key, token) is passed as [`Secret`], stored encrypted by
//! [`Vault::seal`] or, if it is only compared (login tokens, API tokens), as its [`fingerprint`].

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::RngCore as _;
use sha2::{Digest, Sha256};

const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 24;
/// The permission bits of group and others.
const OTHERS: u32 = 0o077;

/// A value that must not appear in logs, errors or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Call it only where the value is used, never to store or log it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// Errors of the key file, encryption and decryption.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or created.
    #[error("key file {path}: {cause}")]
    KeyFile {
        /// The path of the key file.
        path: String,
        /// The error of the system.
        cause: io::Error,
    },
    /// The key file has the wrong length.
    #[error("key file {path}: {length} bytes long, expected {KEY_LENGTH}")]
    KeyLength {
        /// The path of the key file.
        path: String,
        /// Its length in bytes.
        length: u64,
    },
    /// The path of the key file is not a regular file.
    #[error("key file {path}: it is not a file")]
    NotAFile {
        /// The path of the key file.
        path: String,
    },
    /// The permissions of the key file give others access.
    #[error("key file {path}: other accounts can read it (mode {mode:03o}). Run: chmod 600 {path}")]
    Exposed {
        /// The path of the key file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The encrypted bytes were made with another key or for another purpose, or were changed.
    #[error("a stored secret cannot be opened with this installation's key")]
    Unreadable,
}

/// Encrypts secrets for storage with XChaCha20-Poly1305, with one key per installation.
#[derive(Clone)]
pub struct Vault {
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Vault")
    }
}

impl Vault {
    /// Reads the key at `path`, or creates one that only its owner can read.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), and [`VaultError::KeyFile`] if the key cannot be created.
    pub fn open_or_create(path: &Path) -> Result<Self, VaultError> {
        if let Some(vault) = Self::read(path)? {
            return Ok(vault);
        }
        create_key(path).map_err(at(path))?;
        let made = Self::read(path)?;
        made.ok_or_else(|| at(path)(io::ErrorKind::NotFound.into()))
    }

    /// Reads the key at `path`; `None` if there is no file.
    ///
    /// # Errors
    /// [`VaultError::NotAFile`], [`VaultError::Exposed`] or [`VaultError::KeyLength`] for an
    /// unsuitable file, [`VaultError::KeyFile`] if it cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, VaultError> {
        let about = match fs::metadata(path) {
            // A dangling link is not a missing key: its disk may not be mounted.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
                return Ok(None);
            }
            about => about.map_err(at(path))?,
        };
        // Opening a pipe would block until another process writes into it.
        if !about.is_file() {
            return Err(VaultError::NotAFile {
                path: path.display().to_string(),
            });
        }
        let mode = about.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(VaultError::Exposed {
                path: path.display().to_string(),
                mode,
            });
        }
        if about.len() != KEY_LENGTH as u64 {
            return Err(VaultError::KeyLength {
                path: path.display().to_string(),
                length: about.len(),
            });
        }
        let bytes = fs::read(path).map_err(at(path))?;
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes);
        let cipher = cipher.map_err(|_| VaultError::KeyLength {
            path: path.display().to_string(),
            length: bytes.len() as u64,
        })?;
        Ok(Some(Self { cipher }))
    }

    /// Encrypts `plain`. `purpose` (such as `credential`) is authenticated with it, so that
    /// encrypted bytes cannot be moved to another column.
    ///
    /// # Errors
    /// [`VaultError::Unreadable`] if the cipher fails.
    pub fn seal(&self, plain: &[u8], purpose: &str) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LENGTH];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload {
            msg: plain,
            aad: purpose.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| VaultError::Unreadable)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts the output of [`seal`](Self::seal) for the same `purpose`.
    ///
    /// # Errors
    /// [`VaultError::Unreadable`] for another key, another purpose or changed bytes.
    pub fn open(&self, sealed: &[u8], purpose: &str) -> Result<Secret<Vec<u8>>, VaultError> {
        if sealed.len() < NONCE_LENGTH {
            return Err(VaultError::Unreadable);
        }
        let (nonce, body) = sealed.split_at(NONCE_LENGTH);
        let payload = Payload {
            msg: body,
            aad: purpose.as_bytes(),
        };
        self.cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .map(Secret::new)
            .map_err(|_| VaultError::Unreadable)
    }

    /// [`open`](Self::open) for text.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`VaultError::Unreadable`] if the result is not UTF-8.
    pub fn open_text(&self, sealed: &[u8], purpose: &str) -> Result<Secret<String>, VaultError> {
        let bytes = self.open(sealed, purpose)?;
        String::from_utf8(bytes.0)
            .map(Secret::new)
            .map_err(|_| VaultError::Unreadable)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> VaultError {
    let path = path.display().to_string();
    move |cause| VaultError::KeyFile { path, cause }
}

/// Creates a key file atomically, also if two processes start at the same time.
fn create_key(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut key = [0; KEY_LENGTH];
    rand::rng().fill_bytes(&mut key);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// A new random token of 256 bits, safe in URLs and headers.
pub fn new_token() -> Secret<String> {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

/// The SHA-256 hash in base64 of a token that is only compared. Sufficient for random 256-bit
/// tokens; passwords need [`argon2`], see `auth`.
pub fn fingerprint(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_for_its_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let vault = Vault::open_or_create(&path).unwrap();
        let sealed = vault.seal(b"hunter2", "credential").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));

        let reopened = Vault::open_or_create(&path).unwrap();
        let opened = reopened.open_text(&sealed, "credential").unwrap();
        assert_eq!(opened.expose(), "hunter2");
        assert!(reopened.open(&sealed, "session").is_err());
        assert!(reopened.open(&sealed[..10], "credential").is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }
}
