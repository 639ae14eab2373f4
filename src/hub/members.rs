//! Who is in which room: clients join by polling, leave by polling elsewhere, and are swept when idle.

use std::{net::IpAddr, sync::Arc};

use tokio::time::Instant;

use super::{
    TooManyClients,
    queue::Queue,
    ring::Ring,
    room::{ClientId, RoomName},
    state::{Client, ClientKey, Membership, ParkedPoll, Room, RoomKey, State},
};

/// So many places are looked at in one go: the lock must not be held for long, however many clients
/// have gone.
const SLICE: usize = 256;

impl State {
    /// The room `name`, made where it is not in memory. Rooms have members: the caller joins it.
    pub(super) fn room_key(&mut self, name: &RoomName) -> RoomKey {
        if let Some(key) = self.room_keys.get(name) {
            return *key;
        }
        // Everything after the head will pass through here, so the ring vouches from the head on.
        let key = self.rooms.insert(Room {
            name: name.clone(),
            ring: Ring::new(self.head),
            members: Vec::new(),
        });
        self.room_keys.insert(name.clone(), key);
        key
    }

    pub(super) fn client_key(
        &mut self,
        id: &ClientId,
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
        let id = Arc::new(id.clone());
        let key = self.clients.insert(Client {
            id: Arc::clone(&id),
            queue: Queue::new(self.options.queue, self.head),
            memberships: Vec::new(),
            polls: Vec::new(),
            address,
            used: now,
        });
        self.client_keys.insert(id, key);
        Ok(key)
    }

    /// Makes the client a member of exactly the rooms of its polls in flight, so that a client that
    /// wanders from room to room does not stay in all of them.
    pub(super) fn rejoin(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let wanted = |polls: &[ParkedPoll], room| polls.iter().any(|p| p.rooms.contains(&room));
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
        // What was said there is the log's; else who wanders through ever new rooms fills the memory.
        if parted.members.is_empty() {
            if let Some(room) = self.rooms.remove(room) {
                self.room_keys.remove(&room.name);
            }
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

    /// Forgets clients that nobody used for `idle`: one slice of them at a call, from the first to the
    /// last in a round, a round at most once in a tenth of `idle`. Whether the round goes on.
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
        if !client.polls.is_empty() || now.duration_since(client.used) < self.options.idle {
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
