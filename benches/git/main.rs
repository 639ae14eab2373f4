//! Longshore's git beside git's own command line: fetching, cloning, packing.
//!
//! `cargo bench --bench git` runs every row three times, the two in turn, and prints the table of
//! BENCHMARKS.md from the medians. Ours is the release binary's `longshore git …`, so both start a
//! process for every piece of work. After `--`: `--rounds N`, `--only TEXT` for the rows that have TEXT
//! in their name, `--ours` to leave git out, `--commits N` instead of 5,000. Wants git (with
//! git-daemon and http-backend).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod hosts;
mod https;
mod repository;
mod rows;
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
        commits: number("--commits", 5000),
        ours_alone: arguments.iter().any(|argument| argument == "--ours"),
    };
    println!(
        "| work | who | ms | of git's | to reach | CPU, ms | peak MiB | of it not the page cache's |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let wanted: Vec<_> = ROWS.iter().filter(|row| row.name.contains(&only)).collect();
    rows::run(&bench, &wanted);
}
