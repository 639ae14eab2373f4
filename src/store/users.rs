//! Accounts.

use diesel::prelude::*;
use serde::Serialize;

use super::schema::users;
use super::{Conn, Moment, Result, Role, StoreError, UserId};

/// An account.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = users)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The name to log in with, unique.
    pub name: String,
    /// The password's hash in PHC string format, see `auth`.
    #[serde(skip)]
    pub password_hash: String,
    /// The role.
    pub role: Role,
    /// True if its sessions and tokens are rejected.
    pub disabled: bool,
    /// The creation time.
    pub created_at: Moment,
}

/// Adds an account.
///
/// # Errors
/// [`StoreError::Taken`] of `name`; database errors.
pub fn add(conn: &mut Conn, name: &str, password_hash: &str, role: Role) -> Result<User> {
    diesel::insert_into(users::table)
        .values((
            users::name.eq(name),
            users::password_hash.eq(password_hash),
            users::role.eq(role),
            users::disabled.eq(false),
            users::created_at.eq(Moment::now()),
        ))
        .returning(User::as_returning())
        .get_result(conn)
        .map_err(StoreError::taken("name"))
}

/// The account with this name, disabled or not.
///
/// # Errors
/// Database errors.
pub fn by_name(conn: &mut Conn, name: &str) -> Result<Option<User>> {
    Ok(users::table
        .filter(users::name.eq(name))
        .select(User::as_select())
        .first(conn)
        .optional()?)
}

/// Disables or enables an account.
///
/// # Errors
/// Database errors.
pub fn set_disabled(conn: &mut Conn, id: UserId, disabled: bool) -> Result<()> {
    diesel::update(users::table.find(id))
        .set(users::disabled.eq(disabled))
        .execute(conn)?;
    Ok(())
}

/// Gives an account another role.
///
/// # Errors
/// Database errors.
pub fn set_role(conn: &mut Conn, id: UserId, role: Role) -> Result<()> {
    diesel::update(users::table.find(id))
        .set(users::role.eq(role))
        .execute(conn)?;
    Ok(())
}

/// True if no account exists, as in a new installation.
///
/// # Errors
/// Database errors.
pub fn none(conn: &mut Conn) -> Result<bool> {
    Ok(users::table.count().get_result::<i64>(conn)? == 0)
}
