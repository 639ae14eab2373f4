//! Errors of accounts and logins.

use std::time::Duration;

use super::LONGEST_NAME;
use super::password::BadPassword;
use crate::store::StoreError;

/// Reasons for which access is refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A wrong name or password; the text does not tell which.
    #[error("name or password is wrong")]
    LoginFailed,
    /// Too many failures for this account from this address.
    #[error("too many attempts; try again in {} s", .retry_after.as_secs())]
    TooManyAttempts {
        /// The time until another attempt is allowed, at least one second.
        retry_after: Duration,
    },
    /// A one-time link that does not exist, was used, or has expired.
    #[error("the link was used already or has expired")]
    LinkExpired,
    /// A first account that exists already.
    #[error("the installation is set up already")]
    AlreadySetUp,
    /// An invalid account name.
    #[error(
        "an account's name has 1 to {LONGEST_NAME} letters, digits, dots, dashes or underscores"
    )]
    BadName,
    /// A password that is too short, too long or too common.
    #[error("{0}")]
    BadPassword(#[from] BadPassword),
    /// An unknown account name.
    #[error("user {name}: not found")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// A request from another site's page.
    #[error("the request comes from another site")]
    ForeignSource,
    /// A missing or wrong CSRF token.
    #[error("the CSRF token is missing or wrong")]
    Csrf,
    /// A failure of hashing, for lack of memory.
    #[error("hashing a password: {0}")]
    Hash(String),
    /// A refusal or failure of the database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of calls in this room.
pub type Result<T> = std::result::Result<T, AuthError>;
