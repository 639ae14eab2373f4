//! The files of a commit, listed and checked before any of them is written.
//!
//! | file | contents |
//! |---|---|
//! | `walk` | the walk over a commit's tree, and into its submodules if the source includes them |
//! | `name`, `links` | the names and symlinks that are refused |
//! | `attributes`, `pattern` | `export-ignore` |
//! | `modules`, `submodule` | `.gitmodules`; fetching the submodules it names |
//! | `objects` | the objects that the walk reads |
//! | `note` | remarks for the user |

mod attributes;
mod links;
mod modules;
mod name;
mod note;
mod objects;
mod pattern;
mod submodule;
mod walk;

#[cfg(test)]
pub(super) mod tests_only {
    //! For tests that compare the rules with git's own.

    use super::attributes::{Attribute, Attributes};

    /// The mirror of a submodule of `parent`.
    ///
    /// # Errors
    /// The address is refused.
    pub fn submodule(
        parent: &super::Mirror,
        written: &str,
    ) -> Result<super::Mirror, super::GitError> {
        super::submodule::mirror(parent, Some(written), 0, 0)
    }

    /// True if `path` (a folder if it ends with a slash) is `export-ignore` by one file.
    pub fn is_export_ignored(text: &str, path: &str) -> bool {
        let mut attributes = Attributes::default();
        attributes.enter(b"", text.as_bytes());
        let name = path.strip_suffix('/').unwrap_or(path);
        attributes.has(Attribute::ExportIgnore, name.as_bytes(), name != path)
    }
}

use std::path::{Path, PathBuf};

use git2::Oid;

pub use links::refused_link;
pub use note::{Note, Paths};

use super::blob::Opened;
use super::commit::CommitId;
use super::error::{GitError, printable};
use super::mirror::Mirror;
use super::progress::Report;

/// The extent of a commit's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All files, as in `git checkout`.
    Whole,
    /// The released files, as in `git archive`: without those that `.gitattributes` marks
    /// `export-ignore`. (`export-subst` is not applied.)
    Released,
}

/// The files of one commit, listed and checked: within the limits, every name and symlink safe,
/// every submodule that belongs to it fetched. Nothing is written yet.
pub struct Tree {
    pub(super) commit: CommitId,
    /// The commit time, in seconds since 1970.
    pub(super) time: u64,
    /// The commit's own repository, then those of submodules.
    pub(super) repositories: Vec<Opened>,
    /// Folders come before their contents.
    pub(super) entries: Vec<Entry>,
    files: u64,
    bytes: u64,
    notes: Vec<Note>,
}

/// One entry of a tree.
#[derive(Debug)]
pub(super) struct Entry {
    /// The path relative to the tree's root; plain names only.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A folder. A submodule that is left out is an empty one, as in git.
    Folder,
    File {
        /// The index of its repository in the tree's list.
        repository: usize,
        blob: Oid,
        /// The size in bytes.
        size: u64,
        executable: bool,
    },
    /// A symlink that stays inside the tree.
    Symlink { target: PathBuf },
}

impl Mirror {
    /// Lists the files of `commit`.
    ///
    /// Uses the network only if the source includes submodules and one is not here yet; `progress`
    /// is called meanwhile and stops it with `Break`.
    ///
    /// # Errors
    /// Trees with a name or symlink that would reach outside, and those past
    /// [`Limits`](super::Limits), are refused as a whole. Also a submodule that cannot be fetched,
    /// a mirror that cannot be read, and [`GitError::Cancelled`].
    pub fn tree(
        &self,
        commit: &CommitId,
        extent: Extent,
        progress: Report<'_>,
    ) -> Result<Tree, GitError> {
        walk::list(self, commit, extent, progress)
    }
}

impl Tree {
    /// The number of files and symlinks.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The total size of the files' contents, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Remarks for the user.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

pub(super) fn unsafe_path(commit: &CommitId, path: &Path, reason: &'static str) -> GitError {
    GitError::UnsafePath {
        commit: commit.to_string(),
        path: printable(&path.to_string_lossy()),
        reason,
    }
}
