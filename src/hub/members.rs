//! Membership in rooms: clients join by polling, leave by polling elsewhere, and are swept when idle.

use std::{net::IpAddr, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    TooManyClients,
    client::{Client, ClientKey, Membership, PollEntry},
    coalesce::Coalescer,
    message::Message,
    presence::{AWAY, GRACE},
    queue::Queue,
    reply_page::LogPage,
    ring::Ring,
    room::{ClientId, Family, RoomName},
    state::{Room, RoomKey, State},
};

/// The number of slots swept in one pass: the lock must not be held for long, however many clients have
/// gone.
const SLICE: usize = 256;

impl State {
    /// See [`Hub::fullest_rooms`](super::Hub::fullest_rooms).
    pub(super) fn fullest_rooms(&self, most: usize) -> Vec<(RoomName, usize)> {
        let mut rooms: Vec<(usize, RoomKey)> = self
            .rooms
            .iter()
            .map(|(key, room)| (room.members.len(), key))
            .filter(|(members, _)| *members > 0)
            .collect();
        rooms.sort_unstable_by(|one, other| other.cmp(one));
        rooms.truncate(most);
        rooms
            .into_iter()
            .filter_map(|(members, key)| Some((self.rooms.get(key)?.name.clone(), members)))
            .collect()
    }

    /// The key of the room `name`, which is created if it is not in memory. Every room has a member, so
    /// the caller joins it.
    pub(super) fn room_key(&mut self, name: &RoomName) -> RoomKey {
        if let Some(key) = self.room_keys.get(name) {
            return *key;
        }
        // Everything after the head passes through here, so the ring is complete from the head on.
        let key = self.rooms.insert(Room {
            name: name.clone(),
            ring: Ring::new(name, self.head),
            coalescer: Coalescer::default(),
            members: Vec::new(),
        });
        self.room_keys.insert(name.clone(), key);
        key
    }

    pub(super) fn client_key(
        &mut self,
        id: &Arc<ClientId>,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<ClientKey, TooManyClients> {
        if let Some(key) = self.client_keys.get(id) {
            return Ok(*key);
        }
        if self.clients.len() >= self.options.clients {
            return Err(TooManyClients::InAll);
        }
        if let Some(address) = address {
            let clients = self.addresses.entry(address).or_default();
            if *clients >= self.options.address_clients {
                return Err(TooManyClients::OfAddress);
            }
            *clients += 1;
        }
        let id = Arc::clone(id);
        let key = self.clients.insert(Client {
            id: Arc::clone(&id),
            queue: Queue::new(self.head),
            memberships: SmallVec::new(),
            polls: SmallVec::new(),
            address,
            asked: Arc::default(),
            used: now,
            gave_up: false,
        });
        self.client_keys.insert(id, key);
        Ok(key)
    }

    /// Makes the client a member of exactly the rooms of its polls in flight, so that a client that
    /// moves from room to room does not stay in all of them.
    pub(super) fn rejoin(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let wanted = |polls: &[PollEntry], room| polls.iter().any(|p| p.rooms.contains(&room));
        for room in client.polls.iter().flat_map(|p| p.rooms.iter().copied()) {
            if client.memberships.iter().any(|m| m.room == room) {
                continue;
            }
            if let Some(joined) = self.rooms.get_mut(room) {
                client.memberships.push(Membership {
                    room,
                    since: self.head,
                    place: joined.members.len(),
                });
                joined.members.push(key);
            }
        }
        let left: Vec<RoomKey> = client
            .memberships
            .iter()
            .map(|m| m.room)
            .filter(|room| !wanted(&client.polls, *room))
            .collect();
        for room in left {
            self.part(key, room);
        }
    }

    fn part(&mut self, key: ClientKey, room: RoomKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(at) = client.memberships.iter().position(|m| m.room == room) else {
            return;
        };
        let place = client.memberships.swap_remove(at).place;
        let Some(parted) = self.rooms.get_mut(room) else {
            return;
        };
        parted.members.swap_remove(place);
        // The log keeps the messages; without this, a client that moves through ever new rooms fills
        // the memory.
        if parted.members.is_empty() {
            if let Some(room) = self.rooms.remove(room) {
                self.room_keys.remove(&room.name);
            }
            // The next room may reuse its key.
            self.shared = None;
            return;
        }
        let Some(moved) = parted.members.get(place).copied() else {
            return;
        };
        if let Some(client) = self.clients.get_mut(moved) {
            for membership in &mut client.memberships {
                if membership.room == room {
                    membership.place = place;
                }
            }
        }
    }

    /// The clients that poll `room` or did so recently, with the moment until which each counts as
    /// present.
    pub(super) fn visitors(
        &self,
        room: &RoomName,
        now: Instant,
    ) -> impl Iterator<Item = (Arc<ClientId>, Instant)> + use<'_> {
        let key = self.room_keys.get(room).copied();
        let members = key.and_then(|key| self.rooms.get(key)).into_iter();
        let members = members.flat_map(|room| room.members.iter());
        members.filter_map(move |member| {
            let client = self.clients.get(*member)?;
            let polls = |poll: &PollEntry| key.is_some_and(|key| poll.rooms.contains(&key));
            let until = match client.polls.iter().any(polls) {
                true => now + AWAY,
                false if client.gave_up => client.used + AWAY,
                false => client.used + GRACE,
            };
            Some((Arc::clone(&client.id), until))
        })
    }

    /// The messages of `rooms` in `(after, up_to]` that are in no log: the newest of each presence
    /// room.
    pub(super) fn unlogged(&self, rooms: &[RoomName], after: u64, up_to: u64) -> Vec<Arc<Message>> {
        rooms
            .iter()
            .filter(|name| name.family() == Family::Presence)
            .filter_map(|name| self.rooms.get(*self.room_keys.get(name)?)?.ring.newest())
            .filter(|message| after < message.number && message.number <= up_to)
            .cloned()
            .collect()
    }

    /// Copies what was read of the log between `after` and `up_to` into the rings, so that clients that
    /// return to the same rooms after a restart need not read it again.
    pub(super) fn refill(
        &mut self,
        rooms: &[RoomName],
        trimmed_through: &[u64],
        after: u64,
        up_to: u64,
        page: &LogPage,
    ) {
        if !page.end {
            return;
        }
        let (most, most_bytes) = (self.options.ring_messages, self.options.ring_bytes);
        for (name, mark) in rooms.iter().zip(trimmed_through) {
            let key = self.room_keys.get(name).copied();
            let Some(room) = key.and_then(|key| self.rooms.get_mut(key)) else {
                continue;
            };
            // Otherwise there is a hole between what was read and what the ring holds.
            if room.ring.floor() <= up_to {
                let own = page.messages.iter().filter(|m| m.room == *name);
                room.ring.refill(own, after.max(*mark), most, most_bytes);
            }
        }
    }

    /// Forgets clients unused for `idle`, or for [`AWAY`] after their poll was cut: one slice of them per
    /// call, from the first to the last in a round, at most one round per tenth of `idle`. True if the
    /// round continues.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        let from = match self.swept_to {
            Some(from) => from,
            None if now.duration_since(self.swept) < self.options.idle / 10 => return false,
            None => 0,
        };
        self.swept = now;
        let to = from + SLICE;
        (from..to).for_each(|key| self.sweep_client(key, now));
        let goes_on = to < self.clients.places();
        self.swept_to = goes_on.then_some(to);
        goes_on
    }

    fn sweep_client(&mut self, key: ClientKey, now: Instant) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        // A client may reconnect right after a cut; after that time it does not count as present
        // either.
        let idle = if client.gave_up {
            self.options.idle.min(AWAY)
        } else {
            self.options.idle
        };
        if !client.polls.is_empty() || now.duration_since(client.used) < idle {
            return;
        }
        let rooms: Vec<RoomKey> = client.memberships.iter().map(|m| m.room).collect();
        for room in rooms {
            self.part(key, room);
        }
        let Some(client) = self.clients.remove(key) else {
            return;
        };
        self.client_keys.remove(&client.id);
        if let Some(address) = client.address
            && let Some(clients) = self.addresses.get_mut(&address)
        {
            *clients -= 1;
            if *clients == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}
