//! What a project's repository has to offer: branches, tags, commits.
//!
//! What the mirror has is answered at once, with its age; a fetch goes on beside it, and the project's
//! room tells when it is done. Only what the mirror does not have is waited for, and on no thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::engine::Engine;
use super::error::DeployError;
use super::fetches::{Extent, OnEnd, Outcome};
use super::recorder;
use crate::git::{Commit, GitError, Mirror, Refs, check_revision};
use crate::store::{Moment, ProjectId, Store, projects};

/// How old a mirror may be for its commits to be listed without a fetch: who picks a branch looks at
/// several within seconds.
const FRESH: Duration = Duration::from_secs(15);
/// How long an answer from the mirror waits for the fetch beside it: most are done by then, so that
/// most answers are of this moment.
const GRACE: Duration = Duration::from_millis(700);
/// How long is waited for the first fetch, without which there is nothing to show.
const FIRST: Duration = Duration::from_secs(10);
/// How long is waited for commits that the mirror does not have.
const LONGEST: Duration = Duration::from_secs(60);

/// How new the names are to be that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Those that are here, with a fetch beside that is waited for a moment; without any here, 10 s.
    Usual,
    /// Those that are here. Nothing is fetched.
    Known,
    /// Those of a fetch, where it ends within so long.
    Within(Duration),
}

/// A repository's names, and their age.
#[derive(Clone, Debug)]
pub struct KnownRefs {
    /// The names; none where nothing was fetched yet.
    pub refs: Refs,
    /// When they were fetched; none: never.
    pub fetched_at: Option<Moment>,
    /// Whether a fetch goes on, whose end the project's room tells.
    pub fetching: bool,
    /// Why the last fetch failed, where it did.
    pub error: Option<Arc<GitError>>,
}

/// Tells the projects' rooms of each fetch's end.
pub(super) fn on_fetched(store: &Store) -> OnEnd {
    let store = store.clone();
    Box::new(
        move |projects: &BTreeSet<ProjectId>, mirror: &Mirror, outcome: &Outcome| {
            let fetched_at = mirror.fetched_at().map(Moment::of_system);
            let told = recorder::announce_refs(&store, projects, fetched_at, outcome.is_ok());
            if let Err(error) = told {
                tracing::warn!(%error, "a fetch's end could not be told");
            }
        },
    )
}

/// A mirror as it is now.
struct Found {
    mirror: Mirror,
    fetched_at: Option<SystemTime>,
}

impl Found {
    fn is_fresh(&self) -> bool {
        let age = self.fetched_at.and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age < FRESH)
    }
}

impl Engine {
    /// The branches and tags of a project's repository.
    ///
    /// # Errors
    /// [`DeployError::Fetch`] where nothing was fetched yet and that fails.
    pub async fn refs(
        &self,
        project: ProjectId,
        freshness: Freshness,
    ) -> Result<KnownRefs, DeployError> {
        let found = self.find_mirror(project).await?;
        let patience = match (freshness, found.fetched_at) {
            (Freshness::Known, _) => None,
            (Freshness::Within(longest), _) => Some(longest),
            (Freshness::Usual, Some(_)) => Some(GRACE),
            (Freshness::Usual, None) => Some(FIRST),
        };
        if let Some(patience) = patience {
            let fetch = &found.mirror;
            let mut waiter = self
                .0
                .fetches
                .join(project, fetch.clone(), Extent::Configured)?;
            waiter.end_within(patience).await;
        }
        self.known_refs(found.mirror).await
    }

    async fn known_refs(&self, mirror: Mirror) -> Result<KnownRefs, DeployError> {
        let fetching = self.0.fetches.is_fetching(&mirror);
        let last = self.0.fetches.last(&mirror);
        let error = last.and_then(|last| last.outcome.err());
        let read = move || {
            let fetched_at = mirror.fetched_at();
            (mirror.refs(), fetched_at)
        };
        let (refs, fetched_at) = self.options().pools.mirrors.run(read).await?;
        let refs = match (refs, &error) {
            (Err(GitError::NotFetched { .. }), Some(error)) if !fetching => {
                return Err(DeployError::Fetch(Arc::clone(error)));
            }
            (Err(GitError::NotFetched { .. }), _) => Refs::default(),
            (refs, _) => refs?,
        };
        Ok(KnownRefs {
            refs,
            fetched_at: fetched_at.map(Moment::of_system),
            fetching,
            error,
        })
    }

    /// The last `limit` commits of `revision`, newest first; without one, of the repository's default
    /// branch. Waits for a fetch where the mirror does not have the revision.
    ///
    /// # Errors
    /// [`DeployError::Fetching`] where that fetch takes longer than a minute.
    pub async fn commits(
        &self,
        project: ProjectId,
        revision: Option<String>,
        limit: usize,
    ) -> Result<Vec<Commit>, DeployError> {
        if let Some(revision) = &revision {
            check_revision(revision)?;
        }
        let found = self.find_mirror(project).await?;
        let wanted = Wanted { revision, limit };
        if let Some(commits) = self.known_commits(&found.mirror, &wanted).await? {
            if found.is_fresh() || self.was_tried(&found.mirror) {
                return Ok(commits);
            }
            return match self
                .wait(project, &found.mirror, Extent::Configured, GRACE)
                .await
            {
                Ok(()) => Ok(self
                    .known_commits(&found.mirror, &wanted)
                    .await?
                    .unwrap_or_default()),
                // The room tells of it, and the names' own answer.
                Err(_) => Ok(commits),
            };
        }
        self.wait(project, &found.mirror, Extent::Configured, LONGEST)
            .await?;
        if let Some(commits) = self.known_commits(&found.mirror, &wanted).await? {
            return Ok(commits);
        }
        // It may lie below the project's depth.
        if found.mirror.is_shallow() {
            self.wait(project, &found.mirror, Extent::Whole, LONGEST)
                .await?;
        }
        let mirror = found.mirror;
        let read = move || wanted.read(&mirror);
        Ok(self.options().pools.mirrors.run(read).await??)
    }

    /// Whether a fetch was tried a moment ago, or goes on.
    fn was_tried(&self, mirror: &Mirror) -> bool {
        let is_new = |at: Instant| at.elapsed() < FRESH;
        let last = self.0.fetches.last(mirror);
        self.0.fetches.is_fetching(mirror) || last.is_some_and(|last| is_new(last.at))
    }

    async fn wait(
        &self,
        project: ProjectId,
        mirror: &Mirror,
        extent: Extent,
        longest: Duration,
    ) -> Result<(), DeployError> {
        let mut waiter = self.0.fetches.join(project, mirror.clone(), extent)?;
        let ended = waiter.end_within(longest).await;
        ended.unwrap_or(Err(DeployError::Fetching))
    }

    /// None where the mirror does not have the revision.
    async fn known_commits(
        &self,
        mirror: &Mirror,
        wanted: &Wanted,
    ) -> Result<Option<Vec<Commit>>, DeployError> {
        let (mirror, wanted) = (mirror.clone(), wanted.clone());
        let read = move || wanted.read(&mirror);
        match self.options().pools.mirrors.run(read).await? {
            Err(GitError::NotFetched { .. }) => Ok(None),
            Err(error) if error.is_unknown() => Ok(None),
            read => Ok(Some(read?)),
        }
    }

    /// Fetches a project's repository; gives its names.
    pub(super) async fn fetch_now(&self, project: ProjectId) -> Result<Refs, DeployError> {
        let mirror = self.find_mirror(project).await?.mirror;
        let mut waiter = self
            .0
            .fetches
            .join(project, mirror.clone(), Extent::Configured)?;
        waiter.end().await?;
        let read = move || mirror.refs();
        Ok(self.options().pools.mirrors.run(read).await??)
    }

    /// Removes the mirrors that no project has any more and that were not used for `unused`: of
    /// deleted projects, of addresses and logins that were changed. Gives how many. Blocking.
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

    async fn find_mirror(&self, project: ProjectId) -> Result<Found, DeployError> {
        let engine = self.clone();
        let find = move || -> Result<Found, DeployError> {
            let project = engine.0.store.read(|conn| projects::find(conn, project))?;
            let mirror = engine.0.mirrors.mirror(engine.0.keyring.source(&project)?);
            let fetched_at = mirror.fetched_at();
            Ok(Found { mirror, fetched_at })
        };
        self.options().pools.database.run(find).await?
    }
}

/// Commits that are asked for.
#[derive(Clone)]
struct Wanted {
    revision: Option<String>,
    limit: usize,
}

impl Wanted {
    fn read(&self, mirror: &Mirror) -> Result<Vec<Commit>, GitError> {
        let default = || Ok::<_, GitError>(mirror.refs()?.default_branch);
        let revision = match &self.revision {
            Some(revision) => Some(revision.clone()),
            None => default()?,
        };
        match revision {
            Some(revision) => mirror.commits(&revision, self.limit),
            None => Ok(Vec::new()),
        }
    }
}
