//! Accounts for the tests, which only root can create.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::sshd::wait_until;

/// The password of each account.
pub(super) const PASSWORD: &str = "correct horse";

/// A throw-away account with [`PASSWORD`].
pub(super) struct Account {
    pub(super) name: String,
}

impl Account {
    /// `None` unless run as root.
    pub(super) fn create(name: &str) -> Option<Self> {
        Self::at_home(name, Path::new("/tmp"))
    }

    /// An account whose home is `home`.
    pub(super) fn at_home(name: &str, home: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let account = Self {
            name: format!("ls{name}{}", std::process::id()),
        };
        let home = home.to_str().unwrap();
        // The user database is locked while another test changes it.
        wait_until("useradd gets its lock", || {
            quietly(
                "useradd",
                &["-M", "-d", home, "-s", "/bin/sh", &account.name],
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
        let line = format!("{}:{PASSWORD}\n", self.name);
        let fed = chpasswd.stdin.take().unwrap().write_all(line.as_bytes());
        chpasswd.wait().unwrap().success() && fed.is_ok()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for _ in 0..100 {
            if quietly("userdel", &["-f", &self.name]) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

pub(super) fn quietly(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
