//! An object stored as a delta against another one, rebuilt in pieces (gitformat-pack(5),
//! "Deltified representation").

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use super::pack::{byte, malformed};

/// The bit that marks a copy instruction.
const COPY: u8 = 0x80;
/// The length of a copy instruction that names none, in bytes.
const COPY_ALL: u64 = 0x10000;

/// The object, read from its base and its delta.
pub(super) struct Patched<D> {
    base: File,
    base_size: u64,
    difference: D,
    step: Step,
    /// The bytes that are still to come.
    left: u64,
}

/// The rest of the current instruction.
#[derive(Clone, Copy)]
enum Step {
    /// Copy `length` bytes of the base, starting at `from`.
    Copy { from: u64, length: u64 },
    /// Insert `length` bytes of the delta.
    Insert { length: u64 },
}

impl<D: Read> Patched<D> {
    /// The object that the delta `difference` makes of the whole `base`.
    pub(super) fn new(base: File, mut difference: D) -> io::Result<Self> {
        let base_size = base.metadata()?.len();
        if size(&mut difference)? != base_size {
            return Err(malformed("a difference to something else"));
        }
        Ok(Self {
            left: size(&mut difference)?,
            step: Step::Insert { length: 0 },
            base,
            base_size,
            difference,
        })
    }

    fn next_step(&mut self) -> io::Result<Step> {
        let instruction = byte(&mut self.difference)?;
        if instruction & COPY == 0 {
            let length = u64::from(instruction);
            if length == 0 {
                return Err(malformed("an unknown instruction in a difference"));
            }
            return Ok(Step::Insert { length });
        }
        // Bits tell which bytes of the offset, and then of the length, follow.
        let mut part = |bits: std::ops::Range<u32>| -> io::Result<u64> {
            let mut value = 0;
            for bit in bits.clone() {
                if instruction & (1 << bit) != 0 {
                    value |= u64::from(byte(&mut self.difference)?) << (8 * (bit - bits.start));
                }
            }
            Ok(value)
        };
        let from = part(0..4)?;
        let length = match part(4..7)? {
            0 => COPY_ALL,
            length => length,
        };
        if from + length > self.base_size {
            return Err(malformed("a difference copies what is not there"));
        }
        Ok(Step::Copy { from, length })
    }
}

impl<D: Read> Read for Patched<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        while let Step::Copy { length: 0, .. } | Step::Insert { length: 0 } = self.step {
            self.step = self.next_step()?;
        }
        let (Step::Copy { length, .. } | Step::Insert { length }) = self.step;
        let most = length.min(self.left).min(buffer.len() as u64);
        let piece = &mut buffer[..usize::try_from(most).unwrap_or_default()];
        let count = match &mut self.step {
            Step::Copy { from, length } => {
                let count = self.base.read_at(piece, *from)?;
                *from += count as u64;
                *length -= count as u64;
                count
            }
            Step::Insert { length } => {
                let count = self.difference.read(piece)?;
                *length -= count as u64;
                count
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A length: seven bits per byte, the low ones first.
fn size(reader: &mut impl Read) -> io::Result<u64> {
    let mut size = 0;
    for shift in (0..63).step_by(7) {
        let next = byte(reader)?;
        size |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(size);
        }
    }
    Err(malformed("a length that is none"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const BASE: &[u8] = b"the quick brown fox jumps over the lazy dog";

    fn patched(difference: &[u8]) -> io::Result<Vec<u8>> {
        let mut base = tempfile::tempfile().unwrap();
        base.write_all(BASE).unwrap();
        let mut all = Vec::new();
        Patched::new(base, difference)?.read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn copies_and_insertions_make_the_object() {
        let size = BASE.len() as u8;
        // "the ", "slow", " brown fox" (offset 9, length 10), the whole base by offset 0.
        let difference = [
            &[size, 4 + 4 + 10 + size],
            &[0x90, 4][..],
            b"\x04slow",
            &[0x91, 9, 10],
            &[0x90, size],
        ]
        .concat();
        let expected = [b"the slow brown fox".as_slice(), BASE].concat();
        assert_eq!(patched(&difference).unwrap(), expected);
        assert_eq!(patched(&[size, 0]).unwrap(), b"");
    }

    #[test]
    fn what_a_difference_cannot_say_is_an_error() {
        let size = BASE.len() as u8;
        for (difference, kind) in [
            // Another base; a copy past the end of the base; an unknown instruction; a length
            // without an end.
            (&[size + 1, 1, 0x90, 1][..], io::ErrorKind::InvalidData),
            (&[size, 9, 0x91, size - 1, 9], io::ErrorKind::InvalidData),
            (&[size, 9, 0x80], io::ErrorKind::InvalidData),
            (&[size, 9, 0], io::ErrorKind::InvalidData),
            (&[0xff; 20], io::ErrorKind::InvalidData),
            // Truncated in a length, before an instruction, within one, within an insertion.
            (&[size], io::ErrorKind::UnexpectedEof),
            (&[size, 9], io::ErrorKind::UnexpectedEof),
            (&[size, 9, 0x91], io::ErrorKind::UnexpectedEof),
            (&[size, 9, 5, b'a'], io::ErrorKind::UnexpectedEof),
        ] {
            let ended = patched(difference).unwrap_err();
            assert_eq!(ended.kind(), kind, "{difference:?}: {ended}");
        }
    }

    #[test]
    fn an_instruction_may_copy_more_than_the_object_takes() {
        let size = BASE.len() as u8;
        assert_eq!(patched(&[size, 3, 0x90, 10]).unwrap(), b"the");
    }
}
