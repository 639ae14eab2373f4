//! The files of a commit, listed and judged before any of them is written anywhere.
//!
//! | file | what it is |
//! |---|---|
//! | `walk` | the one walk over a commit's tree, into its submodules where the source takes them along |
//! | `name`, `links` | which names and symlinks are refused |
//! | `attributes`, `pattern` | `export-ignore` |
//! | `modules`, `submodule` | `.gitmodules`; fetching what it names |
//! | `objects` | what the walk reads of a repository |
//! | `note` | what a person should be told |

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
    //! For tests that hold the rules against git's own.

    use super::attributes::{Attribute, Attributes};

    /// The mirror of a submodule of `parent`.
    pub fn submodule(
        parent: &super::Mirror,
        written: &str,
    ) -> Result<super::Mirror, super::GitError> {
        super::submodule::mirror(parent, Some(written), 0, 0)
    }

    /// Whether `path` (a folder where it ends with a slash) is `export-ignore` by one file.
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

/// Which files of a commit are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of them, as `git checkout` has it.
    Whole,
    /// Those that are released, as `git archive` has it: without what `.gitattributes` marks
    /// `export-ignore`. (`export-subst` is not followed.)
    Released,
}

/// The files of one commit, listed and judged: within the limits, every name and symlink safe,
/// every submodule that belongs to it fetched. Nothing is written yet.
pub struct Tree {
    pub(super) commit: CommitId,
    /// When it was committed, in seconds since 1970.
    pub(super) time: u64,
    /// The commit's own repository, then those of submodules.
    pub(super) repositories: Vec<Opened>,
    /// Folders before what is in them.
    pub(super) entries: Vec<Entry>,
    files: u64,
    bytes: u64,
    notes: Vec<Note>,
}

/// One thing in a tree.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the tree's root; plain names only.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A folder. A submodule that is left out is an empty one, as git leaves it.
    Folder,
    File {
        /// Which of the tree's repositories has it.
        repository: usize,
        blob: Oid,
        /// In bytes.
        size: u64,
        executable: bool,
    },
    /// It stays inside the tree.
    Symlink { target: PathBuf },
}

impl Mirror {
    /// Lists the files of `commit`. Refused as a whole are trees with a name or symlink that would
    /// reach outside, and those past [`Limits`](super::Limits).
    ///
    /// Touches the network only where the source takes submodules along and one is not here yet;
    /// `progress` is heard meanwhile and ends it with `Break`.
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
    /// How many files and symlinks it has.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The files' contents, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What a person should be told of it.
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
