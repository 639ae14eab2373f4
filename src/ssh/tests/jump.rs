//! Jump servers: each hop by its own rules, and the stream through them is as good as any.

use super::PATIENT;
use std::fs;
use std::time::{Duration, Instant};

use super::exec::{exec, on_output};
use super::sshd::{Sshd, wait_until};
use super::transfer::new;
use crate::secret::Secret;
use crate::ssh::{Cancel, Cause, Command, Connection, Credential, Target, host_key, offered_key};

fn through(jump: &Target, mut target: Target) -> Target {
    target.via = Some(Box::new(jump.clone()));
    target
}

#[test]
fn one_and_two_jumps_lead_to_the_server() {
    let (first, second, last) = (Sshd::start(), Sshd::start(), Sshd::start());
    for target in [
        through(&first.target(), last.target()),
        through(&through(&first.target(), second.target()), last.target()),
    ] {
        let connection = Connection::open(&target, &PATIENT).unwrap();
        assert_eq!(connection.host_key().pin(), last.pin("ed25519"));
        let (exit, lines) = exec(&connection, "echo \"$SSH_CONNECTION\"; exit 5");
        assert_eq!(exit.code, Some(5));
        let port = last.port.to_string();
        assert!(lines[0].1.ends_with(&port), "{lines:?}");
    }
}

#[test]
fn many_bytes_pass_a_jump_both_ways_whole() {
    let (jump, last) = (Sshd::start(), Sshd::start());
    let target = through(&jump.target(), last.target());
    let connection = Connection::open(&target, &PATIENT).unwrap();
    let content: Vec<u8> = (0..20_000_003_u32)
        .map(|at| (at ^ (at >> 9)) as u8)
        .collect();
    let there = last.folder().join("there");
    let back = last.folder().join("back");
    let remote = there.to_str().unwrap();
    connection
        .upload_from(
            &mut content.as_slice(),
            remote,
            new(0o644),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap();
    assert!(fs::read(&there).unwrap() == content);
    connection
        .get_file(remote, &back, &Cancel::new(), &mut |_| {})
        .unwrap();
    assert!(fs::read(&back).unwrap() == content);
}

#[test]
fn each_hops_host_key_must_be_the_pinned_one() {
    let (jump, last) = (Sshd::start(), Sshd::start());
    let other = Sshd::start().pin("ed25519");
    let mut changed = jump.target();
    changed.host_key = Some(other.clone());
    let target = through(&changed, last.target());
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(
        matches!(error.cause, Cause::HostKeyChanged { .. }),
        "{error}"
    );
    assert!(error.address.ends_with(&jump.port.to_string()), "{error}");
    assert!(!jump.log().contains("Accepted"));

    let mut unknown = last.target();
    unknown.host_key = None;
    let target = through(&jump.target(), unknown);
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(
        matches!(error.cause, Cause::UnknownHostKey { .. }),
        "{error}"
    );
    assert!(error.address.ends_with(&last.port.to_string()), "{error}");
    assert!(!last.log().contains("Accepted"));
    let offered = offered_key(&target, &PATIENT).unwrap();
    assert_eq!(offered.pin(), last.pin("ed25519"));
}

#[test]
fn a_jump_server_that_has_no_way_on_says_why() {
    let closed = Sshd::with(&["ed25519"], "AllowTcpForwarding no");
    let jump = Sshd::start();
    let last = Sshd::start();
    let target = through(&closed.target(), last.target());
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(matches!(error.cause, Cause::NoWayOn { .. }), "{error}");
    assert!(error.to_string().contains("prohibited"), "{error}");
    assert!(error.address.ends_with(&closed.port.to_string()), "{error}");

    let target = through(&jump.target(), last.target());
    drop(last);
    let start = Instant::now();
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(matches!(error.cause, Cause::NoWayOn { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{error}");
}

#[test]
fn a_wrong_login_at_the_jump_server_is_told_as_the_jump_servers() {
    let jump = Sshd::with(&["ed25519"], "PasswordAuthentication yes");
    let last = Sshd::start();
    let mut hop = jump.target_with(Credential::Password(Secret::new("wrong".to_owned())));
    hop.user = "nobody".to_owned();
    let target = through(&hop, last.target());
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(
        matches!(error.cause, Cause::AuthenticationFailed { .. }),
        "{error}"
    );
    assert!(error.address.ends_with(&jump.port.to_string()), "{error}");
}

#[test]
fn a_jump_server_that_goes_away_ends_what_goes_through_it() {
    let (jump, last) = (Sshd::start(), Sshd::start());
    let target = through(&jump.target(), last.target());
    let connection = Connection::open(&target, &PATIENT).unwrap();
    let start = Instant::now();
    let error = connection
        .exec(
            Command::new("echo begun; sleep 60", Duration::from_secs(60)),
            &Cancel::new(),
            &mut on_output(|| jump.kill_connections()),
        )
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::ConnectionLost { .. }),
        "{error}"
    );
    assert!(connection.is_broken());
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn nothing_of_a_jump_is_left_when_the_connection_is_closed() {
    let (jump, last) = (Sshd::start(), Sshd::start());
    let target = through(&jump.target(), last.target());
    let connection = Connection::open(&target, &PATIENT).unwrap();
    assert!(exec(&connection, "true").0.success());
    assert_eq!(jump.connections(), 1);
    drop(connection);
    wait_until("the jump server has no connection", || {
        jump.connections() == 0
    });
    wait_until("the server has none either", || last.connections() == 0);
    host_key("127.0.0.1", jump.port, &PATIENT).unwrap();
}
