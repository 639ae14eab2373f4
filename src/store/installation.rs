//! The name of this installation, and which of its releases servers cannot know by it.

use diesel::prelude::*;

use super::schema::meta;
use super::{Conn, ReleaseId, Result};

const NAME: &str = "installation";
const UNMARKED: &str = "unmarked_releases";

/// This installation as servers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Sixteen hexadecimal digits, drawn when the database was made.
    pub name: String,
    /// Releases up to this one came to servers before the name was written there.
    pub unmarked_through: ReleaseId,
}

/// This installation.
///
/// # Errors
/// Those of the database.
pub fn find(conn: &mut Conn) -> Result<Installation> {
    let name = meta::table.find(NAME).select(meta::value).first(conn)?;
    let unmarked: String = meta::table.find(UNMARKED).select(meta::value).first(conn)?;
    Ok(Installation {
        name,
        // A number that cannot be read marks nothing as ours.
        unmarked_through: ReleaseId(unmarked.parse().unwrap_or_default()),
    })
}
