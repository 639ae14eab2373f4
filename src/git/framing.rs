//! Answers of plain http that end with their connection (RFC 9112, section 6.3, rule 8), as CGI
//! behind HTTP/1.0 sends them. libgit2 takes an answer with neither `Content-Length` nor
//! `Transfer-Encoding` for an empty one, so it is passed on in chunks. Pure.

use std::borrow::Cow;

/// The longest head that is parsed, in bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// The answer that libgit2 gets in place of a redirect.
const REFUSAL: &[u8] =
    b"HTTP/1.1 502 Redirect Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The first answer on one connection. A host that ends answers by closing sends no second one.
pub(super) enum Framing {
    /// The head so far.
    Head(Vec<u8>),
    /// The host delimits the answer itself.
    AsItIs,
    /// The answer is passed on in chunks.
    Chunked,
    /// The answer was replaced; the rest of the host's bytes is dropped.
    Over,
}

impl Framing {
    /// The state of a connection on which nothing has arrived.
    pub(super) fn new() -> Self {
        Self::Head(Vec::new())
    }

    /// Returns the bytes to pass on for `received`; nothing while the head is incomplete.
    pub(super) fn pass<'a>(&mut self, received: &'a [u8]) -> Cow<'a, [u8]> {
        let head = match self {
            Self::AsItIs => return Cow::Borrowed(received),
            Self::Chunked => return Cow::Owned(chunk(received)),
            Self::Over => return Cow::Borrowed(&[]),
            Self::Head(head) => head,
        };
        head.extend_from_slice(received);
        let end = head.windows(4).position(|part| part == b"\r\n\r\n");
        if end.is_none() && head.len() < LONGEST_HEAD {
            return Cow::Borrowed(&[]);
        }
        let mut whole = std::mem::take(head);
        if leads_elsewhere(&whole) {
            *self = Self::Over;
            return Cow::Borrowed(REFUSAL);
        }
        let framed = end.and_then(|end| with_chunks(&whole[..end]).map(|head| (head, end + 4)));
        match framed {
            None => *self = Self::AsItIs,
            Some((mut framed, body)) => {
                *self = Self::Chunked;
                framed.extend_from_slice(&chunk(&whole[body..]));
                whole = framed;
            }
        }
        Cow::Owned(whole)
    }

    /// Returns the bytes to pass on when the host has closed.
    pub(super) fn end(&mut self) -> Cow<'static, [u8]> {
        match self {
            Self::Head(head) => Cow::Owned(std::mem::take(head)),
            Self::AsItIs | Self::Over => Cow::Borrowed(&[]),
            Self::Chunked => Cow::Borrowed(LAST_CHUNK),
        }
    }
}

/// True if the answer is a redirect. libgit2 would follow it directly, past the relay: it takes
/// every port of the relay's address for the same host.
fn leads_elsewhere(head: &[u8]) -> bool {
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(1..));
    status.is_some_and(|status| {
        let status = status.trim_ascii_start();
        status.starts_with(b"3") && !status.starts_with(b"304")
    })
}

/// The head (without its empty line) that announces chunks, if the body would end with the
/// connection.
fn with_chunks(head: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(head).ok()?;
    let (first, fields) = text.split_once("\r\n").unwrap_or((text, ""));
    let status = first.strip_prefix("HTTP/1.")?.get(1..)?.trim_start();
    let framed = fields.split("\r\n").any(|field| {
        let name = field.split(':').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding")
    });
    let has_body =
        !(status.starts_with('1') || status.starts_with("204") || status.starts_with("304"));
    (has_body && !framed).then(|| {
        let fields = match fields {
            "" => String::new(),
            fields => format!("{fields}\r\n"),
        };
        let ours = "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("HTTP/1.1 {status}\r\n{fields}{ours}").into_bytes()
    })
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(pieces: &[&str]) -> String {
        let mut framing = Framing::new();
        let mut all = Vec::new();
        for piece in pieces {
            all.extend_from_slice(&framing.pass(piece.as_bytes()));
        }
        all.extend_from_slice(&framing.end());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn answers_that_end_with_the_connection_come_in_chunks() {
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: x\r\nConnection: close\r\n\
                        Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let whole = ["HTTP/1.0 200 OK\r\nContent-Type: x\r\n\r\nabc", "de"];
        assert_eq!(passed(&whole), expected);
        let cut = ["HTTP/1.0 200 OK\r\nContent-Type: x\r", "\n\r\nabc", "de"];
        assert_eq!(passed(&cut), expected);
        assert_eq!(
            passed(&["HTTP/1.1 200 OK\r\n\r\nx"]),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        );
    }

    #[test]
    fn redirects_are_refused() {
        for status in ["301 x", "302 Found", "307 x", "308 x"] {
            let answer = format!("HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\n\r\nbody");
            assert_eq!(passed(&[&answer]).as_bytes(), REFUSAL);
            let (begin, rest) = answer.split_at(20);
            assert_eq!(passed(&[begin, rest, "more"]).as_bytes(), REFUSAL);
        }
    }

    #[test]
    fn other_answers_are_passed_as_they_are() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnever ends",
            "SSH-2.0-x\r\n\r\n",
            "",
        ] {
            assert_eq!(passed(&[answer]), answer);
            let (begin, rest) = answer.split_at(answer.len() / 2);
            assert_eq!(passed(&[begin, rest]), answer);
        }
    }
}
