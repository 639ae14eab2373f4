//! Rate limits: token buckets in bounded memory.
//!
//! A full bucket carries no information and is dropped. The state of a bucket is one moment: when it
//! will be full again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of buckets. Beyond it, new senders share one.
const CAPACITY: usize = 100_000;
/// The time until another sweep after one that found little to drop.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// The bucket shared by senders without one of their own.
const NEWCOMERS: u64 = 0;
/// The bytes in one unit of cost: a message costs one, and one more for each full unit.
const BYTES_OF_ONE: usize = 4096;

/// A sustained rate per second, and a burst allowed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The sustained number per second.
    pub per_second: u32,
    /// The number allowed at once, after a pause.
    pub burst: u32,
}

impl Rate {
    /// The time in which one unit is refilled.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    /// Takes `cost` from a bucket that is full at `full`: returns when it is full again, or the wait
    /// until enough is refilled. A cost above the burst is capped to it, so it needs a full bucket.
    fn take(self, full: Option<Instant>, cost: u32, now: Instant) -> Result<Instant, Duration> {
        let full = full.map_or(now, |full| full.max(now));
        // Below the clock's resolution there is no bound; this also covers a `now` read later by
        // another thread.
        if self.interval().is_zero() {
            return Ok(full);
        }
        let cost = self.interval() * cost.min(self.burst);
        let most = self.interval() * self.burst;
        let spent = full.duration_since(now) + cost;
        match spent.checked_sub(most) {
            None | Some(Duration::ZERO) => Ok(full + cost),
            Some(wait) => Err(wait),
        }
    }
}

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender<'a> {
    /// A logged-in account, from any address.
    Account(&'a str),
    /// A client that gives its own name. Names are easily changed, so the address is limited too, and
    /// may be that of a whole office.
    Stranger {
        /// The address that is limited; see [`rate_limit_key`](crate::proxies::rate_limit_key).
        address: IpAddr,
        /// The given name.
        name: &'a str,
    },
}

/// Rate limits per sender.
pub struct Rates {
    client: Rate,
    address: Rate,
    capacity: usize,
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

/// The time at which each bucket is full, by the hash of its owner: an entry has the same size, however
/// long the name.
struct Buckets {
    full: HashMap<u64, Instant>,
    swept: Option<Instant>,
}

impl Rates {
    /// Creates the limits: `client` for an account or for a name from an address, `address` for all
    /// names of an address.
    pub fn new(client: Rate, address: Rate) -> Self {
        Self {
            client,
            address,
            capacity: CAPACITY,
            hasher: RandomState::new(),
            buckets: Mutex::new(Buckets {
                full: HashMap::new(),
                swept: None,
            }),
        }
    }

    /// Admits and counts a message of `bytes` bytes. A refused message is not counted.
    ///
    /// # Errors
    /// The time that `sender` has to wait.
    pub fn message(&self, sender: Sender<'_>, bytes: usize, now: Instant) -> Result<(), Duration> {
        let cost = u32::try_from(1 + bytes / BYTES_OF_ONE).unwrap_or(u32::MAX);
        let mut buckets = self.lock();
        let wanted = match sender {
            // The number of accounts bounds these buckets.
            Sender::Account(name) => [Some((self.hasher.hash_one(name), self.client)), None],
            Sender::Stranger { address, name } => {
                let own = self.hasher.hash_one((address, name));
                let all = self.hasher.hash_one(address);
                let all = self.has_place(&mut buckets, all, now).then_some(all);
                [
                    self.has_place(&mut buckets, own, now)
                        .then_some((own, self.client)),
                    Some((all.unwrap_or(NEWCOMERS), self.address)),
                ]
            }
        };
        let mut taken = [None, None];
        for (taken, wanted) in taken.iter_mut().zip(wanted) {
            if let Some((key, rate)) = wanted {
                *taken = Some((key, rate.take(buckets.full.get(&key).copied(), cost, now)?));
            }
        }
        buckets.full.extend(taken.into_iter().flatten());
        Ok(())
    }

    /// Drops the buckets that are full again.
    pub fn sweep(&self, now: Instant) {
        let mut buckets = self.lock();
        buckets.sweep(now);
        buckets.full.shrink_to_fit();
    }

    /// True if there is a bucket with this key, or room for it.
    fn has_place(&self, buckets: &mut Buckets, key: u64, now: Instant) -> bool {
        if buckets.full.len() < self.capacity || buckets.full.contains_key(&key) {
            return true;
        }
        let is_due = |swept| now.duration_since(swept) >= SWEEP_PAUSE;
        if buckets.swept.is_none_or(is_due) {
            buckets.sweep(now);
        }
        buckets.full.len() < self.capacity
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn sweep(&mut self, now: Instant) {
        self.full.retain(|_, full| *full > now);
        self.swept = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOW: Rate = Rate {
        per_second: 2,
        burst: 3,
    };
    const FAST: Rate = Rate {
        per_second: 10,
        burst: 20,
    };

    fn stranger(address: u32, name: &str) -> Sender<'_> {
        Sender::Stranger {
            address: IpAddr::from(address.to_be_bytes()),
            name,
        }
    }

    #[test]
    fn a_rate_without_bounds_refuses_nobody() {
        let rate = Rate {
            per_second: u32::MAX,
            burst: u32::MAX,
        };
        let now = Instant::now();
        let later = now + Duration::from_millis(3);
        assert_eq!(rate.take(Some(later), 17, now), Ok(later));
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rates = Rates::new(SLOW, FAST);
        let start = Instant::now();
        let ann = Sender::Account("ann");
        let at = |ms| rates.message(ann, 1, start + Duration::from_millis(ms));
        for _ in 0..3 {
            assert_eq!(at(0), Ok(()));
        }
        assert_eq!(at(0), Err(Duration::from_millis(500)));
        assert_eq!(at(200), Err(Duration::from_millis(300)));
        assert_eq!(at(500), Ok(()));
        assert_eq!(at(500), Err(Duration::from_millis(500)));
        assert_eq!(at(60_000), Ok(()));
        assert_eq!(rates.message(Sender::Account("bob"), 1, start), Ok(()));
    }

    #[test]
    fn who_changes_the_name_meets_the_bound_of_the_address() {
        let rates = Rates::new(SLOW, FAST);
        let now = Instant::now();
        let sent = (0..100)
            .filter(|i| rates.message(stranger(1, &i.to_string()), 1, now).is_ok())
            .count();
        assert_eq!(sent, 20);
        assert_eq!(rates.message(stranger(2, "0"), 1, now), Ok(()));
        assert_eq!(rates.message(Sender::Account("0"), 1, now), Ok(()));
    }

    #[test]
    fn who_floods_does_not_spend_what_the_office_has() {
        let rates = Rates::new(SLOW, FAST);
        let now = Instant::now();
        for _ in 0..1000 {
            let _ = rates.message(stranger(1, "flood"), 1, now);
        }
        assert_eq!(rates.message(stranger(1, "ann"), 1, now), Ok(()));
    }

    #[test]
    fn a_long_message_counts_for_several_and_never_for_more_than_there_can_be() {
        let rates = Rates::new(FAST, FAST);
        let (now, ann) = (Instant::now(), Sender::Account("ann"));
        assert_eq!(rates.message(ann, 64 << 10, now), Ok(()));
        let sent = (0..100)
            .filter(|_| rates.message(ann, 1, now).is_ok())
            .count();
        assert_eq!(sent, 3);
        let rates = Rates::new(SLOW, FAST);
        assert_eq!(rates.message(ann, 64 << 10, now), Ok(()));
    }

    #[test]
    fn ever_new_senders_do_not_fill_the_memory() {
        let mut rates = Rates::new(SLOW, FAST);
        rates.capacity = 1000;
        let start = Instant::now();
        for address in 0..100_000 {
            let _ = rates.message(stranger(address, "x"), 1, start);
        }
        assert!(
            rates.lock().full.len() <= 1002,
            "{}",
            rates.lock().full.len()
        );
        // Existing buckets stay.
        assert_eq!(rates.message(stranger(0, "x"), 1, start), Ok(()));
        assert_eq!(rates.message(stranger(0, "x"), 1, start), Ok(()));
        assert!(rates.message(stranger(0, "x"), 1, start).is_err());
        let later = start + Duration::from_secs(10);
        assert_eq!(rates.message(stranger(1 << 20, "x"), 1, later), Ok(()));
        assert_eq!(rates.lock().full.len(), 2, "the full ones are dropped");
        rates.sweep(later + Duration::from_secs(10));
        assert_eq!(rates.lock().full.len(), 0);
    }

    proptest! {
        /// No window of time lets more through than the burst and the refill in it, and a sweep at any
        /// moment changes nothing.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            per_second in 1u32..50,
            burst in 1u32..50,
            steps in prop::collection::vec((0u64..400, any::<bool>()), 1..200),
        ) {
            let rate = Rate { per_second, burst };
            let (swept, plain) = (Rates::new(rate, rate), Rates::new(rate, rate));
            let start = Instant::now();
            let (mut at, mut passed) = (0, Vec::new());
            for (pause, sweep) in steps {
                at += pause;
                let now = start + Duration::from_millis(at);
                if sweep {
                    swept.sweep(now);
                }
                let answer = plain.message(Sender::Account("a"), 1, now);
                prop_assert_eq!(answer, swept.message(Sender::Account("a"), 1, now));
                match answer {
                    Ok(()) => passed.push(at),
                    Err(wait) => {
                        // After the reported wait the message is admitted.
                        let key = plain.hasher.hash_one("a");
                        let full = plain.lock().full.get(&key).copied();
                        prop_assert!(rate.take(full, 1, now + wait).is_ok());
                    }
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let back = (to - from) as f64 / 1000.0 * f64::from(per_second);
                    prop_assert!((j - i + 1) as f64 <= f64::from(burst) + back + 1e-3);
                }
            }
        }
    }
}
