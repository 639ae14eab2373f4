//! Who is in which room. Whoever polls a room is in it, and stays for a while after the poll's end:
//! a lease, so that nobody flaps between two polls and whoever closes a page is soon gone.
//!
//! Polling costs nothing more for it: who polls is read from the rooms' members when somebody wants to
//! know, at most once a second for each room that is watched. What is told is a message of the room
//! `presence/ROOM`: numbered like all others, but not logged. Such a room keeps its newest message
//! alone, since that one says everything; an older one that is gone is no gap.

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

/// How long somebody stays after a poll's end. More than the longest pause between the polls of a page
/// that is alive.
pub(super) const GRACE: Duration = Duration::from_secs(20);
/// After a restart nothing is told for so long: those who were there are just coming back.
pub(super) const SETTLE: Duration = Duration::from_secs(10);
/// Up to so many people are named; of more only the count is told.
pub const MOST_NAMED: usize = 200;

/// Who is in a room at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// How many people: an account or a given name counts once, however many tabs it has.
    pub count: usize,
    /// Their names in order; empty where there are more than [`MOST_NAMED`].
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

    /// Whether somebody of this name is there who is no account.
    pub fn has_guest(&self, name: &str) -> bool {
        let same = |person: &Person| !person.is_account() && person.name() == name;
        self.people.iter().any(same)
    }
}

/// One person: an account, else the name that a client gave itself. All clients of one account are one
/// person, and so are all strangers of one name.
#[derive(Clone, Debug)]
pub struct Person(Arc<ClientId>);

impl Person {
    /// The name that others see.
    pub fn name(&self) -> &str {
        self.0.account().unwrap_or(self.0.name())
    }

    /// Whether the name is an account's.
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

/// Until when each person is in each room that somebody asks about.
#[derive(Debug)]
pub(super) struct Leases {
    rooms: HashMap<RoomName, HashMap<Person, Instant>>,
    /// Nothing is told before.
    settled: Instant,
}

impl Leases {
    /// No leases. `returning`: people may be coming back after a restart.
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

    /// `person` was last seen in `room` at `seen`. A lease is only ever made longer.
    fn renew(&mut self, room: &RoomName, person: Person, seen: Instant) {
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.clone(), HashMap::new());
        }
        if let Some(people) = self.rooms.get_mut(room) {
            let until = people.entry(person).or_insert(seen + GRACE);
            *until = (*until).max(seen + GRACE);
        }
    }

    /// Who holds a lease on `room`; those whose lease is over are forgotten.
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

    /// Forgets every lease that is over, in rooms that nobody asks about any more too.
    fn sweep(&mut self, now: Instant) {
        self.rooms.retain(|_, people| {
            people.retain(|_, until| *until > now);
            !people.is_empty()
        });
    }
}

impl State {
    /// Who is in `room`, from its members' polls and what was known before.
    fn here(&mut self, room: &RoomName, now: Instant) -> Presence {
        let visitors: Vec<_> = self.visitors(room, now).collect();
        for (client, seen) in visitors {
            self.leases.renew(room, Person(client), seen);
        }
        self.leases.here(room, now)
    }

    /// The rooms whose presence somebody polls, each with its newest message.
    fn watched(&self, now: Instant) -> Vec<(RoomName, Option<Arc<Message>>)> {
        let presence = self.rooms.iter().map(|(_, room)| room);
        presence
            .filter(|room| room.name.family() == Family::Presence)
            .filter(|room| {
                self.visitors(&room.name, now)
                    .any(|(_, seen)| seen + GRACE > now)
            })
            .map(|room| (room.name.clone(), room.ring.newest().cloned()))
            .collect()
    }
}

impl Hub {
    /// Who is in `room` at this moment: whoever polls it, or did 20 s ago.
    pub fn presence(&self, room: &RoomName) -> Presence {
        self.presence_at(room, Instant::now())
    }

    fn presence_at(&self, room: &RoomName, now: Instant) -> Presence {
        self.lock().here(room, now)
    }

    /// What is to be told: the rooms `presence/ROOM` that somebody polls and whose people are not those
    /// of their newest message, with the `data` of their next one. Called by the one who numbers and
    /// publishes it, at most once a second.
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
