//! The log: every message of every room, in one numbering. See `hub` for what reads it.

use diesel::prelude::*;

use super::schema::{events, room_marks};
use super::{Conn, Moment, Result};

/// A message of the log.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = events)]
pub struct Event {
    /// Its number: grows by the log's order, over all rooms.
    pub number: i64,
    /// The room that it belongs to.
    pub room: String,
    /// `message`, `node`, `log`, `release`, `vote`.
    pub kind: String,
    /// Who sent it: an account or a client's name; empty for the platform itself.
    pub sender: String,
    /// JSON: a string for chat, an object for the rest.
    pub data: String,
    /// When it was accepted.
    pub at: Moment,
}

/// A message that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = events)]
pub struct NewEvent {
    /// See [`Event`].
    pub room: String,
    /// See [`Event`].
    pub kind: String,
    /// See [`Event`].
    pub sender: String,
    /// See [`Event`].
    pub data: String,
    /// See [`Event`].
    pub at: Moment,
}

impl Event {
    /// Messages that were just written, with the numbers that they got.
    pub(super) fn numbered(numbers: &[i64], new: Vec<NewEvent>) -> Vec<Self> {
        numbers
            .iter()
            .zip(new)
            .map(|(number, new)| Self {
                number: *number,
                room: new.room,
                kind: new.kind,
                sender: new.sender,
                data: new.data,
                at: new.at,
            })
            .collect()
    }

    /// The message without its number.
    pub(super) fn unnumbered(self) -> NewEvent {
        NewEvent {
            room: self.room,
            kind: self.kind,
            sender: self.sender,
            data: self.data,
            at: self.at,
        }
    }
}

/// Writes to the log's table without a change of the log.
pub(super) fn touch(conn: &mut Conn) -> Result<()> {
    diesel::sql_query("UPDATE sqlite_sequence SET seq = seq WHERE name = 'events'")
        .execute(conn)?;
    Ok(())
}

/// The last number given, 0 when none was.
pub fn head(conn: &mut Conn) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Last {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        seq: i64,
    }
    // The highest number that is kept says too little: retention drops, and some are never kept.
    let last = diesel::sql_query("SELECT seq FROM sqlite_sequence WHERE name = 'events'");
    let last: Option<Last> = last.get_result(conn).optional()?;
    Ok(last.map_or(0, |last| last.seq))
}

/// Writes `new` in order and gives each its number.
pub(super) fn append(conn: &mut Conn, new: &[NewEvent]) -> Result<Vec<i64>> {
    // One cached statement a message costs less than preparing one for all of them.
    new.iter()
        .map(|event| {
            Ok(diesel::insert_into(events::table)
                .values(event)
                .returning(events::number)
                .get_result(conn)?)
        })
        .collect()
}

/// Numbers `new`, in order, and keeps nothing of it but that the numbers are gone.
pub(super) fn number(conn: &mut Conn, new: &[NewEvent]) -> Result<Vec<i64>> {
    let numbers = append(conn, new)?;
    diesel::delete(events::table.filter(events::number.eq_any(&numbers))).execute(conn)?;
    Ok(numbers)
}

/// Messages of `rooms` with numbers in `(after, up_to]`, oldest first, at most `limit`.
pub fn read(
    conn: &mut Conn,
    rooms: &[String],
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<Event>> {
    Ok(events::table
        .filter(events::room.eq_any(rooms))
        .filter(events::number.gt(after))
        .filter(events::number.le(up_to))
        .order(events::number)
        .limit(limit)
        .select(Event::as_select())
        .load(conn)?)
}

/// The newest `limit` messages of `room`, oldest first.
pub fn last(conn: &mut Conn, room: &str, limit: i64) -> Result<Vec<Event>> {
    let mut newest: Vec<Event> = events::table
        .filter(events::room.eq(room))
        .order(events::number.desc())
        .limit(limit)
        .select(Event::as_select())
        .load(conn)?;
    newest.reverse();
    Ok(newest)
}

/// Every room with a mark, and the number up to which it dropped messages.
pub fn marks(conn: &mut Conn) -> Result<Vec<(String, i64)>> {
    Ok(room_marks::table.load(conn)?)
}
