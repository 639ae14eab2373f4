//! How many files, and so connections, this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are not connections of clients: the database, listeners, git, SSH, logs.
const OTHERS: usize = 512;
/// Below that many connections a server is hardly one.
const FEWEST: usize = 64;

/// Raises the limit on open files as far as the system lets this process. How many connections may
/// be open at once, of `wanted`: as many as leave some files for the rest, so that those who come
/// later wait to be accepted instead of breaking what goes on.
pub(super) fn raise(wanted: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    // None is no limit at all.
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
