//! Uploads one large file over several connections at once. One connection has one lock and so uses
//! one core here, one process there, and one window of bytes in flight.
//!
//! Each connection writes shares of the same new file. The first is the caller's: it creates the
//! file, waits for the others and finishes it. The extra ones take part once they are connected,
//! and the upload goes on without them if the server or the pool has none, or when they are lost.

mod shares;
#[cfg(test)]
mod shares_test;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ssh2::{OpenFlags, OpenType};

use self::shares::Shares;
use super::Cancel;
use super::connection::Connection;
use super::error::{Cause, SshError};
use super::link::{Fault, SLICE};
use super::sftp::Files;
use super::sftp_content::{Halt, NewRemoteFile, Source};

/// The length in bytes from which a file is worth another login.
pub(super) const LARGE: u64 = 32 << 20;

/// The answer time beyond which the windows are the bottleneck, not the cores.
const NEAR: Duration = Duration::from_millis(5);

/// The fewest and the most connections of one upload.
const CONNECTIONS: (usize, usize) = (2, 4);

/// Turns an error of reading the local file into the cause of the failure.
pub(super) type Unreadable<'a> = &'a (dyn Fn(io::Error) -> Cause + Sync);

/// A local file on its way to `path`.
struct Upload<'a> {
    file: &'a File,
    path: &'a Path,
    unreadable: Unreadable<'a>,
    state: Mutex<State>,
    changed: Condvar,
    /// Stops the extra connections.
    halt: Cancel,
}

struct State {
    shares: Shares,
    arrived: u64,
    /// The first failure.
    failed: Option<SshError>,
}

impl Files<'_> {
    /// [`write`](Self::write) for a local file of `length` bytes. Other processes may lengthen it
    /// meanwhile but not shorten it. The memory needed does not depend on its length.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub(super) fn write_parallel(
        &self,
        path: &Path,
        new: NewRemoteFile,
        (file, length): (&File, u64),
        progress: &mut dyn FnMut(u64),
        unreadable: Unreadable<'_>,
    ) -> Result<u64, SshError> {
        let begun = Instant::now();
        let mut place = self.create(path)?;
        let connections = connections(begun.elapsed());
        let upload = Upload {
            file,
            path,
            unreadable,
            state: Mutex::new(State {
                shares: Shares::of(length, connections),
                arrived: 0,
                failed: None,
            }),
            changed: Condvar::new(),
            halt: self.cancel.part(),
        };
        let enough = self.cancel.part();
        let extra = self.connection.open_extra(connections - 1, &enough);
        thread::scope(|scope| {
            let mut heed = || {
                while !upload.lock().shares.is_taken()
                    && let Ok(connection) = extra.try_recv()
                {
                    let upload = &upload;
                    scope.spawn(move || upload.carry_on_extra(&connection));
                }
                progress(upload.lock().arrived);
            };
            let carried = upload.carry_all(self, &mut place, &mut heed);
            enough.cancel();
            if let Err(halt) = carried {
                upload.fail(self.halted(halt, &mut place, path, unreadable));
            }
        });
        match upload.into_failed() {
            Some(error) => Err(error),
            None => self.seal(place, path, new).map(|()| length),
        }
    }
}

/// The number of connections for a server that answers after `answer`.
fn connections(answer: Duration) -> usize {
    let (least, most) = CONNECTIONS;
    let cores = thread::available_parallelism().map_or(least, usize::from);
    if answer < NEAR {
        cores.clamp(least, most)
    } else {
        most
    }
}

impl Upload<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries shares on the first connection until everything has arrived; takes over shares that
    /// others lost.
    fn carry_all(
        &self,
        files: &Files<'_>,
        place: &mut ssh2::File,
        heed: &mut dyn FnMut(),
    ) -> Result<(), Halt> {
        loop {
            self.carry(files, place, heed)?;
            let state = self.lock();
            if state.failed.is_some() {
                return Err(Halt::Unwanted);
            }
            if state.shares.is_carried() {
                break;
            }
            drop(self.changed.wait_timeout(state, SLICE));
            heed();
        }
        heed();
        Ok(())
    }

    /// Carries shares on an extra connection, as long as there are any.
    fn carry_on_extra(&self, connection: &Connection) {
        let Ok(files) = connection.files(&self.halt) else {
            return;
        };
        let open = |sftp: &ssh2::Sftp| {
            Ok(sftp.open_mode(self.path, OpenFlags::WRITE, 0o600, OpenType::File)?)
        };
        // One address may belong to several machines, and only one of them has the file.
        let Ok(mut place) = files.at(self.path, open) else {
            return;
        };
        let carried = self
            .carry(&files, &mut place, &mut || {})
            .and_then(|()| files.drive(|_| Ok(place.close()?)).map_err(Halt::There));
        match carried {
            Ok(()) => {}
            // The server has dropped the connection as well, so no late data can overwrite that of
            // others.
            Err(Halt::There(fault)) if fault.is_lost() => connection.mark_broken(),
            Err(halt) => {
                connection.mark_broken();
                self.fail(files.halted(halt, &mut place, self.path, self.unreadable));
            }
        }
    }

    /// Carries one share after the other.
    fn carry(
        &self,
        files: &Files<'_>,
        place: &mut ssh2::File,
        heed: &mut dyn FnMut(),
    ) -> Result<(), Halt> {
        loop {
            let Some(share) = self.lock().shares.take() else {
                return Ok(());
            };
            let mut share = Share {
                upload: self,
                heed,
                arrived: share.start,
                read: share.start,
                end: share.end,
            };
            place
                .seek(SeekFrom::Start(share.read))
                .map_err(|error| Halt::There(Fault::from(error)))?;
            files.pour(place, &mut share)?;
        }
    }

    /// Ends the upload on all connections.
    fn fail(&self, error: SshError) {
        self.lock().failed.get_or_insert(error);
        self.halt.cancel();
        self.changed.notify_all();
    }

    fn into_failed(self) -> Option<SshError> {
        let state = self.state.into_inner();
        state.unwrap_or_else(PoisonError::into_inner).failed
    }
}

/// The share that a connection carries. Dropping it gives back the part that has not arrived.
struct Share<'a> {
    upload: &'a Upload<'a>,
    heed: &'a mut dyn FnMut(),
    arrived: u64,
    read: u64,
    end: u64,
}

impl Source for Share<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.read == self.end {
            self.end = self.upload.lock().shares.lengthen(self.end);
        }
        let left = usize::try_from(self.end - self.read).unwrap_or(usize::MAX);
        let most = left.min(into.len());
        let count = self.upload.file.read_at(&mut into[..most], self.read)?;
        if count == 0 && most > 0 {
            let shorter = "it became shorter while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, shorter));
        }
        self.read += count as u64;
        Ok(count)
    }

    fn arrived(&mut self, count: usize) -> Result<(), Halt> {
        self.arrived += count as u64;
        let mut state = self.upload.lock();
        state.arrived += count as u64;
        let is_wanted = state.failed.is_none();
        drop(state);
        (self.heed)();
        if is_wanted {
            Ok(())
        } else {
            Err(Halt::Unwanted)
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut state = self.upload.lock();
        state.shares.give_back(self.arrived..self.end);
        drop(state);
        self.upload.changed.notify_all();
    }
}
