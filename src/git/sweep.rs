//! Removes mirrors that nothing is released from any more: of projects that were deleted, or whose
//! address or login changed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::error::GitError;
use super::mirror::{LOCK, Mirror, Mirrors, Source};

/// The suffix of a mirror's folder that is being removed.
const GONE: &str = ".gone";

impl Mirrors {
    /// Removes the mirrors that belong to none of `used` and were not used for `unused`; returns
    /// the number of them. A mirror that is being fetched stays. So do mirrors of submodules, which
    /// are in no list, while releases still take files from them.
    ///
    /// # Errors
    /// [`GitError::Disk`] if a folder cannot be read or removed.
    pub fn sweep(&self, used: &[Source], unused: Duration) -> Result<u64, GitError> {
        let at = |cause| GitError::disk(self.root(), cause);
        let kept: HashSet<String> = used.iter().map(Source::folder_name).collect();
        let folders = match self.root().read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            folders => folders.map_err(at)?,
        };
        let mut count = 0;
        for folder in folders {
            let folder = folder.map_err(at)?;
            let name = folder.file_name().to_string_lossy().into_owned();
            let path = folder.path();
            if name.ends_with(GONE) {
                // An earlier sweep was killed before it finished.
                fs::remove_dir_all(&path).map_err(|cause| GitError::disk(&path, cause))?;
            } else if !kept.contains(&name) && remove(&path, unused).map_err(at)? {
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Mirror {
    /// Records the time of use. Best effort: an unused mirror is only fetched again.
    pub(super) fn touch(&self) {
        let lock = fs::File::options().append(true).open(self.lock_path());
        let _ = lock.and_then(|lock| lock.set_modified(SystemTime::now()));
    }
}

/// Removes a mirror's folder under its lock, if it was not used for `unused`. It is renamed first,
/// so that nobody finds half of it; a caller that waits for its lock sees that the folder is gone.
fn remove(folder: &Path, unused: Duration) -> io::Result<bool> {
    let lock = match fs::File::options().append(true).open(folder.join(LOCK)) {
        // Not a mirror's folder.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(false);
        }
        lock => lock?,
    };
    let is_old = || -> io::Result<bool> {
        let age = lock.metadata()?.modified()?.elapsed();
        // A time in the future counts as now.
        Ok(age.is_ok_and(|age| age >= unused))
    };
    if !is_old()? || lock.try_lock().is_err() || !is_old()? {
        return Ok(false);
    }
    let mut aside = folder.as_os_str().to_owned();
    aside.push(GONE);
    fs::rename(folder, &aside)?;
    fs::remove_dir_all(&aside)?;
    Ok(true)
}
