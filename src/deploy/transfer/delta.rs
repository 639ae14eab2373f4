//! What of a release has to travel to a server that has another one. Pure.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::manifest::{Manifest, Record, What, hex};

/// The way from one release to another: the server keeps the files of the old one whose records are
/// not in `dropped`, and gets those in `added`.
pub(super) struct Delta<'a> {
    new: &'a Manifest,
    /// In the order of their bytes.
    pub(super) dropped: Vec<Record<'a>>,
    /// In the order of their bytes.
    pub(super) added: Vec<Record<'a>>,
}

impl<'a> Delta<'a> {
    /// The way to `new` from `old`, or from nothing.
    pub(super) fn between(old: Option<&'a Manifest>, new: &'a Manifest) -> Self {
        let stays = |one: &Manifest, path: &[u8], what: &What| match (one.find(path), what) {
            (
                Some(What::File { mode, sum, .. }),
                What::File {
                    mode: other_mode,
                    sum: other_sum,
                    ..
                },
            ) => mode == other_mode && sum == other_sum,
            _ => false,
        };
        let leaving = |from: &'a Manifest, to: Option<&Manifest>| {
            let mut records: Vec<Record<'a>> = from
                .entries()
                .iter()
                .filter(|entry| !to.is_some_and(|to| stays(to, &entry.path, &entry.what)))
                .filter_map(|entry| match &entry.what {
                    What::File { sum, .. } => Some((sum, &*entry.path)),
                    _ => None,
                })
                .collect();
            records.sort_unstable();
            records
        };
        Self {
            new,
            dropped: old.map(|old| leaving(old, Some(new))).unwrap_or_default(),
            added: leaving(new, old),
        }
    }

    /// Whether the file at `path` travels.
    pub(super) fn has(&self, record: &Record<'_>) -> bool {
        self.added.binary_search(record).is_ok()
    }

    /// How many bytes the files that travel have.
    pub(super) fn bytes(&self) -> u64 {
        let size = |(_, path): &Record<'_>| match self.new.find(path) {
            Some(What::File { size, .. }) => *size,
            _ => 0,
        };
        self.added.iter().map(size).sum()
    }
}

/// How a tool prints checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Print {
    /// `sha256sum -z`: every line ends with a zero byte, names are as they are.
    Zero,
    /// `sha256sum` where it does not escape names.
    Line,
    /// `openssl dgst -sha256 -r`; only for names without backslash and newline.
    Openssl,
}

/// Records as a tool prints them.
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

    /// How many bytes that are.
    pub(super) fn length(records: &[Record<'_>]) -> u64 {
        // Checksum, blanks or star, `./`, the end.
        records
            .iter()
            .map(|(_, path)| 64 + 4 + path.len() as u64 + 1)
            .sum()
    }

    /// The checksum of all that is printed.
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
            Print::Openssl => (b" *./", b'\n'),
        };
        self.line.clear();
        self.line.extend_from_slice(hex(*sum).as_bytes());
        self.line.extend_from_slice(between);
        self.line.extend_from_slice(path);
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delta_leads_from_any_release_to_any_other(old in manifests(), new in manifests()) {
            let delta = Delta::between(Some(&old), &new);
            let mut records: Vec<Record<'_>> = old
                .records()
                .into_iter()
                .filter(|record| !delta.dropped.contains(record))
                .collect();
            for (_, path) in &records {
                // What is kept is right as it is.
                let mode = |manifest: &Manifest| match manifest.find(path) {
                    Some(What::File { mode, .. }) => Some(*mode),
                    _ => None,
                };
                prop_assert_eq!(mode(&old), mode(&new));
            }
            records.extend(&delta.added);
            records.sort_unstable();
            prop_assert_eq!(records, new.records());
            prop_assert!(delta.bytes() <= new.bytes());
        }

        #[test]
        fn nothing_travels_to_where_all_is(manifest in manifests()) {
            let delta = Delta::between(Some(&manifest), &manifest);
            prop_assert!(delta.dropped.is_empty() && delta.added.is_empty());
            let delta = Delta::between(None, &manifest);
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
