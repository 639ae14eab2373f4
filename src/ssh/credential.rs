//! What proves that we may log in, and the login itself.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh2::{ErrorCode, KeyboardInteractivePrompt, Prompt};

use super::error::{Cause, Phase};
use super::link::{Fault, Link, Patience};
use crate::secret::Secret;

/// `AUTHENTICATION_FAILED` and `PUBLICKEY_UNVERIFIED`: the server said no.
const REFUSED: [ErrorCode; 2] = [ErrorCode::Session(-18), ErrorCode::Session(-19)];
const PASSWORD_EXPIRED: ErrorCode = ErrorCode::Session(-15);

const OPENSSH_KEY: &[u8] = b"openssh-key-v1\0";

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
}

/// Logs `user` in. Keys are looked at before anything is sent to the server.
pub(super) fn log_in(
    link: &Link,
    user: &str,
    credential: &Credential,
    patience: Patience<'_>,
    connect: std::time::Duration,
) -> Result<(), Cause> {
    let login = Login {
        link,
        user,
        patience,
        connect,
    };
    match credential {
        Credential::Password(password) => login.with_password(password),
        Credential::KeyFile { path, passphrase } => {
            let key = fs::read_to_string(path).map_err(|cause| Cause::KeyUnreadable {
                path: path.clone(),
                cause,
            })?;
            login.with_key(&Secret::new(key), passphrase.as_ref())
        }
        Credential::KeyInMemory { key, passphrase } => login.with_key(key, passphrase.as_ref()),
    }
}

struct Login<'a> {
    link: &'a Link,
    user: &'a str,
    patience: Patience<'a>,
    connect: std::time::Duration,
}

impl Login<'_> {
    fn with_password(&self, password: &Secret<String>) -> Result<(), Cause> {
        let accepted = self.accepted_methods()?;
        let offers = |method: &str| accepted.split(',').any(|offered| offered == method);
        let session = &self.link.session;
        let mut refused = Ok(());
        if session.authenticated() {
            return Ok(());
        }
        if offers("password") {
            refused = self.link.drive(self.patience, || {
                Ok(session.userauth_password(self.user, password.expose())?)
            });
            match &refused {
                Err(fault) if fault.code().is_some_and(|code| REFUSED.contains(&code)) => {}
                Ok(()) => return Ok(()),
                Err(_) => return refused.map_err(|fault| self.failed(fault, "password", accepted)),
            }
        }
        if offers("keyboard-interactive") {
            let mut answers = Answers {
                password: Some(password),
            };
            refused = self.link.drive(self.patience, || {
                Ok(session.userauth_keyboard_interactive(self.user, &mut answers)?)
            });
        } else if refused.is_ok() {
            return Err(self.refused("password", accepted));
        }
        refused.map_err(|fault| self.failed(fault, "password", accepted))
    }

    fn with_key(
        &self,
        key: &Secret<String>,
        passphrase: Option<&Secret<String>>,
    ) -> Result<(), Cause> {
        let passphrase = passphrase.filter(|passphrase| !passphrase.expose().is_empty());
        let key = Secret::new(key.expose().trim().replace("\r\n", "\n") + "\n");
        let encrypted = is_encrypted(key.expose())?;
        if encrypted && passphrase.is_none() {
            return Err(Cause::PassphraseMissing);
        }
        let passphrase = passphrase
            .filter(|_| encrypted)
            .map(|it| it.expose().as_str());
        let accepted = self.accepted_methods()?;
        let session = &self.link.session;
        if session.authenticated() {
            return Ok(());
        }
        if !accepted.split(',').any(|offered| offered == "publickey") {
            return Err(self.refused("key", accepted));
        }
        self.link
            .drive(self.patience, || {
                Ok(session.userauth_pubkey_memory(self.user, None, key.expose(), passphrase)?)
            })
            .map_err(|fault| match fault {
                Fault::Failed {
                    code: Some(code), ..
                } if REFUSED.contains(&code) || fault.is_lost() => {
                    self.failed(fault, "key", accepted)
                }
                Fault::Failed { .. } if encrypted => Cause::PassphraseWrong,
                Fault::Failed { reason, .. } => Cause::KeyNotUnderstood { reason },
                fault => self.failed(fault, "key", accepted),
            })
    }

    /// Asks by trying to log in with no credential at all, as RFC 4252 section 5.2 has it.
    fn accepted_methods(&self) -> Result<String, Cause> {
        self.link
            .drive(self.patience, || {
                Ok(self.link.session.auth_methods(self.user)?.to_owned())
            })
            .map_err(|fault| fault.general(Phase::Authentication, self.connect))
    }

    fn failed(&self, fault: Fault, tried: &'static str, accepted: String) -> Cause {
        match fault.code() {
            Some(PASSWORD_EXPIRED) => Cause::PasswordExpired {
                user: self.user.to_owned(),
            },
            Some(code) if REFUSED.contains(&code) => self.refused(tried, accepted),
            _ => fault.general(Phase::Authentication, self.connect),
        }
    }

    fn refused(&self, tried: &'static str, accepted: String) -> Cause {
        Cause::AuthenticationFailed {
            user: self.user.to_owned(),
            tried,
            accepted,
        }
    }
}

/// Answers the first hidden question with the password and no other: a second one is about
/// something else, such as a code.
struct Answers<'a> {
    password: Option<&'a Secret<String>>,
}

impl KeyboardInteractivePrompt for Answers<'_> {
    fn prompt<'b>(&mut self, _user: &str, _text: &str, prompts: &[Prompt<'b>]) -> Vec<String> {
        let mut answer = |prompt: &Prompt<'_>| match prompt.echo {
            true => String::new(),
            false => self
                .password
                .take()
                .map_or_else(String::new, |password| password.expose().clone()),
        };
        prompts.iter().map(&mut answer).collect()
    }
}

/// Whether a private key is encrypted; refuses what is no private key with words that help.
fn is_encrypted(key: &str) -> Result<bool, Cause> {
    let not_understood = |reason: &str| {
        Err(Cause::KeyNotUnderstood {
            reason: reason.to_owned(),
        })
    };
    if key.starts_with("PuTTY-User-Key-File-") {
        return not_understood(
            "it is in PuTTY's format; convert it with `puttygen KEY.ppk -O private-openssh`",
        );
    }
    if key.starts_with("ssh-") || key.starts_with("ecdsa-") || key.contains("BEGIN PUBLIC KEY") {
        return not_understood("this is the public half; the private key is needed");
    }
    let Some(label) = key
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.split_once("-----\n"))
        .map(|(label, _)| label)
    else {
        return not_understood("it has no `-----BEGIN … PRIVATE KEY-----` line");
    };
    if !key.contains(&format!("-----END {label}-----")) {
        return not_understood("its end is missing");
    }
    match label {
        "OPENSSH PRIVATE KEY" => match openssh_cipher(key) {
            Some(cipher) => Ok(cipher != b"none"),
            None => not_understood("it is damaged"),
        },
        "ENCRYPTED PRIVATE KEY" => Ok(true),
        "DSA PRIVATE KEY" => not_understood("DSA keys are no longer supported"),
        label if label.ends_with("PRIVATE KEY") => Ok(key.contains("Proc-Type: 4,ENCRYPTED")),
        label => not_understood(&format!("it is a {label}")),
    }
}

/// The cipher's name, the first field of OpenSSH's format (its `PROTOCOL.key`).
fn openssh_cipher(key: &str) -> Option<Vec<u8>> {
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let body = STANDARD.decode(body.trim()).ok()?;
    let (length, rest) = body.strip_prefix(OPENSSH_KEY)?.split_first_chunk()?;
    Some(rest.get(..u32::from_be_bytes(*length) as usize)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(key: &str) -> String {
        is_encrypted(key).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_private_key_is_told_plainly() {
        assert!(reason("PuTTY-User-Key-File-3: ssh-ed25519\n").contains("puttygen"));
        assert!(reason("ssh-ed25519 AAAA me@here\n").contains("public half"));
        assert!(reason("hello\n").contains("BEGIN"));
        assert!(reason("-----BEGIN RSA PRIVATE KEY-----\nabc\n").contains("end is missing"));
        let damaged =
            "-----BEGIN OPENSSH PRIVATE KEY-----\n!!\n-----END OPENSSH PRIVATE KEY-----\n";
        assert!(reason(damaged).contains("damaged"));
        let other = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n";
        assert!(reason(other).contains("CERTIFICATE"));
    }

    #[test]
    fn encryption_is_seen_in_pem() {
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nabc\n\
                   -----END RSA PRIVATE KEY-----\n";
        assert!(is_encrypted(pem).unwrap());
        let plain = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n";
        assert!(!is_encrypted(plain).unwrap());
    }
}
