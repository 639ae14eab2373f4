//! Whole folders to and from a server, as one tar stream through `tar` there: modes, times and
//! links are kept, owners are not. Where there is no shell or no `tar`, file by file.

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

/// A server that gives no sign of life ends it before.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a server may take to say whether it has `tar`.
const ANSWER: Duration = Duration::from_secs(20);

/// How many bytes of what the server's tar complains about are told.
const COMPLAINT: usize = 500;

impl Connection {
    /// Unpacks the tar stream that `source` gives into the folder `remote`, which is made where it
    /// is not there. `progress` gets the bytes sent so far, which are returned.
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

    /// Gives the folder `remote`, packed as a tar stream, to `sink`; returns how many bytes that
    /// were.
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

    /// Whether the server has a shell and `tar`.
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

    /// Copies the folder `local` and all that is in it to `remote`.
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
            // Whoever still packs hears that nobody reads any more.
            drop(source);
            match (packing.join(), sent) {
                (_, Err(error)) => Err(error),
                (Ok(Err(error)), Ok(_)) => Err(at(error)),
                (Err(_), Ok(_)) => Err(at(io::Error::other("packing failed"))),
                (Ok(Ok(())), Ok(sent)) => Ok(sent),
            }
        })
    }

    /// Copies the folder `remote` and all that is in it to `local`, which is made where it is not
    /// there. Nothing is written outside of `local`, whatever the server sends.
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
    // What comes after the archive's end is padding; the other end must not be cut off in it.
    io::copy(&mut source, &mut io::sink()).map(drop)
}

/// A path that no program takes for an option.
fn plain(path: &str) -> String {
    match path.starts_with('-') {
        true => format!("./{path}"),
        false => path.to_owned(),
    }
}

/// Counts what passes.
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
