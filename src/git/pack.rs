//! Large blobs, straight from a pack. libgit2 reads a packed object into memory as a whole; a file
//! of some gigabytes would take as much. gitformat-pack(5) describes the files.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flate2::bufread::ZlibDecoder;
use git2::Oid;
use openssl::sha::Sha1;

/// An index of version 2 begins with it.
const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
const HEADER: u64 = 8;
const FAN_OUT: u64 = 256 * 4;
const ID: u64 = 20;
/// The type of a blob that is stored as it is.
const BLOB: u8 = 3;
/// Set in an offset that stands in the table of long ones.
const LONG_OFFSET: u32 = 1 << 31;
const BUFFER: usize = 256 << 10;

/// A blob that is being read; its end is an error where its content is not what its id says.
pub(super) struct Blob {
    content: ZlibDecoder<BufReader<File>>,
    left: u64,
    hash: Option<Sha1>,
    id: Oid,
}

/// The blob `id` of `size` bytes in one of the packs of the repository at `path`; none where no
/// pack has it as it is.
pub(super) fn whole_blob(path: &Path, id: Oid, size: u64) -> io::Result<Option<Blob>> {
    for entry in path.join("objects/pack").read_dir()? {
        let index = entry?.path();
        if index
            .extension()
            .is_some_and(|extension| extension == "idx")
            && let Some(offset) = offset_of(&File::open(&index)?, id)?
        {
            return open(&index.with_extension("pack"), offset, id, size);
        }
    }
    Ok(None)
}

fn number(index: &File, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    index.read_exact_at(&mut bytes, at)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Where the object begins in the index's pack.
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
                // Behind the ids stand checksums, then offsets, of four bytes each.
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

fn open(pack: &Path, offset: u64, id: Oid, size: u64) -> io::Result<Option<Blob>> {
    let mut file = File::open(pack)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    if (byte[0] >> 4) & 7 != BLOB {
        return Ok(None);
    }
    // The rest of the length, which the index of all objects gave us already.
    while byte[0] & 0x80 != 0 {
        reader.read_exact(&mut byte)?;
    }
    let mut hash = Sha1::new();
    hash.update(format!("blob {size}\0").as_bytes());
    Ok(Some(Blob {
        content: ZlibDecoder::new(reader),
        left: size,
        hash: Some(hash),
        id,
    }))
}

impl Blob {
    /// The next piece; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return self.end();
        }
        let length = self.content.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= length as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..length]);
        }
        Ok(length)
    }

    fn end(&mut self) -> io::Result<usize> {
        match self.hash.take().map(Sha1::finish) {
            Some(hash) if hash != self.id.as_bytes() => {
                Err(io::Error::other("an object could not be read"))
            }
            _ => Ok(0),
        }
    }
}
