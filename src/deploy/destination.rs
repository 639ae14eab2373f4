//! A server while a release works on it: over SSH, or the platform's own machine.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::credentials::Keyring;
use super::error::StepError;
use super::local::{self, LocalCommand};
use super::said::refusal::Refusal;
use super::script::REFUSED;
use crate::ssh::{Cancel, Cause, Command, Exit, Leased, Stream};
use crate::store::ServerKind;
use crate::store::servers::Server;

/// One server, reached. It does one thing at a time.
pub(super) enum Destination {
    Local,
    Ssh(Box<Leased>),
}

impl Destination {
    /// Connects, or takes a connection that is open already.
    pub(super) fn open(
        server: &Server,
        keyring: &Keyring,
        cancel: &Cancel,
    ) -> Result<Self, StepError> {
        Ok(match server.kind {
            ServerKind::Local => Self::Local,
            ServerKind::Ssh => Self::Ssh(Box::new(keyring.lease(server, cancel)?)),
        })
    }

    /// Whether the line to it is lost.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Ssh(connection) if connection.is_broken())
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
        let mut refusal = None;
        let mut listen = |stream: Stream, line: &str| {
            // The node's log gets it in words, with the step's end.
            match (stream, Refusal::read(line)) {
                (Stream::Err, Some(said)) => refusal = Some(said),
                _ => on_line(line),
            }
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
        judge(exit, refusal)
    }
}

fn judge(exit: Exit, refusal: Option<Refusal>) -> Result<(), StepError> {
    match (exit.code, refusal) {
        (Some(0), _) => Ok(()),
        (Some(REFUSED), Some(refusal)) => Err(StepError::Refused(refusal)),
        _ => Err(StepError::Command(exit)),
    }
}
