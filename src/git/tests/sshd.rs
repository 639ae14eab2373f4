//! A private sshd on loopback, with keys made for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::fixture::Server;

/// The running server and its keys.
pub struct Sshd {
    pub server: Server,
    pub folder: TempDir,
    pub user: String,
}

impl Sshd {
    /// `None` if there is no sshd on this machine.
    pub fn start() -> Option<Self> {
        let program = Path::new("/usr/sbin/sshd");
        if !program.exists() {
            return None;
        }
        // As root, sshd needs the folder that its service would have created.
        let _ = fs::create_dir("/run/sshd");
        let folder = tempfile::tempdir().unwrap();
        let sshd = folder.path();
        for (name, passphrase) in [
            ("host", ""),
            ("other", ""),
            ("user", ""),
            ("locked", "open sesame"),
        ] {
            keygen(&sshd.join(name), passphrase);
        }
        let keys =
            ["user.pub", "locked.pub"].map(|name| fs::read_to_string(sshd.join(name)).unwrap());
        fs::write(sshd.join("authorized"), keys.concat()).unwrap();
        let server = Self::serve(sshd, "host", 0);
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap().trim().to_owned();
        Some(Self {
            server,
            folder,
            user,
        })
    }

    fn serve(folder: &Path, key: &str, port: u16) -> Server {
        Server::start(|free| {
            let port = if port == 0 { free } else { port };
            let mut command = Command::new("/usr/sbin/sshd");
            command.args(["-D", "-f", "/dev/null", "-p", &port.to_string()]);
            for option in [
                format!("HostKey={}", folder.join(key).display()),
                format!("AuthorizedKeysFile={}", folder.join("authorized").display()),
                "ListenAddress=127.0.0.1".to_owned(),
                "PidFile=none".to_owned(),
                "StrictModes=no".to_owned(),
                "UsePAM=no".to_owned(),
                "PasswordAuthentication=no".to_owned(),
                "KbdInteractiveAuthentication=no".to_owned(),
                "PermitRootLogin=yes".to_owned(),
            ] {
                command.args(["-o", &option]);
            }
            command.stderr(Stdio::null());
            command
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The fingerprint as OpenSSH's own tool shows it.
    pub fn fingerprint(&self, name: &str) -> String {
        let output = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(self.path(name))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }
}

fn keygen(path: &Path, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}
