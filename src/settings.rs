//! What an operator may set: one flat TOML file, `LONGSHORE_*` variables over it, flags over both.
//!
//! `docs/settings.md` shows every setting with its default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proxies::Network;

/// The prefix of the variables that override the file: `LONGSHORE_LISTEN` is `listen`.
pub const VARIABLE_PREFIX: &str = "LONGSHORE_";

/// Variables with the prefix that are not settings.
const NOT_SETTINGS: [&str; 4] = [
    "LONGSHORE_DATA",
    "LONGSHORE_SETTINGS",
    "LONGSHORE_LOG",
    "LONGSHORE_LIMITS",
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
    /// How long connecting to a server may take, login included, in seconds.
    pub ssh_connect_seconds: u64,
    /// How long a transfer over SSH may stand still, in seconds.
    pub ssh_idle_seconds: u64,
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
    /// From where `/metrics` may be read without a login.
    pub metrics_from: Vec<Network>,
    /// When a message counts as accepted.
    pub log_sync: LogSync,
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
            git_allow_http: false,
            git_allow_loopback: false,
            git_local_folders: Vec::new(),
            git_ca_file: None,
            git_stall_seconds: 60,
            ssh_connect_seconds: 10,
            ssh_idle_seconds: 60,
            command_seconds: 1800,
            step_seconds: 3600,
            releases_at_once: 4,
            servers_at_once: 8,
            node_log_bytes: 4 << 20,
            queue_messages: 256,
            room_messages: 1000,
            room_bytes: 16 << 20,
            room_days: 7,
            metrics_from: vec![Network::V4_LOOPBACK, Network::V6_LOOPBACK],
            log_sync: LogSync::Process,
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
        for (name, text) in variables {
            if NOT_SETTINGS.contains(&name.as_str()) {
                continue;
            }
            if let Some(key) = name.strip_prefix(VARIABLE_PREFIX) {
                let key = key.to_ascii_lowercase();
                let value = parse_variable(shape.get(&key), &text);
                table.insert(key, value);
            }
        }
        let settings: Self = table.try_into().map_err(invalid)?;
        settings.check()?;
        Ok(settings)
    }

    /// Settings in which no key is left out, so that each variable's type is known.
    fn with_every_key(defaults: &Self) -> Self {
        Self {
            run_as: Some(String::new()),
            git_ca_file: Some(PathBuf::new()),
            ..defaults.clone()
        }
    }

    fn check(&self) -> Result<(), SettingsError> {
        let at_least_one = [
            ("login_days", u64::from(self.login_days)),
            ("git_stall_seconds", self.git_stall_seconds),
            ("ssh_connect_seconds", self.ssh_connect_seconds),
            ("ssh_idle_seconds", self.ssh_idle_seconds),
            ("command_seconds", self.command_seconds),
            ("step_seconds", self.step_seconds),
            ("releases_at_once", self.releases_at_once as u64),
            ("servers_at_once", self.servers_at_once as u64),
            ("queue_messages", self.queue_messages as u64),
            ("room_messages", u64::from(self.room_messages)),
            ("room_days", u64::from(self.room_days)),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(SettingsError::Bounds {
                    name,
                    why: "must be at least 1",
                });
            }
        }
        let is_origin = |url: &String| {
            url::Url::parse(url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        if !self.public_urls.iter().all(is_origin) {
            return Err(SettingsError::Bounds {
                name: "public_urls",
                why: "must be addresses such as https://deploy.example.com",
            });
        }
        if self.servers_at_once > 64 || self.releases_at_once > 64 {
            return Err(SettingsError::Bounds {
                name: "servers_at_once, releases_at_once",
                why: "must be at most 64",
            });
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn variables_go_over_the_file_and_the_file_over_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longshore.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:9000\"\nchat = \"off\"\n").unwrap();
        let settings = Settings::load(
            Some(&path),
            variables(&[
                ("LONGSHORE_CHAT", "open"),
                (
                    "LONGSHORE_PUBLIC_URLS",
                    "https://a.example, https://b.example",
                ),
                ("LONGSHORE_RUN_AS", "builder"),
                ("LONGSHORE_GIT_ALLOW_HTTP", "true"),
                ("LONGSHORE_LIMITS", "off"),
                ("PATH", "/bin"),
            ]),
        )
        .unwrap();
        assert_eq!(settings.listen.port(), 9000);
        assert_eq!(settings.chat, ChatAccess::Open);
        assert_eq!(
            settings.public_urls,
            ["https://a.example", "https://b.example"]
        );
        assert_eq!(settings.run_as.as_deref(), Some("builder"));
        assert!(settings.git_allow_http);
        assert_eq!(settings.queue_messages, 256);
    }

    #[test]
    fn wrong_settings_are_named() {
        for (name, value, expected) in [
            ("LONGSHORE_LISTEN", "nowhere", "listen"),
            ("LONGSHORE_CHAT", "sometimes", "chat"),
            ("LONGSHORE_QUEUE_MESSAGES", "0", "queue_messages"),
            ("LONGSHORE_QUEUE_MESSAGES", "many", "queue_messages"),
            ("LONGSHORE_LISTNE", "1", "listne"),
            ("LONGSHORE_PUBLIC_URLS", "deploy.example", "public_urls"),
            (
                "LONGSHORE_TRUSTED_PROXIES",
                "proxy.local",
                "trusted_proxies",
            ),
        ] {
            let error = Settings::load(None, variables(&[(name, value)]))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{name}={value}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_documentation_lists_every_setting_with_its_default() {
        let documented = include_str!("../docs/settings.md");
        let table = toml::Table::try_from(Settings::with_every_key(&Settings::default())).unwrap();
        for (key, value) in table {
            let row = match key.as_str() {
                "run_as" | "git_ca_file" => format!("| `{key}` | – |"),
                _ => format!("| `{key}` | `{}` |", serde_json::to_string(&value).unwrap()),
            };
            assert!(documented.contains(&row), "docs/settings.md lacks {row}");
        }
    }
}
