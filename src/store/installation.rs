//! The name of this installation, and the releases that carry no such name on servers.

use diesel::prelude::*;

use super::schema::meta;
use super::{Conn, ReleaseId, Result};

const NAME: &str = "installation";
const UNMARKED: &str = "unmarked_releases";

/// The identity of this installation on servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Sixteen hexadecimal digits, chosen at random when the database was created.
    pub name: String,
    /// The last release that servers received before the name was written there.
    pub unmarked_through: ReleaseId,
}

/// This installation.
///
/// # Errors
/// Database errors.
pub fn find(conn: &mut Conn) -> Result<Installation> {
    let name = meta::table.find(NAME).select(meta::value).first(conn)?;
    let unmarked: String = meta::table.find(UNMARKED).select(meta::value).first(conn)?;
    Ok(Installation {
        name,
        // An unreadable number claims no release as ours.
        unmarked_through: ReleaseId(unmarked.parse().unwrap_or_default()),
    })
}
