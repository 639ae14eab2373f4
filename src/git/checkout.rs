//! A commit's files as a plain work tree, without `.git`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use git2::{Oid, Repository};

use super::commit::CommitId;
use super::error::GitError;
use super::mirror::Mirror;
use super::tree::{Entry, Kind, unsafe_path};

const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
const EXECUTABLE_MODE: u32 = 0o755;

/// What a checkout or an archive wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkout {
    /// Files and symlinks.
    pub files: u64,
    /// The files' contents, in bytes.
    pub bytes: u64,
}

impl Mirror {
    /// Writes the files of `commit` into the folder `into`, which has to be empty or absent (its
    /// parent has to be there). Contents are those of the commit byte for byte: no filter, line
    /// ending conversion or hook runs. Files are 644 or 755, symlinks stay symlinks.
    ///
    /// A tree with a path or symlink that leads out of `into` is refused as a whole, before
    /// anything is written. On any error what was written is removed again.
    pub fn checkout(&self, commit: &CommitId, into: &Path) -> Result<Checkout, GitError> {
        let repository = self.open()?;
        let entries = self.entries(&repository, commit)?;
        let created = claim(into).map_err(|cause| GitError::disk(into, cause))?;
        let written = self.write(&repository, commit, &entries, into);
        if written.is_err() {
            clear(into, created);
        }
        written
    }

    /// Symlinks come last, so that no file can be written through one.
    fn write(
        &self,
        repository: &Repository,
        commit: &CommitId,
        entries: &[Entry],
        into: &Path,
    ) -> Result<Checkout, GitError> {
        let mut done = Checkout::default();
        let at = |path: &Path, cause: io::Error| match cause.kind() {
            io::ErrorKind::AlreadyExists => unsafe_path(
                commit,
                path,
                "it is there twice, perhaps in another spelling",
            ),
            _ => GitError::disk(&into.join(path), cause),
        };
        for Entry { path, kind } in entries {
            match kind {
                Kind::Folder => DirBuilder::new()
                    .mode(FOLDER_MODE)
                    .create(into.join(path))
                    .map_err(|cause| at(path, cause))?,
                Kind::File { blob, executable } => {
                    let content = self.content(repository, *blob)?;
                    write_file(&into.join(path), content.content(), *executable)
                        .map_err(|cause| at(path, cause))?;
                    done.files += 1;
                    done.bytes += content.size() as u64;
                }
                Kind::Symlink { .. } => {}
            }
        }
        for Entry { path, kind } in entries {
            if let Kind::Symlink { target } = kind {
                symlink(target, into.join(path)).map_err(|cause| at(path, cause))?;
                done.files += 1;
            }
        }
        Ok(done)
    }

    pub(super) fn content<'a>(
        &self,
        repository: &'a Repository,
        blob: Oid,
    ) -> Result<git2::Blob<'a>, GitError> {
        repository
            .find_blob(blob)
            .map_err(|error| self.broken(&error))
    }
}

/// True where the folder was made here.
fn claim(into: &Path) -> io::Result<bool> {
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

/// Best effort: the error that led here is what the caller reports.
fn clear(into: &Path, created: bool) {
    let _ = fs::remove_dir_all(into);
    if !created {
        let _ = fs::create_dir(into);
    }
}

fn write_file(path: &Path, content: &[u8], executable: bool) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    let mode = if executable {
        EXECUTABLE_MODE
    } else {
        FILE_MODE
    };
    file.set_permissions(fs::Permissions::from_mode(mode))
}
