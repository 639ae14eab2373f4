//! The content of a server's files: written and read by SFTP.

use std::io::{self, Read, Write};
use std::path::Path;

use ssh2::{ErrorCode, OpenFlags, OpenType};

use super::error::{Cause, SshError};
use super::link::Fault;
use super::sftp::{Files, NO_SUCH_FILE, attributes};

/// The size of a large read, in bytes. libssh2 keeps as many bytes in flight as one read asks for,
/// so small reads are slow.
const CHUNK: usize = 1024 * 1024;

/// The most written bytes in flight: the size of OpenSSH's channel window.
const UNDER_WAY: usize = 2 * CHUNK;

/// The initial buffer of a file, in bytes. A larger one would be allocated, and requested from the
/// server, for every small file.
const SMALL: usize = 32 * 1024;

/// The attributes of a new file.
#[derive(Debug, Clone, Copy)]
pub struct NewRemoteFile {
    /// Its permission bits.
    pub mode: u32,
    /// The modification time, in seconds since 1970; `None`: now.
    pub changed: Option<u64>,
    /// True if it must be flushed to disk before it counts as written, if the server can do that.
    pub synced: bool,
}

/// The content written to a server's file, from the file's current position.
pub(super) trait Source {
    /// Reads the next bytes; 0 at the end.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Reports that this many more bytes have arrived.
    fn arrived(&mut self, count: usize) -> Result<(), Halt>;
}

/// The reason writing ended before the end of its source.
pub(super) enum Halt {
    /// The source could not be read.
    Here(io::Error),
    /// The server or the connection failed.
    There(Fault),
    /// The source needs no more of it written.
    Unwanted,
}

/// A stream, and the callback for the bytes that have arrived.
struct Stream<'a> {
    source: &'a mut dyn Read,
    arrived: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Source for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.source.read(into)
    }

    fn arrived(&mut self, count: usize) -> Result<(), Halt> {
        self.arrived += count as u64;
        (self.progress)(self.arrived);
        Ok(())
    }
}

impl Files<'_> {
    /// Writes all of `source` to the new file `path`; returns the number of bytes. `progress` gets
    /// the bytes written so far; `unreadable` converts an error of `source`. After a failure a part
    /// of the file may remain.
    ///
    /// # Errors
    /// Those of `source`, [`Cause::DiskFull`], a file that cannot be created or written, and those
    /// of the connection.
    pub fn write(
        &self,
        path: &Path,
        file: NewRemoteFile,
        source: &mut dyn Read,
        progress: &mut dyn FnMut(u64),
        unreadable: &dyn Fn(io::Error) -> Cause,
    ) -> Result<u64, SshError> {
        let mut place = self.create(path)?;
        let mut stream = Stream {
            source,
            arrived: 0,
            progress,
        };
        self.pour(&mut place, &mut stream)
            .map_err(|halt| self.halted(halt, &mut place, path, unreadable))?;
        let arrived = stream.arrived;
        self.seal(place, path, file)?;
        Ok(arrived)
    }

    /// Writes all of `source` from the current position of `place`; returns when the server has all
    /// of it.
    pub(super) fn pour(&self, place: &mut ssh2::File, source: &mut dyn Source) -> Result<(), Halt> {
        let (mut buffer, mut from) = (vec![0; SMALL], 0);
        let mut to = fill_chunk(source, &mut buffer).map_err(Halt::Here)?;
        let mut ended = to < SMALL;
        if !ended {
            buffer.resize(2 * UNDER_WAY, 0);
        }
        loop {
            // The window is refilled as soon as bytes have arrived, so that the connection never
            // runs idle.
            if !ended {
                if from + UNDER_WAY > buffer.len() {
                    buffer.copy_within(from..to, 0);
                    (from, to) = (0, to - from);
                }
                let room = &mut buffer[to..from + UNDER_WAY];
                let length = fill_chunk(source, room).map_err(Halt::Here)?;
                ended = length < room.len();
                to += length;
            }
            if from == to {
                return Ok(());
            }
            let sent = self
                .drive(|_| Ok(place.write(&buffer[from..to])?))
                .map_err(Halt::There)?;
            from += sent;
            source.arrived(sent)?;
        }
    }

    /// The error for writing `path` that ended early.
    pub(super) fn halted(
        &self,
        halt: Halt,
        place: &mut ssh2::File,
        path: &Path,
        unreadable: &dyn Fn(io::Error) -> Cause,
    ) -> SshError {
        self.because(match halt {
            Halt::Here(error) => unreadable(error),
            Halt::There(fault) => self.writing_failed(fault, place, path),
            Halt::Unwanted => Cause::Cancelled { killed: true },
        })
    }

    pub(super) fn create(&self, path: &Path) -> Result<ssh2::File, SshError> {
        let flags = OpenFlags::WRITE | OpenFlags::EXCLUSIVE;
        // Readable by its owner alone until it is whole and gets its mode.
        self.drive(|sftp| Ok(sftp.open_mode(path, flags, 0o600, OpenType::File)?))
            .map_err(|fault| match fault.code() {
                Some(NO_SUCH_FILE) => self.because(Cause::RemoteFile {
                    path: path.display().to_string(),
                    reason: "its folder does not exist".to_owned(),
                }),
                _ => self.failed(fault, path),
            })
    }

    /// SFTP version 3 has no code for a full disk; the free space on the disk reveals it.
    fn writing_failed(&self, fault: Fault, file: &mut ssh2::File, path: &Path) -> Cause {
        let server_refused = matches!(fault.code(), Some(ErrorCode::SFTP(_)))
            || matches!(fault.code(), Some(ErrorCode::Session(-31)));
        if server_refused
            && let Ok(disk) = self.drive(|_| Ok(file.statvfs()?))
            && disk.f_bavail.saturating_mul(disk.f_frsize) < CHUNK as u64
        {
            return Cause::DiskFull {
                path: path.display().to_string(),
            };
        }
        self.cause(fault, path)
    }

    /// Sets mode and time, syncs and closes.
    pub(super) fn seal(
        &self,
        mut place: ssh2::File,
        path: &Path,
        file: NewRemoteFile,
    ) -> Result<(), SshError> {
        let about = attributes(Some(file.mode & 0o7777), file.changed);
        self.at(path, |_| Ok(place.setstat(about.clone())?))?;
        if file.synced {
            match self.drive(|_| Ok(place.fsync()?)) {
                Err(fault) if fault.is_lost() || fault.code().is_none() => {
                    return Err(self.failed(fault, path));
                }
                _ => {}
            }
        }
        self.at(path, |_| Ok(place.close()?))
    }

    /// Reads the regular file `path` into `sink`; returns the number of bytes. `unwritable`
    /// converts an error of `sink`.
    ///
    /// # Errors
    /// Those of `sink`, a file that cannot be read, and those of the connection.
    pub fn read(
        &self,
        path: &Path,
        sink: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
        unwritable: &dyn Fn(io::Error) -> Cause,
    ) -> Result<u64, SshError> {
        let mut source = self.at(path, |sftp| Ok(sftp.open(path)?))?;
        let mut chunk = vec![0; SMALL / 4];
        let mut received = 0;
        let untaken = |error| self.because(unwritable(error));
        loop {
            let length = self.at(path, |_| Ok(source.read(&mut chunk)?))?;
            if length == 0 {
                break;
            }
            sink.write_all(&chunk[..length]).map_err(untaken)?;
            received += length as u64;
            progress(received);
            // libssh2 asks for four times the buffer's size.
            if chunk.len() < CHUNK {
                chunk.resize(2 * chunk.len(), 0);
            }
        }
        sink.flush().map_err(untaken)?;
        self.at(path, |_| Ok(source.close()?))?;
        Ok(received)
    }
}

/// Reads until `chunk` is full or `source` ends.
fn fill_chunk(source: &mut dyn Source, chunk: &mut [u8]) -> io::Result<usize> {
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
