//! The connection through a jump server: a channel of its connection, joined to one end of a socket
//! pair; the next SSH connection runs over the other end as over any socket.
//!
//! The jump server's connection belongs to a thread that copies bytes between the two; it ends with
//! either side. Each stream has a connection of its own to the jump server, so that a slow stream
//! delays no other.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use ssh2::Channel;

use super::connection::Connection;
use super::error::{Cause, Phase, SshError};
use super::link::{Fault, Patience, SLICE};
use super::{Cancel, Target};

const BUFFER: usize = 64 * 1024;

/// The number of buffers copied in one direction before the other has its turn.
const BURST: usize = 16;

/// The interval at which an idle jump server is asked for a sign of life.
const QUESTION: Duration = Duration::from_secs(15);

/// Opens a channel of `hop` to `target` and returns a socket connected to `target`'s sshd.
pub(super) fn through(
    hop: Connection,
    target: &Target,
    until: Instant,
    cancel: &Cancel,
) -> Result<OwnedFd, SshError> {
    let patience = Patience {
        until: Some(until),
        idle: None,
        cancel: Some(cancel),
    };
    let session = &hop.link.session;
    let opened = hop.link.drive(patience, || {
        Ok(session.channel_direct_tcpip(&target.host, target.port, None)?)
    });
    let channel = opened.map_err(|fault| {
        let cause = match fault {
            Fault::Failed { ref reason, .. } if !fault.is_lost() => Cause::NoWayOn {
                to: SshError::address(&target.host, target.port),
                reason: reason.clone(),
            },
            fault => fault.general(Phase::Jump, hop.timeouts.connect),
        };
        hop.failed(cause)
    })?;
    start(hop, channel)
}

fn start(hop: Connection, channel: Channel) -> Result<OwnedFd, SshError> {
    let address = SshError::address(&hop.target.host, hop.target.port);
    let begun = || {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        hop.link.also_watch(far.as_raw_fd())?;
        let bridge = Bridge {
            hop,
            channel,
            far,
            up: Pending::new(),
            down: Pending::new(),
        };
        thread::Builder::new()
            .name("ssh-jump".to_owned())
            .spawn(move || bridge.run())?;
        Ok(near.into())
    };
    begun().map_err(|error: std::io::Error| SshError {
        address,
        cause: Cause::Unreachable {
            reason: error.to_string(),
        },
    })
}

/// Data that was read and not yet written.
struct Pending {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

/// The result of one round of copying.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Moved,
    Blocked,
    Ended,
}

impl Pending {
    fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER],
            from: 0,
            to: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Copies from `source` to `sink` without waiting.
    fn carry(&mut self, source: &mut dyn Read, sink: &mut dyn Write) -> Turn {
        for turn in 0..BURST {
            if self.is_empty() {
                (self.from, self.to) = match source.read(&mut self.buffer).map_err(Fault::from) {
                    Ok(0) => return Turn::Ended,
                    Ok(length) => (0, length),
                    Err(Fault::Blocked) if turn == 0 => return Turn::Blocked,
                    Err(Fault::Blocked) => return Turn::Moved,
                    Err(_) => return Turn::Ended,
                };
            }
            match sink
                .write(&self.buffer[self.from..self.to])
                .map_err(Fault::from)
            {
                Ok(length) => self.from += length,
                Err(Fault::Blocked) if turn == 0 => return Turn::Blocked,
                Err(Fault::Blocked) => return Turn::Moved,
                Err(_) => return Turn::Ended,
            }
        }
        Turn::Moved
    }
}

struct Bridge {
    hop: Connection,
    channel: Channel,
    far: UnixStream,
    up: Pending,
    down: Pending,
}

impl Bridge {
    fn run(mut self) {
        let mut last_moved = Instant::now();
        // Reading from the connection for one direction may fetch the data that the other waits
        // for, so both must stand still twice in a row before a wait.
        let mut still = 0;
        loop {
            let up = self.up.carry(&mut &self.far, &mut self.channel);
            let down = match self.down.carry(&mut self.channel, &mut &self.far) {
                // libssh2 also reads 0 bytes if none are there yet.
                Turn::Ended if self.channel_is_open() => Turn::Blocked,
                turn => turn,
            };
            match (up, down) {
                (Turn::Ended, _) | (_, Turn::Ended) => break,
                (Turn::Blocked, Turn::Blocked) => still += 1,
                _ => {
                    still = 0;
                    last_moved = Instant::now();
                }
            }
            if still >= 2 && self.wait(&mut last_moved).is_err() {
                break;
            }
        }
        let _ = self.far.shutdown(Shutdown::Both);
    }

    fn channel_is_open(&self) -> bool {
        !self.channel.eof()
    }

    /// Waits for either side, and asks the jump server for a sign of life if nothing moves.
    fn wait(&mut self, last_moved: &mut Instant) -> Result<(), Fault> {
        let longest = match self.up.is_empty() {
            true => QUESTION,
            false => SLICE,
        };
        if !self.hop.link.wait(longest) && last_moved.elapsed() >= QUESTION {
            *last_moved = Instant::now();
            self.hop.link.ask_for_sign()?;
        }
        Ok(())
    }
}
