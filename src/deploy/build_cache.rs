//! Folders in which builds keep files for the next build: one per project, with a common size limit.
//!
//! `ROOT/PROJECT/home` is the `HOME` of the project's commands. `ROOT/PROJECT` is locked while a
//! command runs, and its modification time is its last use.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::removal::remove_all;
use crate::store::ProjectId;

/// A project's cache while a command uses it.
pub(super) struct CacheLease {
    /// The command's `HOME`.
    pub(super) home: PathBuf,
    _lock: File,
}

/// Opens the cache of `project` below `root`. A cache of another `owner` (uid, gid) is removed first.
///
/// # Errors
/// The folder cannot be made.
pub(super) fn open(
    root: &Path,
    project: ProjectId,
    owner: Option<(u32, u32)>,
) -> io::Result<CacheLease> {
    let folder = root.join(project.to_string());
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&folder)?;
    let lock = File::open(&folder)?;
    lock.lock_shared()?;
    lock.set_modified(SystemTime::now())?;
    let home = folder.join("home");
    let (uid, gid) = owner.unwrap_or_else(|| {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        (uid.as_raw(), gid.as_raw())
    });
    if home
        .symlink_metadata()
        .is_ok_and(|found| found.uid() != uid)
    {
        remove_all(&home)?;
    }
    if !home.exists() {
        DirBuilder::new().mode(0o700).create(&home)?;
        chown(&home, Some(uid), Some(gid))?;
    }
    Ok(CacheLease { home, _lock: lock })
}

/// Removes whole caches, least recently used first, until all of them together have at most `limit`
/// bytes. A cache in use stays, and so does one that cannot be removed.
///
/// # Errors
/// The folder `root` cannot be read.
pub(super) fn evict(root: &Path, limit: u64) -> io::Result<()> {
    let mut caches = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        // A cache that was removed meanwhile is skipped.
        if let Ok(used) = entry.metadata().and_then(|found| found.modified()) {
            caches.push((used, entry.path(), size(&entry.path())));
        }
    }
    caches.sort();
    let mut total: u64 = caches.iter().map(|(_, _, size)| size).sum();
    for (_, path, size) in caches {
        if total <= limit {
            return Ok(());
        }
        match remove_unused(&path) {
            Ok(true) => {
                total -= size;
                tracing::info!(cache = %path.display(), size, "removed a build cache");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(cache = %path.display(), %error, "a build cache cannot be removed");
            }
        }
    }
    Ok(())
}

/// Removes a cache; false if it is in use.
fn remove_unused(path: &Path) -> io::Result<bool> {
    let lock = File::open(path)?;
    if lock.try_lock().is_err() {
        return Ok(false);
    }
    remove_all(path)?;
    Ok(true)
}

/// The disk usage of everything in `path`, in bytes. Unreadable entries count as 0.
fn size(path: &Path) -> u64 {
    let Ok(found) = path.symlink_metadata() else {
        return 0;
    };
    let entries = match found.is_dir() {
        true => fs::read_dir(path).ok(),
        false => None,
    };
    let inside = entries.into_iter().flatten().flatten();
    found.blocks() * 512 + inside.map(|entry| size(&entry.path())).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn cache(root: &Path, project: i64, bytes: usize, age: u64) -> PathBuf {
        let lease = open(root, ProjectId(project), None).unwrap();
        fs::write(lease.home.join("file"), vec![1; bytes]).unwrap();
        let used = SystemTime::now() - Duration::from_secs(age);
        lease._lock.set_modified(used).unwrap();
        root.join(project.to_string())
    }

    #[test]
    fn the_caches_that_were_not_used_for_longest_go_first() {
        let root = tempfile::tempdir().unwrap();
        let old = cache(root.path(), 1, 400_000, 500);
        let oldest = cache(root.path(), 2, 400_000, 900);
        let new = cache(root.path(), 3, 400_000, 0);
        evict(root.path(), 1_000_000).unwrap();
        assert!(!oldest.exists() && old.exists() && new.exists());
        let lease = open(root.path(), ProjectId(3), None).unwrap();
        evict(root.path(), 0).unwrap();
        assert!(!old.exists() && lease.home.join("file").exists());
    }

    #[test]
    fn one_that_cannot_be_removed_keeps_no_other() {
        let root = tempfile::tempdir().unwrap();
        let old = cache(root.path(), 1, 400_000, 500);
        std::os::unix::fs::symlink("/nowhere", root.path().join("2")).unwrap();
        let new = cache(root.path(), 3, 400_000, 0);
        let later = SystemTime::now() + Duration::from_secs(500);
        File::open(&new).unwrap().set_modified(later).unwrap();
        evict(root.path(), 0).unwrap();
        assert!(!old.exists() && !new.exists());
    }
}
