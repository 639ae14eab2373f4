//! What can go wrong with a server, in words that a person understands.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{Exit, HostKey, ProxyFault};

/// What [`Cause::Refused`] names where it was a command.
pub(super) const COMMAND: &str = "a command";

/// The same where it was the session that a command runs in.
pub(super) const SESSION: &str = "another session";

/// Something failed at one server.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct SshError {
    /// `host:port` of the server.
    pub address: String,
    /// What failed.
    pub cause: Cause,
}

impl SshError {
    pub(super) fn at(host: &str, port: u16, cause: Cause) -> Self {
        Self {
            address: Self::address(host, port),
            cause,
        }
    }

    /// Whether the server runs no commands, and may still take files.
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

/// What a time-out interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking up the address of the host's name.
    Lookup,
    /// The TCP connection.
    Connect,
    /// The SSH handshake: the port is open, but nothing that speaks SSH answers in time.
    Handshake,
    /// The way on from a jump server.
    Jump,
    /// A proxy's connection to the server.
    Proxy,
    /// A slot of the pool, which has as many connections as it may.
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

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The host's name has no address.
    #[error("the host's name cannot be resolved: {reason}")]
    Unresolved {
        /// What the resolver said.
        reason: String,
    },
    /// No address of the host accepted a TCP connection.
    #[error("the host cannot be reached: {reason}")]
    Unreachable {
        /// What the system said, for each address.
        reason: String,
    },
    /// The server was too slow.
    #[error("timed out after {}: {phase}", seconds(*.after))]
    TimedOut {
        /// What was under way.
        phase: Phase,
        /// How long was waited.
        after: Duration,
    },
    /// The port answered, but no encrypted connection could be agreed on.
    #[error(
        "the SSH handshake failed ({reason}); is this an SSH server, not too old, \
         and does it still take connections?"
    )]
    Handshake {
        /// What libssh2 said.
        reason: String,
    },
    /// The server hung up before it said who it is: too many connections wait for their login
    /// there, or it takes none from here.
    #[error("the server turned the connection away; too many may be opened there at once")]
    TurnedAway,
    /// The jump server was reached but has no way to the next one.
    #[error("the jump server opens no way to {to}: {reason}")]
    NoWayOn {
        /// `host:port` of the next one.
        to: String,
        /// What libssh2 said.
        reason: String,
    },
    /// The proxy gives no connection to the server.
    #[error("the proxy {proxy} gives no connection: {fault}")]
    Proxy {
        /// `host:port` of the proxy, or the program of the command.
        proxy: String,
        /// Why.
        fault: ProxyFault,
    },
    /// Nobody has accepted this server's key yet; no credential was sent.
    #[error("the host key is not accepted yet: {offered}")]
    UnknownHostKey {
        /// The key to show to a person.
        offered: HostKey,
    },
    /// The server shows another key than the accepted one; no credential was sent.
    #[error(
        "the host key has changed: accepted was {pinned}, offered is {offered}; \
         either the server was reinstalled or somebody is in between"
    )]
    HostKeyChanged {
        /// The key that a person had accepted.
        pinned: String,
        /// The key that the server shows now.
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
    /// The credential is right, but the server wants another proof after it.
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
    /// The server took one proof and asked for another one, which it refused.
    #[error(
        "the server took the {taken} of {user} but refused the {refused} that it asks for as well"
    )]
    NextProofRefused {
        /// The login name.
        user: String,
        /// As `tried` in [`AuthenticationFailed`](Self::AuthenticationFailed).
        taken: &'static str,
        /// The same.
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
    /// The key is encrypted and the passphrase does not open it.
    #[error("the passphrase does not open the private key")]
    PassphraseWrong,
    /// The text is no private key that can be used.
    #[error("the private key cannot be used: {reason}")]
    KeyNotUnderstood {
        /// Why.
        reason: String,
    },
    /// The key file is in no folder that the settings allow.
    #[error("the private key {} is in no folder of the setting ssh_key_folders", .path.display())]
    KeyFolder {
        /// Where the key file is.
        path: PathBuf,
    },
    /// The settings do not allow the platform's own SSH agent.
    #[error("the SSH agent may not be used here: the setting ssh_agent is off")]
    AgentOff,
    /// The platform's SSH agent is not there, or has nothing that helps.
    #[error("the SSH agent cannot be used: {reason}")]
    Agent {
        /// Why.
        reason: String,
    },
    /// The key file could not be read.
    #[error("the private key {} cannot be read: {cause}", .path.display())]
    KeyUnreadable {
        /// Where the key file is.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The server accepts the login but runs no such command or subsystem.
    #[error("the server refused to start {what}: {reason}")]
    Refused {
        /// `a command`, `another session` or `SFTP`.
        what: &'static str,
        /// What libssh2 said.
        reason: String,
    },
    /// The server answers every command with SFTP: it takes files alone.
    #[error("the server runs no commands: it takes files alone, by SFTP")]
    NoShell,
    /// The account's login ended before it came to the command: an account without a login, a start-up
    /// file that exits, a shell that finds no `sh`.
    #[error("the login on the server ended before the command could begin ({ended}){}", words(.said))]
    LoginEnded {
        /// How it ended.
        ended: Exit,
        /// The end of what it printed, in one line.
        said: String,
    },
    /// The account's login did not come to the command in time.
    #[error(
        "the login on the server did not come to the command within {}; a start-up file of the \
         account's shell may wait for something{}",
        seconds(*.after), words(.said)
    )]
    LoginSilent {
        /// How long was waited.
        after: Duration,
        /// The end of what it printed, in one line.
        said: String,
    },
    /// The command ran longer than its limit.
    #[error("the command did not end within {}{}", seconds(*.limit), fate(*.killed))]
    CommandTimedOut {
        /// Its limit.
        limit: Duration,
        /// Whether its processes on the server are known to have been ended.
        killed: bool,
    },
    /// The command or transfer was cancelled.
    #[error("cancelled{}", fate(*.killed))]
    Cancelled {
        /// Whether nothing of it is left running on the server.
        killed: bool,
    },
    /// What was to be fed to the command could not be read here; the command was ended.
    #[error("the command's input cannot be read: {cause}")]
    Input {
        /// What the reader said.
        cause: io::Error,
    },
    /// What a command prints, or a file has, could not be taken here; it was ended.
    #[error("what the server sends cannot be taken: {cause}")]
    Output {
        /// What the writer said.
        cause: io::Error,
    },
    /// A file or folder on the server.
    #[error("{path} on the server: {reason}")]
    RemoteFile {
        /// Its path there.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder here.
    #[error("{}: {cause}", .path.display())]
    LocalFile {
        /// Its path here.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The server's disk has no room for the file.
    #[error("{path} on the server: the disk is full")]
    DiskFull {
        /// The file's path there.
        path: String,
    },
    /// The connection stood and then broke; a command may still run on the server.
    #[error("the connection was lost: {reason}")]
    ConnectionLost {
        /// What broke it.
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

    /// Whether the server is another one than it was, or we are nobody there any more.
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

    /// Whether the connection is as good after it as before.
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
