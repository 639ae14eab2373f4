//! Why the database did not do what it was asked.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::{ReleaseId, ServerId};

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("{what} {id}: not found")]
    NotFound {
        /// The entity, in the singular: `server`, `project`, …
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A value that must be unique is there already.
    #[error("{field}: already taken")]
    Taken {
        /// The field of the form.
        field: &'static str,
    },
    /// The row cannot go: others need it.
    #[error("{what} {id}: in use by {by}")]
    InUse {
        /// The entity, in the singular.
        what: &'static str,
        /// Which one.
        id: String,
        /// The names of what uses it, separated by commas.
        by: String,
    },
    /// The jump servers on a server's way come back to one of them, or are too many.
    #[error("server {server}: its jump servers lead nowhere")]
    JumpLoop {
        /// The server.
        server: ServerId,
    },
    /// The project has an active release already.
    #[error("release {active} of this project is still active")]
    ReleaseActive {
        /// That release.
        active: ReleaseId,
    },
    /// A state change that the row's present state does not allow.
    #[error("{what}: {from} cannot become {to}")]
    IllegalChange {
        /// The node or release.
        what: String,
        /// Its present state.
        from: &'static str,
        /// The state that was asked for.
        to: &'static str,
    },
    /// The database refused or failed.
    #[error("database: {0}")]
    Database(#[from] DieselError),
    /// No connection could be had.
    #[error("database: {0}")]
    Pool(#[from] diesel::r2d2::PoolError),
    /// The file could not be opened or brought to the present schema.
    #[error("database {path}: {cause}")]
    Open {
        /// The file.
        path: String,
        /// What went wrong.
        cause: String,
    },
    /// The log is ended: the server is going down.
    #[error("the log is closed")]
    LogClosed,
    /// A stored value no longer has the shape that this version writes.
    #[error("database: {what}: {cause}")]
    Corrupt {
        /// Which value.
        what: String,
        /// Why it could not be read.
        cause: String,
    },
}

impl StoreError {
    /// Whether the same may succeed later: the database is locked by another, or the disk is full or
    /// out of reach.
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

    /// Whether the disk has no room for what was to be written.
    pub fn is_disk_full(&self) -> bool {
        self.says_one_of(&["disk is full"])
    }

    /// Whether SQLite's own text has one of `words`: diesel keeps no more of its codes.
    fn says_one_of(&self, words: &[&str]) -> bool {
        let Self::Database(cause) = self else {
            return false;
        };
        let text = cause.to_string();
        words.iter().any(|word| text.contains(word))
    }

    /// Turns a unique index's violation into [`Taken`](Self::Taken) of `field`.
    pub(super) fn taken(field: &'static str) -> impl Fn(DieselError) -> Self {
        move |error| match error {
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
                Self::Taken { field }
            }
            other => Self::Database(other),
        }
    }

    /// Turns "no row" into [`NotFound`](Self::NotFound).
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
