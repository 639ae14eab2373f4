//! Which connections rest, how many are out, and who may open one now. Pure: it opens and closes
//! nothing itself and asks no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Tells connections apart: whatever makes one unfit for somebody else's use is in it.
pub(super) type Key = [u8; 32];

/// `host:port` of an sshd.
pub(super) type Place = String;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In all, resting ones included.
    pub(super) connections: usize,
    /// That are being opened at one sshd.
    pub(super) opening: usize,
    /// How long one rests before it is closed.
    pub(super) rest: Duration,
}

/// What somebody wants: a connection of this key, which is opened by way of these sshds.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) key: Key,
    pub(super) places: Vec<Place>,
}

/// What somebody may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<C> {
    /// Use this one, which has rested for so long.
    Take(C, Duration),
    /// Open one, after closing what is here.
    Open(Option<C>),
    /// Ask again when something has changed.
    Wait,
}

/// What came of opening one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It stands, and is out.
    Stands,
    /// The sshd has too many that are being opened.
    TurnedAway,
    /// It does not stand.
    Failed,
}

struct Resting<C> {
    key: Key,
    connection: C,
    since: Instant,
    looked_at: Instant,
}

/// How many are being opened at one sshd, and how many it bears.
struct Gate {
    now: usize,
    most: usize,
}

/// See the module.
pub(super) struct Shelf<C> {
    bounds: Bounds,
    /// The one that has rested longest first.
    resting: Vec<Resting<C>>,
    /// Those that are out, and those that are being opened.
    out: usize,
    gates: HashMap<Place, Gate>,
}

impl<C> Shelf<C> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            resting: Vec::new(),
            out: 0,
            gates: HashMap::new(),
        }
    }

    /// How many rest and how many are out or being opened.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.resting.len(), self.out)
    }

    /// What `want` may do now. Whoever may open one says afterwards what came of it by
    /// [`opened`](Self::opened); what is taken or stands comes [`back`](Self::back).
    pub(super) fn turn(&mut self, want: &Want, now: Instant) -> Turn<C> {
        // The one that has rested shortest is the likeliest to be still there.
        let found = self.resting.iter().rposition(|resting| {
            resting.key == want.key && now.duration_since(resting.since) < self.bounds.rest
        });
        if let Some(place) = found {
            let resting = self.resting.remove(place);
            self.out += 1;
            return Turn::Take(resting.connection, now.duration_since(resting.since));
        }
        self.turn_to_open(want)
    }

    /// [`turn`](Self::turn) without the resting ones.
    pub(super) fn turn_to_open(&mut self, want: &Want) -> Turn<C> {
        let bears_more = |place| {
            let gate = self.gates.get(place);
            gate.is_none_or(|gate| gate.now < gate.most)
        };
        if !want.places.iter().all(bears_more) {
            return Turn::Wait;
        }
        let is_full = self.resting.len() + self.out >= self.bounds.connections;
        if is_full && self.resting.is_empty() {
            return Turn::Wait;
        }
        let closed = is_full.then(|| self.resting.remove(0).connection);
        self.out += 1;
        for place in &want.places {
            self.gate(place).now += 1;
        }
        Turn::Open(closed)
    }

    fn gate(&mut self, place: &Place) -> &mut Gate {
        self.gates.entry(place.clone()).or_insert(Gate {
            now: 0,
            most: self.bounds.opening,
        })
    }

    /// An sshd that turns somebody away gets half as many at once, and one more for each that
    /// stands.
    pub(super) fn opened(&mut self, want: &Want, what: Opened) {
        let most = self.bounds.opening;
        for place in &want.places {
            let gate = self.gate(place);
            gate.now = gate.now.saturating_sub(1);
            match what {
                Opened::Stands => gate.most = (gate.most + 1).min(most),
                Opened::TurnedAway => gate.most = (gate.most / 2).max(1),
                Opened::Failed => {}
            }
            if gate.now == 0 && gate.most == most {
                self.gates.remove(place);
            }
        }
        if what != Opened::Stands {
            self.out = self.out.saturating_sub(1);
        }
    }

    /// One that was out comes back; none: it is not to be used again.
    pub(super) fn back(&mut self, key: Key, connection: Option<C>, now: Instant) {
        self.out = self.out.saturating_sub(1);
        if let Some(connection) = connection {
            self.resting.push(Resting {
                key,
                connection,
                since: now,
                looked_at: now,
            });
        }
    }

    /// Those of this key that rest, to be closed: what they were opened with holds no longer.
    pub(super) fn forgotten(&mut self, key: Key) -> Vec<C> {
        self.drained(|resting| resting.key == key)
    }

    /// Those that have rested long enough, to be closed.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<C> {
        let rest = self.bounds.rest;
        self.drained(|resting| now.duration_since(resting.since) >= rest)
    }

    fn drained(&mut self, goes: impl FnMut(&mut Resting<C>) -> bool) -> Vec<C> {
        let gone = self.resting.extract_if(.., goes);
        gone.map(|resting| resting.connection).collect()
    }

    /// One that nobody has looked at for `pause`: it is out until it is [`kept`](Self::kept).
    pub(super) fn next_to_look_at(&mut self, pause: Duration, now: Instant) -> Option<Looked<C>> {
        let place = self
            .resting
            .iter()
            .position(|resting| now.duration_since(resting.looked_at) >= pause)?;
        let Resting {
            key,
            connection,
            since,
            ..
        } = self.resting.remove(place);
        self.out += 1;
        Some(Looked {
            key,
            connection,
            since,
        })
    }

    /// It rests on, as long as it would have.
    pub(super) fn kept(&mut self, looked: Looked<C>, now: Instant) {
        self.out = self.out.saturating_sub(1);
        let place = self
            .resting
            .partition_point(|resting| resting.since <= looked.since);
        let resting = Resting {
            key: looked.key,
            connection: looked.connection,
            since: looked.since,
            looked_at: now,
        };
        self.resting.insert(place, resting);
    }

    /// It is gone.
    pub(super) fn lost(&mut self) {
        self.out = self.out.saturating_sub(1);
    }
}

/// A resting connection that is being looked at.
pub(super) struct Looked<C> {
    key: Key,
    pub(super) connection: C,
    since: Instant,
}
