//! The pack: a compressed tar, made once for all servers with the same needs.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::delta::{Delta, Print, Printed, There};
use super::manifest::{Entry, Manifest, What};
use super::source::{Opened, Source};
use super::stream::{Reader, Stream};
use crate::store::ReleaseId;

/// The number of compressed bytes that are passed on at once.
const PIECE: usize = 128 << 10;

/// The level of zstd: compression must take less time than it saves, even on a fast line.
const ZSTD_LEVEL: i32 = 1;
/// Level 1 of this gzip is two fifths faster than 2, but its packs of text are a third larger.
const GZIP_LEVEL: Compression = Compression::new(2);

/// The compression that a server can unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Codec {
    Zstd,
    Gzip,
    Plain,
}

impl Codec {
    /// Its name in the servers' script.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Plain => "cat",
        }
    }
}

/// The releases on a server that a pack may build on, with their manifests.
#[derive(Clone, Default)]
pub(super) struct Old {
    pub(super) release: Option<(ReleaseId, Arc<Manifest>)>,
    pub(super) spare: Option<(ReleaseId, Arc<Manifest>)>,
}

impl Old {
    /// The ids of the release and the recycled folder.
    pub(super) fn ids(&self) -> [Option<ReleaseId>; 2] {
        [&self.release, &self.spare].map(|one| one.as_ref().map(|(id, _)| *id))
    }

    pub(super) fn there(&self) -> There<'_> {
        let manifest = |one| Option::as_ref(one).map(|(_, manifest): &(_, Arc<_>)| &**manifest);
        There {
            release: manifest(&self.release),
            spare: manifest(&self.spare),
        }
    }
}

/// The codec, and the ids of the old release and the recycled folder.
type Key = (Codec, [Option<ReleaseId>; 2]);

/// The packs of one release, each made at the first request.
pub(super) struct Packs {
    release: ReleaseId,
    source: Source,
    manifest: Arc<Manifest>,
    /// The folder of packs for several servers. `None`: there is one server.
    folder: Option<PathBuf>,
    made: Mutex<HashMap<Key, Stream>>,
    producers: Mutex<Vec<(Stream, JoinHandle<()>)>>,
}

impl Packs {
    pub(super) fn new(
        release: ReleaseId,
        source: Source,
        manifest: Arc<Manifest>,
        folder: Option<PathBuf>,
    ) -> Self {
        Self {
            release,
            source,
            manifest,
            folder,
            made: Mutex::default(),
            producers: Mutex::default(),
        }
    }

    /// The origin of the files.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The pack for a server that has `old`, and its stream, which may still grow.
    pub(super) fn pack(&self, codec: Codec, old: Old) -> io::Result<(Reader, Stream)> {
        let Some(folder) = &self.folder else {
            let stream = Stream::in_memory();
            let reader = stream.reader();
            self.produce(codec, old, &stream)?;
            return Ok((reader, stream));
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (codec, old.ids());
        let stream = match made.get(&key) {
            Some(stream) => stream.clone(),
            None => {
                let stream = Stream::in_file(folder)?;
                self.produce(codec, old, &stream)?;
                made.insert(key, stream.clone());
                stream
            }
        };
        Ok((stream.reader(), stream))
    }

    fn produce(&self, codec: Codec, old: Old, stream: &Stream) -> io::Result<()> {
        let release = self.release;
        let (source, manifest, to) = (
            self.source.clone(),
            Arc::clone(&self.manifest),
            stream.clone(),
        );
        let producer = thread::Builder::new()
            .name("pack".to_owned())
            .spawn(move || {
                let delta = Delta::between(old.there(), &manifest);
                let written = compress(codec, to.clone(), |to| {
                    write(release, &manifest, &delta, &source, to)
                });
                to.end(written.map_err(|error| error.to_string()));
            })?;
        let mut producers = self
            .producers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        producers.push((stream.clone(), producer));
        Ok(())
    }
}

impl Drop for Packs {
    fn drop(&mut self) {
        let producers = self
            .producers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for (stream, producer) in producers.drain(..) {
            stream.abandon();
            let _ = producer.join();
        }
    }
}

fn compress(
    codec: Codec,
    to: Stream,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(PIECE, to);
    match codec {
        Codec::Zstd => {
            let mut zipped = zstd::Encoder::new(&mut to, ZSTD_LEVEL)?;
            zipped.include_checksum(true)?;
            write(&mut zipped)?;
            zipped.finish()?;
        }
        Codec::Gzip => {
            let mut zipped = GzEncoder::new(&mut to, GZIP_LEVEL);
            write(&mut zipped)?;
            zipped.finish()?;
        }
        Codec::Plain => write(&mut to)?,
    }
    to.flush()
}

/// Writes the tar: first the lists of the delta, then, below the release's id, every folder and link
/// and the files to send.
fn write(
    release: ReleaseId,
    manifest: &Manifest,
    delta: &Delta<'_>,
    source: &Source,
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut tar = Builder::new(to);
    let sent = delta.sent();
    let sums = format!(".{release}/sums");
    let added = if delta.is_whole {
        &*sums
    } else {
        "lists/added"
    };
    let mut lists = vec![
        ("lists/dropped", Print::Zero, &delta.dropped),
        (added, Print::Zero, &delta.added),
    ];
    if delta.is_into_spare {
        lists.push(("lists/sent", Print::Zero, &sent));
        // The same in the format of `sha256sum -c`: to make it on the server would take one program
        // more.
        lists.push(("lists/check", Print::Line, &sent));
    }
    for (name, print, records) in lists {
        let mut header = header(EntryType::Regular, 0o644, 0);
        header.set_size(Printed::length(records));
        tar.append_data(&mut header, name, Printed::new(print, records))?;
    }
    let copied = delta.copied_paths();
    let mut texts = vec![
        ("lists/copied".to_owned(), &*copied),
        ("lists/changed".to_owned(), delta.changes.text()),
    ];
    let odd = odd_modes(manifest);
    texts.extend(odd.iter().map(|(name, paths)| (name.clone(), &**paths)));
    for (name, text) in texts {
        let mut header = header(EntryType::Regular, 0o644, 0);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text)?;
    }
    let opened = source.open()?;
    let folder = PathBuf::from(release.to_string());
    for Entry { path, what } in manifest.entries() {
        let name = folder.join(OsStr::from_bytes(path));
        match what {
            What::Folder { mode } => {
                // The folder stays writable until files are copied into it, and gets its mode
                // afterwards.
                let mut header = header(EntryType::Directory, *mode | OPEN, 0);
                tar.append_data(&mut header, name.join(""), io::empty())?;
            }
            What::Link { target } => append_link(&mut tar, &name, target)?,
            What::File { sum, .. } if !delta.has(&(sum, path)) => {}
            What::File { .. } => append_file(&mut tar, &name, path, what, &opened)?,
        }
    }
    tar.finish()
}

/// The permission bits that a folder's owner needs to write into it.
const OPEN: u32 = 0o700;

/// The paths, zero-terminated and deepest first, with other modes than a repository gives, in one list
/// per mode: `closed` for folders that their owner could not write into, `modes` for all others.
fn odd_modes(manifest: &Manifest) -> BTreeMap<String, Vec<u8>> {
    let mut lists: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for Entry { path, what } in manifest.entries().iter().rev() {
        let (list, mode) = match what {
            What::Folder { mode } if mode & OPEN != OPEN => ("closed", mode),
            What::Folder { mode } if *mode != 0o755 => ("modes", mode),
            What::File { mode, .. } if ![0o644, 0o755].contains(mode) => ("modes", mode),
            _ => continue,
        };
        let paths = lists.entry(format!("lists/{list}-{mode:o}")).or_default();
        paths.extend([b"./", &**path, b"\0"].concat());
    }
    lists
}

fn append_file<W: Write>(
    tar: &mut Builder<W>,
    name: &Path,
    path: &[u8],
    what: &What,
    opened: &Opened<'_>,
) -> io::Result<()> {
    let What::File {
        mode,
        size,
        time,
        blob,
        ..
    } = what
    else {
        return Ok(());
    };
    let mut header = header(
        EntryType::Regular,
        *mode,
        u64::try_from(*time).unwrap_or_default(),
    );
    header.set_size(*size);
    opened.read(path, *blob, *size, &mut |content| {
        let mut counted = Counted { content, count: 0 };
        tar.append_data(&mut header, name, &mut counted)?;
        match counted.count == *size {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "{} became shorter while it was sent",
                name.display()
            ))),
        }
    })
}

/// Writes short targets as they are; `append_link` would normalize them (`a//b`, `d/`).
fn append_link<W: Write>(tar: &mut Builder<W>, name: &Path, target: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Symlink, 0o777, 0);
    match header.set_link_name_literal(target) {
        Ok(()) => tar.append_data(&mut header, name, io::empty()),
        Err(_) => tar.append_link(&mut header, name, OsStr::from_bytes(target)),
    }
}

fn header(kind: EntryType, mode: u32, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

struct Counted<'a> {
    content: &'a mut dyn Read,
    count: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}
