//! Login sessions, API tokens and one-time links, each found by its token's fingerprint.

use diesel::prelude::*;

use super::schema::{api_tokens, login_sessions, one_time_links, users};
use super::users::User;
use super::{Conn, Moment, Result, UserId};

/// A login session with its account.
#[derive(Debug, Clone)]
pub struct LoginSession {
    /// The account.
    pub user: User,
    /// The CSRF token that the forms of this session carry.
    pub csrf: String,
}

/// Opens a session.
///
/// # Errors
/// Database errors.
pub fn open_session(
    conn: &mut Conn,
    user: UserId,
    fingerprint: &str,
    csrf: &str,
    expires_at: Moment,
) -> Result<()> {
    diesel::insert_into(login_sessions::table)
        .values((
            login_sessions::fingerprint.eq(fingerprint),
            login_sessions::user_id.eq(user),
            login_sessions::csrf.eq(csrf),
            login_sessions::created_at.eq(Moment::now()),
            login_sessions::expires_at.eq(expires_at),
        ))
        .execute(conn)?;
    Ok(())
}

/// The session with this fingerprint, unless it has expired or its account is disabled.
///
/// # Errors
/// Database errors.
pub fn session(conn: &mut Conn, fingerprint: &str) -> Result<Option<LoginSession>> {
    let found: Option<(User, String)> = login_sessions::table
        .inner_join(users::table)
        .filter(login_sessions::fingerprint.eq(fingerprint))
        .filter(login_sessions::expires_at.gt(Moment::now()))
        .filter(users::disabled.eq(false))
        .select((User::as_select(), login_sessions::csrf))
        .first(conn)
        .optional()?;
    Ok(found.map(|(user, csrf)| LoginSession { user, csrf }))
}

/// Ends a session.
///
/// # Errors
/// Database errors.
pub fn close_session(conn: &mut Conn, fingerprint: &str) -> Result<()> {
    diesel::delete(login_sessions::table.find(fingerprint)).execute(conn)?;
    Ok(())
}

/// Deletes expired sessions and links.
///
/// # Errors
/// Database errors.
pub fn sweep(conn: &mut Conn) -> Result<()> {
    let now = Moment::now();
    diesel::delete(login_sessions::table.filter(login_sessions::expires_at.le(now)))
        .execute(conn)?;
    diesel::delete(one_time_links::table.filter(one_time_links::expires_at.le(now)))
        .execute(conn)?;
    Ok(())
}

/// Adds an API token of `user`.
///
/// # Errors
/// Database errors.
pub fn add_token(conn: &mut Conn, user: UserId, fingerprint: &str) -> Result<()> {
    diesel::insert_into(api_tokens::table)
        .values((
            api_tokens::user_id.eq(user),
            api_tokens::fingerprint.eq(fingerprint),
            api_tokens::created_at.eq(Moment::now()),
        ))
        .execute(conn)?;
    Ok(())
}

/// The owner of an API token, unless the account is disabled.
///
/// # Errors
/// Database errors.
pub fn token_owner(conn: &mut Conn, fingerprint: &str) -> Result<Option<User>> {
    Ok(api_tokens::table
        .inner_join(users::table)
        .filter(api_tokens::fingerprint.eq(fingerprint))
        .filter(users::disabled.eq(false))
        .select(User::as_select())
        .first(conn)
        .optional()?)
}

/// Deletes the API tokens of `user` and returns their number.
///
/// # Errors
/// Database errors.
pub fn remove_tokens(conn: &mut Conn, user: UserId) -> Result<usize> {
    Ok(diesel::delete(api_tokens::table.filter(api_tokens::user_id.eq(user))).execute(conn)?)
}

/// Deletes everything that opens the account `user` without its password.
///
/// # Errors
/// Those of the database.
pub fn remove_all(conn: &mut Conn, user: UserId) -> Result<()> {
    remove_tokens(conn, user)?;
    diesel::delete(login_sessions::table.filter(login_sessions::user_id.eq(user))).execute(conn)?;
    diesel::delete(one_time_links::table.filter(one_time_links::user_id.eq(user))).execute(conn)?;
    Ok(())
}

/// Adds a one-time link that logs `user` in or, without a user, sets the installation up.
///
/// # Errors
/// Database errors.
pub fn add_link(
    conn: &mut Conn,
    user: Option<UserId>,
    fingerprint: &str,
    expires_at: Moment,
) -> Result<()> {
    diesel::insert_into(one_time_links::table)
        .values((
            one_time_links::fingerprint.eq(fingerprint),
            one_time_links::user_id.eq(user),
            one_time_links::expires_at.eq(expires_at),
        ))
        .execute(conn)?;
    Ok(())
}

/// True if a set-up link with this fingerprint is open.
///
/// # Errors
/// Database errors.
pub fn setup_link_is_open(conn: &mut Conn, fingerprint: &str) -> Result<bool> {
    Ok(diesel::select(diesel::dsl::exists(
        one_time_links::table
            .find(fingerprint)
            .filter(one_time_links::user_id.is_null())
            .filter(one_time_links::expires_at.gt(Moment::now())),
    ))
    .get_result(conn)?)
}

/// Uses a link up. `None`: no such link, or it has expired or its account is disabled;
/// `Some(None)`: a set-up link.
///
/// # Errors
/// Database errors.
pub fn take_link(conn: &mut Conn, fingerprint: &str) -> Result<Option<Option<User>>> {
    let taken: Option<Option<UserId>> = diesel::delete(
        one_time_links::table
            .find(fingerprint)
            .filter(one_time_links::expires_at.gt(Moment::now())),
    )
    .returning(one_time_links::user_id)
    .get_result(conn)
    .optional()?;
    match taken {
        None => Ok(None),
        Some(None) => Ok(Some(None)),
        Some(Some(id)) => Ok(users::table
            .find(id)
            .filter(users::disabled.eq(false))
            .select(User::as_select())
            .first(conn)
            .optional()?
            .map(Some)),
    }
}
