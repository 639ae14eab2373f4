//! Passwords. sshd can check one only as root and for an account that exists: as root the tests
//! make an account and delete it again, else they try wrong passwords alone.

use std::io::Write;
use std::process::{Command, Stdio};

use super::sshd::{Sshd, wait_until};
use crate::secret::Secret;
use crate::ssh::{Cancel, Cause, Command as Exec, Connection, Credential, Target, Timeouts};

const PASSWORD: &str = "correct horse";

fn with_password(sshd: &Sshd, user: &str, password: &str) -> Target {
    let mut target = sshd.target_with(Credential::Password(Secret::new(password.to_owned())));
    target.user = user.to_owned();
    target
}

/// A throw-away account with [`PASSWORD`].
struct Account(String);

impl Account {
    /// `None` unless run as root.
    fn create(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let account = Self(format!("ls{name}{}", std::process::id()));
        // The user data base is locked while another test changes it.
        wait_until("useradd gets its lock", || {
            quietly(
                "useradd",
                &["-M", "-d", "/tmp", "-s", "/bin/sh", &account.0],
            )
        });
        wait_until("chpasswd gets its lock", || account.set_password());
        Some(account)
    }

    fn set_password(&self) -> bool {
        let mut chpasswd = Command::new("chpasswd")
            .args(["-c", "SHA512"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = format!("{}:{PASSWORD}\n", self.0);
        let fed = chpasswd.stdin.take().unwrap().write_all(line.as_bytes());
        chpasswd.wait().unwrap().success() && fed.is_ok()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for _ in 0..100 {
            if quietly("userdel", &["-f", &self.0]) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

fn quietly(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn whoami(connection: &Connection) -> String {
    let mut user = String::new();
    connection
        .exec(
            Exec::new("id -un", std::time::Duration::from_secs(20)),
            &Cancel::new(),
            &mut |_, line| user = line.to_owned(),
        )
        .unwrap();
    user
}

#[test]
fn a_wrong_password_is_refused_and_the_accepted_methods_are_told() {
    let sshd = Sshd::with(&["ed25519"], "PasswordAuthentication yes");
    let target = with_password(&sshd, "nobody", "not the password");
    let error = Connection::open(&target, &Timeouts::default()).unwrap_err();
    match &error.cause {
        Cause::AuthenticationFailed {
            user,
            tried,
            accepted,
        } => {
            assert_eq!((user.as_str(), *tried), ("nobody", "password"));
            assert!(accepted.contains("password"), "{accepted}");
        }
        other => panic!("{other}"),
    }
    assert!(!format!("{error} {error:?}").contains("not the password"));
}

#[test]
fn a_server_that_takes_no_passwords_is_told_as_such() {
    let sshd = Sshd::start();
    let target = with_password(&sshd, "nobody", PASSWORD);
    let error = Connection::open(&target, &Timeouts::default()).unwrap_err();
    assert!(
        error.to_string().contains("(it accepts: publickey)"),
        "{error}"
    );
    assert!(!sshd.log().contains("Failed password"), "{}", sshd.log());
}

#[test]
fn the_right_password_logs_in() {
    let Some(account) = Account::create("p") else {
        return;
    };
    let sshd = Sshd::with(
        &["ed25519"],
        "PasswordAuthentication yes\nPubkeyAuthentication no",
    );
    let target = with_password(&sshd, &account.0, PASSWORD);
    let connection = Connection::open(&target, &Timeouts::default())
        .unwrap_or_else(|error| panic!("{error}\n{}", sshd.log()));
    assert_eq!(whoami(&connection), account.0);
    let wrong = with_password(&sshd, &account.0, "wrong");
    let error = Connection::open(&wrong, &Timeouts::default()).unwrap_err();
    assert!(
        matches!(error.cause, Cause::AuthenticationFailed { .. }),
        "{error}"
    );
}

#[test]
fn a_password_answers_a_keyboard_interactive_server() {
    let Some(account) = Account::create("k") else {
        return;
    };
    let config = "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\n\
                  PubkeyAuthentication no";
    let sshd = Sshd::with(&["ed25519"], config);
    let target = with_password(&sshd, &account.0, PASSWORD);
    let connection = Connection::open(&target, &Timeouts::default())
        .unwrap_or_else(|error| panic!("{error}\n{}", sshd.log()));
    assert_eq!(whoami(&connection), account.0);
    let wrong = with_password(&sshd, &account.0, "wrong");
    let error = Connection::open(&wrong, &Timeouts::default()).unwrap_err();
    assert!(
        matches!(error.cause, Cause::AuthenticationFailed { .. }),
        "{error}"
    );
}
