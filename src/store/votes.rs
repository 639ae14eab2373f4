//! Votes: questions, options with their counts, and ballots.

use diesel::prelude::*;

use super::schema::{ballots, vote_options, votes};
use super::{Conn, Moment, Result, StoreError};

/// A vote without its options.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = votes)]
pub struct VoteRow {
    /// Its name, as in the room `vote/NAME`.
    pub name: String,
    /// The question.
    pub question: String,
    /// `open` or `closed`.
    pub state: String,
    /// The account that opened it.
    pub organiser: String,
    /// Incremented by each change.
    pub version: i64,
    /// The time it was opened.
    pub created_at: Moment,
    /// The time of the last change.
    pub updated_at: Moment,
}

/// An option with its count.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = vote_options)]
pub struct OptionRow {
    /// The vote's name.
    pub vote: String,
    /// Its position, from 1.
    pub place: i32,
    /// The text.
    pub text: String,
    /// The number of ballots for it.
    pub count: i64,
}

/// The vote `name` with its options in order; `None` if there is no such vote.
///
/// # Errors
/// Database errors.
pub fn find(conn: &mut Conn, name: &str) -> Result<Option<(VoteRow, Vec<OptionRow>)>> {
    let vote = votes::table.find(name).select(VoteRow::as_select());
    let Some(vote) = vote.first(conn).optional()? else {
        return Ok(None);
    };
    let options = vote_options::table
        .filter(vote_options::vote.eq(name))
        .order(vote_options::place)
        .select(OptionRow::as_select())
        .load(conn)?;
    Ok(Some((vote, options)))
}

/// The most recently changed votes, each with its number of ballots.
///
/// # Errors
/// Database errors.
pub fn newest(conn: &mut Conn, limit: i64) -> Result<Vec<(VoteRow, i64)>> {
    let rows: Vec<VoteRow> = votes::table
        .order((votes::updated_at.desc(), votes::name))
        .limit(limit)
        .select(VoteRow::as_select())
        .load(conn)?;
    rows.into_iter()
        .map(|vote| {
            let counts: Vec<i64> = vote_options::table
                .filter(vote_options::vote.eq(&vote.name))
                .select(vote_options::count)
                .load(conn)?;
            Ok((vote, counts.iter().sum()))
        })
        .collect()
}

/// The number of votes.
///
/// # Errors
/// Database errors.
pub fn count(conn: &mut Conn) -> Result<i64> {
    Ok(votes::table.count().get_result(conn)?)
}

/// Stores `vote` with these options and no ballots; replaces any vote of that name.
///
/// # Errors
/// Database errors.
pub fn set(conn: &mut Conn, vote: &VoteRow, options: &[String]) -> Result<()> {
    diesel::delete(votes::table.find(&vote.name)).execute(conn)?;
    diesel::insert_into(votes::table)
        .values(vote)
        .execute(conn)?;
    for (place, text) in (1..).zip(options) {
        let option = OptionRow {
            vote: vote.name.clone(),
            place,
            text: text.clone(),
            count: 0,
        };
        diesel::insert_into(vote_options::table)
            .values(option)
            .execute(conn)?;
    }
    Ok(())
}

/// Opens or closes the vote `name`.
///
/// # Errors
/// Database errors.
pub fn set_state(conn: &mut Conn, name: &str, state: &str) -> Result<()> {
    diesel::update(votes::table.find(name))
        .set(votes::state.eq(state))
        .execute(conn)?;
    touch(conn, name)
}

/// The option that `voter` chose.
///
/// # Errors
/// Database errors.
pub fn ballot(conn: &mut Conn, name: &str, voter: &str) -> Result<Option<i32>> {
    let ballot = ballots::table.find((name, voter)).select(ballots::place);
    Ok(ballot.first(conn).optional()?)
}

/// Records that `voter` chooses the option `place` instead of `previous`, and adjusts both counts.
///
/// # Errors
/// [`StoreError::NotFound`] if there is no such option; database errors.
pub fn cast(
    conn: &mut Conn,
    name: &str,
    voter: &str,
    previous: Option<i32>,
    place: i32,
) -> Result<()> {
    diesel::replace_into(ballots::table)
        .values((
            ballots::vote.eq(name),
            ballots::voter.eq(voter),
            ballots::place.eq(place),
        ))
        .execute(conn)?;
    if let Some(previous) = previous {
        add(conn, name, previous, -1)?;
    }
    add(conn, name, place, 1)?;
    touch(conn, name)
}

fn add(conn: &mut Conn, name: &str, place: i32, by: i64) -> Result<()> {
    let changed = diesel::update(vote_options::table.find((name, place)))
        .set(vote_options::count.eq(vote_options::count + by))
        .execute(conn)?;
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::NotFound {
            what: "option",
            id: format!("{name}/{place}"),
        }),
    }
}

fn touch(conn: &mut Conn, name: &str) -> Result<()> {
    diesel::update(votes::table.find(name))
        .set((
            votes::version.eq(votes::version + 1),
            votes::updated_at.eq(Moment::now()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Deletes votes unchanged since `oldest`.
///
/// # Errors
/// Database errors.
pub fn sweep(conn: &mut Conn, oldest: Moment) -> Result<()> {
    diesel::delete(votes::table.filter(votes::updated_at.lt(oldest))).execute(conn)?;
    Ok(())
}
