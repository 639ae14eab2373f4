//! Branches and tags.

use git2::{ErrorCode, Repository};
use serde::Serialize;

use super::commit::CommitId;
use super::error::GitError;
use super::mirror::Mirror;

/// A branch or tag and its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ref {
    /// The short name, such as `main` or `v1.0`.
    pub name: String,
    /// The full id of its commit; of an annotated tag, the commit that it leads to.
    pub commit: CommitId,
}

/// What a repository has to pick from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refs {
    /// Branches by name.
    pub branches: Vec<Ref>,
    /// Tags by name.
    pub tags: Vec<Ref>,
    /// The branch that the git host shows first; none in an empty repository.
    pub default_branch: Option<String>,
}

impl Mirror {
    /// Branches and tags as of the last fetch. Tags that lead to no commit and names that are not
    /// UTF-8 are left out. Reads without waiting for a running fetch.
    pub fn refs(&self) -> Result<Refs, GitError> {
        let repository = self.open()?;
        read(&repository).map_err(|error| self.broken(&error))
    }
}

fn read(repository: &Repository) -> Result<Refs, git2::Error> {
    // A clone has the host's branches as those of its remote.
    let mut prefix = "refs/remotes/origin/";
    let mut branches = below(repository, prefix)?;
    branches.retain(|branch| branch.name != "HEAD");
    let mut head = repository.find_reference(&format!("{prefix}HEAD"));
    if branches.is_empty() {
        prefix = "refs/heads/";
        branches = below(repository, prefix)?;
        head = repository.find_reference("HEAD");
    }
    let head = match head {
        Err(error) if error.code() == ErrorCode::NotFound => None,
        head => Some(head?),
    };
    let target = match &head {
        Some(head) => head.symbolic_target()?,
        None => None,
    };
    let default_branch = target
        .and_then(|target| target.strip_prefix(prefix))
        .filter(|name| branches.iter().any(|branch| branch.name == *name))
        .map(str::to_owned);
    Ok(Refs {
        branches,
        tags: below(repository, "refs/tags/")?,
        default_branch,
    })
}

fn below(repository: &Repository, prefix: &str) -> Result<Vec<Ref>, git2::Error> {
    let mut refs = Vec::new();
    for reference in repository.references_glob(&format!("{prefix}*"))? {
        let reference = match reference {
            Ok(reference) => reference,
            // Deleted by a fetch between listing and reading.
            Err(error) if error.code() == ErrorCode::NotFound => continue,
            Err(error) => return Err(error),
        };
        let Some(name) = reference
            .name()
            .ok()
            .and_then(|name| name.strip_prefix(prefix))
        else {
            continue;
        };
        if let Ok(commit) = reference.peel_to_commit() {
            refs.push(Ref {
                name: name.to_owned(),
                commit: CommitId(commit.id()),
            });
        }
    }
    refs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(refs)
}
