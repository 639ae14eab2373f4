//! A bounded pool of connections, shared by releases.
//!
//! A lease belongs to one thread and returns its connection when it is dropped, unless that is
//! broken. Idle connections are probed regularly, and closed after a time. The number being opened
//! at once at one sshd is limited, since sshd drops connections that are not logged in yet when it
//! has too many (`MaxStartups`); a dropped one is opened again after a random pause. A host that
//! hangs delays only the callers that wait for it.

mod extra_connections;
mod slots;
#[cfg(test)]
mod slots_test;

use std::fmt;
use std::ops::Deref;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub(super) use self::extra_connections::PoolHandle;
use self::slots::{Bounds, Grant, Key, OpenOutcome, Request, Slots};
use super::connection::Connection;
use super::credential::Credential;
use super::error::{Cause, Phase, SshError};
use super::link::SLICE;
use super::proxy::Proxy;
use super::{Cancel, Target, Timeouts};

/// The longest wait for a slot.
const SLOT_WAIT: Duration = Duration::from_secs(60);

/// The time for which an sshd that turns connections away is retried.
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// The first and the longest pause before a retry; each is twice the one before.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A connection that was idle for less is reused without a probe.
const FRESH: Duration = Duration::from_secs(1);

/// The interval of probes of an idle connection.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// The time for an answer to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Limits of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Connections in all, idle ones included; at least 1.
    pub connections: usize,
    /// Connections being opened at once at one sshd; at least 1.
    pub opening: usize,
    /// The time after which an idle connection is closed.
    pub idle: Duration,
}

impl Default for PoolOptions {
    /// 256 in all, 8 being opened at one sshd, idle for a minute.
    fn default() -> Self {
        Self {
            connections: 256,
            opening: 8,
            idle: Duration::from_secs(60),
        }
    }
}

/// The pool; clones share it. Its idle connections are closed with its last clone.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    slots: Mutex<Slots<Connection>>,
    changed: Condvar,
    /// Dropped with the pool, which ends the thread that maintains idle connections.
    _alive: mpsc::Sender<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (idle, in_use) = self.counts();
        write!(formatter, "Pool({idle} idle, {in_use} in use)")
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(PoolOptions::default())
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Self {
        let (alive, ended) = mpsc::channel();
        let pool = Self(Arc::new(Inner {
            slots: Mutex::new(Slots::new(Bounds {
                connections: options.connections.max(1),
                opening: options.opening.max(1),
                idle: options.idle,
            })),
            changed: Condvar::new(),
            _alive: alive,
        }));
        let inner = Arc::downgrade(&pool.0);
        let tick = (options.idle / 4).clamp(Duration::from_millis(20), Duration::from_secs(5));
        let maintainer = thread::Builder::new().name("ssh-pool".to_owned());
        // Without the thread every reuse probes, and the limits still hold.
        if let Err(error) = maintainer.spawn(move || maintain(&inner, &ended, tick)) {
            tracing::warn!(%error, "idle connections are not maintained");
        }
        pool
    }

    /// Leases an idle connection to `target`, else opens one.
    ///
    /// # Errors
    /// Those of [`Connection::open`]; [`Cause::TimedOut`] in [`Phase::Slot`] after a minute without
    /// a slot; [`Cause::Cancelled`] within 2 s of `cancel`.
    pub fn lease(
        &self,
        target: &Target,
        timeouts: &Timeouts,
        cancel: &Cancel,
    ) -> Result<Leased, SshError> {
        let request = request(target);
        let wait = (cancel, SLOT_WAIT);
        self.acquire(&request, target, timeouts, wait, Slots::acquire)
    }

    /// Opens a connection to `target` even if one is idle, to test the login.
    ///
    /// # Errors
    /// Those of [`lease`](Self::lease).
    pub fn lease_new(
        &self,
        target: &Target,
        timeouts: &Timeouts,
        cancel: &Cancel,
    ) -> Result<Leased, SshError> {
        let request = request(target);
        let wait = (cancel, SLOT_WAIT);
        self.acquire(&request, target, timeouts, wait, |slots, request, _| {
            slots.acquire_new(request)
        })
    }

    /// The numbers of idle connections and of those leased or being opened.
    pub fn counts(&self) -> (usize, usize) {
        self.0.lock().counts()
    }

    fn acquire(
        &self,
        request: &Request,
        target: &Target,
        timeouts: &Timeouts,
        (cancel, longest): (&Cancel, Duration),
        ask: impl Fn(&mut Slots<Connection>, &Request, Instant) -> Grant<Connection>,
    ) -> Result<Leased, SshError> {
        let begun = Instant::now();
        let mut pause = RETRY_PAUSES.0;
        let failed = |cause| SshError::at(&target.host, target.port, cause);
        loop {
            let ask = |slots: &mut _, now| ask(slots, request, now);
            let grant = self.wait_for_slot(cancel, longest, ask);
            match grant.map_err(failed)? {
                Grant::Reuse(mut connection, idle) => {
                    connection.timeouts = *timeouts;
                    let leased = self.leased(request, connection);
                    let is_sure = idle < FRESH && leased.is_quiet();
                    if is_sure || leased.is_there(PROBE_TIMEOUT) {
                        return Ok(leased);
                    }
                    leased.mark_broken();
                }
                Grant::Open(closed) => {
                    drop(closed);
                    match self.open(request, target, timeouts, cancel) {
                        Err(error)
                            if matches!(error.cause, Cause::TurnedAway)
                                && begun.elapsed() < RETRY_LIMIT.min(longest) =>
                        {
                            sleep_unless(pause.mul_f64(rand::random_range(0.5..1.0)), cancel);
                            pause = (pause * 2).min(RETRY_PAUSES.1);
                        }
                        result => return result,
                    }
                }
                Grant::Wait => {}
            }
        }
    }

    fn wait_for_slot(
        &self,
        cancel: &Cancel,
        longest: Duration,
        mut ask: impl FnMut(&mut Slots<Connection>, Instant) -> Grant<Connection>,
    ) -> Result<Grant<Connection>, Cause> {
        let begun = Instant::now();
        let mut slots = self.0.lock();
        loop {
            if cancel.is_cancelled() {
                return Err(Cause::Cancelled { killed: true });
            }
            match ask(&mut slots, Instant::now()) {
                Grant::Wait if begun.elapsed() >= longest => {
                    return Err(Cause::TimedOut {
                        phase: Phase::Slot,
                        after: longest,
                    });
                }
                Grant::Wait => {
                    let waited = self.0.changed.wait_timeout(slots, SLICE);
                    slots = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                grant => return Ok(grant),
            }
        }
    }

    fn open(
        &self,
        request: &Request,
        target: &Target,
        timeouts: &Timeouts,
        cancel: &Cancel,
    ) -> Result<Leased, SshError> {
        let mut opening = Opening {
            pool: self,
            request,
            outcome: OpenOutcome::Failed,
        };
        match Connection::open_unless(target, timeouts, cancel) {
            Ok(connection) => {
                opening.outcome = OpenOutcome::Connected;
                Ok(self.leased(request, connection))
            }
            Err(error) => {
                if matches!(error.cause, Cause::TurnedAway) {
                    opening.outcome = OpenOutcome::TurnedAway;
                }
                if error.cause.is_denial() {
                    // The server's identity changed: earlier connections belong to the old server.
                    let stale = self.0.lock().take_idle(request.key);
                    drop(stale);
                }
                Err(error)
            }
        }
    }

    fn leased(&self, request: &Request, mut connection: Connection) -> Leased {
        connection.pool = PoolHandle(Arc::downgrade(&self.0));
        Leased {
            pool: self.clone(),
            key: request.key,
            connection: Some(connection),
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Slots<Connection>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports the outcome of opening a connection, also when that panics.
struct Opening<'a> {
    pool: &'a Pool,
    request: &'a Request,
    outcome: OpenOutcome,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.pool.0.lock().finish_open(self.request, self.outcome);
        self.pool.0.changed.notify_all();
    }
}

/// A connection of the pool; dropping it returns the connection, or closes a broken one.
pub struct Leased {
    pool: Pool,
    key: Key,
    /// Present until the drop.
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
        // Closing takes a moment, and the slot is free only after that.
        drop(unfit);
        self.pool.0.lock().release(self.key, fit, Instant::now());
        self.pool.0.changed.notify_all();
    }
}

/// Closes connections that were idle for long and probes the others, for as long as the pool lives.
fn maintain(pool: &Weak<Inner>, ended: &mpsc::Receiver<()>, tick: Duration) {
    while ended.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        let Some(pool) = pool.upgrade() else { return };
        let expired = pool.lock().take_expired(Instant::now());
        if !expired.is_empty() {
            drop(expired);
            pool.changed.notify_all();
        }
        loop {
            let probe = pool.lock().next_probe(PROBE_INTERVAL, Instant::now());
            let Some(probe) = probe else { break };
            if probe.connection.is_there(PROBE_TIMEOUT) {
                pool.lock().finish_probe(probe, Instant::now());
            } else {
                drop(probe);
                pool.lock().lose_probed();
            }
            pool.changed.notify_all();
        }
    }
}

/// Sleeps for `pause`, or until `cancel` is set.
fn sleep_unless(pause: Duration, cancel: &Cancel) {
    let until = Instant::now() + pause;
    while !cancel.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(SLICE));
    }
}

/// The request for a connection to `target`. Its key is a digest of everything that makes a
/// connection unfit for another user, and reveals none of it.
fn request(target: &Target) -> Request {
    let mut digest = Sha256::new();
    let mut addresses = Vec::new();
    let mut next = Some(target);
    while let Some(target) = next {
        let address = SshError::address(&target.host, target.port);
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        add(address.as_bytes());
        add(target.user.as_bytes());
        add(target.host_key.as_deref().unwrap_or_default().as_bytes());
        for part in parts(&target.credential) {
            add(part);
        }
        for part in target.proxy.iter().flat_map(Proxy::parts) {
            add(&part);
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        next = target.via.as_deref();
    }
    Request {
        key: digest.finalize().into(),
        addresses,
    }
}

/// Three parts for each single credential.
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
