//! The cost of a command: time, processor time, memory.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Milliseconds of a tick in `/proc/PID/stat`.
const TICK_MS: f64 = 10.0;
/// The time between two readings of memory.
const INTERVAL: Duration = Duration::from_millis(1);

/// The cost of one piece of work.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub ms: f64,
    /// Processor time of the command and its children.
    pub cpu_ms: f64,
    /// The most resident memory of all its processes, in MiB.
    pub peak: f64,
    /// The same without pages of files, which the system can take back at any time.
    pub peak_own: f64,
}

/// Runs a command to its end and measures it.
pub fn measure(command: &mut Command) -> Usage {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let before = cpu_of_children();
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let mut child = command.spawn().expect("a command that starts");
    let pid = child.id();
    let (ms, peaks) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peaks = Peaks::default();
            while !done.load(Ordering::Acquire) {
                peaks.look(pid);
                thread::sleep(INTERVAL);
            }
            peaks
        });
        let status = child.wait().expect("its end");
        let ms = start.elapsed().as_secs_f64() * 1000.0;
        done.store(true, Ordering::Release);
        assert!(status.success(), "{command:?}");
        (ms, watch.join().expect("the watch"))
    });
    Usage {
        ms,
        cpu_ms: cpu_of_children() - before,
        peak: peaks.resident.values().sum::<u64>() as f64 / 1024.0,
        peak_own: peaks.own as f64 / 1024.0,
    }
}

/// Memory in KiB.
#[derive(Default)]
struct Peaks {
    /// Of each process the most it ever had.
    resident: HashMap<u32, u64>,
    /// The most that all had at once.
    own: u64,
}

impl Peaks {
    fn look(&mut self, first: u32) {
        let mut ahead = vec![first];
        let mut own = 0;
        while let Some(pid) = ahead.pop() {
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
                continue;
            };
            let figure = |name: &str| -> u64 {
                let line = status.lines().find(|line| line.starts_with(name));
                let number = line.and_then(|line| line.split_whitespace().nth(1));
                number.and_then(|number| number.parse().ok()).unwrap_or(0)
            };
            let peak = self.resident.entry(pid).or_default();
            *peak = figure("VmHWM:").max(*peak);
            own += figure("RssAnon:");
            ahead.extend(children(pid));
        }
        self.own = self.own.max(own);
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = text.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// Processor time of the ended children of this process, in milliseconds.
fn cpu_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold spaces; what follows its bracket does not.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(13).take(2);
    let ticks: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
    ticks as f64 * TICK_MS
}
