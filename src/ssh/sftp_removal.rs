//! Removes whole folders by SFTP.

use std::path::Path;

use super::error::{Cause, SshError};
use super::sftp::{Files, RemoteFile};

/// The mode bits without which a folder's owner can neither list nor change it.
const OPEN: u32 = 0o700;

impl Files<'_> {
    /// Removes a folder with all its contents, or whatever else is at `path`; links are not
    /// followed. Folders that their owner cannot write into are opened first. A folder on which
    /// something is mounted stays as it is, with its contents: a mount point cannot be renamed, and
    /// each folder is renamed before it is emptied.
    ///
    /// # Errors
    /// Those of the connection; and the first obstacle, once all else is removed.
    pub fn remove_all(&self, path: &Path) -> Result<(), SshError> {
        match self.look(path)? {
            None => Ok(()),
            Some(found) if !found.is_folder() => self.remove(path),
            Some(found) => self.remove_folder(path, &found),
        }
    }

    fn remove_folder(&self, path: &Path, found: &RemoteFile) -> Result<(), SshError> {
        if found.mode & OPEN != OPEN {
            let opened = self.set_mode(path, found.mode | OPEN);
            opened.or_else(|error| passable(error).map(|_| ()))?;
        }
        let mut first = None;
        for (name, found) in self.list(path)? {
            let inner = path.join(name);
            let removed = match found.is_folder() {
                true => {
                    let aside = path.join(format!(".longshore-{:08x}", rand::random::<u32>()));
                    self.rename(&inner, &aside)
                        .and_then(|()| self.remove_folder(&aside, &found))
                }
                false => self.remove(&inner),
            };
            if let Err(error) = removed {
                first.get_or_insert(passable(error)?);
            }
        }
        match first {
            Some(error) => Err(error),
            None => self.at(path, |sftp| Ok(sftp.rmdir(path)?)),
        }
    }
}

/// Returns an error that concerns one path; others end the removal.
fn passable(error: SshError) -> Result<SshError, SshError> {
    match error.cause {
        Cause::RemoteFile { .. } => Ok(error),
        _ => Err(error),
    }
}
