//! The log's one writer: everything that waits is committed in one transaction, published in number
//! order, then answered.
//!
//! A message alone does not wait for company: the writer begins as soon as it hears of it. Under load
//! the group is what came while the last one was being written.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::{Conn, Event, NewEvent, Publish, Result, StoreError, events};

/// How many messages wait for the writer at most.
const WAITING: usize = 8192;
/// How many bytes of data they have at most.
const WAITING_BYTES: usize = 32 << 20;

/// Why a message did not get into the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotWritten {
    /// More waits than the writer may keep; the same may succeed in a moment.
    #[error("too many messages wait for the log")]
    Full,
    /// The store is closed.
    #[error("the log is closed")]
    Closed,
    /// The database refused or failed.
    #[error(transparent)]
    Failed(Arc<StoreError>),
}

/// The number that a message gets, once it is committed and published. Dropping this changes nothing
/// about the message.
pub type Written = oneshot::Receiver<std::result::Result<i64, NotWritten>>;

/// Whose turn it is to write. The file has one writer at a time; who waits here is woken at once and
/// gets the next turn, where waiting on the file's own lock is polling and may starve.
#[derive(Default)]
pub(super) struct Turns {
    /// Held by the one who is next, so that nobody who has just written overtakes him.
    next: Mutex<()>,
    now: Mutex<()>,
}

impl Turns {
    pub(super) fn take(&self) -> MutexGuard<'_, ()> {
        let _next = lock(&self.next);
        lock(&self.now)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Append {
    new: NewEvent,
    answer: oneshot::Sender<std::result::Result<i64, NotWritten>>,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Append>,
    bytes: usize,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    fn push(&self, new: NewEvent) -> std::result::Result<Written, NotWritten> {
        let (answer, written) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return Err(NotWritten::Closed);
        }
        let bytes = waiting.bytes + new.data.len();
        if waiting.appends.len() >= WAITING || bytes > WAITING_BYTES {
            return Err(NotWritten::Full);
        }
        waiting.bytes = bytes;
        waiting.appends.push_back(Append { new, answer });
        let first = waiting.appends.len() == 1;
        drop(waiting);
        if first {
            self.arrived.notify_one();
        }
        Ok(written)
    }

    /// Waits until something is there; `false` once the queue is closed and empty.
    fn wait(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        while waiting.appends.is_empty() && !waiting.closed {
            waiting = self
                .arrived
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !waiting.appends.is_empty()
    }

    fn take(&self) -> VecDeque<Append> {
        let mut waiting = lock(&self.waiting);
        waiting.bytes = 0;
        std::mem::take(&mut waiting.appends)
    }

    fn close(&self) {
        lock(&self.waiting).closed = true;
        self.arrived.notify_one();
    }
}

/// The writer is gone, by its end or by a panic: nobody may wait for it.
impl Drop for Desk {
    fn drop(&mut self) {
        self.queue.close();
        self.queue.take();
    }
}

/// The writer's inlet.
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Writer {
    /// Starts the writer on a connection of its own.
    pub(super) fn start(
        conn: Conn,
        turns: Arc<Turns>,
        publish: Arc<OnceLock<Publish>>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let mut desk = Desk {
            conn,
            turns,
            publish,
            queue: Arc::clone(&queue),
        };
        let thread = thread::Builder::new()
            .name("log writer".into())
            .spawn(move || desk.run())?;
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn append(&self, new: NewEvent) -> std::result::Result<Written, NotWritten> {
        self.queue.push(new)
    }

    /// Takes nothing more and returns when all that waits is written.
    pub(super) fn close(&self) {
        self.queue.close();
        let Some(writer) = lock(&self.thread).take() else {
            return;
        };
        // A writer that broke down may be the last to hold the store; nobody can wait for himself.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            tracing::error!("the log's writer broke down");
        }
    }
}

/// The file is whole and closed when its last user has dropped the store.
impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// What the writer's thread works with.
struct Desk {
    conn: Conn,
    turns: Arc<Turns>,
    publish: Arc<OnceLock<Publish>>,
    queue: Arc<Queue>,
}

impl Desk {
    fn run(&mut self) {
        while self.queue.wait() {
            let turns = Arc::clone(&self.turns);
            let turn = turns.take();
            // Only now: what came while others wrote goes along.
            let (new, answers): (Vec<_>, Vec<_>) = self
                .queue
                .take()
                .into_iter()
                .map(|append| (append.new, append.answer))
                .unzip();
            let results = self.write(new);
            drop(turn);
            for (answer, result) in answers.into_iter().zip(results) {
                // The client is gone; its message stays.
                let _ = answer.send(result);
            }
        }
    }

    /// Commits and publishes a group; gives each message's own result, in order.
    fn write(&mut self, new: Vec<NewEvent>) -> Vec<std::result::Result<i64, NotWritten>> {
        let error = match self.commit(&new) {
            Ok(numbers) => {
                self.publish(&numbers, new);
                return numbers.into_iter().map(Ok).collect();
            }
            Err(error) => error,
        };
        if new.len() == 1 || error.is_passing() {
            let error = NotWritten::Failed(Arc::new(error));
            return vec![Err(error); new.len()];
        }
        // One of them may be what the database cannot take: the others must not suffer for it.
        new.into_iter()
            .flat_map(|alone| self.write(vec![alone]))
            .collect()
    }

    fn commit(&mut self, new: &[NewEvent]) -> Result<Vec<i64>> {
        self.conn
            .immediate_transaction(|conn| events::append(conn, new))
    }

    fn publish(&self, numbers: &[i64], new: Vec<NewEvent>) {
        if let Some(publish) = self.publish.get() {
            publish(Event::numbered(numbers, new));
        }
    }
}
