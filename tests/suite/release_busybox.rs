//! Releases to a server that has busybox alone, as small systems do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Fleet, Sshd};
use crate::release_rungs::move_to;

/// A name that busybox's tools cannot list unambiguously.
const ODD: &str = "a\nb/c\n\nd";
/// The bound of a release of a few files on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder with every applet of busybox and nothing else.
fn applets() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let listed = Command::new("busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().lines() {
        symlink("/bin/busybox", folder.path().join(name)).unwrap();
    }
    folder
}

fn odd_server(fleet: &Fleet) -> (tempfile::TempDir, Sshd) {
    let tools = applets();
    let sshd = move_to(fleet, &format!("SetEnv PATH={}", tools.path().display()));
    (tools, sshd)
}

#[test]
fn a_line_end_in_a_name_arrives_or_is_refused_and_damages_nothing() {
    let fleet = Fleet::of(1);
    let (_tools, _sshd) = odd_server(&fleet);
    let project = fleet.project(json!({}));
    let shown = fleet.machines[0].path().join("current");
    let repository = &fleet.git.repository;
    let app = repository.path().join("app");
    let mut last = fleet.succeed(&project, "main");
    // With the file, with a change beside it, with a change in it, and without it again.
    for (number, content) in [Some("one"), Some("one"), Some("two"), None]
        .into_iter()
        .enumerate()
    {
        let odd = app.join(ODD);
        match content {
            Some(content) => {
                fs::create_dir_all(odd.parent().unwrap()).unwrap();
                fs::write(&odd, content).unwrap();
            }
            None => fs::remove_file(&odd).unwrap(),
        }
        fs::write(app.join("plain"), number.to_string()).unwrap();
        repository.commit(&format!("change {number}"), &format!("change-{number}"));
        let begun = Instant::now();
        let release = fleet.release(&project, "main");
        assert!(begun.elapsed() < LIMIT, "{release}");
        if release["state"] == "succeeded" {
            last = release["id"].as_str().unwrap().to_owned();
            assert_eq!(read(&shown, "plain"), Some(number.to_string()));
            assert_eq!(read(&shown, ODD).as_deref(), content, "{release}");
        } else {
            let message = release["message"].as_str().unwrap();
            assert!(message.contains("name"), "{release}");
        }
        assert_eq!(fleet.machines[0].current(), Some(last.clone()));
    }
    assert_eq!(read(&shown, "plain").as_deref(), Some("3"), "the last one");
}

fn read(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok()
}
