//! Requests that poll and publish to each of the two servers, as bytes.

use std::io::Write;

/// The servers under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Longshore,
    Nchan,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Longshore => "longshore",
            Peer::Nchan => "nchan",
        }
    }

    /// Writes the request of client `number` that goes on from `cursor` (empty: from now).
    pub fn poll(self, out: &mut Vec<u8>, number: usize, cursor: &Cursor) {
        out.clear();
        // Writing to a Vec cannot fail.
        let _ = match (self, cursor.first.is_empty()) {
            (Peer::Longshore, true) => write!(
                out,
                "GET /get_msg?name=c{number}&room=chat&after=now&wait=60 HTTP/1.1\r\nHost: b\r\n\r\n"
            ),
            (Peer::Longshore, false) => write!(
                out,
                "GET /get_msg?name=c{number}&room=chat&wait=60&after={} HTTP/1.1\r\nHost: b\r\n\r\n",
                cursor.first
            ),
            (Peer::Nchan, true) => write!(out, "GET /sub HTTP/1.1\r\nHost: b\r\n\r\n"),
            (Peer::Nchan, false) => write!(
                out,
                "GET /sub HTTP/1.1\r\nHost: b\r\nIf-Modified-Since: {}\r\nIf-None-Match: {}\r\n\r\n",
                cursor.first, cursor.second
            ),
        };
    }

    /// The request that publishes `text`.
    pub fn publish(self, text: &str) -> Vec<u8> {
        let (path, kind, body) = match self {
            Peer::Longshore => (
                "/send_msg",
                "application/x-www-form-urlencoded",
                format!("content={text}"),
            ),
            Peer::Nchan => ("/pub", "text/plain", text.to_owned()),
        };
        format!(
            "POST {path} HTTP/1.1\r\nHost: b\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// True if a client without a cursor is parked by its first request; otherwise the first answer
    /// comes at once and brings a cursor.
    pub fn parks_at_once(self) -> bool {
        self == Peer::Nchan
    }

    /// Takes the cursor for the next request out of an answer.
    pub fn go_on(self, answer: &Answer<'_>, cursor: &mut Cursor) {
        match self {
            Peer::Longshore => {
                let text = after(answer.body, b"\"cursor\":\"");
                set(&mut cursor.first, until(text, b'"'));
            }
            Peer::Nchan => {
                set(&mut cursor.first, answer.header(b"\nLast-Modified: "));
                set(&mut cursor.second, answer.header(b"\nEtag: "));
            }
        }
    }
}

/// The position from which a client goes on: one text, or two headers.
#[derive(Default)]
pub struct Cursor {
    first: String,
    second: String,
}

/// A whole answer.
pub struct Answer<'a> {
    pub head: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads an answer from the front of `bytes`, and how long it is; `None` while it is not whole.
    pub fn read(bytes: &'a [u8]) -> Option<(Answer<'a>, usize)> {
        let head = find(bytes, b"\r\n\r\n")? + 4;
        let at = find_header(&bytes[..head], b"content-length:")?;
        let length = bytes[at..head]
            .iter()
            .skip_while(|byte| **byte == b' ')
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        let end = head + length;
        (bytes.len() >= end).then(|| {
            let (head, body) = bytes[..end].split_at(head);
            (Answer { head, body }, end)
        })
    }

    pub fn is_ok(&self) -> bool {
        self.head.starts_with(b"HTTP/1.1 2")
    }

    fn header(&self, name: &[u8]) -> &'a [u8] {
        until(after(self.head, name), b'\r')
    }

    /// The moments in the messages of this answer, as [`stamped`] wrote them.
    pub fn stamps(&self) -> impl Iterator<Item = u64> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let at = find(rest, b"T-")? + 2;
            let digits = rest.get(at..at + 16)?;
            rest = &rest[at + 16..];
            Some(
                digits
                    .iter()
                    .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
            )
        })
    }
}

/// A message of about 50 bytes that carries a moment in nanoseconds.
pub fn stamped(nanos: u64) -> String {
    format!("T-{nanos:016}-the-quick-brown-fox-jumps-over-it")
}

fn set(text: &mut String, bytes: &[u8]) {
    text.clear();
    text.push_str(std::str::from_utf8(bytes).unwrap_or_default());
}

fn after<'a>(bytes: &'a [u8], mark: &[u8]) -> &'a [u8] {
    find(bytes, mark).map_or(&[], |at| &bytes[at + mark.len()..])
}

fn until(bytes: &[u8], end: u8) -> &[u8] {
    bytes.split(|byte| *byte == end).next().unwrap_or_default()
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    let first = *mark.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(mark) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn find_header(head: &[u8], name: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = head[from..].iter().position(|byte| *byte == b'\n') {
        from += at + 1;
        let line = head[from..].get(..name.len())?;
        if line.eq_ignore_ascii_case(name) {
            return Some(from + name.len());
        }
    }
    None
}
