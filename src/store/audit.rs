//! The audit log: commands and file transfers that people ran on servers, outside releases.

use diesel::prelude::*;
use serde::Serialize;

use super::schema::audit;
use super::{AuditId, AuditOutcome, AuditWay, Conn, Moment, Page, PageRequest, Result, ServerId};

/// The longest text kept in an entry, in characters.
const LONGEST: usize = 4096;

/// An audit entry.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = audit)]
pub struct Entry {
    /// Its id.
    pub id: AuditId,
    /// The time the action began.
    pub at: Moment,
    /// The account, or the operating system's user for the command line.
    pub who: String,
    /// The way it was requested.
    pub way: AuditWay,
    /// The action: `exec`, `put`, `get`, ….
    pub action: String,
    /// The server, if the action concerns one.
    pub server_id: Option<ServerId>,
    /// The server's name at that time.
    pub server: String,
    /// The command or the paths, as given. Never a command's input or output.
    pub detail: String,
    /// The outcome.
    pub outcome: AuditOutcome,
    /// The outcome in words.
    pub message: String,
    /// The time the action ended.
    pub ended_at: Option<Moment>,
}

/// An entry for an action that begins.
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
    /// See [`Entry`]; cut off after 4,096 characters.
    pub detail: &'a str,
}

/// Records the start of an action.
///
/// # Errors
/// Database errors.
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

/// Records the end of an action.
///
/// # Errors
/// Database errors.
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

/// One page of the entries of one server or of all, newest first.
///
/// # Errors
/// Database errors.
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

/// Deletes entries older than `days`.
///
/// # Errors
/// Database errors.
pub fn sweep(conn: &mut Conn, days: u32) -> Result<()> {
    let oldest = Moment::now().plus_seconds(-i64::from(days) * 24 * 60 * 60);
    diesel::delete(audit::table.filter(audit::at.lt(oldest))).execute(conn)?;
    Ok(())
}
