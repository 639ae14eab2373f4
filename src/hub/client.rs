//! One client at the hub: its queue, its memberships in rooms, its polls in flight.

use std::{net::IpAddr, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    message::Message,
    notifier::{Waiter, Wakeups},
    queue::Queue,
    room::{ClientId, RoomName},
    slab::Slab,
    state::RoomKey,
};

pub(super) type ClientKey = usize;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: Arc<ClientId>,
    pub(super) queue: Queue,
    pub(super) memberships: SmallVec<[Membership; 1]>,
    pub(super) polls: SmallVec<[PollEntry; 1]>,
    /// The address of its first poll; the client counts towards that address's bound.
    pub(super) address: Option<IpAddr>,
    /// The rooms of its last poll: its memberships, while it has no other poll.
    pub(super) asked: Arc<[RoomName]>,
    pub(super) used: Instant,
    /// True if its last poll was abandoned.
    pub(super) gave_up: bool,
}

/// A client's membership in a room: its queue gets every message of the room after `since`.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) room: RoomKey,
    pub(super) since: u64,
    /// The client's index in `Room::members`.
    pub(super) place: usize,
}

#[derive(Debug)]
pub(super) struct PollEntry {
    pub(super) number: u64,
    pub(super) rooms: SmallVec<[RoomKey; 2]>,
    pub(super) may_be_superseded: bool,
    pub(super) superseded: bool,
    pub(super) waiter: Option<Waiter>,
}

impl Client {
    /// True if one of its polls waits for messages of the room.
    pub(super) fn is_parked_in(&self, room: RoomKey) -> bool {
        let waits = |poll: &PollEntry| !poll.superseded && poll.rooms.contains(&room);
        self.polls.iter().any(waits)
    }

    /// Collects the waiters that a message in the room wakes.
    pub(super) fn wake(&mut self, room: RoomKey, wakeups: &mut Wakeups) {
        for poll in &mut self.polls {
            if poll.rooms.contains(&room) {
                wakeups.add(poll.waiter.take());
            }
        }
    }

    /// The keys of `rooms`, if its last poll asked for the same rooms, it is a member of exactly those,
    /// and it has no other poll.
    pub(super) fn usual_rooms(&self, rooms: &Arc<[RoomName]>) -> Option<SmallVec<[RoomKey; 2]>> {
        let is_usual = self.polls.is_empty()
            && Arc::ptr_eq(&self.asked, rooms)
            && self.memberships.len() == rooms.len();
        is_usual.then(|| self.memberships.iter().map(|m| m.room).collect())
    }

    pub(super) fn leave(&mut self, number: u64, now: Instant) {
        self.polls.retain(|poll| poll.number != number);
        self.used = now;
        self.gave_up = false;
    }

    /// The queue's messages after `after`, if the queue holds all of them for these rooms.
    pub(super) fn cached(
        &self,
        rooms: &[RoomKey],
        after: u64,
    ) -> Option<impl Iterator<Item = &Arc<Message>> + use<'_>> {
        let member = |room: &RoomKey| {
            self.memberships
                .iter()
                .any(|m| m.room == *room && m.since <= after)
        };
        if !rooms.iter().all(member) {
            return None;
        }
        self.queue.after(after)
    }

    /// Ends the oldest polls in excess of `most`.
    pub(super) fn supersede(&mut self, most: usize, wakeups: &mut Wakeups) {
        let counts = |poll: &&mut PollEntry| poll.may_be_superseded && !poll.superseded;
        let alive = self.polls.iter_mut().filter(counts).count();
        for poll in self
            .polls
            .iter_mut()
            .filter(counts)
            .take(alive.saturating_sub(most))
        {
            poll.superseded = true;
            wakeups.add(poll.waiter.take());
        }
    }
}

/// The client that polled last on a connection, which saves looking it up for its next poll.
#[derive(Debug, Default)]
pub struct Known(Option<(Arc<ClientId>, ClientKey)>);

impl Known {
    pub(super) fn key(&self, id: &Arc<ClientId>, clients: &Slab<Client>) -> Option<ClientKey> {
        let (known, key) = self.0.as_ref()?;
        // Keys are reused, so the client that has the key now must carry the same id.
        let is_same = Arc::ptr_eq(known, id) || known == id;
        let client = clients.get(*key)?;
        (is_same && Arc::ptr_eq(known, &client.id)).then_some(*key)
    }

    pub(super) fn remember(&mut self, id: &Arc<ClientId>, key: ClientKey) {
        if !self
            .0
            .as_ref()
            .is_some_and(|(known, _)| Arc::ptr_eq(known, id))
        {
            self.0 = Some((Arc::clone(id), key));
        }
    }
}
