//! Files with their modes and times, and what a server without a shell tells of its folders.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh2::{FileStat, OpenFlags, OpenType};

use super::Cancel;
use super::connection::Connection;
use super::error::{Cause, SshError};
use super::transfer::RemoteFiles;

/// A file on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its permission bits.
    pub mode: u32,
    /// When it was last changed, in seconds since 1970.
    pub changed: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
}

impl Connection {
    /// [`upload`](Self::upload) that keeps the file's mode and time of its last change.
    pub fn put_file(
        &self,
        local: &Path,
        remote: &str,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause| Cause::LocalFile {
            path: local.to_owned(),
            cause,
        };
        let found = fs::metadata(local).map_err(|cause| self.failed(at(cause)))?;
        let sent = self.upload(local, remote, found.mode() & 0o7777, cancel, progress)?;
        self.set_changed(remote, u64::try_from(found.mtime()).unwrap_or(0), cancel)?;
        Ok(sent)
    }

    /// [`download`](Self::download) that keeps the time of its last change too.
    pub fn get_file(
        &self,
        remote: &str,
        local: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let found = self.remote_file(remote, cancel)?;
        let received = self.download(remote, local, cancel, progress)?;
        let changed = UNIX_EPOCH + Duration::from_secs(found.changed);
        File::options()
            .append(true)
            .open(local)
            .or_else(|_| File::open(local))
            .and_then(|file| file.set_times(FileTimes::new().set_modified(changed)))
            .map_err(|cause| {
                self.failed(Cause::LocalFile {
                    path: local.to_owned(),
                    cause,
                })
            })?;
        Ok(received)
    }

    /// Reads the file `remote` into `sink`; returns how many bytes that were.
    pub fn read_file(
        &self,
        remote: &str,
        sink: &mut dyn Write,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let read = || {
            let files = RemoteFiles::open(self, cancel)?;
            let (mut source, _) = files.open_for_reading(remote)?;
            let unwritable = |cause| Cause::Output { cause };
            files.empty(&mut source, sink, remote, progress, &unwritable)
        };
        let mut read = read;
        read().map_err(|cause| self.failed(cause))
    }

    /// What is at `remote`, symlinks followed.
    pub fn remote_file(&self, remote: &str, cancel: &Cancel) -> Result<RemoteFile, SshError> {
        let look = || {
            let files = RemoteFiles::open(self, cancel)?;
            let path = Path::new(remote);
            let found = files
                .drive(|| Ok(files.sftp.stat(path)?))
                .map_err(|fault| files.cause(fault, remote))?;
            Ok(RemoteFile {
                length: found.size.unwrap_or_default(),
                mode: found.perm.unwrap_or_default() & 0o7777,
                changed: found.mtime.unwrap_or_default(),
                is_folder: found.is_dir(),
            })
        };
        look().map_err(|cause| self.failed(cause))
    }

    /// Says when the file `remote` was last changed, in seconds since 1970.
    pub fn set_changed(&self, remote: &str, changed: u64, cancel: &Cancel) -> Result<(), SshError> {
        let set = || {
            let files = RemoteFiles::open(self, cancel)?;
            let times = FileStat {
                size: None,
                uid: None,
                gid: None,
                perm: None,
                atime: Some(now()),
                mtime: Some(changed),
            };
            let path = Path::new(remote);
            files
                .drive(|| Ok(files.sftp.setstat(path, times.clone())?))
                .map_err(|fault| files.cause(fault, remote))
        };
        set().map_err(|cause| self.failed(cause))
    }

    /// Whether the folder `remote` can be written, tried with a file that is removed again, and the
    /// room on its disk in bytes, where the server tells it.
    pub fn try_folder(
        &self,
        remote: &str,
        cancel: &Cancel,
    ) -> Result<(bool, Option<u64>), SshError> {
        let look = || {
            let files = RemoteFiles::open(self, cancel)?;
            let name = format!(
                "{}/.longshore-{:08x}",
                remote.trim_end_matches('/'),
                rand::random::<u32>()
            );
            let place = Path::new(&name);
            let flags = OpenFlags::WRITE | OpenFlags::EXCLUSIVE;
            let made =
                files.drive(|| Ok(files.sftp.open_mode(place, flags, 0o600, OpenType::File)?));
            let Ok(mut file) = made else {
                return Ok((false, None));
            };
            let room = files.drive(|| Ok(file.statvfs()?)).ok();
            let _ = files.drive(|| Ok(file.close()?));
            files
                .drive(|| Ok(files.sftp.unlink(place)?))
                .map_err(|fault| files.cause(fault, remote))?;
            let room = room.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            Ok((true, room))
        };
        look().map_err(|cause| self.failed(cause))
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
