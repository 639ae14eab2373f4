//! A preview of a release: the servers, the live commit, the commit that would be live, and the
//! distance between them. Changes nothing, and contacts neither the git host nor a server.

use super::engine::Engine;
use super::error::DeployError;
use crate::git::{Commit, CommitId, Distance};
use crate::store::projects::{self, Project};
use crate::store::releases::{self, Release};
use crate::store::servers::{self, Server};
use crate::store::{ProjectId, ReleaseId, ReleaseState, nodes};

/// A requested change of the live release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A release of a branch, tag or commit.
    Deploy {
        /// The project.
        project: ProjectId,
        /// The branch, tag or commit.
        revision: String,
    },
    /// A repetition of an earlier release.
    Redeploy(ReleaseId),
    /// A rollback to the files of an earlier release.
    RollBack(ReleaseId),
}

/// The files that a project's servers have.
#[derive(Clone, Debug)]
pub enum Live {
    /// Nothing was released yet.
    Nothing,
    /// All of them have this release's files.
    Release(Box<Release>),
    /// A release after this one, the last to succeed, has changed some of them.
    Mixed(Box<Release>),
}

impl Live {
    /// The last release that succeeded.
    pub fn release(&self) -> Option<&Release> {
        match self {
            Self::Nothing => None,
            Self::Release(release) | Self::Mixed(release) => Some(release),
        }
    }
}

/// A preview of a release, see the module.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The project as it is now.
    pub project: Project,
    /// Its servers.
    pub servers: Vec<Server>,
    /// The files that they have now.
    pub live: Live,
    /// The requested branch, tag or commit. For a rollback, that of its target.
    pub revision: String,
    /// A rollback's target.
    pub target: Option<ReleaseId>,
    /// The commit that the servers would get, if the mirror has it.
    pub commit: Option<Commit>,
    /// The commits between the live commit and that one, if the mirror has both.
    pub distance: Option<Distance>,
}

impl Engine {
    /// Previews `change`, as far as the mirror and the database know.
    ///
    /// # Errors
    /// The project or the release does not exist, or the database fails.
    pub fn preview(&self, change: &Change) -> Result<Preview, DeployError> {
        let (project, revision, target) = self.aim(change)?;
        let (project, servers, last, live) = self.0.store.read(|conn| {
            Ok((
                projects::find(conn, project)?,
                servers::of_project(conn, project)?,
                releases::last_success(conn, project)?.map(Box::new),
                releases::live(conn, project)?,
            ))
        })?;
        let live = match last {
            None => Live::Nothing,
            Some(last) if live == Some(last.id) => Live::Release(last),
            Some(last) => Live::Mixed(last),
        };
        let mirror = self.0.mirrors.mirror(self.0.keyring.source(&project)?);
        // Without a mirror, or a mirror without the revision, commit and distance stay unknown.
        let commit = mirror.resolve(&revision).ok();
        let from = live
            .release()
            .and_then(|release| CommitId::parse(release.commit_id.as_deref()?).ok());
        let distance = from
            .zip(commit.as_ref())
            .and_then(|(from, to)| mirror.distance(&from, &to.id).ok().flatten());
        Ok(Preview {
            project,
            servers,
            live,
            revision,
            target,
            commit,
            distance,
        })
    }

    /// The project of `change`, the revision, and the target of a rollback.
    fn aim(&self, change: &Change) -> Result<(ProjectId, String, Option<ReleaseId>), DeployError> {
        let find = |id| self.0.store.read(|conn| releases::find(conn, id));
        let named = |release: Release| release.commit_id.unwrap_or(release.revision);
        let id = match change {
            Change::Deploy { project, revision } => {
                return Ok((*project, revision.clone(), None));
            }
            Change::Redeploy(id) | Change::RollBack(id) => *id,
        };
        let asked = find(id)?;
        let is_rollback = matches!(change, Change::RollBack(_)) || asked.target_id.is_some();
        let files = match asked.target_id {
            Some(target) => find(target)?,
            None => asked,
        };
        let target = is_rollback.then_some(files.id);
        Ok((files.project_id, named(files), target))
    }

    /// The rollback target that the page of `release` offers. For a project's newest release: the one
    /// that was live before it. For an older one: itself, if it succeeded. `None` if the target is
    /// live already or no server has its files.
    ///
    /// # Errors
    /// The database fails.
    pub fn rollback_target(&self, release: &Release) -> Result<Option<Release>, DeployError> {
        let project = release.project_id;
        let offered = self.0.store.read(|conn| {
            let newest = releases::newest_of(conn, &[project])?;
            let is_newest = newest
                .get(&project)
                .is_some_and(|(id, _)| *id == release.id);
            let target = if is_newest {
                releases::live_before(conn, release)?
            } else if release.state == ReleaseState::Succeeded {
                let files = release.target_id.unwrap_or(release.id);
                Some(releases::find(conn, files)?)
            } else {
                None
            };
            let Some(target) = target else {
                return Ok(None);
            };
            let is_live = releases::live(conn, project)? == Some(target.id);
            let is_kept = !nodes::servers_reached(conn, target.id)?.is_empty();
            Ok((is_kept && !is_live).then_some(target))
        })?;
        Ok(offered)
    }
}
