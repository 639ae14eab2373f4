//! The log's only writer: commits all queued messages in one transaction, publishes them in number
//! order, then answers.
//!
//! A single message does not wait for others: the writer starts as soon as it arrives. Under load a
//! group is everything that arrived during the previous commit. The writer also moves the journal's
//! records into the database when they are due.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use diesel::result::Error as DieselError;
use tokio::sync::oneshot;

use super::journal::{FLUSH_AFTER, Journal};
use super::writer_stats::{Counters, WriterStats};
use super::{Conn, Event, NewEvent, Publish, Result, StoreError, events, write_transaction};

/// The largest number of queued messages.
const WAITING: usize = 8192;
/// The largest size of their data, in bytes.
const WAITING_BYTES: usize = 32 << 20;

/// The reason a message did not get into the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotWritten {
    /// The writer's queue is full; the same may succeed in a moment.
    #[error("too many messages wait for the log")]
    Full,
    /// The store is closed.
    #[error("the log is closed")]
    Closed,
    /// The database refused or failed.
    #[error(transparent)]
    Failed(Arc<StoreError>),
}

/// The delay before the journal's records are offered again to a database that rejected them.
const FLUSH_AGAIN: Duration = Duration::from_secs(1);

/// The result of appending a message.
pub enum Appended {
    /// Written and published, with this number.
    Now(i64),
    /// Queued for the writer.
    Later(Written),
}

impl Appended {
    /// The message's number, once it is written and published.
    ///
    /// # Errors
    /// [`NotWritten`] if the writer could not write it.
    pub async fn number(self) -> std::result::Result<i64, NotWritten> {
        match self {
            Self::Now(number) => Ok(number),
            Self::Later(written) => written.await.unwrap_or(Err(NotWritten::Closed)),
        }
    }
}

/// The number of a message, once it is committed and published. Dropping this does not affect the
/// message.
pub type Written = oneshot::Receiver<std::result::Result<i64, NotWritten>>;

/// The write lock. The file has one writer at a time; a thread waiting here is woken at once and is
/// next, whereas waiting on SQLite's file lock is polling and may starve.
#[derive(Default)]
pub(super) struct WriteLock {
    /// Held by the next writer, so that a thread that has just written cannot overtake it.
    next: Mutex<()>,
    state: Mutex<LogState>,
    /// True if the journal has records. Written under the lock, read without it.
    pending: AtomicBool,
}

/// The state guarded by the write lock.
#[derive(Default)]
pub(super) struct LogState {
    /// True once the log is closed.
    pub(super) closed: bool,
    /// The journal, whose messages precede the next ones of the database. None before the log has
    /// begun, and none if every message must be on disk before it is acknowledged.
    pub(super) journal: Option<Journal>,
}

impl WriteLock {
    pub(super) fn lock(&self) -> MutexGuard<'_, LogState> {
        let _next = lock(&self.next);
        lock(&self.state)
    }

    /// Takes the lock if nobody holds it or waits for it.
    fn try_lock(&self) -> Option<MutexGuard<'_, LogState>> {
        let _next = try_lock(&self.next)?;
        try_lock(&self.state)
    }

    /// True if the journal holds messages that a read of the database does not see.
    pub(super) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Runs `queries` under the lock in one transaction, after inserting the journal's records.
    pub(super) fn transaction<T>(
        &self,
        state: &mut LogState,
        conn: &mut Conn,
        queries: impl FnOnce(&mut Conn) -> Result<T>,
    ) -> Result<T> {
        let journal = state.journal.as_ref();
        let done = write_transaction(conn, |conn| {
            if let Some(journal) = journal {
                journal.insert(conn)?;
            }
            queries(conn)
        })?;
        if let Some(journal) = &mut state.journal {
            journal.flushed();
            self.pending.store(false, Ordering::Release);
        }
        Ok(done)
    }

    /// Installs the journal; records of an earlier process become pending.
    pub(super) fn set_journal(&self, state: &mut LogState, journal: Journal) {
        self.pending.store(!journal.is_empty(), Ordering::Release);
        state.journal = Some(journal);
    }
}

impl LogState {
    /// Tells the journal the numbers the database gave.
    pub(super) fn numbered(&mut self, numbers: &[i64]) {
        if let (Some(journal), Some(last)) = (&mut self.journal, numbers.last()) {
            journal.numbered_up_to(*last);
        }
    }
}

fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
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
    /// The time by which the journal's records, if any, must move into the database.
    flush_at: Option<Instant>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    counters: Counters,
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

    /// Waits for messages or for the journal's flush time; `false` once the queue is closed and
    /// nothing is left to write.
    fn wait(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        loop {
            if !waiting.appends.is_empty() {
                return true;
            }
            let left = waiting
                .flush_at
                .map(|at| at.saturating_duration_since(Instant::now()));
            match left {
                Some(left) if left.is_zero() || waiting.closed => {
                    waiting.flush_at = None;
                    return true;
                }
                None if waiting.closed => return false,
                Some(left) => {
                    let woken = self.arrived.wait_timeout(waiting, left);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    let woken = self.arrived.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Schedules a flush of the journal after `wait` at the latest.
    fn flush_after(&self, wait: Duration) {
        let at = Instant::now() + wait;
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            // The next start reads the journal.
            return;
        }
        if waiting.flush_at.is_none_or(|before| at < before) {
            waiting.flush_at = Some(at);
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    fn is_idle(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.appends.is_empty() && !waiting.closed
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

/// Closes the queue when the writer ends or panics, so that nobody waits for it.
impl Drop for Desk {
    fn drop(&mut self) {
        self.queue.close();
        self.queue.take();
    }
}

/// The sending side of the writer.
pub(super) struct Writer {
    queue: Arc<Queue>,
    write_lock: Arc<WriteLock>,
    publish: Arc<OnceLock<Publish>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Writer {
    /// Starts the writer thread on a connection of its own.
    pub(super) fn start(
        conn: Conn,
        write_lock: Arc<WriteLock>,
        publish: Arc<OnceLock<Publish>>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let mut desk = Desk {
            conn,
            write_lock: Arc::clone(&write_lock),
            publish: Arc::clone(&publish),
            queue: Arc::clone(&queue),
        };
        let thread = thread::Builder::new()
            .name("log writer".into())
            .spawn(move || desk.run())?;
        Ok(Self {
            queue,
            write_lock,
            publish,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn append(&self, new: NewEvent) -> std::result::Result<Appended, NotWritten> {
        match self.try_append(new) {
            Ok(number) => Ok(Appended::Now(number)),
            Err(new) => self.queue.push(new).map(Appended::Later),
        }
    }

    /// Writes `new` to the journal and publishes it, if nobody else writes or waits to.
    pub(super) fn try_append(&self, new: NewEvent) -> std::result::Result<i64, NewEvent> {
        let Some(mut state) = self.write_lock.try_lock() else {
            return Err(new);
        };
        // Queued messages came first.
        if state.closed || !self.queue.is_idle() {
            return Err(new);
        }
        let Some(journal) = &mut state.journal else {
            return Err(new);
        };
        let was_empty = journal.is_empty();
        let event = journal.append(new)?;
        let is_full = journal.is_full();
        self.write_lock.pending.store(true, Ordering::Release);
        self.queue.counters.journaled();
        let number = event.number;
        if let Some(publish) = self.publish.get() {
            publish(vec![event]);
        }
        drop(state);
        if is_full {
            self.queue.flush_after(Duration::ZERO);
        } else if was_empty {
            self.queue.flush_after(FLUSH_AFTER);
        }
        Ok(number)
    }

    /// Moves the journal's records, if any, into the database.
    ///
    /// # Errors
    /// Database errors; the records stay.
    pub(super) fn flush(&self, conn: &mut Conn) -> Result<()> {
        if !self.write_lock.has_pending() {
            return Ok(());
        }
        let mut state = self.write_lock.lock();
        let begun = Instant::now();
        let done = self.write_lock.transaction(&mut state, conn, |_| Ok(()));
        let took = begun.elapsed();
        self.queue.counters.committed(0, took, done.is_ok());
        done
    }

    /// Runs `queries` with the records of the journal visible while the database cannot be written:
    /// in a transaction that is rolled back.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) fn read_with_journal<T>(
        &self,
        conn: &mut Conn,
        queries: impl FnOnce(&mut Conn) -> Result<T>,
    ) -> Result<T> {
        let state = self.write_lock.lock();
        let mut found = None;
        let undone = write_transaction(conn, |conn| -> Result<()> {
            if let Some(journal) = &state.journal {
                journal.insert(conn)?;
            }
            found = Some(queries(conn)?);
            Err(StoreError::Database(DieselError::RollbackTransaction))
        });
        match (found, undone) {
            (Some(found), _) => Ok(found),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(StoreError::Database(DieselError::RollbackTransaction)),
        }
    }

    pub(super) fn stats(&self) -> WriterStats {
        let waiting = lock(&self.queue.waiting).appends.len();
        self.queue.counters.read(waiting)
    }

    /// Rejects further messages and returns when all queued ones are written.
    pub(super) fn close(&self) {
        self.queue.close();
        let Some(writer) = lock(&self.thread).take() else {
            return;
        };
        // A writer that panicked may be the last to hold the store, and a thread cannot join
        // itself.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            tracing::error!("the log's writer broke down");
        }
    }
}

/// Closes the log when the last user drops the store.
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

/// The state of the writer thread.
struct Desk {
    conn: Conn,
    write_lock: Arc<WriteLock>,
    publish: Arc<OnceLock<Publish>>,
    queue: Arc<Queue>,
}

impl Desk {
    fn run(&mut self) {
        while self.queue.wait() {
            let write_lock = Arc::clone(&self.write_lock);
            let mut state = write_lock.lock();
            // Taken only under the lock, so that messages which arrived during other writes join
            // the group.
            let (new, answers): (Vec<_>, Vec<_>) = self
                .queue
                .take()
                .into_iter()
                .map(|append| (append.new, append.answer))
                .unzip();
            if new.is_empty() && state.journal.as_ref().is_none_or(Journal::is_empty) {
                continue;
            }
            let results = self.write(&mut state, new);
            drop(state);
            for (answer, result) in answers.into_iter().zip(results) {
                // A send fails if the client is gone; its message stays.
                let _ = answer.send(result);
            }
        }
    }

    /// Commits and publishes a group; returns each message's own result, in order.
    fn write(
        &mut self,
        state: &mut LogState,
        new: Vec<NewEvent>,
    ) -> Vec<std::result::Result<i64, NotWritten>> {
        let error = match self.commit(state, &new) {
            Ok(numbers) => {
                state.numbered(&numbers);
                self.publish(&numbers, new);
                return numbers.into_iter().map(Ok).collect();
            }
            Err(error) => error,
        };
        if new.is_empty() {
            // Acknowledged messages stay in the journal until the database takes them.
            tracing::error!(%error, "the journal's messages could not come into the database");
            self.queue.flush_after(FLUSH_AGAIN);
            return Vec::new();
        }
        if new.len() == 1 || error.is_passing() {
            let error = NotWritten::Failed(Arc::new(error));
            return vec![Err(error); new.len()];
        }
        // The cause may be one bad message; the others are retried alone.
        new.into_iter()
            .flat_map(|alone| self.write(state, vec![alone]))
            .collect()
    }

    fn commit(&mut self, state: &mut LogState, new: &[NewEvent]) -> Result<Vec<i64>> {
        let begun = Instant::now();
        let done = self
            .write_lock
            .transaction(state, &mut self.conn, |conn| events::append(conn, new));
        let took = begun.elapsed();
        self.queue.counters.committed(new.len(), took, done.is_ok());
        done
    }

    fn publish(&self, numbers: &[i64], new: Vec<NewEvent>) {
        if !new.is_empty()
            && let Some(publish) = self.publish.get()
        {
            publish(Event::numbered(numbers, new));
        }
    }
}
