//! The ref advertisement that a git:// host starts with (gitprotocol-pack(5), "Reference
//! Discovery"). A host whose own copy is shallow lists its shallow commits there, in lines that
//! libgit2 cannot read: they are removed, and the commits are kept for the mirror. Pure.

use std::borrow::Cow;

/// The size of a line's length prefix, in bytes.
const LENGTH: usize = 4;
/// The most shallow commits that are accepted; a list with more is no advertisement.
const MOST: usize = 1 << 16;

/// The first answer on one connection.
#[derive(Default)]
pub(super) struct Advertisement {
    /// The start of a line whose rest has not arrived.
    pending: Vec<u8>,
    is_over: bool,
    ends: Vec<String>,
}

impl Advertisement {
    /// Returns the bytes to pass on for `received`.
    pub(super) fn pass<'a>(&mut self, received: &'a [u8]) -> Cow<'a, [u8]> {
        if self.is_over {
            return Cow::Borrowed(received);
        }
        self.pending.extend_from_slice(received);
        let mut passed = Vec::new();
        let mut rest = self.pending.as_slice();
        while let Some(line) = first_line(rest) {
            let Ok(length) = line else {
                self.is_over = true;
                break;
            };
            let (line, behind) = rest.split_at(length);
            match shallow(line) {
                Some(id) if self.ends.len() < MOST => self.ends.push(id),
                _ => passed.extend_from_slice(line),
            }
            rest = behind;
        }
        if self.is_over {
            passed.extend_from_slice(rest);
            rest = &[];
        }
        self.pending = rest.to_owned();
        Cow::Owned(passed)
    }

    /// Returns the bytes to pass on when the host has closed.
    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// The commits at which the host's history ends.
    pub(super) fn ends(&self) -> &[String] {
        &self.ends
    }
}

/// The length of the line at the start of `bytes`; `None` while it is incomplete, an error at the
/// end of the list.
fn first_line(bytes: &[u8]) -> Option<Result<usize, ()>> {
    let digits = std::str::from_utf8(bytes.get(..LENGTH)?).ok();
    match digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()) {
        Some(length) if length >= LENGTH => (bytes.len() >= length).then_some(Ok(length)),
        // A flush packet, or not a line of an advertisement.
        _ => Some(Err(())),
    }
}

fn shallow(line: &[u8]) -> Option<String> {
    let id = line
        .get(LENGTH..)?
        .strip_prefix(b"shallow ")?
        .trim_ascii_end();
    let is_id = id.len() == 40 && id.iter().all(u8::is_ascii_hexdigit);
    is_id.then(|| String::from_utf8_lossy(id).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    #[test]
    fn lines_about_shallowness_are_taken_out_however_the_answer_is_cut() {
        let name = format!("003d{ID} refs/heads/main\n");
        let whole = format!("{name}0035shallow {ID}\n0000PACK0035shallow {ID}\n");
        let expected = format!("{name}0000PACK0035shallow {ID}\n");
        for size in [1, 3, 7, 64, whole.len()] {
            let mut advertisement = Advertisement::default();
            let mut passed = Vec::new();
            for part in whole.as_bytes().chunks(size) {
                passed.extend_from_slice(&advertisement.pass(part));
            }
            passed.extend(advertisement.end());
            assert_eq!(String::from_utf8(passed).unwrap(), expected, "{size}");
            assert_eq!(advertisement.ends(), [ID], "{size}");
        }
    }

    #[test]
    fn what_is_no_list_is_passed_on_as_it_is() {
        for text in ["", "00", "hello", "0000", "0003x", "zzzz"] {
            let mut advertisement = Advertisement::default();
            let mut passed = advertisement.pass(text.as_bytes()).into_owned();
            passed.extend(advertisement.end());
            assert_eq!(passed, text.as_bytes());
        }
    }
}
