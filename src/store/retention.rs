//! What of the log is dropped when it has grown old or large.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::schema::{events, room_marks};
use super::{Conn, Moment, Result, Store};

/// How many messages are dropped in one transaction, so that nobody waits long for his turn.
const PIECE: i64 = 500;

/// How much of each room is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// At most so many messages a room.
    pub messages: i64,
    /// At most so many bytes of data a room.
    pub bytes: i64,
    /// Nothing older than so many seconds.
    pub seconds: i64,
}

impl Store {
    /// Drops what `retention` no longer keeps, piece by piece. After each piece's commit `told` hears
    /// the room and the number up to which it has dropped messages; that mark is kept with the room.
    ///
    /// # Errors
    /// Database errors; what was told is dropped.
    pub fn trim(&self, retention: Retention, mut told: impl FnMut(&str, i64)) -> Result<()> {
        let oldest = Moment::now().plus_seconds(-retention.seconds);
        for room in self.read(rooms)? {
            let Some(mark) = self.read(|conn| excess(conn, &room, retention, oldest))? else {
                continue;
            };
            let mut reached = 0;
            while reached < mark {
                reached = self.write(|conn| drop_piece(conn, &room, mark))?;
                told(&room, reached);
            }
        }
        Ok(())
    }
}

/// Every room that has a message, by a step a room and not a message.
fn rooms(conn: &mut Conn) -> Result<Vec<String>> {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        room: String,
    }
    let names: Vec<Name> = diesel::sql_query(
        "WITH RECURSIVE names(room) AS ( \
             SELECT MIN(room) FROM events \
             UNION ALL \
             SELECT (SELECT MIN(room) FROM events WHERE room > names.room) FROM names \
             WHERE names.room IS NOT NULL \
         ) SELECT room FROM names WHERE room IS NOT NULL",
    )
    .load(conn)?;
    Ok(names.into_iter().map(|name| name.room).collect())
}

/// Drops the oldest messages of `room`, as far as `mark`; gives how far it came.
fn drop_piece(conn: &mut Conn, room: &str, mark: i64) -> Result<i64> {
    let piece: Option<i64> = events::table
        .filter(events::room.eq(room))
        .filter(events::number.lt(mark))
        .order(events::number)
        .offset(PIECE - 1)
        .select(events::number)
        .first(conn)
        .optional()?;
    let reached = piece.unwrap_or(mark);
    diesel::delete(
        events::table
            .filter(events::room.eq(room))
            .filter(events::number.le(reached)),
    )
    .execute(conn)?;
    diesel::insert_into(room_marks::table)
        .values((
            room_marks::room.eq(room),
            room_marks::dropped_to.eq(reached),
        ))
        .on_conflict(room_marks::room)
        .do_update()
        .set(room_marks::dropped_to.eq(reached))
        .execute(conn)?;
    Ok(reached)
}

/// The number up to which `room` has more than `retention` keeps.
fn excess(
    conn: &mut Conn,
    room: &str,
    retention: Retention,
    oldest: Moment,
) -> Result<Option<i64>> {
    #[derive(QueryableByName)]
    struct Mark {
        #[diesel(sql_type = Nullable<BigInt>)]
        mark: Option<i64>,
    }
    let found: Mark = diesel::sql_query(
        "SELECT MAX(number) AS mark FROM ( \
             SELECT number, at, \
                 ROW_NUMBER() OVER newest AS place, \
                 SUM(LENGTH(CAST(data AS BLOB))) OVER newest AS size \
             FROM events WHERE room = ? \
             WINDOW newest AS (ORDER BY number DESC ROWS UNBOUNDED PRECEDING) \
         ) WHERE place > ? OR size > ? OR at < ?",
    )
    .bind::<Text, _>(room)
    .bind::<BigInt, _>(retention.messages)
    .bind::<BigInt, _>(retention.bytes)
    .bind::<BigInt, _>(oldest)
    .get_result(conn)?;
    Ok(found.mark)
}
