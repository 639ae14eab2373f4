//! Errors of the database.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::{ReleaseId, ServerId};

/// Reasons for which a database operation fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row.
    #[error("{what} {id}: not found")]
    NotFound {
        /// The entity, in the singular: `server`, `project`, …
        what: &'static str,
        /// The id that was requested.
        id: String,
    },
    /// A value that must be unique is in use.
    #[error("{field}: already taken")]
    Taken {
        /// The field of the form.
        field: &'static str,
    },
    /// The row cannot be deleted because others need it.
    #[error("{what} {id}: in use by {by}")]
    InUse {
        /// The entity, in the singular.
        what: &'static str,
        /// The id of the row.
        id: String,
        /// The names of the rows that use it, separated by commas.
        by: String,
    },
    /// The jump servers of a server form a circle or are too many.
    #[error("server {server}: its jump servers lead nowhere")]
    JumpLoop {
        /// The server.
        server: ServerId,
    },
    /// The project already has an active release.
    #[error("release {active} of this project is still active")]
    ReleaseActive {
        /// The active release.
        active: ReleaseId,
    },
    /// A state change that the present state does not allow.
    #[error("{what}: {from} cannot become {to}")]
    IllegalChange {
        /// The node or release.
        what: String,
        /// Its present state.
        from: &'static str,
        /// The requested state.
        to: &'static str,
    },
    /// A refusal or failure of the database.
    #[error("database: {0}")]
    Database(#[from] DieselError),
    /// No connection was available in time.
    #[error("database: {0}")]
    Pool(#[from] diesel::r2d2::PoolError),
    /// The file could not be opened or migrated to the present schema.
    #[error("database {path}: {cause}")]
    Open {
        /// The file.
        path: String,
        /// The cause.
        cause: String,
    },
    /// The log is closed because the server is shutting down.
    #[error("the log is closed")]
    LogClosed,
    /// A stored value does not have the shape that this version writes.
    #[error("database: {what}: {cause}")]
    Corrupt {
        /// The value.
        what: String,
        /// The reason it could not be read.
        cause: String,
    },
}

impl StoreError {
    /// True if the operation may succeed later: the database is locked, or the disk is full or
    /// unavailable.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Pool(_))
            || self.says_one_of(&[
                "locked",
                "busy",
                "full",
                "readonly",
                "disk I/O",
                "unable to open",
            ])
    }

    /// True if the disk is full.
    pub fn is_disk_full(&self) -> bool {
        self.says_one_of(&["disk is full"])
    }

    /// True if SQLite's text contains one of `words`; diesel does not expose its error codes.
    fn says_one_of(&self, words: &[&str]) -> bool {
        let Self::Database(cause) = self else {
            return false;
        };
        let text = cause.to_string();
        words.iter().any(|word| text.contains(word))
    }

    /// True if the disk cannot be written, for lack of room, of rights or by a fault; reading still works.
    pub(super) fn is_of_the_disk(&self) -> bool {
        self.says_one_of(&["full", "readonly", "disk I/O"])
    }

    /// Maps a unique index's violation to [`Taken`](Self::Taken) of `field`.
    pub(super) fn taken(field: &'static str) -> impl Fn(DieselError) -> Self {
        move |error| match error {
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
                Self::Taken { field }
            }
            other => Self::Database(other),
        }
    }

    /// Maps "no row" to [`NotFound`](Self::NotFound).
    pub(super) fn missing(
        what: &'static str,
        id: impl ToString,
    ) -> impl FnOnce(DieselError) -> Self {
        move |error| match error {
            DieselError::NotFound => Self::NotFound {
                what,
                id: id.to_string(),
            },
            other => Self::Database(other),
        }
    }
}
