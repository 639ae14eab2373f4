//! A commit's files as a tar stream, straight from the mirror: no work tree in between.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::checkout::Checkout;
use super::commit::CommitId;
use super::error::GitError;
use super::mirror::Mirror;
use super::tree::{Entry, Kind, unsafe_path};

impl Mirror {
    /// Writes the files of `commit` as a tar (GNU long names) to `writer`, each path below
    /// `prefix` (empty, or relative such as `app-1.0/`). Modes, owners (0) and times (the
    /// commit's) are fixed, so that the same commit gives the same bytes. Trees are refused as by
    /// [`checkout`](Self::checkout), before the first byte.
    pub fn archive<W: Write>(
        &self,
        commit: &CommitId,
        prefix: &str,
        writer: W,
    ) -> Result<Checkout, GitError> {
        let prefix = Path::new(prefix);
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !prefix.components().all(plain) {
            return Err(unsafe_path(commit, prefix, "not a plain relative prefix"));
        }
        let repository = self.open()?;
        let entries = self.entries(&repository, commit)?;
        let time = repository
            .find_commit(commit.0)
            .map_err(|error| self.broken(&error))?
            .time()
            .seconds();
        let time = u64::try_from(time).unwrap_or_default();
        let failed = |cause: io::Error| GitError::Archive {
            commit: commit.to_string(),
            cause,
        };
        let mut archive = Builder::new(writer);
        let mut done = Checkout::default();
        for Entry { path, kind } in &entries {
            let path = prefix.join(path);
            let mut header = header(kind, time);
            match kind {
                Kind::Folder => archive
                    .append_data(&mut header, path.join(""), io::empty())
                    .map_err(failed)?,
                Kind::Symlink { target } => {
                    append_symlink(&mut archive, &mut header, &path, target).map_err(failed)?;
                    done.files += 1;
                }
                Kind::File { blob, .. } => {
                    let content = self.content(&repository, *blob)?;
                    header.set_size(content.size() as u64);
                    archive
                        .append_data(&mut header, &path, content.content())
                        .map_err(failed)?;
                    done.files += 1;
                    done.bytes += content.size() as u64;
                }
            }
        }
        archive
            .into_inner()
            .and_then(|mut writer| writer.flush())
            .map_err(failed)?;
        Ok(done)
    }
}

/// Short targets are written as they are; `append_link` would tidy them (`a//b`, `d/`).
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
