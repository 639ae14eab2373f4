//! What to run, and how it ended.

use std::fmt;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use super::follow::Underway;

/// What to run.
pub struct Command<'a> {
    /// Text for `sh`, of any length and in as many lines as it has.
    pub text: &'a str,
    /// Whether a shell of its own runs it: `$$` is its process then, and what it does to that is done to
    /// nobody else. Else a part of the shell that listens runs it, which starts one program less.
    pub own_process: bool,
    /// What the command reads; `None`: it reads the end at once. A reader that blocks is not
    /// interrupted by time limit or cancellation; one that waits for what the command says answers
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) and is asked again when something has come.
    pub stdin: Option<&'a mut dyn Read>,
    /// Who takes what it prints on its standard output, byte by byte; `None`: it comes line by line.
    pub stdout: Option<&'a mut dyn Write>,
    /// When it is killed.
    pub time_limit: Duration,
}

impl<'a> Command<'a> {
    /// A command that reads nothing.
    pub fn new(text: &'a str, time_limit: Duration) -> Self {
        Self {
            text,
            own_process: true,
            stdin: None,
            stdout: None,
            time_limit,
        }
    }

    /// A script of ours that reads nothing.
    pub fn script(text: &'a str, time_limit: Duration) -> Self {
        Self {
            own_process: false,
            ..Self::new(text, time_limit)
        }
    }

    /// The same command, fed with `stdin`.
    pub fn stdin(self, stdin: &'a mut dyn Read) -> Self {
        Self {
            stdin: Some(stdin),
            ..self
        }
    }

    /// The same command, whose standard output goes to `stdout` as it is. A writer that blocks is
    /// not interrupted by time limit or cancellation; one that fails ends the command.
    pub fn stdout(self, stdout: &'a mut dyn Write) -> Self {
        Self {
            stdout: Some(stdout),
            ..self
        }
    }
}

/// Takes a command's lines, and breaks off after the one that it was waited for.
pub type OnLine<'a> = &'a mut dyn FnMut(Stream, &str) -> ControlFlow<()>;

/// How far a command was followed.
pub enum Followed {
    /// To its end.
    Ended(Exit),
    /// To a line that was waited for.
    Underway(Box<Underway>),
}

/// Where a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Either, from the account's login before the command began (its start-up files, say), without the
    /// sequences that steer a terminal.
    Login,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code. A command that a signal killed has 128 and the signal's number, as shells
    /// tell it, or none where only the signal is known.
    pub code: Option<i32>,
    /// The name of the signal that killed it, without `SIG`.
    pub signal: Option<String>,
}

impl Exit {
    /// Whether the exit code is 0.
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
