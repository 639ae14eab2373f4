//! Epochs: the stretches of the log's history between starts of the server.
//!
//! Each start begins an epoch and records the last number given in the previous one. A database
//! restored from a backup therefore knows its own epochs up to the time of the backup and none of
//! the lost history; the same holds if a power cut takes the newest messages, with
//! [`Durability::Process`]. Cursors into lost history yield `gap` instead of pointing at other
//! messages that received the same numbers.

use std::path::Path;

use diesel::prelude::*;

use super::journal::Journal;
use super::schema::log_epochs;
use super::{Conn, Durability, Pragmas, Result, Store, StoreError, events};

/// The suffix of the [journal](super::journal) file, appended to the database's name.
const JOURNAL: &str = "-messages";
/// The number of epochs remembered. An older cursor yields `gap`.
const REMEMBERED: i64 = 1024;

/// The epochs of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// The present epoch.
    pub current: String,
    /// The remembered earlier epochs, each with the last number given in it.
    pub earlier: Vec<(String, i64)>,
}

/// A new, unique epoch id: short and in the cursor alphabet, since cursors carry it.
fn new_id() -> String {
    let token = crate::secret::new_token();
    let letters = token.expose().chars().filter(char::is_ascii_alphanumeric);
    letters.take(12).collect()
}

/// The id of the present epoch; none before the log has begun for the first time.
fn current(conn: &mut Conn) -> Result<Option<String>> {
    Ok(log_epochs::table
        .filter(log_epochs::last.is_null())
        .order(log_epochs::number.desc())
        .select(log_epochs::epoch)
        .first(conn)
        .optional()?)
}

/// Ends the present epoch at the log's head, begins another and returns its id.
pub(super) fn begin(conn: &mut Conn) -> Result<String> {
    let head = events::head(conn)?;
    diesel::update(log_epochs::table.filter(log_epochs::last.is_null()))
        .set(log_epochs::last.eq(head))
        .execute(conn)?;
    let id = new_id();
    let number: i64 = diesel::insert_into(log_epochs::table)
        .values(log_epochs::epoch.eq(&id))
        .returning(log_epochs::number)
        .get_result(conn)?;
    diesel::delete(log_epochs::table.filter(log_epochs::number.le(number - REMEMBERED)))
        .execute(conn)?;
    Ok(id)
}

/// The epochs of the log after [`begin_log`](Store::begin_log).
///
/// # Errors
/// [`StoreError::NotFound`] before that; database errors.
pub fn all(conn: &mut Conn) -> Result<Epochs> {
    let current = current(conn)?.ok_or(StoreError::NotFound {
        what: "epoch",
        id: "of the log".to_owned(),
    })?;
    let ended: Vec<(String, Option<i64>)> = log_epochs::table
        .filter(log_epochs::last.is_not_null())
        .select((log_epochs::epoch, log_epochs::last))
        .load(conn)?;
    let earlier = ended
        .into_iter()
        .filter_map(|(epoch, last)| Some((epoch, last?)));
    Ok(Epochs {
        current,
        earlier: earlier.collect(),
    })
}

impl Store {
    /// Begins a new epoch of the log, after the messages left in the journal of a process that
    /// died. The change is on disk when this returns. Called once by the only server of the data
    /// folder, before the first message.
    ///
    /// # Errors
    /// Database errors.
    pub fn begin_log(&self) -> Result<()> {
        self.open_journal()?;
        let mut epoch = String::new();
        self.write_to_disk(|conn| {
            epoch = begin(conn)?;
            Ok(())
        })?;
        let mut state = self.write_lock.lock();
        match (&mut state.journal, self.durability) {
            (Some(journal), Durability::Process) => journal.begin(&epoch),
            // The journal survives only the death of the process.
            (journal, _) => *journal = None,
        }
        Ok(())
    }

    /// Closes the log: writes the queued messages and rejects new ones. Everything is on disk when
    /// this returns.
    ///
    /// # Errors
    /// Database errors; the log is closed nevertheless.
    pub fn close(&self) -> Result<()> {
        self.writer.close();
        self.write_lock.lock().closed = true;
        self.write_to_disk(|conn| {
            // A commit without a change would not reach the disk, nor would the commits before it.
            events::touch(conn)
        })
    }

    /// A write that is on disk, with everything before it, when this returns.
    fn write_to_disk(&self, queries: impl FnOnce(&mut Conn) -> Result<()>) -> Result<()> {
        let mut conn = Conn::establish(&self.url).map_err(|error| StoreError::Open {
            path: self.url.to_string(),
            cause: error.to_string(),
        })?;
        Pragmas::of(Durability::Machine).apply(&mut conn)?;
        let mut state = self.write_lock.lock();
        self.write_lock.transaction(&mut state, &mut conn, queries)
    }

    /// Opens the journal, with the records that a process that died did not move into the database.
    fn open_journal(&self) -> Result<()> {
        let path = format!("{}{JOURNAL}", self.url);
        let mut state = self.write_lock.lock();
        let (last, epoch) = self.read(|conn| Ok((events::head(conn)?, current(conn)?)))?;
        let epoch = epoch.unwrap_or_default();
        let journal =
            Journal::open(Path::new(&path), &epoch, last).map_err(|error| StoreError::Open {
                path,
                cause: error.to_string(),
            })?;
        self.write_lock.set_journal(&mut state, journal);
        Ok(())
    }
}
