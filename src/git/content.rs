//! The contents of a tree's files, in pieces, so that a writer holds no large file in memory and
//! can be stopped in the middle of one.

use super::blob::Content;
use super::checkout::Checkout;
use super::error::{GitError, printable};
use super::progress::{Progress, Pulse, Report, Stage};
use super::tree::{Entry, Kind, Note, Paths, Tree};

/// The size of a piece, in bytes.
const PIECE: usize = 256 << 10;
/// The start of a Git LFS pointer, which is a small text file.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
/// The longest Git LFS pointer, in bytes.
const LFS_LONGEST: u64 = 1024;

/// Receives one piece of a content.
type Sink<'s> = &'s mut dyn FnMut(&[u8]) -> Result<(), GitError>;

/// Reads the files of a tree and counts them.
pub(super) struct Reader<'a> {
    tree: &'a Tree,
    pulse: Pulse<'a>,
    done: Progress,
    pointers: Paths,
    /// A buffer for pieces of large files; empty until the first one.
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tree: &'a Tree, progress: Report<'a>) -> Self {
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            tree,
            pulse: Pulse::new(progress),
            done: Progress {
                stage: Stage::Writing,
                total_objects: count(tree.files()),
                total_bytes: count(tree.bytes()),
                ..Progress::default()
            },
            pointers: Paths::default(),
            buffer: Vec::new(),
        }
    }

    /// Passes the content of `entry` to `sink` if it is a file.
    pub(super) fn read(&mut self, entry: &Entry, sink: Sink<'_>) -> Result<(), GitError> {
        let Kind::File {
            repository,
            blob,
            size,
            ..
        } = entry.kind
        else {
            return Ok(());
        };
        let opened = &self.tree.repositories[repository];
        let (pulse, done) = (&mut self.pulse, &mut self.done);
        let mut pass = |piece: &[u8]| {
            sink(piece)?;
            done.bytes += piece.len();
            pulse.beat(|| done.clone())
        };
        match opened.open(blob, size)? {
            Content::Large(mut content) => loop {
                self.buffer.resize(PIECE, 0);
                match content.next(&mut self.buffer)? {
                    0 => break,
                    length => pass(&self.buffer[..length])?,
                }
            },
            Content::Small(content) => {
                if size <= LFS_LONGEST && content.starts_with(LFS_POINTER) {
                    let path = entry.path.to_string_lossy();
                    self.pointers.add(|| printable(&path));
                }
                content.chunks(PIECE).try_for_each(&mut pass)?;
            }
        }
        self.done.objects += 1;
        self.pulse.beat(|| self.done.clone())
    }

    /// Returns the totals, once all files are written.
    pub(super) fn finish(self) -> Checkout {
        let mut notes = self.tree.notes().to_vec();
        if self.pointers.count > 0 {
            notes.push(Note::LfsPointers(self.pointers));
        }
        Checkout {
            files: self.tree.files(),
            bytes: self.tree.bytes(),
            notes,
        }
    }
}

impl Tree {
    /// The remarks for the user, Git LFS pointers included, without writing anything.
    ///
    /// # Errors
    /// An object that cannot be read, and [`GitError::Cancelled`].
    pub fn told(&self, progress: Report<'_>) -> Result<Vec<Note>, GitError> {
        let mut reader = Reader::new(self, progress);
        let small =
            |entry: &&Entry| matches!(entry.kind, Kind::File { size, .. } if size <= LFS_LONGEST);
        for entry in self.entries.iter().filter(small) {
            reader.read(entry, &mut |_| Ok(()))?;
        }
        Ok(reader.finish().notes)
    }
}
