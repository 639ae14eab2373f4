//! The owners whose repositories libgit2 opens: a setting of the library that takes an unsafe call,
//! which Longshore's own code forbids.

use std::sync::Once;

/// Has libgit2 open repositories of every owner. Call it before any of them is opened.
///
/// By itself it opens none that belongs to another account, for git runs commands that a repository's
/// configuration names. libgit2 runs none, and Longshore opens no folder but its own mirrors, those that
/// the settings allow and those that somebody names on the command line.
pub fn open_every_owner() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: libgit2 keeps a flag that is written here once. Code that opens a repository has
        // called this before, and `Once` orders the write before that read.
        let set = unsafe { git2::opts::set_verify_owner_validation(false) };
        debug_assert!(set.is_ok(), "libgit2 knows no such option");
    });
}
