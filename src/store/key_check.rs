//! A value encrypted with the key of the installation, which shows if the database and the key
//! belong together.

use diesel::prelude::*;

use super::schema::key_check;
use super::{Conn, Result};

/// The purpose for which the value is encrypted.
pub const PURPOSE: &str = "key check";
/// The value.
pub const VALUE: &[u8] = b"longshore";

/// The one row's id.
const ROW: i32 = 1;

/// The sealed value, if there is one.
///
/// # Errors
/// Those of the database.
pub fn find(conn: &mut Conn) -> Result<Option<Vec<u8>>> {
    let sealed = key_check::table.find(ROW).select(key_check::sealed);
    Ok(sealed.first(conn).optional()?)
}

/// Stores the encrypted value; an existing one is kept.
///
/// # Errors
/// Those of the database.
pub fn add(conn: &mut Conn, sealed: &[u8]) -> Result<()> {
    diesel::insert_or_ignore_into(key_check::table)
        .values((key_check::id.eq(ROW), key_check::sealed.eq(sealed)))
        .execute(conn)?;
    Ok(())
}
