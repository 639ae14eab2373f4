//! The operator's settings: one flat TOML file, overridden by `LONGSHORE_*` variables, overridden by
//! flags.
//!
//! `docs/settings.md` lists every setting with its default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proxies::Network;

mod check;
#[cfg(test)]
mod tests;

/// The prefix of the variables that override the file: `LONGSHORE_LISTEN` is `listen`.
pub const VARIABLE_PREFIX: &str = "LONGSHORE_";

/// The variable that lifts the bounds on counts and rates if it is `off`.
const LIMITS: &str = "LONGSHORE_LIMITS";

/// Variables with the prefix that are not settings.
const NOT_SETTINGS: [&str; 8] = [
    "LONGSHORE_DATA",
    "LONGSHORE_SETTINGS",
    "LONGSHORE_LOG",
    LIMITS,
    // Secrets of `longshore git`.
    "LONGSHORE_GIT_TOKEN",
    "LONGSHORE_GIT_PASSWORD",
    "LONGSHORE_GIT_KEY",
    "LONGSHORE_GIT_PASSPHRASE",
];

/// Access to chat and vote rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatAccess {
    /// Everyone who reaches the server.
    Open,
    /// Logged-in accounts.
    Members,
    /// Nobody.
    Off,
}

/// The point at which a message of the log is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSync {
    /// Once the system has it: it survives a kill -9 of the server.
    Process,
    /// Once the disk has it: it survives a power cut too.
    Always,
}

/// The confinement of projects' commands on the platform's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildSandbox {
    /// The strongest means that the kernel offers.
    Auto,
    /// A file system and process ids of their own; the platform does not start without them.
    Require,
    /// No confinement.
    Off,
}

/// All settings. A field's name is its key in the file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The address and port to serve on.
    pub listen: SocketAddr,
    /// The addresses at which browsers reach this server (`https://deploy.example.com`), if a proxy
    /// changes the `Host`. Requests from pages of other origins are refused.
    pub public_urls: Vec<String>,
    /// The reverse proxies in front of this server, as addresses or ranges (`10.0.0.0/8`): their
    /// `X-Forwarded-For` gives the sender's address.
    pub trusted_proxies: Vec<Network>,
    /// Access to the chat and vote rooms.
    pub chat: ChatAccess,
    /// The lifetime of a login, in days.
    pub login_days: u32,
    /// The account that build commands and platform hooks run as; none: the platform's own.
    pub run_as: Option<String>,
    /// The sandbox of build commands and platform hooks.
    pub build_sandbox: BuildSandbox,
    /// The maximum size of the build caches of all projects together, in bytes.
    pub build_cache_bytes: u64,
    /// Files and folders that sandboxes show read-only in addition to the system's own.
    pub build_read_folders: Vec<PathBuf>,
    /// Folders in which sandboxed commands may write in addition to their own.
    pub build_write_folders: Vec<PathBuf>,
    /// Allows repositories over plain http (never with a token).
    pub git_allow_http: bool,
    /// Allows repositories on this machine's loopback addresses.
    pub git_allow_loopback: bool,
    /// Folders below which repositories may be given as a plain path.
    pub git_local_folders: Vec<PathBuf>,
    /// A file of certificate authorities for git over https, in PEM; none: the system's.
    pub git_ca_file: Option<PathBuf>,
    /// The maximum silence of a git host, in seconds.
    pub git_stall_seconds: u64,
    /// The maximum number of files, folders and symlinks in a commit.
    pub git_files: u64,
    /// The maximum size of all files of a commit together, in bytes.
    pub git_bytes: u64,
    /// The maximum size of one fetch of a repository, in bytes.
    pub git_fetch_bytes: u64,
    /// The time that a mirror without a project is kept, in days.
    pub git_mirror_days: u32,
    /// The maximum time to connect to a server, login included, in seconds.
    pub ssh_connect_seconds: u64,
    /// The maximum time that an SSH transfer may stall, in seconds.
    pub ssh_idle_seconds: u64,
    /// Folders below which private keys for servers may be given as a path.
    pub ssh_key_folders: Vec<PathBuf>,
    /// Allows the keys of the platform's own SSH agent.
    pub ssh_agent: bool,
    /// The maximum number of open connections to servers.
    pub ssh_connections: usize,
    /// The maximum number of connections being opened at once to one sshd, which drops some if they are
    /// too many (`MaxStartups`).
    pub ssh_connects_at_once: usize,
    /// The time after which an idle connection is closed, in seconds.
    pub ssh_rest_seconds: u64,
    /// The maximum size of an upload to a server in one request, in bytes.
    pub ssh_upload_bytes: u64,
    /// The time that the record of remote commands and file access is kept, in days.
    pub audit_days: u32,
    /// The maximum run time of one command (a hook, the build, the restart), in seconds.
    pub command_seconds: u64,
    /// The maximum time of any one step, in seconds.
    pub step_seconds: u64,
    /// The number of releases that run at once; more wait in the queue.
    pub releases_at_once: usize,
    /// The number of servers that one release works on at once.
    pub servers_at_once: usize,
    /// The maximum size of a node's log, in bytes.
    pub node_log_bytes: u64,
    /// The number of messages in a client's queue.
    pub queue_messages: usize,
    /// The maximum number of messages that a room keeps.
    pub room_messages: u32,
    /// The maximum size of the messages that a room keeps, in bytes.
    pub room_bytes: u64,
    /// The time that a room keeps its messages, in days.
    pub room_days: u32,
    /// The maximum number of clients.
    pub clients: u32,
    /// The maximum number of clients per address (of IPv6: per /64).
    pub address_clients: u32,
    /// The maximum number of rooms in one poll.
    pub poll_rooms: u32,
    /// The maximum size of a message, in bytes; at most 65536.
    pub message_bytes: u32,
    /// The sustained number of messages that a client may send per second; a message of more than 4 KiB
    /// counts as several.
    pub client_messages_second: u32,
    /// The number of messages that a client may send at once.
    pub client_messages_burst: u32,
    /// The sustained number of messages that all clients of one address without a login may send per
    /// second.
    pub address_messages_second: u32,
    /// The number of messages that all clients of one address without a login may send at once.
    pub address_messages_burst: u32,
    /// The maximum number of open connections; fewer if the system allows fewer files.
    pub connections: u32,
    /// The maximum time for the body of a message to arrive, in seconds.
    pub body_seconds: u64,
    /// The time over which clients are told to reconnect when the server shuts down, in seconds.
    pub drain_seconds: u64,
    /// The addresses from which `/metrics` may be read without a login.
    pub metrics_from: Vec<Network>,
    /// The point at which a message is accepted.
    pub log_sync: LogSync,
    /// The file that was read; not a setting.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            public_urls: Vec::new(),
            trusted_proxies: Vec::new(),
            chat: ChatAccess::Members,
            login_days: 14,
            run_as: None,
            build_sandbox: BuildSandbox::Auto,
            build_cache_bytes: 10 << 30,
            build_read_folders: Vec::new(),
            build_write_folders: Vec::new(),
            git_allow_http: false,
            git_allow_loopback: false,
            git_local_folders: Vec::new(),
            git_ca_file: None,
            git_stall_seconds: 60,
            git_files: 250_000,
            git_bytes: 10 << 30,
            git_fetch_bytes: 10 << 30,
            git_mirror_days: 30,
            ssh_connect_seconds: 10,
            ssh_idle_seconds: 60,
            ssh_key_folders: Vec::new(),
            ssh_agent: false,
            ssh_connections: 256,
            ssh_connects_at_once: 8,
            ssh_rest_seconds: 60,
            ssh_upload_bytes: 256 << 20,
            audit_days: 365,
            command_seconds: 1800,
            step_seconds: 3600,
            releases_at_once: 4,
            servers_at_once: 8,
            node_log_bytes: 4 << 20,
            queue_messages: 256,
            room_messages: 1000,
            room_bytes: 16 << 20,
            room_days: 7,
            clients: 100_000,
            address_clients: 10_000,
            poll_rooms: 32,
            message_bytes: 65_536,
            client_messages_second: 20,
            client_messages_burst: 100,
            address_messages_second: 200,
            address_messages_burst: 1000,
            connections: 20_000,
            body_seconds: 30,
            drain_seconds: 5,
            metrics_from: vec![Network::V4_LOOPBACK, Network::V6_LOOPBACK],
            log_sync: LogSync::Process,
            file: None,
        }
    }
}

/// The reason that the settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("settings file {path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("settings file {path}: {}", one_line(cause))]
    Syntax {
        /// The file.
        path: String,
        /// The position and the reason.
        cause: Box<toml::de::Error>,
    },
    /// A setting is unknown or has a value that it cannot have.
    #[error("setting {}", one_line(.0))]
    Value(Box<toml::de::Error>),
    /// A setting has a value out of its bounds.
    #[error("setting {name}: {why}")]
    Bounds {
        /// The setting.
        name: &'static str,
        /// The requirement.
        why: &'static str,
    },
}

/// Shortens TOML's multi-line error to one line, for whoever starts a server.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let plain = lines.filter(|line| !line.is_empty() && !line.contains('|'));
    plain.collect::<Vec<_>>().join(", ")
}

impl Settings {
    /// Reads `file` (if one is given) and overrides it by `variables`, of which those that begin with
    /// [`VARIABLE_PREFIX`] count. A list in a variable is written as in TOML, or with commas.
    ///
    /// # Errors
    /// [`SettingsError`] if the file cannot be read or parsed, or a setting is unknown or out of
    /// bounds.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        Self::load_over(Self::default(), file, variables)
    }

    /// [`load`](Self::load) with other defaults, such as those of the demo.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_over(
        defaults: Self,
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let invalid = |cause| SettingsError::Value(Box::new(cause));
        let shape = toml::Table::try_from(Self::with_every_key(&defaults))
            .map_err(|error| SettingsError::Value(Box::new(serde::de::Error::custom(error))))?;
        let mut table = toml::Table::try_from(&defaults)
            .map_err(|error| SettingsError::Value(Box::new(serde::de::Error::custom(error))))?;
        if let Some(path) = file {
            table.extend(read_file(path)?);
        }
        let mut limits = true;
        for (name, text) in variables {
            if name == LIMITS {
                limits = match text.as_str() {
                    "" | "on" => true,
                    "off" => false,
                    _ => {
                        return Err(SettingsError::Bounds {
                            name: LIMITS,
                            why: "must be on or off",
                        });
                    }
                };
            }
            if NOT_SETTINGS.contains(&name.as_str()) {
                continue;
            }
            if let Some(key) = name.strip_prefix(VARIABLE_PREFIX) {
                let key = key.to_ascii_lowercase();
                let value = parse_variable(shape.get(&key), &text);
                table.insert(key, value);
            }
        }
        let mut settings: Self = table.try_into().map_err(invalid)?;
        settings.file = file.map(Path::to_owned);
        settings.check()?;
        Ok(match limits {
            true => settings,
            false => settings.unlimited(),
        })
    }

    /// Lifts the bounds on counts and rates, for benchmarks.
    fn unlimited(self) -> Self {
        Self {
            clients: u32::MAX,
            address_clients: u32::MAX,
            client_messages_second: u32::MAX,
            client_messages_burst: u32::MAX,
            address_messages_second: u32::MAX,
            address_messages_burst: u32::MAX,
            connections: u32::MAX,
            ..self
        }
    }

    /// Settings with every key present, so that the type of each variable is known.
    fn with_every_key(defaults: &Self) -> Self {
        Self {
            run_as: Some(String::new()),
            git_ca_file: Some(PathBuf::new()),
            ..defaults.clone()
        }
    }

    /// The maximum silence of a git host.
    pub fn git_stall(&self) -> Duration {
        Duration::from_secs(self.git_stall_seconds)
    }

    /// The maximum run time of one command.
    pub fn command_limit(&self) -> Duration {
        Duration::from_secs(self.command_seconds)
    }

    /// The maximum time of any one step.
    pub fn step_limit(&self) -> Duration {
        Duration::from_secs(self.step_seconds)
    }
}

fn read_file(path: &Path) -> Result<toml::Table, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|cause| SettingsError::Unreadable {
        path: path.display().to_string(),
        cause,
    })?;
    text.parse().map_err(|cause| SettingsError::Syntax {
        path: path.display().to_string(),
        cause: Box::new(cause),
    })
}

/// Parses a variable's text as the type of its setting; text that does not fit stays text, so that
/// reading the settings reports the error.
fn parse_variable(like: Option<&toml::Value>, text: &str) -> toml::Value {
    let literal = || -> Option<toml::Value> {
        let mut table: toml::Table = format!("value = {text}").parse().ok()?;
        table.remove("value")
    };
    let plain = || toml::Value::String(text.to_owned());
    match like {
        None | Some(toml::Value::String(_)) => plain(),
        Some(toml::Value::Array(_)) => {
            literal().filter(toml::Value::is_array).unwrap_or_else(|| {
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| toml::Value::String(item.to_owned()))
                    .collect::<Vec<_>>()
                    .into()
            })
        }
        Some(_) => literal().unwrap_or_else(plain),
    }
}
