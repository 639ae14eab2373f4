//! The manifest of a release: every path with its kind, mode, size and checksum. Pure.

use std::cmp::Ordering;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::git::BlobId;

/// The first line of a stored manifest.
const FORMAT: &[u8] = b"longshore manifest 2\n";

/// The SHA-256 of a file's content.
pub(super) type Sum = [u8; 32];

/// One path of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the release's folder, as bytes.
    pub(super) path: Box<[u8]>,
    pub(super) what: What,
}

impl Entry {
    /// The line that the server's script prints for it: `fPATH//MODE SIZE`, `dPATH//MODE` or
    /// `lPATH//TARGET`. It is unambiguous, since no path has two slashes in a row.
    pub(super) fn line(&self, with_mode: bool) -> Vec<u8> {
        let (kind, rest) = match &self.what {
            What::Folder { mode } if with_mode => (b"d", format!("{mode:o}").into_bytes()),
            What::Folder { .. } => (b"d", Vec::new()),
            What::File { mode, size, .. } if with_mode => {
                (b"f", format!("{mode:o} {size}").into_bytes())
            }
            What::File { size, .. } => (b"f", size.to_string().into_bytes()),
            What::Link { target } => (b"l", target.to_vec()),
        };
        [kind, &*self.path, b"//", &rest].concat()
    }
}

/// Zero-terminated lines, sorted as the server's script sorts them.
pub(super) struct Lines(Vec<u8>);

impl Lines {
    pub(super) fn of(mut lines: Vec<Vec<u8>>) -> Self {
        lines.sort_unstable();
        let ended = lines.into_iter().flat_map(|mut line| {
            line.push(0);
            line
        });
        Self(ended.collect())
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn sum(&self) -> String {
        hex(&Sha256::digest(&self.0))
    }
}

/// The kind of a path, with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Folder {
        mode: u32,
    },
    File {
        mode: u32,
        size: u64,
        sum: Sum,
        /// The checksum that `cksum` prints for its content.
        cksum: u32,
        /// In seconds since 1970.
        time: i64,
        /// The id of its content in the repository, if it comes from there.
        blob: Option<BlobId>,
    },
    Link {
        target: Box<[u8]>,
    },
}

/// A regular file's checksum and path, which servers keep as a line of `sha256sum`.
pub(super) type Record<'a> = (&'a Sum, &'a [u8]);

/// Every path of a release, sorted by bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// A manifest of entries with different paths.
    pub(super) fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Self { entries }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<&What> {
        let place = self
            .entries
            .binary_search_by(|entry| (*entry.path).cmp(path))
            .ok()?;
        self.entries.get(place).map(|entry| &entry.what)
    }

    /// The number of files and links.
    pub(super) fn files(&self) -> u64 {
        let is_file = |entry: &&Entry| !matches!(entry.what, What::Folder { .. });
        self.entries.iter().filter(is_file).count() as u64
    }

    /// The total size of the files, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.entries.iter().map(|entry| match entry.what {
            What::File { size, .. } => size,
            _ => 0,
        });
        sizes.sum()
    }

    /// The record of every regular file, sorted by bytes.
    pub(super) fn records(&self) -> Vec<Record<'_>> {
        let mut records: Vec<Record<'_>> = self
            .entries
            .iter()
            .filter_map(|Entry { path, what }| match what {
                What::File { sum, .. } => Some((sum, &**path)),
                _ => None,
            })
            .collect();
        records.sort_unstable();
        records
    }

    /// The checksum of the lines that the server's script prints for the whole tree, one per path and
    /// no others. `modes` is true if the lines have modes.
    pub(super) fn shape(&self, modes: bool) -> String {
        let lines = self.entries.iter().map(|entry| entry.line(modes));
        Lines::of(lines.collect()).sum()
    }

    /// Sets the files' times. A file with the same content in `previous` gets its time there, so that
    /// an unchanged file has the same time on every server, however it came there. Others get `now`,
    /// or a later time than the file had before: web servers tell contents apart by size and time.
    pub(super) fn set_times(&mut self, previous: &Self, now: i64) {
        let mut old = previous.entries.iter().peekable();
        for entry in &mut self.entries {
            while old.next_if(|old| old.path < entry.path).is_some() {}
            let What::File { sum, time, .. } = &mut entry.what else {
                continue;
            };
            let old = old.peek().filter(|old| old.path == entry.path);
            *time = match old.map(|old| &old.what) {
                Some(What::File {
                    sum: same, time, ..
                }) if sum == same => *time,
                Some(What::File { time, .. }) => now.max(time.saturating_add(1)),
                _ => now,
            };
        }
    }

    /// Writes the format that [`read`](Self::read) reads.
    pub(super) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(FORMAT)?;
        for Entry { path, what } in &self.entries {
            match what {
                What::Folder { mode } => write!(to, "d {mode:o} ")?,
                What::File {
                    mode,
                    size,
                    sum,
                    cksum,
                    time,
                    blob,
                } => {
                    let blob = blob.map_or_else(|| "-".to_owned(), |blob| hex(&blob.to_bytes()));
                    let sum = hex(sum);
                    write!(to, "f {mode:o} {size} {sum} {cksum} {time} {blob} ")?;
                }
                What::Link { target } => {
                    to.write_all(b"l ")?;
                    to.write_all(target)?;
                    to.write_all(b"\0")?;
                }
            }
            to.write_all(path)?;
            to.write_all(b"\0")?;
        }
        Ok(())
    }

    /// Reads the format that [`write`](Self::write) writes. Other input is
    /// [`io::ErrorKind::InvalidData`].
    pub(super) fn read(from: &mut dyn Read) -> io::Result<Self> {
        let mut text = Vec::new();
        from.read_to_end(&mut text)?;
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let mut rest = text.strip_prefix(FORMAT).ok_or_else(broken)?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            entries.push(read_entry(&mut rest).ok_or_else(broken)?);
        }
        let is_sorted =
            entries.is_sorted_by(|one, next| one.path.cmp(&next.path) == Ordering::Less);
        match is_sorted {
            true => Ok(Self { entries }),
            false => Err(broken()),
        }
    }
}

fn read_entry(rest: &mut &[u8]) -> Option<Entry> {
    let what = match take(rest, b' ')? {
        b"d" => What::Folder {
            mode: number(take(rest, b' ')?, 8)?,
        },
        b"f" => What::File {
            mode: number(take(rest, b' ')?, 8)?,
            size: std::str::from_utf8(take(rest, b' ')?).ok()?.parse().ok()?,
            sum: from_hex(take(rest, b' ')?)?,
            cksum: number(take(rest, b' ')?, 10)?,
            time: std::str::from_utf8(take(rest, b' ')?).ok()?.parse().ok()?,
            blob: match take(rest, b' ')? {
                b"-" => None,
                text => Some(BlobId::from_bytes(from_hex(text)?)?),
            },
        },
        b"l" => What::Link {
            target: take(rest, 0)?.into(),
        },
        _ => return None,
    };
    let path = take(rest, 0)?.into();
    Some(Entry { path, what })
}

/// The bytes before the next `end`. Consumes `end` too.
fn take<'a>(rest: &mut &'a [u8], end: u8) -> Option<&'a [u8]> {
    let at = rest.iter().position(|byte| *byte == end)?;
    let (taken, after) = rest.split_at(at);
    *rest = after.get(1..)?;
    Some(taken)
}

fn number(text: &[u8], radix: u32) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    /// Manifests over few paths and contents, so that two of them have much in common.
    pub(crate) fn manifests() -> impl Strategy<Value = Manifest> {
        let path = prop_oneof![
            "[ab]{1,2}(/[ab\n\\\\-]{1,3})?",
            Just("-rf".to_owned()),
            Just("é\t ".to_owned()),
        ];
        let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o600)];
        let what = prop_oneof![
            1 => Just(What::Folder { mode: 0o755 }),
            4 => (mode, 0_u8..4, 0_i64..9, any::<bool>()).prop_map(|(mode, content, time, blob)| What::File {
                mode,
                size: u64::from(content),
                sum: [content; 32],
                cksum: u32::from(content),
                time,
                blob: blob.then(|| BlobId::from_bytes([content; 20])).flatten(),
            }),
            1 => vec(1_u8..255, 1..5).prop_map(|target| What::Link { target: target.into() }),
        ];
        btree_map(path.prop_map(String::into_bytes), what, 0..12).prop_map(|entries| {
            let entries = entries.into_iter();
            Manifest::of(
                entries
                    .map(|(path, what)| Entry {
                        path: path.into(),
                        what,
                    })
                    .collect(),
            )
        })
    }

    proptest! {
        #[test]
        fn a_stored_manifest_is_read_back(manifest in manifests()) {
            let mut text = Vec::new();
            manifest.write(&mut text).unwrap();
            prop_assert_eq!(Manifest::read(&mut text.as_slice()).unwrap(), manifest);
        }

        #[test]
        fn what_is_no_manifest_is_refused(bytes in vec(any::<u8>(), 0..60)) {
            let text = [FORMAT, &bytes].concat();
            let _ = Manifest::read(&mut text.as_slice());
            prop_assert!(Manifest::read(&mut bytes.as_slice()).is_err());
        }

        #[test]
        fn records_are_sorted_as_their_lines_are(manifest in manifests()) {
            let lines: Vec<Vec<u8>> = manifest
                .records()
                .iter()
                .map(|(sum, path)| [hex(*sum).as_bytes(), b"  ./", path].concat())
                .collect();
            prop_assert!(lines.is_sorted());
        }
    }

    #[test]
    fn times_stay_where_contents_do_and_change_where_they_do() {
        let file = |path: &str, content: u8, time| Entry {
            path: path.as_bytes().into(),
            what: What::File {
                mode: 0o644,
                size: 1,
                sum: [content; 32],
                cksum: u32::from(content),
                time,
                blob: None,
            },
        };
        let old = Manifest::of(vec![
            file("a", 1, 10),
            file("b", 1, 10),
            file("gone", 1, 10),
        ]);
        let mut new = Manifest::of(vec![file("a", 1, 0), file("b", 2, 0), file("c", 1, 0)]);
        new.set_times(&old, 20);
        let expected = [file("a", 1, 10), file("b", 2, 20), file("c", 1, 20)];
        assert_eq!(new.entries(), expected);
        // In the same second, or with a clock set back, the time still changes.
        new.set_times(&Manifest::of(vec![file("b", 1, 20)]), 20);
        let expected = [file("a", 1, 20), file("b", 2, 21), file("c", 1, 20)];
        assert_eq!(new.entries(), expected);
        assert_eq!((new.files(), new.bytes()), (3, 3));
    }
}
