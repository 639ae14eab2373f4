//! The slots against a model: in any order of calls there are never more connections than allowed,
//! none is in use twice, none that is broken or too old is reused, and each fits its request.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::slots::{Bounds, Grant, OpenOutcome, Probe, Request, Slots};

const IDLE_LIMIT: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// Three servers; the third is reached through the first.
fn request(number: u8) -> Request {
    let address = |number: u8| format!("host{number}:22");
    let mut addresses = vec![address(number)];
    if number == 2 {
        addresses.push(address(0));
    }
    Request {
        key: [number; 32],
        addresses,
    }
}

#[derive(Debug, Clone)]
enum Call {
    Ask(u8),
    AskForNew(u8),
    /// Ends the n-th opening with an outcome.
    Open(usize, u8),
    /// Returns the n-th connection in use, broken or not.
    Return(usize, bool),
    Pass(u8),
    Sweep,
    /// Probes an idle connection, which is alive or not.
    Probe(bool),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0..3_u8).prop_map(Call::Ask),
        1 => (0..3_u8).prop_map(Call::AskForNew),
        4 => (any::<usize>(), 0..3_u8).prop_map(|(which, what)| Call::Open(which, what)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Call::Return(which, good)),
        1 => (1..40_u8).prop_map(Call::Pass),
        1 => Just(Call::Sweep),
        1 => any::<bool>().prop_map(Call::Probe),
    ]
}

/// A connection: its number, and its server.
type Fake = (u32, u8);

struct World {
    slots: Slots<Fake>,
    bounds: Bounds,
    now: Instant,
    made: u32,
    in_use: Vec<Fake>,
    opening: Vec<u8>,
    gone: HashSet<u32>,
    released: HashMap<u32, Instant>,
}

impl World {
    fn new(connections: usize, opening: usize) -> Self {
        let bounds = Bounds {
            connections,
            opening,
            idle: IDLE_LIMIT,
        };
        Self {
            slots: Slots::new(bounds),
            bounds,
            now: Instant::now(),
            made: 0,
            in_use: Vec::new(),
            opening: Vec::new(),
            gone: HashSet::new(),
            released: HashMap::new(),
        }
    }

    fn receive(&mut self, number: u8, grant: Grant<Fake>) {
        match grant {
            Grant::Reuse(connection, idle) => {
                assert_eq!(connection.1, number, "of another server");
                assert!(!self.gone.contains(&connection.0), "broken or closed");
                assert!(!self.in_use.contains(&connection), "in use twice");
                assert!(idle < IDLE_LIMIT, "too old");
                let since = self.released[&connection.0];
                assert_eq!(self.now.duration_since(since), idle);
                self.in_use.push(connection);
            }
            Grant::Open(closed) => {
                self.opening.push(number);
                self.gone.extend(closed.map(|connection| connection.0));
            }
            Grant::Wait => {
                let (idle, in_use) = self.slots.counts();
                let is_full = in_use >= self.bounds.connections;
                let waits_for_host = request(number).addresses.iter().any(|address| {
                    self.opening
                        .iter()
                        .any(|other| request(*other).addresses.contains(address))
                });
                assert!(is_full || waits_for_host, "waits for nothing: {idle} idle");
            }
        }
    }

    fn opened(&mut self, which: usize, what: u8) {
        if self.opening.is_empty() {
            return;
        }
        let number = self.opening.remove(which % self.opening.len());
        let what = [
            OpenOutcome::Connected,
            OpenOutcome::TurnedAway,
            OpenOutcome::Failed,
        ][usize::from(what)];
        self.slots.finish_open(&request(number), what);
        if what == OpenOutcome::Connected {
            self.made += 1;
            self.in_use.push((self.made, number));
        }
    }

    fn release(&mut self, which: usize, good: bool) {
        if self.in_use.is_empty() {
            return;
        }
        let connection = self.in_use.remove(which % self.in_use.len());
        if !good {
            self.gone.insert(connection.0);
        }
        self.released.insert(connection.0, self.now);
        let fit = good.then_some(connection);
        self.slots.release([connection.1; 32], fit, self.now);
    }

    fn probe(&mut self, is_there: bool) {
        let probe: Option<Probe<Fake>> = self.slots.next_probe(PROBE_INTERVAL, self.now);
        let Some(probe) = probe else { return };
        assert!(!self.in_use.contains(&probe.connection));
        if is_there {
            self.slots.finish_probe(probe, self.now);
        } else {
            self.gone.insert(probe.connection.0);
            self.slots.lose_probed();
        }
    }

    fn act(&mut self, call: Call) {
        match call {
            Call::Ask(number) => {
                let grant = self.slots.acquire(&request(number), self.now);
                self.receive(number, grant);
            }
            Call::AskForNew(number) => {
                let grant = self.slots.acquire_new(&request(number));
                assert!(!matches!(grant, Grant::Reuse(..)));
                self.receive(number, grant);
            }
            Call::Open(which, what) => self.opened(which, what),
            Call::Return(which, good) => self.release(which, good),
            Call::Pass(seconds) => self.now += Duration::from_secs(u64::from(seconds)),
            Call::Sweep => {
                for connection in self.slots.take_expired(self.now) {
                    let idle = self.now.duration_since(self.released[&connection.0]);
                    assert!(idle >= IDLE_LIMIT, "closed too early");
                    self.gone.insert(connection.0);
                }
            }
            Call::Probe(is_there) => self.probe(is_there),
        }
        self.check();
    }

    fn check(&self) {
        let (idle, in_use) = self.slots.counts();
        assert_eq!(in_use, self.in_use.len() + self.opening.len());
        assert!(idle + in_use <= self.bounds.connections, "too many");
        let mut at: HashMap<String, usize> = HashMap::new();
        for number in &self.opening {
            for address in request(*number).addresses {
                *at.entry(address).or_default() += 1;
            }
        }
        assert!(at.values().all(|count| *count <= self.bounds.opening));
    }
}

proptest! {
    #[test]
    fn the_slots_keep_their_bounds(
        connections in 1..6_usize,
        opening in 1..4_usize,
        calls in proptest::collection::vec(call(), 1..200),
    ) {
        let mut world = World::new(connections, opening);
        for call in calls {
            world.act(call);
        }
        // Nobody is locked out forever after all connections are returned.
        while !world.opening.is_empty() {
            world.opened(0, 2);
        }
        while !world.in_use.is_empty() {
            world.release(0, true);
        }
        world.check();
        let grant = world.slots.acquire_new(&request(2));
        prop_assert!(matches!(grant, Grant::Open(_)));
    }
}

#[test]
fn an_sshd_that_turns_away_gets_fewer_at_once_until_it_takes_them() {
    let mut world = World::new(100, 8);
    let opening = |world: &mut World| {
        let mut count = 0;
        while let Grant::Open(_) = world.slots.acquire_new(&request(1)) {
            count += 1;
        }
        count
    };
    assert_eq!(opening(&mut world), 8);
    for _ in 0..8 {
        world
            .slots
            .finish_open(&request(1), OpenOutcome::TurnedAway);
    }
    assert_eq!(opening(&mut world), 1);
    for _ in 2..=8 {
        world.slots.finish_open(&request(1), OpenOutcome::Connected);
        assert_eq!(opening(&mut world), 2);
    }
    world.slots.finish_open(&request(1), OpenOutcome::Connected);
    assert_eq!(opening(&mut world), 1);
}
