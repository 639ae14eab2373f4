//! Rate limit for password guesses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::proxies::rate_limit_key;

/// The number of failures of one account from one address allowed within [`WINDOW`].
const FAILURES: usize = 5;
/// The number of failures from one address allowed for all accounts together, which also slows down
/// guessing of names.
const FAILURES_OF_ADDRESS: usize = 50;
/// The time for which a failure counts.
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// The largest number of remembered pairs of account and address.
const CAPACITY: usize = 10_000;

/// The counted account and address; without a name, the address as a whole.
type Key = (Option<Box<str>>, IpAddr);

/// Counter of failed logins, in bounded memory.
#[derive(Default)]
pub struct LoginLimiter {
    /// The times of the failures that still count, oldest first; no list is empty.
    failures: Mutex<HashMap<Key, Vec<Instant>>>,
}

impl LoginLimiter {
    /// Checks that another attempt is allowed.
    ///
    /// # Errors
    /// The time to wait, at least one second.
    pub fn check(&self, name: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut failures = self.lock();
        for (key, allowed) in keys(name, address) {
            let Some(times) = failures.get_mut(&key) else {
                continue;
            };
            times.retain(|time| now.duration_since(*time) < WINDOW);
            if times.len() >= allowed
                && let Some(oldest) = times.first()
            {
                let left = WINDOW.saturating_sub(now.duration_since(*oldest));
                return Err(left.max(Duration::from_secs(1)));
            }
        }
        Ok(())
    }

    /// Counts a failure.
    pub fn failed(&self, name: &str, address: IpAddr, now: Instant) {
        let mut failures = self.lock();
        for (key, allowed) in keys(name, address) {
            if failures.len() >= CAPACITY && !failures.contains_key(&key) {
                make_room(&mut failures, now);
            }
            let times = failures.entry(key).or_default();
            if times.len() < allowed {
                times.push(now);
            }
        }
    }

    /// Clears the failures of an account that has just logged in from `address`.
    pub fn forget(&self, name: &str, address: IpAddr) {
        let [(key, _), _] = keys(name, address);
        self.lock().remove(&key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<Instant>>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys(name: &str, address: IpAddr) -> [(Key, usize); 2] {
    let address = rate_limit_key(address);
    let name: String = name.chars().take(super::LONGEST_NAME + 1).collect();
    [
        ((Some(name.into()), address), FAILURES),
        ((None, address), FAILURES_OF_ADDRESS),
    ]
}

/// Drops expired entries, or else those with the fewest failures, so that a guesser cannot displace
/// an entry by inventing names.
fn make_room(failures: &mut HashMap<Key, Vec<Instant>>, now: Instant) {
    failures.retain(|_, times| {
        times
            .last()
            .is_some_and(|time| now.duration_since(*time) < WINDOW)
    });
    if failures.len() >= CAPACITY {
        let mut weakest: Vec<_> = failures
            .iter()
            .map(|(key, times)| (times.len(), times.last().copied(), key.clone()))
            .collect();
        weakest.sort_unstable_by_key(|(count, last, _)| (*count, *last));
        for (_, _, key) in weakest.into_iter().take(CAPACITY / 10) {
            failures.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_sixth_attempt_waits_until_the_first_failure_is_old() {
        let limiter = LoginLimiter::default();
        let start = Instant::now();
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert_eq!(limiter.check("ann", HERE, now), Ok(()));
            limiter.failed("ann", HERE, now);
        }
        let later = start + Duration::from_secs(10);
        assert_eq!(
            limiter.check("ann", HERE, later),
            Err(WINDOW - Duration::from_secs(10))
        );
        assert_eq!(limiter.check("bob", HERE, later), Ok(()));
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(limiter.check("ann", elsewhere, later), Ok(()));
        assert_eq!(limiter.check("ann", HERE, start + WINDOW), Ok(()));
    }

    #[test]
    fn inventing_names_neither_fills_the_memory_nor_frees_the_guesser() {
        let limiter = LoginLimiter::default();
        let now = Instant::now();
        for _ in 0..FAILURES {
            limiter.failed("ann", HERE, now);
        }
        for number in 0..2 * CAPACITY as u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            limiter.failed("x", address, now);
        }
        assert!(limiter.lock().len() <= CAPACITY);
        assert!(limiter.check("ann", HERE, now).is_err());
    }

    #[test]
    fn an_address_that_goes_through_names_is_held_back() {
        let limiter = LoginLimiter::default();
        let now = Instant::now();
        for number in 0..FAILURES_OF_ADDRESS {
            limiter.failed(&format!("user-{number}"), HERE, now);
        }
        assert!(limiter.check("ann", HERE, now).is_err());
    }
}
