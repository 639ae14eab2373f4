//! The peers: other people's tools, each told as shells are told.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fleet::{Fleet, PATH};

/// Runs `text` with `sh`, the fleet's ssh configuration in `$config` and the project's path in `$path`.
pub fn sh(fleet: &Fleet, folder: &Path, text: &str) {
    let done = Command::new("sh")
        .args(["-euc", text])
        .current_dir(folder)
        .env("config", fleet.ssh_config())
        .env("path", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(done.expect("sh").success(), "{text}");
}

/// A script of `peers/` that brings a repository's `main` to every server.
pub struct Script {
    pub name: &'static str,
    work: tempfile::TempDir,
    releases: usize,
}

impl Script {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            work: tempfile::tempdir().expect("a temporary folder"),
            releases: 0,
        }
    }

    pub fn release(&mut self, fleet: &Fleet, repository: &str) {
        self.releases += 1;
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("benches/transfer/peers")
            .join(format!("{}.sh", self.name));
        let done = Command::new("sh")
            .arg(script)
            .arg(repository)
            .arg(self.work.path().join("copy"))
            .arg(fleet.ssh_config())
            .args([PATH, &self.releases.to_string()])
            .args(fleet.machines.iter().map(|machine| &machine.name))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null())
            .status();
        assert!(done.expect("sh").success(), "{}", self.name);
    }
}
