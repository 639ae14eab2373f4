//! Where the requests of a connection begin and end (RFC 9112 §6), followed byte by byte and without
//! holding any back.

use std::mem;

/// The longest header line that is looked at; those that matter here are shorter.
const LINE_BYTES: usize = 256;

/// Follows one connection. Nothing is refused here: what is unusual is passed on as it is for the HTTP
/// layer to judge, and nothing behind it is touched.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    /// The line that is being read, as far as it is looked at.
    line: Vec<u8>,
    body: Body,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the target of a request line.
    #[default]
    Method,
    /// In the target.
    Target,
    /// Behind it.
    Version,
    Header,
    /// So many bytes of a body are still to come.
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// No more requests are told apart.
    Opaque,
}

/// What the headers say of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    Length(u64),
    Chunked,
    /// Two lengths, another coding, or something else than requests.
    Unclear,
}

impl Framing {
    /// How many of the next bytes are of no interest, since they are a body's.
    pub fn passing(&self) -> u64 {
        match self.state {
            State::Opaque => u64::MAX,
            State::Body(left) | State::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Notes that so many bytes went by, no more than [`passing`](Self::passing).
    pub fn passed(&mut self, bytes: u64) {
        self.state = match self.state {
            State::Body(left) if left <= bytes => State::Method,
            State::Body(left) => State::Body(left - bytes),
            State::Chunk(left) if left <= bytes => State::ChunkEnd,
            State::Chunk(left) => State::Chunk(left - bytes),
            state => state,
        };
    }

    /// Passes `bytes` on to `out`, with those of a target that are not ASCII percent-encoded: raw text
    /// counts as encoded text, and whether it is UTF-8 is found out where it is decoded.
    pub fn encode(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some((byte, rest)) = bytes.split_first() {
            let passing = usize::try_from(self.passing()).unwrap_or(usize::MAX);
            if passing > 0 {
                let (body, behind) = bytes.split_at(passing.min(bytes.len()));
                out.extend_from_slice(body);
                self.passed(body.len() as u64);
                bytes = behind;
                continue;
            }
            match (self.state, byte.is_ascii()) {
                (State::Target, false) => out.extend(escaped(*byte)),
                _ => out.push(*byte),
            }
            self.see(*byte);
            bytes = rest;
        }
    }

    fn see(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Method, b'\r' | b'\n') => State::Method,
            (State::Method, b' ') => State::Target,
            (State::Target, b' ') => State::Version,
            (State::Target, b'\n') => State::Opaque,
            (State::Version, b'\n') => {
                self.body = Body::None;
                State::Header
            }
            (State::Header | State::ChunkSize | State::ChunkEnd | State::Trailer, b'\n') => {
                let line = mem::take(&mut self.line);
                self.end_of_line(line.strip_suffix(b"\r").unwrap_or(&line))
            }
            (state @ (State::Header | State::ChunkSize | State::ChunkEnd | State::Trailer), _) => {
                if self.line.len() < LINE_BYTES {
                    self.line.push(byte);
                }
                state
            }
            (state, _) => state,
        };
    }

    fn end_of_line(&mut self, line: &[u8]) -> State {
        match (self.state, line) {
            (State::Header, []) => match self.body {
                Body::None | Body::Length(0) => State::Method,
                Body::Length(length) => State::Body(length),
                Body::Chunked => State::ChunkSize,
                Body::Unclear => State::Opaque,
            },
            (State::Header, line) => {
                self.body = self.body.and(line);
                State::Header
            }
            (State::ChunkSize, line) => match chunk_size(line) {
                Some(0) => State::Trailer,
                Some(size) => State::Chunk(size),
                None => State::Opaque,
            },
            (State::ChunkEnd, []) => State::ChunkSize,
            (State::Trailer, []) => State::Method,
            (State::Trailer, _) => State::Trailer,
            _ => State::Opaque,
        }
    }
}

impl Body {
    /// What is known after one more header line.
    fn and(self, line: &[u8]) -> Self {
        let end = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = end.map(|end| (&line[..end], &line[end + 1..])) else {
            return Self::Unclear;
        };
        let is = |known: &[u8]| name.trim_ascii().eq_ignore_ascii_case(known);
        let value = value.trim_ascii();
        match self {
            _ if line.starts_with(b" ") || line.starts_with(b"\t") => Self::Unclear,
            _ if is(b"upgrade") => Self::Unclear,
            Self::None if is(b"content-length") => {
                length(value).map_or(Self::Unclear, Self::Length)
            }
            Self::None if is(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") => {
                Self::Chunked
            }
            _ if is(b"content-length") || is(b"transfer-encoding") => Self::Unclear,
            body => body,
        }
    }
}

fn length(digits: &[u8]) -> Option<u64> {
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| all_digits)?
        .parse()
        .ok()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| all_digits)?;
    u64::from_str_radix(digits, 16).ok()
}

fn escaped(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut framing, mut out) = (Framing::default(), Vec::new());
        for piece in pieces {
            framing.encode(piece, &mut out);
        }
        out
    }

    #[test]
    fn only_targets_are_encoded() {
        let target = "GET /杰?a=森 HTTP/1.1\r\n";
        let written = "GET /%E6%9D%B0?a=%E6%A3%AE HTTP/1.1\r\n";
        for (rest, is_followed) in [
            ("Cookie: nick=杰\r\n\r\n", true),
            ("Content-Length: 3\r\n\r\n杰", true),
            ("content-length:0\r\n\r\n", true),
            (
                "Transfer-Encoding: chunked\r\n\r\n3\r\n杰\r\n6;x=y\r\nG /杰\r\n0\r\nT: 杰\r\n\r\n",
                true,
            ),
            ("Content-Length: 3\r\n\r\n杰\r\n\r\n", true),
            ("Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", false),
            (
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n杰",
                false,
            ),
            ("Content-Length: 3\r\nContent-Length: 3\r\n\r\n杰", false),
            ("Content-Length: +3\r\n\r\n杰", false),
            ("Transfer-Encoding: gzip, chunked\r\n\r\n杰", false),
            ("Transfer-Encoding: chunked\r\n\r\nx\r\n杰", false),
            ("no header\r\n\r\n", false),
        ] {
            let sent = format!("{target}{rest}{target}\r\n");
            let behind = if is_followed { written } else { target };
            let sought = format!("{written}{rest}{behind}\r\n");
            let found = encoded(&[sent.as_bytes()]);
            assert_eq!(String::from_utf8(found).unwrap(), sought);
            let bytes: Vec<&[u8]> = sent.as_bytes().chunks(1).collect();
            assert_eq!(String::from_utf8(encoded(&bytes)).unwrap(), sought);
        }
    }

    proptest! {
        #[test]
        fn what_is_ascii_passes_as_it_is(sent in "[ -~\r\n]{0,200}") {
            prop_assert_eq!(encoded(&[sent.as_bytes()]), sent.as_bytes());
        }
    }
}
