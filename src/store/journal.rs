//! The journal, a write-ahead file of the log: a client's message is accepted by one appended
//! record and moves into the database later, with others.
//!
//! A transaction for one row costs ten times as much as an append to a file, and both survive the
//! death of the process. A message that nothing else competes with is therefore written here first
//! and published. All records are inserted in one transaction within [`FLUSH_AFTER`], or before the
//! log is read or written through the database. Their numbers are given here, under the same write
//! lock as all others.
//!
//! The file is overwritten from its beginning after each flush and never shortened. Its content
//! ends at the first record with a wrong checksum or a number that does not continue the sequence:
//! records of an earlier round have lower numbers, and a record cut short by a kill was never
//! acknowledged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crc_fast::{CrcAlgorithm, checksum};
use diesel::prelude::*;

use super::schema::events;
use super::{Conn, Event, Moment, NewEvent, Result};

/// The longest time a record stays in the journal alone.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// The journal's largest size in bytes; beyond it messages go straight to the database.
const MOST_BYTES: usize = 1 << 20;
/// The size in bytes beyond which the journal is flushed at once.
const FLUSH_BYTES: usize = MOST_BYTES / 4;

/// The length of a record's header: the body's length and its checksum, 32 bits each,
/// little-endian.
const HEAD: usize = 8;
/// The length of a number and of a time; below, of a text's length.
const NUMBER: usize = 8;
const LENGTH: usize = 4;

/// See the module documentation.
pub(super) struct Journal {
    file: File,
    /// The records not yet in the database: the valid content of the file.
    records: Vec<u8>,
    /// The number of the newest message, in the journal or the database.
    last: i64,
    /// Mixed into the checksums, so that records of another history are invalid.
    seed: u32,
    /// Set after a failed write: the file's content is unknown until the next flush.
    is_broken: bool,
}

impl Journal {
    /// Opens or creates the journal at `path`. `last` is the newest message number in the database.
    /// Records of an earlier process that follow it in the epoch `epoch` are pending; records of
    /// another history (after a restore from a backup) are not.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or read.
    pub(super) fn open(path: &Path, epoch: &str, last: i64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let mut kept = vec![0; MOST_BYTES];
        let length = read_up_to(&file, &mut kept)?;
        let seed = seed(epoch);
        let (records, newest) = sound_records(&kept[..length], seed, last);
        Ok(Self {
            file,
            records,
            last: newest,
            seed,
            is_broken: false,
        })
    }

    /// Switches to another epoch; no records may be pending.
    pub(super) fn begin(&mut self, epoch: &str) {
        self.seed = seed(epoch);
    }

    /// True if no records wait for the database.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// True if enough records wait for an immediate flush.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() > FLUSH_BYTES
    }

    /// Gives `new` the next number and writes it. The message survives the death of the process
    /// when this returns.
    ///
    /// # Errors
    /// `new`, to be written to the database instead: the journal is full or cannot be written.
    pub(super) fn append(&mut self, new: NewEvent) -> std::result::Result<Event, NewEvent> {
        let at = self.records.len();
        let event = Event::numbered(&[self.last + 1], vec![new]).remove(0);
        if !self.is_broken
            && encode(&mut self.records, self.seed, &event)
            && self.records.len() <= MOST_BYTES
        {
            match self.file.write_all_at(&self.records[at..], at as u64) {
                Ok(()) => {
                    self.last = event.number;
                    return Ok(event);
                }
                Err(error) => {
                    // Earlier records are intact in the file, but the bytes after them are unknown,
                    // so nothing more is written before the next round.
                    tracing::warn!(%error, "the message journal cannot be written");
                    self.is_broken = true;
                }
            }
        }
        self.records.truncate(at);
        Err(event.unnumbered())
    }

    /// Inserts the records in the transaction of `conn`. Call [`flushed`](Self::flushed) after its
    /// commit.
    ///
    /// # Errors
    /// Database errors; the records stay.
    pub(super) fn insert(&self, conn: &mut Conn) -> Result<()> {
        for event in Records(&self.records) {
            diesel::insert_into(events::table)
                .values((
                    events::number.eq(event.number),
                    events::room.eq(event.room),
                    events::kind.eq(event.kind),
                    events::sender.eq(event.sender),
                    events::data.eq(event.data),
                    events::at.eq(event.at),
                ))
                .execute(conn)?;
        }
        Ok(())
    }

    /// Clears the journal after the database has committed all records.
    pub(super) fn flushed(&mut self) {
        self.records.clear();
        self.records.shrink_to(FLUSH_BYTES);
        self.is_broken = false;
    }

    /// Records that the database gave numbers up to `last`.
    pub(super) fn numbered_up_to(&mut self, last: i64) {
        self.last = self.last.max(last);
    }
}

fn read_up_to(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < into.len() {
        match file.read_at(&mut into[length..], length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The records of one round that follow the number `last`, and the newest number. If the first
/// record is not the next in sequence, something between was lost and no record counts.
fn sound_records(file: &[u8], seed: u32, last: i64) -> (Vec<u8>, i64) {
    let (mut records, mut newest, mut expected) = (Vec::new(), last, None::<i64>);
    let mut rest = file;
    while let Some((record, behind)) = sound_record(rest, seed) {
        let Some(event) = decode(&record[HEAD..]) else {
            break;
        };
        let follows = match expected {
            Some(expected) => event.number == expected,
            None => event.number <= last.saturating_add(1),
        };
        if !follows {
            break;
        }
        expected = event.number.checked_add(1);
        if event.number > last {
            records.extend_from_slice(record);
            newest = event.number;
        }
        rest = behind;
    }
    (records, newest)
}

/// The record at the front of `bytes`, with its header, and the rest.
fn sound_record(bytes: &[u8], seed: u32) -> Option<(&[u8], &[u8])> {
    let (head, body) = bytes.split_first_chunk::<HEAD>()?;
    let [a, b, c, d, e, f, g, h] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let body = body.get(..length)?;
    let sum = u32::from_le_bytes([e, f, g, h]);
    (length > 0 && sum == check(body) ^ seed).then(|| bytes.split_at(HEAD + length))
}

fn seed(epoch: &str) -> u32 {
    check(epoch.as_bytes())
}

fn check(body: &[u8]) -> u32 {
    // A CRC of 32 bits fits in the lower half.
    checksum(CrcAlgorithm::Crc32Iscsi, body) as u32
}

/// Appends the record of `event`; `false` if a text is too long.
fn encode(out: &mut Vec<u8>, seed: u32, event: &Event) -> bool {
    let at = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&event.number.to_le_bytes());
    out.extend_from_slice(&event.at.0.to_le_bytes());
    for text in [&event.room, &event.kind, &event.sender, &event.data] {
        let Ok(length) = u32::try_from(text.len()) else {
            return false;
        };
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    let body = &out[at + HEAD..];
    let Ok(length) = u32::try_from(body.len()) else {
        return false;
    };
    let sum = check(body) ^ seed;
    out[at..at + LENGTH].copy_from_slice(&length.to_le_bytes());
    out[at + LENGTH..at + HEAD].copy_from_slice(&sum.to_le_bytes());
    true
}

/// A record's message, borrowed from the record.
struct Record<'a> {
    number: i64,
    at: Moment,
    room: &'a str,
    kind: &'a str,
    sender: &'a str,
    data: &'a str,
}

fn decode(body: &[u8]) -> Option<Record<'_>> {
    let (number, rest) = body.split_first_chunk::<NUMBER>()?;
    let (at, mut rest) = rest.split_first_chunk::<NUMBER>()?;
    let mut text = || {
        let (length, behind) = rest.split_first_chunk::<LENGTH>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, behind) = behind.split_at_checked(length)?;
        rest = behind;
        std::str::from_utf8(text).ok()
    };
    Some(Record {
        number: i64::from_le_bytes(*number),
        at: Moment(i64::from_le_bytes(*at)),
        room: text()?,
        kind: text()?,
        sender: text()?,
        data: text()?,
    })
}

/// The messages of valid records.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (head, rest) = self.0.split_first_chunk::<HEAD>()?;
        let [a, b, c, d, ..] = *head;
        let (body, behind) = rest.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)?;
        self.0 = behind;
        decode(body)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new(data: &str) -> NewEvent {
        NewEvent {
            room: "chat".into(),
            kind: "message".into(),
            sender: "ann".into(),
            data: data.into(),
            at: Moment(7),
        }
    }

    fn kept(journal: &Journal) -> Vec<(i64, String)> {
        Records(&journal.records)
            .map(|record| (record.number, record.data.to_owned()))
            .collect()
    }

    fn append(journal: &mut Journal, data: &str) -> Option<i64> {
        journal.append(new(data)).ok().map(|event| event.number)
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&folder.path().join("j"), "e", 4).unwrap();
        let long = "x".repeat(MOST_BYTES / 2);
        assert_eq!(append(&mut journal, &long), Some(5));
        assert!(journal.is_full());
        assert_eq!(append(&mut journal, &long), None);
        assert_eq!(append(&mut journal, "short"), Some(6), "no number is lost");
    }

    #[test]
    fn a_file_that_cannot_be_written_keeps_what_it_has_and_takes_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let mut journal = Journal::open(&path, "e", 0).unwrap();
        assert_eq!(append(&mut journal, "1"), Some(1));
        let whole = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        assert_eq!(append(&mut journal, "2"), None);
        journal.file = whole;
        assert_eq!(append(&mut journal, "3"), None, "until it was flushed");
        assert_eq!(kept(&journal), [(1, "1".to_owned())]);
        journal.flushed();
        assert_eq!(append(&mut journal, "4"), Some(2));
    }

    #[test]
    fn a_cut_record_and_those_of_an_earlier_round_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let mut journal = Journal::open(&path, "e", 0).unwrap();
        (1..=5).for_each(|number| assert_eq!(append(&mut journal, "early"), Some(number)));
        journal.flushed();
        (6..=7).for_each(|number| assert_eq!(append(&mut journal, "later"), Some(number)));
        let expected = [(6, "later".to_owned()), (7, "later".to_owned())];
        assert_eq!(kept(&Journal::open(&path, "e", 5).unwrap()), expected);
        assert_eq!(kept(&Journal::open(&path, "e", 6).unwrap()), expected[1..]);
        let second = journal.records.len() / 2;
        journal.file.write_all_at(b"!", second as u64 + 20).unwrap();
        assert_eq!(kept(&Journal::open(&path, "e", 5).unwrap()), expected[..1]);
    }

    proptest! {
        /// Rounds of appends and flushes, with a kill that keeps any number of the last write's
        /// bytes: a start finds everything acknowledged and not flushed, and nothing else.
        #[test]
        fn a_start_finds_what_was_acknowledged(
            rounds in prop::collection::vec(prop::collection::vec("[a-c]{0,12}", 0..6), 1..5),
            cut in 0_usize..80,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("j");
            let mut journal = Journal::open(&path, "e", 0).unwrap();
            let mut in_database = 0;
            for (index, round) in rounds.iter().enumerate() {
                if index > 0 {
                    in_database = journal.last;
                    journal.flushed();
                }
                for data in round {
                    prop_assert!(append(&mut journal, data).is_some());
                }
            }
            // The next record, cut short by the kill.
            let acknowledged = kept(&journal);
            let at = journal.records.len();
            let event = Event::numbered(&[journal.last + 1], vec![new("cut")]).remove(0);
            prop_assert!(encode(&mut journal.records, journal.seed, &event));
            let part = &journal.records[at..];
            let part = &part[..cut.min(part.len() - 1)];
            journal.file.write_all_at(part, at as u64).unwrap();
            let found = Journal::open(&path, "e", in_database).unwrap();
            prop_assert_eq!(kept(&found), acknowledged);
        }
    }
}
