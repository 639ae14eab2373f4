//! Inspects the database before anything is written to it.
//!
//! A refused database is left unchanged, so that its content may be recovered: the inspection uses
//! one read-only connection and creates no `-wal` and `-shm` files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Conn, Durability, Result, Store, StoreError};

/// Tables of which at least one has a row in every used database.
const USED_TABLES: [&str; 5] = ["users", "credentials", "servers", "projects", "log_epochs"];
/// The key in `meta` under which older versions stored the content of `log_epochs`.
const LOG_BIRTH: &str = "log_birth";

/// Characters with a special meaning in a URI.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The result of an inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is no file.
    Missing,
    /// The file has 0 bytes.
    Empty,
    /// There is a database.
    Some(Findings),
}

/// The content of a database, as far as a start depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The sealed check value of the key, see [`key_check`](super::key_check).
    pub key_check: Option<Vec<u8>>,
    /// A secret of a credential, sealed, if there is any.
    pub sealed: Option<Vec<u8>>,
    /// A server has run on it.
    pub was_served: bool,
    /// It has accounts, servers, projects or credentials, or a server has run on it.
    pub was_used: bool,
}

/// An inspected database, which may be opened.
#[derive(Debug)]
pub struct Inspection {
    path: PathBuf,
    content: Content,
}

impl Inspection {
    /// Inspects the database at `path`.
    ///
    /// # Errors
    /// [`StoreError::Open`] if it cannot be read or is not a database.
    pub fn of(path: &Path) -> Result<Self> {
        let failed = |cause: String| StoreError::Open {
            path: path.display().to_string(),
            cause,
        };
        let content = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Missing,
            Err(error) => return Err(failed(error.to_string())),
            // Opening a pipe would block until another process writes into it.
            Ok(about) if !about.is_file() => return Err(failed("it is not a file".to_owned())),
            Ok(about) if about.len() == 0 => Content::Empty,
            Ok(_) => {
                let mut conn = read_only(path).map_err(failed)?;
                let found = findings(&mut conn).map_err(|error| failed(error.to_string()))?;
                Content::Some(found)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// The content of the database.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Refuses a damaged database. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError::Open`] with the first damage.
    pub fn check_soundness(&self) -> Result<()> {
        #[derive(QueryableByName)]
        struct Finding {
            #[diesel(sql_type = diesel::sql_types::Text)]
            quick_check: String,
        }
        if !matches!(self.content, Content::Some(_)) {
            return Ok(());
        }
        let failed = |cause: String| StoreError::Open {
            path: self.path.display().to_string(),
            cause,
        };
        let mut conn = read_only(&self.path).map_err(failed)?;
        let findings: Vec<Finding> = diesel::sql_query("PRAGMA quick_check(1)")
            .load(&mut conn)
            .map_err(|error| failed(error.to_string()))?;
        match findings.first() {
            Some(first) if first.quick_check != "ok" => {
                let what = first.quick_check.replace('\n', " ");
                Err(failed(format!("the file is damaged: {what}")))
            }
            _ => Ok(()),
        }
    }

    /// Opens the database; creates it or migrates it to the current schema first.
    ///
    /// # Errors
    /// [`StoreError::Open`] if the database cannot be created, migrated or opened.
    pub fn open(&self, durability: Durability) -> Result<Store> {
        Store::open_inspected(&self.path, durability)
    }
}

/// A connection that writes nothing, not even the index of the write-ahead log, which SQLite
/// creates if it is missing.
fn read_only(path: &Path) -> std::result::Result<Conn, String> {
    let has_log = fs::metadata(beside(path, "-wal")).is_ok_and(|about| about.len() > 0);
    let has_index = beside(path, "-shm").exists();
    let mode = match (has_log, has_index) {
        // Without a log, the file is the whole database.
        (false, _) => "immutable=1",
        (true, true) => "mode=ro",
        // The index would exist if another process had the database open, so no locks are needed,
        // and the index is kept in memory.
        (true, false) => "mode=ro&vfs=unix-none",
    };
    let text = path.to_str().ok_or("the path is not UTF-8")?;
    let url = format!("file:{}?{mode}", utf8_percent_encode(text, RESERVED));
    let mut conn = Conn::establish(&url).map_err(|error| error.to_string())?;
    let locking = if has_index { "NORMAL" } else { "EXCLUSIVE" };
    let busy = super::BUSY.as_millis();
    conn.batch_execute(&format!(
        "PRAGMA busy_timeout = {busy}; PRAGMA locking_mode = {locking};"
    ))
    .map_err(|error| error.to_string())?;
    Ok(conn)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Reads databases of every version: missing tables count as empty.
fn findings(conn: &mut Conn) -> QueryResult<Findings> {
    let has_birth = has_table(conn, "meta")?
        && exists(
            conn,
            &format!("SELECT 1 AS one FROM meta WHERE key = '{LOG_BIRTH}'"),
        )?;
    let mut found = Findings {
        key_check: blob(conn, "key_check", "SELECT sealed FROM key_check")?,
        sealed: blob(
            conn,
            "credentials",
            "SELECT secret AS sealed FROM credentials LIMIT 1",
        )?,
        was_served: has_birth || has_row(conn, "log_epochs")?,
        was_used: has_birth,
    };
    for table in USED_TABLES {
        found.was_used |= has_row(conn, table)?;
    }
    Ok(found)
}

fn has_table(conn: &mut Conn, table: &str) -> QueryResult<bool> {
    let of_this_name = "SELECT 1 AS one FROM sqlite_master WHERE type = 'table' AND name = ";
    exists(conn, &format!("{of_this_name}'{table}'"))
}

fn has_row(conn: &mut Conn, table: &str) -> QueryResult<bool> {
    Ok(has_table(conn, table)? && exists(conn, &format!("SELECT 1 AS one FROM {table} LIMIT 1"))?)
}

fn exists(conn: &mut Conn, query: &str) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct One {
        #[diesel(sql_type = diesel::sql_types::Integer)]
        #[allow(dead_code)]
        one: i32,
    }
    let row: Option<One> = diesel::sql_query(query).get_result(conn).optional()?;
    Ok(row.is_some())
}

fn blob(conn: &mut Conn, table: &str, query: &str) -> QueryResult<Option<Vec<u8>>> {
    #[derive(QueryableByName)]
    struct Sealed {
        #[diesel(sql_type = diesel::sql_types::Binary)]
        sealed: Vec<u8>,
    }
    if !has_table(conn, table)? {
        return Ok(None);
    }
    let row: Option<Sealed> = diesel::sql_query(query).get_result(conn).optional()?;
    Ok(row.map(|row| row.sealed))
}
