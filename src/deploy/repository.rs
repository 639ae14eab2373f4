//! What a project's repository has to offer: branches, tags, commits.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::error::DeployError;
use crate::git::{Commit, GitError, Mirror, Refs, check_revision};
use crate::store::{ProjectId, projects};

/// How old a mirror may be for its commits to be listed without a fetch: who picks a branch looks at
/// several within seconds.
const FRESH: Duration = Duration::from_secs(15);

/// When each project's mirror was last fetched for its lists.
#[derive(Default)]
pub(super) struct Fetched(Mutex<HashMap<ProjectId, Instant>>);

impl Fetched {
    fn is_fresh(&self, project: ProjectId) -> bool {
        let fetched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fetched
            .get(&project)
            .is_some_and(|fetched| fetched.elapsed() < FRESH)
    }

    fn note(&self, project: ProjectId) {
        let mut fetched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.retain(|_, fetched| fetched.elapsed() < FRESH);
        fetched.insert(project, Instant::now());
    }
}

impl Engine {
    /// The branches and tags of a project's repository, fetched now.
    pub fn refs(&self, project: ProjectId) -> Result<Refs, DeployError> {
        Ok(self.fetched(project)?.refs()?)
    }

    /// The last `limit` commits of `revision`, newest first. Fetches first, unless that was done
    /// within the last seconds and brought the revision.
    pub fn commits(
        &self,
        project: ProjectId,
        revision: &str,
        limit: usize,
    ) -> Result<Vec<Commit>, DeployError> {
        check_revision(revision)?;
        if self.0.fetched.is_fresh(project) {
            match self.mirror(project)?.commits(revision, limit) {
                Err(GitError::NotFetched { .. }) => {}
                Err(error) if error.is_unknown() => {}
                result => return Ok(result?),
            }
        }
        let mirror = self.fetched(project)?;
        // It may lie below the project's depth.
        mirror.find(revision, &mut |_| ControlFlow::Continue(()))?;
        Ok(mirror.commits(revision, limit)?)
    }

    /// Removes the mirrors that no project has any more and that were not used for `unused`: of
    /// deleted projects, of addresses and logins that were changed. Gives how many.
    pub fn sweep_mirrors(&self, unused: Duration) -> Result<u64, DeployError> {
        let mut used = Vec::new();
        for project in self.0.store.read(projects::all)? {
            match self.0.keyring.source(&project) {
                Ok(source) => used.push(source),
                // What cannot be fetched has no mirror that could be used.
                Err(DeployError::Git(GitError::Url(_)) | DeployError::WrongCredential { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.0.mirrors.sweep(&used, unused)?)
    }

    /// The project's mirror, brought up to date.
    fn fetched(&self, project: ProjectId) -> Result<Mirror, DeployError> {
        let mirror = self.mirror(project)?;
        mirror.fetch(&mut |_| ControlFlow::Continue(()))?;
        self.0.fetched.note(project);
        Ok(mirror)
    }

    fn mirror(&self, project: ProjectId) -> Result<Mirror, DeployError> {
        let project = self.0.store.read(|conn| projects::find(conn, project))?;
        Ok(self.0.mirrors.mirror(self.0.keyring.source(&project)?))
    }
}
