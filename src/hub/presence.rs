//! The people in each room. A client that polls a room is in it and stays for a while after the end of
//! the poll: a lease, so that nobody flickers between two polls and a closed page is soon gone.
//!
//! Polling costs nothing more for it: the members of a room are read when somebody wants to know, at
//! most once a second for each room that is watched. Changes are messages of the room `presence/ROOM`,
//! numbered like all others but not logged. Such a room keeps only its newest message, which is
//! complete; an older one that is gone is no gap.

use std::{
    cmp::Ordering,
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Hub,
    message::Message,
    room::{ClientId, Family, RoomName},
    state::State,
};

/// The lease after an answer. Longer than the longest pause between the polls of a live page: a hidden
/// one polls every 30 s.
pub(super) const GRACE: Duration = Duration::from_secs(40);
/// The lease after an abandoned poll: the page is closed, or its network failed for a moment.
pub(super) const AWAY: Duration = Duration::from_secs(15);
/// The time after a restart in which nothing is reported: clients are just returning.
pub(super) const SETTLE: Duration = Duration::from_secs(10);
/// The maximum number of people who are named; of more, only the count is reported.
pub const MOST_NAMED: usize = 200;

/// The people in a room at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The number of people: an account or a given name counts once, however many tabs it has.
    pub count: usize,
    /// Their names in order; empty if there are more than [`MOST_NAMED`].
    pub people: Vec<Person>,
}

impl Presence {
    /// The wire's `data`: `{"room","count","people":[{"name","account"},…]}`, without `people` above
    /// [`MOST_NAMED`].
    pub fn data(&self, room: &RoomName) -> Value {
        let mut data = json!({"room": room.as_str(), "count": self.count});
        if self.people.len() == self.count {
            let named =
                |person: &Person| json!({"name": person.name(), "account": person.is_account()});
            data["people"] = self.people.iter().map(named).collect();
        }
        data
    }

    /// True if a person of this name without an account is there.
    pub fn has_guest(&self, name: &str) -> bool {
        let same = |person: &Person| !person.is_account() && person.name() == name;
        self.people.iter().any(same)
    }
}

/// One person: an account, else the name that a client gave itself. All clients of one account are one
/// person, and so are all anonymous clients of one name.
#[derive(Clone, Debug)]
pub struct Person(Arc<ClientId>);

impl Person {
    /// The name that others see.
    pub fn name(&self) -> &str {
        self.0.account().unwrap_or(self.0.name())
    }

    /// True if the name is that of an account.
    pub fn is_account(&self) -> bool {
        self.0.account().is_some()
    }

    fn key(&self) -> (&str, bool) {
        (self.name(), self.is_account())
    }
}

impl PartialEq for Person {
    fn eq(&self, other: &Person) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Person {}

impl Hash for Person {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Ord for Person {
    fn cmp(&self, other: &Person) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Person {
    fn partial_cmp(&self, other: &Person) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The end of each person's lease on each room that somebody asks about.
#[derive(Debug)]
pub(super) struct Leases {
    rooms: HashMap<RoomName, HashMap<Person, Instant>>,
    /// Nothing is reported before this moment.
    settled: Instant,
}

impl Leases {
    /// Creates it without leases. `returning` if people may be coming back after a restart.
    pub(super) fn new(now: Instant, returning: bool) -> Leases {
        Leases {
            rooms: HashMap::new(),
            settled: match returning {
                true => now + SETTLE,
                false => now,
            },
        }
    }

    fn is_settled(&self, now: Instant) -> bool {
        now >= self.settled
    }

    /// Sets the lease of `person` on `room` to end at `until`, replacing any other.
    fn renew(&mut self, room: &RoomName, person: Person, until: Instant) {
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.clone(), HashMap::new());
        }
        if let Some(people) = self.rooms.get_mut(room) {
            people.insert(person, until);
        }
    }

    /// The people who hold a lease on `room`; expired leases are removed.
    fn here(&mut self, room: &RoomName, now: Instant) -> Presence {
        let Some(leases) = self.rooms.get_mut(room) else {
            return Presence {
                count: 0,
                people: Vec::new(),
            };
        };
        leases.retain(|_, until| *until > now);
        let count = leases.len();
        let mut people: Vec<Person> = match count <= MOST_NAMED {
            true => leases.keys().cloned().collect(),
            false => Vec::new(),
        };
        people.sort_unstable();
        if count == 0 {
            self.rooms.remove(room);
        }
        Presence { count, people }
    }

    /// Removes every expired lease, in rooms that nobody asks about any more too.
    fn sweep(&mut self, now: Instant) {
        self.rooms.retain(|_, people| {
            people.retain(|_, until| *until > now);
            !people.is_empty()
        });
    }
}

impl State {
    /// The people in `room`, from its members' polls and the leases known before.
    fn here(&mut self, room: &RoomName, now: Instant) -> Presence {
        let mut visitors: HashMap<Person, Instant> = HashMap::new();
        for (client, until) in self.visitors(room, now) {
            let longest = visitors.entry(Person(client)).or_insert(until);
            *longest = (*longest).max(until);
        }
        // A person who is no longer a member, being in another room for a moment, keeps the lease.
        for (person, until) in visitors {
            self.leases.renew(room, person, until);
        }
        self.leases.here(room, now)
    }

    /// The presence rooms that somebody polls, each with its newest message.
    fn watched(&self, now: Instant) -> Vec<(RoomName, Option<Arc<Message>>)> {
        let presence = self.rooms.iter().map(|(_, room)| room);
        presence
            .filter(|room| room.name.family() == Family::Presence)
            .filter(|room| self.visitors(&room.name, now).any(|(_, until)| until > now))
            .map(|room| (room.name.clone(), room.ring.newest().cloned()))
            .collect()
    }
}

impl Hub {
    /// The people in `room` at this moment: those who poll it or did so recently.
    pub fn presence(&self, room: &RoomName) -> Presence {
        self.presence_at(room, Instant::now())
    }

    fn presence_at(&self, room: &RoomName, now: Instant) -> Presence {
        self.lock().here(room, now)
    }

    /// The changes to publish: the rooms `presence/ROOM` that somebody polls and whose people differ
    /// from those in their newest message, with the `data` of the next one. Called at most once a
    /// second by the task that numbers and publishes them.
    pub fn presence_changes(&self) -> Vec<(RoomName, Value)> {
        self.presence_changes_at(Instant::now())
    }

    fn presence_changes_at(&self, now: Instant) -> Vec<(RoomName, Value)> {
        let mut state = self.lock();
        state.leases.sweep(now);
        if state.draining || !state.leases.is_settled(now) {
            return Vec::new();
        }
        let watched: Vec<_> = state
            .watched(now)
            .into_iter()
            .filter_map(|(name, newest)| {
                let of = RoomName::parse(name.rest()?).ok()?;
                let here = state.here(&of, now);
                Some((name, of, here, newest))
            })
            .collect();
        drop(state);
        watched
            .into_iter()
            .filter_map(|(name, of, here, newest)| {
                let data = here.data(&of);
                let text = data.to_string();
                let told = newest.is_some_and(|newest| newest.data() == text);
                (!told).then_some((name, data))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
