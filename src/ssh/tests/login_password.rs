//! Passwords. sshd can check one only as root and for an account that exists: as root the tests
//! create an account and delete it again, else they try wrong passwords alone.

use super::PATIENT;
use super::account::{Account, PASSWORD};
use super::sshd::Sshd;
use crate::secret::Secret;
use crate::ssh::{Cancel, Cause, Command as Exec, Connection, Credential, Target};

fn with_password(sshd: &Sshd, user: &str, password: &str) -> Target {
    let mut target = sshd.target_with(Credential::Password(Secret::new(password.to_owned())));
    target.user = user.to_owned();
    target
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
    let error = Connection::open(&target, &PATIENT).unwrap_err();
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
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(
        error.to_string().contains("(it accepts: publickey)"),
        "{error}"
    );
    assert!(!sshd.log().contains("Failed password"), "{}", sshd.log());
}

fn only_the_right_one_opens(sshd: &Sshd, account: &Account) {
    let target = with_password(sshd, &account.name, PASSWORD);
    let connection = Connection::open(&target, &PATIENT)
        .unwrap_or_else(|error| panic!("{error}\n{}", sshd.log()));
    assert_eq!(whoami(&connection), account.name);
    let wrong = with_password(sshd, &account.name, "wrong");
    let error = Connection::open(&wrong, &PATIENT).unwrap_err();
    assert!(
        matches!(error.cause, Cause::AuthenticationFailed { .. }),
        "{error}"
    );
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
    only_the_right_one_opens(&sshd, &account);
}

#[test]
fn a_password_answers_a_keyboard_interactive_server() {
    let Some(account) = Account::create("k") else {
        return;
    };
    let config = "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\n\
                  PubkeyAuthentication no";
    let sshd = Sshd::with(&["ed25519"], config);
    only_the_right_one_opens(&sshd, &account);
}
