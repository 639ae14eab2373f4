//! The data folder of an installation.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::AppError;

/// The flag that opens a pipe without waiting for its other end.
const NO_WAITING: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// A locked data folder: one server at a time uses it. Tools such as `longshore token create` need
/// no lock, since the database has its own.
pub struct DataFolder {
    root: PathBuf,
    _lock: File,
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> AppError {
    let path = path.display().to_string();
    move |cause| AppError::Data { path, cause }
}

impl DataFolder {
    /// Opens or creates the folder at `root`. Other accounts may traverse it (builds run as
    /// `run_as` below it) but not list it; secrets in it have stricter modes.
    ///
    /// # Errors
    /// [`AppError::InUse`] if another process has locked the folder, [`AppError::Data`] if it
    /// cannot be created or opened.
    pub fn open(root: &Path) -> Result<Self, AppError> {
        make(root)?;
        let root = root.canonicalize().map_err(at(root))?;
        let lock_path = root.join("longshore.lock");
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            // A pipe in its place is refused instead of waited for.
            .custom_flags(NO_WAITING)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(AppError::InUse {
                path: root.display().to_string(),
            }),
            Err(fs::TryLockError::Error(cause)) => Err(at(&lock_path)(cause)),
        }
    }

    /// The canonical path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Creates a subfolder that only its owner can enter.
    ///
    /// # Errors
    /// [`AppError::Data`] if it cannot be created.
    pub fn private_folder(&self, name: &str) -> Result<PathBuf, AppError> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(at(&path))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(at(&path))?;
        Ok(path)
    }
}

/// Creates the folder if it does not exist.
pub(super) fn make(root: &Path) -> Result<(), AppError> {
    if !root.exists() {
        fs::create_dir_all(root).map_err(at(root))?;
        fs::set_permissions(root, Permissions::from_mode(0o711)).map_err(at(root))?;
    }
    Ok(())
}

/// Creates an empty file that only its owner can read, if it does not exist.
pub(super) fn private_file(root: &Path, name: &str) -> Result<PathBuf, AppError> {
    let path = root.join(name);
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    Ok(path)
}
