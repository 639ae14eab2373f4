//! The content of one file of a commit: small ones whole, large ones in pieces, so that memory use
//! stays flat. Both are verified against their id; see [`unverified`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use git2::{Oid, Repository};

use super::error::{GitError, printable};
use super::large;
use super::mirror::Mirror;

/// The size from which a blob is read straight from where it is stored, in bytes. libgit2 maps the
/// pack it reads, and two threads that read one pack share the mapping, so neither can release it.
const STREAMED: u64 = 64 << 10;

/// The approximate limit of packs and their indexes mapped into memory at once, in bytes.
const MAPPED: u64 = 16 << 20;
/// The bytes mapped besides the object when it is read: pages of the index and of the pack.
const PAGES: u64 = 8 << 10;
/// The bytes that the system maps at once: reading an object's header maps this much of the object.
const AROUND: u64 = 64 << 10;

/// The number of blob sizes that are remembered, at about 50 bytes each.
const SIZES: usize = 30_000;

/// The sizes of blobs that were read before. An id names one content, so the sizes stay valid, in
/// every mirror. A release lists its tree twice, and the next release has nearly the same blobs.
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

/// A repository from which many objects are read. libgit2 keeps every part of a pack that it mapped
/// until the repository is closed, in the end the whole pack; so it is reopened regularly.
pub(super) struct Opened {
    mirror: Mirror,
    /// The folder with the objects: a linked work tree shares it with its repository.
    folder: PathBuf,
    repository: RefCell<Option<Repository>>,
    mapped: Cell<u64>,
}

/// A content that can be read once.
pub(super) enum Content<'a> {
    /// The whole content.
    Small(Vec<u8>),
    /// The content in pieces.
    Large(LargeContent<'a>),
}

/// A large content. An error marks the mirror as damaged, so that it is rebuilt.
pub(super) struct LargeContent<'a> {
    blob: large::Blob,
    opened: &'a Opened,
}

/// Lets libgit2 read objects without hashing each: its SHA-1 with collision detection takes a third
/// of the time of an archive. It hashed every object when it was received; damage on disk is found
/// by the checksum of the compression, and files are hashed here.
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

    /// The mirror that is read.
    pub(super) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Reads an object of about `size` bytes. `read` has no other access to this repository.
    pub(super) fn read<T>(
        &self,
        size: u64,
        read: impl FnOnce(&Repository) -> Result<T, git2::Error>,
    ) -> Result<T, GitError> {
        let mut repository = self.repository.borrow_mut();
        let mut mapped = self.mapped.get().saturating_add(PAGES + size);
        if mapped > MAPPED {
            // Closed before it is reopened: a mapping that two open repositories share stays
            // mapped.
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

    /// The size of the blob `id`, in bytes.
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

    /// Converts an error of the system. A refusal (memory, descriptors) is no damage, but a missing
    /// pack is.
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
    /// Reads the next piece; 0 at the end.
    pub(super) fn next(&mut self, buffer: &mut [u8]) -> Result<usize, GitError> {
        let read = self.blob.read(buffer);
        read.map_err(|error| self.opened.failed(error))
    }
}
