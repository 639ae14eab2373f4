//! The scripts' work by SFTP, on a server without a shell.

use std::io;
use std::path::{Path, PathBuf};

use super::error::StepError;
use super::said::refusal::{NOT_A_LINK, NOT_REPLACED, RELEASE_GONE, Refusal};
use super::script::Keep;
use super::script::folders::{GONE, Left, Owner};
use crate::ssh::{Cancel, Cause, Connection, Files, Kind, SshError};
use crate::store::ReleaseId;
use crate::store::nodes::Sent;

/// The size limit of an `owner` file, in bytes. Larger files are not read.
const LONGEST_OWNER: usize = 4096;

/// Points `current` to an existing release, as [`script::switch`](super::script::switch) does.
pub(super) fn switch(
    connection: &Connection,
    base: &str,
    release: ReleaseId,
    cancel: &Cancel,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), StepError> {
    let mut files = connection.files(cancel)?;
    let base = Path::new(base);
    let target = Path::new("releases").join(release.to_string());
    let current = base.join("current");
    let named = current.to_string_lossy();
    if !files
        .look(&base.join(&target))?
        .is_some_and(|found| found.is_folder())
    {
        return Err(Refusal::of(RELEASE_GONE, &[&release.to_string()]).into());
    }
    match files.look(&current)? {
        None => on_line("before: nothing"),
        Some(found) if found.kind == Kind::Link => {
            let before = files.link_target(&current)?;
            on_line(&format!("before: {}", before.display()));
        }
        Some(_) => return Err(Refusal::of(NOT_A_LINK, &[&named]).into()),
    }
    let new = base.join(format!("current.{release}.new"));
    files.remove_all(&new)?;
    files.make_link(&new, &target)?;
    // A server that cannot replace a file by rename can still rename to a free name.
    if !files.replace(&new, &current)? && files.rename(&new, &current).is_err() {
        files.remove(&new)?;
        return Err(Refusal::of(NOT_REPLACED, &[&named]).into());
    }
    on_line(&format!("now: {}", files.link_target(&current)?.display()));
    Ok(())
}

/// Removes releases that are no longer kept, as [`script::prune`](super::script::prune) does. Returns
/// the paths that could not be removed.
pub(super) fn prune(
    connection: &Connection,
    base: &str,
    keep: &Keep<'_>,
    cancel: &Cancel,
    on_line: &mut dyn FnMut(&str),
) -> Result<Vec<Left>, StepError> {
    let files = connection.files(cancel)?;
    let releases = Folder {
        files: &files,
        path: Path::new(base).join("releases"),
        owner: keep.owner,
    };
    let live = files.real(&Path::new(base).join("current")).ok();
    let mut left = releases.drop_parts()?;
    let mut there = Vec::new();
    for sent in keep.sent {
        let place = releases.path.join(sent.release.to_string());
        let is_there = files.look(&place)?.is_some_and(|found| found.is_folder());
        if is_there && releases.owns(sent.release)? && files.real(&place).ok() != live {
            there.push(*sent);
        }
    }
    for id in goes(&there, keep.count) {
        on_line(&format!("removing release {id}"));
        match releases.discard(&id.to_string())? {
            Some(stays) => left.push(stays),
            None => left.extend(releases.discard(&format!(".{id}"))?),
        }
    }
    left.extend(releases.sweep()?);
    Ok(left)
}

/// Selects the releases to remove, besides the live one: those that did not get through, and all but
/// the newest. `there` is sorted newest first.
fn goes(there: &[Sent], keep: i32) -> Vec<ReleaseId> {
    let beside_live = usize::try_from(keep).unwrap_or_default().saturating_sub(1);
    let failed = there.iter().filter(|sent| !sent.is_whole);
    let old = there.iter().filter(|sent| sent.is_whole).skip(beside_live);
    failed.chain(old).map(|sent| sent.release).collect()
}

/// A project's `releases` on a server, as [`script::folders`](super::script::folders) describes it.
pub(super) struct Folder<'a> {
    pub(super) files: &'a Files<'a>,
    pub(super) path: PathBuf,
    pub(super) owner: &'a Owner,
}

impl Folder<'_> {
    /// True if this installation's project owns the release.
    pub(super) fn owns(&self, release: ReleaseId) -> Result<bool, SshError> {
        let line = self.owner_in(&self.path.join(format!(".{release}")))?;
        Ok(self.owner.has(release, line.as_deref()))
    }

    /// The owner line in a release's record.
    fn owner_in(&self, record: &Path) -> Result<Option<String>, SshError> {
        let (file, mut line) = (record.join("owner"), Vec::new());
        match self.files.look(&file)? {
            Some(found) if found.kind == Kind::File && found.length <= LONGEST_OWNER as u64 => {}
            _ => return Ok(None),
        }
        let untaken = |cause: io::Error| Cause::Output { cause };
        self.files.read(&file, &mut line, &mut |_| {}, &untaken)?;
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// Renames the entry `name` for removal by the next [`sweep`](Self::sweep). Returns it if it
    /// cannot be renamed.
    pub(super) fn discard(&self, name: &str) -> Result<Option<Left>, SshError> {
        let place = self.path.join(name);
        if self.files.look(&place)?.is_none() {
            return Ok(None);
        }
        let aside = self.aside(&format!("{GONE}{name}-"))?;
        match self.files.rename(&place, &aside) {
            Ok(()) => Ok(None),
            Err(error) => left(name, error).map(Some),
        }
    }

    /// A free name with this prefix.
    pub(super) fn aside(&self, beginning: &str) -> Result<PathBuf, SshError> {
        let mut turn = 1;
        loop {
            let place = self.path.join(format!("{beginning}{turn}"));
            if self.files.look(&place)?.is_none() {
                return Ok(place);
            }
            turn += 1;
        }
    }

    /// A free name for the folder in which a release arrives.
    pub(super) fn free_part(&self, release: ReleaseId) -> Result<PathBuf, SshError> {
        let part = self.path.join(format!("{release}.part"));
        match self.files.look(&part)? {
            None => Ok(part),
            Some(_) => self.aside(&format!("{release}.part-")),
        }
    }

    /// Removes this project's half-sent releases.
    pub(super) fn drop_parts(&self) -> Result<Vec<Left>, SshError> {
        let mut stays = Vec::new();
        for (name, found) in self.files.list(&self.path)? {
            let Some(name) = name.to_str().filter(|_| found.is_folder()) else {
                continue;
            };
            let Some(id) = name.split_once(".part").and_then(|(id, _)| id.parse().ok()) else {
                continue;
            };
            let line = self.owner_in(&self.path.join(name).join(format!(".{}", ReleaseId(id))))?;
            // A folder without an owner is from an earlier version.
            if line.is_none() || self.owner.has(ReleaseId(id), line.as_deref()) {
                stays.extend(self.discard(name)?);
            }
        }
        Ok(stays)
    }

    /// Removes entries that are renamed for removal. Returns those that could not be removed.
    pub(super) fn sweep(&self) -> Result<Vec<Left>, SshError> {
        let mut stays = Vec::new();
        for (name, _) in self.files.list(&self.path)? {
            let is_gone = name.to_str().is_some_and(|name| name.starts_with(GONE));
            if is_gone && let Err(error) = self.files.remove_all(&self.path.join(&name)) {
                stays.push(left(&name.to_string_lossy(), error)?);
            }
        }
        Ok(stays)
    }
}

/// Turns a fault of a path into an entry that stays. Other errors belong to the connection.
fn left(name: &str, error: SshError) -> Result<Left, SshError> {
    match error.cause {
        Cause::RemoteFile { ref reason, .. } => Ok(Left {
            name: name.to_owned(),
            reason: reason.clone(),
        }),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_what_did_not_get_through_goes() {
        let there: Vec<Sent> = [11, 10, 9, 8, 3]
            .into_iter()
            .map(|id| Sent {
                release: ReleaseId(id),
                is_whole: id != 11 && id != 8,
            })
            .collect();
        let gone = |keep| {
            let ids = goes(&there, keep).into_iter();
            ids.map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(gone(2), [11, 8, 9, 3]);
        assert_eq!(gone(9), [11, 8]);
        assert_eq!(gone(0), [11, 8, 10, 9, 3]);
    }
}
