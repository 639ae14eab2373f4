//! A server while a release works on it: over SSH, or the platform's own machine.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::credentials::Keyring;
use super::error::StepError;
use super::local::{self, LocalCommand};
use super::script::REFUSED;
use crate::ssh::{Cancel, Cause, Command, Connection, Exit, Stream, Timeouts};
use crate::store::ServerKind;
use crate::store::servers::Server;

/// How much of what a refusing script says becomes the node's message, in characters.
const LONGEST_REASON: usize = 500;

/// One server, reached. It does one thing at a time.
pub(super) enum Destination {
    Local,
    Ssh(Box<Connection>),
}

impl Destination {
    /// Connects.
    pub(super) fn open(
        server: &Server,
        keyring: &Keyring,
        timeouts: &Timeouts,
    ) -> Result<Self, StepError> {
        match server.kind {
            ServerKind::Local => Ok(Self::Local),
            ServerKind::Ssh => {
                let target = keyring.target(server)?;
                Ok(Self::Ssh(Box::new(Connection::open(&target, timeouts)?)))
            }
        }
    }

    /// Runs a script to its end. [`StepError::Command`] if that is not 0; a script of ours that
    /// refuses says why.
    pub(super) fn run(
        &self,
        script: &str,
        stdin: Option<&mut (dyn Read + Send)>,
        time_limit: Duration,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), StepError> {
        let mut last_complaint = String::new();
        let mut listen = |stream: Stream, line: &str| {
            if stream == Stream::Err && !line.trim().is_empty() {
                last_complaint = line.chars().take(LONGEST_REASON).collect();
            }
            on_line(line);
        };
        let exit = match self {
            Self::Local => local::run(
                &LocalCommand {
                    text: script,
                    folder: Path::new("/"),
                    variables: &[],
                    account: None,
                    time_limit,
                },
                stdin,
                cancel,
                &mut listen,
            )?,
            Self::Ssh(connection) => {
                let command = Command::new(script, time_limit);
                let command = match stdin {
                    Some(stdin) => command.stdin(stdin),
                    None => command,
                };
                connection
                    .exec(command, cancel, &mut listen)
                    .map_err(|error| match error.cause {
                        Cause::Cancelled { .. } => StepError::Stopped,
                        Cause::CommandTimedOut { limit, .. } => StepError::CommandTimedOut(limit),
                        _ => StepError::Ssh(error),
                    })?
            }
        };
        judge(exit, last_complaint)
    }
}

fn judge(exit: Exit, last_complaint: String) -> Result<(), StepError> {
    match exit.code {
        Some(0) => Ok(()),
        Some(REFUSED) if !last_complaint.is_empty() => Err(StepError::Target(last_complaint)),
        _ => Err(StepError::Command(exit)),
    }
}
