//! Rooms, per-client bounded queues, cursors, replay and gaps: the core. It knows nothing of HTTP,
//! releases or SQL.
//!
//! Every accepted message has a number in one log over all rooms. [`Hub::publish`] puts it, committed
//! and encoded, into its room's ring and into the bounded queue of every client of the room, and wakes
//! parked polls. A [`Hub::poll`] registers first and then looks: in its client's queue if that holds
//! everything after the poll's cursor, else in the rooms' rings, else in the durable [`Log`]. All three
//! give the same answer, which depends on rooms, cursor and log alone; a full or swept queue only makes
//! the hub look further. Messages that the log no longer has are reported as a gap.
//!
//! One lock guards everything in memory. It is held for arithmetic only: never across an await, a read
//! of the log, or a wake-up.

mod client;
mod coalesce;
mod cursor;
mod log;
mod members;
mod message;
mod meter;
#[cfg(test)]
mod model_test;
mod notifier;
mod parked;
mod poll;
#[cfg(test)]
mod poll_test;
mod positions;
mod presence;
mod queue;
mod reply_page;
mod ring;
mod room;
mod slab;
mod state;
#[cfg(test)]
pub(crate) mod test_log;
mod wake_loop;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::Rng;
use tokio::sync::{Notify, Semaphore, watch};

pub use client::Known;
pub use cursor::{BadCursor, BadEpoch, CURSOR_CHARS, Cursor, Epochs, Position};
pub use log::{Limit, Log, LogError, Page};
pub use message::{Kind, Message};
pub use meter::{Histogram, LATENCY_BOUNDS, Meter, Reading};
pub use notifier::{Notifier, NotifierKey, Slot};
pub use parked::{ParkedPoll, PollOutcome};
pub use poll::{Batch, Poll, PollError, jittered};
pub use positions::Positions;
pub use presence::{MOST_NAMED, Person, Presence};
pub use room::{BadName, BadRoom, ClientId, Family, NAME_CHARS, RoomName};

use notifier::{Notifiers, Wakeups};
use state::State;

/// Concurrent reads of the log: polls that return together after a restart would all read the same.
const READERS: usize = 4;

/// The sizes and times of a hub.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Messages in a client's queue.
    pub queue: usize,
    /// Messages in a room's ring.
    pub ring_messages: usize,
    /// Bytes in a room's ring, encoded.
    pub ring_bytes: usize,
    /// Bytes of messages in one reply, encoded.
    pub reply_bytes: usize,
    /// Polls of one client in flight; beyond that the oldest is ended.
    pub polls: usize,
    /// Clients with a queue.
    pub clients: usize,
    /// Clients with a queue per address.
    pub address_clients: usize,
    /// Rooms per poll.
    pub rooms: usize,
    /// The time after which an unused client is swept, with its queue and its memberships; the log
    /// keeps the messages.
    pub idle: Duration,
    /// The maximum time that a message in a large, busy room waits for others, so that one reply
    /// carries several; nothing waits unless [`Hub::run_wake_loop`] runs.
    pub coalesce: Duration,
    /// While draining, clients are told to return after between half a second and this time.
    pub drain: Duration,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            queue: 256,
            ring_messages: 1024,
            ring_bytes: 1 << 20,
            // The rest of 64 KiB is for the reply's other keys.
            reply_bytes: (64 << 10) - 512,
            polls: 4,
            clients: 100_000,
            address_clients: 10_000,
            rooms: 32,
            idle: Duration::from_secs(120),
            coalesce: Duration::from_millis(30),
            drain: Duration::from_secs(5),
        }
    }
}

impl HubOptions {
    fn drain_retry(&self) -> Duration {
        let least = Duration::from_millis(500);
        rand::rng().random_range(least..=self.drain.max(least))
    }
}

/// The hub has reached a bound on its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooManyClients {
    /// The bound on all clients.
    #[error("too many clients")]
    InAll,
    /// The bound on the clients of one address.
    #[error("too many clients from this address")]
    OfAddress,
}

/// The contents of the hub at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Clients with a queue.
    pub clients: usize,
    /// Polls in flight.
    pub polls: usize,
    /// Rooms in memory.
    pub rooms: usize,
}

/// A handle on the one hub; clones share it.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    epochs: Epochs,
    options: HubOptions,
    state: Mutex<State>,
    /// Set once, under the lock; read without it.
    draining: AtomicBool,
    ended: watch::Sender<bool>,
    positions: Positions,
    meter: Arc<Meter>,
    /// Notified when messages in a room begin to wait.
    coalescing: Notify,
    notifiers: Notifiers,
    /// Permits for polls that read the log; a poll that had to wait for one looks into memory first.
    readers: Semaphore,
}

impl Hub {
    /// Creates a hub over a log whose newest committed message has the number `head` (0: none yet). A
    /// log that may have lost numbered messages must come back in another of its `epochs`; otherwise a
    /// number could mean two messages.
    pub fn new(log: Arc<dyn Log>, epochs: Epochs, head: u64, options: HubOptions) -> Hub {
        let meter = Arc::<Meter>::default();
        Hub(Arc::new(Inner {
            log,
            epochs,
            state: Mutex::new(State::new(head, options.clone(), Arc::clone(&meter))),
            draining: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            positions: Positions::new(options.clients),
            coalescing: Notify::new(),
            notifiers: Notifiers::default(),
            readers: Semaphore::new(READERS),
            options,
            meter,
        }))
    }

    /// Delivers committed messages to their rooms. Called by the log's one writer, right after each
    /// commit, in the order of their numbers, which need not be contiguous. Never blocks.
    pub fn publish(&self, messages: Vec<Message>) {
        self.0.meter.published(messages.len());
        let now = std::time::Instant::now();
        let mut wakeups = Wakeups::default();
        let mut state = self.lock();
        for mut message in messages {
            message.published = Some(now);
            state.publish(message, &mut wakeups);
        }
        let coalescing = !state.coalescing.is_empty();
        drop(state);
        if coalescing {
            self.0.coalescing.notify_one();
        }
        self.wake(wakeups);
    }

    /// Records that retention dropped the messages of `room` up to the number `up_to`; called after the
    /// log has committed that.
    pub fn dropped(&self, room: &RoomName, up_to: u64) {
        self.lock().dropped(room, up_to);
    }

    /// The number of the newest published message.
    pub fn head(&self) -> u64 {
        self.lock().head
    }

    /// The cursor of this moment. Take it before reading a snapshot; then no message is missed between
    /// the two.
    pub fn now(&self) -> Cursor {
        self.cursor(self.head())
    }

    /// The position for a client that cannot be told of a gap: after `cursor`, as far as its history is
    /// this log's; the oldest message kept if its history is unknown.
    pub fn kept_position(&self, cursor: &Cursor) -> Position {
        match self.0.epochs.shared(cursor, self.head()) {
            Some(number) => Position::from(self.cursor(number)),
            None => Position::Start,
        }
    }

    /// The cursor after `message`, for a client that has handled it and all before it.
    pub fn behind(&self, message: &Message) -> Cursor {
        self.cursor(message.number)
    }

    /// The one cursor equivalent to `position`: now, the oldest of several, or a foreign one if there
    /// is any. None for the start, which has no number.
    pub fn oldest(&self, position: &Position) -> Option<Cursor> {
        let cursors = match position {
            Position::Now => return Some(self.now()),
            Position::Start => return None,
            Position::After(cursors) => cursors,
        };
        let head = self.head();
        let foreign = |cursor: &&Cursor| !self.0.epochs.knows(cursor, head);
        let oldest = || cursors.iter().min_by_key(|cursor| cursor.number);
        let chosen = cursors.iter().find(foreign).or_else(oldest);
        Some(chosen.cloned().unwrap_or_else(|| self.cursor(head)))
    }

    /// Answers every parked poll at once with a time to come back, and parks none from now on.
    pub fn drain(&self) {
        let mut wakeups = Wakeups::default();
        let mut state = self.lock();
        self.0.draining.store(true, Ordering::Relaxed);
        state.drain(&mut wakeups);
        drop(state);
        self.wake(wakeups);
    }

    /// True if [`Hub::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Ends the drain: releases clients that are still delayed.
    pub fn end(&self) {
        self.0.ended.send_replace(true);
    }

    /// Waits for [`Hub::end`].
    pub async fn ended(&self) {
        let mut ended = self.0.ended.subscribe();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// The delay after which a client sent away by [`Hub::drain`] is to come back: random, so that
    /// clients do not return together.
    pub fn drain_retry(&self) -> Duration {
        self.options().drain_retry()
    }

    /// Forgets a slice of the clients that are unused. If it returns true there is more: call it again
    /// at once, otherwise periodically. Polls sweep too, but there may be none.
    pub fn sweep(&self) -> bool {
        self.lock().sweep(tokio::time::Instant::now())
    }

    /// The contents of the hub at this moment.
    pub fn census(&self) -> Census {
        let state = self.lock();
        Census {
            clients: state.clients(),
            polls: state.polls(),
            rooms: state.rooms(),
        }
    }

    /// The hub's counters.
    pub fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// The rooms with the most clients, at most `most`, the fullest first.
    pub fn fullest_rooms(&self, most: usize) -> Vec<(RoomName, usize)> {
        self.lock().fullest_rooms(most)
    }

    /// The positions of clients that send no cursor.
    pub fn positions(&self) -> &Positions {
        &self.0.positions
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics halfway through a change that would leave the state
        // inconsistent.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = tokio::time::Instant::now();
        state
    }

    fn wake(&self, wakeups: Wakeups) {
        self.0.notifiers.make(wakeups);
    }

    fn cursor(&self, number: u64) -> Cursor {
        Cursor {
            epoch: self.0.epochs.current(),
            number,
        }
    }

    fn epochs(&self) -> &Epochs {
        &self.0.epochs
    }

    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.0.log)
    }

    fn options(&self) -> &HubOptions {
        &self.0.options
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("epoch", &self.0.epochs.current())
            .field("census", &self.census())
            .finish_non_exhaustive()
    }
}
