//! Reads one object from a pack without holding it in memory. libgit2 reads a packed object as a
//! whole, so a file of some gigabytes would take as much. The files are described in
//! gitformat-pack(5).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;
use git2::Oid;

/// The start of an index of version 2.
const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
const HEADER: u64 = 8;
const FAN_OUT: u64 = 256 * 4;
const ID: u64 = 20;
/// The type of a blob that is stored whole.
const BLOB: u8 = 3;
/// The type of a delta whose base is a number of bytes before it.
const OFFSET_DELTA: u8 = 6;
/// The type of a delta whose base is named by id.
const ID_DELTA: u8 = 7;
/// The flag of an offset that is an index into the table of long offsets.
const LONG_OFFSET: u32 = 1 << 31;
const BUFFER: usize = 64 << 10;

/// Compressed data in a pack.
pub(super) type Inflated = ZlibDecoder<BufReader<File>>;

/// The position of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pack: PathBuf,
    offset: u64,
}

/// A packed object.
pub(super) enum Entry {
    /// A whole blob.
    Blob(Inflated),
    /// An object as a delta against another one.
    Delta {
        /// The base.
        base: Place,
        /// The delta; see `delta`.
        difference: Inflated,
    },
    /// Another type.
    Other,
}

/// The position of the object `id` in one of the packs in `folder`.
pub(super) fn find(folder: &Path, id: Oid) -> io::Result<Option<Place>> {
    let packs = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        packs => packs?,
    };
    for entry in packs {
        let index = entry?.path();
        let is_index = index.extension().is_some_and(|ending| ending == "idx");
        if is_index && let Some(offset) = offset_of(&File::open(&index)?, id)? {
            let pack = index.with_extension("pack");
            return Ok(Some(Place { pack, offset }));
        }
    }
    Ok(None)
}

impl Place {
    /// Opens the object at this position.
    pub(super) fn entry(&self) -> io::Result<Entry> {
        let mut file = File::open(&self.pack)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::with_capacity(BUFFER, file);
        let first = byte(&mut reader)?;
        // The rest of the length, which the caller already knows.
        let mut next = first;
        while next & 0x80 != 0 {
            next = byte(&mut reader)?;
        }
        let base = match (first >> 4) & 7 {
            BLOB => return Ok(Entry::Blob(ZlibDecoder::new(reader))),
            OFFSET_DELTA => {
                let back = distance(&mut reader)?;
                let offset = self.offset.checked_sub(back).filter(|_| back > 0);
                offset.ok_or_else(|| malformed("a difference to what lies outside the pack"))?
            }
            ID_DELTA => {
                let mut id = [0; ID as usize];
                reader.read_exact(&mut id)?;
                let id = Oid::from_bytes(&id).map_err(io::Error::other)?;
                let index = File::open(self.pack.with_extension("idx"))?;
                let missing = || malformed("a difference to what the pack does not have");
                offset_of(&index, id)?.ok_or_else(missing)?
            }
            _ => return Ok(Entry::Other),
        };
        Ok(Entry::Delta {
            base: Self {
                pack: self.pack.clone(),
                offset: base,
            },
            difference: ZlibDecoder::new(reader),
        })
    }
}

pub(super) fn malformed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

pub(super) fn byte(reader: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// The distance from a delta back to its base: seven bits per byte, the high ones first, and each
/// step but the last one counts one too few.
fn distance(reader: &mut impl Read) -> io::Result<u64> {
    let mut next = byte(reader)?;
    let mut back = u64::from(next & 0x7f);
    while next & 0x80 != 0 {
        next = byte(reader)?;
        back = back
            .checked_add(1)
            .and_then(|back| back.checked_mul(128))
            .and_then(|back| back.checked_add(u64::from(next & 0x7f)))
            .ok_or_else(|| malformed("a difference to what lies outside the pack"))?;
    }
    Ok(back)
}

fn number(index: &File, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    index.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_be_bytes(bytes))
}

/// The offset of the object in the index's pack.
fn offset_of(index: &File, id: Oid) -> io::Result<Option<u64>> {
    let mut magic = [0; 8];
    index.read_exact_at(&mut magic, 0)?;
    if magic != MAGIC {
        return Ok(None);
    }
    let wanted = id.as_bytes();
    let first = u64::from(wanted[0]);
    let fan = |at: u64| number(index, HEADER + at * 4).map(u64::from);
    let mut low = if first == 0 { 0 } else { fan(first - 1)? };
    let (mut high, count) = (fan(first)?, fan(255)?);
    let ids = HEADER + FAN_OUT;
    while low < high {
        let middle = low + (high - low) / 2;
        let mut found = [0; ID as usize];
        index.read_exact_at(&mut found, ids + middle * ID)?;
        match found.as_slice().cmp(wanted) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                // After the ids come checksums, then offsets, of four bytes each.
                let offsets = ids + count * (ID + 4);
                let offset = number(index, offsets + middle * 4)?;
                if offset & LONG_OFFSET == 0 {
                    return Ok(Some(u64::from(offset)));
                }
                let long = offsets + count * 4 + u64::from(offset ^ LONG_OFFSET) * 8;
                let mut bytes = [0; 8];
                index.read_exact_at(&mut bytes, long)?;
                return Ok(Some(u64::from_be_bytes(bytes)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
