//! Branches, tags and commits of a project's repository.
//!
//! The mirror answers at once, with its age. A fetch runs at the same time, and the project's room
//! announces its end. Only data that the mirror lacks is waited for, without blocking a thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::engine::Engine;
use super::error::DeployError;
use super::fetches::{Extent, OnEnd, Outcome};
use super::recorder;
use crate::git::{Commit, GitError, Mirror, Refs, check_revision};
use crate::store::{Moment, ProjectId, Store, projects};

/// The age up to which a mirror's commits are listed without a fetch: a person who picks a branch
/// looks at several within seconds.
const FRESH: Duration = Duration::from_secs(15);
/// The time that an answer from the mirror waits for the fetch. Most fetches end within it, so most
/// answers are current.
const GRACE: Duration = Duration::from_millis(700);
/// The time that the first answer waits for the first fetch, before which there is nothing to show.
const FIRST: Duration = Duration::from_secs(10);
/// The time that an answer waits for commits that the mirror lacks.
const LONGEST: Duration = Duration::from_secs(60);

/// The required age of the refs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The known refs, with a fetch that is waited for 700 ms; 10 s if nothing was fetched yet.
    Usual,
    /// The known refs. Nothing is fetched.
    Known,
    /// The refs of a new fetch if it ends within this time, else the known ones.
    Within(Duration),
}

/// A repository's refs and their age.
#[derive(Clone, Debug)]
pub struct KnownRefs {
    /// The refs; empty if nothing was fetched yet.
    pub refs: Refs,
    /// The time of the last fetch. `None`: never fetched.
    pub fetched_at: Option<Moment>,
    /// True if a fetch runs, whose end the project's room will announce.
    pub fetching: bool,
    /// The error of the last fetch, if it failed.
    pub error: Option<Arc<GitError>>,
}

/// Announces the end of each fetch in the projects' rooms.
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

/// A mirror and its age.
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
    /// [`DeployError::Fetch`] if nothing was fetched yet and the fetch fails; [`DeployError::Busy`];
    /// the database or the mirror fails.
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

    /// The last `limit` commits of `revision`, newest first. `None` means the repository's default
    /// branch. Waits for a fetch if the mirror lacks the revision.
    ///
    /// # Errors
    /// [`DeployError::Fetching`] if that fetch takes longer than a minute; [`DeployError::Fetch`] if
    /// it fails; no such revision; the database or the mirror fails.
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
                // The project's room and the answer for refs report the fault.
                Err(_) => Ok(commits),
            };
        }
        self.wait(project, &found.mirror, Extent::Configured, LONGEST)
            .await?;
        if let Some(commits) = self.known_commits(&found.mirror, &wanted).await? {
            return Ok(commits);
        }
        // The revision may lie below the project's depth.
        if found.mirror.is_shallow() {
            self.wait(project, &found.mirror, Extent::Whole, LONGEST)
                .await?;
        }
        let mirror = found.mirror;
        let read = move || wanted.read(&mirror);
        Ok(self.options().pools.mirrors.run(read).await??)
    }

    /// True if a fetch runs, or ended within [`FRESH`].
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

    /// The commits. `None` if the mirror lacks the revision.
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

    /// Fetches a project's repository and returns its refs.
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

    /// Removes mirrors that no project uses any more and that were not used for `unused`: those of
    /// deleted projects, and of changed addresses and logins. Returns their number. Blocking.
    ///
    /// # Errors
    /// The database fails, a credential cannot be decrypted, or a mirror cannot be removed.
    pub fn sweep_mirrors(&self, unused: Duration) -> Result<u64, DeployError> {
        let mut used = Vec::new();
        for project in self.0.store.read(projects::all)? {
            match self.0.keyring.source(&project) {
                Ok(source) => used.push(source),
                // A project that cannot be fetched has no usable mirror.
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

/// A request for commits.
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
