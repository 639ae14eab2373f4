//! Remarks about a tree for the person who releases it.

use std::fmt;

/// A remark about a tree that is not wrong but may surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Files that hold a Git LFS pointer in place of their content.
    LfsPointers(Paths),
    /// Submodules that stay empty folders because the project leaves them out.
    SubmodulesLeftOut(Paths),
    /// A submodule that was included.
    Submodule {
        /// Its folder.
        path: String,
        /// Its repository.
        url: String,
        /// The commit's full id.
        commit: String,
    },
    /// The paths that `.gitattributes` excludes from releases by `export-ignore`.
    ExportIgnored(Paths),
    /// Files whose `export-subst` is not applied.
    ExportSubst(Paths),
    /// Names that are equal if the file system folds cases or composes accents.
    SameName(Paths),
}

/// Some paths, of which one is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// The number of paths.
    pub count: u64,
    /// The first path, fit for a message.
    pub first: String,
}

impl Paths {
    pub(in crate::git) fn add(&mut self, path: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = path();
        }
        self.count += 1;
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 | 1 => write!(formatter, "{:?}", self.first),
            count => write!(formatter, "{:?} and {} more", self.first, count - 1),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LfsPointers(paths) => write!(
                formatter,
                "warning: pointers of Git LFS, released as they are, without the content that LFS keeps elsewhere: {paths}"
            ),
            Self::SubmodulesLeftOut(paths) => write!(
                formatter,
                "warning: submodules left out, for the project does not take them along: {paths}"
            ),
            Self::Submodule { path, url, commit } => {
                write!(formatter, "submodule {path:?}: {url} at {commit}")
            }
            Self::ExportIgnored(paths) => {
                write!(formatter, "left out (export-ignore): {paths}")
            }
            Self::ExportSubst(paths) => write!(
                formatter,
                "export-subst is not followed, the files stay as they are: {paths}"
            ),
            Self::SameName(paths) => write!(
                formatter,
                "warning: names that some file systems cannot tell apart: {paths}"
            ),
        }
    }
}

/// The paths of each kind of note, collected while a tree is listed.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) left_out: Paths,
    pub(super) ignored: Paths,
    pub(super) substituted: Paths,
    pub(super) same_name: Paths,
    pub(super) submodules: Vec<Note>,
}

impl Gathered {
    pub(super) fn notes(self) -> Vec<Note> {
        let kinds = [
            (self.left_out, Note::SubmodulesLeftOut as fn(Paths) -> Note),
            (self.ignored, Note::ExportIgnored),
            (self.substituted, Note::ExportSubst),
            (self.same_name, Note::SameName),
        ];
        let gathered = kinds
            .into_iter()
            .filter(|(paths, _)| paths.count > 0)
            .map(|(paths, kind)| kind(paths));
        self.submodules.into_iter().chain(gathered).collect()
    }
}
