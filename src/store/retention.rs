//! Retention: deletes messages of the log that are too old or too many.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::schema::{events, room_marks};
use super::{Conn, Moment, Result, Store};

/// The number of messages deleted in one transaction, so that other writers do not wait long.
const PIECE: i64 = 500;

/// The limits of each room's history.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// The largest number of messages in a room.
    pub messages: i64,
    /// The largest size of a room's data, in bytes.
    pub bytes: i64,
    /// The greatest age of a message, in seconds.
    pub seconds: i64,
}

impl Store {
    /// Deletes messages beyond `retention`, piece by piece. After each piece's commit `told`
    /// receives the room and the number through which messages were deleted; that number is stored
    /// with the room.
    ///
    /// # Errors
    /// Database errors; pieces already reported to `told` stay deleted.
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

/// Every room with a message, in one index step per room rather than per message.
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

/// Deletes one piece of the oldest messages of `room`, through `mark` at most; returns the last
/// number it covered.
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

/// The number through which `room` exceeds `retention`.
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
