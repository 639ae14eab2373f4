//! The cost of a piece of work: time, processor time on both sides, memory.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const TICKS: f64 = 100.0;

/// The cost of one piece of work.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub seconds: f64,
    /// Processor time of the platform's side, in seconds.
    pub cpu_here: f64,
    /// Processor time of the servers' side, in seconds.
    pub cpu_there: f64,
    /// The most resident memory that the platform's side had at once, in MiB.
    pub peak: f64,
    /// Bytes over the wire, both ways, where they were counted.
    pub bytes: u64,
}

/// The processes whose processor time and memory count as the platform's side.
#[derive(Clone, Copy)]
pub enum Here {
    /// The children of this process, which have ended when the work has.
    Children,
    /// A process that lives on, with its children.
    Process(u32),
}

/// Does `work` and measures it; `there` are the daemons of the servers' side.
pub fn measure(here: Here, there: &[u32], work: impl FnOnce()) -> Usage {
    let cpu_of = |pids: &[u32]| -> f64 { pids.iter().map(|pid| cpu_of_all(*pid)).sum() };
    let cpu_here = || match here {
        Here::Children => cpu(std::process::id(), true) - cpu(std::process::id(), false),
        Here::Process(pid) => cpu(pid, true),
    };
    let (before_here, before_there) = (cpu_here(), cpu_of(there));
    let done = AtomicBool::new(false);
    let (seconds, peak) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Acquire) {
                peak = peak.max(match here {
                    Here::Children => descendants(std::process::id())
                        .iter()
                        .map(|pid| rss(*pid))
                        .sum(),
                    Here::Process(pid) => rss(pid),
                });
                thread::sleep(Duration::from_millis(25));
            }
            peak
        });
        let start = Instant::now();
        work();
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Release);
        (seconds, watch.join().expect("the watch"))
    });
    Usage {
        seconds,
        cpu_here: cpu_here() - before_here,
        cpu_there: cpu_of(there) - before_there,
        peak: peak as f64 / 1024.0,
        bytes: 0,
    }
}

/// The processor time of a process, in seconds; with what its ended children used.
fn cpu(pid: u32, with_children: bool) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces; what follows its bracket does not.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let count = if with_children { 4 } else { 2 };
    let times = fields.split_whitespace().skip(11).take(count);
    let ticks: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS
}

/// The processor time of a daemon with all that it started: a connection that is kept has not ended.
fn cpu_of_all(pid: u32) -> f64 {
    let living = descendants(pid).into_iter().chain([pid]);
    living.map(|pid| cpu(pid, true)).sum()
}

/// Resident memory in KiB.
fn rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

fn descendants(pid: u32) -> HashSet<u32> {
    let mut found = HashSet::new();
    let mut ahead = children(pid);
    while let Some(pid) = ahead.pop() {
        if found.insert(pid) {
            ahead.extend(children(pid));
        }
    }
    found
}
