//! Longshore beside nchan: one long-polled room, each server on one core, the load on the other.
//!
//! `cargo bench --bench push` runs every row three times, the two servers in turn (in the closed loops
//! every quarter of a second), and prints the table of BENCHMARKS.md from the medians. After `--`:
//! `--rounds N`, `--only TEXT` for the rows that have TEXT in their name, `--ours` to leave the peer out.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod load;
mod rows;
mod servers;
mod wire;

use rows::{Figures, ROWS};
use wire::Peer;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let rounds: usize = value("--rounds").map_or(3, |text| text.parse().expect("a number"));
    let only = value("--only").unwrap_or_default();
    let peers: &[Peer] = match arguments.iter().any(|argument| argument == "--ours") {
        true => &[Peer::Longshore],
        false => &[Peer::Longshore, Peer::Nchan],
    };
    servers::raise_descriptors();
    servers::pin_the_load();
    println!("| work | longshore | nchan | ratio |\n|---|---|---|---|");
    for row in ROWS.iter().filter(|row| row.name.contains(&only)) {
        let mut figures: Vec<Vec<Figures>> = peers.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            let round = (row.run)(peers).expect("the row runs");
            for (all, one) in figures.iter_mut().zip(round) {
                all.push(one);
            }
        }
        rows::print(row, &figures);
    }
}
