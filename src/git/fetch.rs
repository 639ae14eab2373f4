//! One fetch: from the git host, through the relay, into a mirror's folder.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::{fs, io, thread};

use git2::{
    AutotagOption, FetchOptions, ProxyOptions, RemoteCallbacks, RemoteRedirect, RemoteUpdateFlags,
    Repository, RepositoryInitOptions,
};
use longshore_ownership::open_every_owner;

use super::credential::{GitCredential, Presenter};
use super::error::{GitError, Limit, printable};
use super::mirror::{MirrorOptions, Source};
use super::progress::{self, Progress, Report, Stage};
use super::relay::{Cutter, Relay};
use super::url::{RepoUrl, Scheme};
use super::{address, certificate, host_key};

/// The depth that means the whole history.
pub(super) const WHOLE: i32 = 0;
/// The depth that makes a shallow repository whole.
pub(super) const UNSHALLOW: i32 = i32::MAX;

/// The number of attempts if a host closes before its answer begins.
const TRIES: usize = 3;
/// The message of libgit2 in that case.
const NO_ANSWER: &str = "could not read from remote repository";

/// The parameters of one fetch.
pub(super) struct FetchRequest<'a> {
    pub(super) source: &'a Source,
    pub(super) options: &'a MirrorOptions,
    /// The number of commits per name, [`WHOLE`] or [`UNSHALLOW`].
    pub(super) depth: i32,
    pub(super) layout: Layout,
}

impl FetchRequest<'_> {
    /// Checks that the address and the credential are allowed, before anything is opened.
    pub(super) fn check(&self) -> Result<(), GitError> {
        self.source.url.check(&self.options.policy)?;
        self.source.credential.check(&self.source.url)
    }
}

/// The local names of the host's refs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// The host's refs are the repository's own; it has no others.
    Mirror,
    /// Branches are those of the remote `origin`; the repository has branches of its own.
    Clone,
}

impl Layout {
    /// The local name of the host's `name`; `None` if it is not fetched.
    fn local(self, name: &str) -> Option<String> {
        match (self, name.strip_prefix("refs/heads/")) {
            _ if name.ends_with("^{}") => None,
            (Self::Clone, Some(branch)) => Some(format!("refs/remotes/origin/{branch}")),
            (Self::Mirror, Some(_)) => Some(name.to_owned()),
            (_, None) => name.starts_with("refs/tags/").then(|| name.to_owned()),
        }
    }

    /// The refs that are fetched, and deleted here if the host has deleted them.
    fn refspecs(self) -> &'static [&'static str] {
        match self {
            Self::Mirror => &["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"],
            Self::Clone => &["+refs/heads/*:refs/remotes/origin/*"],
        }
    }

    /// The handling of tags: a clone keeps tags of its own.
    fn tags(self) -> AutotagOption {
        match self {
            Self::Mirror => AutotagOption::None,
            Self::Clone => AutotagOption::All,
        }
    }
}

/// Creates the empty bare repository that [`run`] fills.
pub(super) fn create(path: &Path, url: &RepoUrl) -> Result<(), GitError> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false);
    open_every_owner();
    Repository::init_opts(path, &options)
        .map(drop)
        .map_err(|error| GitError::fetching(url, &error))
}

/// State shared by the fetching thread and the caller's thread.
#[derive(Default)]
struct Watch {
    cancelled: AtomicBool,
    /// The bytes received when they exceeded the limit; else 0.
    received: AtomicU64,
    progress: Mutex<Progress>,
    cutter: Mutex<Option<Cutter>>,
}

impl Watch {
    fn report(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    fn snapshot(&self) -> Progress {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.clone()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let cutter = self.cutter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cutter) = cutter.as_ref() {
            cutter.cut();
        }
    }

    /// Lets cancelling cut the relay from here on.
    fn arm(&self, cutter: Cutter) {
        *self.cutter.lock().unwrap_or_else(PoisonError::into_inner) = Some(cutter);
        if self.is_cancelled() {
            self.cancel();
        }
    }
}

/// Fetches into the bare repository at `path`. libgit2 works on a thread of its own, so that
/// `progress` is called even while the host is silent.
pub(super) fn run(
    request: &FetchRequest<'_>,
    path: &Path,
    progress: Report<'_>,
) -> Result<(), GitError> {
    let watch = Watch::default();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<()>();
        let watched = &watch;
        let fetching = scope.spawn(move || {
            let _end_is_heard = sender;
            transfer_patiently(request, path, watched)
        });
        while let Err(RecvTimeoutError::Timeout) = receiver.recv_timeout(progress::INTERVAL) {
            if !watch.is_cancelled() && progress(&watch.snapshot()).is_break() {
                watch.cancel();
            }
        }
        let outcome = fetching.join().unwrap_or_else(|_| {
            Err(GitError::Git {
                url: request.source.url.as_str().to_owned(),
                reason: "the git host sent something that cannot be read".to_owned(),
            })
        });
        // One more call, so that a short fetch reports its end.
        if outcome.is_ok() && progress(&watch.snapshot()).is_break() {
            return Err(GitError::Cancelled);
        }
        outcome
    })
}

/// The address that libgit2 connects to.
pub(super) struct Target {
    pub(super) url: String,
    proxy: Option<String>,
}

impl Target {
    /// The address by way of a relay on `port`: as a proxy for https, else in place of the host.
    pub(super) fn through(url: &RepoUrl, credential: &GitCredential, port: u16) -> Self {
        let relay = format!("127.0.0.1:{port}");
        let user = credential.ssh_user(url);
        let path = url.sent_path();
        let (url, proxy) = match url.scheme {
            Scheme::Https => (without_user(url), Some(format!("http://{relay}"))),
            // libgit2 ignores a proxy for plain http and would connect directly.
            Scheme::Http => (format!("http://{relay}{path}"), None),
            Scheme::Git => (format!("git://{relay}{path}"), None),
            // libgit2 would look for a query in an `ssh://` address.
            Scheme::Ssh | Scheme::Scp => (format!("[{user}@{relay}]:{path}"), None),
            Scheme::Local => (path.into_owned(), None),
        };
        Self { url, proxy }
    }
}

/// The https address without the user, who is sent in the credential.
fn without_user(url: &RepoUrl) -> String {
    let host = url.host().unwrap_or_default();
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    format!("https://{host}:{}{}", url.port(), url.path)
}

/// Transfers, and tries again if the host gave no answer. Over http a host forgets between its
/// answers which names it has shown: if a branch is force-pushed in between, it sends no pack, and
/// libgit2 does not report the reason.
fn transfer_patiently(
    request: &FetchRequest<'_>,
    path: &Path,
    watch: &Watch,
) -> Result<(), GitError> {
    let forgets = matches!(request.source.url.scheme, Scheme::Http | Scheme::Https);
    for _ in 1..TRIES {
        match transfer(request, path, watch) {
            Err(GitError::Unreachable { reason, .. })
                if forgets && reason == NO_ANSWER && watch.snapshot().bytes == 0 => {}
            outcome => return outcome,
        }
    }
    transfer(request, path, watch)
}

fn transfer(request: &FetchRequest<'_>, path: &Path, watch: &Watch) -> Result<(), GitError> {
    let source = request.source;
    let url = &source.url;
    let timeout = request.options.stall_timeout;
    watch.report(Progress {
        stage: Stage::Connecting,
        ..Progress::default()
    });
    let relay = if url.scheme == Scheme::Local {
        check_folder(request)?;
        None
    } else {
        let policy = &request.options.policy;
        let (stream, address) = address::connect(url, policy, timeout, &watch.cancelled)?;
        if url.scheme == Scheme::Https {
            certificate::check(url, address, timeout, &watch.cancelled)?;
        }
        let relay = Relay::start(url, stream, address, timeout)
            .map_err(|error| GitError::unreachable(url, &error.to_string()))?;
        watch.arm(relay.cutter());
        Some(relay)
    };
    let target = Target::through(
        url,
        &source.credential,
        relay.as_ref().map_or(0, Relay::port),
    );
    let refusal = RefCell::new(None);
    let bad_login = RefCell::new(None);
    let outcome = download(request, path, &target, watch, &refusal, &bad_login);
    let ends = relay.as_ref().map(Relay::ends).unwrap_or_default();
    let Err(error) = outcome else {
        return end_history(path, &ends);
    };
    if watch.is_cancelled() {
        return Err(GitError::Cancelled);
    }
    let received = watch.received.load(Ordering::SeqCst);
    if received > 0 {
        return Err(GitError::TooLarge {
            what: url.as_str().to_owned(),
            limit: Limit::FetchBytes,
            count: received,
            most: request.options.limits.fetch_bytes,
        });
    }
    if let Some(refusal) = refusal.into_inner() {
        return Err(refusal);
    }
    if let Some(reason) = bad_login.into_inner() {
        let url = url.as_str().to_owned();
        return Err(GitError::Authentication { url, reason });
    }
    if relay.is_some_and(|relay| relay.stalled()) {
        return Err(GitError::timed_out(url, timeout));
    }
    Err(GitError::fetching(url, &error))
}

fn download(
    request: &FetchRequest<'_>,
    path: &Path,
    target: &Target,
    watch: &Watch,
    refusal: &RefCell<Option<GitError>>,
    bad_login: &RefCell<Option<String>>,
) -> Result<(), git2::Error> {
    let source = request.source;
    let most = request.options.limits.fetch_bytes;
    open_every_owner();
    let repository = Repository::open(path)?;
    let mut remote = repository.remote_anonymous(&target.url)?;
    if remote.url_bytes() != target.url.as_bytes() {
        let reason = "a url.*.insteadOf setting of this system's git configuration rewrites it";
        return Err(git2::Error::from_str(reason));
    }
    let mut presenter = Presenter::new(&source.credential, &source.url, bad_login);
    let mut callbacks = RemoteCallbacks::new();
    callbacks
        .credentials(move |_, _, allowed| presenter.answer(allowed))
        .certificate_check(|cert, _| {
            host_key::check(&source.url, source.host_key.as_deref(), cert, refusal)
        })
        .sideband_progress(|_| !watch.is_cancelled())
        .transfer_progress(|progress| {
            let progress = Progress::from(progress);
            if progress.bytes as u64 > most {
                watch
                    .received
                    .store(progress.bytes as u64, Ordering::SeqCst);
                return false;
            }
            watch.report(progress);
            !watch.is_cancelled()
        });
    let mut options = FetchOptions::new();
    options
        .remote_callbacks(callbacks)
        .download_tags(request.layout.tags())
        .depth(request.depth)
        .follow_redirects(match source.url.scheme {
            // The relay refuses redirects to another host.
            Scheme::Https => RemoteRedirect::Initial,
            // libgit2 would follow redirects without this.
            _ => RemoteRedirect::None,
        });
    if let Some(proxy) = &target.proxy {
        let mut proxy_options = ProxyOptions::new();
        proxy_options.url(proxy);
        options.proxy_options(proxy_options);
    }
    remote.download(request.layout.refspecs(), Some(&mut options))?;
    let default_branch = remote.default_branch().ok();
    // The names move only when all objects are here, so the network is no longer needed.
    remote.disconnect()?;
    if watch.is_cancelled() {
        return Err(git2::Error::from_str("cancelled"));
    }
    // Deletes first, since `a` may have been replaced by `a/b`. libgit2 does both, because git2
    // cannot read a name that is not UTF-8.
    remote.prune(None)?;
    remote.update_tips(
        None,
        RemoteUpdateFlags::empty(),
        request.layout.tags(),
        Some("fetch"),
    )?;
    if let Some(name) = default_branch.as_ref().and_then(|name| name.as_str().ok())
        && let Some(local) = request.layout.local(name)
    {
        match request.layout {
            Layout::Mirror => repository.set_head(&local)?,
            Layout::Clone => {
                let origin = "refs/remotes/origin/HEAD";
                repository.reference_symbolic(origin, &local, true, "fetch")?;
            }
        }
    }
    Ok(())
}

/// Records in the repository at `path` that its history ends with the commits `ends`, as on the
/// host.
fn end_history(path: &Path, ends: &[String]) -> Result<(), GitError> {
    if ends.is_empty() {
        return Ok(());
    }
    let folder = match path.join(".git") {
        inside if inside.is_dir() => inside,
        _ => path.to_owned(),
    };
    let file = folder.join("shallow");
    let at = |cause| GitError::disk(&file, cause);
    let present = match fs::read_to_string(&file) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => String::new(),
        present => present.map_err(at)?,
    };
    let mut all: BTreeSet<&str> = present.lines().collect();
    let known = all.len();
    all.extend(ends.iter().map(String::as_str));
    if all.len() == known {
        return Ok(());
    }
    let text: String = all.iter().flat_map(|id| [id, "\n"]).collect();
    // Others may read the file meanwhile.
    let new = folder.join("shallow.lock");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &file))
        .map_err(at)
}

/// Checks that a local repository lies below an allowed folder after its links are resolved, too.
fn check_folder(request: &FetchRequest<'_>) -> Result<(), GitError> {
    let url = &request.source.url;
    let real = Path::new(&url.path)
        .canonicalize()
        .map_err(|error| GitError::NotARepository {
            url: url.as_str().to_owned(),
            reason: printable(&error.to_string()),
        })?;
    let folders = &request.options.policy.local_folders;
    let below = folders
        .iter()
        .filter_map(|folder| folder.canonicalize().ok())
        .any(|folder| real != folder && real.starts_with(folder));
    if below {
        Ok(())
    } else {
        Err(GitError::Url(super::url::UrlError::LocalFolder))
    }
}
