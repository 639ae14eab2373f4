//! Many servers on one machine: an sshd each, on a loopback address of its own, in a mount namespace
//! where the project's path is a folder of its own and the login's home is empty.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::proxy::Proxy;

/// The project's path on every server.
pub const PATH: &str = "/srv/longshore-bench";
const PORT: u16 = 2222;

/// One server.
pub struct Machine {
    pub name: String,
    pub address: Ipv4Addr,
    /// The port to connect to: that of sshd itself, or of the proxy.
    pub port: u16,
    pub proxy: Proxy,
    sshd: Child,
    folder: PathBuf,
}

impl Machine {
    /// Its [`PATH`] as this process sees it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn sshd(&self) -> u32 {
        self.sshd.id()
    }
}

/// The servers, ended with their folders when dropped.
pub struct Fleet {
    pub machines: Vec<Machine>,
    folder: tempfile::TempDir,
}

impl Fleet {
    /// Starts so many. With `delay_ms` the way to each is through its proxy.
    pub fn start(count: usize, delay_ms: u64) -> Self {
        Self::configured(count, delay_ms, "")
    }

    /// The same, of servers that run no commands.
    pub fn without_shells(count: usize, delay_ms: u64) -> Self {
        Self::configured(count, delay_ms, "ForceCommand internal-sftp\n")
    }

    fn configured(count: usize, delay_ms: u64, further: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all("/run/sshd").expect("/run/sshd");
        fs::create_dir_all(PATH).expect(PATH);
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status();
            assert!(made.expect("ssh-keygen").success());
        }
        fs::copy(
            folder.path().join("user.pub"),
            folder.path().join("authorized"),
        )
        .expect("a copy");
        let machines = (0..count)
            .map(|number| {
                start(
                    folder.path(),
                    number,
                    Duration::from_millis(delay_ms),
                    further,
                )
            })
            .collect();
        let fleet = Self { machines, folder };
        fs::write(fleet.ssh_config(), fleet.config()).expect("ssh_config");
        fs::create_dir(fleet.aside()).expect("a folder");
        fleet
    }

    /// The private key that every server lets in.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    /// The client's configuration: `ssh -F FILE web-1`.
    pub fn ssh_config(&self) -> PathBuf {
        self.folder.path().join("ssh_config")
    }

    /// The fingerprint of every server's host key.
    pub fn fingerprint(&self) -> String {
        let listed = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(self.folder.path().join("host.pub"))
            .output()
            .expect("ssh-keygen");
        let listed = String::from_utf8(listed.stdout).expect("plain text");
        listed.split(' ').nth(1).expect("a fingerprint").to_owned()
    }

    pub fn daemons(&self) -> Vec<u32> {
        self.machines.iter().map(Machine::sshd).collect()
    }

    /// Empties every server's folder. Old files are moved aside: a file system that has just deleted
    /// thousands of files may take a multiple of its time to make as many new ones.
    pub fn clear(&self) {
        for machine in &self.machines {
            let aside = tempfile::tempdir_in(self.aside()).expect("a folder").keep();
            let entries = fs::read_dir(machine.folder()).expect("the folder");
            for entry in entries.flatten() {
                fs::rename(entry.path(), aside.join(entry.file_name())).expect("an empty folder");
            }
        }
        settle();
    }

    /// Deletes what has been moved aside.
    pub fn forget(&self) {
        fs::remove_dir_all(self.aside()).expect("a folder");
        fs::create_dir(self.aside()).expect("a folder");
    }

    fn aside(&self) -> PathBuf {
        self.folder.path().join("aside")
    }

    fn config(&self) -> String {
        let folder = self.folder.path().display();
        let mut text = String::new();
        for machine in &self.machines {
            text.push_str(&format!(
                "Host {}\n  HostName {}\n  Port {}\n  HostKeyAlias fleet\n",
                machine.name, machine.address, machine.port
            ));
        }
        let host = fs::read_to_string(self.folder.path().join("host.pub")).expect("host.pub");
        fs::write(self.folder.path().join("known"), format!("fleet {host}")).expect("known");
        text.push_str(&format!(
            "Host *\n  User root\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  BatchMode yes\n  \
             UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
        ));
        text
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            let _ = machine.sshd.kill();
            let _ = machine.sshd.wait();
        }
    }
}

/// Flushes earlier writes to disk before the next measurement begins.
pub fn settle() {
    let _ = Command::new("sync").status();
}

fn start(folder: &Path, number: usize, round_trip: Duration, further: &str) -> Machine {
    let address = Ipv4Addr::new(127, 0, 0, 10 + u8::try_from(number).expect("few servers"));
    let own = folder.join(format!("web-{}", number + 1));
    fs::create_dir_all(&own).expect("a folder");
    // An empty home: shell startup files of this machine's root are no part of the servers.
    let home = folder.join("home");
    fs::create_dir_all(&home).expect("a folder");
    let config = folder.join(format!("sshd-{}", number + 1));
    let at = folder.display();
    fs::write(
        &config,
        format!(
            "Port {PORT}\nListenAddress {address}\nHostKey {at}/host\nPidFile none\n\
             AuthorizedKeysFile {at}/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             MaxStartups 200\nMaxSessions 200\nSubsystem sftp internal-sftp\nLogLevel ERROR\n{further}"
        ),
    )
    .expect("sshd_config");
    let sshd = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-ec",
            "mount --bind \"$1\" \"$2\"; mount --bind \"$4\" /root; exec /usr/sbin/sshd -D -e -f \"$3\"",
            "sh",
        ])
        .args([own.as_path(), Path::new(PATH), config.as_path(), home.as_path()])
        .stdin(Stdio::null())
        .spawn()
        .expect("unshare");
    let real = SocketAddr::from((address, PORT));
    let over = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(real).is_err() {
        assert!(Instant::now() < over, "no sshd on {real}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let proxy = Proxy::start(address, real, round_trip);
    Machine {
        name: format!("web-{}", number + 1),
        address,
        port: if round_trip.is_zero() {
            PORT
        } else {
            proxy.port
        },
        proxy,
        sshd,
        folder: own,
    }
}
