//! One client at the hub: its queue, its places in rooms, its polls in flight.

use std::{net::IpAddr, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    bell::{Calls, Sleeper},
    message::Message,
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
    pub(super) polls: SmallVec<[ParkedPoll; 1]>,
    /// Where its first poll came from: there it counts.
    pub(super) address: Option<IpAddr>,
    /// What its last poll asked for: its memberships, while it has no other poll.
    pub(super) asked: Arc<[RoomName]>,
    pub(super) used: Instant,
    /// Its last poll was abandoned.
    pub(super) gave_up: bool,
}

/// A client's place in a room: its queue gets everything of the room after `since`.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) room: RoomKey,
    pub(super) since: u64,
    /// Where the client stands in `Room::members`.
    pub(super) place: usize,
}

#[derive(Debug)]
pub(super) struct ParkedPoll {
    pub(super) number: u64,
    pub(super) rooms: SmallVec<[RoomKey; 2]>,
    pub(super) may_be_superseded: bool,
    pub(super) superseded: bool,
    pub(super) sleeper: Option<Sleeper>,
}

impl Client {
    /// Whether a poll of it waits for what comes in the room.
    pub(super) fn is_parked_in(&self, room: RoomKey) -> bool {
        let waits = |poll: &ParkedPoll| !poll.superseded && poll.rooms.contains(&room);
        self.polls.iter().any(waits)
    }

    /// Collects whom a message in the room wakes.
    pub(super) fn wake(&mut self, room: RoomKey, calls: &mut Calls) {
        for poll in &mut self.polls {
            if poll.rooms.contains(&room) {
                calls.add(poll.sleeper.take());
            }
        }
    }

    /// The keys of `rooms`, where it asked for the same last, is a member of just them, and has no
    /// other poll.
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

    /// The queue's messages after `after`, where it holds all of them for these rooms.
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

    /// Ends the oldest polls beyond `most`.
    pub(super) fn supersede(&mut self, most: usize, calls: &mut Calls) {
        let counts = |poll: &&mut ParkedPoll| poll.may_be_superseded && !poll.superseded;
        let alive = self.polls.iter_mut().filter(counts).count();
        for poll in self
            .polls
            .iter_mut()
            .filter(counts)
            .take(alive.saturating_sub(most))
        {
            poll.superseded = true;
            calls.add(poll.sleeper.take());
        }
    }
}

/// Who polled last from one connection, so that the next poll of the same client is not looked up.
#[derive(Debug, Default)]
pub struct Known(Option<(Arc<ClientId>, ClientKey)>);

impl Known {
    pub(super) fn key(&self, id: &Arc<ClientId>, clients: &Slab<Client>) -> Option<ClientKey> {
        let (known, key) = self.0.as_ref()?;
        // Keys are used again: whose it is now is for the client there to say.
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
