//! The distance between two commits.

use git2::ErrorCode;

use super::commit::CommitId;
use super::error::GitError;
use super::mirror::Mirror;

/// The number of commits between two others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    /// Commits that lead to the second one and not to the first.
    pub added: usize,
    /// Commits that lead to the first one and not to the second.
    pub removed: usize,
}

impl Mirror {
    /// The commits between `from` and `to`, as `git rev-list --left-right --count from...to` counts
    /// them; `None` if the mirror does not have both. Never fetches.
    ///
    /// # Errors
    /// A mirror that cannot be read.
    pub fn distance(&self, from: &CommitId, to: &CommitId) -> Result<Option<Distance>, GitError> {
        let repository = self.open()?;
        let has = |id: &CommitId| repository.find_commit(id.0).is_ok();
        if !has(from) || !has(to) {
            return Ok(None);
        }
        match repository.graph_ahead_behind(to.0, from.0) {
            Ok((added, removed)) => Ok(Some(Distance { added, removed })),
            // The history of a shallow mirror ends before the two meet.
            Err(error) if error.code() == ErrorCode::NotFound && repository.is_shallow() => {
                Ok(None)
            }
            Err(error) => match self.broken(&error) {
                GitError::Malformed { .. } => Ok(None),
                broken => Err(broken),
            },
        }
    }
}
