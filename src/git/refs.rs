//! Branches and tags.

use std::collections::HashSet;

use git2::{ErrorCode, Repository};
use serde::Serialize;

use super::commit::CommitId;
use super::error::GitError;
use super::mirror::Mirror;
use super::revision::{HEADS, ORIGIN, TAGS};
use super::{object, revision};

/// A branch or tag and its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ref {
    /// The shortest name that means only this ref: `main`, or `refs/tags/both` if a branch has the
    /// same name.
    pub name: String,
    /// The full name on the git host, such as `refs/heads/main`.
    #[serde(rename = "ref")]
    pub full_name: String,
    /// The full id of its commit; for an annotated tag, the commit that it leads to.
    pub commit: CommitId,
}

/// The branches and tags to choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refs {
    /// Branches by name.
    pub branches: Vec<Ref>,
    /// Tags by name.
    pub tags: Vec<Ref>,
    /// The name of the host's default branch; `None` in an empty repository.
    pub default_branch: Option<String>,
    /// The full names, as far as they are readable, of branches and tags that cannot be released
    /// because their names are not UTF-8.
    pub left_out: Vec<String>,
}

impl Mirror {
    /// Branches and tags as of the last fetch. Tags that lead to no commit are left out. Names that
    /// are not UTF-8 are left out and listed in `left_out`. Does not wait for a running fetch.
    ///
    /// # Errors
    /// [`GitError::NotFetched`], or a mirror that cannot be read.
    pub fn refs(&self) -> Result<Refs, GitError> {
        let repository = self.open()?;
        read(&repository).map_err(|error| self.broken(&error))
    }
}

fn read(repository: &Repository) -> Result<Refs, git2::Error> {
    let mut left_out = Vec::new();
    // A clone has the host's branches as those of its remote.
    let mut prefix = ORIGIN;
    let mut branches = below(repository, prefix, HEADS, &mut left_out)?;
    branches.retain(|branch| branch.name != "HEAD");
    let mut head = repository.find_reference(&format!("{prefix}HEAD"));
    if branches.is_empty() {
        prefix = HEADS;
        branches = below(repository, prefix, HEADS, &mut left_out)?;
        head = repository.find_reference("HEAD");
    }
    let head = match head {
        Err(error) if error.code() == ErrorCode::NotFound => None,
        head => Some(head?),
    };
    // A name that is not UTF-8 is not in the list of branches.
    let target = head.as_ref().and_then(|head| head.symbolic_target().ok()?);
    let default_branch = target
        .and_then(|target| target.strip_prefix(prefix))
        .and_then(|name| branches.iter().position(|branch| branch.name == name));
    let mut tags = below(repository, TAGS, TAGS, &mut left_out)?;
    lengthen(&mut branches, &mut tags);
    Ok(Refs {
        default_branch: default_branch.map(|at| branches[at].name.clone()),
        branches,
        tags,
        left_out,
    })
}

/// Gives a ref its full name if the short one would be taken for something else.
fn lengthen(branches: &mut [Ref], tags: &mut [Ref]) {
    let names =
        |refs: &[Ref]| -> HashSet<String> { refs.iter().map(|one| one.name.clone()).collect() };
    let (of_branches, of_tags) = (names(branches), names(tags));
    for (refs, others) in [(branches, of_tags), (tags, of_branches)] {
        for one in refs {
            if others.contains(&one.name) || revision::is_mistaken(&one.name) {
                one.name.clone_from(&one.full_name);
            }
        }
    }
}

/// The refs below `prefix`, which are below `folder` on the git host, by name.
fn below(
    repository: &Repository,
    prefix: &str,
    folder: &str,
    left_out: &mut Vec<String>,
) -> Result<Vec<Ref>, git2::Error> {
    let odb = repository.odb()?;
    let mut refs = Vec::new();
    for reference in repository.references_glob(&format!("{prefix}*"))? {
        let reference = match reference {
            Ok(reference) => reference,
            // Deleted by a fetch between listing and reading.
            Err(error) if error.code() == ErrorCode::NotFound => continue,
            Err(error) => return Err(error),
        };
        let bytes = reference.name_bytes();
        let Ok(name) = std::str::from_utf8(bytes) else {
            let name = String::from_utf8_lossy(bytes);
            left_out.push(name.replacen(prefix, folder, 1));
            continue;
        };
        let Some(name) = name.strip_prefix(prefix) else {
            continue;
        };
        let target = reference.resolve().ok().and_then(|it| it.target());
        if let Some(Ok(Some(commit))) = target.map(|target| object::commit_of(&odb, target)) {
            refs.push(Ref {
                name: name.to_owned(),
                full_name: format!("{folder}{name}"),
                commit: CommitId(commit),
            });
        }
    }
    refs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(refs)
}
