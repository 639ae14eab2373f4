//! A look at a release before it is asked for: the servers, the commit that is live, the one that would
//! be, and how far they are apart. Changes nothing, and asks neither the git host nor a server.

use super::engine::Engine;
use super::error::DeployError;
use crate::git::{Commit, CommitId, Distance};
use crate::store::projects::{self, Project};
use crate::store::releases::{self, Release};
use crate::store::servers::{self, Server};
use crate::store::{ProjectId, ReleaseId, ReleaseState, nodes};

/// A change of what is live that somebody may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A release of a branch, tag or commit.
    Deploy {
        /// The project.
        project: ProjectId,
        /// The branch, tag or commit.
        revision: String,
    },
    /// The same as an earlier release once more.
    Redeploy(ReleaseId),
    /// Back to the files of an earlier release.
    RollBack(ReleaseId),
}

/// The files that a project's servers have.
#[derive(Clone, Debug)]
pub enum Live {
    /// Nothing was released yet.
    Nothing,
    /// All of them have this release's.
    Release(Box<Release>),
    /// A later release than this one, the last to succeed, has changed some of them.
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

/// See the module.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The project as it is now.
    pub project: Project,
    /// Its servers.
    pub servers: Vec<Server>,
    /// What they have now.
    pub live: Live,
    /// The branch, tag or commit that was asked for; of a rollback, that of the release it leads to.
    pub revision: String,
    /// A rollback's target.
    pub target: Option<ReleaseId>,
    /// The commit that the servers would get, where the mirror knows it already.
    pub commit: Option<Commit>,
    /// The commits between what is live and that commit, where the mirror has both.
    pub distance: Option<Distance>,
}

impl Engine {
    /// What `change` would do, as far as it is known here.
    ///
    /// # Errors
    /// Where the project or the release does not exist, and those of the database.
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
        // A mirror that is not there yet, or does not know the revision, leaves both unsaid.
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

    /// The project that `change` is about, the revision, and the release that a rollback leads to.
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

    /// The release that the page of `release` offers to go back to: of a project's newest release the
    /// one that was live before it, of an older one itself where it succeeded. `None` where that is
    /// live already or no server has its files.
    ///
    /// # Errors
    /// Those of the database.
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
