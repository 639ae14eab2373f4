//! What our scripts do on a server, where it has no shell to run them: by SFTP.

use std::path::Path;

use super::error::StepError;
use super::said::refusal::{NOT_A_LINK, NOT_REPLACED, RELEASE_GONE, Refusal};
use crate::ssh::{Cancel, Connection, Files, Kind, SshError};
use crate::store::ReleaseId;

/// Points `current` to a release that is there, as [`script::switch`](super::script::switch) does.
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
    // Where the server cannot replace, its plain rename still does where nothing is there yet.
    if !files.replace(&new, &current)? && files.rename(&new, &current).is_err() {
        files.remove(&new)?;
        return Err(Refusal::of(NOT_REPLACED, &[&named]).into());
    }
    on_line(&format!("now: {}", files.link_target(&current)?.display()));
    Ok(())
}

/// Removes what is no longer kept, as [`script::prune`](super::script::prune) does.
pub(super) fn prune(
    connection: &Connection,
    base: &str,
    keep: i32,
    failed: &[ReleaseId],
    cancel: &Cancel,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), StepError> {
    let files = connection.files(cancel)?;
    let releases = Path::new(base).join("releases");
    drop_parts(&files, &releases)?;
    let live = files.link_target(&Path::new(base).join("current"));
    let live = live.ok().and_then(|target| {
        let name = target.strip_prefix("releases").ok()?.to_str()?;
        name.parse().ok().map(ReleaseId)
    });
    let there: Vec<ReleaseId> = files
        .list(&releases)?
        .iter()
        .filter(|(_, found)| found.is_folder())
        .filter_map(|(name, _)| name.to_str()?.parse().ok().map(ReleaseId))
        .collect();
    for id in goes(there, live, keep, failed) {
        on_line(&format!("removing release {id}"));
        files.remove_all(&releases.join(id.to_string()))?;
        files.remove_all(&releases.join(format!(".{id}")))?;
    }
    Ok(())
}

/// Which of the releases that are there go: the failed ones, and all but the newest `keep`; never the
/// live one.
fn goes(
    mut there: Vec<ReleaseId>,
    live: Option<ReleaseId>,
    keep: i32,
    failed: &[ReleaseId],
) -> Vec<ReleaseId> {
    there.sort_unstable_by_key(|id| std::cmp::Reverse(id.0));
    there.retain(|id| Some(*id) != live);
    let (mut gone, kept): (Vec<_>, Vec<_>) = there.into_iter().partition(|id| failed.contains(id));
    let beside_live = usize::try_from(keep).unwrap_or_default().saturating_sub(1);
    gone.extend(kept.into_iter().skip(beside_live));
    gone
}

/// Removes half-sent releases, which are nobody's: a project has one active release.
pub(super) fn drop_parts(files: &Files<'_>, releases: &Path) -> Result<(), SshError> {
    for (name, _) in files.list(releases)? {
        let id = name.to_str().and_then(|name| name.strip_suffix(".part"));
        if id.is_some_and(|id| id.parse::<u64>().is_ok()) {
            files.remove_all(&releases.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_so_does_the_live_one() {
        let ids = |ids: &[i64]| ids.iter().copied().map(ReleaseId).collect::<Vec<_>>();
        let there = || ids(&[3, 11, 8, 10, 9]);
        let gone = |live, keep, failed: &[i64]| goes(there(), live, keep, &ids(failed));
        assert_eq!(gone(Some(ReleaseId(3)), 2, &[]), ids(&[10, 9, 8]));
        assert_eq!(gone(Some(ReleaseId(8)), 2, &[11, 8]), ids(&[11, 9, 3]));
        assert_eq!(gone(None, 9, &[]), ids(&[]));
        assert_eq!(gone(Some(ReleaseId(11)), 0, &[]), ids(&[10, 9, 8, 3]));
    }
}
