//! Running a command on the server.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use ssh2::Channel;

use super::Cancel;
use super::command::{Command, Exit, Stream};
use super::connection::Connection;
use super::error::{COMMAND, Cause, Phase, SshError};
use super::feed::Feed;
use super::lines::Lines;
use super::link::{Fault, Patience, SLICE};
use super::script::{Listener, Mark, quote};

/// How long output is still read after the command has ended: a daemon that it left behind may
/// keep the output open for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// The limit of the command that kills another one: TERM, 3 s of patience, KILL, and the way there.
const KILL_LIMIT: Duration = Duration::from_secs(8);

/// A silent server is not given up before: it is asked after a third of this, and libssh2 asks at
/// most every 2 s.
const SHORTEST_IDLE: Duration = Duration::from_secs(9);

/// The pieces that a stream is moved in.
pub(super) const BUFFER: usize = 64 * 1024;

/// How many buffers of one stream are read before cancellation is looked at again.
const BURST: usize = 16;

impl Connection {
    /// Runs a command without a terminal and waits for its end, its time limit or `cancel`.
    ///
    /// Its output goes to `on_line` line by line while it runs: without the line's end, invalid
    /// UTF-8 replaced, a line of more than 64 KiB in pieces. The two streams are separate; their
    /// order among each other is not kept.
    ///
    /// At the time limit or on `cancel` its process group gets TERM and 3 s later KILL, through a
    /// second connection. What a command leaves in the background after its own end is left
    /// alone, and is waited for at most 1 s.
    pub fn exec(
        &self,
        command: Command<'_>,
        cancel: &Cancel,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Exit, SshError> {
        let limit = command.time_limit;
        let mut on_line = |stream, line: &str| on_line(stream, line);
        let mut run =
            Run::start(self, command, cancel, &mut on_line).map_err(|cause| self.failed(cause))?;
        let ended = run.follow(Instant::now() + limit, cancel);
        let result = match ended {
            Ok(()) => run.exit(),
            Err(Stop::Lost(reason)) => Err(Cause::ConnectionLost { reason }),
            Err(stop) => {
                let killed = run.kill();
                Err(match stop {
                    Stop::Input(cause) => Cause::Input { cause },
                    Stop::Output(cause) => Cause::Output { cause },
                    Stop::Cancelled => Cause::Cancelled { killed },
                    _ => Cause::CommandTimedOut { limit, killed },
                })
            }
        };
        run.close();
        result.map_err(|cause| self.failed(cause))
    }

    /// Opens a channel and starts `text` in it, as it is.
    fn start(&self, text: &str, patience: Patience<'_>) -> Result<Channel, Cause> {
        let refused = |fault: Fault| match fault {
            Fault::Failed { ref reason, .. } if !fault.is_lost() => Cause::Refused {
                what: COMMAND,
                reason: reason.clone(),
            },
            fault => fault.general(Phase::Start, self.timeouts.idle),
        };
        let open = || Ok(self.link.session.channel_session()?);
        let mut channel = self.link.drive_opening(patience, open).map_err(refused)?;
        self.link
            .drive(patience, || Ok(channel.exec(text)?))
            .map_err(refused)?;
        Ok(channel)
    }

    /// Runs `text` and returns whether it succeeded; for the module's own small commands.
    pub(super) fn succeeds(&self, text: &str, limit: Duration) -> Result<bool, Cause> {
        let patience = Patience::until(Instant::now() + limit);
        let lost = |fault: Fault| fault.general(Phase::Start, limit);
        let mut channel = self.start(&format!("exec sh -c {}", quote(text)), patience)?;
        let mut buffer = [0; 1024];
        let mut read_all = || loop {
            if channel.read(&mut buffer)? == 0 {
                return Ok(());
            }
        };
        self.link.drive(patience, &mut read_all).map_err(lost)?;
        self.link
            .drive(patience, || Ok(channel.wait_close()?))
            .map_err(lost)?;
        let exit_signal = channel.exit_signal().ok().and_then(|it| it.exit_signal);
        Ok(exit_signal.is_none() && channel.exit_status().is_ok_and(|status| status == 0))
    }
}

/// Why a command is no longer followed.
pub(super) enum Stop {
    Cancelled,
    TimeLimit,
    Input(io::Error),
    Output(io::Error),
    Lost(String),
}

struct Run<'a, 'f> {
    connection: &'a Connection,
    channel: Channel,
    feed: Feed<'f>,
    /// Who takes the standard output, if not `on_line`.
    sink: Option<&'f mut dyn Write>,
    listener: Listener,
    out: Lines,
    err: Lines,
    on_line: &'a mut dyn FnMut(Stream, &str),
    buffer: Vec<u8>,
    last_sign: Instant,
    last_question: Instant,
}

impl<'a, 'f> Run<'a, 'f> {
    fn start(
        connection: &'a Connection,
        command: Command<'f>,
        cancel: &Cancel,
        on_line: &'a mut dyn FnMut(Stream, &str),
    ) -> Result<Self, Cause> {
        let mark = Mark::new();
        let patience = Patience {
            until: None,
            idle: Some(connection.timeouts.idle),
            cancel: Some(cancel),
        };
        let channel = connection.start(&mark.wrap(command.text), patience)?;
        Ok(Self {
            connection,
            channel,
            feed: Feed::of(command.stdin),
            sink: command.stdout,
            listener: Listener::new(&mark),
            out: Lines::default(),
            err: Lines::default(),
            on_line,
            buffer: vec![0; BUFFER],
            last_sign: Instant::now(),
            last_question: Instant::now(),
        })
    }

    /// Reads and feeds until the command has ended.
    fn follow(&mut self, deadline: Instant, cancel: &Cancel) -> Result<(), Stop> {
        let mut drained_at = None;
        loop {
            let moved = self.pump()?;
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
            }
            if !moved && !self.has_more() {
                self.wait(deadline)?;
            }
        }
    }

    /// Moves what can be moved without waiting; whether something was.
    fn pump(&mut self) -> Result<bool, Stop> {
        let read = self.read(Stream::Out)? | self.read(Stream::Err)?;
        let moved = read | self.feed.step(&mut self.channel, &self.connection.link)?;
        if moved {
            self.last_sign = Instant::now();
        }
        Ok(moved)
    }

    /// Whether something came for one stream while libssh2 took from the socket for the other, or
    /// for the feed: the socket will not tell of that again.
    fn has_more(&self) -> bool {
        self.channel.read_window().available > 0
    }

    fn read(&mut self, stream: Stream) -> Result<bool, Stop> {
        let mut source = match stream {
            Stream::Out => self.channel.stream(0),
            Stream::Err => self.channel.stderr(),
        };
        for turn in 0..BURST {
            let bytes = match source.read(&mut self.buffer).map_err(Fault::from) {
                Ok(0) | Err(Fault::Blocked) => return Ok(turn > 0),
                Ok(length) => &self.buffer[..length],
                Err(fault) => return Err(Stop::Lost(fault.reason().to_owned())),
            };
            let mut on_line = |line: &str| (self.on_line)(stream, line);
            match stream {
                Stream::Out => {
                    let (lines, sink) = (&mut self.out, &mut self.sink);
                    let mut taken = Ok(());
                    self.listener.feed(bytes, &mut |bytes| match sink {
                        Some(sink) if taken.is_ok() => taken = sink.write_all(bytes),
                        Some(_) => {}
                        None => lines.feed(bytes, &mut on_line),
                    });
                    taken.map_err(Stop::Output)?;
                }
                Stream::Err => self.err.feed(bytes, &mut on_line),
            }
        }
        Ok(true)
    }

    /// Waits for the server. When it is silent for long it is asked whether it is still there.
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

    /// Whether nothing more can come.
    fn is_closed(&mut self) -> bool {
        self.channel.eof()
            && !matches!(
                self.channel.wait_close().map_err(Fault::from),
                Err(Fault::Blocked)
            )
    }

    /// Whether the command itself has ended, be its output still open or not.
    fn has_ended(&self) -> bool {
        self.listener.status.is_some()
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
        if let Some(status) = self.listener.status {
            return Ok(Exit::from_shell(status));
        }
        if let Some(signal) = self.exit_signal() {
            return Ok(Exit {
                code: None,
                signal: Some(signal),
            });
        }
        match self.channel.exit_status() {
            Ok(status) if self.listener.victim.is_none() => Err(Cause::NoShell {
                ended: Exit::from_shell(status),
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

    fn flush(&mut self) {
        let mut on_out = |line: &str| (self.on_line)(Stream::Out, line);
        let (lines, sink) = (&mut self.out, &mut self.sink);
        self.listener.finish(&mut |bytes| match sink {
            // All that matters came before the command's end.
            Some(sink) => drop(sink.write_all(bytes)),
            None => lines.feed(bytes, &mut on_out),
        });
        self.out.finish(&mut on_out);
        self.err
            .finish(&mut |line| (self.on_line)(Stream::Err, line));
    }

    /// Ends the command's processes; whether that is known to have worked. What they still print
    /// is delivered.
    fn kill(&mut self) -> bool {
        if self.listener.victim.is_none() {
            self.drain();
        }
        let killed = match self.listener.victim {
            Some(victim) => {
                let kill = |beside: &Connection| beside.succeeds(&victim.kill_script(), KILL_LIMIT);
                self.connection.beside(KILL_LIMIT, kill).unwrap_or(false)
            }
            None => self.listener.status.is_some() || self.is_closed(),
        };
        self.drain();
        self.flush();
        killed
    }

    /// Reads what comes within a moment, without feeding.
    fn drain(&mut self) {
        self.feed = Feed::Closed;
        self.sink = None;
        let _ = self.follow(Instant::now() + DRAIN, &Cancel::new());
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
