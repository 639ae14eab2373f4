//! Running a command on the server.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ssh2::{Channel, ErrorCode};

use super::Cancel;
use super::command::{Command, Exit, Followed, OnLine, Stream};
use super::connection::Connection;
use super::error::{COMMAND, Cause, Phase, SESSION, SshError};
use super::feed::Feed;
use super::follow::{Run, Stop, Underway};
use super::link::{CHANNEL_REFUSED, Fault, Patience};
use super::script::REQUEST;

/// `CHANNEL_REQUEST_DENIED`: the server starts no command.
const REQUEST_DENIED: ErrorCode = ErrorCode::Session(-22);

/// OpenSSH's answer to any command if the account has only `internal-sftp`.
const SFTP_ONLY: &str = "This service allows sftp connections only.";

/// `SSH_FXP_INIT` of version 3, as a packet.
const SFTP_INIT: [u8; 9] = [0, 0, 0, 5, 1, 0, 0, 0, 3];

/// `SSH_FXP_VERSION`.
const SFTP_VERSION: u8 = 2;

impl Connection {
    /// Runs a command without a terminal and waits for its end, its time limit or `cancel`.
    ///
    /// Its output goes to `on_line` line by line while it runs: without the line's end, invalid
    /// UTF-8 replaced, a line of more than 64 KiB in pieces. The two streams are separate; their
    /// relative order is not kept.
    ///
    /// At the time limit or on `cancel` its process group gets TERM and 3 s later KILL, through a
    /// second connection. Processes that a command leaves in the background after its own end are
    /// not killed, and are waited for at most 1 s.
    ///
    /// # Errors
    /// [`Cause::CommandTimedOut`], [`Cause::Cancelled`], a command that could not be started, and a
    /// connection that was lost. A command that fails is not an error.
    pub fn exec(
        &self,
        command: Command<'_>,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Exit, SshError> {
        let limit = command.time_limit;
        let mut tell = |stream, line: &str| {
            on_line(stream, line);
            ControlFlow::Continue(())
        };
        match self.exec_until(command, cancel, &mut tell)? {
            Followed::Ended(exit) => Ok(exit),
            Followed::Underway(underway) => self.go_on(*underway, limit, cancel, on_line),
        }
    }

    /// [`exec`](Self::exec), but only until `on_line` breaks; the command continues meanwhile.
    ///
    /// # Errors
    /// Those of [`exec`](Self::exec).
    pub fn exec_until(
        &self,
        command: Command<'_>,
        cancel: &Cancel,
        on_line: OnLine<'_>,
    ) -> Result<Followed, SshError> {
        let limit = command.time_limit;
        let run = Run::start(self, command, cancel, on_line).map_err(|cause| self.failed(cause))?;
        run.conclude(limit, cancel)
    }

    /// Follows a running command to its end, as [`exec`](Self::exec) does. Its input is closed.
    ///
    /// # Errors
    /// Those of [`exec`](Self::exec).
    pub fn go_on(
        &self,
        mut underway: Underway,
        limit: Duration,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Exit, SshError> {
        let mut tell = |stream, line: &str| {
            on_line(stream, line);
            ControlFlow::Continue(())
        };
        loop {
            match Run::again(self, underway, &mut tell).conclude(limit, cancel)? {
                Followed::Ended(exit) => return Ok(exit),
                Followed::Underway(again) => underway = *again,
            }
        }
    }

    /// Opens a channel and requests a shell in it that reads `feed`. The feed is sent before the
    /// server's answer, which saves a round trip.
    pub(super) fn start(
        &self,
        feed: &mut Feed<'_>,
        patience: Patience<'_>,
    ) -> Result<Channel, Cause> {
        if self.files_alone.get() {
            return Err(Cause::NoShell);
        }
        let general = |fault: Fault| fault.general(Phase::Start, self.timeouts.idle);
        let refused = |what: &'static str, code| {
            move |fault: Fault| match fault {
                Fault::Failed { ref reason, .. } if fault.code() == Some(code) => Cause::Refused {
                    what,
                    reason: reason.clone(),
                },
                fault => general(fault),
            }
        };
        let open = || Ok(self.link.session.channel_session()?);
        let opened = self.link.drive_opening(patience, open);
        let mut channel = opened.map_err(refused(SESSION, CHANNEL_REFUSED))?;
        let request = || match channel.exec(REQUEST).map_err(Fault::from) {
            Err(Fault::Blocked) if self.link.has_sent() => {
                while ahead(feed.step_ahead(&mut channel, &self.link))? {}
                Err(Fault::Blocked)
            }
            started => started,
        };
        let started = self.link.drive(patience, request);
        started.map_err(refused(COMMAND, REQUEST_DENIED))?;
        Ok(channel)
    }

    /// Runs `text` and returns true if it succeeded; for the module's own small commands.
    pub(super) fn succeeds(&self, text: &str, limit: Duration) -> Result<bool, Cause> {
        let mut unheard = |_, _: &str| ControlFlow::Continue(());
        let command = Command::script(text, limit);
        Run::start(self, command, &Cancel::new(), &mut unheard)?.succeeds(limit)
    }

    /// True if the server only takes files, after a command's request ended before the command
    /// began, with the output `said`: either it says so, or it answers any request with SFTP, as
    /// its answer to an `SSH_FXP_INIT` shows (draft-ietf-secsh-filexfer-02 section 4).
    pub(super) fn takes_files_alone(&self, said: &str) -> bool {
        let patience = Patience::until(Instant::now() + self.timeouts.connect);
        let does = match said {
            "" => self.greet_sftp(patience).unwrap_or(false),
            said => said == SFTP_ONLY,
        };
        self.files_alone.set(does);
        does
    }

    fn greet_sftp(&self, patience: Patience<'_>) -> Result<bool, Cause> {
        let lost = |fault: Fault| fault.general(Phase::Start, self.timeouts.connect);
        let mut greeting = Feed::of(SFTP_INIT.to_vec(), None);
        let mut channel = self.start(&mut greeting, patience)?;
        let mut answer = Vec::new();
        let mut buffer = [0; SFTP_INIT.len()];
        let hear = || {
            while answer.len() < SFTP_INIT.len() {
                while ahead(greeting.step_ahead(&mut channel, &self.link))? {}
                let rest = SFTP_INIT.len() - answer.len();
                match channel.read(&mut buffer[..rest])? {
                    0 => break,
                    count => answer.extend_from_slice(&buffer[..count]),
                }
            }
            Ok(())
        };
        self.link.drive(patience, hear).map_err(lost)?;
        let closed = self.link.drive(patience, || Ok(channel.close()?));
        closed.map_err(lost)?;
        // A length that fits in 64 KiB, and the type.
        Ok(matches!(answer[..], [0, 0, _, _, SFTP_VERSION, ..]))
    }
}

fn ahead(moved: Result<bool, Stop>) -> Result<bool, Fault> {
    moved.map_err(|stop| match stop {
        Stop::Lost(reason) => Fault::lost(&reason),
        _ => Fault::lost("the program was not taken"),
    })
}
