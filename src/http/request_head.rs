//! Request heads (RFC 9112 §2 to §6), validated once and rewritten in canonical form, so that all
//! later code interprets them the same.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::body_frame::BodyFrame;
use super::fault::Fault;
use super::target::canonical_path;

/// The most bytes of a head.
pub const HEAD_BYTES: usize = 64 << 10;
/// The most bytes of a request line, with its target percent-encoded.
pub const LINE_BYTES: usize = 32 << 10;
/// The most headers.
const HEADERS: usize = 96;

/// The header that carries a [`Fault`] inside this process; removed from requests of clients.
pub const FAULT_HEADER: &str = "longshore-fault";

/// Headers that concern only this connection or are generated anew.
const NOT_PASSED_ON: [&str; 8] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "upgrade",
    "expect",
    "content-length",
    "transfer-encoding",
    FAULT_HEADER,
];

/// A valid request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The head in canonical form: the target percent-encoded, `Connection` with at most one
    /// option, `Upgrade` and `Expect` only if they have an effect.
    pub bytes: Vec<u8>,
    /// The length of the original head in bytes, including empty lines before it.
    pub length: usize,
    /// The framing of the body that follows.
    pub body: BodyFrame,
    /// The use of the connection after the body.
    pub behind: Behind,
}

/// The use of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Another request may follow.
    Request,
    /// Later bytes are ignored (RFC 9112 §9.6).
    Nothing,
    /// WebSocket frames follow if the upgrade is accepted.
    Frames,
}

impl RequestHead {
    /// Parses the head at the beginning of `bytes`; `None` if it is incomplete. `is_socket` returns
    /// true for canonical paths that accept an upgrade to WebSocket.
    ///
    /// # Errors
    /// The [`Fault`] of the head; requests after it cannot be delimited.
    pub fn read(bytes: &[u8], is_socket: impl Fn(&str) -> bool) -> Result<Option<Self>, Fault> {
        let empty = bytes.iter().position(|byte| !b"\r\n".contains(byte));
        let empty = empty.unwrap_or(bytes.len()).min(HEAD_BYTES);
        let within = &bytes[empty..bytes.len().min(HEAD_BYTES)];
        check_method(within)?;
        let encoded = encoded(within)?;
        if !within.contains(&b'\n') && bytes.len() < HEAD_BYTES {
            return Ok(None);
        }
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(&encoded, &mut headers);
        match parsed {
            Ok(httparse::Status::Complete(length)) => {
                let length = empty + length - (encoded.len() - within.len());
                judge(&request, length, is_socket).map(Some)
            }
            Ok(httparse::Status::Partial) if bytes.len() >= HEAD_BYTES => Err(Fault::LongHead),
            Ok(httparse::Status::Partial) => Ok(None),
            Err(httparse::Error::TooManyHeaders) => Err(Fault::LongHead),
            Err(httparse::Error::Version) if names_a_version(&encoded) => Err(Fault::Version),
            Err(_) => Err(Fault::Head),
        }
    }
}

/// Refuses at once input that does not begin as a request, such as the greeting of another
/// protocol.
fn check_method(bytes: &[u8]) -> Result<(), Fault> {
    let is_method = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match bytes.iter().position(|byte| !is_method(byte)) {
        Some(end) if end == 0 || bytes[end] != b' ' => Err(Fault::Head),
        _ => Ok(()),
    }
}

/// Percent-encodes the bytes of the target that are not allowed in it (RFC 3986 §2). Raw bytes
/// count as encoded ones; they are checked for UTF-8 when they are decoded.
fn encoded(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let begin = line.iter().position(|byte| *byte == b' ');
    let begin = begin.map_or(line.len(), |space| space + 1);
    let end = line[begin..].iter().position(|byte| *byte == b' ');
    let end = end.map_or(line.len(), |length| begin + length);
    let raw = line[begin..end].iter().filter(|byte| is_raw(byte)).count();
    if line.len() + 2 * raw > LINE_BYTES {
        return Err(Fault::LongTarget);
    }
    if raw == 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut encoded = Vec::with_capacity(bytes.len() + 2 * raw);
    encoded.extend_from_slice(&bytes[..begin]);
    for byte in &bytes[begin..end] {
        if is_raw(byte) {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            encoded.push(*byte);
        }
    }
    encoded.extend_from_slice(&bytes[end..]);
    Ok(Cow::Owned(encoded))
}

fn is_raw(byte: &u8) -> bool {
    !byte.is_ascii() || b"\"<>\\^`{|}".contains(byte)
}

/// True if the request line ends with an HTTP version, known or not.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default().trim_ascii_end();
    let word = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let version = word.strip_prefix(b"HTTP/");
    matches!(version, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn judge(
    request: &httparse::Request<'_, '_>,
    length: usize,
    is_socket: impl Fn(&str) -> bool,
) -> Result<RequestHead, Fault> {
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(Fault::Head);
    };
    let path = path_of(method, target)?;
    let headers = Headers {
        is_modern: minor == 1,
        lines: request.headers,
    };
    headers.check_host()?;
    let body = headers.body(method)?;
    let expects = headers.expects_to_be_asked()? && !body.is_over();
    let is_upgrade = method == "GET" && body.is_over() && headers.ask_for_a_socket();
    let behind = if headers.end_the_connection() {
        Behind::Nothing
    } else if is_upgrade && canonical_path(path).is_ok_and(|path| is_socket(&path)) {
        Behind::Frames
    } else {
        Behind::Request
    };
    let mut bytes = format!("{method} {target} HTTP/1.{minor}\r\n").into_bytes();
    let mut add = |name: &str, value: &[u8]| {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    };
    for header in request.headers.iter() {
        let is_it = |name: &&str| header.name.eq_ignore_ascii_case(name);
        if !NOT_PASSED_ON.iter().any(is_it) {
            add(header.name, header.value);
        }
    }
    match behind {
        Behind::Request if headers.is_modern => {}
        Behind::Request => add("connection", b"keep-alive"),
        Behind::Nothing => add("connection", b"close"),
        Behind::Frames => {
            add("connection", b"upgrade");
            add("upgrade", b"websocket");
        }
    }
    if expects {
        add("expect", b"100-continue");
    }
    match headers.length()? {
        Some(length) => add("content-length", length.to_string().as_bytes()),
        None if !body.is_over() => add("transfer-encoding", b"chunked"),
        None => {}
    }
    bytes.extend_from_slice(b"\r\n");
    Ok(RequestHead {
        bytes,
        length,
        body,
        behind,
    })
}

/// The path of a target in origin-form or absolute-form (RFC 9112 §3.2).
fn path_of<'a>(method: &str, target: &'a str) -> Result<&'a str, Fault> {
    if method == "CONNECT" || (method, target) == ("OPTIONS", "*") {
        return Err(Fault::Method);
    }
    let rest = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(Fault::Head)?;
        let is_web = ["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known));
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if !is_web || authority == 0 {
            return Err(Fault::Head);
        }
        &rest[authority..]
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    Ok(&rest[..end])
}

struct Headers<'a> {
    /// True for HTTP/1.1, false for 1.0.
    is_modern: bool,
    lines: &'a [httparse::Header<'a>],
}

impl<'a> Headers<'a> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let is_it = move |line: &&httparse::Header<'a>| line.name.eq_ignore_ascii_case(name);
        let found = self.lines.iter().filter(is_it);
        found.map(|line| line.value.trim_ascii())
    }

    /// The list members of all headers `name`.
    fn members(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let members = self
            .values(name)
            .flat_map(|value| value.split(|byte| *byte == b','));
        members
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    fn has(&self, name: &'static str, member: &[u8]) -> bool {
        self.members(name)
            .any(|found| found.eq_ignore_ascii_case(member))
    }

    fn check_host(&self) -> Result<(), Fault> {
        match self.values("host").count() {
            0 if !self.is_modern => Ok(()),
            1 => Ok(()),
            _ => Err(Fault::Host),
        }
    }

    fn length(&self) -> Result<Option<u64>, Fault> {
        let mut values = self.values("content-length");
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !is_number || values.next().is_some() {
            return Err(Fault::Length);
        }
        let digits = std::str::from_utf8(value).or(Err(Fault::Length))?;
        digits.parse().map(Some).or(Err(Fault::TooLarge))
    }

    /// The framing of the body. Contradictory headers are refused, since they may smuggle requests
    /// (RFC 9112 §6.3).
    fn body(&self, method: &str) -> Result<BodyFrame, Fault> {
        let length = self.length()?;
        if self.values("transfer-encoding").next().is_none() {
            return match length {
                Some(length) => Ok(BodyFrame::of_length(length)),
                None if method == "POST" && !self.is_modern => Err(Fault::Length),
                None => Ok(BodyFrame::of_length(0)),
            };
        }
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        if !self.members("transfer-encoding").all(is_chunked) {
            return Err(Fault::UnknownCoding);
        }
        let is_sound = self.is_modern && length.is_none();
        if is_sound && self.members("transfer-encoding").count() == 1 {
            Ok(BodyFrame::chunked())
        } else {
            Err(Fault::Coding)
        }
    }

    /// True if the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    fn expects_to_be_asked(&self) -> Result<bool, Fault> {
        let is_known = |member: &[u8]| member.eq_ignore_ascii_case(b"100-continue");
        if !self.members("expect").all(is_known) {
            return Err(Fault::Expectation);
        }
        Ok(self.is_modern && self.members("expect").next().is_some())
    }

    fn ask_for_a_socket(&self) -> bool {
        self.is_modern && self.has("connection", b"upgrade") && self.has("upgrade", b"websocket")
    }

    fn end_the_connection(&self) -> bool {
        let is_kept = self.is_modern || self.has("connection", b"keep-alive");
        !is_kept || self.has("connection", b"close")
    }
}

/// The head of the internal request that replaces one with `fault`: its handler reports the fault
/// in the language that `bytes`, the beginning of the faulty request, prefer.
pub fn stand_in(fault: Fault, bytes: &[u8]) -> Vec<u8> {
    let bytes = bytes.trim_ascii_start();
    let method: &[u8] = if bytes.starts_with(b"HEAD ") {
        b"HEAD"
    } else {
        b"GET"
    };
    let mut head = method.to_vec();
    head.extend_from_slice(b" / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let mut add = |name: &str, value: &[u8]| {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    add(FAULT_HEADER, fault.as_str().as_bytes());
    if let Some(languages) = languages(bytes) {
        add("accept-language", languages);
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The value of `Accept-Language` in a possibly malformed head.
fn languages(bytes: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"accept-language:";
    let value = bytes.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| value.trim_ascii())
    })?;
    let is_plain = value.iter().all(|byte| (b' '..=b'~').contains(byte));
    is_plain.then_some(value)
}

#[cfg(test)]
mod tests;
