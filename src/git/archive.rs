//! A commit's files as a tar stream, straight from the mirror, without a work tree in between.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::checkout::Checkout;
use super::commit::CommitId;
use super::content::Reader;
use super::error::GitError;
use super::mirror::Mirror;
use super::progress::Report;
use super::tree::{Extent, Kind, Tree, unsafe_path};

impl Mirror {
    /// Runs [`Tree::archive`] on the released files of `commit`.
    ///
    /// # Errors
    /// Those of [`Mirror::tree`] and [`Tree::archive`].
    pub fn archive<W: Write>(
        &self,
        commit: &CommitId,
        prefix: &str,
        writer: W,
    ) -> Result<Checkout, GitError> {
        let mut unheard = |_: &_| ControlFlow::Continue(());
        self.tree(commit, Extent::Released, &mut unheard)?
            .archive(prefix, writer, &mut unheard)
    }
}

impl Tree {
    /// Writes the files as a tar (GNU long names) to `writer`, each path below `prefix` (empty, or
    /// relative such as `app-1.0/`). Modes, owners (0) and times (the commit's) are fixed, so the
    /// same commit gives the same bytes. `progress` can stop it between two pieces; `writer` then
    /// keeps what it has.
    ///
    /// # Errors
    /// An object that cannot be read, [`GitError::Archive`] if `writer` fails, and
    /// [`GitError::Cancelled`].
    pub fn archive<W: Write>(
        &self,
        prefix: &str,
        writer: W,
        progress: Report<'_>,
    ) -> Result<Checkout, GitError> {
        let prefix = Path::new(prefix);
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !prefix.components().all(plain) {
            return Err(unsafe_path(
                &self.commit,
                prefix,
                "not a plain relative prefix",
            ));
        }
        let failed = |cause: io::Error| GitError::Archive {
            commit: self.commit.to_string(),
            cause,
        };
        let mut reader = Reader::new(self, progress);
        let mut archive = Builder::new(writer);
        for entry in &self.entries {
            let path = prefix.join(&entry.path);
            let mut header = header(&entry.kind, self.time);
            match &entry.kind {
                Kind::Folder => archive
                    .append_data(&mut header, path.join(""), io::empty())
                    .map_err(failed)?,
                Kind::Symlink { target } => {
                    append_symlink(&mut archive, &mut header, &path, target).map_err(failed)?;
                }
                Kind::File { size, .. } => {
                    header.set_size(*size);
                    // The header alone; the content follows in pieces.
                    archive
                        .append_data(&mut header, &path, io::empty())
                        .map_err(failed)?;
                    let out = archive.get_mut();
                    reader.read(entry, &mut |piece| out.write_all(piece).map_err(failed))?;
                    pad(out, *size).map_err(failed)?;
                }
            }
        }
        archive
            .into_inner()
            .and_then(|mut writer| writer.flush())
            .map_err(failed)?;
        Ok(reader.finish())
    }
}

/// Pads a content to a full block of 512 bytes.
fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    const BLOCK: [u8; 512] = [0; 512];
    let rest = usize::try_from(size % 512).unwrap_or_default();
    match rest {
        0 => Ok(()),
        rest => out.write_all(&BLOCK[rest..]),
    }
}

/// Writes a symlink. Short targets are written unchanged; `append_link` would normalise them
/// (`a//b`, `d/`).
fn append_symlink<W: Write>(
    archive: &mut Builder<W>,
    header: &mut Header,
    path: &Path,
    target: &Path,
) -> io::Result<()> {
    if header
        .set_link_name_literal(target.as_os_str().as_bytes())
        .is_ok()
    {
        archive.append_data(header, path, io::empty())
    } else {
        archive.append_link(header, path, target)
    }
}

fn header(kind: &Kind, time: u64) -> Header {
    let (entry_type, mode) = match kind {
        Kind::Folder => (EntryType::Directory, 0o755),
        Kind::Symlink { .. } => (EntryType::Symlink, 0o777),
        Kind::File { executable, .. } => {
            (EntryType::Regular, if *executable { 0o755 } else { 0o644 })
        }
    };
    let mut header = Header::new_gnu();
    header.set_entry_type(entry_type);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}
