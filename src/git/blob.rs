//! The content of one file of a commit: small ones whole, large ones piece by piece, so that memory
//! stays flat. Both are held against their id; see [`unverified`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use git2::{Oid, Repository};

use super::error::{GitError, printable};
use super::large;
use super::mirror::Mirror;

/// From this size on a blob is read straight from where it is stored, in bytes. libgit2 maps what it
/// reads, and two threads that read a pack share what is mapped of it, so that none can let go.
const STREAMED: u64 = 64 << 10;

/// How much of packs and their indexes may be mapped into memory at once, in bytes, roughly.
const MAPPED: u64 = 16 << 20;
/// What reading an object maps beside the object: pages of the index and of the pack.
const PAGES: u64 = 8 << 10;
/// What the system maps at once, in bytes: looking at an object's head maps so much of the object.
const AROUND: u64 = 64 << 10;

/// How many blobs' sizes are remembered, at about 50 bytes each.
const SIZES: usize = 30_000;

/// The sizes of blobs that were looked at. An id is one of a content, so they stay true, in every mirror;
/// a release lists its tree twice, and the next one has nearly the same blobs.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes(Arc<Mutex<HashMap<Oid, u64>>>);

impl Sizes {
    fn of(&self, id: Oid) -> Option<u64> {
        self.known().get(&id).copied()
    }

    fn add(&self, id: Oid, size: u64) {
        let mut known = self.known();
        if known.len() >= SIZES {
            known.clear();
        }
        known.insert(id, size);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Oid, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A repository that objects are read from, many of them. What libgit2 has mapped of a pack it keeps
/// until the repository is closed, in the end the whole pack; so it is opened anew now and then.
pub(super) struct Opened {
    mirror: Mirror,
    /// The folder with the objects: a linked work tree shares it with its repository.
    folder: PathBuf,
    repository: RefCell<Option<Repository>>,
    mapped: Cell<u64>,
}

/// A content, to be read once.
pub(super) enum Content<'a> {
    /// All of it.
    Small(Vec<u8>),
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
    /// Opens the mirror for reading.
    pub(super) fn new(mirror: &Mirror) -> Result<Self, GitError> {
        let repository = mirror.open()?;
        Ok(Self {
            mirror: mirror.clone(),
            folder: repository.commondir().to_owned(),
            repository: RefCell::new(Some(repository)),
            mapped: Cell::new(0),
        })
    }

    /// What it is a repository of.
    pub(super) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Reads an object of about `size` bytes. `read` has no other way to this repository.
    pub(super) fn read<T>(
        &self,
        size: u64,
        read: impl FnOnce(&Repository) -> Result<T, git2::Error>,
    ) -> Result<T, GitError> {
        let mut repository = self.repository.borrow_mut();
        let mut mapped = self.mapped.get().saturating_add(PAGES + size);
        if mapped > MAPPED {
            // Closed before it is opened: what two of them have open stays mapped.
            *repository = None;
            mapped = PAGES + size;
        }
        self.mapped.set(mapped);
        let repository = match &mut *repository {
            Some(repository) => repository,
            closed => closed.insert(self.mirror.open()?),
        };
        read(repository).map_err(|error| self.mirror.broken(&error))
    }

    /// Opens the blob `id`, which has `size` bytes.
    pub(super) fn open(&self, id: Oid, size: u64) -> Result<Content<'_>, GitError> {
        if size >= STREAMED {
            let found = large::open(&self.folder, id, size).map_err(|error| self.failed(error))?;
            if let Some(blob) = found {
                return Ok(Content::Large(LargeContent { blob, opened: self }));
            }
        }
        let content = self.read(size, |repository| {
            Ok(repository.find_blob(id)?.content().to_owned())
        })?;
        if !large::is_whole(&content, id) {
            return Err(self.mirror.damaged("an object could not be read"));
        }
        Ok(Content::Small(content))
    }

    /// How long the blob `id` is, in bytes.
    pub(super) fn size(&self, id: Oid) -> Result<u64, GitError> {
        if let Some(size) = self.mirror.sizes.of(id) {
            return Ok(size);
        }
        let (size, _) = self.read(0, |repository| repository.odb()?.read_header(id))?;
        let size = size as u64;
        self.mapped.set(self.mapped.get() + size.min(AROUND));
        self.mirror.sizes.add(id, size);
        Ok(size)
    }

    /// What the system refused is no damage, but a pack that is gone is.
    fn failed(&self, cause: io::Error) -> GitError {
        match cause.raw_os_error() {
            Some(_) if cause.kind() != io::ErrorKind::NotFound => {
                GitError::disk(&self.folder, cause)
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
