//! Bounded pools of blocking threads, one per kind of thing waited for, so that a git host or a server
//! that does not answer never delays a login or a page.
//!
//! Each pool has threads of its own, a bound on the work that waits for one, and a bound on the wait. A
//! thread counts as taken until its work has ended, whatever became of the request.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// The maximum time that work waits for a thread.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time that an idle thread is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The server is overloaded; the same request may succeed in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is busy")]
pub struct Busy;

/// The bounds of one pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolBounds {
    /// The number of threads; at least 1.
    pub threads: usize,
    /// The maximum number of waiting callers.
    pub waiting: usize,
    /// The maximum time of the wait.
    pub patience: Duration,
}

/// All pools of an installation. Clones share them.
#[derive(Clone, Debug)]
pub struct Pools {
    /// The database, password hashing and the data folder: the work of logins and pages.
    pub database: BlockingPool,
    /// Reads of mirrors on this disk, which take seconds for a large repository.
    pub mirrors: BlockingPool,
    /// Git hosts, except fetches, which have threads of their own.
    pub git: BlockingPool,
    /// The names of hosts, looked up before something is saved.
    pub names: BlockingPool,
    /// Servers: connection tests and requests for their host keys.
    pub servers: BlockingPool,
    /// Remote commands and files, which may take minutes each; callers do not wait for a thread.
    pub by_hand: BlockingPool,
}

impl Pools {
    /// Creates the pools, without threads yet.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new() -> std::io::Result<Self> {
        let pool = |name, threads, waiting| {
            let bounds = PoolBounds {
                threads,
                waiting,
                patience: PATIENCE,
            };
            BlockingPool::new(name, bounds)
        };
        Ok(Self {
            database: pool("database", 64, 4096)?,
            mirrors: pool("mirrors", 8, 256)?,
            git: pool("git", 16, 64)?,
            names: pool("names", 4, 64)?,
            servers: pool("servers", 16, 64)?,
            by_hand: pool("by-hand", 16, 0)?,
        })
    }
}

/// One pool; clones share it.
#[derive(Clone)]
pub struct BlockingPool(Arc<Inner>);

struct Inner {
    name: &'static str,
    patience: Duration,
    threads: Arc<Semaphore>,
    waiting: Semaphore,
    /// Set until the drop. The runtime is not driven: only its blocking threads are used.
    runtime: Option<Runtime>,
}

impl BlockingPool {
    /// Creates a pool without threads yet.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new(name: &'static str, bounds: PoolBounds) -> std::io::Result<Self> {
        let threads = bounds.threads.max(1);
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_keep_alive(KEEP_ALIVE)
            .thread_name(name)
            .build()?;
        Ok(Self(Arc::new(Inner {
            name,
            patience: bounds.patience,
            threads: Arc::new(Semaphore::new(threads)),
            waiting: Semaphore::new(bounds.waiting),
            runtime: Some(runtime),
        })))
    }

    /// Runs `work` on one of the pool's threads, in the order of requests. Dropping the future cancels
    /// work that has not begun; work that has begun continues and keeps its thread.
    ///
    /// # Errors
    /// [`Busy`] if too much waits already, if no thread is free in time, and if `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let thread = self.thread().await?;
        self.begin(thread, work)?.await.map_err(|_| Busy)
    }

    /// [`run`](Self::run) for work that must have a thread now.
    ///
    /// # Errors
    /// [`Busy`] if no thread is free.
    pub fn run_now<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Busy> {
        let thread = Arc::clone(&self.0.threads).try_acquire_owned();
        self.begin(thread.map_err(|_| Busy)?, work)
    }

    async fn thread(&self) -> Result<OwnedSemaphorePermit, Busy> {
        let threads = Arc::clone(&self.0.threads);
        if let Ok(thread) = Arc::clone(&threads).try_acquire_owned() {
            return Ok(thread);
        }
        let _place = self.0.waiting.try_acquire().map_err(|_| Busy)?;
        let thread = tokio::time::timeout(self.0.patience, threads.acquire_owned()).await;
        thread.map_err(|_| Busy)?.map_err(|_| Busy)
    }

    fn begin<T: Send + 'static>(
        &self,
        thread: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Busy> {
        let runtime = self.0.runtime.as_ref().ok_or(Busy)?;
        Ok(runtime.spawn_blocking(move || {
            let _thread = thread;
            work()
        }))
    }
}

/// Limits of a pool's use per key, so that a key whose work hangs leaves threads to the others.
pub struct Shares<K> {
    most: usize,
    keys: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Eq + Hash> Shares<K> {
    /// Creates limits of `most` permits per key.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            keys: Mutex::default(),
        }
    }

    /// A permit for `key`, held during its work.
    ///
    /// # Errors
    /// [`Busy`] if none is free within 10 s.
    pub async fn share(&self, key: K) -> Result<OwnedSemaphorePermit, Busy> {
        let shares = self.of(key);
        let share = tokio::time::timeout(PATIENCE, shares.acquire_owned()).await;
        share.map_err(|_| Busy)?.map_err(|_| Busy)
    }

    fn of(&self, key: K) -> Arc<Semaphore> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shares) = keys.get(&key).and_then(Weak::upgrade) {
            return shares;
        }
        keys.retain(|_, shares| shares.strong_count() > 0);
        let shares = Arc::new(Semaphore::new(self.most));
        keys.insert(key, Arc::downgrade(&shares));
        shares
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.0.threads.available_permits();
        write!(formatter, "BlockingPool({}, {free} free)", self.0.name)
    }
}

impl Drop for Inner {
    /// Does not wait for running work: the last handle may be dropped on an async thread.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn pool(waiting: usize, patience: Duration) -> BlockingPool {
        let bounds = PoolBounds {
            threads: 1,
            waiting,
            patience,
        };
        BlockingPool::new("test", bounds).unwrap()
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_thread_is_taken_until_its_work_ends_and_not_until_its_waiter_goes() {
        let pool = pool(4, Duration::from_secs(60));
        let (open, gate) = mpsc::channel::<()>();
        let mut first = Box::pin(pool.run(move || gate.recv()));
        assert!(poll_once(first.as_mut()).is_pending());
        drop(first);
        assert!(pool.run_now(|| ()).is_err(), "its work goes on");
        open.send(()).unwrap();
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_number_and_time() {
        let pool = pool(1, Duration::from_millis(50));
        let (open, gate) = mpsc::channel::<()>();
        let first = pool.run_now(move || gate.recv()).unwrap();
        let mut second = pin!(pool.run(|| ()));
        assert!(poll_once(second.as_mut()).is_pending());
        assert_eq!(pool.run(|| ()).await, Err(Busy), "one waits already");
        assert_eq!(second.await, Err(Busy), "it waited long enough");
        open.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn what_has_not_begun_is_taken_back_with_its_waiter() {
        let pool = pool(1, Duration::from_secs(60));
        let (open, gate) = mpsc::channel::<()>();
        let first = pool.run_now(move || gate.recv()).unwrap();
        for _ in 0..100 {
            let mut waiter = Box::pin(pool.run(|| unreachable!("nobody waits for it")));
            assert!(poll_once(waiter.as_mut()).is_pending());
        }
        open.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn each_key_has_its_share() {
        let shares = Shares::new(1);
        let one = shares.share("one").await.unwrap();
        let mut again = pin!(shares.share("one"));
        assert!(poll_once(again.as_mut()).is_pending());
        drop(shares.share("other").await.unwrap());
        drop(one);
        drop(again.await.unwrap());
        drop(shares.share("third").await.unwrap());
        assert_eq!(shares.keys.lock().unwrap().len(), 1, "nobody else is known");
    }

    #[tokio::test]
    async fn a_panic_gives_its_thread_back() {
        let pool = pool(0, Duration::from_secs(60));
        assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(Busy));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }
}
