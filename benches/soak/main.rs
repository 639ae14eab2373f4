//! Longshore under mixed load for minutes: what it holds of memory, descriptors and threads over time, and
//! what it counts by name.
//!
//! `cargo bench --bench soak -- --minutes N` (10) releases again and again, reads pages and the API, opens
//! and drops event streams, and has rounds of 200 pollers, half of them cut, each round in a room of its
//! own. It prints a line of tab-separated figures every `--seconds N` (10) and writes the curve of the
//! resident memory to `--svg FILE`, if that is given. `--server FILE` takes another binary.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod curve;
mod load;
mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use load::Load;
use server::Server;

/// Counts in `/metrics` that must level off.
const COUNTS: [&str; 4] = [
    "longshore_rooms",
    "longshore_clients",
    "longshore_parked_polls",
    "longshore_clients_connected",
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name, most| value(name).map_or(most, |text| text.parse().expect("a number"));
    let minutes: u64 = number("--minutes", 10);
    let pause = Duration::from_secs(number("--seconds", 10));
    let binary = value("--server").unwrap_or_else(|| env!("CARGO_BIN_EXE_longshore").to_owned());
    let server = Arc::new(Server::start(&binary));
    let load = Load::start(&server);
    println!(
        "seconds\tRSS KiB\tfiles\tthreads\tp50 ms\tp99 ms\treleases\treads\tstreams\trounds\t{}",
        COUNTS.join("\t")
    );
    let (begun, mut curve) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(minutes * 60) {
        std::thread::sleep(pause);
        let used = server.used();
        let (median, slowest) = load.latency();
        let done = [&load.releases, &load.reads, &load.streams, &load.rounds];
        let mut fields = vec![
            begun.elapsed().as_secs(),
            used.memory,
            used.files,
            used.threads,
        ];
        curve.push((fields[0], used.memory));
        fields.extend([median, slowest]);
        fields.extend(done.map(|count| count.load(Ordering::Relaxed)));
        fields.extend(server.counts(&COUNTS));
        let fields: Vec<String> = fields.iter().map(u64::to_string).collect();
        println!("{}", fields.join("\t"));
    }
    load.stop();
    if let Some(file) = value("--svg") {
        std::fs::write(file, curve::svg(&curve)).expect("the curve is written");
    }
}
