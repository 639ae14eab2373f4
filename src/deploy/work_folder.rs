//! The folder of the releases' work trees, and what dead processes left in it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;

use super::engine::Engine;
use super::removal;
use crate::store::ReleaseId;

/// The prefix of the names of trees that are being removed.
const OLD: &str = "old-";

impl Engine {
    /// Removes work trees that no running release uses: those of a killed process and those that
    /// could not be removed at the end of their release. Returns their number.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sweep_work_folder(&self) -> io::Result<usize> {
        Ok(remove(&self.set_old_aside()?))
    }

    /// [`sweep_work_folder`](Self::sweep_work_folder) by a thread of its own.
    ///
    /// # Errors
    /// The folder cannot be read; a thread cannot be started.
    pub(super) fn sweep_work_folder_beside(&self) -> io::Result<()> {
        let old = self.set_old_aside()?;
        if !old.is_empty() {
            thread::Builder::new()
                .name("old work trees".to_owned())
                .spawn(move || remove(&old))?;
        }
        Ok(())
    }

    /// Renames the trees that no release uses, so that a release of the same number (after the
    /// database was restored from a backup) finds its path free while they are removed.
    fn set_old_aside(&self) -> io::Result<Vec<PathBuf>> {
        let folder = &self.options().work;
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        // No release can start while this lock is held.
        let dispatch = self.lock();
        let mut old = Vec::new();
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if release_of(&name).is_some_and(|release| dispatch.running.contains_key(&release)) {
                continue;
            }
            let aside = folder.join(format!("{OLD}{:016x}", rand::random::<u64>()));
            match fs::rename(entry.path(), &aside) {
                Ok(()) => old.push(aside),
                // The release has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "old work tree not removed");
                }
            }
        }
        Ok(old)
    }
}

/// The release that an entry of this name belongs to: `7`, or `7.left-…`.
fn release_of(name: &str) -> Option<ReleaseId> {
    name.split('.').next()?.parse().ok()
}

/// Removes trees; returns the number of removed ones.
fn remove(trees: &[PathBuf]) -> usize {
    let gone = trees.iter().filter(|path| {
        removal::remove_all(path)
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "old work tree not removed");
            })
            .is_ok()
    });
    gone.count()
}
