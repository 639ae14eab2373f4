//! The repository addresses that are allowed. Pure: nothing is opened or resolved here.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::address::{self, Reach};

/// The longest address that is accepted, in bytes.
const MAX_LENGTH: usize = 2048;

/// Prefixes of access tokens that users paste in place of the user name. They would be shown
/// wherever the address is.
const TOKEN_PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "gitea_"];

/// The addresses an installation allows beyond https, ssh and git:// to other hosts.
#[derive(Clone, Debug, Default)]
pub struct UrlPolicy {
    /// True if plain `http://` is allowed. Never together with a credential.
    pub allow_http: bool,
    /// True if hosts on this machine (`localhost`, 127.0.0.0/8, `::1`) are allowed.
    pub allow_loopback: bool,
    /// Absolute folders below which local repositories may lie; if empty, none are allowed.
    pub local_folders: Vec<PathBuf>,
}

/// The reason an address is refused. The message completes "not an allowed repository address".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The address is empty.
    #[error("the repository address is empty")]
    Empty,
    /// Longer than 2,048 bytes.
    #[error("not an allowed repository address: longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// A space, a control character (also percent-encoded) or one that no address needs.
    #[error("not an allowed repository address: it contains a character that is not allowed")]
    Character,
    /// An unsupported scheme.
    #[error("not an allowed repository address: use https://, ssh://, user@host:path or git://")]
    Scheme,
    /// Plain http, which the settings do not allow.
    #[error("not an allowed repository address: plain http is not allowed here; use https")]
    PlainHttp,
    /// A host that is neither a name nor a plain IP address.
    #[error("not an allowed repository address: the host is malformed")]
    Host,
    /// A port that is not a number from 1 to 65535.
    #[error("not an allowed repository address: the port is not a number from 1 to 65535")]
    Port,
    /// A user name with characters that are not allowed.
    #[error("not an allowed repository address: the user name is malformed")]
    User,
    /// A password or token inside the address.
    #[error(
        "not an allowed repository address: it holds a password or token; use a credential instead"
    )]
    PasswordInside,
    /// The path is missing, climbs with `..`, or looks like an option.
    #[error("not an allowed repository address: the path is missing or malformed")]
    Path,
    /// This machine, which the settings do not allow.
    #[error("not an allowed repository address: the host is this machine, which is not allowed")]
    Loopback,
    /// A link-local, metadata, multicast or unspecified address: never allowed.
    #[error("not an allowed repository address: link-local and metadata addresses are refused")]
    LinkLocal,
    /// A local folder outside the folders of the settings.
    #[error("not an allowed repository address: local folders are not allowed here")]
    LocalFolder,
}

/// The transport of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
    Git,
    Ssh,
    /// `user@host:path`, whose path may be relative to the user's home.
    Scp,
    Local,
}

/// The address of a repository that the policy allowed. It holds no secret and may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoUrl {
    text: String,
    pub(super) scheme: Scheme,
    pub(super) user: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    /// The path as sent: with its leading slash, except for [`Scheme::Scp`].
    pub(super) path: String,
}

impl RepoUrl {
    /// Parses `text` as typed. Every refusal happens before anything is opened.
    ///
    /// # Errors
    /// The reason the address is refused.
    pub fn parse(text: &str, policy: &UrlPolicy) -> Result<Self, UrlError> {
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        check_characters(text)?;
        let url = if let Some((scheme, rest)) = text.split_once("://") {
            parse_url(text, scheme, rest)?
        } else if text.starts_with('/') {
            local(text)
        } else {
            parse_scp(text)?
        };
        url.check(policy)?;
        Ok(url)
    }

    /// The address of a folder that its owner names, to which no policy applies.
    pub(super) fn of_folder(folder: &Path) -> Self {
        local(&folder.display().to_string())
    }

    /// The address as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host's name or IP address (IPv6 without brackets); `None` for a local folder.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// True if it is reached over ssh, so that a host key must be pinned.
    pub fn is_ssh(&self) -> bool {
        matches!(self.scheme, Scheme::Ssh | Scheme::Scp)
    }

    /// The path as sent to the git host: percent-encoded characters of `ssh://` and `git://` are
    /// decoded, as in git (git-fetch(1), "GIT URLS"); over http the host decodes them.
    pub(super) fn sent_path(&self) -> Cow<'_, str> {
        match self.scheme {
            Scheme::Ssh | Scheme::Git => {
                let decoded = percent_decode_str(&self.path).decode_utf8();
                decoded.unwrap_or(Cow::Borrowed(&self.path))
            }
            _ => Cow::Borrowed(&self.path),
        }
    }

    /// True if it leads to the same host, port and protocol as `other`, so that a credential for
    /// one may be sent to the other.
    pub(super) fn is_on_host_of(&self, other: &Self) -> bool {
        let scheme = |url: &Self| match url.scheme {
            Scheme::Scp => Scheme::Ssh,
            scheme => scheme,
        };
        let place = |url: &Self| (scheme(url), url.host.clone(), url.port());
        place(self) == place(other)
    }

    /// The port, or the scheme's default.
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
            Scheme::Git => 9418,
            Scheme::Ssh | Scheme::Scp => 22,
            Scheme::Local => 0,
        })
    }

    /// Checks the address again against a policy, which may have changed since it was stored.
    pub(super) fn check(&self, policy: &UrlPolicy) -> Result<(), UrlError> {
        match self.scheme {
            Scheme::Local => return check_local(Path::new(&self.path), policy),
            Scheme::Http if !policy.allow_http => return Err(UrlError::PlainHttp),
            _ => {}
        }
        let host = self.host.as_deref().ok_or(UrlError::Host)?;
        let reach = match host.parse::<IpAddr>() {
            Ok(ip) => address::reach(ip),
            Err(_) if is_localhost(host) => Reach::Loopback,
            Err(_) => Reach::Host,
        };
        match reach {
            Reach::Never => Err(UrlError::LinkLocal),
            Reach::Loopback if !policy.allow_loopback => Err(UrlError::Loopback),
            Reach::Loopback | Reach::Host => Ok(()),
        }
    }
}

fn local(text: &str) -> RepoUrl {
    RepoUrl {
        text: text.to_owned(),
        scheme: Scheme::Local,
        user: None,
        host: None,
        port: None,
        path: text.to_owned(),
    }
}

fn parse_url(text: &str, scheme: &str, rest: &str) -> Result<RepoUrl, UrlError> {
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        "git" => Scheme::Git,
        "ssh" => Scheme::Ssh,
        _ => return Err(UrlError::Scheme),
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (user, host_port) = split_user(authority)?;
    if user.is_some() && scheme == Scheme::Git {
        return Err(UrlError::User);
    }
    let (host, port) = split_port(host_port)?;
    check_path(path.trim_start_matches('/'))?;
    Ok(RepoUrl {
        text: text.to_owned(),
        scheme,
        user,
        host: Some(checked_host(host)?),
        port,
        path: path.to_owned(),
    })
}

/// Parses `user@host:path`. The user is required: without it `javascript:1` and `ext::x` would be
/// hosts.
fn parse_scp(text: &str) -> Result<RepoUrl, UrlError> {
    if text.starts_with('-') {
        return Err(UrlError::Scheme);
    }
    let (user, rest) = text.split_once('@').ok_or(UrlError::Scheme)?;
    let (host, path) = if let Some(inside) = rest.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or(UrlError::Host)?;
        (host, after.strip_prefix(':').ok_or(UrlError::Host)?)
    } else {
        rest.split_once(':').ok_or(UrlError::Scheme)?
    };
    if user.contains(':') || path.starts_with(':') {
        return Err(UrlError::Scheme);
    }
    check_path(path)?;
    Ok(RepoUrl {
        text: text.to_owned(),
        scheme: Scheme::Scp,
        user: Some(checked_user(user)?),
        host: Some(checked_host(host)?),
        port: None,
        path: path.to_owned(),
    })
}

fn split_user(authority: &str) -> Result<(Option<String>, &str), UrlError> {
    match authority.rsplit_once('@') {
        None => Ok((None, authority)),
        Some((user, _)) if user.contains(':') => Err(UrlError::PasswordInside),
        Some((user, host)) => Ok((Some(checked_user(user)?), host)),
    }
}

fn checked_user(user: &str) -> Result<String, UrlError> {
    if TOKEN_PREFIXES.iter().any(|prefix| user.starts_with(prefix)) {
        return Err(UrlError::PasswordInside);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    if user.is_empty() || user.len() > 64 || user.starts_with('-') || !user.bytes().all(allowed) {
        return Err(UrlError::User);
    }
    Ok(user.to_owned())
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(text: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, port) = if let Some(inside) = text.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or(UrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(UrlError::Host),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let Some(port) = port else {
        return Ok((host, None));
    };
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok((host, Some(number)))
        }
        _ => Err(UrlError::Port),
    }
}

/// Checks for a plain IP address or a DNS name. A name whose last label is a number is refused: the
/// C library would read it as an IP address in octal, hex or short form, such as `0x7f.1`.
fn checked_host(host: &str) -> Result<String, UrlError> {
    if host.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv4Addr>().is_ok() {
        return Ok(host.to_owned());
    }
    let host = host.to_ascii_lowercase();
    let name = host.strip_suffix('.').unwrap_or(&host);
    let label_is_sound = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if name.len() > 253 || numeric || !name.split('.').all(label_is_sound) {
        return Err(UrlError::Host);
    }
    Ok(name.to_owned())
}

fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host == "localhost.localdomain"
}

fn check_path(path: &str) -> Result<(), UrlError> {
    let climbs = path.split('/').any(|segment| segment == "..");
    if path.trim_matches('/').is_empty() || path.starts_with('-') || climbs {
        return Err(UrlError::Path);
    }
    Ok(())
}

/// Checks lexically that the path lies below one of the folders; `fetch` checks the resolved path.
fn check_local(path: &Path, policy: &UrlPolicy) -> Result<(), UrlError> {
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let below = policy
        .local_folders
        .iter()
        .any(|folder| folder.is_absolute() && path != folder && path.starts_with(folder));
    if plain && below {
        Ok(())
    } else {
        Err(UrlError::LocalFolder)
    }
}

/// Allows letters and digits of any script and the punctuation of addresses; percent-encoded
/// control characters are refused like plain ones.
fn check_characters(text: &str) -> Result<(), UrlError> {
    let allowed = |letter: char| letter.is_alphanumeric() || "/:@._-~+%,=[]".contains(letter);
    if !text.chars().all(allowed) {
        return Err(UrlError::Character);
    }
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = text.get(at + 1..at + 3).ok_or(UrlError::Character)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| UrlError::Character)?;
        if byte.is_ascii_control() || b"/\\.%".contains(&byte) {
            return Err(UrlError::Character);
        }
    }
    Ok(())
}
