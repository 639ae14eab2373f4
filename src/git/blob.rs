//! The content of one file of a commit: small ones whole, large ones piece by piece, so that memory
//! stays flat. Both are held against their id; see [`unverified`].

use std::io::{self, Read};
use std::sync::Once;

use git2::{Oid, Repository};

use super::error::{GitError, printable};
use super::large;
use super::mirror::Mirror;

/// From this size on a blob is read straight from where it is stored, in bytes.
const STREAMED: u64 = 4 << 20;

/// A repository that contents are read from.
pub(super) struct Opened {
    pub(super) mirror: Mirror,
    pub(super) repository: Repository,
}

/// A content, to be read once.
pub(super) enum Content<'a> {
    /// All of it.
    Small(git2::Blob<'a>),
    /// Piece by piece.
    Large(LargeContent<'a>),
}

/// A large content. An error is told to the mirror, which is then built anew.
pub(super) struct LargeContent<'a> {
    blob: large::Blob,
    opened: &'a Opened,
}

/// Lets libgit2 read objects without hashing each: its careful SHA-1 (which sees forged collisions)
/// takes a third of the time of an archive. It has hashed them all when they came; what a disk does to
/// them later is found by the checksum of their compression, and files are hashed here.
pub(super) fn unverified() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| git2::opts::strict_hash_verification(false));
}

impl Opened {
    /// Opens the blob `id`, which has `size` bytes.
    pub(super) fn open(&self, id: Oid, size: u64) -> Result<Content<'_>, GitError> {
        if size >= STREAMED {
            // The folder that a linked work tree shares with its repository.
            let path = self.repository.commondir();
            let found = large::open(path, id, size).map_err(|error| self.failed(error))?;
            if let Some(blob) = found {
                return Ok(Content::Large(LargeContent { blob, opened: self }));
            }
        }
        let found = self.repository.find_blob(id);
        let blob = found.map_err(|error| self.mirror.broken(&error))?;
        if !large::is_whole(blob.content(), id) {
            return Err(self.mirror.damaged("an object could not be read"));
        }
        Ok(Content::Small(blob))
    }

    /// How long the blob `id` is, in bytes.
    pub(super) fn size(&self, id: Oid) -> Result<u64, GitError> {
        let header = self.repository.odb().and_then(|odb| odb.read_header(id));
        let (size, _) = header.map_err(|error| self.mirror.broken(&error))?;
        Ok(size as u64)
    }

    /// What the system refused is no damage, but a pack that is gone is.
    fn failed(&self, cause: io::Error) -> GitError {
        match cause.raw_os_error() {
            Some(_) if cause.kind() != io::ErrorKind::NotFound => {
                GitError::disk(self.repository.commondir(), cause)
            }
            _ => self.mirror.damaged(&printable(&cause.to_string())),
        }
    }
}

impl LargeContent<'_> {
    /// The next piece; 0 at the end.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> Result<usize, GitError> {
        let read = self.blob.read(buffer);
        read.map_err(|error| self.opened.failed(error))
    }
}
