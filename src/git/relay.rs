//! The loopback relay between libgit2 and the git host.
//!
//! libgit2 connects to the relay's port; the relay passes everything on to the one address that was
//! allowed. https goes through it by `CONNECT`, so TLS and the check of the certificate stay
//! between libgit2 and the host. The relay notices when the host falls silent and cuts the
//! connection, which ends the fetch; cancelling does the same.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::advertisement::Advertisement;
use super::framing::Framing;
use super::url::{RepoUrl, Scheme};

/// The interval at which the host is checked for silence.
const SILENCE_INTERVAL: Duration = Duration::from_millis(200);
/// The buffer size, in bytes.
const BUFFER_SIZE: usize = 64 * 1024;
/// The longest head of a `CONNECT` request or first packet of git://, in bytes.
const MAX_PREFACE: usize = 16 * 1024;
/// The most connections of one relay. libgit2 opens one, or a few if a host closes after each
/// answer.
const MAX_CONNECTIONS: usize = 64;

/// A running relay. Dropping it cuts all its connections and ends its threads.
pub(super) struct Relay {
    port: u16,
    line: Arc<Line>,
}

/// State shared by the relay's threads.
struct Line {
    scheme: Scheme,
    host: String,
    host_port: u16,
    address: SocketAddr,
    stall_timeout: Duration,
    /// The connection that was opened when the address was judged; the first client uses it.
    first: Mutex<Option<TcpStream>>,
    /// Both ends of every connection, so that they can be cut.
    sockets: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
    stalled: AtomicBool,
    /// The commits at which the history of a git:// host ends.
    ends: Mutex<Vec<String>>,
}

impl Relay {
    /// Starts a relay to `address`, to which `first` is already connected.
    pub(super) fn start(
        url: &RepoUrl,
        first: TcpStream,
        address: SocketAddr,
        stall_timeout: Duration,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let line = Arc::new(Line {
            scheme: url.scheme,
            host: url.host().unwrap_or_default().to_owned(),
            host_port: url.port(),
            address,
            stall_timeout,
            first: Mutex::new(Some(first)),
            sockets: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            ends: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&line);
        thread::Builder::new()
            .name("git-relay".to_owned())
            .spawn(move || accepting.accept(&listener))?;
        Ok(Self { port, line })
    }

    /// The port on 127.0.0.1 that libgit2 connects to.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A handle that cuts the connections from another thread.
    pub(super) fn cutter(&self) -> Cutter {
        Cutter(Arc::clone(&self.line))
    }

    /// The commits at which the history of a git:// host ends, if the host itself is shallow.
    pub(super) fn ends(&self) -> Vec<String> {
        lock(&self.line.ends).clone()
    }

    /// True if the connections were cut because the host stayed silent for the stall time-out.
    pub(super) fn stalled(&self) -> bool {
        self.line.stalled.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.line.cut();
        // Wakes the accepting thread, which then sees that the relay has stopped.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Cuts a relay's connections, so that libgit2 gets an error at once wherever it waits.
pub(super) struct Cutter(Arc<Line>);

impl Cutter {
    pub(super) fn cut(&self) {
        self.0.cut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for connection in listener.incoming().take(MAX_CONNECTIONS) {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(near) = connection else { continue };
            let line = Arc::clone(self);
            // Without a thread the connection is dropped, and libgit2 reports it as lost.
            let _ = thread::Builder::new()
                .name("git-relay".to_owned())
                .spawn(move || {
                    // libgit2 holds the other end and reports the error. The list of sockets keeps
                    // this end open, so it must be shut down on every path.
                    let end = near.try_clone();
                    let _ = line.serve(near);
                    if let Ok(end) = end {
                        let _ = end.shutdown(Shutdown::Both);
                    }
                });
        }
    }

    fn cut(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for socket in lock(&self.sockets).drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        *lock(&self.first) = None;
    }

    /// Cuts all connections: libgit2 would otherwise reconnect and wait once more.
    fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
        self.cut();
    }

    fn register(&self, socket: &TcpStream) -> io::Result<()> {
        lock(&self.sockets).push(socket.try_clone()?);
        if self.stopped.load(Ordering::SeqCst) {
            self.cut();
        }
        Ok(())
    }

    fn serve(self: Arc<Self>, mut near: TcpStream) -> io::Result<()> {
        self.register(&near)?;
        near.set_nodelay(true)?;
        let preface = self.read_preface(&mut near)?;
        let waiting = lock(&self.first).take();
        let mut far = match waiting {
            Some(far) => far,
            None => TcpStream::connect_timeout(&self.address, self.stall_timeout)?,
        };
        self.register(&far)?;
        far.set_nodelay(true)?;
        far.set_write_timeout(Some(self.stall_timeout))?;
        match self.scheme {
            Scheme::Https => near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?,
            _ => far.write_all(&preface)?,
        }
        let (near_in, far_out) = (near.try_clone()?, far.try_clone()?);
        let sent = Arc::new(Mutex::new(Instant::now()));
        let sent_at = Arc::clone(&sent);
        let line = Arc::clone(&self);
        let up = thread::Builder::new()
            .name("git-relay".to_owned())
            .spawn(move || line.pump_up(near_in, far_out, &sent_at))?;
        let ended = self.pump_down(far.try_clone()?, near.try_clone()?, &sent);
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
        let _ = up.join();
        ended
    }

    /// Copies from libgit2 to the host.
    fn pump_up(&self, mut near: TcpStream, mut far: TcpStream, sent: &Mutex<Instant>) {
        let mut buffer = vec![0; BUFFER_SIZE];
        let mut requests = 0;
        loop {
            hurry(&near);
            let length = match near.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            let sending = self.name_http_host(&buffer[..length], &near);
            if matches!(sending, Cow::Owned(_)) {
                requests += 1;
                // Only the first answer of a connection is inspected, so no second one may follow:
                // the host was asked to close.
                if requests > 1 {
                    let _ = near.shutdown(Shutdown::Both);
                    break;
                }
            }
            if let Err(error) = far.write_all(&sending) {
                if is_timeout(&error) {
                    self.stall();
                }
                let _ = near.shutdown(Shutdown::Both);
                break;
            }
            *lock(sent) = Instant::now();
        }
        let _ = far.shutdown(Shutdown::Write);
    }

    /// Puts the real host in place of the relay's into a request of plain http. libgit2 writes a
    /// head at once, so it is never split.
    fn name_http_host<'a>(&self, sending: &'a [u8], near: &TcpStream) -> Cow<'a, [u8]> {
        let (Scheme::Http, Ok(own)) = (self.scheme, near.local_addr()) else {
            return Cow::Borrowed(sending);
        };
        let named = format!("\r\nHost: {own}\r\n").into_bytes();
        let Some(at) = sending.windows(named.len()).position(|part| part == named) else {
            return Cow::Borrowed(sending);
        };
        let host = authority(&self.host, self.host_port);
        let real = format!("\r\nHost: {host}\r\nConnection: close\r\n").into_bytes();
        Cow::Owned([&sending[..at], &real, &sending[at + named.len()..]].concat())
    }

    /// Copies from the host to libgit2. Only silence of the host counts, from the last byte in
    /// either direction: while libgit2 is busy and takes nothing, no clock runs.
    fn pump_down(
        &self,
        mut far: TcpStream,
        mut near: TcpStream,
        sent: &Mutex<Instant>,
    ) -> io::Result<()> {
        far.set_read_timeout(Some(SILENCE_INTERVAL.min(self.stall_timeout)))?;
        let mut buffer = vec![0; BUFFER_SIZE];
        let mut received = Instant::now();
        let mut framing = match self.scheme {
            Scheme::Http => Framing::new(),
            _ => Framing::AsItIs,
        };
        let mut advertisement = (self.scheme == Scheme::Git).then(Advertisement::default);
        loop {
            hurry(&far);
            match far.read(&mut buffer) {
                Ok(0) => {
                    near.write_all(&framing.end())?;
                    let rest = advertisement.as_mut().map(Advertisement::end);
                    return near.write_all(&rest.unwrap_or_default());
                }
                Ok(length) => {
                    match &mut advertisement {
                        Some(advertisement) => {
                            let passed = advertisement.pass(&buffer[..length]);
                            advertisement.ends().clone_into(&mut lock(&self.ends));
                            near.write_all(&passed)?;
                        }
                        None => near.write_all(&framing.pass(&buffer[..length]))?,
                    }
                    received = Instant::now();
                }
                Err(error) if is_timeout(&error) => {
                    let last = received.max(*lock(sent));
                    if last.elapsed() >= self.stall_timeout {
                        self.stall();
                        return Err(error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the bytes that libgit2 sends to the relay before, or instead of, those for the host.
    fn read_preface(&self, near: &mut TcpStream) -> io::Result<Vec<u8>> {
        match self.scheme {
            Scheme::Https => {
                let head = read_head(near)?;
                if !self.is_connect(&head) {
                    near.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
                    return Err(io::Error::other("another host than the allowed one"));
                }
                Ok(head)
            }
            Scheme::Git => {
                let mut length = [0; 4];
                near.read_exact(&mut length)?;
                let size = std::str::from_utf8(&length)
                    .ok()
                    .and_then(|text| usize::from_str_radix(text, 16).ok())
                    .filter(|size| (4..=MAX_PREFACE).contains(size))
                    .ok_or(io::ErrorKind::InvalidData)?;
                let mut packet = vec![0; size - 4];
                near.read_exact(&mut packet)?;
                Ok(name_git_host(&packet, &self.host, self.host_port))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn is_connect(&self, head: &[u8]) -> bool {
        let head = String::from_utf8_lossy(head);
        let mut words = head.split_ascii_whitespace();
        let (method, target) = (words.next(), words.next().unwrap_or_default());
        let Some((host, port)) = target.rsplit_once(':') else {
            return false;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        method == Some("CONNECT")
            && host.trim_end_matches('.').eq_ignore_ascii_case(&self.host)
            && port.parse() == Ok(self.host_port)
    }
}

/// Acknowledges the next bytes at once. git daemon and others write an answer in small pieces and
/// wait for an acknowledgement after each (Nagle), which the system would delay by 40 ms. The
/// system resets the option, so it is set before every read; if it cannot be set, transfers are
/// only slower.
fn hurry(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_tcp_quickack(stream, true);
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The head of an HTTP request, read byte by byte so that nothing after it is consumed.
fn read_head(near: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_PREFACE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        near.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// The first packet of git:// (gitprotocol-pack(5)), `command path NUL host=… NUL`, with the real
/// host in place of the relay's, for servers that select by name.
fn name_git_host(packet: &[u8], host: &str, port: u16) -> Vec<u8> {
    let command = packet.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut named = command.to_vec();
    named.extend_from_slice(format!("\0host={}\0", authority(host, port)).as_bytes());
    let mut sent = format!("{:04x}", named.len() + 4).into_bytes();
    sent.extend_from_slice(&named);
    sent
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_git_host_is_named() {
        let sent = name_git_host(
            b"git-upload-pack /a.git\0host=127.0.0.1\0",
            "git.example",
            9418,
        );
        assert_eq!(sent, b"0031git-upload-pack /a.git\0host=git.example:9418\0");
        assert_eq!(sent.len(), 0x31);
    }
}
