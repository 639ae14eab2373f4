//! The difference between a release and the releases that a server has. Pure.

use std::io::{self, Read};
use std::mem;

use sha2::{Digest as _, Sha256};

use super::cksum::Cksum;
use super::manifest::{Entry, Lines, Manifest, Record, What, hex};

/// The releases that a server has, as far as their manifests are known here.
#[derive(Clone, Copy, Default)]
pub(super) struct There<'a> {
    /// The release whose files may be copied.
    pub(super) release: Option<&'a Manifest>,
    /// The release whose folder may be recycled for the new one.
    pub(super) spare: Option<&'a Manifest>,
}

/// The steps from a server's releases to the new one. The server keeps the files of the recycled
/// folder (without one: of the release) whose records are not in `dropped`. Of those in `added`, it
/// copies the ones in `copied` from the release. The others are sent.
pub(super) struct Delta<'a> {
    new: &'a Manifest,
    /// Sorted by bytes, like the other lists.
    pub(super) dropped: Vec<Record<'a>>,
    pub(super) added: Vec<Record<'a>>,
    /// True if the server has no release to build on, so `added` is everything.
    pub(super) is_whole: bool,
    /// True if it recycles a folder.
    pub(super) is_into_spare: bool,
    /// Empty without a recycled folder.
    pub(super) copied: Vec<Record<'a>>,
    /// The recycled folder's files and links that are not in the new release.
    pub(super) gone: Vec<&'a [u8]>,
    /// True if the recycled folder has folders that are not in the new release.
    pub(super) fewer_folders: bool,
    /// The changes to the recycled folder: the lines of entries that change or disappear, the new
    /// lines after a tab each, and `.` as the end.
    pub(super) changes: Lines,
}

impl<'a> Delta<'a> {
    /// The difference between `there` and `new`.
    pub(super) fn between(there: There<'a>, new: &'a Manifest) -> Self {
        let base = there.spare.or(there.release);
        let with_time = there.spare.is_some();
        let stays = |entry: &Entry, other: Option<&Manifest>| {
            other.is_some_and(|other| is_same(&entry.what, &entry.path, other, with_time))
        };
        let added = sorted(files(new).filter(|(entry, _)| !stays(entry, base)));
        let has_release =
            |(_, path): &Record<'a>| Some(is_same(new.find(path)?, path, there.release?, false));
        let mut copied = Vec::new();
        if with_time {
            let there = added
                .iter()
                .filter(|it| has_release(it).unwrap_or_default());
            copied = there.copied().collect();
        }
        let dropped = base.into_iter().flat_map(files);
        let spare = || there.spare.into_iter().flat_map(Manifest::entries);
        let changed = |entry: &&Entry, other: Option<&Manifest>| match (&entry.what, other) {
            (What::File { .. }, other) => !stays(entry, other),
            (what, other) => other.and_then(|other| other.find(&entry.path)) != Some(what),
        };
        let was = spare().filter(|entry| changed(entry, Some(new)));
        let is = there.spare.map(|spare| {
            new.entries()
                .iter()
                .filter(move |entry| changed(entry, Some(spare)))
        });
        let changes = was.map(|entry| entry.line(true)).chain(
            is.into_iter()
                .flatten()
                .map(|entry| [b"\t", &*entry.line(true)].concat()),
        );
        // The end mark tells an empty list from one that could not be made.
        let changes = Lines::of(changes.chain([b".".to_vec()]).collect());
        let is_missing = |entry: &&Entry| {
            !new.find(&entry.path)
                .is_some_and(|what| mem::discriminant(what) == mem::discriminant(&entry.what))
        };
        Self {
            new,
            dropped: sorted(dropped.filter(|(entry, _)| !stays(entry, Some(new)))),
            added,
            is_whole: base.is_none(),
            is_into_spare: with_time,
            copied,
            gone: spare()
                .filter(|entry| !matches!(entry.what, What::Folder { .. }))
                .filter(is_missing)
                .map(|entry| &*entry.path)
                .collect(),
            fewer_folders: spare()
                .filter(|entry| matches!(entry.what, What::Folder { .. }))
                .any(|entry| is_missing(&entry)),
            changes,
        }
    }

    /// True if the file of this record is sent.
    pub(super) fn has(&self, record: &Record<'_>) -> bool {
        self.added.binary_search(record).is_ok() && self.copied.binary_search(record).is_err()
    }

    /// The files to send.
    pub(super) fn sent(&self) -> Vec<Record<'a>> {
        let added = self.added.iter().filter(|record| self.has(record));
        added.copied().collect()
    }

    /// The paths to copy, zero-terminated, in the order of their lines in a stat index.
    pub(super) fn copied_paths(&self) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = self
            .copied
            .iter()
            .map(|(_, path)| [*path, b"//"].concat())
            .collect();
        lines.sort_unstable();
        let paths = lines.iter().map(|line| &line[..line.len() - 2]);
        paths.flat_map(|path| [path, b"\0"].concat()).collect()
    }

    /// The checksum of the output of `cksum` for the list of the release's files, named `sums`, and
    /// for the added files. Valid only for names without newline.
    pub(super) fn cksum(&self, sums: &str) -> u32 {
        let records = self.new.records();
        let (mut list, mut printed) = (Cksum::new(), Cksum::new());
        let mut lines = Printed::new(Print::Zero, &records);
        while lines.next_line() {
            list.update(&lines.line);
        }
        let (list, length) = (list.finish(), Printed::length(&records));
        printed.update(format!("{list} {length} {sums}\n").as_bytes());
        for (_, path) in &self.added {
            if let Some(What::File { size, cksum, .. }) = self.new.find(path) {
                printed.update(format!("{cksum} {size} ./").as_bytes());
                printed.update(path);
                printed.update(b"\n");
            }
        }
        printed.finish()
    }

    /// The number of files to send.
    pub(super) fn travels(&self) -> usize {
        self.added.len() - self.copied.len()
    }

    /// The total size of the added files, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let size = |(_, path): &Record<'_>| match self.new.find(path) {
            Some(What::File { size, .. }) => *size,
            _ => 0,
        };
        self.added.iter().map(size).sum()
    }
}

/// The regular files with their records.
fn files(manifest: &Manifest) -> impl Iterator<Item = (&Entry, Record<'_>)> {
    let entries = manifest.entries().iter();
    entries.filter_map(|entry| match &entry.what {
        What::File { sum, .. } => Some((entry, (sum, &*entry.path))),
        _ => None,
    })
}

fn sorted<'a>(files: impl IntoIterator<Item = (&'a Entry, Record<'a>)>) -> Vec<Record<'a>> {
    let mut records: Vec<Record<'a>> = files.into_iter().map(|(_, record)| record).collect();
    records.sort_unstable();
    records
}

/// True if `what` is a file that `other` has at the same path with the same mode and content and, for
/// `with_time`, the same time.
fn is_same(what: &What, path: &[u8], other: &Manifest, with_time: bool) -> bool {
    let (
        What::File {
            mode, sum, time, ..
        },
        Some(What::File {
            mode: other_mode,
            sum: other_sum,
            time: other_time,
            ..
        }),
    ) = (what, other.find(path))
    else {
        return false;
    };
    mode == other_mode && sum == other_sum && (!with_time || time == other_time)
}

/// The output format of a checksum tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Print {
    /// `sha256sum -z`: zero-terminated lines, names unescaped.
    Zero,
    /// `sha256sum` for names that it does not escape.
    Line,
    /// `sha256sum` of its input.
    Nameless,
}

/// Records in the format of a tool, for reading.
pub(super) struct Printed<'r, 'a> {
    print: Print,
    records: std::slice::Iter<'r, Record<'a>>,
    line: Vec<u8>,
    at: usize,
}

impl<'r, 'a> Printed<'r, 'a> {
    pub(super) fn new(print: Print, records: &'r [Record<'a>]) -> Self {
        Self {
            print,
            records: records.iter(),
            line: Vec::new(),
            at: 0,
        }
    }

    /// The length of the output, in bytes.
    pub(super) fn length(records: &[Record<'_>]) -> u64 {
        // Checksum, two blanks and `./`, the end.
        records
            .iter()
            .map(|(_, path)| 64 + 4 + path.len() as u64 + 1)
            .sum()
    }

    /// The SHA-256 of the output.
    pub(super) fn sum(print: Print, records: &[Record<'_>]) -> String {
        let mut digest = Sha256::new();
        let mut printed = Printed::new(print, records);
        while printed.next_line() {
            digest.update(&printed.line);
        }
        hex(&digest.finalize())
    }

    fn next_line(&mut self) -> bool {
        let Some((sum, path)) = self.records.next() else {
            return false;
        };
        let (between, end): (&[u8], u8) = match self.print {
            Print::Zero => (b"  ./", 0),
            Print::Line => (b"  ./", b'\n'),
            Print::Nameless => (b"  -", b'\n'),
        };
        self.line.clear();
        self.line.extend_from_slice(hex(*sum).as_bytes());
        self.line.extend_from_slice(between);
        if self.print != Print::Nameless {
            self.line.extend_from_slice(path);
        }
        self.line.push(end);
        self.at = 0;
        true
    }
}

impl Read for Printed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.line.len() && !self.next_line() {
            return Ok(0);
        }
        let mut rest = self.line.get(self.at..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::manifests;
    use super::*;
    use proptest::option;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_delta_leads_from_any_releases_to_any_other(
            release in option::of(manifests()), spare in option::of(manifests()), new in manifests()
        ) {
            let there = There { release: release.as_ref(), spare: spare.as_ref() };
            let delta = Delta::between(there, &new);
            let mode_and_time = |manifest: &Manifest, path| match manifest.find(path) {
                Some(What::File { mode, time, .. }) => Some((*mode, *time)),
                _ => None,
            };
            let mut records = Vec::new();
            if let Some(base) = there.spare.or(there.release) {
                records = base.records();
                records.retain(|record| !delta.dropped.contains(record));
                for (_, path) in &records {
                    // Kept files need no change.
                    let (was, is) = (mode_and_time(base, path), mode_and_time(&new, path));
                    prop_assert_eq!(was.map(|it| it.0), is.map(|it| it.0));
                    prop_assert!(was == is || spare.is_none());
                }
            }
            for record in &delta.copied {
                let release = release.as_ref().unwrap();
                prop_assert!(spare.is_some() && release.records().contains(record));
                let (was, is) = (mode_and_time(release, record.1), mode_and_time(&new, record.1));
                prop_assert_eq!(was.map(|it| it.0), is.map(|it| it.0));
                prop_assert!(delta.added.contains(record) && !delta.has(record));
            }
            records.extend(&delta.added);
            records.sort_unstable();
            prop_assert_eq!(records, new.records());
            if let Some(spare) = &spare {
                let lines = |of: &Manifest| -> BTreeSet<Vec<u8>> {
                    of.entries().iter().map(|entry| entry.line(true)).collect()
                };
                let mut is = lines(spare);
                let changes = delta.changes.text().split_inclusive(|byte| *byte == 0);
                let changes: Vec<&[u8]> = changes.map(|line| &line[..line.len() - 1]).collect();
                prop_assert!(changes.is_sorted());
                let old = |line: &&&[u8]| line[0] != b'\t' && **line != b".";
                for was in changes.iter().filter(old) {
                    prop_assert!(is.remove(*was));
                }
                for new in changes.iter().filter_map(|line| line.strip_prefix(b"\t")) {
                    prop_assert!(is.insert(new.to_vec()));
                }
                prop_assert_eq!(is, lines(&new));
            }
            prop_assert!(delta.bytes() <= new.bytes());
        }

        #[test]
        fn nothing_travels_to_where_all_is(manifest in manifests(), spare in option::of(manifests())) {
            let there = There { release: Some(&manifest), spare: spare.as_ref() };
            prop_assert_eq!(Delta::between(there, &manifest).travels(), 0);
            let there = There { release: None, spare: Some(&manifest) };
            let delta = Delta::between(there, &manifest);
            prop_assert!(delta.dropped.is_empty() && delta.copied.is_empty() && delta.added.is_empty());
            let delta = Delta::between(There::default(), &manifest);
            prop_assert_eq!(&delta.added, &manifest.records());
            prop_assert!(delta.added.iter().all(|record| delta.has(record)));
        }

        #[test]
        fn what_is_printed_is_as_long_as_it_is_said_to_be(manifest in manifests()) {
            let records = manifest.records();
            let mut text = Vec::new();
            Printed::new(Print::Zero, &records).read_to_end(&mut text).unwrap();
            prop_assert_eq!(text.len() as u64, Printed::length(&records));
            prop_assert_eq!(hex(&Sha256::digest(&text)), Printed::sum(Print::Zero, &records));
        }
    }
}
