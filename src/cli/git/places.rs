//! Access to repositories: the rules of the settings, extended by the options.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::login::Login;
use super::show;
use crate::cli::{CliError, variables};
use crate::git::{
    Limits, Mirror, MirrorOptions, Mirrors, RepoUrl, Source, UrlPolicy, trust_ca_file,
};
use crate::settings::Settings;

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(in crate::cli) struct Access {
    /// The settings file whose git_* settings count; see docs/settings.md.
    #[arg(long, value_name = "FILE", env = "LONGSHORE_SETTINGS")]
    settings: Option<PathBuf>,
    /// Allow plain http, as the setting git_allow_http does. Never with a credential.
    #[arg(long)]
    allow_http: bool,
    /// Allow hosts on this machine, as the setting git_allow_loopback does.
    #[arg(long)]
    allow_loopback: bool,
    /// Allow cloning from folders below this one, as the setting git_local_folders does.
    #[arg(long, value_name = "DIR")]
    local_folder: Vec<PathBuf>,
    /// Trust the certificate authorities in this file (PEM), as the setting git_ca_file does.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The maximum silence of a git host, in seconds.
    #[arg(long, value_name = "SECONDS")]
    stall_seconds: Option<u64>,
    /// Fetch only this many commits of each branch and tag.
    #[arg(long, value_name = "N")]
    depth: Option<NonZeroU32>,
    /// Include submodules in --into and archives.
    #[arg(long)]
    submodules: bool,
    /// The folder that keeps repositories given by address between two commands.
    #[arg(long, value_name = "DIR")]
    mirrors: Option<PathBuf>,
    #[command(flatten)]
    login: Login,
}

/// A repository to read; true if it is a folder on this disk and read in place.
pub(super) struct Opened(pub(super) Mirror, pub(super) bool);

impl Access {
    /// The rules. May restart the program to trust a CA file, so nothing is read before.
    pub(super) fn options(&self) -> Result<MirrorOptions, CliError> {
        let mut settings = Settings::load(self.settings.as_deref(), variables())?;
        settings.git_allow_http |= self.allow_http;
        settings.git_allow_loopback |= self.allow_loopback;
        settings.git_local_folders.extend(self.local_folder.clone());
        let ca_file = self.ca_file.as_ref().or(settings.git_ca_file.as_ref());
        if let Some(path) = ca_file {
            trust_ca_file(path).map_err(CliError::CaFile)?;
        }
        let stall = self.stall_seconds.map(Duration::from_secs);
        Ok(MirrorOptions {
            stall_timeout: stall.unwrap_or(settings.git_stall()),
            limits: Limits {
                files: settings.git_files,
                bytes: settings.git_bytes,
                fetch_bytes: settings.git_fetch_bytes,
            },
            policy: UrlPolicy {
                allow_http: settings.git_allow_http,
                allow_loopback: settings.git_allow_loopback,
                local_folders: settings.git_local_folders,
            },
        })
    }

    /// The repository at `url`, with its credential.
    pub(super) fn source(&self, url: &str, options: &MirrorOptions) -> Result<Source, CliError> {
        let url = RepoUrl::parse(url, &options.policy).map_err(crate::git::GitError::from)?;
        Ok(Source {
            credential: self.login.credential()?,
            host_key: self.login.host_key.clone(),
            depth: self.depth,
            submodules: self.submodules,
            url,
        })
    }

    /// The repository that `text` names: a folder is read in place, an address is fetched.
    pub(super) fn open(&self, text: &str, options: &MirrorOptions) -> Result<Opened, CliError> {
        let folder = Path::new(text);
        if !text.starts_with('-') && folder.is_dir() {
            return Ok(Opened(Mirror::in_place(folder, options.limits)?, true));
        }
        if text.starts_with(['/', '.']) && !folder.exists() {
            let cause = std::io::ErrorKind::NotFound.into();
            return Err(CliError::io(text)(cause));
        }
        let source = self.source(text, options)?;
        let mirrors = Mirrors::new(self.mirrors_folder(), options.clone());
        let mirror = mirrors.mirror(source);
        show::progress(|report| mirror.fetch(report))?;
        Ok(Opened(mirror, false))
    }

    fn mirrors_folder(&self) -> PathBuf {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let cache = || {
            variable("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| Some(variable("HOME")?.join(".cache")))
                .unwrap_or_else(std::env::temp_dir)
        };
        match &self.mirrors {
            Some(folder) => folder.clone(),
            None => cache().join("longshore").join("mirrors"),
        }
    }
}
