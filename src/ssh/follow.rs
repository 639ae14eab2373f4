//! Follows a running command: its output, its input, its end.

use std::io::{self, Read as _, Write};
use std::mem;
use std::time::{Duration, Instant};

use ssh2::Channel;

use super::Cancel;
use super::command::{Command, Exit, Followed, OnLine, Stream};
use super::connection::Connection;
use super::error::{Cause, SshError};
use super::feed::Feed;
use super::link::{Fault, Patience, SLICE};
use super::output::Output;
use super::script::Mark;

/// The time for which output is still read after the command has ended: a daemon that it left
/// behind may keep the output open forever.
const DRAIN: Duration = Duration::from_secs(1);

/// The time limit of the command that kills another one: TERM, 3 s, KILL, and the round trip.
const KILL_LIMIT: Duration = Duration::from_secs(8);

/// The shortest time after which a silent server is given up: it is asked after a third of this,
/// and libssh2 asks at most every 2 s.
const SHORTEST_IDLE: Duration = Duration::from_secs(9);

/// The buffer size of a stream, in bytes.
pub(super) const BUFFER: usize = 64 * 1024;

/// The number of buffers of one stream that are read before cancellation is checked again.
const BURST: usize = 16;

/// A command that runs on while nobody follows it. Dropping this leaves it running.
pub struct Underway {
    channel: Channel,
    out: Output,
    err: Output,
}

/// The reason a command is no longer followed.
pub(super) enum Stop {
    Reached,
    Cancelled,
    TimeLimit,
    /// The login did not reach the command in time.
    Silent,
    Input(io::Error),
    Output(io::Error),
    Lost(String),
}

/// A command while it is followed.
pub(super) struct Run<'a, 'f> {
    connection: &'a Connection,
    channel: Channel,
    feed: Feed<'f>,
    /// The receiver of the standard output, if not `on_line`.
    sink: Option<&'f mut dyn Write>,
    out: Output,
    err: Output,
    on_line: OnLine<'a>,
    /// The deadline for the start of the wrapper.
    first_word: Instant,
    /// True if `on_line` broke.
    reached: bool,
    buffer: Vec<u8>,
    last_sign: Instant,
    last_question: Instant,
}

impl<'a, 'f> Run<'a, 'f> {
    pub(super) fn start(
        connection: &'a Connection,
        command: Command<'f>,
        cancel: &Cancel,
        on_line: OnLine<'a>,
    ) -> Result<Self, Cause> {
        let mark = Mark::new();
        let patience = Patience {
            until: None,
            idle: Some(connection.timeouts.idle),
            cancel: Some(cancel),
        };
        let program = mark.wrap(command.text, command.own_process);
        let mut feed = Feed::of(program, command.stdin);
        let first_word = Instant::now() + connection.timeouts.connect;
        let started = Underway {
            channel: connection.start(&mut feed, patience)?,
            out: Output::new(Stream::Out, &mark),
            err: Output::new(Stream::Err, &mark),
        };
        Ok(Self {
            feed,
            sink: command.stdout,
            first_word,
            ..Self::again(connection, started, on_line)
        })
    }

    pub(super) fn again(
        connection: &'a Connection,
        underway: Underway,
        on_line: OnLine<'a>,
    ) -> Self {
        let Underway { channel, out, err } = underway;
        let now = Instant::now();
        Self {
            connection,
            channel,
            feed: Feed::end(),
            sink: None,
            out,
            err,
            on_line,
            first_word: now + connection.timeouts.connect,
            reached: false,
            buffer: vec![0; BUFFER],
            last_sign: now,
            last_question: now,
        }
    }

    /// Follows it to its end or until `on_line` breaks; kills it at the limit or on `cancel`.
    pub(super) fn conclude(
        mut self,
        limit: Duration,
        cancel: &Cancel,
    ) -> Result<Followed, SshError> {
        let connection = self.connection;
        let result = match self.follow(Instant::now() + limit, cancel) {
            Ok(()) => self.exit(),
            Err(Stop::Reached) => {
                return Ok(Followed::Underway(Box::new(Underway {
                    channel: self.channel,
                    out: self.out,
                    err: self.err,
                })));
            }
            Err(Stop::Lost(reason)) => Err(Cause::ConnectionLost { reason }),
            Err(stop) => {
                let killed = self.kill();
                Err(match stop {
                    Stop::Input(cause) => Cause::Input { cause },
                    Stop::Output(cause) => Cause::Output { cause },
                    Stop::Cancelled => Cause::Cancelled { killed },
                    Stop::Silent => Cause::LoginSilent {
                        after: connection.timeouts.connect,
                        said: self.login_said(),
                    },
                    _ => Cause::CommandTimedOut { limit, killed },
                })
            }
        };
        self.close();
        let result = match result {
            Err(Cause::LoginEnded { said, .. }) if connection.takes_files_alone(&said) => {
                Err(Cause::NoShell)
            }
            result => result,
        };
        result
            .map(Followed::Ended)
            .map_err(|cause| connection.failed(cause))
    }

    /// Reads and feeds until the command has ended.
    fn follow(&mut self, deadline: Instant, cancel: &Cancel) -> Result<(), Stop> {
        let mut drained_at = None;
        loop {
            let moved = self.pump()?;
            if mem::take(&mut self.reached) {
                return Err(Stop::Reached);
            }
            if self.is_closed() {
                return Ok(());
            }
            let now = Instant::now();
            if drained_at.is_none() && self.has_ended() {
                drained_at = Some(now + DRAIN);
            }
            if let Some(drained_at) = drained_at {
                if now >= drained_at {
                    return Ok(());
                }
            } else if cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            } else if now >= deadline {
                return Err(Stop::TimeLimit);
            } else if now >= self.first_word && !self.out.listener.has_begun {
                return Err(Stop::Silent);
            }
            if !moved && !self.has_more() {
                self.wait(deadline)?;
            }
        }
    }

    /// Moves all data that can be moved without waiting; true if any was.
    fn pump(&mut self) -> Result<bool, Stop> {
        let read = self.read(Stream::Out)? | self.read(Stream::Err)?;
        let has_begun = self.out.listener.has_begun;
        let link = &self.connection.link;
        let moved = read | self.feed.step(&mut self.channel, link, has_begun)?;
        if moved {
            self.last_sign = Instant::now();
        }
        Ok(moved)
    }

    /// True if data arrived for one stream while libssh2 read from the socket for the other, or for
    /// the feed: the socket will not become ready for it again.
    fn has_more(&self) -> bool {
        self.channel.read_window().available > 0
    }

    fn read(&mut self, stream: Stream) -> Result<bool, Stop> {
        let mut source = match stream {
            Stream::Err => self.channel.stderr(),
            _ => self.channel.stream(0),
        };
        for turn in 0..BURST {
            let bytes = match source.read(&mut self.buffer).map_err(Fault::from) {
                Ok(0) | Err(Fault::Blocked) => return Ok(turn > 0),
                Ok(length) => &self.buffer[..length],
                Err(fault) => return Err(Stop::Lost(fault.reason().to_owned())),
            };
            let (on_line, reached) = (&mut self.on_line, &mut self.reached);
            let mut tell = |stream, line: &str| *reached |= on_line(stream, line).is_break();
            let taken = match stream {
                Stream::Err => self.err.feed(bytes, None, &mut tell),
                _ => self.out.feed(bytes, self.sink.as_deref_mut(), &mut tell),
            };
            taken.map_err(Stop::Output)?;
        }
        Ok(true)
    }

    /// Waits for the server. After a long silence it is asked for a sign of life.
    fn wait(&mut self, deadline: Instant) -> Result<(), Stop> {
        let link = &self.connection.link;
        let idle = self.connection.timeouts.idle.max(SHORTEST_IDLE);
        let rest = deadline.saturating_duration_since(Instant::now());
        if link.wait(SLICE.min(rest).max(Duration::from_millis(1))) {
            self.last_sign = Instant::now();
        } else if self.last_sign.elapsed() >= idle {
            let reason = format!("no sign of life for {} s", idle.as_secs());
            return Err(Stop::Lost(reason));
        } else if self.last_sign.elapsed().min(self.last_question.elapsed()) >= idle / 3 {
            self.last_question = Instant::now();
            link.ask_for_sign()
                .map_err(|fault| Stop::Lost(fault.reason().to_owned()))?;
        }
        Ok(())
    }

    /// True if nothing more can arrive.
    fn is_closed(&mut self) -> bool {
        self.channel.eof()
            && !matches!(
                self.channel.wait_close().map_err(Fault::from),
                Err(Fault::Blocked)
            )
    }

    /// True if the command itself has ended, even if its output is still open.
    fn has_ended(&self) -> bool {
        self.out.listener.status.is_some()
            || self.exit_signal().is_some()
            || self.channel.exit_status().is_ok_and(|status| status != 0)
    }

    fn exit_signal(&self) -> Option<String> {
        self.channel
            .exit_signal()
            .ok()
            .and_then(|it| it.exit_signal)
    }

    fn exit(&mut self) -> Result<Exit, Cause> {
        self.flush();
        if let Some(status) = self.out.listener.status {
            return Ok(Exit::from_shell(status));
        }
        if let Some(signal) = self.exit_signal() {
            return Ok(Exit {
                code: None,
                signal: Some(signal),
            });
        }
        match self.channel.exit_status() {
            Ok(status) if !self.out.listener.has_begun => Err(Cause::LoginEnded {
                ended: Exit::from_shell(status),
                said: self.login_said(),
            }),
            Ok(0) => Err(Cause::ConnectionLost {
                reason: "the command's exit status was not told".to_owned(),
            }),
            Ok(status) => Ok(Exit::from_shell(status)),
            Err(error) => Err(Cause::ConnectionLost {
                reason: error.message().to_owned(),
            }),
        }
    }

    /// The end of the login's output, its errors last.
    fn login_said(&self) -> String {
        let said = [self.out.last_words(), self.err.last_words()];
        let said: Vec<String> = said.into_iter().filter(|it| !it.is_empty()).collect();
        said.join(" / ")
    }

    fn flush(&mut self) {
        // Breaking has no effect any more.
        let on_line = &mut self.on_line;
        let mut tell = |stream, line: &str| {
            let _ = on_line(stream, line);
        };
        self.out.finish(self.sink.as_deref_mut(), &mut tell);
        self.err.finish(None, &mut tell);
    }

    /// Ends the command's processes; true if that is known to have worked. Output that still
    /// arrives is delivered.
    fn kill(&mut self) -> bool {
        if self.out.listener.victim.is_none() {
            self.drain();
        }
        let killed = match self.out.listener.victim {
            Some(victim) => {
                let kill = |extra: &Connection| extra.succeeds(&victim.kill_script(), KILL_LIMIT);
                self.connection
                    .on_extra_connection(KILL_LIMIT, kill)
                    .unwrap_or(false)
            }
            None => self.out.listener.status.is_some() || self.is_closed(),
        };
        self.drain();
        self.flush();
        killed
    }

    /// Reads the output that arrives within [`DRAIN`], without feeding.
    fn drain(&mut self) {
        self.feed = Feed::closed();
        self.sink = None;
        let (deadline, nobody) = (Instant::now() + DRAIN, Cancel::new());
        self.first_word = self.first_word.max(deadline);
        while let Err(Stop::Reached) = self.follow(deadline, &nobody) {}
    }

    /// Follows it to its end, without killing it at the limit; true if it succeeded.
    pub(super) fn succeeds(mut self, limit: Duration) -> Result<bool, Cause> {
        let ended = match self.follow(Instant::now() + limit, &Cancel::new()) {
            Ok(()) => self.exit(),
            Err(Stop::Lost(reason)) => Err(Cause::ConnectionLost { reason }),
            Err(_) => Err(Cause::CommandTimedOut {
                limit,
                killed: false,
            }),
        };
        self.close();
        Ok(ended?.success())
    }

    /// Closes the channel, so that the connection can run the next command.
    fn close(mut self) {
        let patience = Patience::until(Instant::now() + DRAIN);
        let closed = self
            .connection
            .link
            .drive(patience, || Ok(self.channel.close()?));
        if closed.is_err() {
            self.connection.mark_broken();
        }
    }
}
