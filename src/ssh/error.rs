//! Failures at a server, worded for the user.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{Exit, HostKey, ProxyFault};

/// `what` in [`Cause::Refused`] for a command.
pub(super) const COMMAND: &str = "a command";

/// `what` in [`Cause::Refused`] for the session that a command runs in.
pub(super) const SESSION: &str = "another session";

/// A failure at one server.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct SshError {
    /// `host:port` of the server.
    pub address: String,
    /// The cause.
    pub cause: Cause,
}

impl SshError {
    pub(super) fn at(host: &str, port: u16, cause: Cause) -> Self {
        Self {
            address: Self::address(host, port),
            cause,
        }
    }

    /// True if the server runs no commands; it may still take files.
    pub fn is_without_shell(&self) -> bool {
        match self.cause {
            Cause::NoShell => true,
            Cause::Refused { what, .. } => what == COMMAND,
            _ => false,
        }
    }

    pub(super) fn address(host: &str, port: u16) -> String {
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

/// The operation that a time-out interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking up the address of the host's name.
    Lookup,
    /// The TCP connection.
    Connect,
    /// The SSH handshake: the port is open, but no SSH server answers in time.
    Handshake,
    /// The connection from a jump server onwards.
    Jump,
    /// A proxy's connection to the server.
    Proxy,
    /// Waiting for a slot of the pool, which has all the connections it may have.
    Slot,
    /// The login.
    Authentication,
    /// The start of a command.
    Start,
    /// A file's upload or download.
    Transfer,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lookup => "the host's name was not resolved",
            Self::Connect => "the host did not accept the connection",
            Self::Handshake => "the port is open but no SSH handshake was completed",
            Self::Jump => "the jump server did not reach it",
            Self::Proxy => "the proxy did not answer",
            Self::Slot => "too many connections are open or being opened",
            Self::Authentication => "the login was not answered",
            Self::Start => "the server did not start the command",
            Self::Transfer => "the server gave no sign of life during a file transfer",
        })
    }
}

/// The cause of a failure.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The host's name has no address.
    #[error("the host's name cannot be resolved: {reason}")]
    Unresolved {
        /// The error of the resolver.
        reason: String,
    },
    /// No address of the host accepted a TCP connection.
    #[error("the host cannot be reached: {reason}")]
    Unreachable {
        /// The error of the system, for each address.
        reason: String,
    },
    /// The server was too slow.
    #[error("timed out after {}: {phase}", seconds(*.after))]
    TimedOut {
        /// The interrupted operation.
        phase: Phase,
        /// The time waited.
        after: Duration,
    },
    /// The port answered, but no encrypted connection could be negotiated.
    #[error(
        "the SSH handshake failed ({reason}); is this an SSH server, not too old, \
         and does it still take connections?"
    )]
    Handshake {
        /// The message of libssh2.
        reason: String,
    },
    /// The server closed before it identified itself: too many connections wait for their login
    /// there, or it accepts none from here.
    #[error("the server turned the connection away; too many may be opened there at once")]
    TurnedAway,
    /// The jump server was reached but cannot reach the next one.
    #[error("the jump server opens no way to {to}: {reason}")]
    NoWayOn {
        /// `host:port` of the next one.
        to: String,
        /// The message of libssh2.
        reason: String,
    },
    /// The proxy provides no connection to the server.
    #[error("the proxy {proxy} gives no connection: {fault}")]
    Proxy {
        /// `host:port` of the proxy, or the program of the command.
        proxy: String,
        /// The reason.
        fault: ProxyFault,
    },
    /// No key of this server has been accepted yet; no credential was sent.
    #[error("the host key is not accepted yet: {offered}")]
    UnknownHostKey {
        /// The key to show to the user.
        offered: HostKey,
    },
    /// The server offers another key than the accepted one; no credential was sent.
    #[error(
        "the host key has changed: accepted was {pinned}, offered is {offered}; \
         either the server was reinstalled or somebody is in between"
    )]
    HostKeyChanged {
        /// The accepted key.
        pinned: String,
        /// The offered key.
        offered: HostKey,
    },
    /// The server refused the credential.
    #[error("the server refused the login of {user} with a {tried} (it accepts: {accepted})")]
    AuthenticationFailed {
        /// The login name.
        user: String,
        /// `password`, `key` or `key of the SSH agent`.
        tried: &'static str,
        /// The methods that the server accepts, by their SSH names, comma-separated.
        accepted: String,
    },
    /// The credential is right, but the server requires another one after it.
    #[error(
        "the server took the {taken} of {user} and asks for {missing} as well (by {wanted}); \
         a credential can hold a key and a password"
    )]
    MoreProof {
        /// The login name.
        user: String,
        /// As `tried` in [`AuthenticationFailed`](Self::AuthenticationFailed).
        taken: &'static str,
        /// `a password`, `a key` or `another proof`.
        missing: &'static str,
        /// The methods that it accepts next, by their SSH names, comma-separated.
        wanted: String,
    },
    /// The server accepted one credential and asked for another one, which it refused.
    #[error(
        "the server took the {taken} of {user} but refused the {refused} that it asks for as well"
    )]
    NextProofRefused {
        /// The login name.
        user: String,
        /// As `tried` in [`AuthenticationFailed`](Self::AuthenticationFailed).
        taken: &'static str,
        /// As `taken`.
        refused: &'static str,
    },
    /// The password is right but must be changed before the server lets the user in.
    #[error("the password of {user} has expired on the server")]
    PasswordExpired {
        /// The login name.
        user: String,
    },
    /// The key is encrypted and no passphrase was given.
    #[error("the private key is encrypted: its passphrase is missing")]
    PassphraseMissing,
    /// The key is encrypted and the passphrase does not decrypt it.
    #[error("the passphrase does not open the private key")]
    PassphraseWrong,
    /// The text is no usable private key.
    #[error("the private key cannot be used: {reason}")]
    KeyNotUnderstood {
        /// The reason.
        reason: String,
    },
    /// The key file is in no folder that the settings allow.
    #[error("the private key {} is in no folder of the setting ssh_key_folders", .path.display())]
    KeyFolder {
        /// The path of the key file.
        path: PathBuf,
    },
    /// The settings do not allow the platform's own SSH agent.
    #[error("the SSH agent may not be used here: the setting ssh_agent is off")]
    AgentOff,
    /// The platform's SSH agent does not run, or holds no suitable key.
    #[error("the SSH agent cannot be used: {reason}")]
    Agent {
        /// The reason.
        reason: String,
    },
    /// The key file could not be read.
    #[error("the private key {} cannot be read: {cause}", .path.display())]
    KeyUnreadable {
        /// The path of the key file.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The server accepts the login but runs no such command or subsystem.
    #[error("the server refused to start {what}: {reason}")]
    Refused {
        /// `a command`, `another session` or `SFTP`.
        what: &'static str,
        /// The message of libssh2.
        reason: String,
    },
    /// The server answers every command with SFTP: it only takes files.
    #[error("the server runs no commands: it takes files alone, by SFTP")]
    NoShell,
    /// The account's login ended before the command began: an account without a login, a start-up
    /// file that exits, a shell that finds no `sh`.
    #[error("the login on the server ended before the command could begin ({ended}){}", words(.said))]
    LoginEnded {
        /// The exit of the login.
        ended: Exit,
        /// The end of what it printed, in one line.
        said: String,
    },
    /// The account's login did not reach the command in time.
    #[error(
        "the login on the server did not come to the command within {}; a start-up file of the \
         account's shell may wait for something{}",
        seconds(*.after), words(.said)
    )]
    LoginSilent {
        /// The time waited.
        after: Duration,
        /// The end of what it printed, in one line.
        said: String,
    },
    /// The command ran longer than its limit.
    #[error("the command did not end within {}{}", seconds(*.limit), fate(*.killed))]
    CommandTimedOut {
        /// Its limit.
        limit: Duration,
        /// True if its processes on the server are known to have ended.
        killed: bool,
    },
    /// The command or transfer was cancelled.
    #[error("cancelled{}", fate(*.killed))]
    Cancelled {
        /// True if nothing of it is left running on the server.
        killed: bool,
    },
    /// The command's input could not be read on this machine; the command was ended.
    #[error("the command's input cannot be read: {cause}")]
    Input {
        /// The error of the reader.
        cause: io::Error,
    },
    /// The output of a command, or the content of a file, could not be written on this machine; the
    /// operation was ended.
    #[error("what the server sends cannot be taken: {cause}")]
    Output {
        /// The error of the writer.
        cause: io::Error,
    },
    /// A file or folder on the server.
    #[error("{path} on the server: {reason}")]
    RemoteFile {
        /// Its path on the server.
        path: String,
        /// The error.
        reason: String,
    },
    /// A file or folder on this machine.
    #[error("{}: {cause}", .path.display())]
    LocalFile {
        /// Its path on this machine.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// The server's disk has no room for the file.
    #[error("{path} on the server: the disk is full")]
    DiskFull {
        /// The file's path on the server.
        path: String,
    },
    /// An established connection broke; a command may still run on the server.
    #[error("the connection was lost: {reason}")]
    ConnectionLost {
        /// The reason.
        reason: String,
    },
}

impl Cause {
    /// There is no SSH agent.
    pub fn no_agent() -> Self {
        Self::Agent {
            reason: "SSH_AUTH_SOCK is not set".to_owned(),
        }
    }

    /// True if the server changed its identity, or no longer accepts the login.
    pub(super) fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::HostKeyChanged { .. }
                | Self::UnknownHostKey { .. }
                | Self::AuthenticationFailed { .. }
                | Self::MoreProof { .. }
                | Self::NextProofRefused { .. }
                | Self::PasswordExpired { .. }
        )
    }

    /// True if the connection is still usable after it.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::RemoteFile { .. }
                | Self::LocalFile { .. }
                | Self::DiskFull { .. }
                | Self::Refused { .. }
                | Self::NoShell
                | Self::LoginEnded { .. }
        )
    }
}

fn fate(killed: bool) -> &'static str {
    match killed {
        true => "",
        false => "; it could not be ended and may still run on the server",
    }
}

fn words(said: &str) -> String {
    match said {
        "" => String::new(),
        said => format!(": {said}"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 10.0).round() / 10.0)
}
