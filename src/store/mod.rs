//! The database: one SQLite file behind a diesel pool. All SQL is in this room.
//!
//! Each entity has a file with its rows and queries. A query takes a connection, so that several
//! can share a transaction; [`Store::read`] and [`Store::write`] supply one. [`Store::record`] is a
//! write that also appends to the log of messages and fixes the order of publication.
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
mod inspection;
pub mod installation;
mod journal;
pub mod key_check;
pub mod logins;
pub mod nodes;
pub mod projects;
pub mod releases;
mod retention;
mod schema;
pub mod servers;
pub mod users;
mod values;
pub mod votes;
mod writer;
mod writer_stats;

pub use error::StoreError;
pub use events::{Event, NewEvent};
pub use inspection::{Content, Findings, Inspection};
pub use retention::Retention;
pub use values::*;
pub use writer::{Appended, NotWritten, Written};
pub use writer_stats::WriterStats;

use writer::{WriteLock, Writer};

/// The connection that queries take.
pub type Conn = SqliteConnection;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The size of the connection pool. SQLite has many readers and one writer.
const CONNECTIONS: u32 = 8;
/// The page cache of each connection, in KiB. SQLite's default of 2 MiB fills up as the database
/// grows; the system's cache holds further pages anyway.
const PAGE_CACHE: u32 = 512;
/// The longest wait of a statement for another's write lock.
const BUSY: Duration = Duration::from_secs(10);
/// The longest wait for a free connection.
const ACQUIRE: Duration = Duration::from_secs(15);

/// The result of a query.
pub type Result<T> = std::result::Result<T, StoreError>;

/// One page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// The page's number, from 1; never past the last page.
    pub page: i64,
    /// The number of pages, at least 1.
    pub pages: i64,
    /// The number of rows over all pages.
    pub total: i64,
}

/// A request for one page of a list.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    page: i64,
    size: i64,
}

impl PageRequest {
    /// The largest page size.
    pub const LARGEST: i64 = 500;

    /// Page `page` (from 1) of pages with `size` rows; both are clamped to their bounds.
    pub fn new(page: i64, size: i64) -> Self {
        Self {
            page: page.max(1),
            size: size.clamp(1, Self::LARGEST),
        }
    }

    /// Loads the page through `rows` (offset, limit), given the total number of rows.
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

/// Receives the messages appended to the log, in number order, right after their commit. Must not
/// block and must not call the store.
pub type Publish = Box<dyn Fn(Vec<Event>) + Send + Sync>;

/// The database; clones share one pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool<ConnectionManager<Conn>>,
    /// The write lock, held from a write's start until its messages are published, so that messages
    /// are published in number order.
    write_lock: Arc<WriteLock>,
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
        // With WAL, `NORMAL` survives the death of the process at any moment; `FULL` also that of
        // the machine.
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

/// The point at which a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The operating system has it: survives the death of the process.
    Process,
    /// The disk has it: survives the death of the machine.
    Machine,
}

/// Runs `queries` in one write transaction. Returns their error rather than the rollback's: SQLite
/// undoes a transaction by itself on a full disk, and the rollback then has nothing to undo.
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
    /// Opens the database at `path`; creates it or migrates it to the present schema first. A
    /// damaged file is rejected and left unchanged.
    ///
    /// # Errors
    /// [`StoreError::Open`] if the file cannot be opened, is damaged or cannot be migrated;
    /// [`StoreError::Pool`].
    pub fn open(path: &Path, durability: Durability) -> Result<Self> {
        let inspection = Inspection::of(path)?;
        inspection.check_soundness()?;
        inspection.open(durability)
    }

    /// [`open`](Self::open) after the inspection.
    fn open_inspected(path: &Path, durability: Durability) -> Result<Self> {
        let failed = |cause: String| StoreError::Open {
            path: path.display().to_string(),
            cause,
        };
        let url = path
            .to_str()
            .ok_or_else(|| failed("the path is not UTF-8".into()))?;
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
        let (write_lock, publish) = (Arc::default(), Arc::default());
        let mut conn = Conn::establish(url).map_err(|error| failed(error.to_string()))?;
        Pragmas::of(durability).apply(&mut conn)?;
        let writer = Writer::start(conn, Arc::clone(&write_lock), Arc::clone(&publish))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            pool,
            write_lock,
            publish,
            writer: Arc::new(writer),
            url: url.into(),
            durability,
        })
    }

    /// Sets the receiver of messages appended to the log. Called once, before the first logged
    /// write.
    pub fn on_publish(&self, publish: Publish) {
        let _ = self.publish.set(publish);
    }

    fn connection(&self) -> Result<PooledConnection<ConnectionManager<Conn>>> {
        Ok(self.pool.get()?)
    }

    /// Runs read-only queries on one consistent snapshot.
    ///
    /// # Errors
    /// Errors of `queries` and of the database.
    pub fn read<T>(&self, queries: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        (*self.connection()?).transaction(queries)
    }

    /// Like [`read`](Self::read), and sees every message published before the call.
    ///
    /// # Errors
    /// Errors of `queries` and of the database.
    pub fn read_log<T>(&self, queries: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        let mut conn = self.connection()?;
        match self.writer.flush(&mut conn) {
            Ok(()) => (*conn).transaction(queries),
            Err(error) if error.is_of_the_disk() => {
                self.writer.read_with_journal(&mut conn, queries)
            }
            Err(error) => Err(error),
        }
    }

    /// Runs queries in one transaction; an error rolls it back.
    ///
    /// # Errors
    /// Errors of `queries` and of the database.
    pub fn write<T>(&self, queries: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        let mut conn = self.connection()?;
        let _guard = self.write_lock.lock();
        write_transaction(&mut conn, queries)
    }

    /// Appends `new` to the log. Without competing writers the message is in the journal and
    /// published when this returns; otherwise the log's writer commits it together with other
    /// queued messages, publishes it and then returns its number. Waits for at most one write to a
    /// file. Once this has returned, the message is written and published whole or not at all, even
    /// if nobody awaits the number.
    ///
    /// # Errors
    /// [`NotWritten::Full`] if too many messages are queued; [`NotWritten::Closed`] after
    /// [`close`](Self::close).
    pub fn append(&self, new: NewEvent) -> std::result::Result<Appended, NotWritten> {
        self.writer.append(new)
    }

    /// Like [`append`](Self::append), but never waits: returns the message's number, or the message
    /// itself if it would have to wait.
    ///
    /// # Errors
    /// `new`, unchanged: another writer is active, or the journal cannot take it.
    pub fn try_append(&self, new: NewEvent) -> std::result::Result<i64, NewEvent> {
        self.writer.try_append(new)
    }

    /// Statistics of the log's writer.
    pub fn writer_stats(&self) -> WriterStats {
        self.writer.stats()
    }

    /// Like [`write`](Self::write), with messages for the log: the messages that `queries` push are
    /// numbered and committed in the same transaction, then published before any later message.
    /// Returns their numbers as well.
    ///
    /// # Errors
    /// [`StoreError::LogClosed`] after [`close`](Self::close) if messages were pushed; errors of
    /// `queries` and of the database.
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

    /// Publishes messages in log order, with unique numbers, without storing them: a client that
    /// misses them cannot catch up.
    ///
    /// # Errors
    /// [`StoreError::LogClosed`] after [`close`](Self::close); database errors.
    pub fn announce(&self, messages: Vec<NewEvent>) -> Result<()> {
        self.in_turn(|conn| {
            let numbers = events::number(conn, &messages)?;
            Ok(((), messages, numbers))
        })?;
        Ok(())
    }

    /// Runs one transaction and publishes the messages it numbered.
    fn in_turn<T>(
        &self,
        queries: impl FnOnce(&mut Conn) -> Result<(T, Vec<NewEvent>, Vec<i64>)>,
    ) -> Result<(T, Vec<i64>)> {
        let mut conn = self.connection()?;
        let mut state = self.write_lock.lock();
        let is_closed = state.closed;
        let (value, new, numbers) = self.write_lock.transaction(&mut state, &mut conn, |conn| {
            let done = queries(conn)?;
            match is_closed && !done.2.is_empty() {
                true => Err(StoreError::LogClosed),
                false => Ok(done),
            }
        })?;
        state.numbered(&numbers);
        if !numbers.is_empty()
            && let Some(publish) = self.publish.get()
        {
            publish(Event::numbered(&numbers, new));
        }
        drop(state);
        Ok((value, numbers))
    }
}

#[cfg(test)]
mod tests;
