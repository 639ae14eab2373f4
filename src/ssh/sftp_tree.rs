//! Whole folders to and from a server that has no shell or no `tar`: file by file, by SFTP.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::error::SshError;
use super::sftp::{Files, Kind};
use super::transfer::here;

/// The deepest nesting of folders; links, which might lead back, are not followed anyway.
const DEEPEST: usize = 100;

impl Files<'_> {
    /// [`put_tree`](super::Connection::put_tree) without `tar`.
    pub(super) fn put_tree(
        &mut self,
        local: &Path,
        remote: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        self.make_folder(remote)?;
        let mut sent = 0;
        let entries = fs::read_dir(local).map_err(|cause| self.here(local, cause))?;
        for entry in entries {
            let entry = entry.map_err(|cause| self.here(local, cause))?;
            let (here, there) = (entry.path(), remote.join(entry.file_name()));
            let about = entry.metadata().map_err(|cause| self.here(&here, cause))?;
            let mut further = |count| progress(sent + count);
            if about.is_dir() {
                sent += self.put_tree(&here, &there, &mut further)?;
            } else if about.is_symlink() {
                let leads = fs::read_link(&here).map_err(|cause| self.here(&here, cause))?;
                if self.look(&there)?.is_some() {
                    self.remove(&there)?;
                }
                self.make_link(&there, &leads)?;
            } else if about.is_file() {
                sent += self.put(&here, &there, &mut further)?;
            }
        }
        let about = fs::metadata(local).map_err(|cause| self.here(local, cause))?;
        self.set_mode(remote, about.mode() & 0o7777)?;
        Ok(sent)
    }

    /// [`get_tree`](super::Connection::get_tree) without `tar`.
    pub(super) fn get_tree(
        &self,
        remote: &Path,
        local: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        self.get_folder(remote, local, DEEPEST, progress)
    }

    fn get_folder(
        &self,
        remote: &Path,
        local: &Path,
        depth: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause| self.here(local, cause);
        if depth == 0 {
            return Err(at(io::Error::other("folders lie too deep in each other")));
        }
        fs::create_dir_all(local).map_err(at)?;
        let mut received = 0;
        for (name, found) in self.list(remote)? {
            let (there, here) = (remote.join(&name), local.join(&name));
            let mut further = |count| progress(received + count);
            received += match found.kind {
                Kind::Folder => self.get_folder(&there, &here, depth - 1, &mut further)?,
                Kind::File => self.get(&there, &here, &mut further)?,
                Kind::Link => {
                    let leads = self.link_target(&there)?;
                    let _ = fs::remove_file(&here);
                    symlink(leads, &here).map_err(at)?;
                    0
                }
                Kind::Other => 0,
            };
        }
        let mode = self.follow(remote)?.mode;
        fs::set_permissions(local, fs::Permissions::from_mode(mode)).map_err(at)?;
        Ok(received)
    }

    fn here(&self, path: &Path, cause: io::Error) -> SshError {
        self.because(here(path)(cause))
    }
}
