//! Fetches for pages and scripts: one per mirror, shared by all waiters, on threads of their own.
//!
//! A fetch runs while somebody wants it: a caller that waits, or one that was answered without waiting
//! and reads the result in the project's room. A fetch that nobody wants is cancelled.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::DeployError;
use crate::git::{GitError, Mirror};
use crate::pools::Busy;
use crate::ssh::Cancel;
use crate::store::ProjectId;

/// The number of fetches that run at once.
const THREADS: usize = 16;
/// The number of fetches of one git host that run at once, so that a stalled host leaves threads to
/// the others.
const THREADS_OF_HOST: usize = 4;
/// The number of fetches that may wait for a thread.
const WAITING: usize = 1024;
/// The number of mirrors whose last result is kept. All results are dropped when it is reached.
const LAST: usize = 10_000;

/// The part of the history to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Extent {
    /// The project's depth.
    Configured,
    /// The whole history.
    Whole,
}

/// The result of a fetch, the same for all waiters.
pub(super) type Outcome = Result<(), Arc<GitError>>;

/// Called at the end of a fetch with the projects that asked for it and its result.
pub(super) type OnEnd = Box<dyn Fn(&BTreeSet<ProjectId>, &Mirror, &Outcome) + Send + Sync>;

type Key = (String, Extent);

/// Shared fetches, see the module. Clones share the state.
#[derive(Clone)]
pub(super) struct Fetches(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    on_end: OnEnd,
}

#[derive(Default)]
struct State {
    /// Fetches that run or wait and can be joined.
    current: HashMap<Key, Arc<Fetch>>,
    waiting: VecDeque<Arc<Fetch>>,
    threads: usize,
    /// The number of running fetches by host.
    running: HashMap<String, usize>,
    /// The last result of each mirror, by [`Mirror::key`].
    last: HashMap<String, Last>,
}

/// The last result of a mirror.
#[derive(Clone)]
pub(super) struct Last {
    /// The time of its end.
    pub(super) at: Instant,
    /// The result.
    pub(super) outcome: Outcome,
}

struct Fetch {
    key: Key,
    mirror: Mirror,
    cancel: Cancel,
    ended: watch::Sender<Option<Outcome>>,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    projects: BTreeSet<ProjectId>,
    /// The number of waiters.
    waiters: usize,
    /// True if a caller that does not wait wants it.
    kept: bool,
}

impl Fetches {
    /// `on_end` is called on the fetch's thread, before the waiters get the result.
    pub(super) fn new(on_end: OnEnd) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            on_end,
        }))
    }

    /// Joins the fetch of `mirror` that runs or waits, else begins one.
    ///
    /// # Errors
    /// [`DeployError::Busy`] if too many wait already.
    pub(super) fn join(
        &self,
        project: ProjectId,
        mirror: Mirror,
        extent: Extent,
    ) -> Result<Waiter, DeployError> {
        let key = (mirror.key(), extent);
        let mut state = self.0.lock();
        let fetch = match state.current.get(&key) {
            Some(fetch) => Arc::clone(fetch),
            None if state.waiting.len() >= WAITING => return Err(Busy.into()),
            None => {
                let fetch = Arc::new(Fetch {
                    key: key.clone(),
                    mirror,
                    cancel: Cancel::new(),
                    ended: watch::Sender::new(None),
                    wanted: Mutex::default(),
                });
                state.current.insert(key, Arc::clone(&fetch));
                state.waiting.push_back(Arc::clone(&fetch));
                fetch
            }
        };
        let mut wanted = fetch.wanted();
        wanted.waiters += 1;
        wanted.projects.insert(project);
        drop(wanted);
        self.0.hire(&mut state);
        Ok(Waiter {
            shared: Arc::clone(&self.0),
            ended: fetch.ended.subscribe(),
            fetch,
        })
    }
}

impl Fetches {
    /// True if a fetch of `mirror` runs or waits.
    pub(super) fn is_fetching(&self, mirror: &Mirror) -> bool {
        let key = (mirror.key(), Extent::Configured);
        self.0.lock().current.contains_key(&key)
    }

    /// The last result of `mirror` since the platform started.
    pub(super) fn last(&self, mirror: &Mirror) -> Option<Last> {
        self.0.lock().last.get(&mirror.key()).cloned()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread if a waiting fetch may begin and the limit allows it.
    fn hire(self: &Arc<Self>, state: &mut State) {
        if state.threads >= THREADS || !state.has_next() {
            return;
        }
        let shared = Arc::clone(self);
        let worker = thread::Builder::new().name("fetch".to_owned());
        match worker.spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            // The next free thread begins the waiting fetch, unless its waiters give up first.
            Err(error) => tracing::error!(%error, "no thread for a fetch"),
        }
    }

    fn work(self: Arc<Self>) {
        let mut state = self.lock();
        while let Some(fetch) = state.next() {
            drop(state);
            let outcome = fetch.run();
            state = self.lock();
            state.over(&fetch, &outcome);
            let projects = std::mem::take(&mut fetch.wanted().projects);
            drop(state);
            if !fetch.cancel.is_cancelled() {
                (self.on_end)(&projects, &fetch.mirror, &outcome);
            }
            fetch.ended.send_replace(Some(outcome));
            state = self.lock();
            self.hire(&mut state);
        }
        state.threads -= 1;
    }

    /// Removes a waiter.
    fn leave(&self, fetch: &Arc<Fetch>) {
        let mut state = self.lock();
        let mut wanted = fetch.wanted();
        wanted.waiters -= 1;
        if wanted.waiters > 0 || wanted.kept {
            return;
        }
        drop(wanted);
        // A caller that comes now begins another fetch, which runs after this one has ended.
        fetch.cancel.cancel();
        state.forget(fetch);
        state.waiting.retain(|waiting| !Arc::ptr_eq(waiting, fetch));
    }
}

impl State {
    fn may_begin(&self, fetch: &Fetch) -> bool {
        let running = self.running.get(fetch.mirror.host());
        running.is_none_or(|running| *running < THREADS_OF_HOST)
    }

    fn has_next(&self) -> bool {
        self.waiting.iter().any(|fetch| self.may_begin(fetch))
    }

    /// The longest-waiting fetch among those that may begin.
    fn next(&mut self) -> Option<Arc<Fetch>> {
        let place = self.waiting.iter().position(|fetch| self.may_begin(fetch));
        let fetch = self.waiting.remove(place?)?;
        let host = fetch.mirror.host().to_owned();
        *self.running.entry(host).or_default() += 1;
        Some(fetch)
    }

    fn over(&mut self, fetch: &Arc<Fetch>, outcome: &Outcome) {
        if self.last.len() >= LAST {
            self.last.clear();
        }
        if !fetch.cancel.is_cancelled() {
            let last = Last {
                at: Instant::now(),
                outcome: outcome.clone(),
            };
            self.last.insert(fetch.key.0.clone(), last);
        }
        let host = fetch.mirror.host();
        if let Some(running) = self.running.get_mut(host) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(host);
            }
        }
        self.forget(fetch);
    }

    fn forget(&mut self, fetch: &Arc<Fetch>) {
        let current = self.current.get(&fetch.key);
        if current.is_some_and(|current| Arc::ptr_eq(current, fetch)) {
            self.current.remove(&fetch.key);
        }
    }
}

impl Fetch {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) -> Outcome {
        let report = &mut |_: &_| match self.cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let fetch = || match self.key.1 {
            Extent::Configured => self.mirror.fetch(report),
            Extent::Whole => self.mirror.fetch_whole(report),
        };
        // A panic must not leave the waiters without an answer.
        let done = panic::catch_unwind(AssertUnwindSafe(fetch));
        done.unwrap_or_else(|_| {
            Err(GitError::Git {
                url: self.mirror.url().to_owned(),
                reason: "the fetch broke off".to_owned(),
            })
        })
        .map_err(Arc::new)
    }
}

/// A waiter of a fetch. The fetch is cancelled when its last waiter is dropped and nobody else wants
/// it.
pub(super) struct Waiter {
    shared: Arc<Shared>,
    fetch: Arc<Fetch>,
    ended: watch::Receiver<Option<Outcome>>,
}

impl Waiter {
    /// Waits for the fetch's end.
    ///
    /// # Errors
    /// [`DeployError::Fetch`] if the fetch failed.
    pub(super) async fn end(&mut self) -> Result<(), DeployError> {
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => match &*ended {
                Some(Err(error)) => Err(DeployError::Fetch(Arc::clone(error))),
                _ => Ok(()),
            },
            // Unreachable: `self.fetch` holds the sender.
            Err(_) => Err(Busy.into()),
        }
    }

    /// [`end`](Self::end), for at most `longest`. `None`: the fetch goes on to its end without this
    /// waiter.
    pub(super) async fn end_within(
        &mut self,
        longest: Duration,
    ) -> Option<Result<(), DeployError>> {
        let ended = tokio::time::timeout(longest, self.end()).await.ok();
        if ended.is_none() {
            self.fetch.wanted().kept = true;
        }
        ended
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.shared.leave(&self.fetch);
    }
}
