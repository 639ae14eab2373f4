//! Mirrors: a bare copy of every repository that is released from, one folder a source.

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
use super::fetch::{self, Errand, Layout};
use super::limits::Limits;
use super::progress::{Progress, Report};
use super::url::{RepoUrl, Scheme, UrlPolicy};
use super::{GitCredential, blob, health};

/// The file in a mirror's folder whose lock is the mirror's; its time is when it was used last.
pub(super) const LOCK: &str = "lock";
/// The file in a mirror's folder whose time is when a fetch last ended well.
const FETCHED: &str = "fetched";
/// How often a fetch that waits for another one looks again.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// A repository and how to get at it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub url: RepoUrl,
    /// What the git host is shown.
    pub credential: GitCredential,
    /// The accepted ssh host key, `SHA256:…`; without one every ssh fetch is refused.
    pub host_key: Option<String>,
    /// How many commits of each branch and tag are fetched; none: all. Local folders are always
    /// fetched whole.
    pub depth: Option<NonZeroU32>,
    /// Whether submodules belong to the files of a commit.
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

    /// Bytes that tell the mirrors of two sources apart.
    fn identity(&self) -> String {
        let depth = match self.depth {
            Some(depth) => format!("\0depth {depth}"),
            None => String::new(),
        };
        let credential = self.credential.identity();
        format!("{}\0{credential}{depth}", self.url.as_str())
    }

    /// The name of its mirror's folder.
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
    /// Which addresses may be fetched from.
    pub policy: UrlPolicy,
    /// How long connecting may take, and how long a git host may stay silent.
    pub stall_timeout: Duration,
    /// How much a repository may bring.
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

/// All mirrors of an installation. A cheap handle: clone it freely.
#[derive(Clone, Debug)]
pub struct Mirrors {
    root: Arc<Path>,
    options: Arc<MirrorOptions>,
    sizes: blob::Sizes,
}

impl Mirrors {
    /// Mirrors below `root`, which is made when the first is fetched.
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
    /// somebody else's credential fetched.
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
/// and moves names after, and a rebuilt mirror takes the old one's place in one step.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Holds `lock`, `mirror.git`, and `new.git` while that is built.
    folder: PathBuf,
    /// The bare repository.
    repository: PathBuf,
    /// Whether it is ours to build anew, and not somebody's own repository.
    is_ours: bool,
    pub(super) source: Source,
    pub(super) options: Arc<MirrorOptions>,
    pub(super) sizes: blob::Sizes,
}

impl Mirror {
    /// Brings the mirror up to date: clones at first, then fetches what is new, follows branches
    /// that were force-pushed and forgets those that were deleted. A damaged mirror is built anew.
    ///
    /// One fetch of a mirror runs at a time, over all processes; others wait for it. `progress`
    /// is called about ten times a second on the calling thread; `Break` ends the fetch with
    /// [`GitError::Cancelled`] within a second or so.
    pub fn fetch(&self, progress: Report<'_>) -> Result<(), GitError> {
        self.fetch_to(self.source.depth(), progress)
    }

    /// The commit that `revision` names, and whether the whole history was fetched for it: in a
    /// mirror of a limited depth it may lie below. Call it after [`fetch`](Self::fetch).
    pub fn find(&self, revision: &str, progress: Report<'_>) -> Result<(Commit, bool), GitError> {
        match self.resolve(revision) {
            Err(error) if error.is_unknown() && self.source.depth() != fetch::WHOLE => {
                self.fetch_to(fetch::UNSHALLOW, progress)?;
                Ok((self.resolve(revision)?, true))
            }
            found => Ok((found?, false)),
        }
    }

    /// Sees to it that `commit` is here; fetches only where it is not.
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

    /// [`fetch`](Self::fetch), and all of the history where the depth is limited.
    ///
    /// # Errors
    /// Those of [`fetch`](Self::fetch).
    pub fn fetch_whole(&self, progress: Report<'_>) -> Result<(), GitError> {
        self.fetch_to(fetch::UNSHALLOW, progress)
    }

    /// Whether a fetch brings a limited number of commits, so that more may lie below them.
    pub fn is_shallow(&self) -> bool {
        self.source.depth() != fetch::WHOLE
    }

    /// When a fetch last ended well; none where none has. Of a mirror of an older version, about when.
    pub fn fetched_at(&self) -> Option<SystemTime> {
        let repository = self.repository.metadata().ok()?;
        let fetched = self.folder.join(FETCHED).metadata();
        fetched.unwrap_or(repository).modified().ok()
    }

    /// Tells fetches apart that cannot stand for each other: another mirror, or another accepted key
    /// of its host. No secret is in it.
    pub fn key(&self) -> String {
        let key = self.source.host_key.as_deref().unwrap_or_default();
        format!("{}\0{key}", self.folder.display())
    }

    /// The repository's address.
    pub fn url(&self) -> &str {
        self.source.url.as_str()
    }

    /// The git host, as its address names it; of a folder on this disk, nothing.
    pub fn host(&self) -> &str {
        self.source.url.host().unwrap_or_default()
    }

    fn fetch_to(&self, depth: i32, progress: Report<'_>) -> Result<(), GitError> {
        let _lock = self.fetch_locked(depth, progress)?;
        // Under the lock, so that a sweep does not take the folder away in between.
        let noted = File::create(self.folder.join(FETCHED)).and_then(|file| {
            let now = FileTimes::new().set_modified(SystemTime::now());
            file.set_times(now)
        });
        noted.map_err(|cause| GitError::disk(&self.folder, cause))
    }

    /// Gives the lock that it fetched under.
    fn fetch_locked(&self, depth: i32, progress: Report<'_>) -> Result<File, GitError> {
        let errand = Errand {
            source: &self.source,
            options: &self.options,
            depth,
            layout: Layout::Mirror,
        };
        errand.check()?;
        let lock = self.lock(progress)?;
        self.touch();
        let (current, new) = (self.repository.as_path(), self.folder.join("new.git"));
        remove(&new)?;
        remove(&self.folder.join("old.git"))?;
        if current.exists() {
            health::sweep(current)?;
            let outcome = match health::check(current, &self.source.url, progress) {
                Ok(()) => fetch::run(&errand, current, progress),
                Err(damage) => Err(damage),
            };
            match outcome {
                Err(GitError::BrokenMirror { reason, .. }) => {
                    let url = self.source.url.as_str();
                    tracing::warn!(url, reason, "damaged mirror: building it anew");
                }
                // libgit2 reads what is here to tell the host; where nothing is, it need not.
                Err(GitError::Malformed { reason, .. }) => {
                    let url = self.source.url.as_str();
                    tracing::info!(url, reason, "malformed history: fetching all of it");
                }
                outcome => return outcome.map(|()| lock),
            }
        }
        let built = fetch::create(&new, &self.source.url)
            .and_then(|()| fetch::run(&errand, &new, progress))
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

    /// Somebody's own repository on this disk, to be read where it is: the folder of a bare one,
    /// or one with `.git` in it. No policy is asked; [`fetch`](Self::fetch) is not for it.
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

    /// Where the bare repository is.
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

    /// Something in the mirror is damaged. It is marked, so that the next fetch builds it anew.
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

    /// A reading that failed. The mirror is marked, so that the next fetch builds it anew: damage
    /// inside a pack shows only when the object is read.
    /// What the system refused (no memory, no descriptors) is no damage.
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

    /// The lock file's lock belongs to the open file, so it holds among threads as well as among
    /// processes, and a killed process lets go of it.
    fn lock(&self, progress: Report<'_>) -> Result<File, GitError> {
        let path = self.lock_path();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |cause| GitError::disk(&path, cause)
        };
        let mut file = self.lock_file()?;
        loop {
            match file.try_lock() {
                // A sweep may have taken the folder away meanwhile.
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
                // A sweep took the folder away in between.
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                file => return file.map_err(at),
            }
        }
    }

    /// Swaps the two in one step where the file system can; a reader that has the old one open
    /// keeps reading it.
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
