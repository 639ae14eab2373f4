//! A running command's standard input.

use std::io::{ErrorKind, Read, Write as _};

use ssh2::Channel;

use super::follow::{BUFFER, Stop};
use super::link::{Fault, Link};

/// What is still to be fed to the command.
pub(super) enum Feed<'a> {
    Open {
        source: &'a mut dyn Read,
        chunk: Vec<u8>,
        sent: usize,
    },
    Ending,
    Closed,
}

impl<'a> Feed<'a> {
    /// All of `source`, or nothing but the end.
    pub(super) fn of(source: Option<&'a mut dyn Read>) -> Self {
        match source {
            Some(source) => Self::Open {
                source,
                chunk: Vec::new(),
                sent: 0,
            },
            None => Self::Ending,
        }
    }

    /// Feeds the next piece, as far as the command takes it and the source has it at this moment;
    /// whether something moved.
    pub(super) fn step(&mut self, channel: &mut Channel, link: &Link) -> Result<bool, Stop> {
        match self {
            Self::Closed => Ok(false),
            Self::Ending => match channel.send_eof().map_err(Fault::from) {
                Err(Fault::Blocked) => Ok(false),
                _ => {
                    *self = Self::Closed;
                    Ok(true)
                }
            },
            Self::Open {
                source,
                chunk,
                sent,
            } => {
                if *sent == chunk.len() {
                    *sent = 0;
                    if !fill(chunk, source)? {
                        return Ok(false);
                    }
                    if chunk.is_empty() {
                        *self = Self::Ending;
                        return Ok(true);
                    }
                }
                match channel.write(&chunk[*sent..]) {
                    Ok(length) => {
                        *sent += length;
                        Ok(length > 0)
                    }
                    Err(error) => self.failed(link.with_code(error.into())),
                }
            }
        }
    }

    /// A command that has closed its input, or has ended, takes no more; that is no failure.
    fn failed(&mut self, fault: Fault) -> Result<bool, Stop> {
        match fault {
            Fault::Blocked => Ok(false),
            fault if fault.is_lost() => Err(Stop::Lost(fault.reason().to_owned())),
            _ => {
                *self = Self::Closed;
                Ok(true)
            }
        }
    }
}

/// Reads the source's next piece; empty at its end. `false`: it has none at this moment.
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
