//! A server's files by SFTP, over one channel for all operations.

use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ssh2::{ErrorCode, FileStat, FileType, Sftp};

use super::Cancel;
use super::connection::Connection;
use super::error::{Cause, Phase, SshError};
use super::link::{CHANNEL_REFUSED, Fault, Patience};
use super::sftp_rename::posix_rename;

pub(super) const NO_SUCH_FILE: ErrorCode = ErrorCode::SFTP(2);
const PERMISSION_DENIED: ErrorCode = ErrorCode::SFTP(3);
const UNSUPPORTED: ErrorCode = ErrorCode::SFTP(8);
const NO_SPACE: [ErrorCode; 2] = [ErrorCode::SFTP(14), ErrorCode::SFTP(15)];

/// libssh2's error at a folder's end.
const NO_MORE_FILES: ErrorCode = ErrorCode::Session(-16);

/// The mode of a folder that others must be able to read.
const READABLE: u32 = 0o755;

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A device, a socket or a pipe.
    Other,
}

/// A file, folder or link on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The type.
    pub kind: Kind,
    /// Its length in bytes.
    pub length: u64,
    /// Its permission bits.
    pub mode: u32,
    /// The modification time, in seconds since 1970.
    pub changed: u64,
}

impl RemoteFile {
    fn of(found: &FileStat) -> Self {
        Self {
            kind: match found.file_type() {
                FileType::Directory => Kind::Folder,
                FileType::RegularFile => Kind::File,
                FileType::Symlink => Kind::Link,
                _ => Kind::Other,
            },
            length: found.size.unwrap_or_default(),
            mode: found.perm.unwrap_or_default() & 0o7777,
            changed: found.mtime.unwrap_or_default(),
        }
    }

    /// True for a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }
}

/// The SFTP subsystem of one connection, closed on drop: a server that allows one channel at a time
/// runs no command meanwhile. Paths are relative to the login's home folder unless they begin with
/// `/`. Every operation ends within 2 s of the cancel that it was opened with.
pub struct Files<'a> {
    pub(super) connection: &'a Connection,
    pub(super) cancel: &'a Cancel,
    /// `None` while another channel does what libssh2 cannot, on a server that allows one channel.
    sftp: Option<Sftp>,
}

impl Connection {
    /// Opens the server's files.
    ///
    /// # Errors
    /// [`Cause::Refused`] if the server has no SFTP, and those of the connection.
    pub fn files<'a>(&'a self, cancel: &'a Cancel) -> Result<Files<'a>, SshError> {
        let mut files = Files {
            connection: self,
            cancel,
            sftp: None,
        };
        files.open()?;
        Ok(files)
    }
}

impl Files<'_> {
    fn open(&mut self) -> Result<(), SshError> {
        let link = &self.connection.link;
        let opened = link.drive_opening(self.patience(), || Ok(link.session.sftp()?));
        self.sftp = Some(opened.map_err(|fault| {
            self.connection.failed(match fault {
                // libssh2 also returns this code if only the channel was closed, not the
                // connection.
                Fault::Failed { ref reason, .. }
                    if !fault.is_lost() || reason.contains("SFTP subsystem") =>
                {
                    Cause::Refused {
                        what: "SFTP",
                        reason: reason.clone(),
                    }
                }
                fault => fault.general(Phase::Transfer, self.connection.timeouts.idle),
            })
        })?);
        Ok(())
    }

    /// The entry at `path` itself; `None` if there is none.
    ///
    /// # Errors
    /// A refusal by the server, and those of the connection.
    pub fn look(&self, path: &Path) -> Result<Option<RemoteFile>, SshError> {
        match self.drive(|sftp| Ok(sftp.lstat(path)?)) {
            Ok(found) => Ok(Some(RemoteFile::of(&found))),
            Err(fault) if fault.code() == Some(NO_SUCH_FILE) => Ok(None),
            Err(fault) => Err(self.failed(fault, path)),
        }
    }

    /// The entry at `path`, links followed.
    ///
    /// # Errors
    /// A path that does not exist, a refusal by the server, and those of the connection.
    pub fn follow(&self, path: &Path) -> Result<RemoteFile, SshError> {
        let found = self.at(path, |sftp| Ok(sftp.stat(path)?))?;
        Ok(RemoteFile::of(&found))
    }

    /// The entries of a folder, by name. A name that would lead outside is omitted.
    ///
    /// # Errors
    /// A folder that cannot be listed, and those of the connection.
    pub fn list(&self, folder: &Path) -> Result<Vec<(PathBuf, RemoteFile)>, SshError> {
        let mut opened = self.at(folder, |sftp| Ok(sftp.opendir(folder)?))?;
        let mut entries = Vec::new();
        loop {
            match self.drive(|_| Ok(opened.readdir()?)) {
                Ok((name, found)) if is_plain(&name) => {
                    entries.push((name, RemoteFile::of(&found)));
                }
                Ok(_) => {}
                Err(fault) if fault.code() == Some(NO_MORE_FILES) => break,
                Err(fault) => return Err(self.failed(fault, folder)),
            }
        }
        self.at(folder, |_| Ok(opened.close()?))?;
        Ok(entries)
    }

    /// The target of the link at `path`.
    ///
    /// # Errors
    /// A path that is no link, and those of the connection.
    pub fn link_target(&self, path: &Path) -> Result<PathBuf, SshError> {
        self.at(path, |sftp| Ok(sftp.readlink(path)?))
    }

    /// Creates a folder if it does not exist.
    ///
    /// # Errors
    /// A folder that cannot be created, and those of the connection.
    pub fn make_folder(&self, path: &Path) -> Result<(), SshError> {
        let made = self.drive(|sftp| Ok(sftp.mkdir(path, 0o755)?));
        let Err(fault) = made else { return Ok(()) };
        match self.drive(|sftp| Ok(sftp.stat(path)?)) {
            Ok(there) if there.is_dir() => Ok(()),
            _ => Err(self.failed(fault, path)),
        }
    }

    /// Creates a folder and its parents if they do not exist, readable for everybody, regardless of
    /// the server's umask.
    ///
    /// # Errors
    /// A folder that cannot be created, and those of the connection.
    pub fn make_folders(&self, path: &Path) -> Result<(), SshError> {
        match self.drive(|sftp| Ok(sftp.stat(path)?)) {
            Ok(there) if there.is_dir() => return Ok(()),
            Err(fault) if fault.is_lost() => return Err(self.failed(fault, path)),
            _ => {}
        }
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            self.make_folders(above)?;
        }
        self.make_folder(path)?;
        let made = self.follow(path)?;
        match made.mode & READABLE == READABLE {
            true => Ok(()),
            false => self.set_mode(path, made.mode | READABLE),
        }
    }

    /// The path with links resolved, as the server reports it.
    ///
    /// # Errors
    /// [`Cause::RemoteFile`] if it does not exist.
    pub fn real(&self, path: &Path) -> Result<PathBuf, SshError> {
        self.at(path, |sftp| Ok(sftp.realpath(path)?))
    }

    /// Creates a link at `path` that leads to `target`.
    ///
    /// # Errors
    /// A link that cannot be created, and those of the connection.
    pub fn make_link(&self, path: &Path, target: &Path) -> Result<(), SshError> {
        // OpenSSH takes the two names in the reverse order of the protocol, and so do all others:
        // the target comes first.
        self.at(path, |sftp| Ok(sftp.symlink(target, path)?))
    }

    /// Sets the permission bits of the file or folder at `path`.
    ///
    /// # Errors
    /// A refusal by the server, and those of the connection.
    pub fn set_mode(&self, path: &Path, mode: u32) -> Result<(), SshError> {
        self.set(path, &attributes(Some(mode), None))
    }

    /// Sets the modification time of the file at `path`, in seconds since 1970.
    ///
    /// # Errors
    /// A refusal by the server, and those of the connection.
    pub fn set_changed(&self, path: &Path, changed: u64) -> Result<(), SshError> {
        self.set(path, &attributes(None, Some(changed)))
    }

    fn set(&self, path: &Path, about: &FileStat) -> Result<(), SshError> {
        self.at(path, |sftp| Ok(sftp.setstat(path, about.clone())?))
    }

    /// Removes the file or link at `path`.
    ///
    /// # Errors
    /// A refusal by the server, and those of the connection.
    pub fn remove(&self, path: &Path) -> Result<(), SshError> {
        self.at(path, |sftp| Ok(sftp.unlink(path)?))
    }

    /// Renames `from` to `to`, which must not exist.
    ///
    /// # Errors
    /// A refusal by the server, and those of the connection.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), SshError> {
        self.at(to, |sftp| Ok(sftp.rename(from, to, None)?))
    }

    /// Renames `from` to `to` in one step, replacing what is there; false if the server cannot do
    /// that.
    ///
    /// # Errors
    /// A refusal by the server, and those of the connection.
    pub fn replace(&mut self, from: &Path, to: &Path) -> Result<bool, SshError> {
        let link = &self.connection.link;
        let session = &link.session;
        let replaced = match link.drive(self.patience(), || Ok(session.channel_session()?)) {
            Ok(channel) => posix_rename(link, self.patience(), channel, from, to),
            // It allows one channel at a time.
            Err(fault) if fault.code() == Some(CHANNEL_REFUSED) => {
                self.sftp = None;
                let channel =
                    link.drive_opening(self.patience(), || Ok(session.channel_session()?));
                let replaced =
                    channel.and_then(|it| posix_rename(link, self.patience(), it, from, to));
                self.open()?;
                replaced
            }
            Err(fault) => Err(fault),
        };
        match replaced {
            Ok(()) => Ok(true),
            Err(fault) if fault.code() == Some(UNSUPPORTED) => Ok(false),
            Err(fault) => Err(self.failed(fault, to)),
        }
    }

    /// The free space on the disk of the folder `path` in bytes, if the server reports it; `None`
    /// if no file can be created there, which is tested with one that is removed again.
    ///
    /// # Errors
    /// A test file that cannot be removed, and those of the connection.
    pub fn try_folder(&self, path: &Path) -> Result<Option<Option<u64>>, SshError> {
        let place = path.join(format!(".longshore-{:08x}", rand::random::<u32>()));
        let Ok(mut file) = self.create(&place) else {
            return Ok(None);
        };
        let room = self.drive(|_| Ok(file.statvfs()?)).ok();
        let _ = self.drive(|_| Ok(file.close()?));
        self.remove(&place)?;
        let room = room.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Ok(Some(room))
    }

    /// Removes what a failure left at `path`, also after a cancel.
    pub(super) fn clear_up(&self, path: &Path, patience: Patience<'_>) {
        if let Some(sftp) = &self.sftp {
            let _ = self
                .connection
                .link
                .drive(patience, || Ok(sftp.unlink(path)?));
        }
    }

    /// Runs a call that is about `path`.
    pub(super) fn at<T>(
        &self,
        path: &Path,
        call: impl FnMut(&Sftp) -> Result<T, Fault>,
    ) -> Result<T, SshError> {
        self.drive(call).map_err(|fault| self.failed(fault, path))
    }

    pub(super) fn drive<T>(
        &self,
        mut call: impl FnMut(&Sftp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let link = &self.connection.link;
        if self.cancel.is_cancelled() {
            link.hurry();
            return Err(Fault::Cancelled);
        }
        let Some(sftp) = &self.sftp else {
            return Err(Fault::lost("the channel for files is closed"));
        };
        let done = link.drive(self.patience(), || call(sftp));
        if matches!(done, Err(Fault::Cancelled | Fault::TimedOut)) {
            link.hurry();
        }
        done
    }

    fn patience(&self) -> Patience<'_> {
        Patience {
            until: None,
            idle: Some(self.connection.timeouts.idle),
            cancel: Some(self.cancel),
        }
    }

    pub(super) fn failed(&self, fault: Fault, path: &Path) -> SshError {
        self.because(self.cause(fault, path))
    }

    pub(super) fn because(&self, cause: Cause) -> SshError {
        self.connection.failed(cause)
    }

    /// The cause for a fault that concerns `path` or the connection.
    pub(super) fn cause(&self, fault: Fault, path: &Path) -> Cause {
        let path = path.display().to_string();
        let reason = match fault.code() {
            Some(code) if NO_SPACE.contains(&code) => return Cause::DiskFull { path },
            Some(NO_SUCH_FILE) => "no such file or folder".to_owned(),
            Some(PERMISSION_DENIED) => "permission denied".to_owned(),
            _ if fault.is_lost() || !matches!(fault, Fault::Failed { .. }) => {
                return fault.general(Phase::Transfer, self.connection.timeouts.idle);
            }
            _ => format!("the server refused ({})", fault.reason()),
        };
        Cause::RemoteFile { path, reason }
    }
}

/// SFTP sets the two times together, so a new modification time also sets the access time.
pub(super) fn attributes(mode: Option<u32>, changed: Option<u64>) -> FileStat {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    FileStat {
        size: None,
        uid: None,
        gid: None,
        perm: mode,
        atime: changed.map(|_| now().map_or(0, |since| since.as_secs())),
        mtime: changed,
    }
}

/// True if it is a single name, which cannot lead elsewhere.
fn is_plain(name: &Path) -> bool {
    let mut parts = name.components();
    matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
}
