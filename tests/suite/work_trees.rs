//! Work trees that a killed platform leaves.

use std::path::PathBuf;

use serde_json::json;

use crate::fixture::{Fleet, Gate, Longshore, until_true};

/// An account that is not root, so that the permissions of folders count.
const ACCOUNT: u32 = 1;
const KILLS: usize = 6;

fn work_trees(fleet: &Fleet) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fleet.longshore.data().join("work"));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn kills_in_mid_build_leave_no_work_trees_and_keep_the_cache() {
    let mut fleet = Fleet::with(1, Longshore::settings().owned_by(ACCOUNT));
    // As Go leaves its module cache.
    let closed = "mkdir -p mod/a && touch mod/a/f && chmod 555 mod/a mod && touch \"$HOME/kept\"";
    for kill in 0..KILLS {
        let gate = Gate::closed();
        let build = format!("{closed} && {}", gate.command());
        let title = format!("app {kill}");
        let path = format!("/srv/app-{kill}");
        let project = fleet.project(json!({"title": title, "path": path, "build": build}));
        fleet.submit(&project, "main");
        gate.wait_until_reached();
        assert!(!work_trees(&fleet).is_empty());
        fleet.longshore.crash_and_restart();
    }
    until_true("an empty work folder", || work_trees(&fleet).is_empty());
    let files = fleet.longshore.files();
    let is_kept = |path: &PathBuf| path.ends_with("home/kept");
    assert!(files.iter().any(is_kept), "the cache of builds is gone");
}
