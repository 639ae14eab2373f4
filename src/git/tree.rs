//! The files of a commit, listed and judged before any of them is written anywhere.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid, Repository};

use super::commit::CommitId;
use super::error::{GitError, printable};
use super::mirror::Mirror;

/// How deep folders may lie in each other.
const MAX_DEPTH: usize = 256;
/// The longest name that a file system takes, in bytes.
const MAX_NAME: usize = 255;
/// The longest target of a symlink, in bytes (PATH_MAX).
const MAX_TARGET: usize = 4096;
/// How many symlinks may lead into each other, as in Linux; more lead nowhere.
const MAX_LINKS: usize = 40;

const MODE_KIND: i32 = 0o170_000;
const MODE_SYMLINK: i32 = 0o120_000;
const MODE_FILE: i32 = 0o100_000;
const MODE_OWNER_EXECUTES: i32 = 0o100;

/// One thing in a commit's tree.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the tree's root; plain names only.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A folder. A submodule is an empty one, as git leaves it without `--recurse-submodules`.
    Folder,
    File {
        blob: Oid,
        executable: bool,
    },
    /// It stays inside the tree.
    Symlink {
        target: PathBuf,
    },
}

impl Mirror {
    /// Every entry of `commit`, folders before what is in them. Refuses the whole tree where a
    /// name or symlink would reach outside of it.
    pub(super) fn entries(
        &self,
        repository: &Repository,
        commit: &CommitId,
    ) -> Result<Vec<Entry>, GitError> {
        let found = match repository.find_commit(commit.0) {
            Err(error) if error.code() == ErrorCode::NotFound => {
                return Err(GitError::UnknownRevision {
                    url: self.source.url.as_str().to_owned(),
                    revision: commit.to_string(),
                });
            }
            found => found.map_err(|error| self.broken(&error))?,
        };
        let tree = found.tree_id();
        let mut listing = Listing {
            mirror: self,
            repository,
            commit,
            entries: Vec::new(),
        };
        listing.walk(tree, Path::new(""), 0)?;
        listing.check_symlinks()?;
        Ok(listing.entries)
    }
}

struct Listing<'a> {
    mirror: &'a Mirror,
    repository: &'a Repository,
    commit: &'a CommitId,
    entries: Vec<Entry>,
}

impl Listing<'_> {
    fn walk(&mut self, tree: Oid, below: &Path, depth: usize) -> Result<(), GitError> {
        if depth > MAX_DEPTH {
            return Err(unsafe_path(
                self.commit,
                below,
                "folders lie too deep in each other",
            ));
        }
        let broken = |error: git2::Error| self.mirror.broken(&error);
        let repository = self.repository;
        let tree = repository.find_tree(tree).map_err(broken)?;
        for entry in &tree {
            let name = entry.name_bytes();
            let path = below.join(OsStr::from_bytes(name));
            check_name(name)
                .map_err(|reason| unsafe_path(self.commit, &below.join(shown(name)), reason))?;
            let mode = entry.filemode_raw();
            match (entry.kind(), mode & MODE_KIND) {
                (Some(ObjectType::Tree), _) => {
                    let kind = Kind::Folder;
                    self.entries.push(Entry {
                        path: path.clone(),
                        kind,
                    });
                    self.walk(entry.id(), &path, depth + 1)?;
                }
                (Some(ObjectType::Commit), _) => {
                    let kind = Kind::Folder;
                    self.entries.push(Entry { path, kind });
                }
                (_, MODE_SYMLINK) => {
                    let blob = repository
                        .find_blob(entry.id())
                        .map_err(|error| self.mirror.broken(&error))?;
                    let target = blob.content();
                    if target.is_empty() || target.len() >= MAX_TARGET || target.contains(&0) {
                        return Err(unsafe_path(self.commit, &path, "a malformed symlink"));
                    }
                    let target = PathBuf::from(OsStr::from_bytes(target));
                    let kind = Kind::Symlink { target };
                    self.entries.push(Entry { path, kind });
                }
                (_, MODE_FILE) => {
                    let kind = Kind::File {
                        blob: entry.id(),
                        executable: mode & MODE_OWNER_EXECUTES != 0,
                    };
                    self.entries.push(Entry { path, kind });
                }
                _ => return Err(unsafe_path(self.commit, &path, "of an unknown kind")),
            }
        }
        Ok(())
    }

    fn check_symlinks(&self) -> Result<(), GitError> {
        let links: HashMap<&Path, &Path> = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                Kind::Symlink { target } => Some((entry.path.as_path(), target.as_path())),
                Kind::Folder | Kind::File { .. } => None,
            })
            .collect();
        match links.keys().find(|link| leaves(link, &links)) {
            None => Ok(()),
            Some(link) => Err(unsafe_path(
                self.commit,
                link,
                "a symlink that leaves the work tree",
            )),
        }
    }
}

pub(super) fn unsafe_path(commit: &CommitId, path: &Path, reason: &'static str) -> GitError {
    GitError::UnsafePath {
        commit: commit.to_string(),
        path: printable(&path.to_string_lossy()),
        reason,
    }
}

/// A hostile name may be absolute or climb; joined to a path for a message it must not replace it.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace('/', "\u{2215}")
}

/// Names are kept byte for byte; refused is what is no name of a file, and `.git`, which tools
/// would take for a repository's own, also where the file system folds cases.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || name == b"." || name == b".." {
        Err("not the name of a file")
    } else if name.contains(&b'/') || name.contains(&0) {
        Err("a name with a slash or a zero byte in it")
    } else if name.len() > MAX_NAME {
        Err("a name longer than 255 bytes")
    } else if name.eq_ignore_ascii_case(b".git") {
        Err("a name that git keeps for itself")
    } else {
        Ok(())
    }
}

/// Whether following `link` ever leaves the tree, symlinks on the way followed as the system
/// does. Judging the text alone is not enough: in `dir/up/../x`, `dir/up` may be a link to `..`.
fn leaves(link: &Path, links: &HashMap<&Path, &Path>) -> bool {
    let mut here = link.parent().unwrap_or(Path::new("")).to_owned();
    let mut ahead: Vec<&[u8]> = Vec::new();
    let Some(target) = links.get(link) else {
        return false;
    };
    if !push_parts(target, &mut ahead) {
        return true;
    }
    let mut followed = 0;
    while let Some(part) = ahead.pop() {
        match part {
            b"" | b"." => {}
            b".." => {
                if !here.pop() {
                    return true;
                }
            }
            name => {
                here.push(OsStr::from_bytes(name));
                if let Some(target) = links.get(here.as_path()) {
                    followed += 1;
                    if followed > MAX_LINKS {
                        // The system gives up here too: a loop leads nowhere.
                        return false;
                    }
                    here.pop();
                    if !push_parts(target, &mut ahead) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

/// Puts the target's parts on the stack, the first on top. False for an absolute target.
fn push_parts<'a>(target: &'a Path, ahead: &mut Vec<&'a [u8]>) -> bool {
    let bytes = target.as_os_str().as_bytes();
    ahead.extend(bytes.split(|byte| *byte == b'/').rev());
    !bytes.starts_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaving(links: &[(&str, &str)]) -> Vec<String> {
        let map = links
            .iter()
            .map(|(link, target)| (Path::new(*link), Path::new(*target)))
            .collect();
        let mut out: Vec<String> = links
            .iter()
            .filter(|(link, _)| leaves(Path::new(link), &map))
            .map(|(link, _)| (*link).to_owned())
            .collect();
        out.sort();
        out
    }

    #[test]
    fn symlinks_are_followed_as_the_system_does() {
        assert!(
            leaving(&[
                ("a", "b"),
                ("d/a", "../b"),
                ("d/e/a", "../../x/./y"),
                ("self", "self")
            ])
            .is_empty()
        );
        assert!(leaving(&[("d/root", ".."), ("a", "d/root/b"), ("trail", "d/")]).is_empty());
        assert_eq!(
            leaving(&[("a", "/etc/passwd"), ("b", ".."), ("d/c", "../../x")]),
            ["a", "b", "d/c"]
        );
        assert_eq!(leaving(&[("a", "x/../../y")]), ["a"]);
        // Lexically inside, on disk outside.
        assert_eq!(leaving(&[("d/up", ".."), ("x", "d/up/../secret")]), ["x"]);
        assert_eq!(leaving(&[("a", "b/c"), ("b", "/etc")]), ["a", "b"]);
    }

    #[test]
    fn names_are_exact_or_refused() {
        for name in [
            "a",
            "-rf",
            "a\nb",
            "a\\b",
            "é",
            "e\u{301}",
            "...",
            ".gitignore",
            "a b",
        ] {
            assert_eq!(check_name(name.as_bytes()), Ok(()), "{name:?}");
        }
        let long = "a".repeat(256);
        for name in [
            "", ".", "..", "a/b", "../x", "a\0b", ".git", ".GIT", ".Git", &long,
        ] {
            assert!(check_name(name.as_bytes()).is_err(), "{name:?}");
        }
    }
}
