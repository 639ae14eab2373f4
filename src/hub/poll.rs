//! One poll, from its registration to its answer.

use std::{
    future::{Future, pending, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll as Step},
    time::Duration,
};

use rand::Rng;
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, sleep_until},
};

use super::{
    Hub, TooManyClients,
    client::Known,
    cursor::{Cursor, Position, Resolved},
    log::{Limit, LogError},
    message::Message,
    notifier::{WaiterRef, Wakeups},
    reply_page::{LogPage, ReplyPage, gaps, reply_page_from_log},
    room::{ClientId, RoomName},
    state::{Found, PollKey},
};

/// A lower bound on the encoded size of a message, in bytes. It bounds how many messages fit in a
/// reply, so the log need not read further.
const LEAST_ENCODED: usize = 80;

/// A client's request.
#[derive(Clone, Debug)]
pub struct Poll {
    /// The client.
    pub client: Arc<ClientId>,
    /// The client's address, for the bound on clients per address; `None` is not counted.
    pub address: Option<IpAddr>,
    /// Its rooms, each once. The caller has checked that the client may read them.
    pub rooms: Arc<[RoomName]>,
    /// The position from which it continues.
    pub after: Position,
    /// The maximum time that an empty answer is held; zero is plain polling.
    pub wait: Duration,
    /// The maximum number of messages in the answer; the hub's options bound the bytes.
    pub messages: usize,
    /// True if newer polls of the same client, in excess of the hub's bound, end this one (not for
    /// course polls).
    pub may_be_superseded: bool,
}

/// The answer to a poll.
#[derive(Debug)]
pub struct Batch {
    /// The position from which the client continues, once it has handled the answer.
    pub cursor: Cursor,
    /// Oldest first.
    pub messages: Vec<Arc<Message>>,
    /// Rooms with a message between the requested position and `cursor` that is permanently gone.
    pub gap: Vec<RoomName>,
    /// True if there is more: poll again at once.
    pub more: bool,
    /// True if a newer poll of the same client ended this one.
    pub superseded: bool,
    /// The delay before the next poll: on every answer while the hub drains.
    pub retry: Option<Duration>,
    /// True if the answer was held or read from the log, so earlier checks may no longer apply.
    pub held: bool,
}

/// The reason that a poll has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PollError {
    /// The hub has reached a bound on its clients.
    #[error(transparent)]
    Full(#[from] TooManyClients),
    /// The poll names too many rooms.
    #[error("a poll has at most {most} rooms")]
    Rooms {
        /// The maximum.
        most: usize,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The start of a registered poll.
enum Start {
    Now,
    Unknown,
    /// After this number, with what was found.
    At(u64, Found),
}

/// Guard of a poll in flight. Dropping it (the client is gone) deregisters the poll; a poll that has
/// found its answer has left already.
struct PollGuard<'a> {
    hub: &'a Hub,
    key: PollKey,
    taken: bool,
    /// True while it waits for its answer: dropping it then abandons the poll.
    parked: bool,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        if self.taken {
            self.hub.lock().leave(self.key, self.parked);
        }
    }
}

impl Hub {
    /// Answers with what follows the client's position, or holds the poll until something comes, the
    /// wait is over, or the poll is ended. Nothing is consumed: the same messages are there for the
    /// next poll until a cursor acknowledges them. Dropping the future deregisters the poll.
    ///
    /// # Errors
    /// [`PollError`] if the poll has too many rooms, the hub is full or the log fails; the client's
    /// position is unchanged.
    pub async fn poll(&self, poll: Poll) -> Result<Batch, PollError> {
        self.poll_until(poll, pending()).await
    }

    /// [`poll`](Self::poll), which is not held for a client that has `gone`: the poll is then
    /// abandoned, and the empty answer leaves the client's position unchanged.
    ///
    /// # Errors
    /// As for [`poll`](Self::poll).
    pub async fn poll_until(
        &self,
        poll: Poll,
        gone: impl Future<Output = ()>,
    ) -> Result<Batch, PollError> {
        let mut gone = pin!(gone);
        let most = self.options().rooms;
        if poll.rooms.len() > most {
            return Err(PollError::Rooms { most });
        }
        let limit = self.limit(poll.messages);
        let (mut guard, start) = poll_fn(|cx| Step::Ready(self.guard(&poll, limit, cx))).await?;
        let (asked, mut first) = match start {
            Start::Now => return Ok(self.batch(self.head())),
            Start::Unknown => {
                return Ok(Batch {
                    gap: poll.rooms.to_vec(),
                    ..self.batch(self.head())
                });
            }
            Start::At(asked, found) => (asked, Some(found)),
        };
        let (mut after, mut held, mut over) = (asked, false, None);
        // From the start on nothing can be missed: what was dropped before is not requested.
        let mut tell_gaps = poll.after != Position::Start;
        loop {
            let found = match first.take() {
                Some(found) => found,
                None => {
                    poll_fn(|cx| {
                        let waiter = (!poll.wait.is_zero()).then_some(WaiterRef::Task(cx.waker()));
                        Step::Ready(guard.look(after, limit, waiter))
                    })
                    .await
                }
            };
            let found = match found {
                Found::Nothing { head } if !poll.wait.is_zero() => {
                    held = true;
                    (after, tell_gaps) = (head, true);
                    let over = *over.get_or_insert_with(|| Instant::now() + jittered(poll.wait));
                    tokio::select! {
                        biased;
                        found = guard.wait(after, limit, over) => found,
                        () = &mut gone => return Ok(Batch { held, ..self.batch(asked) }),
                    }
                }
                found => found,
            };
            let batch = match found {
                Found::Behind { head } => {
                    held = true;
                    let (_turn, waited) = self.turn_to_read().await;
                    let head = match waited {
                        false => head,
                        // Another reader may have brought it into memory meanwhile.
                        true => match guard.look(after, limit, None) {
                            Found::Behind { head } => head,
                            Found::Nothing { .. } => continue,
                            found => {
                                first = Some(found);
                                continue;
                            }
                        },
                    };
                    let (page, trimmed_through) =
                        self.read(&poll.rooms, after, head, limit).await?;
                    let unlogged = {
                        let mut state = self.lock();
                        state.refill(&poll.rooms, &trimmed_through, after, head, &page);
                        state.unlogged(&poll.rooms, after, head)
                    };
                    let reply = reply_page_from_log(page, unlogged, head, limit);
                    let gap = match tell_gaps {
                        true => gaps(&poll.rooms, &trimmed_through, after, reply.reaches),
                        false => Vec::new(),
                    };
                    if reply.messages.is_empty() && gap.is_empty() {
                        (after, tell_gaps) = (head, true);
                        continue;
                    }
                    self.filled(reply, gap)
                }
                found => self.answer(found, asked),
            };
            return Ok(Batch { held, ..batch });
        }
    }

    /// Registers a poll and looks for its answer under one lock; if it has to wait, the next message
    /// wakes it.
    fn guard(
        &self,
        poll: &Poll,
        limit: Limit,
        cx: &Context<'_>,
    ) -> Result<(PollGuard<'_>, Start), TooManyClients> {
        let mut wakeups = Wakeups::default();
        let mut state = self.lock();
        let known = &mut Known::default();
        let (key, resolved) = state.register(poll, self.epochs(), known, &mut wakeups)?;
        let waiter = (!poll.wait.is_zero()).then_some(WaiterRef::Task(cx.waker()));
        let mut found = |after| Start::At(after, state.find(key, after, limit, waiter));
        let start = match resolved {
            Resolved::Now => Start::Now,
            Resolved::Unknown => Start::Unknown,
            Resolved::Start => found(0),
            Resolved::After(number) => found(number),
        };
        let taken = state.is_in(key);
        drop(state);
        self.wake(wakeups);
        let guard = PollGuard {
            hub: self,
            key,
            taken,
            parked: false,
        };
        Ok((guard, start))
    }

    /// The bounds of a reply with at most `messages` messages.
    pub(super) fn limit(&self, messages: usize) -> Limit {
        let bytes = self.options().reply_bytes;
        Limit {
            messages: messages.clamp(1, bytes / LEAST_ENCODED + 1),
            bytes,
        }
    }

    /// Waits for a permit to read the log; the flag is true if that took time.
    async fn turn_to_read(&self) -> (Option<SemaphorePermit<'_>>, bool) {
        let readers = &self.0.readers;
        match readers.try_acquire() {
            Ok(turn) => (Some(turn), false),
            // The semaphore is never closed.
            Err(_) => (readers.acquire().await.ok(), true),
        }
    }

    async fn read(
        &self,
        rooms: &[RoomName],
        after: u64,
        up_to: u64,
        limit: Limit,
    ) -> Result<(LogPage, Vec<u64>), LogError> {
        let (log, rooms) = (self.log(), rooms.to_vec());
        let read = move || {
            let page = log.read(&rooms, after, up_to, limit)?;
            if page.messages.is_empty() && !page.end {
                return Err(LogError("a page without messages is not the last".into()));
            }
            // Read after the page: what was dropped meanwhile is then reported, never missed.
            Ok((LogPage::from(page), log.trimmed_through(&rooms)?))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read,
            Err(error) => Err(LogError(error.to_string())),
        }
    }

    pub(super) fn filled(&self, reply: ReplyPage, gap: Vec<RoomName>) -> Batch {
        Batch {
            messages: reply.messages,
            more: reply.more,
            gap,
            ..self.batch(reply.reaches)
        }
    }

    pub(super) fn superseded(&self, asked: u64) -> Batch {
        Batch {
            superseded: true,
            retry: Some(Duration::from_millis(rand::rng().random_range(1000..=3000))),
            ..self.batch(asked)
        }
    }

    pub(super) fn batch(&self, number: u64) -> Batch {
        Batch {
            cursor: self.cursor(number),
            messages: Vec::new(),
            gap: Vec::new(),
            more: false,
            superseded: false,
            retry: self.is_draining().then(|| self.options().drain_retry()),
            held: false,
        }
    }
}

impl PollGuard<'_> {
    /// Looks for messages after `after`; if there are none, the next message wakes `waiter`.
    fn look(&mut self, after: u64, limit: Limit, waiter: Option<WaiterRef<'_>>) -> Found {
        let mut state = self.hub.lock();
        let found = state.find(self.key, after, limit, waiter);
        self.taken = state.is_in(self.key);
        found
    }

    /// Waits until something is found after `after`, or until `over`. The look that found nothing has
    /// left its waker, so this begins by waiting.
    async fn wait(&mut self, after: u64, limit: Limit, over: Instant) -> Found {
        let mut clock = pin!(sleep_until(over));
        let mut woken = false;
        self.parked = true;
        let look = |cx: &mut Context<'_>| {
            // The clock comes first: a waker left after the last look would never be used.
            let over = clock.as_mut().poll(cx).is_ready();
            if !std::mem::replace(&mut woken, true) && !over {
                return Step::Pending;
            }
            let waiter = (!over).then_some(WaiterRef::Task(cx.waker()));
            match self.look(after, limit, waiter) {
                Found::Nothing { .. } if !over => Step::Pending,
                found => Step::Ready(found),
            }
        };
        let found = poll_fn(look).await;
        self.parked = false;
        found
    }
}

/// A random time in the last tenth of `wait`, so that clients parked together do not return together.
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.9..1.0))
}
