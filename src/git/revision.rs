//! Revisions: the names of commits as a user gives them.

use git2::{ErrorCode, Odb, Oid, Repository};

use super::commit::Commit;
use super::error::GitError;
use super::mirror::Mirror;
use super::object::{self, CommitObject};

/// The longest full name, in bytes; libgit2 accepts no longer one.
const MAX_LENGTH: usize = 1023;
/// The longest part between slashes, in bytes: file systems store no longer one.
const LONGEST_PART: usize = 255;
/// The shortest prefix of a commit's id that counts as an id, as in git.
const MIN_ID_LENGTH: usize = 4;
/// The length of a full id.
const ID_LENGTH: usize = 40;

pub(super) const HEADS: &str = "refs/heads/";
pub(super) const TAGS: &str = "refs/tags/";
/// The branches of a clone's remote.
pub(super) const ORIGIN: &str = "refs/remotes/origin/";

/// A commit, and the full name of the ref that led to it; an id has none.
pub(super) struct Located {
    pub(super) name: Option<String>,
    pub(super) commit: Oid,
}

impl Mirror {
    /// The commit that `revision` names: a full id, a full name such as `refs/tags/v1`, a branch, a
    /// tag (annotated ones lead to their commit), a branch of a clone's remote (also as
    /// `origin/main`, if the clone has a `main` of its own), `tags/v1`, or the prefix of an id, in
    /// this order.
    ///
    /// # Errors
    /// [`GitError::InvalidRevision`], before anything is opened, for a text that is no name
    /// (options, ranges, `HEAD:x`, `@{-1}`, spaces); [`GitError::UnknownRevision`] for a name that
    /// leads to no commit.
    pub fn resolve(&self, revision: &str) -> Result<Commit, GitError> {
        check(revision)?;
        let repository = self.open()?;
        let read = |found: Located| {
            let odb = repository.odb()?;
            Commit::read(&odb, &CommitObject::read(&odb, found.commit)?)
        };
        match locate(&repository, revision).and_then(|found| found.map(read).transpose()) {
            Ok(Some(commit)) => Ok(commit),
            Ok(None) => Err(self.unknown(revision)),
            Err(error) => Err(self.broken(&error)),
        }
    }
}

/// Checks `revision` against the rules of git-check-ref-format(1): a full name below `refs/`, or a
/// short one, which must not be `@` or start with a dash. Every other name that git allows is
/// accepted: names are never pasted into a command, and hooks receive them in their environment.
///
/// # Errors
/// [`GitError::InvalidRevision`].
pub fn check(revision: &str) -> Result<(), GitError> {
    let is_short = !revision.starts_with('-') && revision != "@";
    if is_short && is_ref(revision) {
        Ok(())
    } else {
        Err(invalid(revision))
    }
}

/// The rules common to names of every kind.
fn is_ref(name: &str) -> bool {
    let is_refused = |byte: u8| byte <= b' ' || byte == 0x7f || b"~^:?*[\\".contains(&byte);
    let is_part = |part: &str| {
        (1..=LONGEST_PART).contains(&part.len())
            && !part.starts_with('.')
            && !part.ends_with(".lock")
    };
    name.len() <= MAX_LENGTH - HEADS.len()
        && !name.bytes().any(is_refused)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.split('/').all(is_part)
}

pub(super) fn invalid(revision: &str) -> GitError {
    GitError::InvalidRevision {
        revision: revision.chars().take(MAX_LENGTH).collect(),
    }
}

/// True if [`locate`] would not take `name`, that of a branch or tag, for a short name.
pub(super) fn is_mistaken(name: &str) -> bool {
    check(name).is_err() || name.starts_with("refs/") || is_id(name) && name.len() == ID_LENGTH
}

fn is_id(text: &str) -> bool {
    (MIN_ID_LENGTH..=ID_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The target of `revision`, in the order of [`Mirror::resolve`].
pub(super) fn locate(
    repository: &Repository,
    revision: &str,
) -> Result<Option<Located>, git2::Error> {
    let odb = repository.odb()?;
    if is_id(revision) && revision.len() == ID_LENGTH {
        return by_id(&odb, revision);
    }
    for name in names(revision) {
        let Some(reference) = absent_is_none(repository.find_reference(&name))? else {
            continue;
        };
        // The target of a ref that leads nowhere, such as a remote's HEAD whose branch was deleted.
        let Some(target) = absent_is_none(reference.resolve())?.and_then(|it| it.target()) else {
            continue;
        };
        // A tag of a file or tree has no commit to release.
        if let Some(commit) = object::commit_of(&odb, target)? {
            let name = Some(name);
            return Ok(Some(Located { name, commit }));
        }
    }
    match is_id(revision) {
        true => by_id(&odb, revision),
        false => Ok(None),
    }
}

/// The full names that `revision` may stand for.
fn names(revision: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(branch) = revision.strip_prefix(HEADS) {
        // In a clone the host's branches are those of the remote.
        names.extend([revision.to_owned(), format!("{ORIGIN}{branch}")]);
    } else if revision.starts_with(TAGS) || revision.starts_with(ORIGIN) {
        names.push(revision.to_owned());
    }
    names.extend([HEADS, TAGS, ORIGIN].map(|folder| format!("{folder}{revision}")));
    if revision.starts_with("heads/") || revision.starts_with("tags/") {
        names.push(format!("refs/{revision}"));
    }
    if revision.starts_with("origin/") {
        names.push(format!("refs/remotes/{revision}"));
    }
    names
}

/// The commit whose id starts with `digits`. An id that does not exist, names another kind of
/// object, or is ambiguous leads to none.
fn by_id(odb: &Odb<'_>, digits: &str) -> Result<Option<Located>, git2::Error> {
    let prefix = Oid::from_str(digits)?;
    let Some(id) = absent_is_none(odb.exists_prefix(prefix, digits.len()))? else {
        return Ok(None);
    };
    let found = absent_is_none(CommitObject::read(odb, id))?;
    Ok(found.map(|commit| Located {
        name: None,
        commit: commit.id,
    }))
}

fn absent_is_none<T>(found: Result<T, git2::Error>) -> Result<Option<T>, git2::Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(
                error.code(),
                ErrorCode::NotFound | ErrorCode::Ambiguous | ErrorCode::InvalidSpec
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
