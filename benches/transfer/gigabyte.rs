//! Memory stays flat: a release of a gigabyte, from the first fetch of its repository to the server.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::ours::Ours;
use crate::repository::Repository;
use crate::rows::{Bench, Row};
use crate::usage::{Here, measure};

const GIGABYTE: usize = 1_000_000_000;
/// The most memory that a release may take above the idle platform, in MiB.
const LITTLE: f64 = 64.0;

pub const ROWS: [Row; 2] = [
    Row {
        name: "1 GB in one file to one server",
        run: |bench, name| release(bench, name, 1),
    },
    Row {
        name: "1 GB in 10,000 files to one server",
        run: |bench, name| release(bench, name, 10_000),
    },
];

fn release(bench: &Bench, name: &str, files: usize) {
    let repository = Repository::of_noise(files, GIGABYTE / files);
    let fleet = Fleet::start(1, bench.delay_ms);
    let ours = Ours::start(&fleet, &repository.url());
    let pid = ours.pid();
    for what in ["the first, with the fetch", "again to an empty folder"] {
        fleet.clear();
        fleet.forget();
        let idle = memory(pid, "VmRSS");
        forget_peak(pid);
        let own = AtomicU64::new(0);
        let usage = measure(Here::Process(pid), &fleet.daemons(), || {
            watched(pid, &own, || ours.release());
        });
        let above = mib(memory(pid, "VmHWM").saturating_sub(idle));
        println!(
            "| {name} | longshore, {what} | {:.2} | | ≤ {LITTLE} MiB above idle{} | {:.2} | {:.2} | \
             {:.0}, of it {above:.0} above idle; not the page cache's: {:.0} |",
            usage.seconds,
            if above <= LITTLE { " ✓" } else { "" },
            usage.cpu_here,
            usage.cpu_there,
            mib(memory(pid, "VmHWM")),
            mib(own.into_inner()),
        );
    }
}

/// Does `work` and keeps the most that the process had of memory that is not a file's.
fn watched(pid: u32, most: &AtomicU64, work: impl FnOnce()) {
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while done.load(Ordering::Acquire) == 0 {
                most.fetch_max(memory(pid, "RssAnon"), Ordering::AcqRel);
                thread::sleep(Duration::from_millis(10));
            }
        });
        work();
        done.store(1, Ordering::Release);
    });
}

/// A line of the process's status, in KiB.
fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let found = status.lines().find(|text| text.starts_with(line));
    let number = found.and_then(|text| text.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// From now on VmHWM is counted anew (proc_pid_clear_refs(5)).
fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("clear_refs");
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
