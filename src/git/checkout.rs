//! A commit's files as a plain work tree, without `.git`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use super::commit::CommitId;
use super::content::Reader;
use super::error::GitError;
use super::mirror::Mirror;
use super::progress::Report;
use super::tree::{Entry, Extent, Kind, Note, Tree, unsafe_path};

pub(super) const FOLDER_MODE: u32 = 0o755;
pub(super) const FILE_MODE: u32 = 0o644;
pub(super) const EXECUTABLE_MODE: u32 = 0o755;

/// The result of a checkout or an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkout {
    /// The number of files and symlinks.
    pub files: u64,
    /// The total size of the files' contents, in bytes.
    pub bytes: u64,
    /// Remarks for the user.
    pub notes: Vec<Note>,
}

impl Mirror {
    /// Runs [`Tree::checkout`] on the released files of `commit`.
    ///
    /// # Errors
    /// Those of [`Mirror::tree`] and [`Tree::checkout`].
    pub fn checkout(&self, commit: &CommitId, into: &Path) -> Result<Checkout, GitError> {
        let mut unheard = |_: &_| ControlFlow::Continue(());
        self.tree(commit, Extent::Released, &mut unheard)?
            .checkout(into, &mut unheard)
    }
}

impl Tree {
    /// Writes the files into the folder `into`, which must be empty or absent (its parent must
    /// exist). Contents are those of the commit byte for byte: no filter, line ending conversion or
    /// hook runs. Files are 644 or 755, symlinks stay symlinks.
    ///
    /// On any error, and when `progress` stops it, everything written is removed again.
    ///
    /// # Errors
    /// [`GitError::Disk`], an object that cannot be read, and [`GitError::Cancelled`].
    pub fn checkout(&self, into: &Path, progress: Report<'_>) -> Result<Checkout, GitError> {
        let created = claim(into).map_err(|cause| GitError::disk(into, cause))?;
        let written = self.write(into, progress);
        if written.is_err() {
            clear(into, created);
        }
        written
    }

    /// Writes symlinks last, so that no file can be written through one.
    fn write(&self, into: &Path, progress: Report<'_>) -> Result<Checkout, GitError> {
        let mut reader = Reader::new(self, progress);
        let at = |path: &Path, cause: io::Error| match cause.kind() {
            io::ErrorKind::AlreadyExists => unsafe_path(
                &self.commit,
                path,
                "it is there twice, perhaps in another spelling",
            ),
            _ => GitError::disk(&into.join(path), cause),
        };
        for entry in &self.entries {
            let Entry { path, kind } = entry;
            match kind {
                Kind::Folder => DirBuilder::new()
                    .mode(FOLDER_MODE)
                    .create(into.join(path))
                    .map_err(|cause| at(path, cause))?,
                Kind::File { executable, .. } => {
                    let mut file = create(&into.join(path)).map_err(|cause| at(path, cause))?;
                    reader.read(entry, &mut |piece| {
                        file.write_all(piece).map_err(|cause| at(path, cause))
                    })?;
                    set_mode(&file, *executable).map_err(|cause| at(path, cause))?;
                }
                Kind::Symlink { .. } => {}
            }
        }
        for Entry { path, kind } in &self.entries {
            if let Kind::Symlink { target } = kind {
                symlink(target, into.join(path)).map_err(|cause| at(path, cause))?;
            }
        }
        Ok(reader.finish())
    }
}

/// Ensures that the folder exists and is empty. True if it was created.
pub(super) fn claim(into: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(FOLDER_MODE).create(into) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
    }
    if !fs::symlink_metadata(into)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    match fs::read_dir(into)?.next() {
        None => Ok(false),
        Some(_) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
    }
}

/// Removes everything written into a claimed folder. Best effort: the caller reports the original
/// error.
pub(super) fn clear(into: &Path, created: bool) {
    let _ = fs::remove_dir_all(into);
    if !created {
        let _ = fs::create_dir(into);
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

fn set_mode(file: &File, executable: bool) -> io::Result<()> {
    let mode = match executable {
        true => EXECUTABLE_MODE,
        false => FILE_MODE,
    };
    file.set_permissions(fs::Permissions::from_mode(mode))
}
