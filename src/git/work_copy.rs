//! A clone that a person works in: a folder with `.git` and the files of a commit, as git itself
//! creates it. The platform uses none; `longshore git` does.
//!
//! Files are written by libgit2, large ones by [`large`], after the tree was checked as for a
//! release. No filter or hook runs.

mod large;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::build::CheckoutBuilder;
use git2::{ErrorCode, Oid, Repository, RepositoryInitOptions, ResetType};
use longshore_ownership::open_every_owner;

use super::CommitId;
use super::checkout::{claim, clear};
use super::commit::{self, Commit};
use super::error::{GitError, printable};
use super::fetch::{self, FetchRequest, Layout};
use super::mirror::{Mirror, MirrorOptions, Source};
use super::progress::Report;
use super::revision::{self, HEADS, ORIGIN as ORIGIN_BRANCHES};
use super::tree::{Extent, Tree};
use large::{InTheWay, LargeFiles};

/// The remote that everything comes from.
const ORIGIN: &str = "origin";

/// A work copy.
pub struct WorkCopy {
    folder: PathBuf,
    repository: Repository,
    /// The same repository, for reading.
    reading: Mirror,
}

/// The result of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// The branch was fast-forwarded.
    Forward {
        /// The branch.
        branch: String,
        /// The commit it is now at.
        now: Commit,
    },
    /// The branch has all commits of the remote branch.
    UpToDate {
        /// The branch.
        branch: String,
    },
    /// No branch is checked out, so only names and objects were fetched.
    Detached,
}

/// The reason an operation on a work copy failed. The work copy is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum WorkCopyError {
    /// The repository, its host, a revision or a tree.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A clone needs a folder that is empty or absent.
    #[error("{folder}: {cause}")]
    Folder {
        /// The folder.
        folder: String,
        /// The error of the system.
        cause: io::Error,
    },
    /// The configuration names no address that it was cloned from.
    #[error("{folder}: it has no remote \"origin\" to pull from")]
    NoOrigin {
        /// The folder.
        folder: String,
    },
    /// The remote no longer has the branch.
    #[error("the remote has no branch {branch:?} to pull from")]
    NoRemoteBranch {
        /// The branch.
        branch: String,
    },
    /// The branch and the remote branch have diverged.
    #[error(
        "the branch {branch:?} and the remote's have diverged, as after a force-push; \
         reset takes it to origin/{branch}, without what only this one has"
    )]
    Diverged {
        /// The branch.
        branch: String,
    },
    /// Changed files would be overwritten.
    #[error(
        "files that were changed here would be overwritten ({reason}); reset drops the changes"
    )]
    Changed {
        /// The message of libgit2.
        reason: String,
    },
    /// Any other error of libgit2.
    #[error("{folder}: {reason}")]
    Other {
        /// The folder.
        folder: String,
        /// The message of libgit2.
        reason: String,
    },
}

impl WorkCopy {
    /// Clones `source` into `folder`, which must be empty or absent, and checks out `revision`, or
    /// the host's default branch. On failure nothing is left.
    ///
    /// # Errors
    /// [`WorkCopyError::Folder`], and those of a fetch and a checkout.
    pub fn clone(
        source: &Source,
        options: &MirrorOptions,
        folder: &Path,
        revision: Option<&str>,
        progress: Report<'_>,
    ) -> Result<Self, WorkCopyError> {
        let request = request(source, options);
        request.check()?;
        if let Some(revision) = revision {
            super::check_revision(revision)?;
        }
        let created = claim(folder).map_err(|cause| WorkCopyError::Folder {
            folder: folder.display().to_string(),
            cause,
        })?;
        let filled = Self::fill(&request, folder, revision, progress);
        if filled.is_err() {
            clear(folder, created);
        }
        filled
    }

    fn fill(
        request: &FetchRequest<'_>,
        folder: &Path,
        revision: Option<&str>,
        progress: Report<'_>,
    ) -> Result<Self, WorkCopyError> {
        let failed = |error: git2::Error| other(folder, &error);
        let mut init = RepositoryInitOptions::new();
        init.external_template(false).mkdir(false);
        open_every_owner();
        let repository = Repository::init_opts(folder, &init).map_err(failed)?;
        repository
            .remote(ORIGIN, request.source.url.as_str())
            .map_err(failed)?;
        fetch::run(request, folder, progress)?;
        let copy = Self::open(folder, request.options)?;
        let first = copy.reading.refs()?.default_branch;
        if let Some(revision) = revision.or(first.as_deref()) {
            copy.checkout(revision, progress)?;
        }
        Ok(copy)
    }

    /// Opens the work copy in `folder`.
    ///
    /// # Errors
    /// A folder that is no work copy, cannot be read, or belongs to another account: its
    /// configuration decides where files are written.
    pub fn open(folder: &Path, options: &MirrorOptions) -> Result<Self, WorkCopyError> {
        open_every_owner();
        let repository = Repository::open(folder).map_err(|error| GitError::NotARepository {
            url: folder.display().to_string(),
            reason: printable(error.message()),
        })?;
        if !is_own(repository.path()) {
            return Err(WorkCopyError::Git(GitError::NotARepository {
                url: folder.display().to_string(),
                reason: "it belongs to another account".to_owned(),
            }));
        }
        Ok(Self {
            folder: folder.to_owned(),
            repository,
            reading: Mirror::in_place(folder, options.limits)?,
        })
    }

    /// The mirror for reading its branches, commits and files.
    pub fn reading(&self) -> &Mirror {
        &self.reading
    }

    /// The address that it was cloned from, as written in its configuration.
    ///
    /// # Errors
    /// [`WorkCopyError::NoOrigin`].
    pub fn origin(&self) -> Result<String, WorkCopyError> {
        let missing = || WorkCopyError::NoOrigin {
            folder: self.folder.display().to_string(),
        };
        let remote = self.repository.find_remote(ORIGIN).map_err(|_| missing())?;
        String::from_utf8(remote.url_bytes().to_owned()).map_err(|_| missing())
    }

    /// Fetches, then fast-forwards the branch that is checked out to the remote branch.
    ///
    /// # Errors
    /// Those of a fetch, a remote branch that was deleted or has diverged, and changed files that
    /// would be overwritten.
    pub fn pull(
        &self,
        source: &Source,
        options: &MirrorOptions,
        progress: Report<'_>,
    ) -> Result<Pulled, WorkCopyError> {
        let request = request(source, options);
        request.check()?;
        fetch::run(&request, &self.folder, progress)?;
        let Some(branch) = self.branch()? else {
            return Ok(Pulled::Detached);
        };
        let theirs = format!("refs/remotes/{ORIGIN}/{branch}");
        let theirs = match self.repository.refname_to_id(&theirs) {
            Err(error) if error.code() == ErrorCode::NotFound => {
                return Err(WorkCopyError::NoRemoteBranch { branch });
            }
            theirs => theirs.map_err(|error| self.other(&error))?,
        };
        let ours = match self
            .repository
            .refname_to_id(&format!("refs/heads/{branch}"))
        {
            Ok(ours) => Some(ours),
            Err(error) if error.code() == ErrorCode::NotFound => None,
            Err(error) => return Err(self.other(&error)),
        };
        let leads = |from, to| commit::leads_to(&self.repository, from, to);
        match ours {
            Some(ours) if leads(theirs, ours).map_err(|error| self.other(&error))? => {
                return Ok(Pulled::UpToDate { branch });
            }
            Some(ours) if !leads(ours, theirs).map_err(|error| self.other(&error))? => {
                return Err(WorkCopyError::Diverged { branch });
            }
            _ => {}
        }
        self.write(theirs, progress)?;
        self.repository
            .reference(
                &format!("refs/heads/{branch}"),
                theirs,
                true,
                "pull: forward",
            )
            .map_err(|error| self.other(&error))?;
        let now = self.reading.resolve(&theirs.to_string())?;
        Ok(Pulled::Forward { branch, now })
    }

    /// Checks out a branch, which follows the remote branch of that name, or a tag or commit, which
    /// leaves no branch checked out. Changed files are not overwritten.
    ///
    /// # Errors
    /// An unknown revision, a tree that is refused, and changed files that would be overwritten.
    pub fn checkout(&self, revision: &str, progress: Report<'_>) -> Result<Commit, WorkCopyError> {
        let commit = self.reading.resolve(revision)?;
        let failed = |error: git2::Error| self.other(&error);
        let found = self.locate(revision).map_err(failed)?;
        let (name, commit) = match found {
            Some((name, id)) => (Some(name), self.reading.resolve(&id.to_string())?),
            None => (None, commit),
        };
        self.write(commit.id.0, progress)?;
        let name = name.unwrap_or_default();
        if let Some(branch) = name.strip_prefix(ORIGIN_BRANCHES) {
            let target = self.repository.find_commit(commit.id.0).map_err(failed)?;
            self.repository
                .branch(branch, &target, false)
                .and_then(|mut made| made.set_upstream(Some(&format!("{ORIGIN}/{branch}"))))
                .and_then(|()| self.repository.set_head(&format!("{HEADS}{branch}")))
                .map_err(failed)?;
        } else if name.starts_with(HEADS) {
            self.repository.set_head(&name).map_err(failed)?;
        } else {
            self.repository
                .set_head_detached(commit.id.0)
                .map_err(failed)?;
        }
        Ok(commit)
    }

    /// The ref that a checkout of `revision` uses, and its commit: a branch of the remote that is
    /// not local yet comes before a tag of the same name.
    fn locate(&self, revision: &str) -> Result<Option<(String, Oid)>, git2::Error> {
        let short = revision.strip_prefix(HEADS).unwrap_or(revision);
        let local = format!("{HEADS}{short}");
        let theirs = format!("{ORIGIN_BRANCHES}{short}");
        let is_full = revision.starts_with("refs/") && short == revision;
        let is_remote = !is_full && self.repository.find_reference(&local).is_err();
        if is_remote && let Ok(id) = self.repository.refname_to_id(&theirs) {
            return Ok(Some((theirs, id)));
        }
        let found = revision::locate(&self.repository, revision)?;
        Ok(found.and_then(|found| {
            // `origin/main` can be looked at; only `main` is a branch to work in.
            let name = found
                .name
                .filter(|name| !name.starts_with(ORIGIN_BRANCHES))?;
            Some((name, found.commit))
        }))
    }

    /// Moves the work copy, and the branch if one is checked out, to `revision`. Changes to files
    /// that git tracks are lost; other files stay.
    ///
    /// # Errors
    /// An unknown revision, a tree that is refused, and a folder that cannot be written.
    pub fn reset(&self, revision: &str, progress: Report<'_>) -> Result<Commit, WorkCopyError> {
        let commit = self.reading.resolve(revision)?;
        let files = self.judge(commit.id, progress)?;
        let failed = |error: git2::Error| self.other(&error);
        let mut large =
            LargeFiles::of(&self.repository, &self.folder, commit.id, &files).map_err(failed)?;
        large.force();
        let target = self.repository.find_commit(commit.id.0).map_err(failed)?;
        let mut options = plain();
        options.force();
        let how = match large.is_empty() {
            true => ResetType::Hard,
            false => {
                let others = large.others(true).map_err(failed)?;
                self.check_out(&target, options, &others).map_err(failed)?;
                large.write(progress)?;
                options = plain();
                ResetType::Mixed
            }
        };
        self.repository
            .reset(target.as_object(), how, Some(&mut options))
            .map_err(failed)?;
        Ok(commit)
    }

    /// Runs libgit2's checkout for these paths alone.
    fn check_out(
        &self,
        target: &git2::Commit<'_>,
        mut options: CheckoutBuilder<'_>,
        paths: &BTreeSet<PathBuf>,
    ) -> Result<(), git2::Error> {
        if paths.is_empty() {
            return Ok(());
        }
        options.disable_pathspec_match(true);
        for path in paths {
            options.path(path.as_path());
        }
        self.repository
            .checkout_tree(target.as_object(), Some(&mut options))
    }

    /// The branch that is checked out, which may have no commit yet.
    fn branch(&self) -> Result<Option<String>, WorkCopyError> {
        let head = self
            .repository
            .find_reference("HEAD")
            .map_err(|error| self.other(&error))?;
        // A name that is not UTF-8 cannot be followed.
        let target = head.symbolic_target().ok().flatten();
        Ok(target
            .and_then(|target| target.strip_prefix("refs/heads/"))
            .map(str::to_owned))
    }

    fn judge(&self, commit: CommitId, progress: Report<'_>) -> Result<Tree, WorkCopyError> {
        Ok(self.reading.tree(&commit, Extent::Whole, progress)?)
    }

    fn write(&self, commit: Oid, progress: Report<'_>) -> Result<(), WorkCopyError> {
        let files = self.judge(CommitId(commit), progress)?;
        let failed = |error: git2::Error| match error.code() {
            ErrorCode::Conflict => WorkCopyError::Changed {
                reason: printable(error.message()),
            },
            _ => self.other(&error),
        };
        let large = LargeFiles::of(&self.repository, &self.folder, CommitId(commit), &files)
            .map_err(failed)?;
        let target = self.repository.find_commit(commit).map_err(failed)?;
        if large.is_empty() {
            return self
                .repository
                .checkout_tree(target.as_object(), Some(&mut plain()))
                .map_err(failed);
        }
        if let Some(InTheWay(path)) = large.in_the_way() {
            return Err(WorkCopyError::Changed {
                reason: printable(&path.to_string_lossy()),
            });
        }
        let others = large.others(false).map_err(failed)?;
        self.check_out(&target, plain(), &others).map_err(failed)?;
        Ok(large.write(progress)?)
    }

    fn other(&self, error: &git2::Error) -> WorkCopyError {
        other(&self.folder, error)
    }
}

/// True if the folder belongs to this account, or to the account that called `sudo`.
fn is_own(folder: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let caller = std::env::var("SUDO_UID").ok();
    let caller = caller.and_then(|uid| uid.parse().ok()).filter(|_| own == 0);
    folder
        .metadata()
        .is_ok_and(|found| found.uid() == own || Some(found.uid()) == caller)
}

fn request<'a>(source: &'a Source, options: &'a MirrorOptions) -> FetchRequest<'a> {
    FetchRequest {
        source,
        options,
        depth: source.depth(),
        layout: Layout::Clone,
    }
}

fn plain() -> CheckoutBuilder<'static> {
    let mut options = CheckoutBuilder::new();
    options.safe().disable_filters(true);
    options
}

fn other(folder: &Path, error: &git2::Error) -> WorkCopyError {
    WorkCopyError::Other {
        folder: folder.display().to_string(),
        reason: printable(error.message()),
    }
}
