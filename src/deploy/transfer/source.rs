//! The origin of a release's files: the mirror or the work tree.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::cksum::Cksum;
use super::manifest::{Entry, Manifest, Sum, What};
use crate::deploy::error::StepError;
use crate::git::{BlobId, CommitId, Contents, Item, Mirror, Snapshot, refused_link};

/// The number of bytes read at once.
const PIECE: usize = 256 << 10;

/// The files of one release on the platform.
#[derive(Clone)]
pub(in crate::deploy) enum Source {
    /// A commit, without a work tree.
    Commit {
        mirror: Box<Mirror>,
        commit: CommitId,
    },
    /// A work tree after its build.
    Folder(PathBuf),
}

/// Callbacks during the making of a manifest.
pub(in crate::deploy) struct Watch<'a> {
    /// Called after every piece of work with the number of files. An error ends the work.
    pub(in crate::deploy) going: &'a dyn Fn(u64) -> Result<(), StepError>,
    /// Called with a path that is not a file, folder or link and is left out.
    pub(in crate::deploy) left_out: &'a dyn Fn(&Path),
}

impl Source {
    /// Lists and checksums all paths. Repository content that `previous` has is not read again. Files
    /// that it lacks, or has with another content, get the release's time `now`, in seconds since
    /// 1970.
    pub(super) fn manifest(
        &self,
        previous: Option<&Manifest>,
        now: i64,
        watch: &Watch<'_>,
    ) -> Result<Manifest, StepError> {
        let mut manifest = match self {
            Self::Commit { mirror, commit } => of_commit(
                &mirror.snapshot(commit)?,
                &mirror.contents()?,
                previous,
                watch,
            )?,
            Self::Folder(folder) => {
                let mut entries = Vec::new();
                let piece = &mut vec![0; PIECE];
                walk(folder, Path::new(""), piece, &mut entries, watch)?;
                check_links(&entries)?;
                Manifest::of(entries)
            }
        };
        manifest.set_times(previous.unwrap_or(&Manifest::default()), now);
        Ok(manifest)
    }

    pub(super) fn open(&self) -> io::Result<Opened<'_>> {
        Ok(match self {
            Self::Commit { mirror, .. } => {
                Opened::Mirror(Box::new(mirror.contents().map_err(io::Error::other)?))
            }
            Self::Folder(folder) => Opened::Folder(folder),
        })
    }
}

/// An open source for reading content.
pub(super) enum Opened<'a> {
    Mirror(Box<Contents>),
    Folder(&'a Path),
}

impl Opened<'_> {
    /// Reads the content of the file at `path`, which has `size` bytes. A changed size is an error: a
    /// process of the build still writes to the file.
    pub(super) fn read(
        &self,
        path: &[u8],
        blob: Option<BlobId>,
        size: u64,
        take: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> io::Result<()> {
        match (self, blob) {
            (Self::Mirror(contents), Some(blob)) => {
                let (_, mut content) = contents.open(blob).map_err(io::Error::other)?;
                take(&mut content)
            }
            (Self::Mirror(_), None) => Err(io::ErrorKind::NotFound.into()),
            (Self::Folder(folder), _) => {
                let path = folder.join(Path::new(std::ffi::OsStr::from_bytes(path)));
                let file = File::open(&path)?;
                if file.metadata()?.len() != size {
                    let told = format!("{} changed while it was sent", path.display());
                    return Err(io::Error::other(told));
                }
                take(&mut file.take(size))
            }
        }
    }
}

fn of_commit(
    snapshot: &Snapshot,
    contents: &Contents,
    previous: Option<&Manifest>,
    watch: &Watch<'_>,
) -> Result<Manifest, StepError> {
    let known = |path: &[u8], wanted: BlobId| match previous?.find(path)? {
        What::File {
            size,
            sum,
            cksum,
            blob,
            ..
        } if *blob == Some(wanted) => Some((*size, *sum, *cksum)),
        _ => None,
    };
    let (mut entries, mut piece) = (Vec::new(), vec![0; PIECE]);
    for (number, (path, item)) in snapshot.items().enumerate() {
        let path = path.as_os_str().as_bytes();
        let what = match item {
            Item::Folder => What::Folder { mode: 0o755 },
            Item::Link { target } => What::Link {
                target: target.as_os_str().as_bytes().into(),
            },
            Item::File { blob, executable } => {
                let (size, sum, cksum) = match known(path, blob) {
                    Some(known) => known,
                    None => {
                        let (size, mut content) = contents.open(blob)?;
                        let going = &mut || (watch.going)(number as u64);
                        let sums = sum_of(&mut content, &mut piece, going)?;
                        let (sum, cksum) = sums.map_err(StepError::Start)?;
                        (size, sum, cksum)
                    }
                };
                What::File {
                    mode: if executable { 0o755 } else { 0o644 },
                    size,
                    sum,
                    cksum,
                    time: 0,
                    blob: Some(blob),
                }
            }
        };
        entries.push(Entry {
            path: path.into(),
            what,
        });
        if number.is_multiple_of(256) {
            (watch.going)(number as u64)?;
        }
    }
    Ok(Manifest::of(entries))
}

/// Lists `folder` as `name/…`. A `.git` at the top is left out, and so are sockets, pipes and devices.
fn walk(
    folder: &Path,
    name: &Path,
    piece: &mut [u8],
    entries: &mut Vec<Entry>,
    watch: &Watch<'_>,
) -> Result<(), StepError> {
    (watch.going)(entries.len() as u64)?;
    for found in std::fs::read_dir(folder).map_err(StepError::file(folder))? {
        let found = found.map_err(StepError::file(folder))?;
        let (path, name) = (found.path(), name.join(found.file_name()));
        if name == Path::new(".git") {
            continue;
        }
        let metadata = path.symlink_metadata().map_err(StepError::file(&path))?;
        let what = if metadata.is_dir() {
            // The owner can always read a folder, since its content could not be verified otherwise.
            What::Folder {
                mode: mode(&metadata) | 0o500,
            }
        } else if metadata.is_file() {
            let mut file = File::open(&path).map_err(StepError::file(&path))?;
            let going = &mut || (watch.going)(entries.len() as u64);
            let sums = sum_of(&mut file, piece, going)?;
            let (sum, cksum) = sums.map_err(StepError::file(&path))?;
            What::File {
                mode: mode(&metadata),
                size: metadata.len(),
                sum,
                cksum,
                time: 0,
                blob: None,
            }
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(&path).map_err(StepError::file(&path))?;
            What::Link {
                target: target.as_os_str().as_bytes().into(),
            }
        } else {
            (watch.left_out)(&name);
            continue;
        };
        let is_folder = matches!(what, What::Folder { .. });
        entries.push(Entry {
            path: name.as_os_str().as_bytes().into(),
            what,
        });
        if is_folder {
            walk(&path, &name, piece, entries, watch)?;
        }
    }
    Ok(())
}

/// Refuses a link that leaves the tree, as for a commit.
fn check_links(entries: &[Entry]) -> Result<(), StepError> {
    let path = |bytes| Path::new(OsStr::from_bytes(bytes));
    let links: HashMap<&Path, &Path> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Link { target } => Some((path(&entry.path), path(target))),
            _ => None,
        })
        .collect();
    match refused_link(&links) {
        None => Ok(()),
        Some((link, _)) => Err(StepError::LinkOutside {
            target: links.get(link).copied().unwrap_or(link).to_owned(),
            path: link.to_owned(),
        }),
    }
}

/// The permission bits (0o777); a release carries no others.
fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o777
}

/// The checksums of a content, read through `piece`. The outer error is that of `going`.
fn sum_of(
    content: &mut dyn Read,
    piece: &mut [u8],
    going: &mut dyn FnMut() -> Result<(), StepError>,
) -> Result<io::Result<(Sum, u32)>, StepError> {
    let (mut digest, mut cksum) = (Sha256::new(), Cksum::new());
    loop {
        match content.read(piece) {
            Ok(0) => return Ok(Ok((digest.finalize().into(), cksum.finish()))),
            Ok(count) => {
                digest.update(&piece[..count]);
                cksum.update(&piece[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
        going()?;
    }
}
