//! Keys that an SSH agent holds.

use super::PATIENT;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::sshd::{Sshd, make_key, wait_until};
use crate::ssh::{Cancel, Cause, Connection, Credential, Timeouts};

/// A running ssh-agent; dropping it ends it.
pub(super) struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    pub(super) fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let process = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the agent listens", || socket.exists());
        Self { process, socket }
    }

    pub(super) fn add(&self, key: &Path) {
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(added.success());
    }

    pub(super) fn credential(&self) -> Credential {
        Credential::Agent(self.socket.clone())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_agents_keys_are_tried_until_one_opens() {
    let sshd = Sshd::start();
    let agent = Agent::start(sshd.folder());
    for (name, kind) in [("a", "ed25519"), ("b", "rsa"), ("c", "ecdsa")] {
        let key = sshd.folder().join(name);
        make_key(&key, kind, "");
        agent.add(&key);
    }
    let target = sshd.target_with(agent.credential());
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    match &error.cause {
        Cause::AuthenticationFailed { tried, .. } => assert!(tried.contains("agent")),
        other => panic!("{other}"),
    }
    sshd.authorize(&sshd.folder().join("c"));
    Connection::open(&target, &PATIENT).unwrap();
}

#[test]
fn an_agent_without_keys_and_none_at_all_are_told_as_such() {
    let sshd = Sshd::start();
    let agent = Agent::start(sshd.folder());
    let error = Connection::open(&sshd.target_with(agent.credential()), &PATIENT).unwrap_err();
    assert!(matches!(error.cause, Cause::Agent { .. }), "{error}");
    assert!(error.to_string().contains("no key"), "{error}");
    let nowhere = Credential::Agent(sshd.folder().join("nowhere"));
    let error = Connection::open(&sshd.target_with(nowhere), &PATIENT).unwrap_err();
    assert!(matches!(error.cause, Cause::Agent { .. }), "{error}");
}

#[test]
fn more_keys_than_the_server_tries_are_a_refusal() {
    let sshd = Sshd::with(&["ed25519"], "MaxAuthTries 2");
    let agent = Agent::start(sshd.folder());
    for name in ["a", "b", "c", "d"] {
        let key = sshd.folder().join(name);
        make_key(&key, "ed25519", "");
        agent.add(&key);
    }
    let target = sshd.target_with(agent.credential());
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(
        matches!(error.cause, Cause::AuthenticationFailed { .. }),
        "{error}"
    );
}

/// An agent that hangs costs its time-out, and a cancel ends the wait, at whatever stage it hangs:
/// before it accepts connections, before it reads requests, or after.
#[test]
fn an_agent_that_never_answers_is_given_up() {
    let sshd = Sshd::start();
    let timeouts = Timeouts {
        connect: Duration::from_secs(1),
        ..Timeouts::default()
    };
    for takes in [true, false] {
        let socket = sshd.folder().join(format!("hangs-{takes}"));
        let listener = UnixListener::bind(&socket).unwrap();
        let _held = match takes {
            true => Vec::new(),
            false => fill(&listener, &socket),
        };
        let target = sshd.target_with(Credential::Agent(socket));
        let start = Instant::now();
        let error = Connection::open(&target, &timeouts).unwrap_err();
        assert!(error.to_string().contains("not answer in time"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));

        let cancel = Cancel::new();
        let patient = Timeouts {
            connect: Duration::from_secs(60),
            ..timeouts
        };
        thread::scope(|scope| {
            let opening = scope.spawn(|| Connection::open_unless(&target, &patient, &cancel));
            let start = Instant::now();
            cancel.cancel();
            let error = opening.join().unwrap().unwrap_err();
            assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
            assert!(start.elapsed() < Duration::from_secs(2));
        });
    }
}

/// Fills the queue of a listener that accepts nothing, and returns the connections.
fn fill(listener: &UnixListener, socket: &Path) -> Vec<mio::net::UnixStream> {
    rustix::net::listen(listener, 0).unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = mio::net::UnixStream::connect(socket) {
        held.push(stream);
    }
    held
}
