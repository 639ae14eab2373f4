//! The standard input of a running command.

use std::io::{ErrorKind, Read, Write as _};

use ssh2::Channel;

use super::follow::{BUFFER, Stop};
use super::link::{Fault, Link};

/// The input that is still to be sent: the program that runs the command, and once that has begun,
/// the command's own input.
pub(super) struct Feed<'a> {
    chunk: Vec<u8>,
    sent: usize,
    rest: Rest<'a>,
}

/// The input after the current chunk.
enum Rest<'a> {
    /// All of a source, once the command has begun: before that, a shell might read more of its
    /// standard input than the program.
    Source(&'a mut dyn Read),
    /// Only the end of the input.
    End,
    /// Nothing more.
    Closed,
}

impl<'a> Feed<'a> {
    /// `program`, then all of `source`, or only the end of the input.
    pub(super) fn of(program: Vec<u8>, source: Option<&'a mut dyn Read>) -> Self {
        Self {
            chunk: program,
            sent: 0,
            rest: source.map_or(Rest::End, Rest::Source),
        }
    }

    /// Only the end of the input.
    pub(super) fn end() -> Self {
        Self::of(Vec::new(), None)
    }

    /// Nothing at all.
    pub(super) fn closed() -> Self {
        Self {
            rest: Rest::Closed,
            ..Self::end()
        }
    }

    /// Sends the next piece of the program, as far as the server takes it now; true if anything was
    /// sent. It may be sent before the server has answered the request (RFC 4254 section 6.5
    /// requires no pause).
    pub(super) fn step_ahead(&mut self, channel: &mut Channel, link: &Link) -> Result<bool, Stop> {
        match self.sent < self.chunk.len() {
            true => self.write(channel, link),
            false => Ok(false),
        }
    }

    /// Sends the next piece, as far as the command takes it and the source has it now; true if
    /// anything was sent.
    pub(super) fn step(
        &mut self,
        channel: &mut Channel,
        link: &Link,
        has_begun: bool,
    ) -> Result<bool, Stop> {
        if self.sent < self.chunk.len() {
            return self.write(channel, link);
        }
        match &mut self.rest {
            Rest::Closed => Ok(false),
            Rest::Source(_) if !has_begun => Ok(false),
            Rest::Source(source) => {
                self.sent = 0;
                if !fill(&mut self.chunk, *source)? {
                    self.chunk.clear();
                    return Ok(false);
                }
                if self.chunk.is_empty() {
                    self.rest = Rest::End;
                    return Ok(true);
                }
                self.write(channel, link)
            }
            Rest::End => match channel.send_eof().map_err(Fault::from) {
                Err(Fault::Blocked) => Ok(false),
                _ => {
                    self.rest = Rest::Closed;
                    Ok(true)
                }
            },
        }
    }

    fn write(&mut self, channel: &mut Channel, link: &Link) -> Result<bool, Stop> {
        match channel.write(&self.chunk[self.sent..]) {
            Ok(length) => {
                self.sent += length;
                Ok(length > 0)
            }
            Err(error) => self.failed(link.with_code(error.into())),
        }
    }

    /// Ignores the failure if the command has closed its input or has ended.
    fn failed(&mut self, fault: Fault) -> Result<bool, Stop> {
        match fault {
            Fault::Blocked => Ok(false),
            fault if fault.is_lost() => Err(Stop::Lost(fault.reason().to_owned())),
            _ => {
                *self = Self::closed();
                Ok(true)
            }
        }
    }
}

/// Reads the source's next piece; empty at its end. False if it has none at the moment.
fn fill(chunk: &mut Vec<u8>, source: &mut dyn Read) -> Result<bool, Stop> {
    chunk.resize(BUFFER, 0);
    loop {
        match source.read(chunk) {
            Ok(length) => {
                chunk.truncate(length);
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                chunk.clear();
                return Ok(false);
            }
            Err(error) => return Err(Stop::Input(error)),
        }
    }
}
