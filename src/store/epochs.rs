//! Where one stretch of the log's history ends and the next begins.
//!
//! Each start of the server begins another epoch and remembers the last number that was given in the one
//! before. A database that was put back from a copy thereby knows its own epochs up to the moment of the
//! copy, and nothing of those of the history that is gone; the same holds where a power cut took the
//! newest messages, with [`Durability::Process`]. Cursors of what is gone say `gap` instead of
//! pointing at other messages that got their numbers.

use std::path::Path;

use diesel::prelude::*;

use super::journal::Journal;
use super::schema::log_epochs;
use super::{Conn, Durability, Pragmas, Result, Store, StoreError, events};

/// Behind the database's name: the file of the [journal](super::journal).
const JOURNAL: &str = "-messages";
/// How many epochs are remembered. A cursor from before that many starts says `gap`.
const REMEMBERED: i64 = 1024;

/// The epochs of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// The one that lasts.
    pub current: String,
    /// The earlier ones that are remembered, with the last number that was given in each.
    pub earlier: Vec<(String, i64)>,
}

/// An id that no epoch has had. A cursor carries it: short, and of the alphabet that cursors are limited
/// to.
fn new_id() -> String {
    let token = crate::secret::new_token();
    let letters = token.expose().chars().filter(char::is_ascii_alphanumeric);
    letters.take(12).collect()
}

/// The id of the epoch that lasts; none before the log has begun for the first time.
fn current(conn: &mut Conn) -> Result<Option<String>> {
    Ok(log_epochs::table
        .filter(log_epochs::last.is_null())
        .order(log_epochs::number.desc())
        .select(log_epochs::epoch)
        .first(conn)
        .optional()?)
}

/// Ends the epoch that lasts at the log's head and begins another, whose id is given back.
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

/// The epochs of the log, once it [has begun](Store::begin_log).
///
/// # Errors
/// [`StoreError::NotFound`] before that; those of the database.
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
    /// Begins to write the log, in an epoch of its own, behind what the journal of a process that died
    /// still holds. On the disk when this returns; by the one server of the data folder, before the
    /// first message.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin_log(&self) -> Result<()> {
        self.open_journal()?;
        let mut epoch = String::new();
        self.write_to_disk(|conn| {
            epoch = begin(conn)?;
            Ok(())
        })?;
        let mut turn = self.turns.take();
        match (&mut turn.journal, self.durability) {
            (Some(journal), Durability::Process) => journal.begin(&epoch),
            // The journal survives the process alone.
            (journal, _) => *journal = None,
        }
        Ok(())
    }

    /// Ends the log: what waits is written, nothing more is logged, and the disk has all of it when
    /// this returns.
    ///
    /// # Errors
    /// Those of the database; the log is ended.
    pub fn close(&self) -> Result<()> {
        self.writer.close();
        self.turns.take().closed = true;
        self.write_to_disk(|conn| {
            // A commit without a change would not reach the disk, nor would those before it.
            events::touch(conn)
        })
    }

    /// A write that the disk has when this returns, and everything before it.
    fn write_to_disk(&self, queries: impl FnOnce(&mut Conn) -> Result<()>) -> Result<()> {
        let mut conn = Conn::establish(&self.url).map_err(|error| StoreError::Open {
            path: self.url.to_string(),
            cause: error.to_string(),
        })?;
        Pragmas::of(Durability::Machine).apply(&mut conn)?;
        let mut turn = self.turns.take();
        self.turns.transaction(&mut turn, &mut conn, queries)
    }

    /// Opens the journal, with what a process that died had no time to bring into the database.
    fn open_journal(&self) -> Result<()> {
        let path = format!("{}{JOURNAL}", self.url);
        let mut turn = self.turns.take();
        let (last, epoch) = self.read(|conn| Ok((events::head(conn)?, current(conn)?)))?;
        let epoch = epoch.unwrap_or_default();
        let journal =
            Journal::open(Path::new(&path), &epoch, last).map_err(|error| StoreError::Open {
                path,
                cause: error.to_string(),
            })?;
        self.turns.set_journal(&mut turn, journal);
        Ok(())
    }
}
