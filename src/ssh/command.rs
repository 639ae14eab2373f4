//! A command to run, and its exit.

use std::fmt;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use super::follow::Underway;

/// A command to run.
pub struct Command<'a> {
    /// Text for `sh`, of any length and number of lines.
    pub text: &'a str,
    /// True if it runs in a shell of its own: `$$` is then its own process, and signals to that
    /// reach nothing else. Else it runs in a subshell of the wrapper, which starts one program
    /// less.
    pub own_process: bool,
    /// The command's input; `None`: it reads the end at once. A reader that blocks is not
    /// interrupted by time limit or cancellation. A reader that waits for the command's output
    /// returns [`WouldBlock`](std::io::ErrorKind::WouldBlock) and is asked again when output has
    /// arrived.
    pub stdin: Option<&'a mut dyn Read>,
    /// The receiver of its standard output as bytes; `None`: it is delivered line by line.
    pub stdout: Option<&'a mut dyn Write>,
    /// The time after which it is killed.
    pub time_limit: Duration,
}

impl<'a> Command<'a> {
    /// A command without input.
    pub fn new(text: &'a str, time_limit: Duration) -> Self {
        Self {
            text,
            own_process: true,
            stdin: None,
            stdout: None,
            time_limit,
        }
    }

    /// A script of this program without input.
    pub fn script(text: &'a str, time_limit: Duration) -> Self {
        Self {
            own_process: false,
            ..Self::new(text, time_limit)
        }
    }

    /// The same command with `stdin` as its input.
    pub fn stdin(self, stdin: &'a mut dyn Read) -> Self {
        Self {
            stdin: Some(stdin),
            ..self
        }
    }

    /// The same command, whose standard output goes to `stdout` unchanged. A writer that blocks is
    /// not interrupted by time limit or cancellation; one that fails ends the command.
    pub fn stdout(self, stdout: &'a mut dyn Write) -> Self {
        Self {
            stdout: Some(stdout),
            ..self
        }
    }
}

/// Receives a command's lines; `Break` stops after the line that was awaited.
pub type OnLine<'a> = &'a mut dyn FnMut(Stream, &str) -> ControlFlow<()>;

/// The state of a command when following it ended.
pub enum Followed {
    /// The command ended.
    Ended(Exit),
    /// The awaited line arrived; the command goes on.
    Underway(Box<Underway>),
}

/// The origin of a line of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Either stream, from the account's login before the command began (its start-up files, say),
    /// without terminal control sequences.
    Login,
}

/// The exit of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code. A command that a signal killed has 128 plus the signal's number, as shells
    /// report it, or `None` if only the signal is known.
    pub code: Option<i32>,
    /// The name of the signal that killed it, without `SIG`.
    pub signal: Option<String>,
}

impl Exit {
    /// True if the exit code is 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    pub(super) fn from_shell(status: i32) -> Self {
        Self {
            code: Some(status),
            signal: signal_name(status - 128).map(str::to_owned),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, &self.signal) {
            (Some(code), None) => write!(formatter, "exit code {code}"),
            (Some(code), Some(signal)) => write!(formatter, "exit code {code} (signal {signal})"),
            (None, Some(signal)) => write!(formatter, "signal {signal}"),
            (None, None) => formatter.write_str("unknown"),
        }
    }
}

/// Signals by the numbers that POSIX fixes, and the usual ones of a crash.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        7 => "BUS",
        8 => "FPE",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        _ => return None,
    })
}
