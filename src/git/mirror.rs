//! Mirrors: a bare copy of every repository that is released from, one folder per source.

use std::fs::{self, DirBuilder, File, FileTimes};
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use git2::{ErrorClass, Repository};
use longshore_ownership::open_every_owner;
use sha2::{Digest, Sha256};

use super::commit::{Commit, CommitId};
use super::error::{GitError, printable};
use super::fetch::{self, FetchRequest, Layout};
use super::limits::Limits;
use super::progress::{Progress, Report};
use super::url::{RepoUrl, Scheme, UrlPolicy};
use super::{GitCredential, blob, health};

/// The lock file in a mirror's folder; its modification time is the time of the last use.
pub(super) const LOCK: &str = "lock";
/// The file in a mirror's folder whose modification time is the end of the last successful fetch.
const FETCHED: &str = "fetched";
/// The interval at which a fetch that waits for another one checks the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// A repository and the way to access it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The address.
    pub url: RepoUrl,
    /// The credential for the git host.
    pub credential: GitCredential,
    /// The accepted ssh host key, `SHA256:…`; without one every ssh fetch is refused.
    pub host_key: Option<String>,
    /// The number of commits of each branch and tag that are fetched; `None`: all. Local folders
    /// are always fetched whole.
    pub depth: Option<NonZeroU32>,
    /// True if a commit's files include submodules.
    pub submodules: bool,
}

impl Source {
    /// The repository at `url`: public, whole, without submodules.
    pub fn new(url: RepoUrl) -> Self {
        Self {
            url,
            credential: GitCredential::None,
            host_key: None,
            depth: None,
            submodules: false,
        }
    }

    /// Bytes that distinguish the mirrors of two sources.
    fn identity(&self) -> String {
        let depth = match self.depth {
            Some(depth) => format!("\0depth {depth}"),
            None => String::new(),
        };
        let credential = self.credential.identity();
        format!("{}\0{credential}{depth}", self.url.as_str())
    }

    /// The name of the mirror's folder.
    pub(super) fn folder_name(&self) -> String {
        let digest = Sha256::digest(self.identity().as_bytes());
        let bytes = digest[..16].iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// `depth` as libgit2 takes it, 0 for all.
    pub(super) fn depth(&self) -> i32 {
        match self.depth {
            Some(depth) if self.url.scheme != Scheme::Local => {
                i32::try_from(depth.get()).unwrap_or(fetch::UNSHALLOW)
            }
            _ => fetch::WHOLE,
        }
    }
}

/// The settings of all mirrors.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// The addresses that may be fetched from.
    pub policy: UrlPolicy,
    /// The time-out for connecting, and for a silent git host.
    pub stall_timeout: Duration,
    /// Limits on the size of a repository.
    pub limits: Limits,
}

impl Default for MirrorOptions {
    /// No http, no loopback, no local folders; 30 s; the default limits.
    fn default() -> Self {
        Self {
            policy: UrlPolicy::default(),
            stall_timeout: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

/// All mirrors of an installation. A handle that is cheap to clone.
#[derive(Clone, Debug)]
pub struct Mirrors {
    root: Arc<Path>,
    options: Arc<MirrorOptions>,
    sizes: blob::Sizes,
}

impl Mirrors {
    /// Mirrors below `root`, which is created by the first fetch.
    pub fn new(root: PathBuf, options: MirrorOptions) -> Self {
        Self {
            root: root.into(),
            options: Arc::new(options),
            sizes: blob::Sizes::default(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The mirror of `source`. Nothing is opened yet.
    ///
    /// Sources with another address or credential have another mirror, so that nobody reads what
    /// another credential fetched.
    pub fn mirror(&self, source: Source) -> Mirror {
        let folder = self.root.join(source.folder_name());
        Mirror {
            repository: folder.join("mirror.git"),
            folder,
            is_ours: true,
            source,
            options: Arc::clone(&self.options),
            sizes: self.sizes.clone(),
        }
    }
}

/// One repository's mirror. Reading never waits for a running fetch: a fetch brings objects first
/// and moves names after, and a rebuilt mirror replaces the old one in one step.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The folder with `lock`, `mirror.git`, and `new.git` while that is built.
    folder: PathBuf,
    /// The bare repository.
    repository: PathBuf,
    /// True if it may be rebuilt; false for somebody's own repository.
    is_ours: bool,
    pub(super) source: Source,
    pub(super) options: Arc<MirrorOptions>,
    pub(super) sizes: blob::Sizes,
}

impl Mirror {
    /// Brings the mirror up to date: clones at first, then fetches changes, follows branches that
    /// were force-pushed and removes deleted ones. A damaged mirror is rebuilt.
    ///
    /// One fetch of a mirror runs at a time, across all processes; others wait for it. `progress`
    /// is called about ten times a second on the calling thread; `Break` ends the fetch with
    /// [`GitError::Cancelled`] within about a second.
    ///
    /// # Errors
    /// An address or credential that is not allowed, a host that fails or refuses, a limit that is
    /// passed, and a disk that cannot be written.
    pub fn fetch(&self, progress: Report<'_>) -> Result<(), GitError> {
        self.fetch_to(self.source.depth(), progress)
    }

    /// The commit that `revision` names, and true if the whole history was fetched for it: in a
    /// mirror of a limited depth it may be older. Call it after [`fetch`](Self::fetch).
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve) and [`fetch`](Self::fetch).
    pub fn find(&self, revision: &str, progress: Report<'_>) -> Result<(Commit, bool), GitError> {
        match self.resolve(revision) {
            Err(error) if error.is_unknown() && self.source.depth() != fetch::WHOLE => {
                self.fetch_to(fetch::UNSHALLOW, progress)?;
                Ok((self.resolve(revision)?, true))
            }
            found => Ok((found?, false)),
        }
    }

    /// Ensures that `commit` is here; fetches only if it is not.
    pub(super) fn bring(&self, commit: CommitId, progress: Report<'_>) -> Result<(), GitError> {
        let revision = commit.to_string();
        match self.resolve(&revision) {
            Err(GitError::NotFetched { .. }) => {}
            Err(error) if error.is_unknown() => {}
            found => {
                self.touch();
                return found.map(drop);
            }
        }
        self.fetch(progress)?;
        self.find(&revision, progress).map(drop)
    }

    /// Runs [`fetch`](Self::fetch), for the whole history even if the depth is limited.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch).
    pub fn fetch_whole(&self, progress: Report<'_>) -> Result<(), GitError> {
        self.fetch_to(fetch::UNSHALLOW, progress)
    }

    /// True if a fetch brings a limited number of commits, so that older ones may be missing.
    pub fn is_shallow(&self) -> bool {
        self.source.depth() != fetch::WHOLE
    }

    /// The time of the last successful fetch; `None` before the first. Approximate for a mirror of
    /// an older version.
    pub fn fetched_at(&self) -> Option<SystemTime> {
        let repository = self.repository.metadata().ok()?;
        let fetched = self.folder.join(FETCHED).metadata();
        fetched.unwrap_or(repository).modified().ok()
    }

    /// A key that distinguishes fetches that cannot replace each other: of another mirror, or with
    /// another accepted host key. It holds no secret.
    pub fn key(&self) -> String {
        let key = self.source.host_key.as_deref().unwrap_or_default();
        format!("{}\0{key}", self.folder.display())
    }

    /// The repository's address.
    pub fn url(&self) -> &str {
        self.source.url.as_str()
    }

    /// The git host, as named in the address; empty for a folder on this disk.
    pub fn host(&self) -> &str {
        self.source.url.host().unwrap_or_default()
    }

    fn fetch_to(&self, depth: i32, progress: Report<'_>) -> Result<(), GitError> {
        let _lock = self.fetch_locked(depth, progress)?;
        // Under the lock, so that a sweep does not remove the folder in between.
        let noted = File::create(self.folder.join(FETCHED)).and_then(|file| {
            let now = FileTimes::new().set_modified(SystemTime::now());
            file.set_times(now)
        });
        noted.map_err(|cause| GitError::disk(&self.folder, cause))
    }

    /// Returns the lock that it fetched under.
    fn fetch_locked(&self, depth: i32, progress: Report<'_>) -> Result<File, GitError> {
        let request = FetchRequest {
            source: &self.source,
            options: &self.options,
            depth,
            layout: Layout::Mirror,
        };
        request.check()?;
        let lock = self.lock(progress)?;
        self.touch();
        let (current, new) = (self.repository.as_path(), self.folder.join("new.git"));
        remove(&new)?;
        remove(&self.folder.join("old.git"))?;
        if current.exists() {
            health::sweep(current)?;
            let outcome = match health::check(current, &self.source.url, progress) {
                Ok(()) => fetch::run(&request, current, progress),
                Err(damage) => Err(damage),
            };
            match outcome {
                Err(GitError::BrokenMirror { reason, .. }) => {
                    let url = self.source.url.as_str();
                    tracing::warn!(url, reason, "damaged mirror: building it anew");
                }
                // libgit2 reads existing objects to tell the host what it has; in a new mirror
                // there are none.
                Err(GitError::Malformed { reason, .. }) => {
                    let url = self.source.url.as_str();
                    tracing::info!(url, reason, "malformed history: fetching all of it");
                }
                outcome => return outcome.map(|()| lock),
            }
        }
        let built = fetch::create(&new, &self.source.url)
            .and_then(|()| fetch::run(&request, &new, progress))
            .map_err(GitError::of_new_mirror)
            .and_then(|()| self.put_in_place(&new, current));
        if built.is_err() {
            remove(&new)?;
        }
        built.map(|()| lock)
    }

    /// The mirror of another source beside this one.
    pub(super) fn sibling(&self, source: Source) -> Self {
        let mirrors = Mirrors {
            root: self.folder.parent().unwrap_or(Path::new("")).into(),
            options: Arc::clone(&self.options),
            sizes: self.sizes.clone(),
        };
        mirrors.mirror(source)
    }

    /// Somebody's own repository on this disk, to be read in place: the folder of a bare one, or
    /// one with `.git` in it. No policy applies; do not call [`fetch`](Self::fetch) on it.
    ///
    /// # Errors
    /// A folder that is no repository or cannot be read.
    pub fn in_place(folder: &Path, limits: Limits) -> Result<Self, GitError> {
        let source = Source::new(RepoUrl::of_folder(folder));
        let options = MirrorOptions {
            limits,
            ..MirrorOptions::default()
        };
        open_every_owner();
        let opened = Repository::open(folder).map_err(|error| GitError::NotARepository {
            url: source.url.as_str().to_owned(),
            reason: printable(error.message()),
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            repository: opened.path().to_owned(),
            is_ours: false,
            source,
            options: options.into(),
            sizes: blob::Sizes::default(),
        })
    }

    /// The path of the bare repository.
    pub(super) fn path(&self) -> &Path {
        &self.repository
    }

    /// Opens the mirror for reading.
    pub(super) fn open(&self) -> Result<Repository, GitError> {
        let path = self.path();
        blob::unverified();
        open_every_owner();
        if !path.exists() {
            return Err(GitError::NotFetched {
                url: self.source.url.as_str().to_owned(),
            });
        }
        Repository::open_bare(path).map_err(|error| self.broken(&error))
    }

    pub(super) fn unknown(&self, revision: &str) -> GitError {
        let url = self.source.url.as_str().to_owned();
        match CommitId::parse(revision) {
            Ok(commit) => GitError::UnknownCommit {
                url,
                commit: commit.to_string(),
            },
            Err(_) => GitError::UnknownRevision {
                url,
                revision: revision.to_owned(),
            },
        }
    }

    /// Marks the mirror as damaged, so that the next fetch rebuilds it, and returns the error to
    /// report.
    pub(super) fn damaged(&self, reason: &str) -> GitError {
        self.mark();
        GitError::BrokenMirror {
            url: self.source.url.as_str().to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn mark(&self) {
        if self.is_ours {
            health::mark(&self.repository);
        }
    }

    /// Converts a failed read. The mirror is marked, so that the next fetch rebuilds it: damage
    /// inside a pack shows only when the object is read. A refusal by the system (no memory, no
    /// descriptors) is no damage.
    pub(super) fn broken(&self, error: &git2::Error) -> GitError {
        if matches!(error.class(), ErrorClass::Os | ErrorClass::NoMemory) {
            return GitError::fetching(&self.source.url, error);
        }
        let read = GitError::reading(&self.source.url, error);
        if matches!(read, GitError::BrokenMirror { .. }) {
            self.mark();
        }
        read
    }

    /// Waits for the lock. It belongs to the open file, so it excludes threads as well as
    /// processes, and a killed process releases it.
    fn lock(&self, progress: Report<'_>) -> Result<File, GitError> {
        let path = self.lock_path();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |cause| GitError::disk(&path, cause)
        };
        let mut file = self.lock_file()?;
        loop {
            match file.try_lock() {
                // A sweep may have removed the folder meanwhile.
                Ok(()) if is_at(&file, &path) => return Ok(file),
                Ok(()) => file = self.lock_file()?,
                Err(fs::TryLockError::Error(cause)) => return Err(at(&path)(cause)),
                Err(fs::TryLockError::WouldBlock) => {}
            }
            if progress(&Progress::default()).is_break() {
                return Err(GitError::Cancelled);
            }
            thread::sleep(LOCK_INTERVAL);
        }
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.folder.join(LOCK)
    }

    fn lock_file(&self) -> Result<File, GitError> {
        let at = |cause| GitError::disk(&self.folder, cause);
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)
                .map_err(at)?;
            let file = File::options()
                .create(true)
                .append(true)
                .open(self.lock_path());
            match file {
                // A sweep removed the folder in between.
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                file => return file.map_err(at),
            }
        }
    }

    /// Swaps the two in one step if the file system can; a reader that has the old one open keeps
    /// reading it.
    fn put_in_place(&self, new: &Path, current: &Path) -> Result<(), GitError> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let at = |cause| GitError::disk(current, cause);
        if !current.exists() {
            return fs::rename(new, current).map_err(at);
        }
        if renameat_with(CWD, new, CWD, current, RenameFlags::EXCHANGE).is_err() {
            let old = self.folder.join("old.git");
            fs::rename(current, &old).map_err(at)?;
            fs::rename(new, current).map_err(at)?;
            return remove(&old);
        }
        remove(new)
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn remove(folder: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(GitError::disk(folder, cause)),
        _ => Ok(()),
    }
}
