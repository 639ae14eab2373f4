//! A server that a release works on: over SSH, or the platform's own machine.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::credentials::Keyring;
use super::error::StepError;
use super::local::{self, LocalCommand};
use super::said::refusal::Refusal;
use super::script::REFUSED;
use crate::ssh::{Cancel, Cause, Command, Exit, Followed, Leased, SshError, Stream, Underway};
use crate::store::ServerKind;
use crate::store::servers::Server;

/// Prefix of the lines that the login on a server prints.
pub(super) const LOGIN: &str = "login: ";

/// A reached server. It does one thing at a time.
pub(super) enum Destination {
    Local,
    Ssh(Box<Leased>),
}

impl Destination {
    /// Connects, or takes an open connection from the pool.
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

    /// True if the connection is lost.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Ssh(connection) if connection.is_broken())
    }

    /// Runs a script to its end. An exit status other than 0 is [`StepError::Command`], or
    /// [`StepError::Refused`] with the reason if the script gave one.
    pub(super) fn run(
        &self,
        script: &str,
        stdin: Option<&mut (dyn Read + Send)>,
        time_limit: Duration,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), StepError> {
        let mut ear = Ear::default();
        let exit = match self {
            Self::Local => local::run(
                &LocalCommand {
                    text: script,
                    folder: Path::new("/"),
                    variables: &[],
                    account: None,
                    confinement: None,
                    time_limit,
                },
                stdin,
                cancel,
                &mut |stream, line| ear.hear(stream, line, on_line),
            )?,
            Self::Ssh(connection) => connection
                .exec(
                    command(script, stdin, time_limit),
                    cancel,
                    &mut |it, line| {
                        ear.hear(it, line, on_line);
                    },
                )
                .map_err(step_error)?,
        };
        judge(exit, ear.refusal)
    }

    /// Runs a script until it prints the line `until` on standard output. Over SSH the script goes on
    /// meanwhile and [`go_on`](Self::go_on) follows it. `None` if the script has ended; on the
    /// platform itself it always runs to its end.
    pub(super) fn run_until(
        &self,
        until: &str,
        script: &str,
        stdin: Option<&mut (dyn Read + Send)>,
        time_limit: Duration,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Option<Ongoing>, StepError> {
        let Self::Ssh(connection) = self else {
            self.run(script, stdin, time_limit, cancel, on_line)?;
            return Ok(None);
        };
        let mut ear = Ear::default();
        let mut later = None;
        let followed = connection.exec_until(
            command(script, stdin, time_limit),
            cancel,
            &mut |stream, line| {
                match &mut later {
                    None if stream == Stream::Out && line == until => {
                        later = Some(Vec::new());
                        return ControlFlow::Break(());
                    }
                    None => ear.hear(stream, line, on_line),
                    Some(later) => later.push((stream, line.to_owned())),
                }
                ControlFlow::Continue(())
            },
        );
        match followed.map_err(step_error)? {
            Followed::Underway(underway) => Ok(Some(Ongoing {
                underway: *underway,
                ear,
                later: later.unwrap_or_default(),
            })),
            Followed::Ended(exit) => judge(exit, ear.refusal).map(|()| None),
        }
    }

    /// Follows a script that [`run_until`](Self::run_until) left, to its end.
    pub(super) fn go_on(
        &self,
        ongoing: Ongoing,
        time_limit: Duration,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<(), StepError> {
        let Self::Ssh(connection) = self else {
            return Ok(());
        };
        let Ongoing {
            underway,
            mut ear,
            later,
        } = ongoing;
        for (stream, line) in later {
            ear.hear(stream, &line, on_line);
        }
        let exit = connection
            .go_on(underway, time_limit, cancel, &mut |stream, line| {
                ear.hear(stream, line, on_line);
            })
            .map_err(step_error)?;
        judge(exit, ear.refusal)
    }
}

/// A script that still runs on a server.
pub(super) struct Ongoing {
    underway: Underway,
    ear: Ear,
    /// Lines received after the line `until`.
    later: Vec<(Stream, String)>,
}

/// Extracts a refusal from a script's lines.
#[derive(Default)]
struct Ear {
    refusal: Option<Refusal>,
}

impl Ear {
    /// Marks a line that the login printed, so that no reader takes it for the script's output.
    fn hear(&mut self, stream: Stream, line: &str, on_line: &mut dyn FnMut(&str)) {
        match stream {
            Stream::Out => on_line(line),
            Stream::Login => on_line(&format!("{LOGIN}{line}")),
            // The step's error puts the refusal into words.
            Stream::Err => match Refusal::read(line) {
                Some(said) => self.refusal = Some(said),
                None => on_line(line),
            },
        }
    }
}

fn command<'a, 'source: 'a>(
    script: &'a str,
    stdin: Option<&'a mut (dyn Read + Send + 'source)>,
    time_limit: Duration,
) -> Command<'a> {
    let command = Command::script(script, time_limit);
    match stdin {
        Some(stdin) => command.stdin(stdin),
        None => command,
    }
}

fn step_error(error: SshError) -> StepError {
    match error.cause {
        Cause::Cancelled { .. } => StepError::Stopped,
        Cause::CommandTimedOut { limit, .. } => StepError::CommandTimedOut(limit),
        _ => StepError::Ssh(error),
    }
}

fn judge(exit: Exit, refusal: Option<Refusal>) -> Result<(), StepError> {
    match (exit.code, refusal) {
        (Some(0), _) => Ok(()),
        (Some(REFUSED), Some(refusal)) => Err(StepError::Refused(refusal)),
        _ => Err(StepError::Command(exit)),
    }
}
