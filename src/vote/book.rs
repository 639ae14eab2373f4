//! Votes in the store, published to their rooms: each change in one transaction with its message.

use serde_json::Value;

use super::{Counted, Question, Vote, Voter};
use crate::store::votes::{self, OptionRow, VoteRow};
use crate::store::{Conn, Moment, NewEvent, Store, StoreError};

/// The maximum number of votes kept.
const MOST_VOTES: i64 = 1000;
/// The time that an unchanged vote is kept, in days.
const KEPT_DAYS: i64 = 90;
const DAY_SECONDS: i64 = 24 * 60 * 60;
const OPEN: &str = "open";
const CLOSED: &str = "closed";

/// The reason that a vote rejects a change.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// There is no vote of this name.
    #[error("there is no such vote")]
    Unknown,
    /// The vote is closed.
    #[error("the vote is closed")]
    Closed,
    /// There is no such option.
    #[error("there is no such option")]
    NoSuchOption,
    /// Somebody else opened the vote.
    #[error("somebody else opened this vote")]
    NotOrganiser,
    /// The maximum number of votes is reached.
    #[error("there are too many votes")]
    TooMany,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The votes of one store. Every call blocks.
#[derive(Clone, Copy)]
pub struct Votes<'a>(&'a Store);

impl<'a> Votes<'a> {
    /// The votes of `store`.
    pub fn of(store: &'a Store) -> Votes<'a> {
        Votes(store)
    }

    /// The vote `name`; none if there is no such vote.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn find(self, name: &str) -> Result<Option<Vote>, StoreError> {
        self.0.read(|conn| read(conn, name))
    }

    /// The vote `name` and the choice of `voter` in it, read together.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn find_with_ballot(
        self,
        name: &str,
        voter: &Voter,
    ) -> Result<Option<(Vote, Option<i32>)>, StoreError> {
        self.0.read(|conn| {
            let Some(vote) = read(conn, name)? else {
                return Ok(None);
            };
            Ok(Some((vote, votes::ballot(conn, name, voter.as_str())?)))
        })
    }

    /// The votes that changed last, each with its number of ballots; their options are left empty.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn newest(self, limit: i64) -> Result<Vec<(Vote, i64)>, StoreError> {
        let rows = self.0.read(|conn| votes::newest(conn, limit))?;
        let vote = |(row, total)| (vote(row, Vec::new()), total);
        Ok(rows.into_iter().map(vote).collect())
    }

    /// Opens the vote `name` with `question`, replacing the question and ballots it had. `who` becomes
    /// its organiser if it is new.
    ///
    /// # Errors
    /// [`VoteError::NotOrganiser`] if it belongs to somebody else, [`VoteError::TooMany`] if no more
    /// votes are kept, [`VoteError::Store`].
    pub fn set(self, name: &str, question: Question, who: &Voter) -> Result<Vote, VoteError> {
        self.change(name, |conn, present| {
            let now = Moment::now();
            let row = match present {
                Some(vote) if !vote.may_organise(who) => return Err(VoteError::NotOrganiser),
                None if votes::count(conn)? >= MOST_VOTES => return Err(VoteError::TooMany),
                present => VoteRow {
                    name: name.to_owned(),
                    question: question.text,
                    state: OPEN.to_owned(),
                    organiser: present
                        .map_or(who.as_str(), |vote| &vote.organiser)
                        .to_owned(),
                    version: present.map_or(0, |vote| vote.version) + 1,
                    created_at: now,
                    updated_at: now,
                },
            };
            votes::set(conn, &row, &question.options)?;
            Ok(Some(Vote::whole))
        })
        .map(|(vote, _)| vote)
    }

    /// Closes the vote `name`, or reopens it with the ballots it has.
    ///
    /// # Errors
    /// [`VoteError::Unknown`], [`VoteError::NotOrganiser`], [`VoteError::Store`].
    pub fn set_open(self, name: &str, open: bool, who: &Voter) -> Result<Vote, VoteError> {
        self.change(name, |conn, present| {
            let vote = present.ok_or(VoteError::Unknown)?;
            if !vote.may_organise(who) {
                return Err(VoteError::NotOrganiser);
            }
            if vote.open == open {
                return Ok(None);
            }
            votes::set_state(conn, name, if open { OPEN } else { CLOSED })?;
            Ok(Some(Vote::counts))
        })
        .map(|(vote, _)| vote)
    }

    /// Casts the ballot of `voter` for the option `choice` (from 1), replacing any earlier one. The
    /// second value is the number of the message about it.
    ///
    /// # Errors
    /// [`VoteError::Unknown`], [`VoteError::Closed`], [`VoteError::NoSuchOption`],
    /// [`VoteError::Store`].
    pub fn cast(self, name: &str, voter: &Voter, choice: u32) -> Result<(Vote, i64), VoteError> {
        self.change(name, |conn, present| {
            let vote = present.ok_or(VoteError::Unknown)?;
            if !vote.open {
                return Err(VoteError::Closed);
            }
            if !vote.has(choice) {
                return Err(VoteError::NoSuchOption);
            }
            let place = i32::try_from(choice).map_err(|_| VoteError::NoSuchOption)?;
            let previous = votes::ballot(conn, name, voter.as_str())?;
            votes::cast(conn, name, voter.as_str(), previous, place)?;
            Ok(Some(Vote::counts))
        })
    }

    /// Deletes votes unchanged for 90 days.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn sweep(self) -> Result<(), StoreError> {
        let oldest = Moment::now().plus_seconds(-KEPT_DAYS * DAY_SECONDS);
        self.0.write(|conn| votes::sweep(conn, oldest))
    }

    /// Lets `change` read and write the vote; the message that it returns is built from the changed
    /// vote. The message carries no sender, which would reveal who chose what. The second value is the
    /// message's number, 0 if there is none.
    fn change(
        self,
        name: &str,
        change: impl FnOnce(&mut Conn, Option<&Vote>) -> Result<Option<Told>, VoteError>,
    ) -> Result<(Vote, i64), VoteError> {
        let mut refused = None;
        let (vote, numbers) = self.0.record(|conn, log| {
            let present = read(conn, name)?;
            let told = match change(conn, present.as_ref()) {
                Ok(told) => told,
                Err(VoteError::Store(error)) => return Err(error),
                Err(refusal) => {
                    refused = Some(refusal);
                    None
                }
            };
            let Some(told) = told else {
                return Ok(present);
            };
            let vote = read(conn, name)?;
            log.extend(vote.as_ref().map(|vote| NewEvent {
                room: format!("vote/{name}"),
                kind: "vote".to_owned(),
                sender: String::new(),
                data: told(vote).to_string(),
                at: Moment::now(),
            }));
            Ok(vote)
        })?;
        match refused {
            Some(refusal) => Err(refusal),
            None => {
                let number = numbers.first().copied().unwrap_or_default();
                Ok((vote.ok_or(VoteError::Unknown)?, number))
            }
        }
    }
}

/// Builds the room's message about a changed vote.
type Told = fn(&Vote) -> Value;

fn read(conn: &mut Conn, name: &str) -> Result<Option<Vote>, StoreError> {
    Ok(votes::find(conn, name)?.map(|(row, options)| vote(row, options)))
}

fn vote(row: VoteRow, options: Vec<OptionRow>) -> Vote {
    let counted = |option: OptionRow| Counted {
        text: option.text,
        count: option.count,
    };
    Vote {
        name: row.name,
        question: row.question,
        open: row.state == OPEN,
        options: options.into_iter().map(counted).collect(),
        version: row.version,
        organiser: row.organiser,
    }
}
