//! The rows of the table.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use crate::{load::Load, servers::Server};

/// One row: its name and how it is measured.
pub struct Row {
    pub name: &'static str,
    pub run: fn(&Server) -> io::Result<Figures>,
}

/// What a run of a row gave: figure by name, with its unit.
pub type Figures = BTreeMap<&'static str, f64>;

const CLOSED: Duration = Duration::from_secs(4);
const OPEN: Duration = Duration::from_secs(8);

pub const ROWS: &[Row] = &[
    Row {
        name: "closed loop, 100 clients",
        run: |server| closed(server, 100),
    },
    Row {
        name: "closed loop, 1,000 clients",
        run: |server| closed(server, 1_000),
    },
    Row {
        name: "closed loop, 5,000 clients",
        run: |server| closed(server, 5_000),
    },
    Row {
        name: "fixed rate, 1,000 clients × 100/s",
        run: |server| fixed_rate(server, 1_000, 100),
    },
    Row {
        name: "fixed rate, 500 clients × 100/s",
        run: |server| fixed_rate(server, 500, 100),
    },
    Row {
        name: "10,000 parked clients",
        run: parked,
    },
];

/// A message is published when everybody has the one before.
fn closed(server: &Server, clients: usize) -> io::Result<Figures> {
    let mut load = Load::park(server.peer, server.address, clients)?;
    let warm = Instant::now() + Duration::from_secs(1);
    while Instant::now() < warm {
        round(&mut load, clients)?;
    }
    let (cpu, start, mut rounds) = (server.cpu(), Instant::now(), 0);
    while start.elapsed() < CLOSED {
        round(&mut load, clients)?;
        rounds += 1;
    }
    let (took, used) = (start.elapsed().as_secs_f64(), server.cpu() - cpu);
    let deliveries = (rounds * clients) as f64;
    Ok(Figures::from([
        ("1 deliveries/s", deliveries / took),
        ("2 CPU µs a delivery", used * 1e6 / deliveries),
    ]))
}

fn round(load: &mut Load, clients: usize) -> io::Result<()> {
    load.tally = Default::default();
    load.publish(load.now())?;
    let all = load.until(Duration::from_secs(20), |load| {
        load.tally.messages >= clients
    })?;
    if !all || load.tally.failed > 0 {
        return Err(io::Error::other("a message did not reach every client"));
    }
    Ok(())
}

/// Messages are published when they are due, whatever has become of those before.
fn fixed_rate(server: &Server, clients: usize, rate: u64) -> io::Result<Figures> {
    let mut load = Load::park(server.peer, server.address, clients)?;
    publish_at(&mut load, rate, Duration::from_secs(1))?;
    load.run(Duration::from_secs(1))?;
    load.tally = Default::default();
    let cpu = server.cpu();
    let published = publish_at(&mut load, rate, OPEN)?;
    let expected = published * clients;
    load.until(Duration::from_secs(10), |load| {
        load.tally.messages >= expected
    })?;
    let used = server.cpu() - cpu;
    let got = load.tally.messages;
    let latencies = &mut load.tally.latencies;
    Ok(Figures::from([
        ("1 p50 ms", percentile(latencies, 0.50)),
        ("2 p99 ms", percentile(latencies, 0.99)),
        ("3 lost %", 100.0 * (1.0 - got as f64 / expected as f64)),
        ("4 CPU µs a message", used * 1e6 / got as f64),
        ("5 messages a reply", got as f64 / load.tally.replies as f64),
    ]))
}

fn publish_at(load: &mut Load, rate: u64, time: Duration) -> io::Result<usize> {
    let (begun, gap) = (load.now(), 1_000_000_000 / rate);
    let count = time.as_nanos() as u64 / gap;
    for number in 0..count {
        let due = begun + number * gap;
        loop {
            let now = load.now();
            if now >= due {
                break;
            }
            load.turn(Duration::from_nanos(due - now))?;
        }
        load.publish(due)?;
    }
    Ok(count as usize)
}

/// What a parked client costs, and how soon all of them have a message.
fn parked(server: &Server) -> io::Result<Figures> {
    const CLIENTS: usize = 10_000;
    let before = server.pss();
    let mut load = Load::park(server.peer, server.address, CLIENTS)?;
    let memory = server.pss().saturating_sub(before) as f64 / CLIENTS as f64;
    load.goes_on = false;
    let mut latencies = Vec::new();
    for _ in 0..5 {
        round(&mut load, CLIENTS)?;
        latencies.append(&mut load.tally.latencies);
        load.ask_again()?;
        load.run(Duration::from_secs(1))?;
    }
    Ok(Figures::from([
        ("1 KiB a parked client (PSS)", memory),
        ("2 all answered, p99 ms", percentile(&mut latencies, 0.99)),
        ("3 KiB a client after 5 messages", {
            server.pss().saturating_sub(before) as f64 / CLIENTS as f64
        }),
    ]))
}

/// In milliseconds.
fn percentile(nanos: &mut [u64], part: f64) -> f64 {
    nanos.sort_unstable();
    let at = (nanos.len() as f64 * part) as usize;
    let found = nanos.get(at.min(nanos.len().saturating_sub(1)));
    found.map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
}

/// Prints a row's figures: medians of the rounds, ours beside the peer's.
pub fn print(row: &Row, figures: &[Vec<Figures>]) {
    let names = figures[0][0].keys();
    for name in names {
        let medians: Vec<f64> = figures.iter().map(|runs| median(runs, name)).collect();
        let (ours, theirs) = (medians[0], medians.get(1).copied().unwrap_or(f64::NAN));
        println!(
            "| {}: {} | {} | {} | {:.2} |",
            row.name,
            &name[2..],
            figure(ours),
            figure(theirs),
            ours / theirs
        );
    }
}

fn median(runs: &[Figures], name: &str) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(|run| run[name]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn figure(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
