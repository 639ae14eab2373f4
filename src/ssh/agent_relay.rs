//! A relay to the SSH agent. libssh2 waits for an agent without limit, so it is given a socket of
//! this relay, whose other end times out.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::Cancel;
use super::link::{Patience, SLICE};

/// The longest message of an agent, in bytes, as in OpenSSH.
const LONGEST: usize = 256 * 1024;

/// A socket that stands in for the agent's.
pub(super) struct Relay {
    folder: TempDir,
    listener: UnixListener,
}

impl Relay {
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let listener = UnixListener::bind(folder.path().join("agent"))?;
        listener.set_nonblocking(true)?;
        Ok(Self { folder, listener })
    }

    /// The socket that libssh2 connects to, once.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// Relays requests and replies between the client and the agent, until the client closes.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if the patience ends first, and those of the sockets.
    pub(super) fn carry(self, agent: &Path, patience: Patience<'_>) -> io::Result<()> {
        let (asker, _) = self.listener.accept()?;
        asker.set_nonblocking(false)?;
        let mut asker = End::new(asker, patience)?;
        let mut agent = End::new(connect(agent, patience)?, patience)?;
        while let Some(question) = asker.hear()? {
            agent.say(&question)?;
            match agent.hear()? {
                Some(answer) => asker.say(&answer)?,
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(())
    }
}

/// Connects without blocking: an agent that accepts no connections has a full queue, and connecting
/// would wait forever.
fn connect(agent: &Path, patience: Patience<'_>) -> io::Result<UnixStream> {
    loop {
        match mio::net::UnixStream::connect(agent) {
            Ok(stream) => {
                let stream = UnixStream::from(OwnedFd::from(stream));
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                still_wanted(patience)?;
                thread::sleep(SLICE);
            }
            Err(error) => return Err(error),
        }
    }
}

fn still_wanted(patience: Patience<'_>) -> io::Result<()> {
    let is_late = patience.until.is_some_and(|until| Instant::now() >= until);
    match is_late || patience.cancel.is_some_and(Cancel::is_cancelled) {
        true => Err(ErrorKind::TimedOut.into()),
        false => Ok(()),
    }
}

/// One side of the relay.
struct End<'a> {
    stream: UnixStream,
    patience: Patience<'a>,
}

impl<'a> End<'a> {
    fn new(stream: UnixStream, patience: Patience<'a>) -> io::Result<Self> {
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        Ok(Self { stream, patience })
    }

    /// A whole message with its length prefix; `None` if the other side closed.
    fn hear(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut message = vec![0; 4];
        if !self.fill(&mut message)? {
            return Ok(None);
        }
        let length = message
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        message.resize(4 + length, 0);
        match self.fill(&mut message[4..])? {
            true => Ok(Some(message)),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Fills `buffer`; false if the other side closed first.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(false),
                Ok(count) => filled += count,
                Err(error) => self.bear(error)?,
            }
        }
        Ok(true)
    }

    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        let mut rest = message;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => self.bear(error)?,
            }
        }
        Ok(())
    }

    /// Ignores the end of a wait as long as the patience lasts.
    fn bear(&self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                still_wanted(self.patience)
            }
            _ => Err(error),
        }
    }
}
