//! Longshore's transfers beside `scp`, `sftp`, `rsync`, `tar | ssh tar`, a shell script and the course's
//! way.
//!
//! `cargo bench --bench transfer` runs every row three times, the peers in turn, and prints the table
//! of BENCHMARKS.md from the medians. After `--`: `--rounds N`, `--only TEXT` for the rows that have
//! TEXT in their name, `--ours` to leave the peers out (the rows of 1 GB have none), `--beside TEXT` for
//! the fleet's peers that have TEXT in theirs, `--delay MS` for so many milliseconds of round trip between the platform and its servers, `--servers N` instead of 20. Wants root (each server has
//! a mount namespace) and the packages openssh-server, openssh-sftp-server, rsync, zip, unzip, zstd, git.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod fleet;
mod gigabyte;
mod ours;
mod proxy;
mod repository;
mod rows;
mod rungs;
mod shell;
mod usage;

use rows::{Bench, ROWS};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: usize| {
        value(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let only = value("--only").unwrap_or_default();
    let bench = Bench {
        rounds: number("--rounds", 3),
        servers: number("--servers", 20),
        delay_ms: number("--delay", 0) as u64,
        beside: value("--beside").unwrap_or_default(),
        ours_alone: arguments.iter().any(|argument| argument == "--ours"),
    };
    println!(
        "| work | who | s | of the peer | to reach | CPU here, s | CPU there, s | peak MiB here |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let rows = ROWS.iter().chain(&rungs::ROWS).chain(&gigabyte::ROWS);
    for row in rows.filter(|row| row.name.contains(&only)) {
        (row.run)(&bench, row.name);
    }
}
