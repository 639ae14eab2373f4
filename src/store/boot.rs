//! How the log ended last time, and what that means for its numbers.
//!
//! With [`Durability::Process`] a power cut may take the newest messages, whose numbers would then be
//! given a second time. A log that may have lost something gets a new birth id, so that cursors from
//! before it say `gap` instead of pointing at other messages.

use std::path::Path;

use diesel::prelude::*;

use super::journal::Journal;
use super::schema::meta;
use super::{Conn, Durability, Pragmas, Result, Store, StoreError, events};

/// Is there while a server writes the log: the boot that it runs in, and how durable it writes.
const OPEN: &str = "log_open";
/// Behind the database's name: the file of the [journal](super::journal).
const JOURNAL: &str = "-messages";
/// What stands for a boot that cannot be told from another.
const UNKNOWN: &str = "-";

/// The id of the machine's present boot; `None` where the system does not tell.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    (!id.is_empty() && !id.contains(char::is_whitespace)).then(|| id.to_owned())
}

fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "process",
        Durability::Machine => "machine",
    }
}

/// Whether a log that was left open as `mark` says may have lost messages, seen from `boot`.
fn may_have_lost(mark: &str, boot: &str) -> bool {
    let (of, durability) = mark.split_once(' ').unwrap_or((mark, ""));
    durability != word(Durability::Machine) && (of != boot || of == UNKNOWN)
}

impl Store {
    /// Begins to write the log, in the boot `boot` of the machine (`None`: it cannot be told). Where
    /// the last one who did so never [closed](Self::close) it and the machine has gone down since,
    /// the log gets a new birth id, unless everything was on the disk before it was answered. On the
    /// disk when this returns; by the one server of the data folder, before the first message.
    ///
    /// # Errors
    /// Those of the database.
    pub fn begin_log(&self, boot: Option<&str>) -> Result<()> {
        self.open_journal()?;
        let boot = boot.unwrap_or(UNKNOWN);
        let open = format!("{boot} {}", word(self.durability));
        self.write_to_disk(|conn| {
            let mark: Option<String> = meta::table
                .find(OPEN)
                .select(meta::value)
                .first(conn)
                .optional()?;
            if mark.is_some_and(|mark| may_have_lost(&mark, boot)) {
                tracing::warn!(
                    "the machine went down while the log was open: its newest messages may be lost, \
                     and clients are told of a gap"
                );
                events::renew_birth(conn)?;
            }
            diesel::replace_into(meta::table)
                .values((meta::key.eq(OPEN), meta::value.eq(open)))
                .execute(conn)?;
            Ok(())
        })?;
        if self.durability == Durability::Machine {
            // The journal survives the process alone.
            self.turns.take().journal = None;
        }
        Ok(())
    }

    /// Ends the log: what waits is written, nothing more is logged, and the disk has all of it when
    /// this returns. The next start then goes on as if it had never ended.
    ///
    /// # Errors
    /// Those of the database; the log is ended, but counts as torn off.
    pub fn close(&self) -> Result<()> {
        self.writer.close();
        self.turns.take().closed = true;
        self.write_to_disk(|conn| {
            diesel::delete(meta::table.find(OPEN)).execute(conn)?;
            Ok(())
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
        let last = self.read(events::head)?;
        let journal = Journal::open(Path::new(&path), last).map_err(|error| StoreError::Open {
            path,
            cause: error.to_string(),
        })?;
        self.turns.set_journal(&mut turn, journal);
        Ok(())
    }
}
