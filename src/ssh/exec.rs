//! Running a command on the server.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ssh2::Channel;

use super::Cancel;
use super::command::{Command, Exit, Followed, OnLine, Stream};
use super::connection::Connection;
use super::error::{COMMAND, Cause, Phase, SshError};
use super::follow::{Run, Underway};
use super::link::{Fault, Patience};
use super::script::quote;

impl Connection {
    /// Runs a command without a terminal and waits for its end, its time limit or `cancel`.
    ///
    /// Its output goes to `on_line` line by line while it runs: without the line's end, invalid
    /// UTF-8 replaced, a line of more than 64 KiB in pieces. The two streams are separate; their
    /// order among each other is not kept.
    ///
    /// At the time limit or on `cancel` its process group gets TERM and 3 s later KILL, through a
    /// second connection. What a command leaves in the background after its own end is left
    /// alone, and is waited for at most 1 s.
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
            Followed::Underway(underway) => self.go_on(underway, limit, cancel, on_line),
        }
    }

    /// [`exec`](Self::exec), but only as far as `on_line` breaks off; the command goes on meanwhile.
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

    /// Follows a command that is under way to its end, as [`exec`](Self::exec) does. Its input is at its
    /// end.
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
                Followed::Underway(again) => underway = again,
            }
        }
    }

    /// Opens a channel and starts `text` in it, as it is.
    pub(super) fn start(&self, text: &str, patience: Patience<'_>) -> Result<Channel, Cause> {
        let refused = |fault: Fault| match fault {
            Fault::Failed { ref reason, .. } if !fault.is_lost() => Cause::Refused {
                what: COMMAND,
                reason: reason.clone(),
            },
            fault => fault.general(Phase::Start, self.timeouts.idle),
        };
        let open = || Ok(self.link.session.channel_session()?);
        let mut channel = self.link.drive_opening(patience, open).map_err(refused)?;
        self.link
            .drive(patience, || Ok(channel.exec(text)?))
            .map_err(refused)?;
        Ok(channel)
    }

    /// Runs `text` and returns whether it succeeded; for the module's own small commands.
    pub(super) fn succeeds(&self, text: &str, limit: Duration) -> Result<bool, Cause> {
        let patience = Patience::until(Instant::now() + limit);
        let lost = |fault: Fault| fault.general(Phase::Start, limit);
        let mut channel = self.start(&format!("exec sh -c {}", quote(text)), patience)?;
        let mut buffer = [0; 1024];
        let mut read_all = || loop {
            if channel.read(&mut buffer)? == 0 {
                return Ok(());
            }
        };
        self.link.drive(patience, &mut read_all).map_err(lost)?;
        self.link
            .drive(patience, || Ok(channel.wait_close()?))
            .map_err(lost)?;
        let exit_signal = channel.exit_signal().ok().and_then(|it| it.exit_signal);
        Ok(exit_signal.is_none() && channel.exit_status().is_ok_and(|status| status == 0))
    }
}
