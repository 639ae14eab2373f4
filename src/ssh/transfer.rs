//! Single files to and from the server, by SFTP. Trees travel faster as `tar` through
//! [`Connection::exec`].

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ssh2::{ErrorCode, FileStat, OpenFlags, OpenType, Sftp};

use super::Cancel;
use super::connection::Connection;
use super::error::{Cause, Phase, SshError};
use super::link::{Fault, Patience};
use super::script::quote;

/// libssh2 keeps as many packets under way as one write or read has bytes: small ones are slow.
const CHUNK: usize = 1024 * 1024;

/// How long clearing up after a failure may take.
const CLEAR_UP: Duration = Duration::from_secs(2);

/// The limit of the `mv` that replaces an existing file.
const RENAME_LIMIT: Duration = Duration::from_secs(10);

const NO_SUCH_FILE: ErrorCode = ErrorCode::SFTP(2);
const PERMISSION_DENIED: ErrorCode = ErrorCode::SFTP(3);
const UNSUPPORTED: ErrorCode = ErrorCode::SFTP(8);
const NO_SPACE: [ErrorCode; 2] = [ErrorCode::SFTP(14), ErrorCode::SFTP(15)];

impl Connection {
    /// Copies the file `local` to `remote` (relative to the login's home folder unless it begins
    /// with `/`) with the permission bits `mode`. See [`upload_from`](Self::upload_from).
    pub fn upload(
        &self,
        local: &Path,
        remote: &str,
        mode: u32,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause| Cause::LocalFile {
            path: local.to_owned(),
            cause,
        };
        let mut source = File::open(local).map_err(|cause| self.failed(at(cause)))?;
        self.put(&mut source, remote, mode, cancel, progress, &at)
            .map_err(|cause| self.failed(cause))
    }

    /// Writes all that `source` has to the file `remote`; returns how many bytes that were.
    ///
    /// The file is written beside its place, under its name with `.part` at the end, synced where
    /// the server can, and renamed when it is whole; an older file is replaced in one step.
    /// `progress` gets the bytes written so far. A `.part` is removed after a failure, unless the
    /// connection was lost.
    pub fn upload_from(
        &self,
        source: &mut dyn Read,
        remote: &str,
        mode: u32,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause| Cause::Input { cause };
        self.put(source, remote, mode, cancel, progress, &at)
            .map_err(|cause| self.failed(cause))
    }

    /// Copies the file `remote` to `local`, with its permission bits; returns its length in bytes.
    /// It appears under its name when it is whole. `progress` gets the bytes read so far.
    pub fn download(
        &self,
        remote: &str,
        local: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        self.get(remote, local, cancel, progress)
            .map_err(|cause| self.failed(cause))
    }

    fn put(
        &self,
        source: &mut dyn Read,
        remote: &str,
        mode: u32,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
        unreadable: &dyn Fn(io::Error) -> Cause,
    ) -> Result<u64, Cause> {
        let files = RemoteFiles::open(self, cancel)?;
        let part = format!("{remote}.{:08x}.part", rand::random::<u32>());
        let place = Path::new(&part);
        let written = files
            .create(remote, place)
            .and_then(|file| files.fill(file, source, remote, mode, progress, unreadable))
            .and_then(|written| files.replace(place, remote).map(|()| written));
        if matches!(&written, Err(cause) if !matches!(cause, Cause::ConnectionLost { .. })) {
            let patience = Patience::until(Instant::now() + CLEAR_UP);
            let _ = self.link.drive(patience, || Ok(files.sftp.unlink(place)?));
        }
        written
    }

    fn get(
        &self,
        remote: &str,
        local: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, Cause> {
        let at = |cause| Cause::LocalFile {
            path: local.to_owned(),
            cause,
        };
        let folder = match local.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let files = RemoteFiles::open(self, cancel)?;
        let (mut source, mode) = files.open_for_reading(remote)?;
        let mut place = tempfile::NamedTempFile::new_in(folder).map_err(at)?;
        let received = files.empty(&mut source, &mut place, remote, progress, &at)?;
        place
            .as_file()
            .set_permissions(Permissions::from_mode(mode & 0o7777))
            .map_err(at)?;
        place.persist(local).map_err(|error| at(error.error))?;
        Ok(received)
    }
}

/// The SFTP subsystem of one connection, for one file: servers that allow one channel at a time
/// must be able to run a command after it.
pub(super) struct RemoteFiles<'a> {
    connection: &'a Connection,
    cancel: &'a Cancel,
    pub(super) sftp: Sftp,
}

impl<'a> RemoteFiles<'a> {
    pub(super) fn open(connection: &'a Connection, cancel: &'a Cancel) -> Result<Self, Cause> {
        let link = &connection.link;
        let idle = connection.timeouts.idle;
        let patience = Patience {
            until: None,
            idle: Some(idle),
            cancel: Some(cancel),
        };
        let sftp = link
            .drive_opening(patience, || Ok(link.session.sftp()?))
            .map_err(|fault| match fault {
                // libssh2 also says so when only the channel was closed, not the connection.
                Fault::Failed { ref reason, .. }
                    if !fault.is_lost() || reason.contains("SFTP subsystem") =>
                {
                    Cause::Refused {
                        what: "SFTP",
                        reason: reason.clone(),
                    }
                }
                fault => fault.general(Phase::Transfer, idle),
            })?;
        Ok(Self {
            connection,
            cancel,
            sftp,
        })
    }

    pub(super) fn drive<T>(&self, call: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
        if self.cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        let patience = Patience {
            until: None,
            idle: Some(self.connection.timeouts.idle),
            cancel: Some(self.cancel),
        };
        self.connection.link.drive(patience, call)
    }

    pub(super) fn cause(&self, fault: Fault, path: &str) -> Cause {
        let reason = match fault.code() {
            Some(code) if NO_SPACE.contains(&code) => {
                return Cause::DiskFull {
                    path: path.to_owned(),
                };
            }
            Some(NO_SUCH_FILE) => "no such file or folder".to_owned(),
            Some(PERMISSION_DENIED) => "permission denied".to_owned(),
            _ if fault.is_lost() || !matches!(fault, Fault::Failed { .. }) => {
                return fault.general(Phase::Transfer, self.connection.timeouts.idle);
            }
            _ => format!("the server refused ({})", fault.reason()),
        };
        Cause::RemoteFile {
            path: path.to_owned(),
            reason,
        }
    }

    fn create(&self, remote: &str, place: &Path) -> Result<ssh2::File, Cause> {
        let flags = OpenFlags::WRITE | OpenFlags::EXCLUSIVE;
        // Readable by its owner alone until it is whole and gets its mode.
        self.drive(|| Ok(self.sftp.open_mode(place, flags, 0o600, OpenType::File)?))
            .map_err(|fault| match fault.code() {
                Some(NO_SUCH_FILE) => Cause::RemoteFile {
                    path: remote.to_owned(),
                    reason: "its folder does not exist".to_owned(),
                },
                _ => self.cause(fault, remote),
            })
    }

    fn fill(
        &self,
        mut file: ssh2::File,
        source: &mut dyn Read,
        remote: &str,
        mode: u32,
        progress: &mut dyn FnMut(u64),
        unreadable: &dyn Fn(io::Error) -> Cause,
    ) -> Result<u64, Cause> {
        let mut chunk = vec![0; CHUNK];
        let mut written = 0;
        loop {
            let length = fill_chunk(source, &mut chunk).map_err(unreadable)?;
            let mut rest = &chunk[..length];
            while !rest.is_empty() {
                match self.drive(|| Ok(file.write(rest)?)) {
                    Ok(sent) => {
                        rest = &rest[sent..];
                        written += sent as u64;
                        progress(written);
                    }
                    Err(fault) => return Err(self.writing_failed(fault, file, remote)),
                }
            }
            if length < CHUNK {
                break;
            }
        }
        self.seal(file, mode)
            .map_err(|fault| self.cause(fault, remote))?;
        Ok(written)
    }

    /// A server of SFTP's version 3 has no word for a full disk; its free room tells.
    fn writing_failed(&self, fault: Fault, mut file: ssh2::File, remote: &str) -> Cause {
        let server_refused = matches!(fault.code(), Some(ErrorCode::SFTP(_)))
            || matches!(fault.code(), Some(ErrorCode::Session(-31)));
        if server_refused
            && let Ok(disk) = self.drive(|| Ok(file.statvfs()?))
            && disk.f_bavail.saturating_mul(disk.f_frsize) < CHUNK as u64
        {
            return Cause::DiskFull {
                path: remote.to_owned(),
            };
        }
        self.cause(fault, remote)
    }

    /// Mode, sync, close.
    fn seal(&self, mut file: ssh2::File, mode: u32) -> Result<(), Fault> {
        let permissions = FileStat {
            size: None,
            uid: None,
            gid: None,
            perm: Some(mode & 0o7777),
            atime: None,
            mtime: None,
        };
        self.drive(|| Ok(file.setstat(permissions.clone())?))?;
        match self.drive(|| Ok(file.fsync()?)) {
            Err(fault) if fault.is_lost() || fault.code().is_none() => return Err(fault),
            _ => {}
        }
        self.drive(|| Ok(file.close()?))
    }

    /// Renames the whole file to its name. SFTP's own rename refuses to replace a file, and
    /// OpenSSH's that does is not in reach: `mv` does it then.
    fn replace(&self, place: &Path, remote: &str) -> Result<(), Cause> {
        let target = Path::new(remote);
        match self.drive(|| Ok(self.sftp.rename(place, target, None)?)) {
            Ok(()) => return Ok(()),
            Err(fault) if fault.is_lost() || fault.code() == Some(UNSUPPORTED) => {
                return Err(self.cause(fault, remote));
            }
            Err(fault) => match self.drive(|| Ok(self.sftp.lstat(target)?)) {
                Ok(older) if older.is_dir() => {
                    return Err(Cause::RemoteFile {
                        path: remote.to_owned(),
                        reason: "it is a folder".to_owned(),
                    });
                }
                Ok(_) => {}
                Err(_) => return Err(self.cause(fault, remote)),
            },
        }
        let absolute = |path: &str| match path.starts_with('/') {
            true => quote(path),
            false => quote(&format!("./{path}")),
        };
        let command = format!(
            "mv -f {} {}",
            absolute(&place.to_string_lossy()),
            absolute(remote)
        );
        if let Ok(true) = self.connection.succeeds(&command, RENAME_LIMIT) {
            return Ok(());
        }
        self.drive(|| Ok(self.sftp.unlink(target)?))
            .and_then(|()| self.drive(|| Ok(self.sftp.rename(place, target, None)?)))
            .map_err(|fault| self.cause(fault, remote))
    }

    pub(super) fn open_for_reading(&self, remote: &str) -> Result<(ssh2::File, u32), Cause> {
        let cause = |fault| self.cause(fault, remote);
        let path = Path::new(remote);
        let found = self.drive(|| Ok(self.sftp.stat(path)?)).map_err(cause)?;
        if !found.is_file() {
            return Err(Cause::RemoteFile {
                path: remote.to_owned(),
                reason: "it is not a regular file".to_owned(),
            });
        }
        let file = self.drive(|| Ok(self.sftp.open(path)?)).map_err(cause)?;
        Ok((file, found.perm.unwrap_or(0o644)))
    }

    pub(super) fn empty(
        &self,
        source: &mut ssh2::File,
        place: &mut dyn Write,
        remote: &str,
        progress: &mut dyn FnMut(u64),
        unwritable: &dyn Fn(io::Error) -> Cause,
    ) -> Result<u64, Cause> {
        let mut chunk = vec![0; CHUNK];
        let mut received = 0;
        loop {
            let length = self
                .drive(|| Ok(source.read(&mut chunk)?))
                .map_err(|fault| self.cause(fault, remote))?;
            if length == 0 {
                place.flush().map_err(unwritable)?;
                return Ok(received);
            }
            place.write_all(&chunk[..length]).map_err(unwritable)?;
            received += length as u64;
            progress(received);
        }
    }
}

/// Reads until `chunk` is full or `source` ends.
fn fill_chunk(source: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < chunk.len() {
        match source.read(&mut chunk[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
