//! Host keys, private keys, and servers that do not answer.

use super::PATIENT;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::sshd::{Sshd, make_key, read_secret, run};
use crate::secret::Secret;
use crate::ssh::{Cause, Connection, Credential, Phase, SshError, Target, Timeouts, host_key};

fn refusal(target: &Target) -> Cause {
    let error = Connection::open(target, &PATIENT).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("127.0.0.1:{}", target.port))
    );
    error.cause
}

fn in_memory(key: &std::path::Path, passphrase: Option<&str>) -> Credential {
    Credential::KeyInMemory {
        key: read_secret(key),
        passphrase: passphrase.map(|text| Secret::new(text.to_owned())),
    }
}

#[test]
fn the_fingerprint_is_the_one_that_ssh_keygen_prints() {
    let sshd = Sshd::start();
    let key = host_key("localhost", sshd.port, &PATIENT).unwrap();
    assert_eq!(key.pin(), sshd.pin("ed25519"));
    assert_eq!(key.kind, "ssh-ed25519");
}

#[test]
fn an_unknown_host_key_is_shown_and_no_credential_is_sent() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    target.host_key = None;
    match refusal(&target) {
        Cause::UnknownHostKey { offered } => assert_eq!(offered.pin(), sshd.pin("ed25519")),
        other => panic!("{other}"),
    }
    let log = sshd.log();
    assert!(
        !log.contains("Accepted") && !log.contains("userauth"),
        "{log}"
    );
}

#[test]
fn a_changed_host_key_is_refused_with_both_fingerprints() {
    let sshd = Sshd::start();
    let before = Sshd::start().pin("ed25519");
    let mut target = sshd.target();
    target.host_key = Some(before.clone());
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(
        matches!(error.cause, Cause::HostKeyChanged { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&before) && text.contains(&sshd.pin("ed25519")),
        "{text}"
    );
    assert!(!sshd.log().contains("Accepted"));
}

#[test]
fn each_of_a_servers_keys_can_be_the_pinned_one() {
    let sshd = Sshd::with(&["rsa", "ecdsa", "ed25519"], "");
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let mut target = sshd.target();
        target.host_key = Some(sshd.pin(kind));
        let connection = Connection::open(&target, &PATIENT).unwrap();
        assert_eq!(connection.host_key().pin(), sshd.pin(kind));
    }
}

#[test]
fn a_server_that_lost_the_pinned_kind_of_key_is_changed() {
    let sshd = Sshd::with(&["rsa"], "");
    let mut target = sshd.target();
    target.host_key = Some(Sshd::start().pin("ed25519"));
    assert!(matches!(refusal(&target), Cause::HostKeyChanged { .. }));
}

#[test]
fn every_kind_of_key_opens_from_memory_and_from_a_file() {
    let sshd = Sshd::start();
    for (kind, passphrase) in [
        ("ed25519", ""),
        ("ed25519", "open sesame"),
        ("rsa", ""),
        ("rsa", "open sesame"),
        ("ecdsa", ""),
        ("ecdsa", "open sesame"),
    ] {
        let key = sshd.folder().join(format!("{kind}{}", passphrase.len()));
        make_key(&key, kind, passphrase);
        sshd.authorize(&key);
        let from_file = Credential::KeyFile {
            path: key.clone(),
            passphrase: Some(Secret::new(passphrase.to_owned())),
        };
        for credential in [in_memory(&key, Some(passphrase)), from_file] {
            Connection::open(&sshd.target_with(credential), &PATIENT)
                .unwrap_or_else(|error| panic!("{kind} {passphrase:?}: {error}"));
        }
    }
}

#[test]
fn pem_keys_and_windows_line_ends_open() {
    let sshd = Sshd::start();
    for (kind, format) in [("rsa", "PEM"), ("ecdsa", "PEM"), ("rsa", "PKCS8")] {
        let key = sshd.folder().join(format!("{kind}_{format}"));
        let path = key.to_str().unwrap();
        let common = ["-q", "-t", kind, "-m", format, "-N", "", "-f", path];
        run("ssh-keygen", &common);
        sshd.authorize(&key);
        let text = fs::read_to_string(&key).unwrap().replace('\n', "\r\n");
        let credential = Credential::KeyInMemory {
            key: Secret::new(format!("\r\n{}", text.trim_end())),
            passphrase: None,
        };
        Connection::open(&sshd.target_with(credential), &PATIENT)
            .unwrap_or_else(|error| panic!("{kind} {format}: {error}"));
    }
}

#[test]
fn a_passphrase_that_is_missing_or_wrong_is_told_as_such() {
    let sshd = Sshd::start();
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = sshd.folder().join(kind);
        make_key(&key, kind, "open sesame");
        sshd.authorize(&key);
        for none in [None, Some("")] {
            let cause = refusal(&sshd.target_with(in_memory(&key, none)));
            assert!(
                matches!(cause, Cause::PassphraseMissing),
                "{kind}: {cause:?}"
            );
        }
        let cause = refusal(&sshd.target_with(in_memory(&key, Some("open barley"))));
        assert!(matches!(cause, Cause::PassphraseWrong), "{kind}: {cause:?}");
        let target = sshd.target_with(in_memory(&key, Some("open barley")));
        let error: SshError = Connection::open(&target, &PATIENT).unwrap_err();
        assert!(!format!("{error} {error:?} {target:?}").contains("barley"));
    }
}

#[test]
fn a_pem_keys_wrong_passphrase_is_told_as_such() {
    let sshd = Sshd::start();
    let key = sshd.folder().join("pem");
    let path = key.to_str().unwrap();
    run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "rsa",
            "-m",
            "PEM",
            "-N",
            "open sesame",
            "-f",
            path,
        ],
    );
    sshd.authorize(&key);
    let good = sshd.target_with(in_memory(&key, Some("open sesame")));
    Connection::open(&good, &PATIENT).unwrap();
    let cause = refusal(&sshd.target_with(in_memory(&key, Some("wrong"))));
    assert!(matches!(cause, Cause::PassphraseWrong), "{cause:?}");
}

#[test]
fn a_key_that_the_server_does_not_know_is_refused_by_it() {
    let sshd = Sshd::start();
    let key = sshd.folder().join("stranger");
    make_key(&key, "ed25519", "");
    match refusal(&sshd.target_with(in_memory(&key, None))) {
        Cause::AuthenticationFailed {
            accepted, tried, ..
        } => {
            assert!(accepted.contains("publickey"), "{accepted}");
            assert_eq!(tried, "key");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_key_that_is_none_and_a_file_that_is_not_there_are_told_as_such() {
    let sshd = Sshd::start();
    let public = in_memory(&sshd.key().with_extension("pub"), None);
    let cause = refusal(&sshd.target_with(public));
    assert!(matches!(cause, Cause::KeyNotUnderstood { .. }), "{cause:?}");
    let missing = Credential::KeyFile {
        path: sshd.folder().join("missing"),
        passphrase: None,
    };
    let cause = refusal(&sshd.target_with(missing));
    assert!(matches!(cause, Cause::KeyUnreadable { .. }), "{cause:?}");
}

#[test]
fn a_port_that_accepts_and_says_nothing_times_out_as_configured() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let timeouts = Timeouts {
        connect: Duration::from_millis(700),
        ..Timeouts::default()
    };
    let start = Instant::now();
    let error = host_key("127.0.0.1", silent.local_addr().unwrap().port(), &timeouts).unwrap_err();
    assert!(
        matches!(
            error.cause,
            Cause::TimedOut {
                phase: Phase::Handshake,
                ..
            }
        ),
        "{error}"
    );
    let took = start.elapsed();
    assert!(
        took >= timeouts.connect && took < Duration::from_secs(4),
        "{took:?}"
    );
}

#[test]
fn a_port_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = host_key("127.0.0.1", port, &PATIENT).unwrap_err();
    assert!(matches!(error.cause, Cause::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn something_that_is_not_ssh_fails_the_handshake() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let error = host_key("127.0.0.1", port, &PATIENT).unwrap_err();
    assert!(matches!(error.cause, Cause::Handshake { .. }), "{error}");
    server.join().unwrap();
}

#[test]
fn a_name_without_address_is_unresolved() {
    let error = host_key("longshore.invalid", 22, &PATIENT).unwrap_err();
    assert!(
        matches!(
            error.cause,
            Cause::Unresolved { .. }
                | Cause::TimedOut {
                    phase: Phase::Lookup,
                    ..
                }
        ),
        "{error}"
    );
}
