//! What proves that we may log in, and the login itself.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use ssh2::{Agent, ErrorCode, KeyboardInteractivePrompt, MethodType, Prompt};

use super::Cancel;
use super::agent_relay::Relay;
use super::error::{Cause, Phase};
use super::link::{Fault, Link, Patience};
use super::private_key::{self, Opened};
use crate::secret::Secret;

/// `AUTHENTICATION_FAILED` and `PUBLICKEY_UNVERIFIED`: the server said no.
const REFUSED: [ErrorCode; 2] = [ErrorCode::Session(-18), ErrorCode::Session(-19)];
const PASSWORD_EXPIRED: ErrorCode = ErrorCode::Session(-15);

/// How an RSA key signs where SHA-512 is refused.
const OTHER_RSA: &str = "rsa-sha2-256";

/// What was tried where an agent's keys were.
const AGENT: &str = "key of the SSH agent";

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
}

impl Credential {
    /// Opens nothing but what anybody may enter.
    pub fn nothing() -> Self {
        Self::Password(Secret::new(String::new()))
    }
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
            login.with_key(&private_key::read(path)?, passphrase.as_ref())
        }
        Credential::KeyInMemory { key, passphrase } => login.with_key(key, passphrase.as_ref()),
        Credential::Agent(socket) => login.with_agent(socket),
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
        let Opened {
            text,
            encrypted,
            may_be_rsa,
        } = private_key::look_at(key, passphrase)?;
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
        let try_it = || {
            self.link.drive(self.patience, || {
                Ok(session.userauth_pubkey_memory(self.user, None, text.expose(), passphrase)?)
            })
        };
        let is_refused = |fault: &Fault| fault.code().is_some_and(|code| REFUSED.contains(&code));
        let mut tried = try_it();
        // OpenSSH tells which signatures it knows, not which of them it takes.
        if may_be_rsa && tried.as_ref().is_err_and(is_refused) {
            session
                .method_pref(MethodType::SignAlgo, OTHER_RSA)
                .map_err(|error| self.failed(error.into(), "key", accepted.clone()))?;
            tried = try_it();
        }
        tried.map_err(|fault| match fault {
            Fault::Failed {
                code: Some(code), ..
            } if REFUSED.contains(&code) || fault.is_lost() => self.failed(fault, "key", accepted),
            Fault::Failed { .. } if encrypted => Cause::PassphraseWrong,
            Fault::Failed { reason, .. } => Cause::KeyNotUnderstood { reason },
            fault => self.failed(fault, "key", accepted),
        })
    }

    fn with_agent(&self, socket: &Path) -> Result<(), Cause> {
        let accepted = self.accepted_methods()?;
        if self.link.session.authenticated() {
            return Ok(());
        }
        if !accepted.split(',').any(|offered| offered == "publickey") {
            return Err(self.refused(AGENT, accepted));
        }
        let relay = Relay::new().map_err(|error| unusable(&error))?;
        let mut agent = self
            .link
            .session
            .agent()
            .map_err(|error| unusable(&error))?;
        let connected = agent
            .set_identity_path(&relay.path())
            .and_then(|()| agent.connect());
        connected.map_err(|error| unusable(&error))?;
        let patience = self.patience;
        thread::scope(|scope| {
            let carrying = scope.spawn(move || relay.carry(socket, patience));
            let tried = self.try_keys_of(agent, accepted);
            match (tried, carrying.join()) {
                (Err(_), Ok(Err(error))) if error.kind() == io::ErrorKind::TimedOut => {
                    Err(self.late())
                }
                (Err(_), Ok(Err(error))) => Err(unusable(&error)),
                (tried, _) => tried,
            }
        })
    }

    fn try_keys_of(&self, mut agent: Agent, accepted: String) -> Result<(), Cause> {
        let listed = agent.list_identities().and_then(|()| agent.identities());
        let identities = listed.map_err(|error| unusable(&error))?;
        if identities.is_empty() {
            return Err(unusable("it holds no key"));
        }
        for identity in identities {
            match self
                .link
                .drive(self.patience, || Ok(agent.userauth(self.user, &identity)?))
            {
                Ok(()) => return Ok(()),
                // A key that the server does not know, or that the agent does not sign with.
                Err(fault @ Fault::Failed { .. }) if !fault.is_lost() => {}
                // Servers hang up after some keys that they do not know.
                Err(fault) if fault.is_lost() => break,
                Err(fault) => return Err(self.failed(fault, AGENT, accepted)),
            }
        }
        Err(self.refused(AGENT, accepted))
    }

    /// The agent did not answer while somebody waited.
    fn late(&self) -> Cause {
        match self.patience.cancel.is_some_and(Cancel::is_cancelled) {
            true => Cause::Cancelled { killed: true },
            false => unusable("it did not answer in time"),
        }
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
            Some(code) if REFUSED.contains(&code) => self.refused_or_half(tried, accepted),
            _ => fault.general(Phase::Authentication, self.connect),
        }
    }

    /// A server that wants several proofs goes on to ask for the next one: it accepts other methods
    /// then.
    fn refused_or_half(&self, tried: &'static str, accepted: String) -> Cause {
        match self.accepted_methods() {
            Ok(wanted) if wanted != accepted && !wanted.is_empty() => Cause::MoreProof {
                user: self.user.to_owned(),
                tried,
                wanted,
            },
            _ => self.refused(tried, accepted),
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

fn unusable(reason: &(impl ToString + ?Sized)) -> Cause {
    Cause::Agent {
        reason: reason.to_string(),
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
