//! The log: every message of every room, numbered in one sequence. Read by `hub`.

use diesel::prelude::*;

use super::schema::{events, room_marks};
use super::{Conn, Moment, Result};

/// A message of the log.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = events)]
pub struct Event {
    /// Its number: increases in log order, over all rooms.
    pub number: i64,
    /// Its room.
    pub room: String,
    /// `message`, `node`, `log`, `release`, `vote`.
    pub kind: String,
    /// The sender: an account or a client's name; empty for the platform itself.
    pub sender: String,
    /// JSON: a string for chat, otherwise an object.
    pub data: String,
    /// The time it was accepted.
    pub at: Moment,
}

/// A message without a number.
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
    /// Messages just written, with their numbers.
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

/// Writes to the log's table without changing the log.
pub(super) fn touch(conn: &mut Conn) -> Result<()> {
    diesel::sql_query("UPDATE sqlite_sequence SET seq = seq WHERE name = 'events'")
        .execute(conn)?;
    Ok(())
}

/// The last number given, or 0.
///
/// # Errors
/// Database errors.
pub fn head(conn: &mut Conn) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Last {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        seq: i64,
    }
    // `MAX(number)` would be too low: retention deletes rows, and some are never stored.
    let last = diesel::sql_query("SELECT seq FROM sqlite_sequence WHERE name = 'events'");
    let last: Option<Last> = last.get_result(conn).optional()?;
    Ok(last.map_or(0, |last| last.seq))
}

/// Inserts `new` in order and returns the numbers.
pub(super) fn append(conn: &mut Conn, new: &[NewEvent]) -> Result<Vec<i64>> {
    // One cached statement per message is cheaper than preparing one statement for all.
    new.iter()
        .map(|event| {
            Ok(diesel::insert_into(events::table)
                .values(event)
                .returning(events::number)
                .get_result(conn)?)
        })
        .collect()
}

/// Numbers `new` in order without storing it; the numbers are used up.
pub(super) fn number(conn: &mut Conn, new: &[NewEvent]) -> Result<Vec<i64>> {
    let numbers = append(conn, new)?;
    diesel::delete(events::table.filter(events::number.eq_any(&numbers))).execute(conn)?;
    Ok(numbers)
}

/// Messages of `rooms` with numbers in `(after, up_to]`, oldest first, at most `limit`.
///
/// # Errors
/// Database errors.
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
///
/// # Errors
/// Database errors.
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

/// Every room that has lost messages to retention, with the number through which they were deleted.
///
/// # Errors
/// Database errors.
pub fn trimmed_through(conn: &mut Conn) -> Result<Vec<(String, i64)>> {
    Ok(room_marks::table.load(conn)?)
}
