//! Faults on a release's way to a server, by every transfer method.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{BadLine, Fleet, Longshore, Sshd, Trouble, until_true};
use crate::release_faults::message;
use crate::release_rungs::{FILES, assert_whole, enrich, move_to, reach};

/// A small file system; only root may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(folder: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=3m,mode=755", "tmpfs"])
            .arg(folder);
        mount
            .output()
            .is_ok_and(|output| output.status.success())
            .then(|| Self(folder.to_owned()))
    }
}

impl SmallDisk {
    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

/// Fault 10: the disk is full in the middle of an upload.
#[test]
fn a_full_disk_fails_the_upload_and_is_left_with_room() {
    for config in ["", FILES] {
        let fleet = Fleet::of(1);
        let Some(_disk) = SmallDisk::at(fleet.machines[0].root.path()) else {
            return;
        };
        let _odd = move_to(&fleet, config);
        let project = fleet.project(json!({}));
        fleet.succeed(&project, "v1");
        enrich(&fleet, 8_000_000);
        let release = fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{release}");
        let why = message(&release).to_lowercase();
        assert!(why.contains("web-1") && why.contains("upload"), "{why}");
        assert!(why.contains("disk is full"), "{why}");
        assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
        assert_eq!(fleet.machines[0].kept().len(), 1, "no half of it is left");
        enrich(&fleet, 1_000_000);
        fleet.succeed(&project, "main");
        assert_whole(&fleet, &fleet.machines[0].path().join("current"));
    }
}

/// Fault 28: the file system cannot be written.
#[test]
fn a_disk_that_cannot_be_written_is_told_and_nothing_changes() {
    for config in ["", FILES] {
        let fleet = Fleet::of(1);
        let Some(disk) = SmallDisk::at(fleet.machines[0].root.path()) else {
            return;
        };
        let _odd = move_to(&fleet, config);
        let project = fleet.project(json!({}));
        fleet.succeed(&project, "v1");
        disk.remount("ro");
        let release = fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{release}");
        let why = message(&release);
        assert!(why.contains("web-1: upload"), "{why}");
        assert!(why.contains("releases"), "{why}");
        assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
        disk.remount("rw");
        fleet.succeed(&project, "main");
    }
}

/// A server that has a release, and is reached by a line with `trouble` in the middle of the next one.
fn over_a_bad_line(config: &str, trouble: Trouble) -> (Fleet, String, BadLine, Sshd) {
    let fleet = Fleet::of(1);
    let odd = move_to(&fleet, config);
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    enrich(&fleet, 6_000_000);
    let line = BadLine::to(odd.port, trouble, 2_000_000);
    reach(&fleet, &odd, line.port, json!({}));
    (fleet, project, line, odd)
}

/// Fault 12: the connection is reset in the middle of an upload.
#[test]
fn a_connection_that_is_reset_costs_the_upload_and_nothing_else() {
    for config in ["", FILES] {
        let (fleet, project, line, _odd) = over_a_bad_line(config, Trouble::Cut);
        let release = fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{release}");
        assert!(line.has_troubled());
        let why = message(&release);
        assert!(why.contains("web-1") && why.contains("lost"), "{why}");
        assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
        line.mend();
        fleet.succeed(&project, "main");
        assert_whole(&fleet, &fleet.machines[0].path().join("current"));
        assert_eq!(fleet.machines[0].kept().len(), 2, "no half of it is left");
    }
}

#[test]
fn a_cancel_ends_an_upload_that_stands_still() {
    for config in ["", FILES] {
        let (fleet, project, line, _odd) = over_a_bad_line(config, Trouble::Stall);
        let id = fleet.submit(&project, "main");
        until_true("the upload stands still", || line.has_troubled());
        let start = Instant::now();
        let cancelled = fleet.api.post(&format!("releases/{id}/cancel"), &json!({}));
        assert!(cancelled.status < 300, "{}", cancelled.text);
        let release = fleet.ended(&id);
        assert_eq!(release["state"], "cancelled", "{release}");
        if config == FILES {
            assert!(
                start.elapsed() < Duration::from_secs(3),
                "{:?}",
                start.elapsed()
            );
        }
        line.mend();
        fleet.succeed(&project, "main");
        assert_whole(&fleet, &fleet.machines[0].path().join("current"));
    }
}

#[test]
fn files_that_somebody_changed_on_the_server_are_not_taken_over() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    enrich(&fleet, 300_000);
    let first = fleet.succeed(&project, "main");
    let noise = fleet.machines[0]
        .path()
        .join(format!("releases/{first}/noise"));
    let time = fs::metadata(&noise).unwrap().modified().unwrap();
    let mut bytes = fs::read(&noise).unwrap();
    bytes[1000] ^= 1;
    fs::write(&noise, bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(&noise)
        .unwrap()
        .set_modified(time)
        .unwrap();
    fleet.git.repository.commit("next", "next");
    let id = fleet.succeed(&project, "main");
    assert_whole(&fleet, &fleet.machines[0].path().join("current"));
    let log = fleet.node_log(&id, "upload-1");
    assert!(log.contains("are not what they were"), "{log}");
}

/// Fault 2: packets to a server are dropped.
#[test]
fn a_server_that_nothing_reaches_costs_its_own_time_out() {
    let fleet = Fleet::with(2, Longshore::settings().set("ssh_connect_seconds", "3"));
    let hole = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    rustix::net::listen(&hole, 0).unwrap();
    let address = hole.local_addr().unwrap();
    let one = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let _held: Vec<_> = std::iter::from_fn(one).collect();
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    fleet
        .api
        .put("servers/1", &json!({"port": address.port()}))
        .expect(200);
    let start = Instant::now();
    let id = fleet.submit(&project, "main");
    until_true("the other server has it", || {
        fleet.machines[1].shown().as_deref() == Some("two")
    });
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "it waits for nobody"
    );
    let release = fleet.ended(&id);
    assert_eq!(release["state"], "partial", "{release}");
    let why = message(&release);
    assert!(why.contains("web-1") && why.contains("timed out"), "{why}");
    assert!(
        start.elapsed() < Duration::from_secs(12),
        "{:?}",
        start.elapsed()
    );
}
