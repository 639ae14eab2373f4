//! The login: one credential after another, until the server lets the user in.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ssh2::{Agent, ErrorCode, KeyboardInteractivePrompt, MethodType, Prompt, PublicKey};

use super::agent_relay::Relay;
use super::error::{Cause, Phase};
use super::link::{Fault, Link, Patience};
use super::private_key::{self, Opened};
use super::{Cancel, Credential};
use crate::secret::Secret;

/// `AUTHENTICATION_FAILED`: the server refuses this key.
const UNWANTED: ErrorCode = ErrorCode::Session(-18);

/// `PUBLICKEY_UNVERIFIED`: it accepts the key, but its signature does not let the user in, or not
/// alone.
const UNVERIFIED: ErrorCode = ErrorCode::Session(-19);

/// `METHOD_NONE`: the server named its signature algorithms, and the key supports none of them.
const NO_SIGNATURE: ErrorCode = ErrorCode::Session(-17);

const PASSWORD_EXPIRED: ErrorCode = ErrorCode::Session(-15);

/// The signature algorithm of an RSA key if SHA-512 is refused.
const OTHER_RSA: &str = "rsa-sha2-256";

/// The start of an RSA key's encoding, after the length.
const RSA: &[u8] = b"ssh-rsa";

/// The methods that send a password, the simpler one first.
const BY_PASSWORD: [&str; 2] = ["password", "keyboard-interactive"];

/// The method that uses a key.
const BY_KEY: [&str; 1] = ["publickey"];

/// Logs `user` in. Keys are parsed before anything is sent to the server.
pub(super) fn log_in(
    link: &Link,
    user: &str,
    credential: &Credential,
    patience: Patience<'_>,
    connect: Duration,
) -> Result<(), Cause> {
    let login = Login {
        link,
        user,
        patience,
        connect,
    };
    let mut left = Vec::new();
    Proof::collect(credential, &mut left)?;
    let mut accepted = login.accepted_methods()?;
    let mut taken = None;
    while !link.session.authenticated() {
        let Some(next) = left.iter().position(|proof| proof.fits(&accepted)) else {
            let untried = left.first().map_or(PASSWORD, Proof::name);
            return Err(match taken {
                Some(taken) => login.more_proof(taken, accepted),
                None => login.refused(untried, accepted),
            });
        };
        let proof = left.remove(next);
        match (login.show(&proof, &accepted)?, taken) {
            (Answer::LetIn, _) => return Ok(()),
            (Answer::Taken { wanted }, _) => {
                taken = Some(proof.name());
                accepted = wanted;
            }
            (Answer::Refused, None) => return Err(login.refused(proof.name(), accepted)),
            (Answer::Refused, Some(taken)) => {
                return Err(Cause::NextProofRefused {
                    user: user.to_owned(),
                    taken,
                    refused: proof.name(),
                });
            }
        }
    }
    Ok(())
}

/// A credential, or a part of one, ready to be sent.
enum Proof<'a> {
    Password(&'a Secret<String>),
    Key(Opened, Option<&'a Secret<String>>),
    Agent(&'a Path),
}

/// The names of the proofs in error messages.
const PASSWORD: &str = "password";
const KEY: &str = "key";
const AGENT: &str = "key of the SSH agent";

impl<'a> Proof<'a> {
    fn collect(credential: &'a Credential, proofs: &mut Vec<Self>) -> Result<(), Cause> {
        let key = |text: &Secret<String>, passphrase: &'a Option<Secret<String>>| {
            let passphrase = passphrase.as_ref();
            let opened = private_key::look_at(text, passphrase)?;
            let passphrase = passphrase.filter(|_| opened.encrypted);
            Ok::<_, Cause>(Self::Key(opened, passphrase))
        };
        proofs.push(match credential {
            Credential::Password(password) => Self::Password(password),
            Credential::KeyFile { path, passphrase } => key(&private_key::read(path)?, passphrase)?,
            Credential::KeyInMemory {
                key: text,
                passphrase,
            } => key(text, passphrase)?,
            Credential::Agent(socket) => Self::Agent(socket),
            Credential::Several(parts) => {
                return parts
                    .iter()
                    .try_for_each(|part| Self::collect(part, proofs));
            }
        });
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Password(_) => PASSWORD,
            Self::Key(..) => KEY,
            Self::Agent(_) => AGENT,
        }
    }

    fn fits(&self, accepted: &str) -> bool {
        let methods: &[&str] = match self {
            Self::Password(_) => &BY_PASSWORD,
            Self::Key(..) | Self::Agent(_) => &BY_KEY,
        };
        methods.iter().any(|method| offers(accepted, method))
    }
}

fn offers(accepted: &str, method: &str) -> bool {
    accepted.split(',').any(|offered| offered == method)
}

/// The server's answer to a proof.
enum Answer {
    /// The user is in.
    LetIn,
    /// The proof is accepted, and another one is required by one of these methods.
    Taken { wanted: String },
    /// The proof is refused.
    Refused,
}

struct Login<'a> {
    link: &'a Link,
    user: &'a str,
    patience: Patience<'a>,
    connect: Duration,
}

impl Login<'_> {
    fn show(&self, proof: &Proof<'_>, accepted: &str) -> Result<Answer, Cause> {
        match proof {
            Proof::Password(password) => self.tell_password(password, accepted),
            Proof::Key(key, passphrase) => self.show_key(key, *passphrase, accepted),
            Proof::Agent(socket) => self.ask_agent(socket, accepted),
        }
    }

    fn tell_password(&self, password: &Secret<String>, accepted: &str) -> Result<Answer, Cause> {
        let session = &self.link.session;
        for method in BY_PASSWORD {
            if !offers(accepted, method) {
                continue;
            }
            let mut answers = Answers {
                password: Some(password),
            };
            let told = self.link.drive(self.patience, || {
                match method {
                    "password" => session.userauth_password(self.user, password.expose())?,
                    _ => session.userauth_keyboard_interactive(self.user, &mut answers)?,
                }
                Ok(())
            });
            match told {
                Ok(()) => return Ok(Answer::LetIn),
                Err(fault) if fault.code() == Some(UNWANTED) => {
                    match self.taken_or_refused(accepted) {
                        Answer::Refused => {}
                        answer => return Ok(answer),
                    }
                }
                Err(fault) => return Err(self.failed(fault)),
            }
        }
        Ok(Answer::Refused)
    }

    fn show_key(
        &self,
        key: &Opened,
        passphrase: Option<&Secret<String>>,
        accepted: &str,
    ) -> Result<Answer, Cause> {
        let passphrase = passphrase.map(|it| it.expose().as_str());
        let session = &self.link.session;
        let sign = || {
            let signed = self.link.drive(self.patience, || {
                let text = key.text.expose();
                Ok(session.userauth_pubkey_memory(self.user, None, text, passphrase)?)
            });
            match self.answer_to_signature(signed, accepted) {
                Err(fault @ Fault::Failed { .. }) if !fault.is_lost() => Err(match key.encrypted {
                    true => Cause::PassphraseWrong,
                    false => Cause::KeyNotUnderstood {
                        reason: fault.reason().to_owned(),
                    },
                }),
                answer => answer.map_err(|fault| self.failed(fault)),
            }
        };
        match sign()? {
            Answer::Refused if key.may_be_rsa => {
                self.prefer_other_rsa()?;
                sign()
            }
            answer => Ok(answer),
        }
    }

    /// OpenSSH lists the signature algorithms it knows, not those it accepts, so an RSA key tries
    /// both.
    fn prefer_other_rsa(&self) -> Result<(), Cause> {
        let session = &self.link.session;
        session
            .method_pref(MethodType::SignAlgo, OTHER_RSA)
            .map_err(|error| self.failed(error.into()))
    }

    fn answer_to_signature(
        &self,
        signed: Result<(), Fault>,
        accepted: &str,
    ) -> Result<Answer, Fault> {
        match signed {
            Ok(()) => Ok(Answer::LetIn),
            Err(fault) => match fault.code() {
                Some(UNWANTED | NO_SIGNATURE) => Ok(Answer::Refused),
                Some(UNVERIFIED) => Ok(self.taken_or_refused(accepted)),
                _ => Err(fault),
            },
        }
    }

    fn ask_agent(&self, socket: &Path, accepted: &str) -> Result<Answer, Cause> {
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
            let has_failed = !matches!(tried, Ok(Answer::LetIn | Answer::Taken { .. }));
            match carrying.join() {
                Ok(Err(error)) if has_failed && error.kind() == io::ErrorKind::TimedOut => {
                    Err(self.late())
                }
                Ok(Err(error)) if has_failed => Err(unusable(&error)),
                _ => tried,
            }
        })
    }

    fn try_keys_of(&self, mut agent: Agent, accepted: &str) -> Result<Answer, Cause> {
        let listed = agent.list_identities().and_then(|()| agent.identities());
        let identities = listed.map_err(|error| unusable(&error))?;
        if identities.is_empty() {
            return Err(unusable("it holds no key"));
        }
        let is_rsa = |key: &&PublicKey| key.blob().get(4..).is_some_and(|it| it.starts_with(RSA));
        // Servers allow few attempts: every key has its first attempt before any has its second.
        let again = identities.iter().filter(is_rsa);
        for (turn, identity) in identities.iter().chain(again).enumerate() {
            if turn == identities.len() {
                self.prefer_other_rsa()?;
            }
            let signed = self
                .link
                .drive(self.patience, || Ok(agent.userauth(self.user, identity)?));
            match self.answer_to_signature(signed, accepted) {
                Ok(Answer::Refused) => {}
                Ok(answer) => return Ok(answer),
                // The agent does not sign with it.
                Err(fault @ Fault::Failed { .. }) if !fault.is_lost() => {}
                // Servers close after some unknown keys.
                Err(fault) if fault.is_lost() => break,
                Err(fault) => return Err(self.failed(fault)),
            }
        }
        Ok(Answer::Refused)
    }

    /// The cause if the agent did not answer in time.
    fn late(&self) -> Cause {
        match self.patience.cancel.is_some_and(Cancel::is_cancelled) {
            true => Cause::Cancelled { killed: true },
            false => unusable("it did not answer in time"),
        }
    }

    /// Asks by a login without any credential, as in RFC 4252 section 5.2.
    fn accepted_methods(&self) -> Result<String, Cause> {
        self.link
            .drive(self.patience, || {
                Ok(self.link.session.auth_methods(self.user)?.to_owned())
            })
            .map_err(|fault| self.failed(fault))
    }

    /// libssh2 does not distinguish an accepted proof from a refused one; but after an accepted one
    /// the server offers other methods than before.
    fn taken_or_refused(&self, accepted: &str) -> Answer {
        match self.accepted_methods() {
            Ok(wanted) if wanted != accepted && !wanted.is_empty() => Answer::Taken { wanted },
            _ => Answer::Refused,
        }
    }

    fn failed(&self, fault: Fault) -> Cause {
        match fault.code() {
            Some(PASSWORD_EXPIRED) => Cause::PasswordExpired {
                user: self.user.to_owned(),
            },
            _ => fault.general(Phase::Authentication, self.connect),
        }
    }

    fn more_proof(&self, taken: &'static str, wanted: String) -> Cause {
        let is_by = |methods: &[&str]| methods.iter().any(|method| offers(&wanted, method));
        let missing = if taken != PASSWORD && is_by(&BY_PASSWORD) {
            "a password"
        } else if taken == PASSWORD && is_by(&BY_KEY) {
            "a key"
        } else {
            "another proof"
        };
        Cause::MoreProof {
            user: self.user.to_owned(),
            taken,
            missing,
            wanted,
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

/// Answers the first hidden question with the password and no other: a second one asks for
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
