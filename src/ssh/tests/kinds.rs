//! Servers other than the usual sshd, or with an unusual configuration.

use super::PATIENT;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::account::{Account, PASSWORD};
use super::exec::exec;
use super::sshd::{Sshd, make_key, read_secret, wait_until};
use super::transfer::{new, random};
use crate::secret::Secret;
use crate::ssh::parallel_upload::LARGE;
use crate::ssh::{Cancel, Cause, Connection, Credential, Target, host_key};

#[test]
fn a_server_of_files_alone_takes_and_gives_files() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    for forced in ["internal-sftp", "/usr/lib/openssh/sftp-server"] {
        takes_and_gives_files(&open, &format!("ForceCommand {forced}"));
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left");
}

fn takes_and_gives_files(open: &std::path::Path, config: &str) {
    let sshd = Sshd::with(&["ed25519"], config);
    let connection = sshd.connect();
    let cancel = Cancel::new();
    let mut fed = "longshore\n".as_bytes();
    for stdin in [None, Some(&mut fed as &mut dyn std::io::Read)] {
        let mut command = crate::ssh::Command::new("true", std::time::Duration::from_secs(5));
        command.stdin = stdin;
        let error = connection
            .exec(command, &cancel, &mut |_, _| {})
            .unwrap_err();
        assert!(error.is_without_shell(), "{error}");
        assert!(!connection.is_broken());
    }
    let there = open.join("file");
    let remote = there.to_str().unwrap();
    connection
        .upload_from(
            &mut "content".as_bytes(),
            remote,
            new(0o644),
            &cancel,
            &mut |_| {},
        )
        .unwrap();
    let mut read = Vec::new();
    connection
        .read_file(remote, &mut read, &cancel, &mut |_| {})
        .unwrap();
    assert_eq!(read, b"content");
    let files = connection.files(&cancel).unwrap();
    let room = files.try_folder(open).unwrap().unwrap();
    assert!(room.is_some_and(|room| room > 0));
    assert_eq!(fs::read_dir(open).unwrap().count(), 1, "nothing is left");
    let missing = open.join("missing");
    assert_eq!(files.try_folder(&missing).unwrap(), None);
}

#[test]
fn a_chroot_of_files_alone_is_seen_from_its_own_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // sshd requires every parent folder to be writable by root alone; /tmp is not.
    let root = tempfile::Builder::new()
        .prefix("longshore-chroot")
        .tempdir_in("/var/lib")
        .unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.path().join("srv")).unwrap();
    let config = format!(
        "ChrootDirectory {}\nForceCommand internal-sftp",
        root.path().display()
    );
    let sshd = Sshd::with(&["ed25519"], &config);
    let connection = sshd.connect();
    let cancel = Cancel::new();
    connection
        .upload_from(
            &mut "content".as_bytes(),
            "/srv/file",
            new(0o600),
            &cancel,
            &mut |_| {},
        )
        .unwrap();
    let there = fs::read_to_string(root.path().join("srv/file")).unwrap();
    assert_eq!(there, "content");
    let error = connection.remote_file("/etc/passwd", &cancel).unwrap_err();
    assert!(matches!(error.cause, Cause::RemoteFile { .. }), "{error}");
}

#[test]
fn older_key_exchanges_ciphers_and_host_keys_are_spoken() {
    for config in [
        "KexAlgorithms diffie-hellman-group14-sha256\nCiphers aes128-ctr\nMACs hmac-sha2-256",
        "KexAlgorithms ecdh-sha2-nistp256\nCiphers aes256-gcm@openssh.com",
        "HostKeyAlgorithms rsa-sha2-256",
        "HostKeyAlgorithms rsa-sha2-512",
        "HostKeyAlgorithms ecdsa-sha2-nistp256",
        "KexAlgorithms curve25519-sha256\nCiphers chacha20-poly1305@openssh.com",
    ] {
        let sshd = Sshd::with(&["ed25519", "rsa", "ecdsa"], config);
        let connection = Connection::open(&sshd.target(), &PATIENT)
            .unwrap_or_else(|error| panic!("{config}: {error}\n{}", sshd.log()));
        assert!(exec(&connection, "true").0.success(), "{config}");
    }
}

#[test]
fn a_server_that_speaks_sha1_alone_is_told_to_be_too_old() {
    let sshd = Sshd::with(&["rsa"], "HostKeyAlgorithms ssh-rsa");
    let error = host_key("127.0.0.1", sshd.port, &PATIENT).unwrap_err();
    assert!(matches!(error.cause, Cause::Handshake { .. }), "{error}");
    assert!(error.to_string().contains("too old"), "{error}");
}

/// Dropbear, the sshd of routers and small systems.
struct Dropbear {
    daemon: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Dropbear {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("host");
        let made = Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(&key)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("these tests need the package dropbear-bin");
        assert!(made.success());
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let daemon = Command::new("/usr/sbin/dropbear")
            .args(["-F", "-E", "-p", &format!("127.0.0.1:{port}"), "-r"])
            .arg(&key)
            .arg("-P")
            .arg(folder.path().join("pid"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let dropbear = Self {
            daemon,
            port,
            folder,
        };
        wait_until("dropbear listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        dropbear
    }

    fn target(&self, user: &str, credential: Credential) -> Target {
        let pinned = host_key("127.0.0.1", self.port, &PATIENT).unwrap();
        Target {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: user.to_owned(),
            credential,
            host_key: Some(pinned.pin()),
            via: None,
            proxy: None,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A folder, an account whose home it is, and the key that it accepts.
fn at_home(name: &str) -> Option<(tempfile::TempDir, Account, Credential)> {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let account = Account::at_home(name, home.path())?;
    let key = home.path().join("mine");
    make_key(&key, "ed25519", "");
    let dot_ssh = home.path().join(".ssh");
    fs::create_dir(&dot_ssh).unwrap();
    fs::copy(key.with_extension("pub"), dot_ssh.join("authorized_keys")).unwrap();
    let owned = Command::new("chown")
        .args(["-R", &account.name])
        .arg(home.path())
        .status()
        .unwrap();
    assert!(owned.success());
    let in_memory = Credential::KeyInMemory {
        key: read_secret(&key),
        passphrase: None,
    };
    Some((home, account, in_memory))
}

#[test]
fn dropbear_that_asks_for_key_and_password_is_reached_with_both() {
    let Some((_home, account, key)) = at_home("b") else {
        return;
    };
    let dropbear = Dropbear::with(&["-t"]);
    let password = || Secret::new(PASSWORD.to_owned());
    let open = |credential| {
        let target = dropbear.target(&account.name, credential);
        Connection::open(&target, &PATIENT)
    };
    open(key.clone().and_password(Some(password())))
        .unwrap_or_else(|error| panic!("{error}\n{}", dropbear.log()));
    for half in [key, Credential::Password(password())] {
        let cause = open(half).unwrap_err().cause;
        assert!(matches!(cause, Cause::MoreProof { .. }), "{cause}");
    }
}

#[test]
fn dropbear_takes_passwords_keys_commands_and_trees() {
    let Some((home, account, in_memory)) = at_home("d") else {
        return;
    };
    let dropbear = Dropbear::start();
    let password = Credential::Password(Secret::new(PASSWORD.to_owned()));
    for credential in [password, in_memory] {
        let target = dropbear.target(&account.name, credential);
        let connection = Connection::open(&target, &PATIENT)
            .unwrap_or_else(|error| panic!("{error}\n{}", dropbear.log()));
        let (exit, lines) = exec(&connection, "id -un; exit 3");
        assert_eq!(
            (exit.code, lines[0].1.as_str()),
            (Some(3), account.name.as_str())
        );
        let tree = home.path().join("tree");
        let local = tempfile::tempdir().unwrap();
        fs::write(local.path().join("file"), vec![1; 500_000]).unwrap();
        let cancel = Cancel::new();
        let remote = tree.to_str().unwrap();
        connection
            .put_tree(local.path(), remote, &cancel, &mut |_| {})
            .unwrap();
        let back = local.path().join("back");
        connection
            .get_tree(remote, &back, &cancel, &mut |_| {})
            .unwrap();
        assert_eq!(fs::read(back.join("file")).unwrap().len(), 500_000);
        let (large, content) = (local.path().join("large"), random(LARGE as usize + 17));
        fs::write(&large, &content).unwrap();
        let there = home.path().join("large");
        let before = dropbear.log().matches("auth succeeded").count();
        connection
            .put_file(&large, there.to_str().unwrap(), &cancel, &mut |_| {})
            .unwrap();
        assert!(fs::read(&there).unwrap() == content);
        let connections = dropbear.log().matches("auth succeeded").count() - before;
        assert!((1..=3).contains(&connections), "{}", dropbear.log());
    }
    let wrong = Credential::Password(Secret::new("wrong".to_owned()));
    let target = dropbear.target(&account.name, wrong);
    let error = Connection::open(&target, &PATIENT).unwrap_err();
    assert!(
        matches!(error.cause, Cause::AuthenticationFailed { .. }),
        "{error}"
    );
}
