//! What can go wrong with accounts and logins.

use std::time::Duration;

use super::LONGEST_NAME;
use super::password::BadPassword;
use crate::store::StoreError;

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The name or the password is wrong; which one is not told.
    #[error("name or password is wrong")]
    LoginFailed,
    /// Too many failures for this account from this address.
    #[error("too many attempts; try again in {} s", .retry_after.as_secs())]
    TooManyAttempts {
        /// When another attempt is allowed, at least one second.
        retry_after: Duration,
    },
    /// A one-time link that does not exist, was used, or has expired.
    #[error("the link was used already or has expired")]
    LinkExpired,
    /// The first account exists already.
    #[error("the installation is set up already")]
    AlreadySetUp,
    /// A name that an account cannot have.
    #[error(
        "an account's name has 1 to {LONGEST_NAME} letters, digits, dots, dashes or underscores"
    )]
    BadName,
    /// A password that an account should not have.
    #[error("{0}")]
    BadPassword(#[from] BadPassword),
    /// No account has this name.
    #[error("user {name}: not found")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// A page of another site sent the request.
    #[error("the request comes from another site")]
    ForeignSource,
    /// The request does not prove that a page of ours sent it.
    #[error("the CSRF token is missing or wrong")]
    Csrf,
    /// Hashing failed, for want of memory.
    #[error("hashing a password: {0}")]
    Hash(String),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What auth calls give.
pub type Result<T> = std::result::Result<T, AuthError>;
