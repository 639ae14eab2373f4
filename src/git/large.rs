//! Large blobs in pieces, from any of git's storage forms: whole in a pack, as a delta in a pack,
//! or as a loose object.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::ZlibDecoder;
use git2::Oid;
use openssl::sha::Sha1;

use super::delta::Patched;
use super::pack::{self, Entry, Place};

/// The size from which the bases of a delta are spooled to a file, in bytes. Below it two of them
/// may be in memory, which is faster.
const SPOOLED: u64 = 16 << 20;
/// The most deltas that may lead to one object. git makes at most 4,095.
const MAX_CHAIN: usize = 4096;
/// The longest header of a loose object, in bytes.
const MAX_HEAD: usize = 32;

/// A blob that is being read. The read at its end fails if the content does not match its id.
pub(super) struct Blob {
    content: Box<dyn Read>,
    left: u64,
    hash: Option<Sha1>,
    id: Oid,
}

/// The blob `id` of `size` bytes in the git folder at `path`; `None` if it does not exist, or if
/// libgit2 reads it better.
pub(super) fn open(path: &Path, id: Oid, size: u64) -> io::Result<Option<Blob>> {
    let objects = path.join("objects");
    let content = match pack::find(&objects.join("pack"), id)? {
        Some(place) => packed(place, path, size)?,
        None => loose(&objects, id)?,
    };
    Ok(content.map(|content| Blob {
        content,
        left: size,
        hash: Some(begun(size)),
        id,
    }))
}

/// True if `content` is the blob with this `id`.
pub(super) fn is_whole(content: &[u8], id: Oid) -> bool {
    let mut hash = begun(content.len() as u64);
    hash.update(content);
    hash.finish() == id.as_bytes()
}

fn begun(size: u64) -> Sha1 {
    let mut hash = Sha1::new();
    hash.update(format!("blob {size}\0").as_bytes());
    hash
}

fn packed(place: Place, path: &Path, size: u64) -> io::Result<Option<Box<dyn Read>>> {
    let mut differences = Vec::new();
    let mut ahead = place;
    let whole = loop {
        match ahead.entry()? {
            Entry::Blob(content) => break content,
            Entry::Delta { base, .. } if size >= SPOOLED && differences.len() < MAX_CHAIN => {
                differences.push(std::mem::replace(&mut ahead, base));
            }
            Entry::Delta { .. } | Entry::Other => return Ok(None),
        }
    };
    let mut content: Box<dyn Read> = Box::new(whole);
    for place in differences.iter().rev() {
        let base = spool(&mut content, path)?;
        if let Entry::Delta { difference, .. } = place.entry()? {
            content = Box::new(Patched::new(base, difference)?);
        }
    }
    Ok(Some(content))
}

/// Writes a content into an unnamed file: on the repository's own disk if that is writable, since
/// the system's temporary folder may be memory.
fn spool(content: &mut dyn Read, path: &Path) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(path).or_else(|_| tempfile::tempfile())?;
    io::copy(content, &mut file)?;
    Ok(file)
}

fn loose(objects: &Path, id: Oid) -> io::Result<Option<Box<dyn Read>>> {
    let name = id.to_string();
    let (folder, name) = name.split_at(2);
    let file = match File::open(objects.join(folder).join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut content = ZlibDecoder::new(BufReader::new(file));
    let mut byte = [0];
    for _ in 0..MAX_HEAD {
        content.read_exact(&mut byte)?;
        if byte == [0] {
            return Ok(Some(Box::new(content)));
        }
    }
    let reason = "an object could not be read";
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if self.left == 0 {
            return self.end();
        }
        let length = self.content.read(&mut buffer[..most])?;
        if length == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= length as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..length]);
        }
        Ok(length)
    }
}

impl Blob {
    fn end(&mut self) -> io::Result<usize> {
        match self.hash.take().map(Sha1::finish) {
            Some(hash) if hash != self.id.as_bytes() => {
                let reason = "an object could not be read";
                Err(io::Error::new(io::ErrorKind::InvalidData, reason))
            }
            _ => Ok(0),
        }
    }
}
