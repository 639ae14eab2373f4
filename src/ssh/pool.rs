//! A bounded pool of connections: what a release has opened, the next one uses again.
//!
//! A connection is leased by one thread and comes back when its lease is dropped, unless it is
//! broken. Resting ones are asked now and then whether they are still there, and closed after a
//! time. At most so many are opened at once at one sshd, which drops connections that are not
//! logged in yet when it has too many (`MaxStartups`); one that is dropped is opened again after a
//! random pause. A host that hangs costs those who wait for it and nobody else.

mod beside;
mod shelf;
#[cfg(test)]
mod shelf_test;

use std::fmt;
use std::ops::Deref;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub(super) use self::beside::Home;
use self::shelf::{Bounds, Key, Opened, Shelf, Turn, Want};
use super::connection::Connection;
use super::credential::Credential;
use super::error::{Cause, Phase, SshError};
use super::link::SLICE;
use super::proxy::Proxy;
use super::{Cancel, Target, Timeouts};

/// How long somebody waits until he may open a connection.
const TURN: Duration = Duration::from_secs(60);

/// How long an sshd that turns connections away is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// The bounds of the pause before it is tried again; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A connection that has rested no longer is used without being asked.
const FRESH: Duration = Duration::from_secs(1);

/// How often a resting connection is asked whether it is still there.
const QUESTION: Duration = Duration::from_secs(20);

/// How long it has to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How many connections a pool has.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// How many there may be in all, resting ones included; at least 1.
    pub connections: usize,
    /// How many may be opened at once at one sshd; at least 1.
    pub opening: usize,
    /// How long an unused one is kept.
    pub rest: Duration,
}

impl Default for PoolOptions {
    /// 256 in all, 8 being opened at one sshd, a minute of rest.
    fn default() -> Self {
        Self {
            connections: 256,
            opening: 8,
            rest: Duration::from_secs(60),
        }
    }
}

/// The pool; clones share it. Its resting connections are closed with its last clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    shelf: Mutex<Shelf<Connection>>,
    changed: Condvar,
    /// Dropped with the pool, which ends the thread that looks after resting connections.
    _alive: mpsc::Sender<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resting, out) = self.counts();
        write!(formatter, "Pool({resting} resting, {out} out)")
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(PoolOptions::default())
    }
}

impl Pool {
    /// A pool without connections yet.
    pub fn new(options: PoolOptions) -> Self {
        let (alive, ended) = mpsc::channel();
        let pool = Self(Arc::new(Inner {
            shelf: Mutex::new(Shelf::new(Bounds {
                connections: options.connections.max(1),
                opening: options.opening.max(1),
                rest: options.rest,
            })),
            changed: Condvar::new(),
            _alive: alive,
        }));
        let inner = Arc::downgrade(&pool.0);
        let tick = (options.rest / 4).clamp(Duration::from_millis(20), Duration::from_secs(5));
        let keeper = thread::Builder::new().name("ssh-pool".to_owned());
        // Without the thread nothing rests for long: each use asks, and the bounds hold.
        if let Err(error) = keeper.spawn(move || look_after(&inner, &ended, tick)) {
            tracing::warn!(%error, "resting connections are not looked after");
        }
        pool
    }

    /// A connection to `target`: one that rests, else a new one.
    ///
    /// # Errors
    /// Those of [`Connection::open`]; [`Cause::TimedOut`] in [`Phase::Turn`] after a minute without
    /// a turn to open one; [`Cause::Cancelled`] within 2 s of `cancel`.
    pub fn lease(
        &self,
        target: &Target,
        timeouts: &Timeouts,
        cancel: &Cancel,
    ) -> Result<Leased, SshError> {
        let want = want(target);
        self.get(&want, target, timeouts, (cancel, TURN), Shelf::turn)
    }

    /// A new connection to `target`, also where one rests: to see whether one can be opened.
    pub fn lease_new(
        &self,
        target: &Target,
        timeouts: &Timeouts,
        cancel: &Cancel,
    ) -> Result<Leased, SshError> {
        let want = want(target);
        self.get(&want, target, timeouts, (cancel, TURN), |shelf, want, _| {
            shelf.turn_to_open(want)
        })
    }

    /// How many connections rest, and how many are leased or being opened.
    pub fn counts(&self) -> (usize, usize) {
        self.0.lock().counts()
    }

    fn get(
        &self,
        want: &Want,
        target: &Target,
        timeouts: &Timeouts,
        (cancel, longest): (&Cancel, Duration),
        turn: impl Fn(&mut Shelf<Connection>, &Want, Instant) -> Turn<Connection>,
    ) -> Result<Leased, SshError> {
        let begun = Instant::now();
        let mut pause = PAUSES.0;
        let failed = |cause| SshError::at(&target.host, target.port, cause);
        loop {
            let turn = self.wait_for_turn(cancel, longest, |shelf, now| turn(shelf, want, now));
            match turn.map_err(failed)? {
                Turn::Take(mut connection, rested) => {
                    connection.timeouts = *timeouts;
                    let leased = self.leased(want, connection);
                    let is_sure = rested < FRESH && leased.is_quiet();
                    if is_sure || leased.is_there(ANSWER) {
                        return Ok(leased);
                    }
                    leased.mark_broken();
                }
                Turn::Open(closed) => {
                    drop(closed);
                    match self.open(want, target, timeouts, cancel) {
                        Err(error)
                            if matches!(error.cause, Cause::TurnedAway)
                                && begun.elapsed() < TRY_AGAIN.min(longest) =>
                        {
                            rest(pause.mul_f64(rand::random_range(0.5..1.0)), cancel);
                            pause = (pause * 2).min(PAUSES.1);
                        }
                        result => return result,
                    }
                }
                Turn::Wait => {}
            }
        }
    }

    fn wait_for_turn(
        &self,
        cancel: &Cancel,
        longest: Duration,
        mut turn: impl FnMut(&mut Shelf<Connection>, Instant) -> Turn<Connection>,
    ) -> Result<Turn<Connection>, Cause> {
        let begun = Instant::now();
        let mut shelf = self.0.lock();
        loop {
            if cancel.is_cancelled() {
                return Err(Cause::Cancelled { killed: true });
            }
            match turn(&mut shelf, Instant::now()) {
                Turn::Wait if begun.elapsed() >= longest => {
                    return Err(Cause::TimedOut {
                        phase: Phase::Turn,
                        after: longest,
                    });
                }
                Turn::Wait => {
                    let waited = self.0.changed.wait_timeout(shelf, SLICE);
                    shelf = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                turn => return Ok(turn),
            }
        }
    }

    fn open(
        &self,
        want: &Want,
        target: &Target,
        timeouts: &Timeouts,
        cancel: &Cancel,
    ) -> Result<Leased, SshError> {
        let mut opening = Opening {
            pool: self,
            want,
            what: Opened::Failed,
        };
        match Connection::open_unless(target, timeouts, cancel) {
            Ok(connection) => {
                opening.what = Opened::Stands;
                Ok(self.leased(want, connection))
            }
            Err(error) => {
                if matches!(error.cause, Cause::TurnedAway) {
                    opening.what = Opened::TurnedAway;
                }
                if error.cause.is_denial() {
                    // What was opened before the server became another one ends with it.
                    let forgotten = self.0.lock().forgotten(want.key);
                    drop(forgotten);
                }
                Err(error)
            }
        }
    }

    fn leased(&self, want: &Want, mut connection: Connection) -> Leased {
        connection.home = Home(Arc::downgrade(&self.0));
        Leased {
            pool: self.clone(),
            key: want.key,
            connection: Some(connection),
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Shelf<Connection>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what came of opening a connection, also when that panics.
struct Opening<'a> {
    pool: &'a Pool,
    want: &'a Want,
    what: Opened,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.pool.0.lock().opened(self.want, self.what);
        self.pool.0.changed.notify_all();
    }
}

/// A connection of the pool, which it goes back to when this is dropped; a broken one is closed.
pub struct Leased {
    pool: Pool,
    key: Key,
    /// Always there until the drop.
    connection: Option<Connection>,
}

impl Deref for Leased {
    type Target = Connection;

    #[allow(clippy::expect_used)] // only the drop takes it
    fn deref(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("a lease has its connection")
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Leased")
            .field(&self.connection)
            .finish()
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let is_fit = |connection: &Connection| !connection.is_broken() && !thread::panicking();
        let (fit, unfit): (Option<_>, Option<_>) = match connection {
            Some(connection) if is_fit(&connection) => (Some(connection), None),
            connection => (None, connection),
        };
        // Closing takes a moment: its place is free after that, not before.
        drop(unfit);
        self.pool.0.lock().back(self.key, fit, Instant::now());
        self.pool.0.changed.notify_all();
    }
}

/// Closes what has rested for long and asks the others whether they are still there, as long as
/// there is the pool.
fn look_after(pool: &Weak<Inner>, ended: &mpsc::Receiver<()>, tick: Duration) {
    while ended.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        let Some(pool) = pool.upgrade() else { return };
        let expired = pool.lock().expired(Instant::now());
        if !expired.is_empty() {
            drop(expired);
            pool.changed.notify_all();
        }
        loop {
            let looked = pool.lock().next_to_look_at(QUESTION, Instant::now());
            let Some(looked) = looked else { break };
            match looked.connection.is_there(ANSWER) {
                true => pool.lock().kept(looked, Instant::now()),
                false => {
                    drop(looked);
                    pool.lock().lost();
                }
            }
            pool.changed.notify_all();
        }
    }
}

/// Waits, but not on once `cancel` is set.
fn rest(pause: Duration, cancel: &Cancel) {
    let until = Instant::now() + pause;
    while !cancel.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(SLICE));
    }
}

/// Whatever makes a connection unfit for another use is in the key, and the key shows none of it.
fn want(target: &Target) -> Want {
    let mut digest = Sha256::new();
    let mut places = Vec::new();
    let mut next = Some(target);
    while let Some(target) = next {
        let place = SshError::address(&target.host, target.port);
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        add(place.as_bytes());
        add(target.user.as_bytes());
        add(target.host_key.as_deref().unwrap_or_default().as_bytes());
        for part in parts(&target.credential) {
            add(part);
        }
        for part in target.proxy.iter().flat_map(Proxy::parts) {
            add(&part);
        }
        if !places.contains(&place) {
            places.push(place);
        }
        next = target.via.as_deref();
    }
    Want {
        key: digest.finalize().into(),
        places,
    }
}

/// Three of each single proof.
fn parts(credential: &Credential) -> Vec<&[u8]> {
    match credential {
        Credential::Password(password) => vec![b"password", password.expose().as_bytes(), b""],
        Credential::KeyFile { path, passphrase } => vec![
            b"file",
            path.as_os_str().as_encoded_bytes(),
            passphrase.as_ref().map_or(b"", |it| it.expose().as_bytes()),
        ],
        Credential::KeyInMemory { key, passphrase } => vec![
            b"key",
            key.expose().as_bytes(),
            passphrase.as_ref().map_or(b"", |it| it.expose().as_bytes()),
        ],
        Credential::Agent(socket) => vec![b"agent", socket.as_os_str().as_encoded_bytes(), b""],
        Credential::Several(proofs) => proofs.iter().flat_map(parts).collect(),
    }
}
