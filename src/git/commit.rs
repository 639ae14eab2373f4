//! Commits to choose from.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt;

use chrono::{DateTime, FixedOffset};
use git2::{ErrorClass, ErrorCode, Odb, Oid, Repository};
use serde::{Serialize, Serializer};

use super::error::GitError;
use super::mirror::Mirror;
use super::object::{self, CommitObject};

/// The most commits that [`Mirror::commits`] returns at once.
const MAX_COMMITS: usize = 1000;

/// The full id of a commit that is in a mirror: 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommitId(pub(super) git2::Oid);

impl CommitId {
    /// Parses a full id of 40 hex digits, such as a stored one.
    ///
    /// # Errors
    /// [`GitError::InvalidRevision`] for anything else.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        match git2::Oid::from_str(text) {
            Ok(oid) if text.len() == 40 => Ok(Self(oid)),
            _ => Err(super::revision::invalid(text)),
        }
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CommitId({})", self.0)
    }
}

impl Serialize for CommitId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A commit, in the form in which the API and the pages show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// The shortest unique prefix of the id, of seven digits or more.
    pub commit: String,
    /// The author's name.
    pub author: String,
    /// The message's first paragraph, on one line.
    pub summary: String,
    /// The commit time, in the committer's time zone: `2026-11-22 10:00`.
    pub date: String,
    /// The full id.
    pub id: CommitId,
}

impl Commit {
    pub(super) fn read(odb: &Odb<'_>, commit: &CommitObject) -> Result<Self, git2::Error> {
        Ok(Self {
            commit: object::short(odb, commit.id)?,
            author: commit.author(),
            summary: commit.summary(),
            date: date(commit),
            id: CommitId(commit.id),
        })
    }
}

fn date(commit: &CommitObject) -> String {
    let zone = FixedOffset::east_opt(commit.offset_minutes.saturating_mul(60));
    let zone = zone.or_else(|| FixedOffset::east_opt(0));
    match (DateTime::from_timestamp(commit.seconds, 0), zone) {
        (Some(date), Some(zone)) => date
            .with_timezone(&zone)
            .format("%Y-%m-%d %H:%M")
            .to_string(),
        _ => String::new(),
    }
}

impl Mirror {
    /// The last `limit` commits (at most 1,000) that lead to `revision`, newest first, in the order
    /// of `git log`; fewer if the mirror goes no deeper. Does not wait for a running fetch.
    ///
    /// # Errors
    /// Those of [`Mirror::resolve`], or a mirror that cannot be read.
    pub fn commits(&self, revision: &str, limit: usize) -> Result<Vec<Commit>, GitError> {
        let start = self.resolve(revision)?;
        let repository = self.open()?;
        history(&repository, start.id.0, limit).map_err(|error| self.broken(&error))
    }
}

impl Mirror {
    /// The commit that is checked out, or the tip of the host's default branch.
    ///
    /// # Errors
    /// [`GitError::UnknownRevision`] if there is none, or a mirror that cannot be read.
    pub fn head(&self) -> Result<Commit, GitError> {
        let repository = self.open()?;
        match read_head(&repository) {
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                Err(self.unknown("HEAD"))
            }
            read => read.map_err(|error| self.broken(&error)),
        }
    }
}

fn read_head(repository: &Repository) -> Result<Commit, git2::Error> {
    let absent = || git2::Error::new(ErrorCode::NotFound, ErrorClass::Reference, "no commit");
    let head = repository.head()?.resolve()?.target().ok_or_else(absent)?;
    let odb = repository.odb()?;
    let id = object::commit_of(&odb, head)?.ok_or_else(absent)?;
    Commit::read(&odb, &CommitObject::read(&odb, id)?)
}

fn history(repository: &Repository, start: Oid, limit: usize) -> Result<Vec<Commit>, git2::Error> {
    let odb = repository.odb()?;
    Walk::new(repository, &odb, start)
        .take(limit.min(MAX_COMMITS))
        .map(|commit| Commit::read(&odb, &commit?))
        .collect()
}

/// True if `ancestor` is among the commits that lead to `start`.
pub(super) fn leads_to(
    repository: &Repository,
    ancestor: Oid,
    start: Oid,
) -> Result<bool, git2::Error> {
    let odb = repository.odb()?;
    for commit in Walk::new(repository, &odb, start) {
        if commit?.id == ancestor {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The commits that lead to one, newest first. Replaces libgit2's own walk, which does not know
/// where a shallow repository ends.
struct Walk<'a> {
    repository: &'a Repository,
    odb: &'a Odb<'a>,
    /// Ordered by time; within one second, by the order in which they were found.
    ahead: BinaryHeap<(i64, Reverse<usize>, Oid)>,
    seen: HashSet<Oid>,
}

impl<'a> Walk<'a> {
    fn new(repository: &'a Repository, odb: &'a Odb<'a>, start: Oid) -> Self {
        Self {
            repository,
            odb,
            ahead: BinaryHeap::from([(0, Reverse(0), start)]),
            seen: HashSet::from([start]),
        }
    }

    fn step(&mut self, id: Oid) -> Result<CommitObject, git2::Error> {
        let commit = CommitObject::read(self.odb, id)?;
        for parent in commit.parents.iter().copied() {
            if !self.seen.insert(parent) {
                continue;
            }
            let met = Reverse(self.seen.len());
            match CommitObject::read(self.odb, parent) {
                Ok(parent) => self.ahead.push((parent.seconds, met, parent.id)),
                Err(error) if is_below(self.repository, &error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(commit)
    }
}

fn is_below(repository: &Repository, error: &git2::Error) -> bool {
    error.code() == ErrorCode::NotFound && repository.is_shallow()
}

impl Iterator for Walk<'_> {
    type Item = Result<CommitObject, git2::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, _, id) = self.ahead.pop()?;
        Some(self.step(id))
    }
}
