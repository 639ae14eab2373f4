//! Servers that ask for several credentials in turn. As root alone, see `login_password`.

use super::PATIENT;
use super::account::{Account, PASSWORD};
use super::agent::Agent;
use super::sshd::{Sshd, make_key, read_secret};
use crate::secret::Secret;
use crate::ssh::{Cause, Connection, Credential, SshError, Target};

const ORDERS: [&str; 4] = [
    "publickey,password",
    "publickey,keyboard-interactive",
    "password,publickey",
    "keyboard-interactive,publickey",
];

/// An sshd that asks for these methods in turn.
fn asking_for(methods: &str) -> Sshd {
    let config = format!(
        "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication yes\n\
         AuthenticationMethods {methods}"
    );
    Sshd::with(&["ed25519"], &config)
}

fn open(sshd: &Sshd, account: &Account, credential: Credential) -> Result<Connection, SshError> {
    let target = Target {
        user: account.name.clone(),
        ..sshd.target_with(credential)
    };
    Connection::open(&target, &PATIENT)
}

fn key(sshd: &Sshd) -> Credential {
    sshd.target().credential
}

fn password(text: &str) -> Option<Secret<String>> {
    Some(Secret::new(text.to_owned()))
}

#[test]
fn a_key_with_a_password_opens_in_whichever_order_they_are_asked_for() {
    let Some(account) = Account::create("o") else {
        return;
    };
    for methods in ORDERS {
        let sshd = asking_for(methods);
        let agent = Agent::start(sshd.folder());
        for (name, kind) in [("a", "ed25519"), ("b", "rsa")] {
            make_key(&sshd.folder().join(name), kind, "");
            agent.add(&sshd.folder().join(name));
        }
        sshd.authorize(&sshd.folder().join("b"));
        let in_memory = Credential::KeyInMemory {
            key: read_secret(&sshd.key()),
            passphrase: None,
        };
        for credential in [key(&sshd), in_memory, agent.credential()] {
            let connection = open(&sshd, &account, credential.and_password(password(PASSWORD)));
            connection.unwrap_or_else(|error| panic!("{methods}: {error}\n{}", sshd.log()));
        }
    }
}

#[test]
fn the_proof_that_is_missing_is_named() {
    let Some(account) = Account::create("m") else {
        return;
    };
    for methods in ORDERS {
        let sshd = asking_for(methods);
        let (first, second) = methods.split_once(',').unwrap();
        let (credential, words) = match second {
            "publickey" => (
                Credential::Password(Secret::new(PASSWORD.to_owned())),
                "took the password of",
            ),
            _ => (key(&sshd), "took the key of"),
        };
        let error = open(&sshd, &account, credential).unwrap_err();
        match &error.cause {
            Cause::MoreProof {
                wanted, missing, ..
            } => {
                assert_eq!(wanted, second, "{methods}");
                let expected = match second {
                    "publickey" => "a key",
                    _ => "a password",
                };
                assert_eq!(*missing, expected, "{methods}");
            }
            other => panic!("{methods}: {other}\n{}", sshd.log()),
        }
        assert!(error.to_string().contains(words), "{first}: {error}");
    }
}

#[test]
fn a_wrong_second_proof_is_told_from_a_wrong_first_one() {
    let Some(account) = Account::create("w") else {
        return;
    };
    for methods in ORDERS {
        let sshd = asking_for(methods);
        let stranger = sshd.folder().join("stranger");
        make_key(&stranger, "ed25519", "");
        let stranger = || Credential::KeyInMemory {
            key: read_secret(&stranger),
            passphrase: None,
        };
        let key_first = methods.starts_with("publickey");
        let wrong_password = key(&sshd).and_password(password("barley"));
        let wrong_key = stranger().and_password(password(PASSWORD));
        let (wrong_first, wrong_second) = match key_first {
            true => (wrong_key, wrong_password),
            false => (wrong_password, wrong_key),
        };
        let error = open(&sshd, &account, wrong_second).unwrap_err();
        let next = matches!(error.cause, Cause::NextProofRefused { .. });
        assert!(next, "{methods}: {error}\n{}", sshd.log());
        assert!(!format!("{error} {error:?}").contains("barley"));
        let error = open(&sshd, &account, wrong_first).unwrap_err();
        let first = matches!(error.cause, Cause::AuthenticationFailed { .. });
        assert!(first, "{methods}: {error}\n{}", sshd.log());
    }
}

/// A server that shares a credential with others must not learn the password for the others.
#[test]
fn a_server_that_refuses_the_key_is_not_told_the_password() {
    let Some(account) = Account::create("t") else {
        return;
    };
    let sshd = Sshd::with(&["ed25519"], "UsePAM yes\nPasswordAuthentication yes");
    let stranger = sshd.folder().join("stranger");
    make_key(&stranger, "ed25519", "");
    let credential = Credential::KeyFile {
        path: stranger,
        passphrase: None,
    };
    let error = open(&sshd, &account, credential.and_password(password(PASSWORD))).unwrap_err();
    match error.cause {
        Cause::AuthenticationFailed { tried, .. } => assert_eq!(tried, "key"),
        other => panic!("{other}"),
    }
    assert!(!sshd.log().contains(" password for"), "{}", sshd.log());
    // The right key needs no password here.
    open(&sshd, &account, key(&sshd).and_password(password("barley"))).unwrap();
}

#[test]
fn a_third_proof_is_more_than_a_credential_has() {
    let Some(account) = Account::create("3") else {
        return;
    };
    let sshd = asking_for("publickey,password,keyboard-interactive");
    let both = key(&sshd).and_password(password(PASSWORD));
    let error = open(&sshd, &account, both).unwrap_err();
    match &error.cause {
        Cause::MoreProof { missing, .. } => assert_eq!(*missing, "another proof"),
        other => panic!("{other}\n{}", sshd.log()),
    }
}
