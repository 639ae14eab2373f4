//! What an operator may set: one flat TOML file, `LONGSHORE_*` variables over it, flags over both.
//!
//! `docs/settings.md` shows every setting with its default.

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

/// `off` lifts the bounds on counts and rates.
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

/// Who may read and write chat and vote rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatAccess {
    /// Everybody who reaches the server.
    Open,
    /// Those who are logged in.
    Members,
    /// Nobody.
    Off,
}

/// When a message of the log counts as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSync {
    /// When the system has it: it survives a kill -9 of the server.
    Process,
    /// When the disk has it: it survives a power cut too.
    Always,
}

/// Commands of projects on the platform's machine, confined by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildSandbox {
    /// By the strongest means that the kernel gives.
    Auto,
    /// With a file system and process ids of their own, or the platform does not start.
    Require,
    /// Not at all.
    Off,
}

/// Every setting. The field's name is the key of the file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The address and port to serve on.
    pub listen: SocketAddr,
    /// The addresses that browsers know this server by (`https://deploy.example.com`), where a
    /// proxy changes the `Host`. Requests from pages of other origins are refused.
    pub public_urls: Vec<String>,
    /// The reverse proxies in front of this server, as addresses or ranges (`10.0.0.0/8`): what they
    /// say in `X-Forwarded-For` counts as the sender's address.
    pub trusted_proxies: Vec<Network>,
    /// Who may use the chat and vote rooms.
    pub chat: ChatAccess,
    /// How long a login lasts, in days.
    pub login_days: u32,
    /// The account that build commands and platform hooks run as; none: the platform's own.
    pub run_as: Option<String>,
    /// The sandbox of build commands and platform hooks.
    pub build_sandbox: BuildSandbox,
    /// How many bytes the build caches of all projects may have together.
    pub build_cache_bytes: u64,
    /// Files and folders that sandboxes show read-only beside the system's own.
    pub build_read_folders: Vec<PathBuf>,
    /// Folders in which commands in sandboxes may write beside their own.
    pub build_write_folders: Vec<PathBuf>,
    /// Whether repositories may be fetched over plain http (never with a token).
    pub git_allow_http: bool,
    /// Whether repositories may be on this machine's loopback addresses.
    pub git_allow_loopback: bool,
    /// Folders below which repositories may be given as a plain path.
    pub git_local_folders: Vec<PathBuf>,
    /// A file of certificate authorities for git over https, in PEM; none: the system's.
    pub git_ca_file: Option<PathBuf>,
    /// How long a git host may be silent, in seconds.
    pub git_stall_seconds: u64,
    /// How many files, folders and symlinks a commit may have.
    pub git_files: u64,
    /// How many bytes the files of a commit may have together.
    pub git_bytes: u64,
    /// How many bytes one fetch of a repository may receive.
    pub git_fetch_bytes: u64,
    /// How many days a mirror is kept that no project has any more.
    pub git_mirror_days: u32,
    /// How long connecting to a server may take, login included, in seconds.
    pub ssh_connect_seconds: u64,
    /// How long a transfer over SSH may stand still, in seconds.
    pub ssh_idle_seconds: u64,
    /// Folders below which private keys for servers may be given as a path.
    pub ssh_key_folders: Vec<PathBuf>,
    /// Whether the keys of the platform's own SSH agent may be used.
    pub ssh_agent: bool,
    /// How many connections to servers may be open at once.
    pub ssh_connections: usize,
    /// How many connections may be opened at once at one sshd, which drops some when they are too
    /// many (`MaxStartups`).
    pub ssh_connects_at_once: usize,
    /// How long an unused connection is kept, in seconds.
    pub ssh_rest_seconds: u64,
    /// How many bytes may be uploaded to a server in one request.
    pub ssh_upload_bytes: u64,
    /// How long it is kept what was done on servers by hand, in days.
    pub audit_days: u32,
    /// How long one command (a hook, the build, the restart) may run, in seconds.
    pub command_seconds: u64,
    /// How long any one step may take, in seconds.
    pub step_seconds: u64,
    /// How many releases run at once; more wait in the queue.
    pub releases_at_once: usize,
    /// How many servers one release works on at once.
    pub servers_at_once: usize,
    /// How much of a node's log is kept, in bytes.
    pub node_log_bytes: u64,
    /// How many messages a client's queue holds.
    pub queue_messages: usize,
    /// How many messages a room keeps.
    pub room_messages: u32,
    /// How many bytes of messages a room keeps.
    pub room_bytes: u64,
    /// How many days a room keeps its messages.
    pub room_days: u32,
    /// How many clients there may be at once.
    pub clients: u32,
    /// How many clients may come from one address (of IPv6: one /64).
    pub address_clients: u32,
    /// How many rooms one poll may have.
    pub poll_rooms: u32,
    /// How many bytes a message may have; at most 65536.
    pub message_bytes: u32,
    /// How many messages a client may send in a second on the long run; a message of more than 4 KiB
    /// counts as several.
    pub client_messages_second: u32,
    /// How many messages a client may send at once.
    pub client_messages_burst: u32,
    /// How many messages all clients of one address without a login may send in a second.
    pub address_messages_second: u32,
    /// How many messages all clients of one address without a login may send at once.
    pub address_messages_burst: u32,
    /// How many connections may be open at once; fewer where the system allows fewer files.
    pub connections: u32,
    /// How long the body of a message may take to arrive, in seconds.
    pub body_seconds: u64,
    /// Within how many seconds clients are told to come back when the server ends.
    pub drain_seconds: u64,
    /// From where `/metrics` may be read without a login.
    pub metrics_from: Vec<Network>,
    /// When a message counts as accepted.
    pub log_sync: LogSync,
    /// The file that was read, which is no setting.
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

/// Why the settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("settings file {path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("settings file {path}: {}", one_line(cause))]
    Syntax {
        /// The file.
        path: String,
        /// Where and why.
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
        /// What it must be.
        why: &'static str,
    },
}

/// TOML's errors draw a picture of several lines; who starts a server wants one.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let plain = lines.filter(|line| !line.is_empty() && !line.contains('|'));
    plain.collect::<Vec<_>>().join(", ")
}

impl Settings {
    /// Reads `file` (if one is given) and lays `variables` over it, of which those that begin with
    /// [`VARIABLE_PREFIX`] count. A list in a variable is written as in TOML, or with commas.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        Self::load_over(Self::default(), file, variables)
    }

    /// [`load`](Self::load) with other defaults, as the demo has them.
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

    /// Without bounds on counts and rates, for benchmarks.
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

    /// Settings in which no key is left out, so that each variable's type is known.
    fn with_every_key(defaults: &Self) -> Self {
        Self {
            run_as: Some(String::new()),
            git_ca_file: Some(PathBuf::new()),
            ..defaults.clone()
        }
    }

    /// How long a git host may be silent.
    pub fn git_stall(&self) -> Duration {
        Duration::from_secs(self.git_stall_seconds)
    }

    /// How long one command may run.
    pub fn command_limit(&self) -> Duration {
        Duration::from_secs(self.command_seconds)
    }

    /// How long any one step may take.
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

/// A variable's text as the type that its setting has; what does not fit stays text, for which
/// reading the settings then gives the error.
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
