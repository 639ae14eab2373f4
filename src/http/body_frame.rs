//! Finds the end of a request body (RFC 9112 §6) and writes its chunks in canonical form (§7.1).

use std::mem;

/// The longest chunk size line, in bytes.
const SIZE_LINE_BYTES: usize = 256;
/// The most bytes of trailers.
const TRAILER_BYTES: usize = 8 << 10;

/// Malformed chunked encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("garbled chunks")]
pub struct Garbled;

/// Follows one body to its end; see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFrame {
    state: State,
    /// The part of the current line that was read.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The remaining bytes of a body of known length.
    Length(u64),
    Size,
    /// The remaining bytes of a chunk.
    Chunk(u64),
    ChunkEnd,
    /// The bytes of trailers so far.
    Trailer(usize),
    Over,
}

impl BodyFrame {
    fn new(state: State) -> Self {
        let line = Vec::new();
        Self { state, line }
    }

    /// A body of this length in bytes.
    pub fn of_length(bytes: u64) -> Self {
        Self::new(match bytes {
            0 => State::Over,
            bytes => State::Length(bytes),
        })
    }

    /// A body in chunked encoding.
    pub fn chunked() -> Self {
        Self::new(State::Size)
    }

    /// True if the body is complete.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The number of next bytes that are copied unchanged.
    pub fn passing(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Records that this many bytes were copied, at most [`passing`](Self::passing).
    pub fn passed(&mut self, bytes: u64) {
        self.state = match self.state {
            State::Length(left) if left <= bytes => State::Over,
            State::Length(left) => State::Length(left - bytes),
            State::Chunk(left) if left <= bytes => State::ChunkEnd,
            State::Chunk(left) => State::Chunk(left - bytes),
            state => state,
        };
    }

    /// Copies `bytes` to `out` up to the end of the body, without chunk extensions and trailers.
    /// Returns the number of bytes that were consumed.
    ///
    /// # Errors
    /// [`Garbled`] for malformed chunks; the bytes before them were copied.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Garbled> {
        let mut rest = bytes;
        while !self.is_over() && !rest.is_empty() {
            let passing = usize::try_from(self.passing()).unwrap_or(usize::MAX);
            if passing > 0 {
                let (body, behind) = rest.split_at(passing.min(rest.len()));
                out.extend_from_slice(body);
                self.passed(body.len() as u64);
                rest = behind;
            } else {
                self.line.push(rest[0]);
                rest = &rest[1..];
                self.look_at_line(out)?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Parses the current line once it is complete.
    fn look_at_line(&mut self, out: &mut Vec<u8>) -> Result<(), Garbled> {
        let most = match self.state {
            State::ChunkEnd => 2,
            State::Trailer(read) => TRAILER_BYTES.saturating_sub(read),
            _ => SIZE_LINE_BYTES,
        };
        if self.line.last() != Some(&b'\n') {
            return if self.line.len() < most {
                Ok(())
            } else {
                Err(Garbled)
            };
        }
        let line = mem::take(&mut self.line);
        // Some parsers end a line at a bare LF and others do not, so it is refused.
        let line = line.strip_suffix(b"\r\n").ok_or(Garbled)?;
        self.state = match self.state {
            State::Size => match chunk_size(line)? {
                0 => State::Trailer(0),
                size => {
                    out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                    State::Chunk(size)
                }
            },
            State::ChunkEnd if line.is_empty() => {
                out.extend_from_slice(b"\r\n");
                State::Size
            }
            State::Trailer(_) if line.is_empty() => {
                out.extend_from_slice(b"0\r\n\r\n");
                State::Over
            }
            State::Trailer(read) => State::Trailer(read + line.len() + 2),
            _ => return Err(Garbled),
        };
        Ok(())
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, Garbled> {
    if line
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(Garbled);
    }
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii_end();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).or(Err(Garbled))?;
    if is_number {
        u64::from_str_radix(digits, 16).or(Err(Garbled))
    } else {
        Err(Garbled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The output for `pieces`, the number of bytes consumed, and true if the body is complete.
    fn passed(mut frame: BodyFrame, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), Garbled> {
        let (mut out, mut read) = (Vec::new(), 0);
        for piece in pieces {
            read += frame.pass(piece, &mut out)?;
        }
        Ok((out, read, frame.is_over()))
    }

    #[test]
    fn a_length_is_counted() {
        let of = |bytes| passed(BodyFrame::of_length(bytes), &[b"abc", b"de"]).unwrap();
        assert_eq!(of(0), (b"".to_vec(), 0, true));
        assert_eq!(of(4), (b"abcd".to_vec(), 4, true));
        assert_eq!(of(6), (b"abcde".to_vec(), 5, false));
    }

    #[test]
    fn chunks_have_one_spelling() {
        let sent = b"03 ;x=\"y\"\r\nabc\r\nA\r\n0123\r\n6789\r\n000;z\r\nT: x\r\nU: y\r\n\r\nGET";
        let sought = b"3\r\nabc\r\na\r\n0123\r\n6789\r\n0\r\n\r\n".to_vec();
        let whole = passed(BodyFrame::chunked(), &[sent]).unwrap();
        assert_eq!(whole, (sought, sent.len() - 3, true));
        for cut in 0..sent.len() {
            let (one, other) = sent.split_at(cut);
            let found = passed(BodyFrame::chunked(), &[one, other]).unwrap();
            assert_eq!(found, whole, "cut at {cut}");
        }
    }

    #[test]
    fn garbled_chunks_are_none() {
        let long = format!("1;{}\r\n", "x".repeat(SIZE_LINE_BYTES));
        let trailers = format!("0\r\n{}", "T: x\r\n".repeat(TRAILER_BYTES / 6 + 1));
        for sent in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1 1\r\n",
            " 1\r\n",
            "1\nx",
            "1;\0\r\n",
            "10000000000000000\r\n",
            "1\r\nabc",
            "1\r\na\n",
            "1\r\na\rb",
            "0\r\n\n",
            &long,
            &trailers,
        ] {
            let found = passed(BodyFrame::chunked(), &[sent.as_bytes()]);
            assert_eq!(found, Err(Garbled), "{sent:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            sent in "([0-3]{1,2}(;[a-z])?|[a-c]{1,3}|\r\n|\n|0\r\n\r\n){0,12}",
            cuts in proptest::collection::vec(0..40usize, 0..6),
        ) {
            let bytes = sent.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
            let whole = passed(BodyFrame::chunked(), &[bytes]);
            prop_assert_eq!(passed(BodyFrame::chunked(), &pieces), whole);
        }

        #[test]
        fn what_is_in_chunks_arrives(pieces in proptest::collection::vec("[a-z\r\n]{1,9}", 0..9)) {
            let mut sent = Vec::new();
            for piece in &pieces {
                sent.extend(format!("{:X};e=f\r\n{piece}\r\n", piece.len()).bytes());
            }
            let written: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
            sent.extend(b"0\r\n\r\n");
            let (out, read, is_over) = passed(BodyFrame::chunked(), &[&sent]).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{written}0\r\n\r\n"));
            prop_assert!(is_over && read == sent.len());
        }
    }
}
