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
    /// In PHC string format, see `auth`.
    #[serde(skip)]
    pub password_hash: String,
    /// What it may do.
    pub role: Role,
    /// A disabled account's sessions and tokens open nothing.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Moment,
}

/// Adds an account; [`StoreError::Taken`] names `name`.
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
pub fn by_name(conn: &mut Conn, name: &str) -> Result<Option<User>> {
    Ok(users::table
        .filter(users::name.eq(name))
        .select(User::as_select())
        .first(conn)
        .optional()?)
}

/// Disables an account or enables it again.
pub fn set_disabled(conn: &mut Conn, id: UserId, disabled: bool) -> Result<()> {
    diesel::update(users::table.find(id))
        .set(users::disabled.eq(disabled))
        .execute(conn)?;
    Ok(())
}

/// Gives an account another role.
pub fn set_role(conn: &mut Conn, id: UserId, role: Role) -> Result<()> {
    diesel::update(users::table.find(id))
        .set(users::role.eq(role))
        .execute(conn)?;
    Ok(())
}

/// Whether there is no account at all, as in a new installation.
pub fn none(conn: &mut Conn) -> Result<bool> {
    Ok(users::table.count().get_result::<i64>(conn)? == 0)
}
