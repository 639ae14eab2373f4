//! The manifests of a project's releases, stored on the platform, so that the content of a server's
//! release is known from its id and checksum.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::manifest::Manifest;
use crate::deploy::error::StepError;
use crate::store::{ProjectId, ReleaseId};

/// The number of manifests kept besides those of the releases that servers keep: a server that was
/// left out may have an older release, and a removed one may be its recycled folder.
const SPARE: usize = 10;

/// The manifests of one project, one file each.
#[derive(Clone)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(super) fn of(root: &std::path::Path, project: ProjectId) -> Self {
        Self {
            folder: root.join(project.to_string()),
        }
    }

    /// The manifest of a release. `None` if it is unknown or cannot be read.
    pub(super) fn find(&self, release: ReleaseId) -> Option<Arc<Manifest>> {
        let file = File::open(self.path(release)).ok()?;
        let mut text = zstd::Decoder::new(file).ok()?;
        Manifest::read(&mut text).ok().map(Arc::new)
    }

    /// The newest release's manifest.
    pub(super) fn newest(&self) -> Option<Arc<Manifest>> {
        self.ids().into_iter().rev().find_map(|id| self.find(id))
    }

    /// Stores a release's manifest and deletes those that no server is likely to need any more.
    pub(super) fn save(
        &self,
        release: ReleaseId,
        manifest: &Manifest,
        keep: usize,
    ) -> Result<(), StepError> {
        let path = self.path(release);
        let at = || StepError::file(&path);
        fs::create_dir_all(&self.folder).map_err(at())?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(at())?;
        let mut write = || -> io::Result<()> {
            let mut text = zstd::Encoder::new(io::BufWriter::new(&mut file), 1)?;
            manifest.write(&mut text)?;
            io::Write::flush(&mut text.finish()?)
        };
        write().map_err(at())?;
        file.persist(&path)
            .map_err(|error| error.error)
            .map_err(at())?;
        let ids = self.ids();
        for old in &ids[..ids.len().saturating_sub(keep + SPARE)] {
            let _ = fs::remove_file(self.path(*old));
        }
        Ok(())
    }

    fn path(&self, release: ReleaseId) -> PathBuf {
        self.folder.join(release.to_string())
    }

    /// The releases that have a manifest, oldest first.
    fn ids(&self) -> Vec<ReleaseId> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut ids: Vec<ReleaseId> = names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(ReleaseId))
            .collect();
        ids.sort_unstable_by_key(|id| id.0);
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Entry, What};
    use super::*;

    #[test]
    fn the_newest_are_kept_and_a_damaged_one_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::of(folder.path(), ProjectId(1));
        assert!(records.newest().is_none());
        let manifest = |id: i64| {
            let path = id.to_string().into_bytes().into();
            Manifest::of(vec![Entry {
                path,
                what: What::Folder { mode: 0o755 },
            }])
        };
        for id in 1..=14 {
            let keep = 12 - SPARE;
            records.save(ReleaseId(id), &manifest(id), keep).unwrap();
        }
        assert!(records.find(ReleaseId(2)).is_none());
        assert_eq!(*records.find(ReleaseId(3)).unwrap(), manifest(3));
        fs::write(records.path(ReleaseId(14)), "damaged").unwrap();
        assert_eq!(*records.newest().unwrap(), manifest(13));
    }
}
