//! The last minutes: the differences between successive readings of the counters.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::hub;
use crate::transport::Way;

/// All counters at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) at: DateTime<Utc>,
    pub(super) taken: Instant,
    pub(super) hub: hub::Reading,
    pub(super) present: [u64; Way::ALL.len()],
    pub(super) begun: [u64; Way::ALL.len()],
    pub(super) refused: u64,
}

/// The activity between two readings: rates per second, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The sample's number, from 1, without holes.
    pub number: u64,
    /// The end of the sample, RFC 3339.
    pub at: String,
    /// Messages published, per second.
    pub published: f64,
    /// Messages handed to clients, per second.
    pub delivered: f64,
    /// Polls, streams and sockets open at the end, by `course`, `long_poll`, …
    pub present: BTreeMap<&'static str, u64>,
    /// Polls, streams and sockets that began, per second.
    pub begun: BTreeMap<&'static str, f64>,
    /// The median delivery latency to clients that were waiting; none if nothing was delivered.
    pub p50: Option<f64>,
    /// The 99th percentile of that latency.
    pub p99: Option<f64>,
    /// Gaps reported.
    pub gaps: u64,
    /// Messages that found a queue full.
    pub overflows: u64,
    /// Polls superseded.
    pub superseded: u64,
    /// Requests refused.
    pub refused: u64,
}

/// The newest samples.
pub(super) struct History {
    most: usize,
    last: Option<Reading>,
    taken: u64,
    samples: VecDeque<Sample>,
}

impl History {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            last: None,
            taken: 0,
            samples: VecDeque::with_capacity(most),
        }
    }

    /// Adds the difference to the last reading; the first reading starts the count.
    pub(super) fn take(&mut self, reading: Reading) {
        if let Some(last) = &self.last {
            self.taken += 1;
            if self.samples.len() == self.most {
                self.samples.pop_front();
            }
            self.samples.push_back(sample(self.taken, last, &reading));
        }
        self.last = Some(reading);
    }

    /// The samples after `number`; a number from before the start of the process gets all samples.
    pub(super) fn after(&self, number: u64) -> Vec<Sample> {
        let number = if number > self.taken { 0 } else { number };
        let newer = self.samples.iter().filter(|s| s.number > number);
        newer.cloned().collect()
    }
}

fn sample(number: u64, last: &Reading, now: &Reading) -> Sample {
    let seconds = now.taken.duration_since(last.taken).as_secs_f64();
    let rate = |new: u64, old: u64| match seconds > 0.0 {
        true => (new.saturating_sub(old) as f64 / seconds * 10.0).round() / 10.0,
        false => 0.0,
    };
    let latency = now.hub.waiting.since(&last.hub.waiting);
    let millis = |share| {
        let time = latency.quantile(share)?;
        Some((time.as_secs_f64() * 100_000.0).round() / 100.0)
    };
    let named = || Way::ALL.iter().map(|way| way.as_str());
    Sample {
        number,
        at: now.at.to_rfc3339_opts(SecondsFormat::Millis, true),
        published: rate(now.hub.published, last.hub.published),
        delivered: rate(now.hub.delivered, last.hub.delivered),
        present: named().zip(now.present).collect(),
        begun: named()
            .zip(now.begun.iter().zip(last.begun))
            .map(|(way, (new, old))| (way, rate(*new, old)))
            .collect(),
        p50: millis(0.5),
        p99: millis(0.99),
        gaps: now.hub.gaps.saturating_sub(last.hub.gaps),
        overflows: now.hub.overflows.saturating_sub(last.hub.overflows),
        superseded: now.hub.superseded.saturating_sub(last.hub.superseded),
        refused: now.refused.saturating_sub(last.refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn reading(start: Instant, seconds: u64, published: u64) -> Reading {
        let mut hub = hub::Reading {
            published,
            ..hub::Reading::default()
        };
        hub.waiting.buckets[3] = published;
        Reading {
            at: Utc::now(),
            taken: start + Duration::from_secs(seconds),
            hub,
            present: [0, 3, 0, 0, 0],
            begun: [0, seconds * 10, 0, 0, 0],
            refused: seconds,
        }
    }

    #[test]
    fn a_sample_is_what_came_in_between() {
        let start = Instant::now();
        let mut history = History::new(2);
        for (seconds, published) in [(0, 0), (2, 10), (4, 10), (6, 40)] {
            history.take(reading(start, seconds, published));
        }
        let samples = history.after(0);
        let rates: Vec<(u64, f64)> = samples.iter().map(|s| (s.number, s.published)).collect();
        assert_eq!(rates, [(2, 0.0), (3, 15.0)]);
        assert_eq!((samples[0].p50, samples[0].refused), (None, 2));
        assert_eq!(samples[1].p50, Some(0.75));
        assert_eq!(samples[1].begun["long_poll"], 10.0);
        assert_eq!(samples[1].present["long_poll"], 3);
        assert_eq!(history.after(2).len(), 1);
        assert_eq!(history.after(99).len(), 2, "another process counted to 99");
    }
}
