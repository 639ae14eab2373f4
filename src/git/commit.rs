//! Commits as a person picks them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fmt;

use chrono::{DateTime, FixedOffset};
use git2::{ErrorCode, Oid, Repository};
use serde::{Serialize, Serializer};

use super::error::GitError;
use super::mirror::Mirror;

/// The most commits that [`Mirror::commits`] gives at once.
const MAX_COMMITS: usize = 1000;

/// The full id of a commit that is in a mirror: 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommitId(pub(super) git2::Oid);

impl CommitId {
    /// Reads a full id of 40 hex digits, such as one that was stored.
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
    /// The short id, as long as it takes to be unique.
    pub commit: String,
    /// The author's name.
    pub author: String,
    /// The message's first paragraph, on one line.
    pub summary: String,
    /// When it was committed, in the committer's time zone: `2026-11-22 10:00`.
    pub date: String,
    /// The full id.
    pub id: CommitId,
}

impl Commit {
    pub(super) fn read(commit: &git2::Commit<'_>) -> Result<Self, git2::Error> {
        let short = commit.as_object().short_id()?;
        Ok(Self {
            commit: String::from_utf8_lossy(&short).into_owned(),
            author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
            summary: String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default())
                .into_owned(),
            date: date(commit.time()),
            id: CommitId(commit.id()),
        })
    }
}

fn date(time: git2::Time) -> String {
    let zone = FixedOffset::east_opt(time.offset_minutes().saturating_mul(60));
    let zone = zone.or_else(|| FixedOffset::east_opt(0));
    match (DateTime::from_timestamp(time.seconds(), 0), zone) {
        (Some(date), Some(zone)) => date
            .with_timezone(&zone)
            .format("%Y-%m-%d %H:%M")
            .to_string(),
        _ => String::new(),
    }
}

impl Mirror {
    /// The last `limit` commits (at most 1,000) that lead to `revision`, newest first, as
    /// `git log` orders them; fewer where the mirror goes no deeper. Reads without waiting for a
    /// running fetch.
    pub fn commits(&self, revision: &str, limit: usize) -> Result<Vec<Commit>, GitError> {
        let start = self.resolve(revision)?;
        let repository = self.open()?;
        history(&repository, start.id.0, limit).map_err(|error| self.broken(&error))
    }
}

impl Mirror {
    /// The commit that is checked out, or that the host shows first.
    pub fn head(&self) -> Result<Commit, GitError> {
        let repository = self.open()?;
        let head = repository.head().and_then(|head| head.peel_to_commit());
        match head.and_then(|commit| Commit::read(&commit)) {
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                Err(self.unknown("HEAD"))
            }
            read => read.map_err(|error| self.broken(&error)),
        }
    }
}

fn history(repository: &Repository, start: Oid, limit: usize) -> Result<Vec<Commit>, git2::Error> {
    Walk::new(repository, start)
        .take(limit.min(MAX_COMMITS))
        .map(|commit| Commit::read(&commit?))
        .collect()
}

/// Whether `ancestor` is among the commits that lead to `start`.
pub(super) fn leads_to(
    repository: &Repository,
    ancestor: Oid,
    start: Oid,
) -> Result<bool, git2::Error> {
    for commit in Walk::new(repository, start) {
        if commit?.id() == ancestor {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The commits that lead to one, newest first. Not libgit2's own walk: it does not know where a
/// shallow repository ends.
struct Walk<'a> {
    repository: &'a Repository,
    /// By time; of two of the same second, the one that was met first.
    ahead: BinaryHeap<(i64, Reverse<usize>, Oid)>,
    seen: HashSet<Oid>,
}

impl<'a> Walk<'a> {
    fn new(repository: &'a Repository, start: Oid) -> Self {
        Self {
            repository,
            ahead: BinaryHeap::from([(0, Reverse(0), start)]),
            seen: HashSet::from([start]),
        }
    }

    fn step(&mut self, id: Oid) -> Result<git2::Commit<'a>, git2::Error> {
        let commit = self.repository.find_commit(id)?;
        for parent in commit.parent_ids() {
            if !self.seen.insert(parent) {
                continue;
            }
            let met = Reverse(self.seen.len());
            match self.repository.find_commit(parent) {
                Ok(parent) => self.ahead.push((parent.time().seconds(), met, parent.id())),
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

impl<'a> Iterator for Walk<'a> {
    type Item = Result<git2::Commit<'a>, git2::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, _, id) = self.ahead.pop()?;
        Some(self.step(id))
    }
}
