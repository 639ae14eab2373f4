//! The demo's servers: one private sshd on a loopback port, run by the user who runs the demo.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::secret::Secret;
use crate::ssh::{self, Timeouts, quote};

/// The maximum time for the sshd to answer.
const START: Duration = Duration::from_secs(10);
const PLACES: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"];
/// The folder that sshd requires if root runs it.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// The reason that there is no private sshd.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHost {
    #[error("no sshd is installed here")]
    NoSshd,
    #[error("{what}: {cause}")]
    Io { what: String, cause: io::Error },
    #[error("sshd did not start: {0}")]
    Silent(String),
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> NoHost {
    let what = what.into();
    move |cause| NoHost::Io { what, cause }
}

/// A running sshd; it ends with this value, and with the process however the process ends.
pub(super) struct SshHost {
    child: Child,
    port: u16,
    user: String,
    host_key: String,
    client_key: Secret<String>,
}

impl SshHost {
    /// Starts an sshd whose keys and settings are in `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self, NoHost> {
        let program = PLACES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or(NoHost::NoSshd)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(folder.display().to_string()))?;
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all(PRIVILEGE_SEPARATION).map_err(failed(PRIVILEGE_SEPARATION))?;
        }
        for name in ["host_key", "client_key"] {
            make_key(&folder.join(name))?;
        }
        let authorized = folder.join("authorized_keys");
        fs::copy(folder.join("client_key.pub"), &authorized)
            .map_err(failed(authorized.display().to_string()))?;
        let client_key =
            fs::read_to_string(folder.join("client_key")).map_err(failed("client_key"))?;
        let user = user_name()?;
        let port = free_port().map_err(failed("a free port"))?;
        let mut child = spawn(&program, folder, port)?;
        let host_key = match wait_for_key(port, &mut child) {
            Ok(key) => key,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        Ok(Self {
            child,
            port,
            user,
            host_key,
            client_key: Secret::new(client_key),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The host key to pin.
    pub(super) fn host_key(&self) -> &str {
        &self.host_key
    }

    /// The private key that logs in.
    pub(super) fn client_key(&self) -> &Secret<String> {
        &self.client_key
    }
}

impl Drop for SshHost {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // The end of its input ends the shell around the sshd, and so the sshd.
    drop(child.stdin.take());
    let _ = child.wait();
}

fn make_key(path: &Path) -> Result<(), NoHost> {
    if path.exists() {
        return Ok(());
    }
    let output = Command::new("ssh-keygen")
        .args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "longshore-demo",
            "-f",
        ])
        .arg(path)
        .output()
        .map_err(failed("ssh-keygen"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(NoHost::Silent(said))
}

fn user_name() -> Result<String, NoHost> {
    let output = Command::new("id")
        .arg("-un")
        .output()
        .map_err(failed("id"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Starts the sshd beside a `cat` that waits for the end of our pipe: whichever way this process ends,
/// the pipe ends, and then the sshd does.
fn spawn(program: &Path, folder: &Path, port: u16) -> Result<Child, NoHost> {
    let option = |name: &str, value: String| format!("-o {}", quote(&format!("{name}={value}")));
    let file = |name: &str| folder.join(name).display().to_string();
    let options = [
        option("ListenAddress", format!("127.0.0.1:{port}")),
        option("HostKey", file("host_key")),
        option("AuthorizedKeysFile", file("authorized_keys")),
        option("PidFile", "none".to_owned()),
        option("UsePAM", "no".to_owned()),
        option("StrictModes", "no".to_owned()),
        option("PasswordAuthentication", "no".to_owned()),
        option("PermitRootLogin", "prohibit-password".to_owned()),
        option("MaxStartups", "100".to_owned()),
        option("Subsystem", "sftp internal-sftp".to_owned()),
    ]
    .join(" ");
    let script = format!(
        "{} -D -e -f /dev/null {options} </dev/null & sshd=$!; cat >/dev/null; kill $sshd; wait $sshd",
        quote(&program.display().to_string())
    );
    let log = fs::File::create(folder.join("sshd.log")).map_err(failed("sshd.log"))?;
    Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C is for the platform, which ends the sshd itself once releases have stopped.
        .process_group(0)
        .spawn()
        .map_err(failed("sshd"))
}

/// Waits until the sshd answers and accepts its host key.
fn wait_for_key(port: u16, child: &mut Child) -> Result<String, NoHost> {
    let deadline = Instant::now() + START;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    loop {
        if greets(address) {
            match ssh::host_key("127.0.0.1", port, &Timeouts::default()) {
                Ok(key) => return Ok(key.pin()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(NoHost::Silent(error.to_string()));
                }
                Err(_) => {}
            }
        }
        let gone = child.try_wait().map_err(failed("sshd"))?.is_some();
        if gone || Instant::now() >= deadline {
            return Err(NoHost::Silent("see demo/sshd/sshd.log".to_owned()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn greets(address: SocketAddr) -> bool {
    let mut greeting = [0; 4];
    TcpStream::connect_timeout(&address, Duration::from_secs(1))
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.read_exact(&mut greeting)
        })
        .is_ok()
        && &greeting == b"SSH-"
}
