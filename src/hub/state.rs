//! The state guarded by the hub's one lock: rooms, clients, their queues and parked polls. Nothing here
//! waits.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    HubOptions, TooManyClients,
    client::{Client, ClientKey, Known, PollEntry},
    coalesce::Coalescer,
    cursor::{Epochs, Resolved},
    log::Limit,
    message::Message,
    meter::Meter,
    notifier::{Waiter, WaiterRef, Wakeups},
    parked::Shared,
    poll::Poll,
    presence::Leases,
    reply_page::{ReplyPage, merge, reply_page},
    ring::Ring,
    room::{ClientId, RoomName},
    slab::Slab,
};

pub(super) type RoomKey = usize;

/// The key of one poll in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollKey {
    client: ClientKey,
    number: u64,
}

/// The result of a look for a poll's answer.
pub(super) enum Found {
    /// Messages, from the client's queue or the rooms' rings.
    Page(ReplyPage),
    /// Nothing after the poll's position up to this number, the head.
    Nothing { head: u64 },
    /// Memory does not reach back far enough: read the log up to this number.
    Behind { head: u64 },
    /// A newer poll of the same client has replaced this one.
    Superseded,
    /// The server is shutting down and there is nothing up to this number, the head.
    Draining { head: u64 },
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    pub(super) ring: Ring,
    pub(super) coalescer: Coalescer,
    /// Never empty for long: the last member to leave removes the room.
    pub(super) members: Vec<ClientKey>,
}

/// The guarded state; see the module.
pub(super) struct State {
    pub(super) head: u64,
    pub(super) draining: bool,
    pub(super) options: HubOptions,
    pub(super) rooms: Slab<Room>,
    pub(super) room_keys: HashMap<RoomName, RoomKey>,
    pub(super) clients: Slab<Client>,
    pub(super) client_keys: HashMap<Arc<ClientId>, ClientKey>,
    /// The number of clients of each address; no entry is zero.
    pub(super) addresses: HashMap<IpAddr, usize>,
    pub(super) polls_begun: u64,
    /// The moment the lock was taken: the clock is read once for everything done under it.
    pub(super) now: Instant,
    /// Rooms whose messages wait to be coalesced; they are woken in time while `coalesces`.
    pub(super) coalescing: Vec<RoomKey>,
    pub(super) coalesces: bool,
    /// The time of the last sweep of a slice.
    pub(super) swept: Instant,
    /// The slot at which the current round of sweeping continues, if there is a round.
    pub(super) swept_to: Option<usize>,
    pub(super) meter: Arc<Meter>,
    pub(super) leases: Leases,
    /// The last answer, as long as nothing was published, dropped or forgotten since.
    pub(super) shared: Option<Shared>,
}

impl State {
    pub(super) fn new(head: u64, options: HubOptions, meter: Arc<Meter>) -> State {
        State {
            head,
            draining: false,
            options,
            rooms: Slab::new(),
            room_keys: HashMap::new(),
            clients: Slab::new(),
            client_keys: HashMap::new(),
            addresses: HashMap::new(),
            polls_begun: 0,
            now: Instant::now(),
            coalescing: Vec::new(),
            coalesces: false,
            swept: Instant::now(),
            swept_to: None,
            meter,
            leases: Leases::new(Instant::now(), head > 0),
            shared: None,
        }
    }

    /// Puts a committed message into its room's ring and its members' queues; collects the waiters to
    /// wake. A number not above the head was published before and is skipped.
    pub(super) fn publish(&mut self, message: Message, wakeups: &mut Wakeups) {
        if message.number <= self.head {
            tracing::error!(number = message.number, head = self.head, "published twice");
            return;
        }
        let message = Arc::new(message);
        self.head = message.number;
        self.shared = None;
        // A room without members keeps nothing: a later client reads the log.
        let Some(key) = self.room_keys.get(&message.room).copied() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(key) else {
            return;
        };
        let (most, most_bytes) = (self.options.ring_messages, self.options.ring_bytes);
        room.ring.push(Arc::clone(&message), most, most_bytes);
        let waits = self.coalesces
            && !self.draining
            && !room
                .coalescer
                .arrive(self.now, room.members.len(), self.options.coalesce);
        let mut overflows = 0;
        for member in &room.members {
            let Some(client) = self.clients.get_mut(*member) else {
                continue;
            };
            let is_there = client.is_parked_in(key);
            // A client that waits here takes it from the ring.
            if !is_there || !client.queue.pass(message.number) {
                overflows += u64::from(!client.queue.offer(&message, self.options.queue));
            }
            if is_there && !waits {
                client.wake(key, wakeups);
            }
        }
        self.meter.overflowed(overflows);
        if waits && !self.coalescing.contains(&key) {
            self.coalescing.push(key);
        }
    }

    /// Records that retention dropped the messages of `name` up to `up_to`: no cache may serve them any
    /// more.
    pub(super) fn dropped(&mut self, name: &RoomName, up_to: u64) {
        let Some(key) = self.room_keys.get(name).copied() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(key) else {
            return;
        };
        room.ring.forget(up_to);
        self.shared = None;
        for member in &room.members {
            let Some(client) = self.clients.get_mut(*member) else {
                continue;
            };
            for membership in &mut client.memberships {
                if membership.room == key {
                    membership.since = membership.since.max(up_to);
                }
            }
        }
    }

    /// Answers every parked poll at once, and every later one.
    pub(super) fn drain(&mut self, wakeups: &mut Wakeups) {
        self.draining = true;
        self.shared = None;
        for client in self.clients.iter_mut() {
            for poll in &mut client.polls {
                wakeups.add(poll.waiter.take());
            }
        }
    }

    /// Registers a poll: from here on it misses nothing that is published in its rooms. The position is
    /// resolved under the same lock, and a cursor acknowledges. `known` is the client that polled last
    /// on the connection, and is set to this one.
    pub(super) fn register(
        &mut self,
        poll: &Poll,
        epochs: &Epochs,
        known: &mut Known,
        wakeups: &mut Wakeups,
    ) -> Result<(PollKey, Resolved), TooManyClients> {
        let now = self.now;
        self.sweep(now);
        let key = match known.key(&poll.client, &self.clients) {
            Some(key) => key,
            None => self.client_key(&poll.client, poll.address, now)?,
        };
        let usual = self
            .clients
            .get(key)
            .and_then(|c| c.usual_rooms(&poll.rooms));
        let is_usual = usual.is_some();
        let rooms = match usual {
            Some(rooms) => rooms,
            None => poll.rooms.iter().map(|name| self.room_key(name)).collect(),
        };
        self.polls_begun += 1;
        let number = self.polls_begun;
        let resolved = poll.after.resolve(epochs, self.head);
        if let Some(client) = self.clients.get_mut(key) {
            client.used = now;
            known.remember(&client.id, key);
            if !is_usual {
                client.asked = Arc::clone(&poll.rooms);
            }
            client.polls.push(PollEntry {
                number,
                rooms,
                may_be_superseded: poll.may_be_superseded,
                superseded: false,
                waiter: None,
            });
            client.supersede(self.options.polls, wakeups);
            if let Resolved::After(number) = resolved {
                client.queue.settle(self.head);
                client.queue.acknowledge(number);
            }
        }
        if !is_usual {
            self.rejoin(key);
        }
        Ok((
            PollKey {
                client: key,
                number,
            },
            resolved,
        ))
    }

    /// Removes a poll that was answered or abandoned. Its client stays a member until it is swept.
    pub(super) fn leave(&mut self, key: PollKey, abandoned: bool) {
        if let Some(client) = self.clients.get_mut(key.client) {
            client.leave(key.number, self.now);
            client.gave_up = abandoned;
        }
    }

    /// True if the poll is still in flight.
    pub(super) fn is_in(&self, key: PollKey) -> bool {
        self.parked(key).is_some()
    }

    /// The rooms of a poll in flight.
    pub(super) fn rooms_of(&self, key: PollKey) -> Option<SmallVec<[RoomKey; 2]>> {
        Some(self.parked(key)?.rooms.clone())
    }

    /// True if the poll is in flight for exactly these rooms, in this order.
    pub(super) fn is_parked_for(&self, key: PollKey, rooms: &[RoomKey]) -> bool {
        let waits = |poll: &PollEntry| !poll.superseded && *poll.rooms == *rooms;
        self.parked(key).is_some_and(waits)
    }

    fn parked(&self, key: PollKey) -> Option<&PollEntry> {
        let client = self.clients.get(key.client)?;
        client.polls.iter().find(|poll| poll.number == key.number)
    }

    /// Looks for messages after `after` for a registered poll. If there are none, `waiter` is kept and
    /// the next message wakes it; if there is an answer, the poll leaves.
    pub(super) fn find(
        &mut self,
        key: PollKey,
        after: u64,
        limit: Limit,
        waiter: Option<WaiterRef<'_>>,
    ) -> Found {
        let (head, now) = (self.head, self.now);
        let Some(client) = self.clients.get_mut(key.client) else {
            return Found::Superseded;
        };
        client.queue.settle(head);
        let Some(at) = client.polls.iter().position(|p| p.number == key.number) else {
            return Found::Superseded;
        };
        if client.polls[at].superseded {
            client.leave(key.number, now);
            return Found::Superseded;
        }
        let rooms = &client.polls[at].rooms;
        let reply = match client.cached(rooms, after) {
            Some(messages) => reply_page(
                messages.filter(|m| rooms.iter().any(|r| self.rooms.names(*r, &m.room))),
                head,
                limit,
            ),
            None => {
                let rings = || rooms.iter().filter_map(|r| Some(&self.rooms.get(*r)?.ring));
                if rings().any(|ring| ring.floor() > after) {
                    return Found::Behind { head };
                }
                reply_page(merge(rings().map(|ring| ring.after(after))), head, limit)
            }
        };
        if !reply.messages.is_empty() {
            client.leave(key.number, now);
            return Found::Page(reply);
        }
        if self.draining {
            client.leave(key.number, now);
            return Found::Draining { head };
        }
        if let Some(waiter) = waiter {
            Waiter::keep(&mut client.polls[at].waiter, waiter);
        }
        Found::Nothing { head }
    }

    /// The number of clients with a queue.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The number of polls in flight.
    pub(super) fn polls(&self) -> usize {
        self.clients.iter().map(|(_, c)| c.polls.len()).sum()
    }

    /// The number of rooms in memory.
    pub(super) fn rooms(&self) -> usize {
        self.rooms.len()
    }
}

impl Slab<Room> {
    fn names(&self, key: RoomKey, name: &RoomName) -> bool {
        self.get(key).is_some_and(|room| room.name == *name)
    }
}
