//! The rows of the table.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use crate::{load::Load, servers::Server, wire::Peer};

/// One row: its name and how it is measured.
pub struct Row {
    pub name: &'static str,
    /// Measures the peers; returns the figures of each.
    pub run: fn(&[Peer]) -> io::Result<Vec<Figures>>,
}

/// The figures of a run of a row, by name; the name includes the unit.
pub type Figures = BTreeMap<&'static str, f64>;

const CLOSED: Duration = Duration::from_secs(4);
/// The time that one server works before the other one does; short, for the machine's speed changes
/// from second to second.
const SLICE: Duration = Duration::from_millis(250);
const OPEN: Duration = Duration::from_secs(8);

pub const ROWS: &[Row] = &[
    Row {
        name: "closed loop, 100 clients",
        run: |peers| closed(peers, 100),
    },
    Row {
        name: "closed loop, 1,000 clients",
        run: |peers| closed(peers, 1_000),
    },
    Row {
        name: "closed loop, 5,000 clients",
        run: |peers| closed(peers, 5_000),
    },
    Row {
        name: "waiting publisher, 1 client",
        run: |peers| waiting(peers, 1),
    },
    Row {
        name: "waiting publisher, 10 clients",
        run: |peers| waiting(peers, 10),
    },
    Row {
        name: "waiting publisher, 100 clients",
        run: |peers| waiting(peers, 100),
    },
    Row {
        name: "fixed rate, 1,000 clients × 100/s",
        run: |peers| one_by_one(peers, |server| fixed_rate(server, 1_000, 100)),
    },
    Row {
        name: "fixed rate, 500 clients × 100/s",
        run: |peers| one_by_one(peers, |server| fixed_rate(server, 500, 100)),
    },
    Row {
        name: "10,000 parked clients",
        run: |peers| one_by_one(peers, parked),
    },
];

/// One server after the other, each alone on the machine.
fn one_by_one(
    peers: &[Peer],
    run: impl Fn(&Server) -> io::Result<Figures>,
) -> io::Result<Vec<Figures>> {
    let run = |peer: &Peer| run(&Server::start(*peer));
    peers.iter().map(run).collect()
}

/// A message is published when everybody has the one before.
fn closed(peers: &[Peer], clients: usize) -> io::Result<Vec<Figures>> {
    let worked = in_turns(peers, clients, round)?;
    Ok(worked
        .iter()
        .map(|worked| {
            Figures::from([
                ("1 deliveries/s", worked.per_second(clients)),
                ("2 CPU µs a delivery", worked.cpu_micros(clients)),
            ])
        })
        .collect())
}

/// One publisher sends a message when it has the answer to the one before and everybody has that
/// message: each waits for the other, so nothing is done for two messages at once.
fn waiting(peers: &[Peer], clients: usize) -> io::Result<Vec<Figures>> {
    let worked = in_turns(peers, clients, waiting_round)?;
    Ok(worked
        .into_iter()
        .map(|mut worked| {
            Figures::from([
                ("1 messages/s", worked.per_second(1)),
                ("2 CPU µs a delivery", worked.cpu_micros(clients)),
                ("3 p50 ms", percentile(&mut worked.latencies, 0.50)),
                ("4 p99 ms", percentile(&mut worked.latencies, 0.99)),
            ])
        })
        .collect())
}

/// One message from its publishing to its end.
type Round = fn(&mut Load, usize) -> io::Result<()>;

/// The work that a server did in its slices.
#[derive(Default)]
struct Worked {
    messages: usize,
    took: Duration,
    cpu_seconds: f64,
    latencies: Vec<u64>,
}

impl Worked {
    fn per_second(&self, each: usize) -> f64 {
        (self.messages * each) as f64 / self.took.as_secs_f64()
    }

    fn cpu_micros(&self, each: usize) -> f64 {
        self.cpu_seconds * 1e6 / (self.messages * each) as f64
    }
}

/// The servers work in turns, a slice each; the clients of the other server are parked, which costs
/// next to nothing.
fn in_turns(peers: &[Peer], clients: usize, round: Round) -> io::Result<Vec<Worked>> {
    let servers: Vec<Server> = peers.iter().map(|peer| Server::start(*peer)).collect();
    let park = |server: &Server| Load::park(server.peer, server.address, clients);
    let mut loads = servers.iter().map(park).collect::<io::Result<Vec<_>>>()?;
    for load in &mut loads {
        rounds(
            load,
            clients,
            round,
            Duration::from_secs(1),
            &mut Worked::default(),
        )?;
    }
    let before: Vec<f64> = servers.iter().map(Server::cpu).collect();
    let mut all: Vec<Worked> = servers.iter().map(|_| Worked::default()).collect();
    while all.iter().any(|worked| worked.took < CLOSED) {
        for (load, worked) in loads.iter_mut().zip(&mut all) {
            rounds(load, clients, round, SLICE, worked)?;
        }
    }
    for ((server, before), worked) in servers.iter().zip(before).zip(&mut all) {
        worked.cpu_seconds = server.cpu() - before;
    }
    Ok(all)
}

/// Makes rounds for `time`.
fn rounds(
    load: &mut Load,
    clients: usize,
    round: Round,
    time: Duration,
    worked: &mut Worked,
) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        load.tally = Default::default();
        round(load, clients)?;
        worked.messages += 1;
        worked.latencies.append(&mut load.tally.latencies);
    }
    worked.took += start.elapsed();
    Ok(())
}

fn round(load: &mut Load, clients: usize) -> io::Result<()> {
    deliver(load, |load| load.tally.messages >= clients)
}

fn waiting_round(load: &mut Load, clients: usize) -> io::Result<()> {
    deliver(load, |load| {
        load.tally.messages >= clients && load.is_answered()
    })
}

fn deliver(load: &mut Load, done: impl Fn(&Load) -> bool) -> io::Result<()> {
    load.publish(load.now())?;
    let all = load.until(Duration::from_secs(20), done)?;
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

/// The memory of a parked client, and the time until all of them have a message.
fn parked(server: &Server) -> io::Result<Figures> {
    const CLIENTS: usize = 10_000;
    let before = server.pss();
    let mut load = Load::park(server.peer, server.address, CLIENTS)?;
    let memory = server.pss().saturating_sub(before) as f64 / CLIENTS as f64;
    load.goes_on = false;
    let mut latencies = Vec::new();
    for _ in 0..5 {
        load.tally = Default::default();
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
