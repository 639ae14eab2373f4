//! Whole folders to and from a server, as one tar stream through `tar` there: modes, times and
//! links are kept, owners are not. Without a shell or `tar`, file by file.

use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Cancel;
use super::command::{Command, Stream};
use super::connection::Connection;
use super::error::{Cause, SshError};
use super::script::quote;
use super::transfer::here;

/// The time limit of a transfer; a server that gives no sign of life ends it earlier.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The time limit for detecting `tar` on a server.
const ANSWER: Duration = Duration::from_secs(20);

/// The most bytes of the messages of the server's tar that are reported.
const COMPLAINT: usize = 500;

impl Connection {
    /// Unpacks the tar stream `source` into the folder `remote`, which is created if it does not
    /// exist. `progress` gets the bytes sent so far; returns their number.
    ///
    /// # Errors
    /// Those of `source`, a `tar` that fails on the server, and those of [`exec`](Self::exec).
    pub fn send_tar(
        &self,
        remote: &str,
        source: &mut dyn Read,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let folder = quote(&plain(remote));
        let text = format!("mkdir -p {folder} && exec tar -xpof - -C {folder}");
        let mut source = Counted {
            inner: source,
            count: 0,
            progress,
        };
        let command = Command::script(&text, LONGEST).stdin(&mut source);
        self.run_tar(remote, command, cancel)?;
        Ok(source.count)
    }

    /// Writes the folder `remote` to `sink`, packed as a tar stream; returns the number of bytes.
    ///
    /// # Errors
    /// Those of `sink`, a `tar` that fails on the server, and those of [`exec`](Self::exec).
    pub fn receive_tar(
        &self,
        remote: &str,
        sink: &mut dyn Write,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let text = format!("cd {} && exec tar -cf - .", quote(&plain(remote)));
        let mut sink = Counted {
            inner: sink,
            count: 0,
            progress,
        };
        let command = Command::script(&text, LONGEST).stdout(&mut sink);
        self.run_tar(remote, command, cancel)?;
        Ok(sink.count)
    }

    fn run_tar(&self, remote: &str, command: Command<'_>, cancel: &Cancel) -> Result<(), SshError> {
        let mut complaint = String::new();
        let exit = self.exec(command, cancel, &mut |stream, line| {
            if stream == Stream::Err && complaint.len() < COMPLAINT {
                complaint.push_str(if complaint.is_empty() { "" } else { "; " });
                complaint.extend(line.chars().take(COMPLAINT));
            }
        })?;
        match exit.success() {
            true => Ok(()),
            false if complaint.is_empty() => Err(self.remote(remote, exit.to_string())),
            false => Err(self.remote(remote, complaint)),
        }
    }

    fn remote(&self, path: &str, reason: String) -> SshError {
        self.failed(Cause::RemoteFile {
            path: path.to_owned(),
            reason,
        })
    }

    /// True if the server has a shell and `tar`.
    fn has_tar(&self, cancel: &Cancel) -> Result<bool, SshError> {
        let mut said = String::new();
        let asked = Command::script("command -v tar", ANSWER);
        let exit = self.exec(asked, cancel, &mut |stream, line| {
            if stream == Stream::Out {
                line.clone_into(&mut said);
            }
        });
        match exit {
            Ok(exit) => Ok(exit.success() && said.ends_with("tar")),
            Err(error) if error.is_without_shell() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Copies the folder `local` and all its contents to `remote`.
    ///
    /// # Errors
    /// A local file that cannot be read, a failure on the server, and those of the connection.
    pub fn put_tree(
        &self,
        local: &Path,
        remote: &str,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause| self.failed(here(local)(cause));
        if !self.has_tar(cancel)? {
            return self
                .files(cancel)?
                .put_tree(local, Path::new(remote), progress);
        }
        let (mut source, sink) = io::pipe().map_err(at)?;
        thread::scope(|scope| {
            let packing = scope.spawn(move || {
                let mut tar = tar::Builder::new(sink);
                tar.follow_symlinks(false);
                tar.append_dir_all(".", local)?;
                tar.into_inner()?.flush()
            });
            let sent = self.send_tar(remote, &mut source, cancel, progress);
            // Ends the packing thread, whose reader is gone.
            drop(source);
            match (packing.join(), sent) {
                (_, Err(error)) => Err(error),
                (Ok(Err(error)), Ok(_)) => Err(at(error)),
                (Err(_), Ok(_)) => Err(at(io::Error::other("packing failed"))),
                (Ok(Ok(())), Ok(sent)) => Ok(sent),
            }
        })
    }

    /// Copies the folder `remote` and all its contents to `local`, which is created if it does not
    /// exist. Nothing is written outside of `local`, whatever the server sends.
    ///
    /// # Errors
    /// A local file that cannot be written, a failure on the server, and those of the connection.
    pub fn get_tree(
        &self,
        remote: &str,
        local: &Path,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SshError> {
        let at = |cause| self.failed(here(local)(cause));
        if !self.has_tar(cancel)? {
            return self
                .files(cancel)?
                .get_tree(Path::new(remote), local, progress);
        }
        std::fs::create_dir_all(local).map_err(at)?;
        let (source, mut sink) = io::pipe().map_err(at)?;
        thread::scope(|scope| {
            let unpacking = scope.spawn(move || unpack(source, local));
            let received = self.receive_tar(remote, &mut sink, cancel, progress);
            drop(sink);
            match (unpacking.join(), received) {
                (Ok(Err(error)), _) => Err(at(error)),
                (Err(_), _) => Err(at(io::Error::other("unpacking failed"))),
                (Ok(Ok(())), received) => received,
            }
        })
    }
}

fn unpack(mut source: io::PipeReader, local: &Path) -> io::Result<()> {
    let mut tar = tar::Archive::new(&mut source);
    tar.set_preserve_permissions(true);
    tar.set_preserve_mtime(true);
    tar.set_overwrite(true);
    tar.unpack(local)?;
    // The bytes after the archive's end are padding; the other end must not be cut off in it.
    io::copy(&mut source, &mut io::sink()).map(drop)
}

/// A path that no program takes for an option.
fn plain(path: &str) -> String {
    match path.starts_with('-') {
        true => format!("./{path}"),
        false => path.to_owned(),
    }
}

/// Counts the bytes that pass.
struct Counted<'a, T: ?Sized> {
    inner: &'a mut T,
    count: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<T: ?Sized> Counted<'_, T> {
    fn passed(&mut self, length: usize) -> usize {
        self.count += length as u64;
        (self.progress)(self.count);
        length
    }
}

impl Read for Counted<'_, dyn Read + '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        Ok(self.passed(length))
    }
}

impl Write for Counted<'_, dyn Write + '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        Ok(self.passed(length))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
