//! Single files to and from a server, by SFTP, with their modes and times. Trees travel faster as
//! `tar` through [`Connection::exec`].

use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::Cancel;
use super::connection::Connection;
use super::error::{Cause, SshError};
use super::link::Patience;
use super::parallel_upload::LARGE;
use super::sftp::{Files, Kind, RemoteFile};
use super::sftp_content::NewRemoteFile;

/// The time limit for clearing up after a failure.
const CLEAR_UP: Duration = Duration::from_secs(2);

impl Connection {
    /// Copies the file `local` to `remote` (relative to the login's home folder unless it begins
    /// with `/`). See [`upload_from`](Self::upload_from). A large file also uses extra connections,
    /// if the server and the pool have some.
    ///
    /// # Errors
    /// Those of [`upload_from`](Self::upload_from), and [`Cause::LocalFile`].
    pub fn put_file(
        &self,
        local: &Path,
        remote: &str,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        self.files(cancel)?.put(local, Path::new(remote), progress)
    }

    /// Writes all of `source` to the file `remote`; returns the number of bytes.
    ///
    /// The file is written next to its final place, under its name with `.part` at the end, and
    /// renamed when it is whole; an older file is replaced in one step if the server can do that.
    /// `progress` gets the bytes written so far. A `.part` is removed after a failure, unless the
    /// connection was lost.
    ///
    /// # Errors
    /// Those of `source`, a server without SFTP or that refuses the file, [`Cause::DiskFull`], and
    /// those of the connection.
    pub fn upload_from(
        &self,
        source: &mut dyn Read,
        remote: &str,
        file: NewRemoteFile,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause| Cause::Input { cause };
        self.files(cancel)?.bring(Path::new(remote), |files, part| {
            files.write(part, file, source, progress, &at)
        })
    }

    /// Copies the file `remote` to `local`; returns its length in bytes. It appears under its name
    /// when it is whole. `progress` gets the bytes read so far.
    ///
    /// # Errors
    /// A file that cannot be read there or written here, and those of the connection.
    pub fn get_file(
        &self,
        remote: &str,
        local: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        self.files(cancel)?.get(Path::new(remote), local, progress)
    }

    /// Reads the file `remote` into `sink`; returns the number of bytes.
    ///
    /// # Errors
    /// Those of `sink`, a file that cannot be read, and those of the connection.
    pub fn read_file(
        &self,
        remote: &str,
        sink: &mut dyn Write,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let files = self.files(cancel)?;
        let remote = Path::new(remote);
        files.regular(remote)?;
        files.read(remote, sink, progress, &|cause| Cause::Output { cause })
    }

    /// The entry at `remote`, links followed.
    ///
    /// # Errors
    /// Those of [`Files::follow`], and a server without SFTP.
    pub fn remote_file(&self, remote: &str, cancel: &Cancel) -> Result<RemoteFile, SshError> {
        self.files(cancel)?.follow(Path::new(remote))
    }
}

/// The cause for an error of a local file or folder.
pub(super) fn here(path: &Path) -> impl Fn(io::Error) -> Cause {
    move |cause| Cause::LocalFile {
        path: path.to_owned(),
        cause,
    }
}

impl Files<'_> {
    /// Copies a local file to the server, with mode and time.
    pub(super) fn put(
        &mut self,
        local: &Path,
        remote: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = here(local);
        let opened = File::open(local).and_then(|file| Ok((file.metadata()?, file)));
        let (about, mut source) = opened.map_err(|cause| self.because(at(cause)))?;
        let file = NewRemoteFile {
            mode: about.mode() & 0o7777,
            changed: u64::try_from(about.mtime()).ok(),
            synced: true,
        };
        let length = about.len();
        self.bring(remote, |files, part| match length < LARGE {
            true => files.write(part, file, &mut source, progress, &at),
            false => files.write_parallel(part, file, (&source, length), progress, &at),
        })
    }

    /// Has a file written next to its final place, and renames it when it is whole.
    fn bring(
        &mut self,
        remote: &Path,
        write: impl FnOnce(&Self, &Path) -> Result<u64, SshError>,
    ) -> Result<u64, SshError> {
        let mut part = remote.as_os_str().to_owned();
        part.push(format!(".{:08x}.part", rand::random::<u32>()));
        let part = Path::new(&part);
        let brought =
            write(self, part).and_then(|written| self.settle(part, remote).map(|()| written));
        let is_lost = |error: &SshError| matches!(error.cause, Cause::ConnectionLost { .. });
        if brought.as_ref().is_err_and(|error| !is_lost(error)) {
            self.clear_up(part, Patience::until(Instant::now() + CLEAR_UP));
        }
        brought
    }

    /// Renames the whole file. SFTP's own rename refuses to replace a file.
    fn settle(&mut self, part: &Path, remote: &Path) -> Result<(), SshError> {
        let Err(refused) = self.rename(part, remote) else {
            return Ok(());
        };
        if !matches!(refused.cause, Cause::RemoteFile { .. }) {
            return Err(refused);
        }
        match self.look(remote)? {
            None => return Err(refused),
            Some(older) if older.is_folder() => {
                return Err(self.wrong(remote, "it is a folder"));
            }
            Some(_) => {}
        }
        if !self.replace(part, remote)? {
            self.remove(remote)?;
            self.rename(part, remote)?;
        }
        Ok(())
    }

    /// Copies a regular file of the server to this machine, with mode and time.
    pub(super) fn get(
        &self,
        remote: &Path,
        local: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = here(local);
        let failed = |cause| self.because(at(cause));
        let folder = match local.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let about = self.regular(remote)?;
        let mut place = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        let received = self.read(remote, &mut place, progress, &at)?;
        let changed = UNIX_EPOCH + Duration::from_secs(about.changed);
        let file = place.as_file();
        file.set_permissions(Permissions::from_mode(about.mode))
            .and_then(|()| file.set_times(FileTimes::new().set_modified(changed)))
            .map_err(failed)?;
        place.persist(local).map_err(|error| failed(error.error))?;
        Ok(received)
    }

    /// The entry at `path`, which must be a regular file or lead to one.
    fn regular(&self, path: &Path) -> Result<RemoteFile, SshError> {
        let about = self.follow(path)?;
        match about.kind {
            Kind::File => Ok(about),
            _ => Err(self.wrong(path, "it is not a regular file")),
        }
    }

    pub(super) fn wrong(&self, path: &Path, reason: &str) -> SshError {
        self.because(Cause::RemoteFile {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        })
    }
}
