//! Splits bytes into lines of text.

/// The longest line, in bytes; a longer one is delivered in pieces.
pub(super) const LONGEST_LINE: usize = 64 * 1024;

/// Splits a stream of bytes into lines. Bytes that are not UTF-8 become `U+FFFD`; a line's end is
/// `\n` or `\r\n` and is not delivered.
#[derive(Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Delivers every line that `bytes` completes.
    pub(super) fn feed(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.pending.pop();
                if self.pending.ends_with(b"\r") {
                    self.pending.pop();
                }
                self.shorten(LONGEST_LINE, on_line);
                deliver(&self.pending, on_line);
                self.pending.clear();
            } else {
                // One byte more, for a `\r` whose `\n` is still to come.
                self.shorten(LONGEST_LINE + 1, on_line);
            }
        }
    }

    /// Delivers the rest, which has no line's end.
    pub(super) fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.pending.is_empty() {
            deliver(&self.pending, on_line);
            self.pending.clear();
        }
    }

    fn shorten(&mut self, longest: usize, on_line: &mut dyn FnMut(&str)) {
        while self.pending.len() > longest {
            let cut = character_start(&self.pending, LONGEST_LINE);
            deliver(&self.pending[..cut], on_line);
            self.pending.drain(..cut);
        }
    }
}

fn deliver(line: &[u8], on_line: &mut dyn FnMut(&str)) {
    on_line(&String::from_utf8_lossy(line));
}

/// The last position up to `at` at which a UTF-8 character starts, so that no character is split.
fn character_start(bytes: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|&place| bytes[place] & 0b1100_0000 != 0b1000_0000)
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut cutter = Lines::default();
        let mut found = Vec::new();
        let mut on_line = |line: &str| found.push(line.to_owned());
        for chunk in chunks {
            cutter.feed(chunk, &mut on_line);
        }
        cutter.finish(&mut on_line);
        found
    }

    #[test]
    fn lines_are_cut_at_their_ends_wherever_the_chunks_are() {
        assert_eq!(lines(&[b"a\nb", b"c\r", b"\n\nd"]), ["a", "bc", "", "d"]);
        assert_eq!(lines(&[b"caf\xc3", b"\xa9\n"]), ["café"]);
        assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn a_long_line_is_delivered_in_pieces_without_cutting_a_character() {
        let text = "é".repeat(LONGEST_LINE) + "x";
        let found = lines(&[b"y", text.as_bytes(), b"\nz"]);
        assert!(found.iter().all(|line| line.len() <= LONGEST_LINE));
        assert!(!found.concat().contains('\u{fffd}'));
        assert_eq!(found.concat(), format!("y{text}z"));
    }

    #[test]
    fn a_line_of_just_the_longest_length_stays_whole() {
        let text = "x".repeat(LONGEST_LINE);
        assert_eq!(lines(&[text.as_bytes(), b"\r", b"\n"]), [text]);
    }
}
