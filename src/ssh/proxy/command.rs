//! A command whose standard input and output are the connection to the server.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::ProxyFault;
use crate::ssh::Exit;
use crate::ssh::error::Cause;

/// The most bytes of a command's last output that are kept.
const SAID: usize = 300;
/// The time to wait for the exit of a command that has closed the connection.
const LAST_WORD: Duration = Duration::from_millis(500);
/// The time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(2);
/// The interval at which its exit is checked.
const GLANCE: Duration = Duration::from_millis(20);

/// Starts a proxy command by the rules of this machine.
pub trait Launcher: Send + Sync {
    /// Starts `arguments`, the first of which is the program: as the leader of a process group of
    /// its own, with `stream` as its input and output, and a pipe as its standard error.
    ///
    /// # Errors
    /// A program that cannot be started.
    fn launch(&self, arguments: &[String], stream: OwnedFd) -> io::Result<Child>;
}

/// A command, and its launcher.
#[derive(Clone)]
pub struct ProxyCommand {
    /// The program and its arguments, with the tokens of [`check_argument`]. No shell parses them.
    pub arguments: Vec<String>,
    /// Starts the command.
    pub launcher: Arc<dyn Launcher>,
}

impl fmt::Debug for ProxyCommand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("ProxyCommand")
            .field(&self.arguments)
            .finish()
    }
}

/// True if every `%` of an argument begins a token: `%h` (the server's host), `%n` (the same), `%p`
/// (its port), `%r` (the login name), `%%`.
pub fn check_argument(argument: &str) -> bool {
    let mut letters = argument.chars();
    while let Some(letter) = letters.next() {
        if letter == '%' && !matches!(letters.next(), Some('h' | 'n' | 'p' | 'r' | '%')) {
            return false;
        }
    }
    true
}

fn expanded(argument: &str, (host, port, user): (&str, u16, &str)) -> String {
    let mut expanded = String::new();
    let mut letters = argument.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '%') {
            (_, true) => match letters.next() {
                Some('h' | 'n') => expanded.push_str(host),
                Some('p') => expanded.push_str(&port.to_string()),
                Some('r') => expanded.push_str(user),
                other => expanded.extend(other),
            },
            (letter, false) => expanded.push(letter),
        }
    }
    expanded
}

impl ProxyCommand {
    /// Starts it for a server; returns this program's end of the connection, and the process.
    pub(in crate::ssh) fn start(
        &self,
        server: (&str, u16, &str),
    ) -> Result<(OwnedFd, ProxyProcess), Cause> {
        let expand = |argument: &String| expanded(argument, server);
        let arguments: Vec<String> = self.arguments.iter().map(expand).collect();
        let program = arguments.first().cloned().unwrap_or_default();
        let started = UnixStream::pair().and_then(|(near, far)| {
            let child = self.launcher.launch(&arguments, far.into())?;
            Ok((near, child))
        });
        let (near, mut child) = started.map_err(|error| Cause::Proxy {
            proxy: program.clone(),
            fault: ProxyFault::Start {
                reason: error.to_string(),
            },
        })?;
        let said = Arc::default();
        let stderr = child.stderr.take();
        let listening = stderr.and_then(|stderr| listen(stderr, Arc::clone(&said)));
        let process = ProxyProcess {
            program,
            child: Some(child),
            said,
            listening,
        };
        Ok((near.into(), process))
    }

    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let arguments = self.arguments.iter();
        let arguments = arguments.map(|argument| argument.clone().into_bytes());
        [b"command".to_vec()].into_iter().chain(arguments).collect()
    }
}

/// Keeps the last bytes of `stderr`, until its end.
fn listen(mut stderr: ChildStderr, said: Arc<Mutex<Vec<u8>>>) -> Option<JoinHandle<()>> {
    let listening = thread::Builder::new().name("ssh-proxy".to_owned());
    let heard = listening.spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend_from_slice(&buffer[..count]);
            let past = said.len().saturating_sub(SAID);
            said.drain(..past);
        }
    });
    heard
        .inspect_err(|error| tracing::warn!(%error, "what a proxy command says is not heard"))
        .ok()
}

/// A running proxy command; its process group ends when this is dropped.
pub(in crate::ssh) struct ProxyProcess {
    program: String,
    /// Present until the drop.
    child: Option<Child>,
    said: Arc<Mutex<Vec<u8>>>,
    /// Ends when the command has closed its standard error.
    listening: Option<JoinHandle<()>>,
}

impl ProxyProcess {
    /// Refines the cause of a failed connection: if the command exited with an error, that is the
    /// cause.
    pub(in crate::ssh) fn blame(&mut self, cause: Cause) -> Cause {
        let may_be_its_own = matches!(
            cause,
            Cause::TurnedAway | Cause::Handshake { .. } | Cause::ConnectionLost { .. }
        );
        if !may_be_its_own {
            return cause;
        }
        match self.ended() {
            Some(status) if !status.success() => Cause::Proxy {
                proxy: self.program.clone(),
                fault: ProxyFault::Ended {
                    ended: Exit {
                        code: status.code(),
                        signal: status.signal().map(|signal| signal.to_string()),
                    },
                    said: self.last_words(),
                },
            },
            _ => cause,
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + LAST_WORD;
        let is_heard = |listening: &Option<JoinHandle<()>>| {
            let listening = listening.as_ref();
            listening.is_none_or(JoinHandle::is_finished)
        };
        loop {
            let status = self.child.as_mut()?.try_wait().ok()?;
            let is_over = status.is_some() && is_heard(&self.listening);
            if is_over || Instant::now() >= until {
                return status;
            }
            thread::sleep(GLANCE);
        }
    }

    /// The last line that is not empty.
    fn last_words(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        let is_shown = |letter: &char| !letter.is_control();
        line.unwrap_or_default().chars().filter(is_shown).collect()
    }
}

impl Drop for ProxyProcess {
    /// Does not wait for the exit, which may take a while.
    fn drop(&mut self) {
        let Some(child) = self.child.take() else {
            return;
        };
        let ending = thread::Builder::new().name("ssh-proxy".to_owned());
        let group = Pid::from_child(&child);
        if let Err(error) = ending.spawn(move || end(child)) {
            tracing::warn!(%error, "a proxy command is killed without a warning");
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Ends the command's whole process group: TERM, [`GRACE`], KILL.
fn end(mut child: Child) {
    let group = Pid::from_child(&child);
    let is_there = || rustix::process::test_kill_process_group(group).is_ok();
    let _ = kill_process_group(group, Signal::TERM);
    let patience = Instant::now() + GRACE;
    while Instant::now() < patience {
        let is_reaped = !matches!(child.try_wait(), Ok(None));
        if is_reaped && !is_there() {
            return;
        }
        thread::sleep(GLANCE);
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_ssh() {
        let server = ("web-1", 2222, "deploy");
        assert_eq!(expanded("%h:%p", server), "web-1:2222");
        assert_eq!(expanded("-l%r,%n,100%%", server), "-ldeploy,web-1,100%");
        assert_eq!(expanded("$(id) `x` 好", server), "$(id) `x` 好");
        for good in ["", "%%%h", "a%pb", "100%%"] {
            assert!(check_argument(good), "{good}");
        }
        for bad in ["%", "%d", "100%", "%%%"] {
            assert!(!check_argument(bad), "{bad}");
        }
    }
}
