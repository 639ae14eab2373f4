//! A commit's files one by one, for callers that need only some of their contents.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use git2::Oid;

use super::blob::{Content, Opened};
use super::commit::CommitId;
use super::error::GitError;
use super::mirror::Mirror;
use super::tree::{Entry, Extent, Kind, Tree};

/// The id of a file's content: equal ids are equal contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlobId(Oid);

impl BlobId {
    /// Its 20 bytes.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        for (to, from) in bytes.iter_mut().zip(self.0.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 20]) -> Option<Self> {
        Oid::from_bytes(&bytes).ok().map(Self)
    }
}

/// One thing in a commit's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its content.
        blob: BlobId,
        /// True for an executable file.
        executable: bool,
    },
    /// A symlink.
    Link {
        /// The target, as written.
        target: &'a Path,
    },
}

/// The released files of a commit, listed and checked as for a checkout.
pub struct Snapshot(Tree);

impl Snapshot {
    /// Every item, folders before their contents.
    pub fn items(&self) -> impl Iterator<Item = (&Path, Item<'_>)> {
        self.0.entries.iter().map(|Entry { path, kind }| {
            let item = match kind {
                Kind::Folder => Item::Folder,
                Kind::File {
                    blob, executable, ..
                } => Item::File {
                    blob: BlobId(*blob),
                    executable: *executable,
                },
                Kind::Symlink { target } => Item::Link { target },
            };
            (path.as_path(), item)
        })
    }
}

/// The contents of a mirror's files.
pub struct Contents(Opened);

impl Contents {
    /// A file's length in bytes, and its content, of which at most 64 KiB (16 MiB if the repository
    /// stores it as a delta) are in memory.
    ///
    /// # Errors
    /// A blob that does not exist or cannot be read.
    pub fn open(&self, blob: BlobId) -> Result<(u64, impl Read + '_), GitError> {
        let size = self.0.size(blob.0)?;
        let content = self.0.open(blob.0, size)?;
        Ok((size, Reading { content, at: 0 }))
    }
}

struct Reading<'a> {
    content: Content<'a>,
    at: usize,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Large(content) => content.next(buffer).map_err(io::Error::other),
            Content::Small(content) => {
                let mut rest = content.get(self.at..).unwrap_or_default();
                let count = rest.read(buffer)?;
                self.at += count;
                Ok(count)
            }
        }
    }
}

impl Mirror {
    /// The released files of a commit, of this repository alone.
    ///
    /// # Errors
    /// Those of [`Mirror::tree`].
    pub fn snapshot(&self, commit: &CommitId) -> Result<Snapshot, GitError> {
        let mut unheard = |_: &_| ControlFlow::Continue(());
        Ok(Snapshot(self.tree(
            commit,
            Extent::Released,
            &mut unheard,
        )?))
    }

    /// Opens the mirror for reading contents.
    ///
    /// # Errors
    /// [`GitError::NotFetched`], or a mirror that cannot be opened.
    pub fn contents(&self) -> Result<Contents, GitError> {
        Ok(Contents(Opened::new(self)?))
    }
}
