//! The database: one SQLite file behind a diesel pool. SQL lives here and nowhere else.
//!
//! Each entity has a file with its rows and its queries; a query takes a connection, so that
//! several make one transaction: [`Store::read`] and [`Store::write`] hand one out.
//! [`Store::record`] is a write that also appends to the log of messages; it alone decides the
//! order in which the log is published.
//!
//! Everything here blocks: async code calls it on the blocking pool.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool, PooledConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use serde::Serialize;

pub mod audit;
pub mod credentials;
pub mod epochs;
mod error;
pub mod events;
pub mod installation;
mod journal;
pub mod logins;
pub mod nodes;
mod pace;
pub mod projects;
pub mod releases;
mod retention;
mod schema;
pub mod servers;
pub mod users;
mod values;
pub mod votes;
mod writer;

pub use error::StoreError;
pub use events::{Event, NewEvent};
pub use pace::LogPace;
pub use retention::Retention;
pub use values::*;
pub use writer::{Appended, NotWritten, Written};

use writer::{Turns, Writer};

/// The connection that queries take.
pub type Conn = SqliteConnection;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// How many connections stand ready; SQLite has many readers and one writer.
const CONNECTIONS: u32 = 8;
/// The pages that each connection keeps, in KiB. SQLite's own 2 MiB fill up as the database grows; what is
/// beyond these is in the system's cache anyway.
const PAGE_CACHE: u32 = 512;
/// How long a statement waits for another's write lock.
const BUSY: Duration = Duration::from_secs(10);
/// How long a caller waits for a free connection.
const ACQUIRE: Duration = Duration::from_secs(15);

/// What a query gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// One page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// Which page, from 1; never past the last.
    pub page: i64,
    /// How many pages there are, at least 1.
    pub pages: i64,
    /// How many rows there are over all pages.
    pub total: i64,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    page: i64,
    size: i64,
}

impl PageRequest {
    /// The longest page.
    pub const LARGEST: i64 = 500;

    /// Page `page` (from 1) of pages with `size` rows; both are brought into bounds.
    pub fn new(page: i64, size: i64) -> Self {
        Self {
            page: page.max(1),
            size: size.clamp(1, Self::LARGEST),
        }
    }

    /// Where the page starts and which page it is, given how many rows there are.
    fn place<T>(
        self,
        total: i64,
        rows: impl FnOnce(i64, i64) -> QueryResult<Vec<T>>,
    ) -> Result<Page<T>> {
        let pages = (total + self.size - 1).div_euclid(self.size).max(1);
        let page = self.page.min(pages);
        Ok(Page {
            items: rows((page - 1) * self.size, self.size)?,
            page,
            pages,
            total,
        })
    }
}

/// Takes what was appended to the log, in number order, right after it was committed. It must not
/// block and must not call the store.
pub type Publish = Box<dyn Fn(Vec<Event>) + Send + Sync>;

/// The database; clones share one pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool<ConnectionManager<Conn>>,
    /// A turn lasts from a write's start until what it logged is published, so that numbers are
    /// published in the order in which they are given.
    turns: Arc<Turns>,
    publish: Arc<OnceLock<Publish>>,
    writer: Arc<Writer>,
    url: Arc<str>,
    durability: Durability,
}

#[derive(Debug)]
struct Pragmas {
    synchronous: &'static str,
}

impl Pragmas {
    fn of(durability: Durability) -> Self {
        Self {
            synchronous: match durability {
                Durability::Process => "NORMAL",
                Durability::Machine => "FULL",
            },
        }
    }

    fn apply(&self, conn: &mut Conn) -> QueryResult<()> {
        // With WAL, `NORMAL` survives the process's death at any moment; `FULL` the machine's too.
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; \
             PRAGMA synchronous = {}; PRAGMA cache_size = -{PAGE_CACHE};",
            BUSY.as_millis(),
            self.synchronous
        ))
    }
}

impl CustomizeConnection<Conn, diesel::r2d2::Error> for Pragmas {
    fn on_acquire(&self, conn: &mut Conn) -> std::result::Result<(), diesel::r2d2::Error> {
        self.apply(conn).map_err(diesel::r2d2::Error::QueryError)
    }
}

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the system has it: survives the death of the process.
    Process,
    /// When the disk has it: survives the death of the machine.
    Machine,
}

/// A database that is damaged is refused as it is, before anything is written to it: what is left
/// may be saved. One connection of our own, since the pool would try for its whole time-out.
fn check_soundness(url: &str) -> std::result::Result<(), Box<dyn std::error::Error>> {
    #[derive(QueryableByName)]
    struct Finding {
        #[diesel(sql_type = diesel::sql_types::Text)]
        quick_check: String,
    }
    let mut conn = Conn::establish(url)?;
    conn.batch_execute(&format!("PRAGMA busy_timeout = {};", BUSY.as_millis()))?;
    let findings: Vec<Finding> = diesel::sql_query("PRAGMA quick_check(1)").load(&mut conn)?;
    match findings.first() {
        Some(first) if first.quick_check != "ok" => {
            let what = first.quick_check.replace('\n', " ");
            Err(format!("the file is damaged: {what}").into())
        }
        _ => Ok(()),
    }
}

/// Runs `queries` in one transaction that writes. Where they fail, it is their error that is told: SQLite
/// undoes a transaction by itself where the disk is full, and has nothing left to roll back then.
fn write_transaction<T>(
    conn: &mut Conn,
    queries: impl FnOnce(&mut Conn) -> Result<T>,
) -> Result<T> {
    let mut cause = None;
    let done: QueryResult<T> = conn.immediate_transaction(|conn| {
        queries(conn).map_err(|error| {
            cause = Some(error);
            diesel::result::Error::RollbackTransaction
        })
    });
    done.map_err(|error| cause.unwrap_or(StoreError::Database(error)))
}

impl Store {
    /// Opens the database at `path`, making it or bringing it to the present schema first. A damaged
    /// one is refused and left as it is.
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        let failed = |cause: String| StoreError::Open {
            path: path.display().to_string(),
            cause,
        };
        let url = path
            .to_str()
            .ok_or_else(|| failed("the path is not UTF-8".into()))?;
        check_soundness(url).map_err(|error| failed(error.to_string()))?;
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(Some(1))
            .connection_timeout(ACQUIRE)
            .connection_customizer(Box::new(Pragmas::of(durability)))
            .build(ConnectionManager::new(url))
            .map_err(|error| failed(error.to_string()))?;
        pool.get()?
            .run_pending_migrations(MIGRATIONS)
            .map_err(|error| failed(error.to_string()))?;
        let (turns, publish) = (Arc::default(), Arc::default());
        let mut conn = Conn::establish(url).map_err(|error| failed(error.to_string()))?;
        Pragmas::of(durability).apply(&mut conn)?;
        let writer = Writer::start(conn, Arc::clone(&turns), Arc::clone(&publish))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            pool,
            turns,
            publish,
            writer: Arc::new(writer),
            url: url.into(),
            durability,
        })
    }

    /// Says who takes what is appended to the log; once, before the first logged write.
    pub fn on_publish(&self, publish: Publish) {
        let _ = self.publish.set(publish);
    }

    fn connection(&self) -> Result<PooledConnection<ConnectionManager<Conn>>> {
        Ok(self.pool.get()?)
    }

    /// Runs queries that change nothing, on one consistent snapshot.
    pub fn read<T>(&self, queries: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        (*self.connection()?).transaction(queries)
    }

    /// [`read`](Self::read) of the log: sees every message that was published before the call.
    ///
    /// # Errors
    /// Those of the database.
    pub fn read_log<T>(&self, queries: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        let mut conn = self.connection()?;
        self.writer.flush(&mut conn)?;
        (*conn).transaction(queries)
    }

    /// Runs queries in one transaction, which an error undoes.
    pub fn write<T>(&self, queries: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        let mut conn = self.connection()?;
        let _turn = self.turns.take();
        write_transaction(&mut conn, queries)
    }

    /// Appends `new` to the log. Where nobody else writes, it is in the journal and published when this
    /// returns; else the log's writer commits it, together with whatever else waits, then publishes
    /// it, then tells its number. Waits for nothing but one write to a file. Once this has returned,
    /// the message is written and published whole or not at all, whether or not anybody waits for the
    /// number.
    ///
    /// # Errors
    /// [`NotWritten::Full`] where too much waits already; [`NotWritten::Closed`] after
    /// [`close`](Self::close).
    pub fn append(&self, new: NewEvent) -> std::result::Result<Appended, NotWritten> {
        self.writer.append(new)
    }

    /// [`append`](Self::append) where it needs no waiting: the message's number, or the message itself
    /// where it does.
    ///
    /// # Errors
    /// `new`, unchanged: somebody else writes, or the journal cannot take it.
    pub fn try_append(&self, new: NewEvent) -> std::result::Result<i64, NewEvent> {
        self.writer.try_append(new)
    }

    /// What the log's writer has done.
    pub fn log_pace(&self) -> LogPace {
        self.writer.pace()
    }

    /// [`write`](Self::write) with messages for the log: what `queries` push is numbered and
    /// committed in the same transaction, then published before any later message is.
    /// Returns the numbers of the messages too.
    pub fn record<T>(
        &self,
        queries: impl FnOnce(&mut Conn, &mut Vec<NewEvent>) -> Result<T>,
    ) -> Result<(T, Vec<i64>)> {
        self.in_turn(|conn| {
            let mut pushed = Vec::new();
            let value = queries(conn, &mut pushed)?;
            let numbers = events::append(conn, &pushed)?;
            Ok((value, pushed, numbers))
        })
    }

    /// Publishes messages in the one order, with numbers that are never given again, without keeping
    /// them: who does not get them now never will.
    pub fn announce(&self, messages: Vec<NewEvent>) -> Result<()> {
        self.in_turn(|conn| {
            let numbers = events::number(conn, &messages)?;
            Ok(((), messages, numbers))
        })?;
        Ok(())
    }

    /// One transaction, and the publishing of the messages that it numbered.
    fn in_turn<T>(
        &self,
        queries: impl FnOnce(&mut Conn) -> Result<(T, Vec<NewEvent>, Vec<i64>)>,
    ) -> Result<(T, Vec<i64>)> {
        let mut conn = self.connection()?;
        let mut turn = self.turns.take();
        let is_closed = turn.closed;
        let (value, new, numbers) = self.turns.transaction(&mut turn, &mut conn, |conn| {
            let done = queries(conn)?;
            match is_closed && !done.2.is_empty() {
                true => Err(StoreError::LogClosed),
                false => Ok(done),
            }
        })?;
        turn.numbered(&numbers);
        if !numbers.is_empty()
            && let Some(publish) = self.publish.get()
        {
            publish(Event::numbered(&numbers, new));
        }
        drop(turn);
        Ok((value, numbers))
    }
}

#[cfg(test)]
mod tests;
