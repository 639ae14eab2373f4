//! Whole folders to and from a server that has no shell or no `tar`: file by file, by SFTP.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use ssh2::FileStat;

use super::Cancel;
use super::connection::Connection;
use super::error::{Cause, SshError};
use super::transfer::RemoteFiles;

/// Deeper in each other folders do not lie; a link that leads back is not followed anyway.
const DEEPEST: usize = 100;

/// What is at a place on the server.
enum Kind {
    Folder,
    File,
    Link(PathBuf),
    /// A device, a socket: left out.
    Other,
}

impl Connection {
    /// [`put_tree`](Self::put_tree) without `tar`.
    pub(super) fn put_tree_by_sftp(
        &self,
        local: &Path,
        remote: &str,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |path: &Path, cause| {
            self.failed(Cause::LocalFile {
                path: path.to_owned(),
                cause,
            })
        };
        self.make_folder(remote, cancel)?;
        let mut sent = 0;
        let entries = fs::read_dir(local).map_err(|cause| at(local, cause))?;
        for entry in entries {
            let path = entry.map_err(|cause| at(local, cause))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let there = format!("{}/{name}", remote.trim_end_matches('/'));
            let about = path.symlink_metadata().map_err(|cause| at(&path, cause))?;
            if about.is_dir() {
                let mut further = |count| progress(sent + count);
                sent += self.put_tree_by_sftp(&path, &there, cancel, &mut further)?;
            } else if about.is_symlink() {
                let leads = fs::read_link(&path).map_err(|cause| at(&path, cause))?;
                self.make_link(&there, &leads, cancel)?;
            } else if about.is_file() {
                let mut further = |count| progress(sent + count);
                sent += self.put_file(&path, &there, cancel, &mut further)?;
            }
        }
        let about = fs::metadata(local).map_err(|cause| at(local, cause))?;
        self.set_mode(remote, about.mode() & 0o7777, cancel)?;
        Ok(sent)
    }

    /// [`get_tree`](Self::get_tree) without `tar`.
    pub(super) fn get_tree_by_sftp(
        &self,
        remote: &str,
        local: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        self.get_folder(remote, local, DEEPEST, cancel, progress)
    }

    fn get_folder(
        &self,
        remote: &str,
        local: &Path,
        depth: usize,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause: io::Error| {
            self.failed(Cause::LocalFile {
                path: local.to_owned(),
                cause,
            })
        };
        if depth == 0 {
            return Err(at(io::Error::other("folders lie too deep in each other")));
        }
        fs::create_dir_all(local).map_err(at)?;
        let mut received = 0;
        for (name, kind) in self.entries(remote, cancel)? {
            let there = format!("{}/{}", remote.trim_end_matches('/'), name.display());
            let here = local.join(&name);
            let mut further = |count| progress(received + count);
            received += match kind {
                Kind::Folder => self.get_folder(&there, &here, depth - 1, cancel, &mut further)?,
                Kind::File => self.get_file(&there, &here, cancel, &mut further)?,
                Kind::Link(leads) => {
                    let _ = fs::remove_file(&here);
                    symlink(leads, &here).map_err(at)?;
                    0
                }
                Kind::Other => 0,
            };
        }
        let mode = self.remote_file(remote, cancel)?.mode;
        fs::set_permissions(local, fs::Permissions::from_mode(mode)).map_err(at)?;
        Ok(received)
    }

    /// What is in a folder. A name that would lead elsewhere is the server's fault and left out.
    fn entries(&self, remote: &str, cancel: &Cancel) -> Result<Vec<(PathBuf, Kind)>, SshError> {
        self.by_sftp(cancel, |files| {
            let folder = Path::new(remote);
            let listed = files
                .drive(|| Ok(files.sftp.readdir(folder)?))
                .map_err(|fault| files.cause(fault, remote))?;
            let mut entries = Vec::new();
            for (path, about) in listed {
                let name = path.file_name().map(PathBuf::from);
                let Some(name) = name.filter(|name| is_plain(name)) else {
                    continue;
                };
                let kind = match about.file_type() {
                    ssh2::FileType::Directory => Kind::Folder,
                    ssh2::FileType::RegularFile => Kind::File,
                    ssh2::FileType::Symlink => Kind::Link(
                        files
                            .drive(|| Ok(files.sftp.readlink(&path)?))
                            .map_err(|fault| files.cause(fault, remote))?,
                    ),
                    _ => Kind::Other,
                };
                entries.push((name, kind));
            }
            Ok(entries)
        })
    }

    fn make_folder(&self, remote: &str, cancel: &Cancel) -> Result<(), SshError> {
        self.by_sftp(cancel, |files| {
            let path = Path::new(remote);
            let made = files.drive(|| Ok(files.sftp.mkdir(path, 0o755)?));
            let Err(fault) = made else { return Ok(()) };
            match files.drive(|| Ok(files.sftp.stat(path)?)) {
                Ok(there) if there.is_dir() => Ok(()),
                _ => Err(files.cause(fault, remote)),
            }
        })
    }

    fn make_link(&self, remote: &str, leads: &Path, cancel: &Cancel) -> Result<(), SshError> {
        self.by_sftp(cancel, |files| {
            let path = Path::new(remote);
            // An older one goes; where there is none that fails, and is no failure.
            let _ = files.drive(|| Ok(files.sftp.unlink(path)?));
            // OpenSSH takes the two names in the other order than the protocol has them, and so does
            // everybody: the first one is where it leads.
            files
                .drive(|| Ok(files.sftp.symlink(leads, path)?))
                .map_err(|fault| files.cause(fault, remote))
        })
    }

    fn set_mode(&self, remote: &str, mode: u32, cancel: &Cancel) -> Result<(), SshError> {
        self.by_sftp(cancel, |files| {
            let about = FileStat {
                size: None,
                uid: None,
                gid: None,
                perm: Some(mode),
                atime: None,
                mtime: None,
            };
            let path = Path::new(remote);
            files
                .drive(|| Ok(files.sftp.setstat(path, about.clone())?))
                .map_err(|fault| files.cause(fault, remote))
        })
    }

    fn by_sftp<T>(
        &self,
        cancel: &Cancel,
        work: impl FnOnce(&RemoteFiles<'_>) -> Result<T, Cause>,
    ) -> Result<T, SshError> {
        RemoteFiles::open(self, cancel)
            .and_then(|files| work(&files))
            .map_err(|cause| self.failed(cause))
    }
}

/// Whether it is one name, which leads nowhere else.
fn is_plain(name: &Path) -> bool {
    let mut parts = name.components();
    matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
}
