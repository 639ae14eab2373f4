//! The large files of a work copy. libgit2 holds each file that it writes in memory as a whole, so
//! these are excluded from its checkout and are written here, in pieces.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use git2::{IndexEntry, IndexTime, ObjectType, Oid, Repository};
use tempfile::NamedTempFile;

use super::super::content::Reader;
use super::super::error::GitError;
use super::super::progress::Report;
use super::super::tree::{Entry, Kind, Tree};
use super::super::{CommitId, checkout};

/// The large files of a commit that is about to be checked out.
pub(super) struct LargeFiles<'a> {
    repository: &'a Repository,
    folder: &'a Path,
    files: &'a Tree,
    /// The trees of the commit that is checked out, if any, and of the new one.
    from: Option<git2::Tree<'a>>,
    to: git2::Tree<'a>,
    /// The files to write.
    changed: Vec<LargeFile<'a>>,
    /// True if obstacles are removed.
    forced: bool,
}

/// The size from which a file is large, in bytes.
const LARGE: u64 = 4 << 20;
/// The mode of a folder in a tree.
const TREE_MODE: u32 = 0o040_000;

/// A large file.
struct LargeFile<'a> {
    entry: &'a Entry,
    path: &'a Path,
    blob: Oid,
    mode: u32,
}

impl<'a> LargeFile<'a> {
    fn of(entry: &'a Entry) -> Option<Self> {
        match entry.kind {
            Kind::File {
                blob,
                size,
                executable,
                ..
            } if size >= LARGE => Some(Self {
                entry,
                path: &entry.path,
                blob,
                mode: match executable {
                    true => checkout::EXECUTABLE_MODE,
                    false => checkout::FILE_MODE,
                },
            }),
            _ => None,
        }
    }

    /// The mode as a tree and an index store it.
    fn git_mode(&self) -> u32 {
        0o100_000 | self.mode
    }
}

/// An obstacle at the place of a file.
pub(super) struct InTheWay(pub(super) PathBuf);

impl<'a> LargeFiles<'a> {
    /// The large files of `commit`, whose files are `files`, in the work copy in `folder`.
    pub(super) fn of(
        repository: &'a Repository,
        folder: &'a Path,
        commit: CommitId,
        files: &'a Tree,
    ) -> Result<Self, git2::Error> {
        let from = match repository.head() {
            Ok(head) => Some(head.peel_to_tree()?),
            // No commit is checked out yet.
            Err(_) => None,
        };
        let mut large = Self {
            repository,
            folder,
            files,
            from,
            to: repository.find_commit(commit.0)?.tree()?,
            changed: Vec::new(),
            forced: false,
        };
        let all = files.entries.iter().filter_map(LargeFile::of);
        large.changed = all
            .filter(|file| large.before(file.path) != Some((file.blob, file.git_mode())))
            .collect();
        Ok(large)
    }

    /// True if there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// The id and mode at a path in the commit that is checked out.
    fn before(&self, path: &Path) -> Option<(Oid, u32)> {
        let found = self.from.as_ref()?.get_path(path).ok()?;
        Some((found.id(), u32::try_from(found.filemode()).ok()?))
    }

    /// Selects the files to write as in a reset: also those that are the same in both commits but
    /// not in the work copy, with any obstacles removed.
    pub(super) fn force(&mut self) {
        self.forced = true;
        let all = self.files.entries.iter().filter_map(LargeFile::of);
        let missing: Vec<LargeFile<'a>> = all
            .filter(|file| self.before(file.path) == Some((file.blob, file.git_mode())))
            .filter(|file| !self.is_there(file))
            .collect();
        self.changed.extend(missing);
    }

    /// The first file whose place holds something of the user's: neither the content that was
    /// checked out there nor the new one.
    pub(super) fn in_the_way(&self) -> Option<InTheWay> {
        let is_theirs = |file: &&LargeFile<'_>| {
            let place = self.folder.join(file.path);
            let before = self.before(file.path);
            match fs::symlink_metadata(&place) {
                Err(_) => before.is_some(),
                Ok(found) if found.is_file() => {
                    let id = content_of(&place);
                    id != Some(file.blob) && (id.is_none() || id != before.map(|(was, _)| was))
                }
                // libgit2 checks the contents of a folder that is removed.
                Ok(found) => {
                    let was_folder = before.is_some_and(|(_, mode)| mode == TREE_MODE);
                    !found.is_dir() || !was_folder
                }
            }
        };
        // A parent folder of the file that is not a folder here, though nothing else was checked
        // out there.
        let is_cut_off = |file: &&LargeFile<'_>| {
            let mut parents = file.path.ancestors().skip(1);
            parents.any(|parent| {
                let found = fs::symlink_metadata(self.folder.join(parent));
                found.is_ok_and(|found| !found.is_dir())
                    && self
                        .before(parent)
                        .is_none_or(|(_, mode)| mode == TREE_MODE)
            })
        };
        let mut changed = self.changed.iter();
        let found = changed.find(|file| is_theirs(file) || is_cut_off(file))?;
        Some(InTheWay(found.path.to_owned()))
    }

    /// The paths that libgit2 must check out: all differences except these files. With `all`, also
    /// the user's changes.
    pub(super) fn others(&self, all: bool) -> Result<BTreeSet<PathBuf>, git2::Error> {
        let (from, to) = (self.from.as_ref(), Some(&self.to));
        let mut diffs = vec![self.repository.diff_tree_to_tree(from, to, None)?];
        if all {
            diffs.push(self.repository.diff_tree_to_workdir_with_index(to, None)?);
        }
        let mut paths = BTreeSet::new();
        for delta in diffs.iter().flat_map(git2::Diff::deltas) {
            let files = [delta.old_file(), delta.new_file()];
            paths.extend(
                files
                    .iter()
                    .filter_map(|file| file.path())
                    .map(Path::to_owned),
            );
        }
        for file in &self.changed {
            paths.remove(file.path);
        }
        Ok(paths)
    }

    /// Writes the files and adds them to the index.
    pub(super) fn write(&self, progress: Report<'_>) -> Result<(), GitError> {
        let mut reader = Reader::new(self.files, progress);
        let broken = |error: git2::Error| {
            GitError::disk(self.folder, io::Error::other(error.message().to_owned()))
        };
        let mut index = self.repository.index().map_err(broken)?;
        for file in &self.changed {
            let place = self.folder.join(file.path);
            let at = |cause| GitError::disk(&place, cause);
            if !self.is_there(file) {
                self.make_room(file.path).map_err(at)?;
                // Next to the repository's own files, so that it can be renamed into place whole.
                let mut new = NamedTempFile::new_in(self.repository.path()).map_err(at)?;
                reader.read(file.entry, &mut |piece| new.write_all(piece).map_err(at))?;
                let mode = fs::Permissions::from_mode(file.mode);
                new.as_file().set_permissions(mode).map_err(at)?;
                new.persist(&place).map_err(|error| at(error.error))?;
            }
            let found = fs::symlink_metadata(&place).map_err(at)?;
            index.add(&index_entry(file, &found)).map_err(broken)?;
        }
        index.write().map_err(broken)
    }

    /// True if the file is there with its content and mode.
    fn is_there(&self, file: &LargeFile<'_>) -> bool {
        let place = self.folder.join(file.path);
        let has_mode = |found: &Metadata| found.mode() & 0o100 == file.mode & 0o100;
        let is_file =
            fs::symlink_metadata(&place).is_ok_and(|found| found.is_file() && has_mode(&found));
        is_file
            && self.parents(file.path).all(|parent| is_folder(&parent))
            && content_of(&place) == Some(file.blob)
    }

    /// The parent folders of `path`, the outermost first.
    fn parents<'p>(&'p self, path: &'p Path) -> impl Iterator<Item = PathBuf> + 'p {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
        parents.pop();
        parents
            .into_iter()
            .rev()
            .map(|parent| self.folder.join(parent))
    }

    /// Creates the folders of `path`; never goes through a link. If libgit2 left something at the
    /// path, it is an empty folder or belongs to the user.
    fn make_room(&self, path: &Path) -> io::Result<()> {
        let make = |folder: &Path| DirBuilder::new().mode(checkout::FOLDER_MODE).create(folder);
        for parent in self.parents(path) {
            match make(&parent) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) if is_folder(&parent) => {}
                Err(_) if self.forced => {
                    fs::remove_file(&parent)?;
                    make(&parent)?;
                }
                Err(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Ok(()) => {}
            }
        }
        let place = self.folder.join(path);
        match (is_folder(&place), self.forced) {
            (true, true) => fs::remove_dir_all(&place),
            (true, false) => fs::remove_dir(&place),
            (false, _) => Ok(()),
        }
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The id of a file's content.
fn content_of(path: &Path) -> Option<Oid> {
    Oid::hash_file(ObjectType::Blob, path).ok()
}

/// The index entry of a file: git compares times, inode and size, each cut to 32 bits, to detect
/// changes.
fn index_entry(file: &LargeFile<'_>, found: &Metadata) -> IndexEntry {
    let time = |seconds: i64, nanoseconds: i64| IndexTime::new(seconds as i32, nanoseconds as u32);
    IndexEntry {
        ctime: time(found.ctime(), found.ctime_nsec()),
        mtime: time(found.mtime(), found.mtime_nsec()),
        dev: found.dev() as u32,
        ino: found.ino() as u32,
        mode: file.git_mode(),
        uid: found.uid(),
        gid: found.gid(),
        file_size: found.len() as u32,
        id: file.blob,
        flags: 0,
        flags_extended: 0,
        path: file.path.as_os_str().as_bytes().to_owned(),
    }
}
