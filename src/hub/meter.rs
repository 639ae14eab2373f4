//! The hub's counters: plain atomics, cheap enough for every delivery. Nothing here locks, allocates or
//! orders anything; a reader sees each number as of about now.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{message::Message, poll::Batch};

/// The upper bounds of the latency buckets, in microseconds; one more bucket takes slower times.
pub const LATENCY_BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// The hub's counters; see the module.
#[derive(Debug, Default)]
pub struct Meter {
    published: AtomicU64,
    groups: AtomicU64,
    delivered: AtomicU64,
    overflows: AtomicU64,
    gaps: AtomicU64,
    superseded: AtomicU64,
    waiting: Latency,
    returning: Latency,
}

/// The values of a [`Meter`] since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Published messages.
    pub published: u64,
    /// Groups in which they were published, one per commit.
    pub groups: u64,
    /// Messages handed to clients' sockets; one message to a thousand clients counts a thousand times.
    pub delivered: u64,
    /// Messages that found a client's queue full and were read from a ring or the log instead.
    pub overflows: u64,
    /// Rooms in which a client was told of messages that are permanently gone.
    pub gaps: u64,
    /// Polls ended by a newer one of the same client.
    pub superseded: u64,
    /// Times from publishing to the socket if the client was waiting: the server's own share.
    pub waiting: Histogram,
    /// The same times if the client polled only later: its time away is included.
    pub returning: Histogram,
}

/// A distribution of times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The number of times at or under each of [`LATENCY_BOUNDS`] and above the previous one; the last
    /// entry counts the times above all of them.
    pub buckets: [u64; BUCKETS],
    /// The sum of all times, in microseconds.
    pub micros: u64,
}

impl Histogram {
    /// The number of times.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The difference to `earlier`, a reading of the same meter.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        Histogram {
            buckets: array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i])),
            micros: self.micros.saturating_sub(earlier.micros),
        }
    }

    /// The time that `share` (0 to 1) of all times do not exceed, as precise as the buckets allow:
    /// linear within a bucket, and the greatest bound for times above it. None if nothing was measured.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (share * count as f64).max(1.0);
        let (mut below, mut floor) = (0.0, 0);
        for (held, bound) in self.buckets.iter().zip(LATENCY_BOUNDS) {
            let held = *held as f64;
            if below + held >= rank {
                let part = (rank - below) / held;
                let micros = floor as f64 + part * (bound - floor) as f64;
                return Some(Duration::from_secs_f64(micros / 1e6));
            }
            (below, floor) = (below + held, bound);
        }
        Some(Duration::from_micros(floor))
    }
}

#[derive(Debug, Default)]
struct Latency {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Latency {
    fn add(&self, micros: u64, times: u64) {
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(times, Relaxed);
        self.micros.fetch_add(micros * times, Relaxed);
    }

    fn read(&self) -> Histogram {
        Histogram {
            buckets: array::from_fn(|i| self.buckets[i].load(Relaxed)),
            micros: self.micros.load(Relaxed),
        }
    }
}

impl Meter {
    pub(super) fn published(&self, messages: usize) {
        self.published.fetch_add(messages as u64, Relaxed);
        self.groups.fetch_add(1, Relaxed);
    }

    pub(super) fn overflowed(&self, messages: u64) {
        if messages > 0 {
            self.overflows.fetch_add(messages, Relaxed);
        }
    }

    /// Counts a reply that was or is about to be handed to the sockets of `times` clients; `waited` if
    /// they were waiting when its messages were published.
    pub fn answered(&self, batch: &Batch, waited: bool, times: u64) {
        if !batch.gap.is_empty() {
            self.gaps.fetch_add(batch.gap.len() as u64 * times, Relaxed);
        }
        if batch.superseded {
            self.superseded.fetch_add(times, Relaxed);
        }
        self.deliver(batch.messages.iter().map(|m| &**m), waited, times);
    }

    /// Counts one message that is about to be handed to its client's socket; `waited` if the client was
    /// waiting when it was published.
    pub fn delivered(&self, message: &Message, waited: bool) {
        self.deliver(std::iter::once(message), waited, 1);
    }

    fn deliver<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = &'a Message>,
        waited: bool,
        times: u64,
    ) {
        if messages.len() == 0 {
            return;
        }
        let count = messages.len() as u64 * times;
        self.delivered.fetch_add(count, Relaxed);
        let now = Instant::now();
        let latency = match waited {
            true => &self.waiting,
            false => &self.returning,
        };
        // The time of publishing is not known for messages read from the log.
        for published in messages.filter_map(|message| message.published) {
            let took = now.saturating_duration_since(published);
            latency.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), times);
        }
    }

    /// The current values.
    pub fn read(&self) -> Reading {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        Reading {
            published: count(&self.published),
            groups: count(&self.groups),
            delivered: count(&self.delivered),
            overflows: count(&self.overflows),
            gaps: count(&self.gaps),
            superseded: count(&self.superseded),
            waiting: self.waiting.read(),
            returning: self.returning.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let latency = Latency::default();
        assert_eq!(latency.read().quantile(0.5), None);
        for micros in [0, 100, 101, 250, 900, 20_000_000] {
            latency.add(micros, 1);
        }
        let read = latency.read();
        assert_eq!(read.buckets[..5], [2, 2, 0, 1, 0]);
        assert_eq!(read.buckets[BUCKETS - 1], 1);
        assert_eq!((read.count(), read.micros), (6, 20_001_351));
        assert_eq!(read.quantile(0.5), Some(Duration::from_micros(175)));
        assert_eq!(read.quantile(0.0), Some(Duration::from_micros(50)));
        assert_eq!(read.quantile(1.0), Some(Duration::from_secs(10)));
        assert_eq!(read.since(&read), Histogram::default());
    }
}
