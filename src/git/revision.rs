//! Revisions: the names that people give to commits.

use git2::{ErrorCode, ObjectType, Reference, Repository};

use super::commit::Commit;
use super::error::GitError;
use super::mirror::Mirror;

/// The longest name, in bytes.
const MAX_LENGTH: usize = 255;
/// The shortest part of a commit's id that counts as one, as git has it.
const MIN_ID_LENGTH: usize = 4;
/// The length of a full id.
const ID_LENGTH: usize = 40;

impl Mirror {
    /// The commit that `revision` names: a full id, a branch, a tag (annotated ones lead to their
    /// commit), a branch of a clone's remote (also as `origin/main`, where the clone has a `main` of
    /// its own), a full name such as `refs/tags/v1`, or the beginning of an id, in this order.
    ///
    /// What is no name at all (options, ranges, `HEAD:x`, `@{-1}`, spaces) is
    /// [`GitError::InvalidRevision`], before anything is opened.
    pub fn resolve(&self, revision: &str) -> Result<Commit, GitError> {
        check(revision)?;
        let repository = self.open()?;
        match find(&repository, revision)
            .and_then(|found| found.map(|commit| Commit::read(&commit)).transpose())
        {
            Ok(Some(commit)) => Ok(commit),
            Ok(None) => Err(self.unknown(revision)),
            Err(error) => Err(self.broken(&error)),
        }
    }
}

/// The rules of git-check-ref-format(1), and no name that begins with a dash, whatever it is used
/// for later. Control characters and the shell's own are refused as well, for names travel into
/// hooks' environments.
pub fn check(revision: &str) -> Result<(), GitError> {
    let is_refused = |letter: char| {
        letter.is_control() || letter.is_whitespace() || "~^:?*[]\\$`;|&<>(){}'\"!".contains(letter)
    };
    let sound = revision.len() <= MAX_LENGTH
        && !revision.starts_with('-')
        && !revision.chars().any(is_refused)
        && Reference::is_valid_name(&format!("refs/heads/{revision}"))
        && revision != "@";
    if sound {
        Ok(())
    } else {
        Err(invalid(revision))
    }
}

pub(super) fn invalid(revision: &str) -> GitError {
    GitError::InvalidRevision {
        revision: revision.chars().take(MAX_LENGTH).collect(),
    }
}

fn find<'a>(
    repository: &'a Repository,
    revision: &str,
) -> Result<Option<git2::Commit<'a>>, git2::Error> {
    let is_id = revision.len() <= ID_LENGTH
        && revision.len() >= MIN_ID_LENGTH
        && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id && revision.len() == ID_LENGTH {
        return absent_is_none(repository.find_commit_by_prefix(revision));
    }
    let mut names = vec![
        format!("refs/heads/{revision}"),
        format!("refs/tags/{revision}"),
        // Only a clone has them.
        format!("refs/remotes/origin/{revision}"),
    ];
    if revision.starts_with("refs/heads/") || revision.starts_with("refs/tags/") {
        names.push(revision.to_owned());
    }
    if revision.starts_with("origin/") {
        names.push(format!("refs/remotes/{revision}"));
    }
    for name in names {
        let Some(reference) = absent_is_none(repository.find_reference(&name))? else {
            continue;
        };
        let object = reference.peel(ObjectType::Any)?;
        match object.peel_to_commit() {
            Ok(commit) => return Ok(Some(commit)),
            // A tag of a file or tree: there is no commit to release.
            Err(error) if leads_elsewhere(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if is_id {
        absent_is_none(repository.find_commit_by_prefix(revision))
    } else {
        Ok(None)
    }
}

fn leads_elsewhere(error: &git2::Error) -> bool {
    matches!(error.code(), ErrorCode::Peel | ErrorCode::InvalidSpec)
}

/// An id that is nowhere, names another kind of object, or fits several is nobody's commit.
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
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        for sound in [
            "main",
            "release/1.0",
            "v1.0-rc.1",
            "0a1b2c3",
            "项目/分支",
            "a@b",
            "refs/tags/v1",
            "a-b_c+d#1",
        ] {
            check(sound).unwrap_or_else(|error| panic!("{sound}: {error}"));
        }
        let long = "a".repeat(300);
        for refused in [
            "",
            "--help",
            "-b",
            "-",
            "a..b",
            "@{-1}",
            "@",
            "HEAD:x",
            "HEAD^",
            "HEAD~1",
            "a b",
            "a\nb",
            "a\0b",
            "a\tb",
            "a\rb",
            "a;id",
            "$(id)",
            "`id`",
            "a//b",
            "/a",
            "a/",
            "a.lock",
            ".a",
            "a/.b",
            "a.",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a^{commit}",
            ":/fix",
            "a|b",
            "a&b",
            "a<b",
            "--config=alias.x=!id",
            "\u{7f}",
            &long,
        ] {
            assert!(
                matches!(check(refused), Err(GitError::InvalidRevision { .. })),
                "{refused:?} was accepted"
            );
        }
    }
}
