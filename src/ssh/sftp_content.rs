//! What is in a server's files: written and read by SFTP.

use std::io::{self, Read, Write};
use std::path::Path;

use ssh2::{ErrorCode, OpenFlags, OpenType};

use super::error::{Cause, SshError};
use super::link::Fault;
use super::sftp::{Files, NO_SUCH_FILE, attributes};

/// libssh2 has as much under way as one read asks for: small ones are slow.
const CHUNK: usize = 1024 * 1024;

/// How many written bytes are under way at once: what OpenSSH's window of a channel holds.
const UNDER_WAY: usize = 2 * CHUNK;

/// What a small file is read or written at once: whoever asks for more has room for that made, and has
/// the server asked for it, file after file.
const SMALL: usize = 32 * 1024;

/// How a new file is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewRemoteFile {
    /// Its permission bits.
    pub mode: u32,
    /// When it was last changed, in seconds since 1970; none: now.
    pub changed: Option<u64>,
    /// Whether it is to be on the disk before it counts as written, where the server can.
    pub synced: bool,
}

/// What is written to a server's file, from where the file stands on.
pub(super) trait Source {
    /// Reads what comes next; 0: there is no more.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// The server has so many bytes more.
    fn arrived(&mut self, count: usize) -> Result<(), Halt>;
}

/// Why writing ended before its source did.
pub(super) enum Halt {
    /// The source could not be read.
    Here(io::Error),
    /// The server or the connection failed.
    There(Fault),
    /// The source wants no more of it written.
    Unwanted,
}

/// A stream, and who hears how much of it has arrived.
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
    /// Writes all that `source` has to the new file `path`; returns how many bytes that were.
    /// `progress` gets the bytes written so far, `unreadable` makes the cause of what `source` says.
    /// After a failure some of it may be there.
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

    /// Writes all that `source` has from where `place` stands on; the server has it all then.
    pub(super) fn pour(&self, place: &mut ssh2::File, source: &mut dyn Source) -> Result<(), Halt> {
        let (mut buffer, mut from) = (vec![0; SMALL], 0);
        let mut to = fill_chunk(source, &mut buffer).map_err(Halt::Here)?;
        let mut ended = to < SMALL;
        if !ended {
            buffer.resize(2 * UNDER_WAY, 0);
        }
        loop {
            // What has arrived is made up for at once, so that the line does not run dry.
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

    /// What ended the writing of `path`.
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

    /// A server of SFTP's version 3 has no word for a full disk; its free room tells.
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

    /// Mode, time, sync, close.
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

    /// Reads the regular file `path` into `sink`; returns how many bytes that were. `unwritable` makes
    /// the cause of what `sink` says.
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
            // libssh2 asks for four times as much as there is room for.
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
