//! The command line: one file per subcommand.

mod accounts;
mod demo;
mod git;
mod serve;
mod ssh;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::AppError;
use crate::auth::AuthError;
use crate::deploy::DeployError;
use crate::secret::VaultError;
use crate::settings::{Settings, SettingsError};
use crate::store::{Role, StoreError};

/// Longshore releases code to servers and shows every step live.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an installation.
    ///
    /// A new one prints a one-time link that creates the first account.
    Serve {
        #[command(flatten)]
        place: Place,
        /// The address and port to serve on; port 0 takes a free one.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Try Longshore: a sample project and three servers, released at once.
    Demo {
        /// The data folder; by default a new one that is removed at the end.
        #[arg(long, value_name = "DIR", env = "LONGSHORE_DATA")]
        data: Option<PathBuf>,
        /// The address and port to serve on; port 0 takes a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
        listen: SocketAddr,
    },
    /// Try repositories from a shell, by the rules that releases follow.
    #[command(subcommand)]
    Git(Box<git::GitCommand>),
    /// Manage accounts.
    #[command(subcommand)]
    User(UserCommand),
    /// Manage API tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Run commands and copy files on the installation's servers.
    #[command(subcommand)]
    Ssh(ssh::SshCommand),
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add an account. Asks for its password.
    Add {
        /// The name to log in with.
        name: String,
        /// Its role: admin, deployer or viewer.
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// Read the password from standard input (its first line).
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Disable an account: its logins and tokens stop working within a second.
    Disable {
        /// The account.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Enable a disabled account again.
    Enable {
        /// The account.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Give an account another role.
    Role {
        /// The account.
        name: String,
        /// Its new role: admin, deployer or viewer.
        role: Role,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Create an API token for an account and print it; it is shown only once.
    Create {
        /// The account.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Delete all API tokens of an account.
    Revoke {
        /// The account.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// The installation to work on.
#[derive(Debug, Args)]
struct Place {
    /// The data folder; created if it does not exist.
    #[arg(
        long,
        value_name = "DIR",
        env = "LONGSHORE_DATA",
        default_value = "data"
    )]
    data: PathBuf,
    /// The settings file; see docs/settings.md.
    #[arg(long, value_name = "FILE", env = "LONGSHORE_SETTINGS")]
    settings: Option<PathBuf>,
}

impl Place {
    fn settings(&self) -> Result<Settings, SettingsError> {
        Settings::load(self.settings.as_deref(), variables())
    }
}

/// The environment, without variables that are not UTF-8 (no setting is).
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The reason that a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The installation could not be opened.
    #[error(transparent)]
    App(#[from] AppError),
    /// An account, its password or token was refused.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The release engine failed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The certificates of git hosts could not be trusted.
    #[error("setting git_ca_file: {0}")]
    CaFile(crate::git::GitError),
    /// A repository, its host or a revision failed.
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    /// A work copy failed.
    #[error(transparent)]
    WorkCopy(#[from] crate::git::WorkCopyError),
    /// The server could not listen on its address.
    #[error("{address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        cause: io::Error,
    },
    /// Reading or writing failed.
    #[error("{what}: {cause}")]
    Io {
        /// The file or stream.
        what: String,
        /// The system's error.
        cause: io::Error,
    },
    /// The sample repository could not be written.
    #[error("sample repository: {0}")]
    Sample(#[from] git2::Error),
}

impl CliError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    /// The exit code: 2 if the request itself is refused, as for an unknown option, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Git(error) if git::is_refusal(error) => 2,
            Self::WorkCopy(error) if git::is_copy_refusal(error) => 2,
            _ => 1,
        }
    }
}

impl Cli {
    /// Runs the subcommand and returns the exit code of the program.
    ///
    /// # Errors
    /// [`CliError`] if the subcommand fails.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let done = match self.command {
            Command::Ssh(command) => return ssh::run(command).await,
            Command::Serve { place, listen } => serve::run(&place, listen).await,
            Command::Demo { data, listen } => demo::run(data, listen).await,
            Command::Git(command) => git::run(*command),
            Command::User(UserCommand::Add {
                name,
                role,
                password_stdin,
                place,
            }) => accounts::add_user(&place, &name, role, password_stdin),
            Command::User(UserCommand::Disable { name, place }) => {
                accounts::set_disabled(&place, &name, true)
            }
            Command::User(UserCommand::Enable { name, place }) => {
                accounts::set_disabled(&place, &name, false)
            }
            Command::User(UserCommand::Role { name, role, place }) => {
                accounts::set_role(&place, &name, role)
            }
            Command::Token(TokenCommand::Revoke { name, place }) => {
                accounts::revoke_tokens(&place, &name)
            }
            Command::Token(TokenCommand::Create { name, place }) => {
                accounts::create_token(&place, &name)
            }
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}
