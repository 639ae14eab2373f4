//! This process as the system reports it. A number that the system does not report is none.

use std::fs;

/// The unit of processor times in `/proc`, which Linux fixes for all programs, in ticks per second.
const TICKS_A_SECOND: f64 = 100.0;

/// The state of the process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Memory in use, in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Processor time used, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// Open descriptors.
    pub(super) open_fds: Option<u64>,
    /// The maximum number of open descriptors.
    pub(super) max_fds: Option<u64>,
}

impl Process {
    pub(super) fn look() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        let status = read("status").unwrap_or_default();
        Self {
            resident_bytes: row(&status, "VmRSS:").map(|kilobytes| kilobytes << 10),
            cpu_seconds: read("stat").and_then(|stat| cpu_seconds(&stat)),
            threads: row(&status, "Threads:"),
            // The descriptor that reads the folder is one of them.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|open| (open.count() as u64).saturating_sub(1)),
            max_fds: row(&read("limits").unwrap_or_default(), "Max open files"),
        }
    }
}

/// The first number of the line that begins with `name`.
fn row(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The times in user and in system mode of `/proc/self/stat`; the program's name before them may
/// contain anything, but ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tables_are_read() {
        let status = "Name:\ta\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        assert_eq!(row(status, "VmRSS:"), Some(2048));
        assert_eq!(row(status, "Threads:"), Some(7));
        assert_eq!(row(status, "Other:"), None);
        let limits = "Max open files            1024                 524288               files\n";
        assert_eq!(row(limits, "Max open files"), Some(1024));
        let stat = "9 (a) b) S 1 9 9 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("garbage"), None);
        let own = Process::look();
        assert!(
            own.resident_bytes > Some(1 << 20) && own.open_fds > Some(2),
            "{own:?}"
        );
        assert!(
            own.max_fds >= own.open_fds && own.threads >= Some(1),
            "{own:?}"
        );
    }
}
