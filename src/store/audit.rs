//! What was done on servers by hand: who, when, what, and what came of it.

use diesel::prelude::*;
use serde::Serialize;

use super::schema::audit;
use super::{AuditId, AuditOutcome, AuditWay, Conn, Moment, Page, PageRequest, Result, ServerId};

/// The longest text of an entry that is kept, in characters.
const LONGEST: usize = 4096;

/// One thing that was done.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = audit)]
pub struct Entry {
    /// Its id.
    pub id: AuditId,
    /// When it began.
    pub at: Moment,
    /// The account, or who ran the command line.
    pub who: String,
    /// How it was asked for.
    pub way: AuditWay,
    /// What was done: `exec`, `put`, `get`, ….
    pub action: String,
    /// On which server; none where it is about none alone.
    pub server_id: Option<ServerId>,
    /// The server's name at that time.
    pub server: String,
    /// The command or the paths, as they were given. Never what a command read or printed.
    pub detail: String,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// That in words.
    pub message: String,
    /// When it ended.
    pub ended_at: Option<Moment>,
}

/// What begins.
#[derive(Debug, Clone)]
pub struct NewEntry<'a> {
    /// See [`Entry`].
    pub who: &'a str,
    /// See [`Entry`].
    pub way: AuditWay,
    /// See [`Entry`].
    pub action: &'a str,
    /// See [`Entry`].
    pub server: Option<(ServerId, &'a str)>,
    /// See [`Entry`]; more than 4,096 characters are cut off.
    pub detail: &'a str,
}

/// Writes down that something begins.
pub fn begin(conn: &mut Conn, new: &NewEntry<'_>) -> Result<AuditId> {
    Ok(diesel::insert_into(audit::table)
        .values((
            audit::at.eq(Moment::now()),
            audit::who.eq(new.who),
            audit::way.eq(new.way),
            audit::action.eq(new.action),
            audit::server_id.eq(new.server.map(|(id, _)| id)),
            audit::server.eq(new.server.map_or("", |(_, name)| name)),
            audit::detail.eq(cut(new.detail)),
            audit::outcome.eq(AuditOutcome::Begun),
            audit::message.eq(""),
        ))
        .returning(audit::id)
        .get_result(conn)?)
}

/// Writes down how it ended.
pub fn end(conn: &mut Conn, id: AuditId, outcome: AuditOutcome, message: &str) -> Result<()> {
    diesel::update(audit::table.find(id))
        .set((
            audit::outcome.eq(outcome),
            audit::message.eq(cut(message)),
            audit::ended_at.eq(Moment::now()),
        ))
        .execute(conn)?;
    Ok(())
}

fn cut(text: &str) -> &str {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// One page of the entries, the newest first; of one server, or of all.
pub fn page(
    conn: &mut Conn,
    server: Option<ServerId>,
    request: PageRequest,
) -> Result<Page<Entry>> {
    let of = || {
        let all = audit::table.into_boxed();
        match server {
            Some(id) => all.filter(audit::server_id.eq(id)),
            None => all,
        }
    };
    let total = of().count().get_result(conn)?;
    request.place(total, |offset, limit| {
        of().order(audit::id.desc())
            .offset(offset)
            .limit(limit)
            .select(Entry::as_select())
            .load(conn)
    })
}

/// Drops what is older than `days`.
pub fn sweep(conn: &mut Conn, days: u32) -> Result<()> {
    let oldest = Moment::now().plus_seconds(-i64::from(days) * 24 * 60 * 60);
    diesel::delete(audit::table.filter(audit::at.lt(oldest))).execute(conn)?;
    Ok(())
}
