//! Cursors: a position in the log, with the epoch that it was given in. `EPOCH.NUMBER` on the wire, opaque
//! there.

use std::fmt;

use smallvec::{SmallVec, smallvec};

/// The longest cursor, in characters.
pub const CURSOR_CHARS: usize = 64;
const EPOCH_CHARS: usize = CURSOR_CHARS - 1 - 20;

/// A position in the log: everything up to `number` is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) epoch: Epoch,
    pub(super) number: u64,
}

/// The id of an epoch of the log. Held in place: every poll brings one.
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

/// The epochs of one log: each start of the server begins another, so that a database that was put back
/// from a copy never gives a cursor of the history that is gone. The earlier ones are known by the last
/// number that was given in each: up to there their cursors are this log's own.
#[derive(Clone, Debug)]
pub struct Epochs {
    current: Epoch,
    /// In the order of their ids.
    earlier: Vec<(Epoch, u64)>,
}

impl Epochs {
    /// A log in its epoch `current`, after the `earlier` ones with the last number of each.
    ///
    /// # Errors
    /// [`BadEpoch`] where an id cannot stand in a cursor.
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

    /// The last number of the cursor's epoch, of which the present one has come to `head`; none where
    /// this log does not know it.
    fn last(&self, cursor: &Cursor, head: u64) -> Option<u64> {
        if cursor.epoch == self.current {
            return Some(head);
        }
        let found = self
            .earlier
            .binary_search_by_key(&cursor.epoch, |(epoch, _)| *epoch);
        found.ok().map(|at| self.earlier[at].1)
    }

    /// Whether all that the cursor has behind it is this log's own history.
    pub(super) fn knows(&self, cursor: &Cursor, head: u64) -> bool {
        self.last(cursor, head)
            .is_some_and(|last| cursor.number <= last)
    }

    /// The number up to which the cursor's history and this log's are the same; none where nothing is
    /// known of it.
    pub(super) fn shared(&self, cursor: &Cursor, head: u64) -> Option<u64> {
        self.last(cursor, head).map(|last| cursor.number.min(last))
    }
}

/// Text that no server of this kind ever gave as a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct BadCursor;

/// An epoch's id that cannot stand in a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch's id has 1 to 43 characters of A-Z a-z 0-9 - _")]
pub struct BadEpoch;

impl Cursor {
    /// Reads a cursor as a client sent it back. Whether it belongs to this log is the hub's to say.
    ///
    /// # Errors
    /// [`BadCursor`] where the text is malformed.
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

/// Where a client wants to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// From this moment: answered at once, empty.
    Now,
    /// From the oldest message that is still kept.
    Start,
    /// From behind the oldest of these cursors (tabs that share a connection each bring theirs).
    /// Never empty in a sound request; empty means now.
    After(SmallVec<[Cursor; 1]>),
}

impl Position {
    /// Reads every `after` of one request: cursors, `now` and `start`; the oldest counts. None at all
    /// means now.
    ///
    /// # Errors
    /// [`BadCursor`] where one of them is none of the three.
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

/// What a position means to one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Now,
    Start,
    After(u64),
    /// Position of a history that is not this log's, or one that this log has not reached: nothing can be said of what
    /// was missed.
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
