//! Credentials for git hosts. Secrets come from files, the environment or standard input, never from
//! the command line, which every user of the machine can read.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::CliError;
use crate::git::GitCredential;
use crate::secret::Secret;
use crate::ssh::normal_key;

#[derive(Debug, Args)]
#[command(next_help_heading = "Login")]
pub(super) struct Login {
    /// The user name, for --password-file, --key-file, or a token that needs one.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file with an access token, for https; `-` is standard input. Or set LONGSHORE_GIT_TOKEN.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "key_file"])]
    token_file: Option<PathBuf>,
    /// A file with a password; `-` is standard input. Or set LONGSHORE_GIT_PASSWORD.
    #[arg(
        long,
        value_name = "FILE",
        requires = "user",
        conflicts_with = "key_file"
    )]
    password_file: Option<PathBuf>,
    /// A file with a private key, for ssh; `-` is standard input. Or set LONGSHORE_GIT_KEY to the
    /// key itself.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A file with the key's passphrase; `-` is standard input. Or set LONGSHORE_GIT_PASSPHRASE.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The fingerprint (SHA256:…) of the ssh host's key; `longshore git host-key` shows it.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(super) host_key: Option<String>,
}

impl Login {
    pub(super) fn credential(&self) -> Result<GitCredential, CliError> {
        let user = self.user.clone();
        if let Some(token) = secret(self.token_file.as_deref(), "LONGSHORE_GIT_TOKEN")? {
            return Ok(GitCredential::Token { user, token });
        }
        let password = secret(self.password_file.as_deref(), "LONGSHORE_GIT_PASSWORD")?;
        if let (Some(user), Some(password)) = (user.clone(), password) {
            return Ok(GitCredential::Password { user, password });
        }
        let Some(key) = secret(self.key_file.as_deref(), "LONGSHORE_GIT_KEY")? else {
            return Ok(GitCredential::None);
        };
        let key = Secret::new(normal_key(key.expose()));
        let passphrase = secret(self.passphrase_file.as_deref(), "LONGSHORE_GIT_PASSPHRASE")?;
        Ok(GitCredential::SshKey {
            user,
            key,
            passphrase,
        })
    }
}

/// The content of the file, else of the variable, without the line end.
fn secret(file: Option<&Path>, variable: &str) -> Result<Option<Secret<String>>, CliError> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map_err(CliError::io("standard input"))?;
            Some(text)
        }
        Some(path) => {
            Some(fs::read_to_string(path).map_err(CliError::io(path.display().to_string()))?)
        }
        None => std::env::var(variable).ok(),
    };
    Ok(text
        .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        .filter(|text| !text.is_empty())
        .map(Secret::new))
}
