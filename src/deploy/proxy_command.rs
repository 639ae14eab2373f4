//! Proxy commands, which carry connections to servers, under the rules of platform commands.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use super::local::{self, Account};
use crate::ssh::Launcher;

/// The working directory.
const FOLDER: &str = "/";

/// Starts proxy commands on this machine with a scrubbed environment, in their own process group, as
/// the account `run_as`.
pub(super) struct LocalLauncher {
    /// The account. `None`: the platform's account.
    pub(super) run_as: Option<String>,
}

impl Launcher for LocalLauncher {
    fn launch(&self, arguments: &[String], stream: OwnedFd) -> io::Result<Child> {
        let (program, arguments) = arguments
            .split_first()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let account = self.run_as.as_deref().map(Account::find).transpose();
        let account = account.map_err(|error| io::Error::other(error.to_string()))?;
        let mut command = local::scrubbed(program, account.as_ref());
        command
            .args(arguments)
            .current_dir(FOLDER)
            .stdin(Stdio::from(stream.try_clone()?))
            .stdout(Stdio::from(stream))
            .stderr(Stdio::piped());
        command.spawn()
    }
}
