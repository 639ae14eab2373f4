//! The values of rows: ids, moments and the named choices of the API.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::{Sqlite, SqliteValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ids are numbers in the database and strings in JSON (numbers are accepted too).
macro_rules! id {
    ($(#[$doc:meta] $name:ident)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow)]
        #[diesel(sql_type = BigInt)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Written { Number(i64), Text(String) }
                match Written::deserialize(deserializer)? {
                    Written::Number(number) => Ok(Self(number)),
                    Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
                }
            }
        }

        impl ToSql<BigInt, Sqlite> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                out.set_value(self.0);
                Ok(IsNull::No)
            }
        }

        impl FromSql<BigInt, Sqlite> for $name {
            fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
                <i64 as FromSql<BigInt, Sqlite>>::from_sql(value).map(Self)
            }
        }
    )*};
}

id! {
    /// A user's id.
    UserId
    /// A credential's id.
    CredentialId
    /// A server's id.
    ServerId
    /// A project's id.
    ProjectId
    /// A release's id.
    ReleaseId
    /// An audit entry's id.
    AuditId
}

/// A point in time in milliseconds; RFC 3339 UTC in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = BigInt)]
pub struct Moment(pub i64);

impl Moment {
    /// The current time of the system's clock.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_millis())
    }

    /// The moment of a [`SystemTime`], such as a file's time.
    pub fn of_system(time: SystemTime) -> Self {
        Self(DateTime::<Utc>::from(time).timestamp_millis())
    }

    /// The moment `seconds` later.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// The moment as chrono's type; the Unix epoch if out of range.
    pub fn datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.datetime().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ToSql<BigInt, Sqlite> for Moment {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0);
        Ok(IsNull::No)
    }
}

impl FromSql<BigInt, Sqlite> for Moment {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        <i64 as FromSql<BigInt, Sqlite>>::from_sql(value).map(Self)
    }
}

/// The words of a command line, the program first; a JSON array in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl ToSql<Text, Sqlite> for Words {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(serde_json::to_string(&self.0)?);
        Ok(IsNull::No)
    }
}

impl FromSql<Text, Sqlite> for Words {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
        Ok(Self(serde_json::from_str(&text)?))
    }
}

/// A name that is not among the choices.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not one of the choices")]
pub struct UnknownChoice(pub String);

/// Choices are text, with one spelling in the database, in JSON and in forms.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, AsExpression, FromSqlRow)]
        #[diesel(sql_type = Text)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every choice, in the order of the form.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The choice's name in the database, in JSON and in forms.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownChoice;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(UnknownChoice(text.to_owned())),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl ToSql<Text, Sqlite> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                out.set_value(self.as_str());
                Ok(IsNull::No)
            }
        }

        impl FromSql<Text, Sqlite> for $name {
            fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
                Ok(<String as FromSql<Text, Sqlite>>::from_sql(value)?.parse()?)
            }
        }
    };
}

choice! {
    /// The rights of a user. Each role includes the later ones.
    Role {
        /// Everything, including the commands of projects and the credentials.
        Admin = "admin",
        /// Release, cancel and roll back.
        Deployer = "deployer",
        /// Read only.
        Viewer = "viewer",
    }
}

choice! {
    /// The way a server is reached.
    ServerKind {
        /// Over SSH.
        Ssh = "ssh",
        /// The platform's own machine: commands and files run and stay there.
        Local = "local",
    }
}

choice! {
    /// The kind of secret, and the service it authenticates to.
    CredentialKind {
        /// A private key for servers.
        SshKey = "ssh_key",
        /// A private key for servers, in a file on the platform's machine.
        SshKeyFile = "ssh_key_file",
        /// The keys of the platform's SSH agent, for servers.
        SshAgent = "ssh_agent",
        /// A password for servers.
        Password = "password",
        /// A token, or `user:token`, for git over https.
        GitToken = "git_token",
        /// A private key for git over ssh.
        GitSshKey = "git_ssh_key",
    }
}

impl CredentialKind {
    /// True for git repositories, false for servers.
    pub fn is_git(self) -> bool {
        matches!(self, Self::GitToken | Self::GitSshKey)
    }
}

choice! {
    /// The way an action was requested.
    AuditWay {
        /// A form of the pages.
        Page = "page",
        /// The JSON API.
        Api = "api",
        /// The command line on the platform's own machine.
        Cli = "cli",
    }
}

choice! {
    /// The outcome of an action.
    AuditOutcome {
        /// No end recorded: it is running, or the platform stopped first.
        Begun = "begun",
        /// It succeeded.
        Succeeded = "succeeded",
        /// It failed.
        Failed = "failed",
    }
}

choice! {
    /// The environment a project releases to.
    Environment {
        /// 正式: production.
        Prod = "prod",
        /// 测试: test.
        Test = "test",
    }
}

choice! {
    /// The way a server carries over files that a release did not change.
    Unchanged {
        /// A separate copy for each release; shared blocks if the file system supports them.
        Copy = "copy",
        /// Hard links, for projects that never write to their files.
        Link = "link",
    }
}

choice! {
    /// The kind of release.
    ReleaseKind {
        /// Brings a revision to the servers.
        Deploy = "deploy",
        /// Points `current` back to a release still on the servers.
        Rollback = "rollback",
    }
}

choice! {
    /// The state of a release.
    ReleaseState {
        /// Planned, waiting for a worker.
        Queued = "queued",
        /// A worker executes its plan.
        Running = "running",
        /// Every server has the release.
        Succeeded = "succeeded",
        /// Some servers have it, others do not.
        Partial = "partial",
        /// No server has it.
        Failed = "failed",
        /// A person stopped it.
        Cancelled = "cancelled",
        /// The platform stopped while it was active.
        Interrupted = "interrupted",
    }
}

impl ReleaseState {
    /// The states that hold a project's lock.
    pub const ACTIVE: [Self; 2] = [Self::Queued, Self::Running];

    /// True if it holds its project's lock.
    pub fn is_active(self) -> bool {
        Self::ACTIVE.contains(&self)
    }
}

choice! {
    /// The state of a node.
    NodeState {
        /// Not started.
        Waiting = "waiting",
        /// In progress.
        Running = "running",
        /// Done.
        Succeeded = "succeeded",
        /// It failed.
        Failed = "failed",
        /// A person stopped it.
        Cancelled = "cancelled",
        /// Not run because an earlier node failed.
        Skipped = "skipped",
        /// The platform stopped while it ran.
        Interrupted = "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_in_json_and_read_from_numbers_too() {
        assert_eq!(serde_json::to_string(&ServerId(7)).unwrap(), "\"7\"");
        assert_eq!(
            serde_json::from_str::<ServerId>("\"7\"").unwrap(),
            ServerId(7)
        );
        assert_eq!(serde_json::from_str::<ServerId>("7").unwrap(), ServerId(7));
        assert!(serde_json::from_str::<ServerId>("\"x\"").is_err());
    }

    #[test]
    fn choices_keep_one_spelling() {
        for state in ReleaseState::ALL {
            assert_eq!(state.as_str().parse::<ReleaseState>().unwrap(), *state);
        }
        assert!("Prod".parse::<Environment>().is_err());
    }

    #[test]
    fn moments_are_rfc_3339() {
        assert_eq!(
            Moment(1_795_341_600_123).to_string(),
            "2026-11-22T10:00:00.123Z"
        );
    }
}
