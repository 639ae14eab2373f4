//! Fetches that pages and scripts ask for: one a mirror, shared by all who wait for it, on threads of
//! their own.
//!
//! A fetch goes on as long as somebody wants it: whoever waits for it, or was answered without waiting
//! and will be told by the project's room. When the last one goes before that, it is cancelled.

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

/// How many fetches run at once.
const THREADS: usize = 16;
/// How many of one git host: one that says nothing leaves the others their share.
const THREADS_OF_HOST: usize = 4;
/// How many wait for a thread.
const WAITING: usize = 1024;
/// Of how many mirrors it is kept how their last fetch ended; then it begins anew.
const LAST: usize = 10_000;

/// How much of the history is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Extent {
    /// As much as the project's depth says.
    Configured,
    /// All of it.
    Whole,
}

/// How a fetch ended; everybody who waits is given the same.
pub(super) type Outcome = Result<(), Arc<GitError>>;

/// Hears of a fetch's end: the projects that asked for it, and how it ended.
pub(super) type OnEnd = Box<dyn Fn(&BTreeSet<ProjectId>, &Mirror, &Outcome) + Send + Sync>;

type Key = (String, Extent);

/// See the module. Clones share it.
#[derive(Clone)]
pub(super) struct Fetches(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    on_end: OnEnd,
}

#[derive(Default)]
struct State {
    /// Those that run or wait and can be joined.
    current: HashMap<Key, Arc<Fetch>>,
    waiting: VecDeque<Arc<Fetch>>,
    threads: usize,
    /// How many run, by host.
    running: HashMap<String, usize>,
    /// How the last fetch of each mirror ended, by [`Mirror::key`].
    last: HashMap<String, Last>,
}

/// How the last fetch of a mirror ended.
#[derive(Clone)]
pub(super) struct Last {
    /// When.
    pub(super) at: Instant,
    /// How.
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
    /// How many wait.
    waiters: usize,
    /// Whether somebody wants it who does not wait.
    kept: bool,
}

impl Fetches {
    /// `on_end` is called on a fetch's thread, before those who wait are told.
    pub(super) fn new(on_end: OnEnd) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            on_end,
        }))
    }

    /// Joins the fetch of `mirror` that runs or waits, else begins one.
    ///
    /// # Errors
    /// [`DeployError::Busy`] where too many wait already.
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
    /// Whether a fetch of `mirror` runs or waits.
    pub(super) fn is_fetching(&self, mirror: &Mirror) -> bool {
        let key = (mirror.key(), Extent::Configured);
        self.0.lock().current.contains_key(&key)
    }

    /// How the last fetch of `mirror` that ran here ended.
    pub(super) fn last(&self, mirror: &Mirror) -> Option<Last> {
        self.0.lock().last.get(&mirror.key()).cloned()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that what may begin has a thread.
    fn hire(self: &Arc<Self>, state: &mut State) {
        if state.threads >= THREADS || !state.has_next() {
            return;
        }
        let shared = Arc::clone(self);
        let worker = thread::Builder::new().name("fetch".to_owned());
        match worker.spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            // What waits is begun by the next thread that is free, or given up by who waits for it.
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

    /// Somebody who waited waits no more.
    fn leave(&self, fetch: &Arc<Fetch>) {
        let mut state = self.lock();
        let mut wanted = fetch.wanted();
        wanted.waiters -= 1;
        if wanted.waiters > 0 || wanted.kept {
            return;
        }
        drop(wanted);
        // Who comes now begins another one, which follows this one's end.
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

    /// The one that has waited longest of those that may begin.
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
        // A panic must not leave those who wait without an answer.
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

/// Somebody who waits for a fetch; without him, and without anybody else, it is cancelled.
pub(super) struct Waiter {
    shared: Arc<Shared>,
    fetch: Arc<Fetch>,
    ended: watch::Receiver<Option<Outcome>>,
}

impl Waiter {
    /// How the fetch ends.
    ///
    /// # Errors
    /// [`DeployError::Fetch`].
    pub(super) async fn end(&mut self) -> Result<(), DeployError> {
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => match &*ended {
                Some(Err(error)) => Err(DeployError::Fetch(Arc::clone(error))),
                _ => Ok(()),
            },
            // It cannot be: this one holds the fetch.
            Err(_) => Err(Busy.into()),
        }
    }

    /// [`end`](Self::end), waited for at most so long; none: it goes on without this one, to its end.
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
