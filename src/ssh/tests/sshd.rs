//! A private sshd with keys of its own.

use super::PATIENT;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::secret::Secret;
use crate::ssh::{Connection, Credential, Target, host_key};

const SSHD: &str = "/usr/sbin/sshd";

/// A running sshd; dropping it ends it.
pub(crate) struct Sshd {
    daemon: Child,
    folder: TempDir,
    pub(crate) port: u16,
}

impl Sshd {
    /// Starts one with an ed25519 host key that accepts [`key`](Self::key) for the present user.
    pub(crate) fn start() -> Self {
        Self::with(&["ed25519"], "")
    }

    /// Starts one with these types of host keys and these lines of configuration before the usual
    /// ones (sshd takes the first value of an option).
    pub(crate) fn with(host_keys: &[&str], config: &str) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing: these tests need the package openssh-server"
        );
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("sshd as root needs the folder /run/sshd");
        }
        let folder = tempfile::tempdir().unwrap();
        for kind in host_keys {
            make_key(&folder.path().join(format!("host_{kind}")), kind, "");
        }
        let key = folder.path().join("key");
        make_key(&key, "ed25519", "");
        fs::copy(key.with_extension("pub"), folder.path().join("authorized")).unwrap();
        for _ in 0..20 {
            if let Some(port) = free_port()
                && let Some(daemon) = launch(folder.path(), host_keys, config, port)
            {
                return Self {
                    daemon,
                    folder,
                    port,
                };
            }
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("sshd does not start: {log}");
    }

    /// A folder that lives as long as the sshd, for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The private key that is accepted.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder().join("key")
    }

    /// Accepts another key too.
    pub(crate) fn authorize(&self, key: &Path) {
        let public = fs::read(public_half(key)).unwrap();
        let mut authorized = fs::OpenOptions::new()
            .append(true)
            .open(self.folder().join("authorized"))
            .unwrap();
        authorized.write_all(&public).unwrap();
    }

    /// The pin of its host key of this type, with the fingerprint from ssh-keygen.
    pub(crate) fn pin(&self, kind: &str) -> String {
        let public = public_half(&self.folder().join(format!("host_{kind}")));
        let listed = run("ssh-keygen", &["-l", "-f", public.to_str().unwrap()]);
        let name = fs::read_to_string(&public).unwrap();
        let name = name.split(' ').next().unwrap();
        format!("{name} {}", listed.split(' ').nth(1).unwrap())
    }

    /// The target for a login as the present user, with the host key accepted.
    pub(crate) fn target(&self) -> Target {
        self.target_with(Credential::KeyFile {
            path: self.key(),
            passphrase: None,
        })
    }

    /// The same with another credential.
    pub(crate) fn target_with(&self, credential: Credential) -> Target {
        let pinned = host_key("127.0.0.1", self.port, &PATIENT).unwrap();
        Target {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: run("id", &["-un"]).trim().to_owned(),
            credential,
            host_key: Some(pinned.pin()),
            via: None,
            proxy: None,
        }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.target(), &PATIENT).unwrap()
    }

    /// The number of connections that are logged in: each has a process of its own.
    pub(crate) fn connections(&self) -> usize {
        self.children().len()
    }

    /// Kills each connection, as when a machine disappears, but not the sshd.
    pub(crate) fn kill_connections(&self) {
        for child in self.children() {
            run("kill", &["-KILL", &child]);
        }
    }

    /// Kills the newest connection.
    pub(crate) fn kill_newest_connection(&self) {
        if let Some(child) = self.children().last() {
            run("kill", &["-KILL", child]);
        }
    }

    /// Ends it and starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        self.daemon = start(self.folder.path(), self.port).unwrap();
    }

    fn children(&self) -> Vec<String> {
        let parent = self.daemon.id();
        let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let is_alive = |child: &&str| {
            fs::read_to_string(format!("/proc/{child}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        let listed = listed.unwrap_or_default();
        let children = listed.split_whitespace().filter(is_alive);
        children.map(str::to_owned).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Makes a private key at `path` and its public half beside it.
pub(crate) fn make_key(path: &Path, kind: &str, passphrase: &str) {
    let path = path.to_str().unwrap();
    run(
        "ssh-keygen",
        &["-q", "-t", kind, "-N", passphrase, "-f", path],
    );
}

pub(crate) fn read_secret(path: &Path) -> Secret<String> {
    Secret::new(fs::read_to_string(path).unwrap())
}

/// Runs a program that must succeed; returns its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `condition` holds, at most 20 s.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn public_half(key: &Path) -> PathBuf {
    PathBuf::from(format!("{}.pub", key.display()))
}

pub(super) fn free_port() -> Option<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

/// `None` if another process took the port meanwhile.
fn launch(folder: &Path, host_keys: &[&str], config: &str, port: u16) -> Option<Child> {
    let at = |name: &str| folder.join(name).display().to_string();
    let host_keys: String = host_keys
        .iter()
        .map(|kind| format!("HostKey {}\n", at(&format!("host_{kind}"))))
        .collect();
    // The only option that must not be given twice.
    let sftp = match config.contains("Subsystem") {
        true => "",
        false => "Subsystem sftp internal-sftp\n",
    };
    let text = format!(
        "{config}\nPort {port}\nListenAddress 127.0.0.1\n{host_keys}AuthorizedKeysFile {}\n\
         PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxStartups 100\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n{sftp}",
        at("authorized")
    );
    fs::write(folder.join("config"), text).unwrap();
    start(folder, port)
}

fn start(folder: &Path, port: u16) -> Option<Child> {
    let at = |name: &str| folder.join(name).display().to_string();
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut daemon = Command::new(SSHD)
        .args(["-D", "-e", "-f", &at("config")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    while Instant::now() < limit {
        if daemon.try_wait().unwrap().is_some() {
            return None;
        }
        if fs::read_to_string(folder.join("log")).is_ok_and(|log| log.contains("listening"))
            && greets(port)
        {
            return Some(daemon);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
    None
}

fn greets(port: u16) -> bool {
    let mut greeting = [0; 4];
    TcpStream::connect(("127.0.0.1", port))
        .and_then(|mut socket| socket.read_exact(&mut greeting))
        .is_ok_and(|()| &greeting == b"SSH-")
}
