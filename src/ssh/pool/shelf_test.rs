//! The shelf against a model: whatever is asked for in whatever order, there are never more
//! connections than allowed, none is out twice, none that is broken or too old comes again, and
//! each fits what was asked for.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::shelf::{Bounds, Looked, Opened, Shelf, Turn, Want};

const REST: Duration = Duration::from_secs(60);
const QUESTION: Duration = Duration::from_secs(20);

/// Three servers; the third is reached by way of the first.
fn want(number: u8) -> Want {
    let place = |number: u8| format!("host{number}:22");
    let mut places = vec![place(number)];
    if number == 2 {
        places.push(place(0));
    }
    Want {
        key: [number; 32],
        places,
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Ask(u8),
    AskForNew(u8),
    /// What comes of the n-th that is being opened.
    Open(usize, u8),
    /// The n-th that is out comes back, broken or not.
    Return(usize, bool),
    Pass(u8),
    Sweep,
    /// A resting one is looked at, and found to be there or not.
    Look(bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..3_u8).prop_map(Deed::Ask),
        1 => (0..3_u8).prop_map(Deed::AskForNew),
        4 => (any::<usize>(), 0..3_u8).prop_map(|(which, what)| Deed::Open(which, what)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Deed::Return(which, good)),
        1 => (1..40_u8).prop_map(Deed::Pass),
        1 => Just(Deed::Sweep),
        1 => any::<bool>().prop_map(Deed::Look),
    ]
}

/// A connection: which one, and what it is fit for.
type Fake = (u32, u8);

struct World {
    shelf: Shelf<Fake>,
    bounds: Bounds,
    now: Instant,
    made: u32,
    out: Vec<Fake>,
    opening: Vec<u8>,
    gone: HashSet<u32>,
    came_back: HashMap<u32, Instant>,
}

impl World {
    fn new(connections: usize, opening: usize) -> Self {
        let bounds = Bounds {
            connections,
            opening,
            rest: REST,
        };
        Self {
            shelf: Shelf::new(bounds),
            bounds,
            now: Instant::now(),
            made: 0,
            out: Vec::new(),
            opening: Vec::new(),
            gone: HashSet::new(),
            came_back: HashMap::new(),
        }
    }

    fn receive(&mut self, number: u8, turn: Turn<Fake>) {
        match turn {
            Turn::Take(connection, rested) => {
                assert_eq!(connection.1, number, "of another server");
                assert!(!self.gone.contains(&connection.0), "broken or closed");
                assert!(!self.out.contains(&connection), "out twice");
                assert!(rested < REST, "too old");
                let since = self.came_back[&connection.0];
                assert_eq!(self.now.duration_since(since), rested);
                self.out.push(connection);
            }
            Turn::Open(closed) => {
                self.opening.push(number);
                self.gone.extend(closed.map(|connection| connection.0));
            }
            Turn::Wait => {
                let (resting, out) = self.shelf.counts();
                let is_full = out >= self.bounds.connections;
                let waits_for_gate = want(number).places.iter().any(|place| {
                    self.opening
                        .iter()
                        .any(|other| want(*other).places.contains(place))
                });
                assert!(
                    is_full || waits_for_gate,
                    "waits for nothing: {resting} rest"
                );
            }
        }
    }

    fn opened(&mut self, which: usize, what: u8) {
        if self.opening.is_empty() {
            return;
        }
        let number = self.opening.remove(which % self.opening.len());
        let what = [Opened::Stands, Opened::TurnedAway, Opened::Failed][usize::from(what)];
        self.shelf.opened(&want(number), what);
        if what == Opened::Stands {
            self.made += 1;
            self.out.push((self.made, number));
        }
    }

    fn come_back(&mut self, which: usize, good: bool) {
        if self.out.is_empty() {
            return;
        }
        let connection = self.out.remove(which % self.out.len());
        if !good {
            self.gone.insert(connection.0);
        }
        self.came_back.insert(connection.0, self.now);
        let fit = good.then_some(connection);
        self.shelf.back([connection.1; 32], fit, self.now);
    }

    fn look(&mut self, is_there: bool) {
        let looked: Option<Looked<Fake>> = self.shelf.next_to_look_at(QUESTION, self.now);
        let Some(looked) = looked else { return };
        assert!(!self.out.contains(&looked.connection));
        match is_there {
            true => self.shelf.kept(looked, self.now),
            false => {
                self.gone.insert(looked.connection.0);
                self.shelf.lost();
            }
        }
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Ask(number) => {
                let turn = self.shelf.turn(&want(number), self.now);
                self.receive(number, turn);
            }
            Deed::AskForNew(number) => {
                let turn = self.shelf.turn_to_open(&want(number));
                assert!(!matches!(turn, Turn::Take(..)));
                self.receive(number, turn);
            }
            Deed::Open(which, what) => self.opened(which, what),
            Deed::Return(which, good) => self.come_back(which, good),
            Deed::Pass(seconds) => self.now += Duration::from_secs(u64::from(seconds)),
            Deed::Sweep => {
                for connection in self.shelf.expired(self.now) {
                    let rested = self.now.duration_since(self.came_back[&connection.0]);
                    assert!(rested >= REST, "closed too early");
                    self.gone.insert(connection.0);
                }
            }
            Deed::Look(is_there) => self.look(is_there),
        }
        self.check();
    }

    fn check(&self) {
        let (resting, out) = self.shelf.counts();
        assert_eq!(out, self.out.len() + self.opening.len());
        assert!(resting + out <= self.bounds.connections, "too many");
        let mut at: HashMap<String, usize> = HashMap::new();
        for number in &self.opening {
            for place in want(*number).places {
                *at.entry(place).or_default() += 1;
            }
        }
        assert!(at.values().all(|count| *count <= self.bounds.opening));
    }
}

proptest! {
    #[test]
    fn the_shelf_keeps_its_bounds(
        connections in 1..6_usize,
        opening in 1..4_usize,
        deeds in proptest::collection::vec(deed(), 1..200),
    ) {
        let mut world = World::new(connections, opening);
        for deed in deeds {
            world.act(deed);
        }
        // Nobody is locked out for good once all is over.
        while !world.opening.is_empty() {
            world.opened(0, 2);
        }
        while !world.out.is_empty() {
            world.come_back(0, true);
        }
        world.check();
        let turn = world.shelf.turn_to_open(&want(2));
        prop_assert!(matches!(turn, Turn::Open(_)));
    }
}

#[test]
fn an_sshd_that_turns_away_gets_fewer_at_once_until_it_takes_them() {
    let mut world = World::new(100, 8);
    let opening = |world: &mut World| {
        let mut count = 0;
        while let Turn::Open(_) = world.shelf.turn_to_open(&want(1)) {
            count += 1;
        }
        count
    };
    assert_eq!(opening(&mut world), 8);
    for _ in 0..8 {
        world.shelf.opened(&want(1), Opened::TurnedAway);
    }
    assert_eq!(opening(&mut world), 1);
    for _ in 2..=8 {
        world.shelf.opened(&want(1), Opened::Stands);
        assert_eq!(opening(&mut world), 2);
    }
    world.shelf.opened(&want(1), Opened::Stands);
    assert_eq!(opening(&mut world), 1);
}
