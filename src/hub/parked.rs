//! Parked polls without futures: held in a slot, woken through a notifier, answered many at a time.
//!
//! Thousands of polls parked in one room mostly have the same rooms and the same position, and so the
//! same answer. It is built once for all polls that one [`Hub::check_parked`] finds.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Hub, Notifier, NotifierKey, Slot,
    client::Known,
    cursor::{Cursor, Position, Resolved},
    log::Limit,
    notifier::{WaiterRef, Wakeups},
    poll::{Batch, Poll, PollError},
    state::{Found, PollKey, RoomKey, State},
};

/// A poll that is parked in its slot. Its holder must look for its answer or let it go.
#[derive(Clone, Copy, Debug)]
pub struct ParkedPoll {
    key: PollKey,
    asked: u64,
    after: u64,
}

/// The state of a poll after a look for its answer.
#[derive(Debug)]
pub enum PollOutcome {
    /// The poll is over.
    Answer(Arc<Batch>),
    /// The poll waits; the notifier is called with its slot when there may be more.
    Waits(ParkedPoll),
    /// The poll is over without an answer: memory does not reach back to `after`. [`Hub::poll`] reads
    /// the log.
    Behind {
        /// The position that the poll had reached.
        after: Position,
        /// The position at which the poll began: passed to [`Hub::park`] if it is held again.
        asked: Cursor,
    },
}

/// An answer that further polls share while nothing changes: polls of these rooms that continue from
/// `after` or later, but before its `first` message.
#[derive(Debug)]
pub(super) struct Shared {
    rooms: SmallVec<[RoomKey; 2]>,
    after: u64,
    first: u64,
    batch: Arc<Batch>,
}

impl Hub {
    /// Adds a notifier for polls that are held in slots. It is never removed.
    pub fn add_notifier(&self, notifier: Arc<dyn Notifier>) -> NotifierKey {
        self.0.notifiers.add(notifier)
    }

    /// Answers `poll` at once, or parks it in slot `slot` of `notifier`, as [`Hub::poll`] does for a
    /// future. The caller watches its time. `known` is shared by the polls of one connection; `asked`
    /// is the position that the client itself sent, if the poll has advanced since.
    ///
    /// # Errors
    /// [`PollError`] if the hub is full or the poll has too many rooms; the client's position is
    /// unchanged.
    pub fn park(
        &self,
        poll: &Poll,
        (notifier, slot): (NotifierKey, Slot),
        known: &mut Known,
        asked: Option<Cursor>,
    ) -> Result<PollOutcome, PollError> {
        let limit = self.limit_of(poll)?;
        let mut wakeups = Wakeups::default();
        let mut state = self.lock();
        let (key, resolved) = state.register(poll, self.epochs(), known, &mut wakeups)?;
        let after = match resolved {
            Resolved::Start => Some(0),
            Resolved::After(number) => Some(number),
            Resolved::Now | Resolved::Unknown => None,
        };
        let asked = asked.map_or(after.unwrap_or_default(), |asked| asked.number);
        let found = match after {
            Some(after) => {
                let waiter = (!poll.wait.is_zero()).then_some(WaiterRef::Slot(notifier, slot));
                self.find_shared(&mut state, key, after, limit, waiter)
            }
            None => Seen::Found(Found::Nothing { head: state.head }),
        };
        let is_nothing = matches!(found, Seen::Found(Found::Nothing { .. }));
        let waits = after.is_some() && !poll.wait.is_zero() && is_nothing;
        if !waits {
            state.leave(key, false);
        }
        drop(state);
        self.wake(wakeups);
        let found = match found {
            Seen::Shared(batch) => return Ok(PollOutcome::Answer(batch)),
            Seen::Found(found) => found,
        };
        Ok(match found {
            Found::Nothing { head } if waits => PollOutcome::Waits(ParkedPoll {
                key,
                asked,
                after: head,
            }),
            Found::Behind { .. } => PollOutcome::Behind {
                after: poll.after.clone(),
                asked: self.cursor(asked),
            },
            found => {
                let gap = match resolved {
                    Resolved::Unknown => poll.rooms.to_vec(),
                    _ => Vec::new(),
                };
                let batch = self.answer(found, asked);
                PollOutcome::Answer(Arc::new(Batch { gap, ..batch }))
            }
        })
    }

    /// Looks for the answers of `parked`, in their order, each with its slot at `notifier`.
    pub fn check_parked(
        &self,
        notifier: NotifierKey,
        parked: impl IntoIterator<Item = (Slot, ParkedPoll)>,
        answers: &mut Vec<(Slot, PollOutcome)>,
    ) {
        let limit = self.limit(usize::MAX);
        let mut state = self.lock();
        for (slot, parked) in parked {
            let waiter = Some(WaiterRef::Slot(notifier, slot));
            let outcome =
                match self.find_shared(&mut state, parked.key, parked.after, limit, waiter) {
                    Seen::Shared(batch) => PollOutcome::Answer(batch),
                    Seen::Found(found) => self.outcome(&mut state, found, parked),
                };
            answers.push((slot, outcome));
        }
    }

    /// The answer for a poll at this moment, built once for all polls that have the same.
    fn find_shared(
        &self,
        state: &mut State,
        key: PollKey,
        after: u64,
        limit: Limit,
        waiter: Option<WaiterRef<'_>>,
    ) -> Seen {
        if let Some(batch) = state.shared_for(key, after) {
            state.leave(key, false);
            return Seen::Shared(batch);
        }
        let rooms = state.rooms_of(key);
        let found = state.find(key, after, limit, waiter);
        let (Found::Page(reply), Some(rooms)) = (&found, rooms) else {
            return Seen::Found(found);
        };
        let first = reply.messages.first().map_or(0, |message| message.number);
        let batch = Arc::new(self.answer(found, after));
        if !state.draining {
            state.shared = Some(Shared {
                rooms,
                after,
                first,
                batch: Arc::clone(&batch),
            });
        }
        Seen::Shared(batch)
    }

    /// Ends a parked poll whose time is over: its answer is whatever is there, or empty.
    pub fn finish_parked(&self, parked: ParkedPoll) -> PollOutcome {
        let mut state = self.lock();
        let found = state.find(parked.key, parked.after, self.limit(usize::MAX), None);
        match found {
            Found::Nothing { .. } => {
                state.leave(parked.key, false);
                PollOutcome::Answer(Arc::new(Batch {
                    held: true,
                    ..self.answer(found, parked.asked)
                }))
            }
            found => self.outcome(&mut state, found, parked),
        }
    }

    /// Removes a parked poll whose client is gone.
    pub fn drop_parked(&self, parked: ParkedPoll) {
        self.lock().leave(parked.key, true);
    }

    /// Removes a parked poll whose client sends nothing more; the empty answer leaves the client's
    /// position unchanged.
    pub fn abandon_parked(&self, parked: ParkedPoll) -> Batch {
        self.drop_parked(parked);
        self.batch(parked.asked)
    }

    fn outcome(&self, state: &mut State, found: Found, parked: ParkedPoll) -> PollOutcome {
        match found {
            Found::Nothing { head } => PollOutcome::Waits(ParkedPoll {
                after: head,
                ..parked
            }),
            Found::Behind { .. } => {
                state.leave(parked.key, false);
                PollOutcome::Behind {
                    after: Position::from(self.cursor(parked.after)),
                    asked: self.cursor(parked.asked),
                }
            }
            found => PollOutcome::Answer(Arc::new(Batch {
                held: true,
                ..self.answer(found, parked.asked)
            })),
        }
    }

    /// Builds the answer from what was found; a superseded poll continues from the position `asked`.
    pub(super) fn answer(&self, found: Found, asked: u64) -> Batch {
        match found {
            Found::Page(reply) => self.filled(reply, Vec::new()),
            Found::Nothing { head } | Found::Draining { head } | Found::Behind { head } => {
                self.batch(head)
            }
            Found::Superseded => self.superseded(asked),
        }
    }

    fn limit_of(&self, poll: &Poll) -> Result<Limit, PollError> {
        let most = self.options().rooms;
        match poll.rooms.len() > most {
            true => Err(PollError::Rooms { most }),
            false => Ok(self.limit(poll.messages)),
        }
    }
}

/// The result of a look: an answer that other polls may share, or anything else.
enum Seen {
    Shared(Arc<Batch>),
    Found(Found),
}

impl State {
    /// The answer that another poll got a moment ago, if it is the answer to this one too.
    fn shared_for(&self, key: PollKey, after: u64) -> Option<Arc<Batch>> {
        let shared = self.shared.as_ref()?;
        let is_same =
            shared.after <= after && after < shared.first && self.is_parked_for(key, &shared.rooms);
        is_same.then(|| Arc::clone(&shared.batch))
    }
}
