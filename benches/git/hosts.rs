//! The host of the repository over git://.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::repository::git;

/// A running `git daemon`.
pub struct Daemon {
    process: Child,
    port: u16,
}

impl Daemon {
    /// One for everything below `root`.
    pub fn start(root: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .expect("a port")
            .port();
        let exec_path = git().arg("--exec-path").output().expect("git").stdout;
        let exec_path = String::from_utf8(exec_path).expect("plain text");
        let process = Command::new(Path::new(exec_path.trim()).join("git-daemon"))
            .args(["--listen=127.0.0.1", "--reuseaddr", "--export-all"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", root.display()))
            .arg(root)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git daemon");
        let over = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < over, "no git daemon");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }

    pub fn url(&self) -> String {
        format!("git://127.0.0.1:{}/app.git", self.port)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
