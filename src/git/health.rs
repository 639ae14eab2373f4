//! Checks that a mirror is intact. Leftovers of a killed fetch are removed, and a mirror that
//! cannot be trusted is rebuilt.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use git2::{ErrorCode, Odb, Oid, Repository};
use longshore_ownership::open_every_owner;

use super::error::GitError;
use super::object::{self, CommitObject};
use super::progress::{Progress, Pulse, Report};
use super::url::RepoUrl;

/// The file that marks a mirror as damaged: an object could not be read, so the next fetch rebuilds
/// it.
const MARK: &str = "longshore-damaged";
/// The length of the hash at the end of a pack, in bytes.
const HASH_LENGTH: usize = 20;

/// Marks the mirror as damaged. Best effort: the caller reports the original error.
pub(super) fn mark(mirror: &Path) {
    let _ = File::create(mirror.join(MARK));
}

/// Removes lock files and partial packs that a killed fetch left. Call it only under the mirror's
/// lock, which excludes other writers.
pub(super) fn sweep(mirror: &Path) -> Result<(), GitError> {
    sweep_folder(mirror).map_err(|cause| GitError::disk(mirror, cause))
}

fn sweep_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            // Loose objects are written elsewhere and renamed; their folders hold nothing to
            // remove.
            if name.len() != 2 {
                sweep_folder(&entry.path())?;
            }
        } else if name.ends_with(".lock") || name.starts_with("pack_git2_") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Runs the cheap checks: every pack has the length and ends with the hash that its index names,
/// and every name leads to a commit whose tree exists. `progress` can stop a long check.
pub(super) fn check(mirror: &Path, url: &RepoUrl, progress: Report<'_>) -> Result<(), GitError> {
    let damaged = |reason: String| GitError::BrokenMirror {
        url: url.as_str().to_owned(),
        reason,
    };
    if mirror.join(MARK).exists() {
        return Err(damaged("an object could not be read".to_owned()));
    }
    check_packs(&mirror.join("objects/pack")).map_err(|error| damaged(error.to_string()))?;
    let mut pulse = Pulse::new(progress);
    check_names(mirror, &mut pulse)?.map_err(|error| damaged(error.message().to_owned()))
}

fn check_packs(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let index = entry?.path();
        if index.extension().is_none_or(|extension| extension != "idx") {
            continue;
        }
        // An index ends with the pack's hash and its own (gitformat-pack(5)).
        let indexed = last_bytes(&index, 2 * HASH_LENGTH)?;
        let pack = last_bytes(&index.with_extension("pack"), HASH_LENGTH)?;
        if indexed[..HASH_LENGTH] != pack {
            return Err(io::Error::other("a pack and its index do not fit"));
        }
    }
    Ok(())
}

fn last_bytes(path: &Path, length: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let offset = i64::try_from(length).map_err(io::Error::other)?;
    file.seek(SeekFrom::End(-offset))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The outer error is a cancellation.
fn check_names(mirror: &Path, pulse: &mut Pulse<'_>) -> Result<Result<(), git2::Error>, GitError> {
    open_every_owner();
    let names = Repository::open_bare(mirror).and_then(|repository| {
        let names: Result<Vec<Option<Oid>>, git2::Error> = repository
            .references()?
            .map(|reference| Ok(reference?.target()))
            .collect();
        Ok((names?, repository))
    });
    let (names, repository) = match names {
        Ok(names) => names,
        Err(error) => return Ok(Err(error)),
    };
    let odb = match repository.odb() {
        Ok(odb) => odb,
        Err(error) => return Ok(Err(error)),
    };
    for target in names.into_iter().flatten() {
        pulse.beat(Progress::default)?;
        if let Err(error) = leads_somewhere(&odb, target) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Checks that a name leads somewhere. A tag may name a tree or a file. A malformed commit came
/// from the host in that form, and is no damage.
fn leads_somewhere(odb: &Odb<'_>, target: Oid) -> Result<(), git2::Error> {
    let Some(id) = object::commit_of(odb, target)? else {
        return Ok(());
    };
    match CommitObject::read(odb, id) {
        Ok(commit) => odb.read(commit.tree).map(drop),
        Err(error) if error.code() == ErrorCode::Invalid => Ok(()),
        Err(error) => Err(error),
    }
}
