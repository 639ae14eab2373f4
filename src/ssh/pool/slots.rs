//! The slots of a pool: idle connections, connections in use, and the permission to open one. Pure:
//! it opens and closes nothing and reads no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Identifies interchangeable connections: a digest of everything that makes one unfit for another
/// user.
pub(super) type Key = [u8; 32];

/// `host:port` of an sshd.
pub(super) type Address = String;

/// Limits of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections in all, idle ones included.
    pub(super) connections: usize,
    /// Connections being opened at one sshd.
    pub(super) opening: usize,
    /// The time after which an idle connection is closed.
    pub(super) idle: Duration,
}

/// A request for a connection of this key, opened through these sshds.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) addresses: Vec<Address>,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Grant<C> {
    /// Reuse this connection, idle for this long.
    Reuse(C, Duration),
    /// Open one, after closing the idle one given here.
    Open(Option<C>),
    /// Ask again after the next change.
    Wait,
}

/// The outcome of opening a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenOutcome {
    /// It is connected, and in use.
    Connected,
    /// The sshd refuses more connections that are not logged in yet.
    TurnedAway,
    /// The connection was not opened.
    Failed,
}

struct Idle<C> {
    key: Key,
    connection: C,
    since: Instant,
    probed_at: Instant,
}

/// The number of connections being opened at one sshd, and the most it tolerates.
struct HostLimit {
    opening: usize,
    most: usize,
}

/// The state of a pool.
pub(super) struct Slots<C> {
    bounds: Bounds,
    /// The longest idle first.
    idle: Vec<Idle<C>>,
    /// Connections in use or being opened.
    in_use: usize,
    hosts: HashMap<Address, HostLimit>,
}

impl<C> Slots<C> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            idle: Vec::new(),
            in_use: 0,
            hosts: HashMap::new(),
        }
    }

    /// The numbers of idle connections and of those in use or being opened.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.idle.len(), self.in_use)
    }

    /// Answers a request. After [`Grant::Open`] the caller reports the outcome by
    /// [`finish_open`](Self::finish_open); a connection in use is returned by [`release`](Self::release).
    pub(super) fn acquire(&mut self, request: &Request, now: Instant) -> Grant<C> {
        // The connection that was idle for the shortest time is the likeliest to be alive.
        let found = self.idle.iter().rposition(|idle| {
            idle.key == request.key && now.duration_since(idle.since) < self.bounds.idle
        });
        if let Some(index) = found {
            let idle = self.idle.remove(index);
            self.in_use += 1;
            return Grant::Reuse(idle.connection, now.duration_since(idle.since));
        }
        self.acquire_new(request)
    }

    /// Answers a request that takes no idle connection.
    pub(super) fn acquire_new(&mut self, request: &Request) -> Grant<C> {
        let bears_more = |address| {
            let host = self.hosts.get(address);
            host.is_none_or(|host| host.opening < host.most)
        };
        if !request.addresses.iter().all(bears_more) {
            return Grant::Wait;
        }
        let is_full = self.idle.len() + self.in_use >= self.bounds.connections;
        if is_full && self.idle.is_empty() {
            return Grant::Wait;
        }
        let closed = is_full.then(|| self.idle.remove(0).connection);
        self.in_use += 1;
        for address in &request.addresses {
            self.host(address).opening += 1;
        }
        Grant::Open(closed)
    }

    fn host(&mut self, address: &Address) -> &mut HostLimit {
        self.hosts.entry(address.clone()).or_insert(HostLimit {
            opening: 0,
            most: self.bounds.opening,
        })
    }

    /// Reports the outcome of opening a connection. The limit of an sshd that turns one away is
    /// halved, and grows by one for each that connects.
    pub(super) fn finish_open(&mut self, request: &Request, outcome: OpenOutcome) {
        let most = self.bounds.opening;
        for address in &request.addresses {
            let host = self.host(address);
            host.opening = host.opening.saturating_sub(1);
            match outcome {
                OpenOutcome::Connected => host.most = (host.most + 1).min(most),
                OpenOutcome::TurnedAway => host.most = (host.most / 2).max(1),
                OpenOutcome::Failed => {}
            }
            if host.opening == 0 && host.most == most {
                self.hosts.remove(address);
            }
        }
        if outcome != OpenOutcome::Connected {
            self.in_use = self.in_use.saturating_sub(1);
        }
    }

    /// Takes a connection back. `None`: it is closed.
    pub(super) fn release(&mut self, key: Key, connection: Option<C>, now: Instant) {
        self.in_use = self.in_use.saturating_sub(1);
        if let Some(connection) = connection {
            self.idle.push(Idle {
                key,
                connection,
                since: now,
                probed_at: now,
            });
        }
    }

    /// Removes the idle connections of this key, to be closed: they were opened under conditions
    /// that no longer hold.
    pub(super) fn take_idle(&mut self, key: Key) -> Vec<C> {
        self.drain(|idle| idle.key == key)
    }

    /// Removes the connections that were idle for the limit, to be closed.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<C> {
        let limit = self.bounds.idle;
        self.drain(|idle| now.duration_since(idle.since) >= limit)
    }

    fn drain(&mut self, goes: impl FnMut(&mut Idle<C>) -> bool) -> Vec<C> {
        let gone = self.idle.extract_if(.., goes);
        gone.map(|idle| idle.connection).collect()
    }

    /// Takes an idle connection that was not probed for `interval`. It is in use until
    /// [`finish_probe`](Self::finish_probe) or [`lose_probed`](Self::lose_probed).
    pub(super) fn next_probe(&mut self, interval: Duration, now: Instant) -> Option<Probe<C>> {
        let index = self
            .idle
            .iter()
            .position(|idle| now.duration_since(idle.probed_at) >= interval)?;
        let Idle {
            key,
            connection,
            since,
            ..
        } = self.idle.remove(index);
        self.in_use += 1;
        Some(Probe {
            key,
            connection,
            since,
        })
    }

    /// Returns a probed connection, with the idle time it had before.
    pub(super) fn finish_probe(&mut self, probe: Probe<C>, now: Instant) {
        self.in_use = self.in_use.saturating_sub(1);
        let index = self.idle.partition_point(|idle| idle.since <= probe.since);
        let idle = Idle {
            key: probe.key,
            connection: probe.connection,
            since: probe.since,
            probed_at: now,
        };
        self.idle.insert(index, idle);
    }

    /// Discards a probed connection that was dead.
    pub(super) fn lose_probed(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }
}

/// An idle connection that is being probed.
pub(super) struct Probe<C> {
    key: Key,
    pub(super) connection: C,
    since: Instant,
}
