//! Cursors: a position in the log with the epoch it was issued in. `EPOCH.NUMBER` on the wire, where it
//! is opaque.

use std::fmt;

use smallvec::{SmallVec, smallvec};

/// The maximum length of a cursor, in characters.
pub const CURSOR_CHARS: usize = 64;
const EPOCH_CHARS: usize = CURSOR_CHARS - 1 - 20;

/// A position in the log: every message up to and including `number` is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) epoch: Epoch,
    pub(super) number: u64,
}

/// The id of an epoch of the log. Stored inline, since every poll carries one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch {
    text: [u8; EPOCH_CHARS],
    length: u8,
}

impl Epoch {
    pub(super) fn parse(text: &str) -> Result<Epoch, BadEpoch> {
        let sound = !text.is_empty()
            && text.len() <= EPOCH_CHARS
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !sound {
            return Err(BadEpoch);
        }
        let mut epoch = Epoch {
            text: [0; EPOCH_CHARS],
            length: text.len() as u8,
        };
        epoch.text[..text.len()].copy_from_slice(text.as_bytes());
        Ok(epoch)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The epochs of one log. Each start of the server begins a new one, so that a database restored from a
/// copy never issues a cursor of the lost history. Of each earlier epoch the last number issued in it
/// is kept: up to that number its cursors are valid in this log.
#[derive(Clone, Debug)]
pub struct Epochs {
    current: Epoch,
    /// Sorted by id.
    earlier: Vec<(Epoch, u64)>,
}

impl Epochs {
    /// A log in its epoch `current`, after the `earlier` ones with the last number of each.
    ///
    /// # Errors
    /// [`BadEpoch`] if an id cannot be part of a cursor.
    pub fn new<'a>(
        current: &str,
        earlier: impl IntoIterator<Item = (&'a str, u64)>,
    ) -> Result<Self, BadEpoch> {
        let earlier = earlier
            .into_iter()
            .map(|(id, last)| Ok((Epoch::parse(id)?, last)));
        let mut earlier: Vec<(Epoch, u64)> = earlier.collect::<Result<_, _>>()?;
        earlier.sort_unstable();
        Ok(Self {
            current: Epoch::parse(current)?,
            earlier,
        })
    }

    pub(super) fn current(&self) -> Epoch {
        self.current
    }

    /// The last number of the cursor's epoch (`head` for the current one), or none if this log does not
    /// know the epoch.
    fn last(&self, cursor: &Cursor, head: u64) -> Option<u64> {
        if cursor.epoch == self.current {
            return Some(head);
        }
        let found = self
            .earlier
            .binary_search_by_key(&cursor.epoch, |(epoch, _)| *epoch);
        found.ok().map(|at| self.earlier[at].1)
    }

    /// True if everything behind the cursor is this log's own history.
    pub(super) fn knows(&self, cursor: &Cursor, head: u64) -> bool {
        self.last(cursor, head)
            .is_some_and(|last| cursor.number <= last)
    }

    /// The number up to which the cursor's history and this log's history agree, or none if the
    /// cursor's epoch is unknown.
    pub(super) fn shared(&self, cursor: &Cursor, head: u64) -> Option<u64> {
        self.last(cursor, head).map(|last| cursor.number.min(last))
    }
}

/// Text that is not a cursor of any server of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct BadCursor;

/// The id of an epoch that cannot be part of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch's id has 1 to 43 characters of A-Z a-z 0-9 - _")]
pub struct BadEpoch;

impl Cursor {
    /// Parses a cursor sent by a client. The hub decides if it belongs to this log.
    ///
    /// # Errors
    /// [`BadCursor`] if the text is malformed.
    pub fn parse(text: &str) -> Result<Cursor, BadCursor> {
        if text.len() > CURSOR_CHARS {
            return Err(BadCursor);
        }
        let (epoch, number) = text.rsplit_once('.').ok_or(BadCursor)?;
        let epoch = Epoch::parse(epoch).map_err(|BadEpoch| BadCursor)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadCursor);
        }
        Ok(Cursor {
            epoch,
            number: number.parse().map_err(|_| BadCursor)?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch.as_str(), self.number)
    }
}

impl From<Cursor> for Position {
    fn from(cursor: Cursor) -> Position {
        Position::After(smallvec![cursor])
    }
}

/// The position from which a client continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// From this moment: answered at once, empty.
    Now,
    /// From the oldest message that is kept.
    Start,
    /// From the oldest of these cursors (tabs that share a connection each send their own). Never empty
    /// in a valid request; empty means now.
    After(SmallVec<[Cursor; 1]>),
}

impl Position {
    /// Parses every `after` of one request: cursors, `now` and `start`; the oldest applies. None at all
    /// means now.
    ///
    /// # Errors
    /// [`BadCursor`] if one of them is none of the three.
    pub fn parse<'a>(afters: impl IntoIterator<Item = &'a str>) -> Result<Position, BadCursor> {
        let (mut start, mut cursors) = (false, SmallVec::new());
        for after in afters {
            match after {
                "start" => start = true,
                "now" => {}
                cursor => cursors.push(Cursor::parse(cursor)?),
            }
        }
        Ok(match (start, cursors.is_empty()) {
            (true, _) => Position::Start,
            (false, true) => Position::Now,
            (false, false) => Position::After(cursors),
        })
    }
}

/// The meaning of a position in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Now,
    Start,
    After(u64),
    /// A position of a foreign history, or one that this log has not reached: what was missed is not
    /// known.
    Unknown,
}

impl Position {
    pub(super) fn resolve(&self, epochs: &Epochs, head: u64) -> Resolved {
        let cursors = match self {
            Position::Now => return Resolved::Now,
            Position::Start => return Resolved::Start,
            Position::After(cursors) => cursors,
        };
        if !cursors.iter().all(|cursor| epochs.knows(cursor, head)) {
            return Resolved::Unknown;
        }
        match cursors.iter().map(|cursor| cursor.number).min() {
            Some(number) => Resolved::After(number),
            None => Resolved::Now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_there_and_back() {
        for text in [
            "b.0",
            "B-_9.18446744073709551615",
            &format!("{}.7", "x".repeat(43)),
        ] {
            assert_eq!(Cursor::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_is_refused() {
        for bad in [
            "",
            ".",
            "b.",
            ".1",
            "b",
            "1",
            "-1",
            "b.-1",
            "b.+1",
            "b.1 ",
            "b.1.x",
            "b.x",
            "b.18446744073709551616",
            "好.1",
            "b/.1",
            "a.b.1",
            &format!("{}.1", "x".repeat(44)),
            &"9".repeat(65),
            "b.00000000000000000000000000000000000000000000000000000000000000001",
        ] {
            assert_eq!(Cursor::parse(bad), Err(BadCursor), "{bad}");
        }
    }

    #[test]
    fn the_oldest_counts() {
        let resolve = |afters: &[&str]| {
            let epochs = Epochs::new("b", [("a", 4), ("0", 2)]).unwrap();
            Position::parse(afters.iter().copied()).map(|p| p.resolve(&epochs, 10))
        };
        assert_eq!(resolve(&[]), Ok(Resolved::Now));
        assert_eq!(resolve(&["now"]), Ok(Resolved::Now));
        assert_eq!(resolve(&["now", "b.5", "b.3"]), Ok(Resolved::After(3)));
        assert_eq!(resolve(&["b.5", "start"]), Ok(Resolved::Start));
        assert_eq!(resolve(&["b.10"]), Ok(Resolved::After(10)));
        assert_eq!(resolve(&["b.11"]), Ok(Resolved::Unknown));
        assert_eq!(resolve(&["b.5", "c.5"]), Ok(Resolved::Unknown));
        assert_eq!(resolve(&["a.4", "b.5"]), Ok(Resolved::After(4)));
        assert_eq!(resolve(&["0.2", "a.3"]), Ok(Resolved::After(2)));
        assert_eq!(resolve(&["a.5"]), Ok(Resolved::Unknown));
        assert_eq!(resolve(&["0.3", "b.5"]), Ok(Resolved::Unknown));
        assert_eq!(resolve(&["b.5", "?"]), Err(BadCursor));
    }
}
