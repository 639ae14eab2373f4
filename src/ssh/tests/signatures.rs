//! The signature algorithms of users' keys on a server that accepts few: keys in memory, in files
//! and in the agent.

use super::PATIENT;
use std::path::Path;

use super::agent::Agent;
use super::sshd::{Sshd, make_key, read_secret};
use crate::ssh::{Cause, Connection, Credential, SshError};

/// An sshd that accepts only these signature algorithms, and an agent.
fn taking(algorithms: &str, options: &str) -> (Sshd, Agent) {
    let config = format!("PubkeyAcceptedAlgorithms {algorithms}\n{options}");
    let sshd = Sshd::with(&["ed25519"], &config);
    let agent = Agent::start(sshd.folder());
    (sshd, agent)
}

/// The ways to have a key.
fn ways(key: &Path, agent: &Agent) -> [(&'static str, Credential); 3] {
    agent.add(key);
    let file = Credential::KeyFile {
        path: key.to_owned(),
        passphrase: None,
    };
    let in_memory = Credential::KeyInMemory {
        key: read_secret(key),
        passphrase: None,
    };
    [
        ("file", file),
        ("memory", in_memory),
        ("agent", agent.credential()),
    ]
}

fn open(sshd: &Sshd, credential: Credential) -> Result<Connection, SshError> {
    Connection::open(&sshd.target_with(credential), &PATIENT)
}

#[test]
fn a_server_that_takes_one_signature_alone_gets_it() {
    for (kind, algorithm) in [
        ("rsa", "rsa-sha2-256"),
        ("rsa", "rsa-sha2-512"),
        ("ecdsa", "ecdsa-sha2-nistp256"),
        ("ed25519", "ssh-ed25519"),
    ] {
        let (sshd, agent) = taking(algorithm, "");
        let key = sshd.folder().join("mine");
        make_key(&key, kind, "");
        sshd.authorize(&key);
        for (way, credential) in ways(&key, &agent) {
            open(&sshd, credential)
                .unwrap_or_else(|error| panic!("{algorithm}, {way}: {error}\n{}", sshd.log()));
        }
    }
}

/// Keys that do not fit come first in the agent, and the one that does has its second attempt in
/// time.
#[test]
fn an_agents_keys_have_their_second_try_after_each_had_its_first() {
    let (sshd, agent) = taking("rsa-sha2-256", "MaxAuthTries 6");
    for (name, kind) in [("a", "ed25519"), ("b", "rsa"), ("c", "rsa")] {
        make_key(&sshd.folder().join(name), kind, "");
        agent.add(&sshd.folder().join(name));
    }
    sshd.authorize(&sshd.folder().join("c"));
    open(&sshd, agent.credential()).unwrap_or_else(|error| panic!("{error}\n{}", sshd.log()));
}

#[test]
fn an_rsa_key_that_a_server_does_not_take_is_refused_and_nothing_else() {
    for algorithms in ["rsa-sha2-256", "rsa-sha2-512", "ssh-ed25519"] {
        let (sshd, agent) = taking(algorithms, "");
        let key = sshd.folder().join("stranger");
        make_key(&key, "rsa", "");
        for (way, credential) in ways(&key, &agent) {
            let error = open(&sshd, credential).unwrap_err();
            let is_refused = matches!(error.cause, Cause::AuthenticationFailed { .. });
            assert!(is_refused, "{algorithms}, {way}: {error}");
        }
    }
}
