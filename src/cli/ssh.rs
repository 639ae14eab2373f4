//! `longshore ssh`: commands and files on the installation's servers, from a shell. It works while the
//! server runs, and is recorded in the audit like work on the pages.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Subcommand;

use super::accounts::say;
use super::{CliError, Place};
use crate::app::open_by_hand;
use crate::deploy::{By, ByHand, DeployError};
use crate::ssh::{Cancel, Cause, Command, Exit, Stream};
use crate::store::AuditWay;

/// The exit code of ssh for a failure other than the command's own.
const NOT_RUN: u8 = 255;

/// The time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(super) enum SshCommand {
    /// Run a command on a server; ends with its exit code, or 255 if it could not be run.
    Exec {
        /// The server's name or id.
        server: String,
        /// The time after which it is stopped, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        limit: u64,
        /// Feed it the standard input.
        #[arg(long)]
        stdin: bool,
        #[command(flatten)]
        place: Place,
        /// The command; its words are joined for the remote shell.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Copy a file, or a folder with its contents, to a server; modes and times are kept.
    Put {
        /// The server's name or id.
        server: String,
        /// The local file or folder.
        local: PathBuf,
        /// The remote path, relative to the login's home folder unless it begins with a slash.
        remote: String,
        #[command(flatten)]
        place: Place,
    },
    /// Copy a file, or a folder with its contents, from a server; modes and times are kept.
    Get {
        /// The server's name or id.
        server: String,
        /// The remote path, relative to the login's home folder unless it begins with a slash.
        remote: String,
        /// The local path to write to.
        local: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Accept the host keys of a known_hosts file for the servers that have none yet.
    KnownHosts {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

/// Runs a subcommand.
pub(super) async fn run(command: SshCommand) -> Result<ExitCode, CliError> {
    let cancel = Cancel::new();
    let asked = cancel.clone();
    let working = tokio::task::spawn_blocking(move || act(command, &asked));
    tokio::pin!(working);
    let done = tokio::select! {
        done = &mut working => done,
        _ = tokio::signal::ctrl_c() => {
            cancel.cancel();
            working.await
        }
    };
    done.map_err(|error| CliError::io("ssh")(io::Error::other(error)))?
}

fn act(command: SshCommand, cancel: &Cancel) -> Result<ExitCode, CliError> {
    let by = By {
        who: whoever(),
        way: AuditWay::Cli,
    };
    match command {
        SshCommand::Exec {
            server,
            limit,
            stdin,
            place,
            command,
        } => {
            let hand = open(&place)?;
            let server = hand.server(&server)?;
            let text = command.join(" ");
            let mut input = io::stdin().lock();
            let command = Command::new(&text, Duration::from_secs(limit));
            let command = match stdin {
                true => command.stdin(&mut input),
                false => command,
            };
            let exit = hand.exec(&by, &server, command, cancel, &mut |stream, line| {
                if show(stream, line).is_err() {
                    cancel.cancel();
                }
            });
            exit_code(exit)
        }
        SshCommand::Put {
            server,
            local,
            remote,
            place,
        } => {
            let hand = open(&place)?;
            let server = hand.server(&server)?;
            let mut shown = Shown::new();
            let sent = hand.put(&by, &server, &local, &remote, cancel, &mut |count| {
                shown.note(count);
            })?;
            done("sent", sent)
        }
        SshCommand::Get {
            server,
            remote,
            local,
            place,
        } => {
            let hand = open(&place)?;
            let server = hand.server(&server)?;
            let mut shown = Shown::new();
            let got = hand.get(&by, &server, &remote, &local, cancel, &mut |count| {
                shown.note(count);
            })?;
            done("received", got)
        }
        SshCommand::KnownHosts { file, place } => import(&by, &file, &place),
    }
}

fn open(place: &Place) -> Result<ByHand, CliError> {
    Ok(open_by_hand(&place.settings()?, &place.data)?)
}

fn import(by: &By, file: &Path, place: &Place) -> Result<ExitCode, CliError> {
    let text = std::fs::read_to_string(file).map_err(CliError::io(file.display().to_string()))?;
    let import = open(place)?.import_known_hosts(by, &text)?;
    for server in import.servers {
        let outcome = serde_json::to_value(server.outcome).unwrap_or_default();
        let fingerprint = server.fingerprint.unwrap_or_default();
        let outcome = outcome.as_str().unwrap_or_default();
        say(&format!("{}: {outcome} {fingerprint}", server.hostname))?;
    }
    for line in import.unread {
        say(&format!("line {line} could not be read"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code of the command (128 plus the number of the signal that killed it); 255 if it is
/// unknown or the command could not be run, 130 if it was cancelled.
fn exit_code(exit: Result<Exit, DeployError>) -> Result<ExitCode, CliError> {
    let error = match exit {
        Ok(exit) => {
            let code = exit.code.and_then(|code| u8::try_from(code).ok());
            return Ok(ExitCode::from(code.unwrap_or(NOT_RUN)));
        }
        Err(error) => error,
    };
    let cancelled =
        matches!(&error, DeployError::Ssh(error) if matches!(error.cause, Cause::Cancelled { .. }));
    complain(&format!("longshore: {error}"));
    Ok(ExitCode::from(if cancelled { 130 } else { NOT_RUN }))
}

fn show(stream: Stream, line: &str) -> io::Result<()> {
    match stream {
        Stream::Out => {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())
        }
        // The login's output would get in the way of a program that reads the command's.
        Stream::Err | Stream::Login => writeln!(io::stderr().lock(), "{line}"),
    }
}

fn done(what: &str, count: u64) -> Result<ExitCode, CliError> {
    say(&format!("{count} bytes {what}"))?;
    Ok(ExitCode::SUCCESS)
}

fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Shows progress at intervals.
struct Shown(Instant);

impl Shown {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn note(&mut self, count: u64) {
        if self.0.elapsed() >= PROGRESS {
            self.0 = Instant::now();
            complain(&format!("{count} bytes"));
        }
    }
}

/// The user who runs the command line, as far as the system knows.
fn whoever() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
