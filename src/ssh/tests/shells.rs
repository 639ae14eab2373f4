//! Accounts as found in practice: their login shells, and start-up files that print, read and run
//! things. Only root can create them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use super::account::{Account, quietly};
use super::sshd::{Sshd, make_key, read_secret};
use crate::ssh::{
    Cancel, Cause, Command, Connection, Credential, Exit, SshError, Stream, Timeouts,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Text that a shell other than `sh` parses differently, or line by line.
const TEXT: &str = r#"x='a\\b' y="it's"
if [ "$x" = 'a\\b' ]; then
  printf '%s\n' "$x $y `echo q` #$#"
fi
cat
exit 3
"#;

/// The output of [`TEXT`].
const PRINTED: &str = r"a\\b it's q #0";

/// An account with a home folder.
struct Somebody {
    home: tempfile::TempDir,
    account: Account,
    sshd: Sshd,
}

impl Somebody {
    /// `None` unless run as root. `files` are the files of the home, with their content.
    fn with(name: &str, shell: &str, files: &[(&str, &str)]) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let account = Account::at_home(name, home.path())?;
        let shell = match shell {
            "ash" => {
                symlink("/bin/busybox", at("ash")).unwrap();
                at("ash")
            }
            shell => Path::new("/bin").join(shell),
        };
        super::sshd::wait_until("usermod gets its lock", || {
            quietly("usermod", &["-s", shell.to_str().unwrap(), &account.name])
        });
        make_key(&at("mine"), "ed25519", "");
        fs::create_dir(at(".ssh")).unwrap();
        fs::copy(at("mine.pub"), at(".ssh/authorized_keys")).unwrap();
        for (name, content) in files {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), content).unwrap();
        }
        assert!(quietly(
            "chown",
            &["-R", &account.name, home.path().to_str().unwrap()]
        ));
        let sshd = Sshd::with(&["ed25519"], "AuthorizedKeysFile .ssh/authorized_keys");
        Some(Self {
            home,
            account,
            sshd,
        })
    }

    fn connect(&self) -> Connection {
        let mut target = self.sshd.target_with(Credential::KeyInMemory {
            key: read_secret(&self.home.path().join("mine")),
            passphrase: None,
        });
        target.user.clone_from(&self.account.name);
        let timeouts = Timeouts {
            connect: Duration::from_secs(5),
            ..Timeouts::default()
        };
        Connection::open(&target, &timeouts)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.sshd.log()))
    }
}

fn run(connection: &Connection, text: &str) -> Result<(Exit, Vec<(Stream, String)>), SshError> {
    let mut lines = Vec::new();
    let mut input = b"fed\n".as_slice();
    let command = Command::new(text, LIMIT).stdin(&mut input);
    let exit = connection.exec(command, &Cancel::new(), &mut |stream, line| {
        lines.push((stream, line.to_owned()));
    })?;
    Ok((exit, lines))
}

/// Runs commands and moves trees on an account; returns its login's output, once.
#[track_caller]
fn works(name: &str, shell: &str, files: &[(&str, &str)]) -> Vec<String> {
    let Some(somebody) = Somebody::with(name, shell, files) else {
        return Vec::new();
    };
    let connection = somebody.connect();
    let (exit, lines) = run(&connection, TEXT).unwrap_or_else(|error| panic!("{shell}: {error}"));
    let of = |wanted: Stream| -> Vec<String> {
        let lines = lines.iter().filter(|(stream, _)| *stream == wanted);
        lines.map(|(_, line)| line.clone()).collect()
    };
    assert_eq!(exit.code, Some(3), "{shell}: {lines:?}");
    assert_eq!(of(Stream::Out), [PRINTED, "fed"], "{shell}");
    assert_eq!(of(Stream::Err), [""; 0], "{shell}");
    let (local, cancel) = (tempfile::tempdir().unwrap(), Cancel::new());
    let content: Vec<u8> = (0..300_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    fs::create_dir(local.path().join("tree")).unwrap();
    fs::write(local.path().join("tree/file"), &content).unwrap();
    let there = somebody.home.path().join("it's a tree");
    let there = there.to_str().unwrap();
    connection
        .put_tree(&local.path().join("tree"), there, &cancel, &mut |_| {})
        .unwrap();
    let back = local.path().join("back");
    connection
        .get_tree(there, &back, &cancel, &mut |_| {})
        .unwrap();
    assert!(fs::read(back.join("file")).unwrap() == content, "{shell}");
    ends(&connection, shell);
    of(Stream::Login)
}

/// Checks that a command is ended at its limit, with all that it started.
#[track_caller]
fn ends(connection: &Connection, shell: &str) {
    let mut started = Vec::new();
    let text = "sleep 1000 & echo $!; wait";
    let command = Command::new(text, Duration::from_secs(1));
    let ended = connection.exec(command, &Cancel::new(), &mut |stream, line| {
        started.extend((stream == Stream::Out).then(|| line.to_owned()));
    });
    let cause = ended.unwrap_err().cause;
    assert!(
        matches!(cause, Cause::CommandTimedOut { killed: true, .. }),
        "{shell}: {cause}"
    );
    let stat = fs::read_to_string(format!("/proc/{}/stat", started[0]));
    assert!(
        stat.is_err() || stat.unwrap().contains(") Z "),
        "{shell}: {started:?} lives on"
    );
}

#[test]
fn every_login_shell_runs_commands_and_moves_trees() {
    for (name, shell) in [
        ("tc", "tcsh"),
        ("fi", "fish"),
        ("zs", "zsh"),
        ("ks", "ksh"),
        ("da", "dash"),
        ("ba", "bash"),
        ("rb", "rbash"),
        ("as", "ash"),
    ] {
        assert_eq!(works(name, shell, &[]), [""; 0], "{shell}");
    }
}

#[test]
fn what_a_login_prints_is_not_taken_for_ours() {
    let noise = "printf 'one\\ntwo'; printf '\\033]0;title\\007' >&2; echo three >&2\n";
    for (name, shell, file) in [
        ("nb", "bash", ".bashrc"),
        ("nt", "tcsh", ".cshrc"),
        ("nz", "zsh", ".zshenv"),
        ("nf", "fish", ".config/fish/config.fish"),
    ] {
        let text = match shell {
            "tcsh" => "printf 'one\\ntwo'\nsh -c 'echo three >&2'\n",
            _ => noise,
        };
        let mut said = works(name, shell, &[(file, text)]);
        said.sort();
        if !said.is_empty() {
            assert_eq!(said, ["one", "three", "two"], "{shell}");
        }
    }
}

#[test]
fn a_login_that_reads_takes_nothing_of_ours() {
    for (name, shell, file, text) in [
        (
            "br",
            "bash",
            ".bashrc",
            "read x; read -n 1 y; printf 'Your name? '\n",
        ),
        ("tr", "tcsh", ".cshrc", "set x = $<\nprintf 'Your name? '\n"),
        (
            "fr",
            "fish",
            ".config/fish/config.fish",
            "read x; printf 'Your name? '\n",
        ),
    ] {
        let said = works(name, shell, &[(file, text)]);
        assert!(
            said.is_empty() || said.join("").contains("Your name?"),
            "{said:?}"
        );
    }
}

#[track_caller]
fn refused(name: &str, shell: &str, files: &[(&str, &str)]) -> Option<Cause> {
    let somebody = Somebody::with(name, shell, files)?;
    let begun = Instant::now();
    let error = run(&somebody.connect(), TEXT).unwrap_err();
    assert!(!error.is_without_shell(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    Some(error.cause)
}

#[test]
fn a_login_that_hangs_is_given_up_with_that_reason() {
    for (name, text) in [
        ("hb", "echo wait for me; sleep 1000\n"),
        ("ha", "printf 'wait for me'; cat >/dev/null\n"),
    ] {
        match refused(name, "bash", &[(".bashrc", text)]) {
            None => {}
            Some(Cause::LoginSilent { said, .. }) => assert_eq!(said, "wait for me"),
            Some(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_login_that_ends_is_told_with_its_words() {
    let bash = |text| [(".bashrc", text)];
    for (name, shell, text, code, words) in [
        ("nl", "/usr/sbin/nologin", "", 1, "not available"),
        ("fa", "false", "", 1, ""),
        (
            "ex",
            "bash",
            "echo closed for today >&2; exit 7\n",
            7,
            "closed for today",
        ),
        ("e0", "bash", "exit 0\n", 0, ""),
        ("pa", "bash", "PATH=/nowhere\n", 127, "sh: "),
    ] {
        match refused(name, shell, &bash(text)) {
            None => {}
            Some(Cause::LoginEnded { ended, said }) => {
                assert_eq!(ended.code, Some(code), "{name}: {said}");
                assert!(said.contains(words), "{name}: {said}");
            }
            Some(other) => panic!("{name}: {other}"),
        }
    }
}
