//! The limit on open files, and with it the limit on connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files reserved for other uses than client connections: the database, listeners, git, SSH, logs.
const OTHERS: usize = 512;
/// The fewest connections that are allowed, whatever the limit on files.
const FEWEST: usize = 64;

/// Raises the limit on open files as far as the system permits. Returns the number of connections
/// that may be open at once, at most `wanted`: some files are reserved for other uses, so that
/// further clients wait to be accepted instead of breaking running work.
pub(super) fn raise(wanted: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    // `None` means unlimited.
    let files = getrlimit(Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let fitting = fitting(files);
    if fitting < wanted {
        tracing::warn!(
            files,
            connections = fitting,
            wanted,
            "the system lets this server open fewer files than the setting `connections` needs"
        );
    }
    fitting.min(wanted)
}

fn fitting(files: usize) -> usize {
    files.saturating_sub(OTHERS.min(files / 2)).max(FEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_left_for_the_rest() {
        for (files, connections) in [(20_000, 19_488), (1024, 512), (200, 100), (100, 64)] {
            assert_eq!(fitting(files), connections, "{files}");
        }
    }
}
