//! Prometheus text. The names of all metrics are defined here.

use std::{fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

use super::{history::Reading, process::Process};
use crate::hub::{Census, Histogram, LATENCY_BOUNDS};
use crate::store::WriterStats;
use crate::transport::{Code, Way};

/// The values to publish.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) reading: Reading,
    pub(super) census: Census,
    pub(super) refused: [u64; Code::ALL.len()],
    pub(super) begun: [u64; Way::ALL.len()],
    pub(super) uptime: Duration,
    pub(super) log: WriterStats,
    pub(super) process: Process,
    pub(super) releases: Vec<(&'static str, i64)>,
}

/// The Prometheus text of these values.
pub(super) fn text(facts: &Facts) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(page(facts))));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// One metric with all its values.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Counter(u64),
    Seconds(f64),
    Gauge(f64),
    Counters(&'static str, Vec<(&'static str, u64)>),
    Gauges(&'static str, Vec<(&'static str, f64)>),
    Histograms(&'static str, Vec<(&'static str, Histogram)>),
    Build(&'static str),
}

fn page(facts: &Facts) -> Vec<Metric> {
    let mut page = push(facts);
    page.extend(log(&facts.log));
    page.extend(wire(facts));
    page.extend(house(facts));
    page
}

fn push(facts: &Facts) -> Vec<Metric> {
    let hub = &facts.reading.hub;
    let census = &facts.census;
    use Values::{Counter, Gauge, Histograms};
    let metric = |name, help, values| Metric { name, help, values };
    vec![
        metric(
            "longshore_published_messages",
            "Messages published to rooms",
            Counter(hub.published),
        ),
        metric(
            "longshore_published_groups",
            "Groups that messages were committed and published in",
            Counter(hub.groups),
        ),
        metric(
            "longshore_delivered_messages",
            "Messages handed to clients' sockets, each client counted",
            Counter(hub.delivered),
        ),
        metric(
            "longshore_gaps",
            "Rooms of which a client was told that messages are gone for good",
            Counter(hub.gaps),
        ),
        metric(
            "longshore_queue_overflows",
            "Messages that found a client's queue full and were read from elsewhere",
            Counter(hub.overflows),
        ),
        metric(
            "longshore_superseded_polls",
            "Polls that a newer one of the same client ended",
            Counter(hub.superseded),
        ),
        metric(
            "longshore_parked_polls",
            "Polls in flight in the hub",
            Gauge(census.polls as f64),
        ),
        metric(
            "longshore_clients",
            "Clients with a queue",
            Gauge(census.clients as f64),
        ),
        metric(
            "longshore_rooms",
            "Rooms in memory",
            Gauge(census.rooms as f64),
        ),
        metric(
            "longshore_delivery_seconds",
            "From publishing to the socket; returning clients' time away counts too",
            Histograms(
                "client",
                vec![
                    ("waiting", hub.waiting.clone()),
                    ("returning", hub.returning.clone()),
                ],
            ),
        ),
    ]
}

fn log(log: &WriterStats) -> Vec<Metric> {
    use Values::{Counter, Gauge, Seconds};
    let metric = |name, help, values| Metric { name, help, values };
    vec![
        metric(
            "longshore_log_messages",
            "Messages that the log's writer committed",
            Counter(log.messages),
        ),
        metric(
            "longshore_log_groups",
            "Groups that it committed them in",
            Counter(log.groups),
        ),
        metric(
            "longshore_log_failed_groups",
            "Groups that the database did not take",
            Counter(log.failed),
        ),
        metric(
            "longshore_log_commit_seconds",
            "How long the commits took together",
            Seconds(log.committing.as_secs_f64()),
        ),
        metric(
            "longshore_log_waiting_messages",
            "Messages that wait for the log's writer",
            Gauge(log.waiting as f64),
        ),
    ]
}

fn wire(facts: &Facts) -> Vec<Metric> {
    let by_way = || Way::ALL.iter().map(|way| way.as_str());
    let present = by_way().zip(facts.reading.present.map(|count| count as f64));
    let refused = Code::ALL
        .iter()
        .map(|code| code.as_str())
        .zip(facts.refused);
    vec![
        Metric {
            name: "longshore_clients_connected",
            help: "Polls, streams and sockets on the wire at this moment",
            values: Values::Gauges("transport", present.collect()),
        },
        Metric {
            name: "longshore_requests",
            help: "Polls, streams and sockets that have begun",
            values: Values::Counters("transport", by_way().zip(facts.begun).collect()),
        },
        Metric {
            name: "longshore_refused_requests",
            help: "Requests on the message paths that were refused",
            values: Values::Counters("code", refused.collect()),
        },
    ]
}

fn house(facts: &Facts) -> Vec<Metric> {
    use Values::{Build, Gauge, Gauges, Seconds};
    let releases = facts
        .releases
        .iter()
        .map(|(state, count)| (*state, *count as f64));
    let process = &facts.process;
    let metric = |name, help, values| Metric { name, help, values };
    let told = |name, help, value: Option<u64>| Some(metric(name, help, Gauge(value? as f64)));
    let mut page = vec![
        metric(
            "longshore_releases",
            "Releases by their state",
            Gauges("state", releases.collect()),
        ),
        metric(
            "longshore_build",
            "The running version",
            Build(env!("CARGO_PKG_VERSION")),
        ),
        metric(
            "longshore_uptime_seconds",
            "Seconds since the start",
            Gauge(facts.uptime.as_secs_f64()),
        ),
    ];
    page.extend(
        [
            told(
                "process_resident_memory_bytes",
                "Memory in use",
                process.resident_bytes,
            ),
            told("process_threads", "Threads", process.threads),
            told("process_open_fds", "Open descriptors", process.open_fds),
            told(
                "process_max_fds",
                "The most descriptors that may be open",
                process.max_fds,
            ),
        ]
        .into_iter()
        .flatten(),
    );
    page.extend(process.cpu_seconds.map(|seconds| {
        metric(
            "process_cpu_seconds",
            "Processor time used",
            Seconds(seconds),
        )
    }));
    page
}

#[derive(Debug)]
struct Page(Vec<Metric>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|metric| metric.encode(&mut encoder))
    }
}

impl Metric {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let kind = match self.values {
            Values::Counter(_) | Values::Seconds(_) | Values::Counters(..) => MetricType::Counter,
            Values::Gauge(_) | Values::Gauges(..) => MetricType::Gauge,
            Values::Histograms(..) => MetricType::Histogram,
            Values::Build(_) => MetricType::Info,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        match &self.values {
            Values::Counter(value) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
            Values::Seconds(value) => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
            Values::Gauge(value) => metric.encode_gauge(value),
            Values::Counters(label, values) => values.iter().try_for_each(|(of, value)| {
                metric
                    .encode_family(&[(*label, *of)])?
                    .encode_counter::<NoLabelSet, _, u64>(value, None)
            }),
            Values::Gauges(label, values) => values.iter().try_for_each(|(of, value)| {
                metric.encode_family(&[(*label, *of)])?.encode_gauge(value)
            }),
            Values::Histograms(label, values) => values.iter().try_for_each(|(of, value)| {
                let mut buckets: Vec<(f64, u64)> = LATENCY_BOUNDS
                    .iter()
                    .map(|micros| *micros as f64 / 1e6)
                    .zip(value.buckets)
                    .collect();
                buckets.push((f64::INFINITY, value.buckets[LATENCY_BOUNDS.len()]));
                metric
                    .encode_family(&[(*label, *of)])?
                    .encode_histogram::<NoLabelSet>(
                        value.micros as f64 / 1e6,
                        value.count(),
                        &buckets,
                        None,
                    )
            }),
            Values::Build(version) => metric.encode_info(&[("version", *version)]),
        }
    }
}
