//! Every way on which a release comes to a server, with what may go wrong on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{BadLine, Fleet, Longshore, Sshd, Trouble, until_true};
use crate::release_faults::message;

/// A server of files alone.
const FILES: &str = "ForceCommand internal-sftp\nMaxSessions 1";

/// Puts the fleet's first server behind another sshd.
fn move_to(fleet: &Fleet, config: &str) -> Sshd {
    let sshd = Sshd::with("odd", config);
    let key = fleet.api.create(
        "credentials",
        &json!({"name": format!("key {}", sshd.port), "kind": "ssh_key", "secret": sshd.private_key()}),
    );
    reach(fleet, &sshd, sshd.port, json!({"credential_id": key}));
    sshd
}

/// Reaches the first server by another port.
fn reach(fleet: &Fleet, sshd: &Sshd, port: u16, mut change: Value) {
    change["port"] = json!(port);
    fleet.api.put("servers/1", &change).expect(200);
    let accept = json!({"fingerprint": sshd.fingerprint()});
    let accepted = fleet.api.post("servers/1/host_key", &accept);
    assert_eq!(accepted.status, 200, "{}", accepted.text);
}

/// A folder with every program of this machine but these.
fn programs_without(missing: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir("/usr/bin").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !missing.iter().any(|missing| name == *missing) {
            symlink(&path, folder.path().join(name)).unwrap();
        }
    }
    folder
}

/// What a node of a release says.
fn said(fleet: &Fleet, id: &str, key: &str) -> String {
    let tree = fleet.tree(id);
    let row = tree.iter().find(|row| row["key"] == key).unwrap();
    row.to_string()
}

/// Adds a program, a link and a file of so many random bytes to the repository.
fn enrich(fleet: &Fleet, bytes: usize) {
    let app = fleet.git.repository.path().join("app");
    fs::create_dir_all(app.join("bin")).unwrap();
    fs::write(app.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(app.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    let _ = symlink("bin/run", app.join("link"));
    let mut noise = vec![0; bytes];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut noise);
    fs::write(app.join("noise"), noise).unwrap();
    fleet.git.repository.commit("rich", "rich");
}

/// Whether the release that is shown is what the repository's work tree is.
#[track_caller]
fn assert_whole(fleet: &Fleet, shown: &Path) {
    let app = fleet.git.repository.path().join("app");
    for name in ["index.html", "noise", "bin/run"] {
        assert!(
            fs::read(app.join(name)).unwrap() == fs::read(shown.join(name)).unwrap(),
            "{name}"
        );
    }
    let mode = |name: &str| fs::metadata(shown.join(name)).unwrap().mode() & 0o777;
    assert_eq!(
        (mode("bin/run"), mode("noise"), mode("bin")),
        (0o755, 0o644, 0o755)
    );
    assert_eq!(
        fs::read_link(shown.join("link")).unwrap(),
        Path::new("bin/run")
    );
}

#[test]
fn each_server_gets_a_release_by_what_it_has() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"restart": "true"}));
    enrich(&fleet, 200_000);
    for (number, missing) in [
        &[][..],
        &["zstd"],
        &["zstd", "gzip"],
        &["zstd", "gzip", "tar"],
    ]
    .into_iter()
    .enumerate()
    {
        let tools = programs_without(missing);
        let _odd = move_to(&fleet, &format!("SetEnv PATH={}", tools.path().display()));
        let _ = fs::remove_dir_all(fleet.machines[0].path());
        let check = fleet.api.post("servers/1/check", &json!({})).expect(200);
        assert_eq!(check["ok"], true, "{check}");
        let id = fleet.succeed(&project, "main");
        assert_whole(&fleet, &fleet.machines[0].path().join("current"));
        let said_first = said(&fleet, &id, "upload-1");
        assert_eq!(
            said_first.contains("SFTP"),
            number == 3,
            "{missing:?}: {said_first}"
        );
        let id = fleet.succeed(&project, "v1");
        assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
        let said_next = said(&fleet, &id, "upload-1");
        assert_eq!(
            said_next.contains("since release"),
            number < 3,
            "{missing:?}: {said_next}"
        );
        let records = fleet.machines[0]
            .path()
            .join(format!("releases/.{id}/seal"));
        assert!(records.exists(), "{missing:?}: verified by the shell");
    }
}

#[test]
fn a_server_of_files_alone_is_released_to_and_rolled_back() {
    let fleet = Fleet::of(1);
    let _odd = move_to(&fleet, FILES);
    let check = fleet.api.post("servers/1/check", &json!({})).expect(200);
    assert_eq!(
        (&check["ok"], &check["found"]["shell"]),
        (&json!(true), &json!(false)),
        "{check}"
    );
    assert!(
        check["message"].as_str().unwrap().contains("SFTP"),
        "{check}"
    );
    let project = fleet.project(json!({"keep": 2}));
    enrich(&fleet, 3_000_000);
    let machine = &fleet.machines[0];
    let first = fleet.succeed(&project, "v1");
    assert_eq!(machine.shown().as_deref(), Some("one"));
    let whole = fleet.succeed(&project, "main");
    assert_whole(&fleet, &machine.path().join("current"));
    assert!(said(&fleet, &whole, "upload-1").contains("SFTP"));
    let time = fs::metadata(machine.path().join("current/noise"))
        .unwrap()
        .mtime();
    let age = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(
        (age.as_secs() as i64 - time).abs() < 600,
        "the commit's time"
    );
    let back = fleet
        .api
        .post(&format!("releases/{first}/rollback"), &json!({}));
    assert!(back.status < 300, "{}", back.text);
    let back = back.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(fleet.ended(&back)["state"], "succeeded");
    assert_eq!(machine.shown().as_deref(), Some("one"));
    let last = fleet.succeed(&project, "main");
    assert_eq!(machine.kept(), [whole, last.clone()], "two are kept");

    // What is there already is read and not sent again.
    let next = (last.parse::<u64>().unwrap() + 1).to_string();
    let releases = machine.path().join("releases");
    let mut copy = Command::new("cp");
    copy.arg("-a")
        .arg(releases.join(&last))
        .arg(releases.join(&next));
    assert!(copy.status().unwrap().success());
    let id = fleet.succeed(&project, "main");
    assert_eq!(id, next);
    let upload = said(&fleet, &id, "upload-1");
    assert!(upload.contains("already in"), "{upload}");

    // What is there under its number and is something else goes.
    let next = (id.parse::<u64>().unwrap() + 1).to_string();
    fs::create_dir_all(releases.join(&next)).unwrap();
    fs::write(releases.join(&next).join("index.html"), "forged").unwrap();
    fleet.succeed(&project, "main");
    assert_whole(&fleet, &machine.path().join("current"));
}

#[test]
fn hooks_on_a_server_of_files_alone_are_refused_before_anything_is_sent() {
    let fleet = Fleet::of(1);
    let _odd = move_to(&fleet, FILES);
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    for hook in ["before_deploy", "restart", "after_deploy"] {
        let path = format!("projects/{project}");
        fleet.api.put(&path, &json!({hook: "true"})).expect(200);
        let release = fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{release}");
        let why = message(&release);
        assert!(
            why.contains("web-1") && why.contains("runs no commands"),
            "{why}"
        );
        assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
        assert_eq!(fleet.machines[0].kept().len(), 1);
        fleet.api.put(&path, &json!({hook: ""})).expect(200);
    }
}

#[test]
fn a_chroot_of_files_alone_is_released_to() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let root = tempfile::Builder::new()
        .prefix("longshore-chroot")
        .tempdir_in("/var/lib")
        .unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let fleet = Fleet::of(1);
    let config = format!("ChrootDirectory {}\n{FILES}", root.path().display());
    let _odd = move_to(&fleet, &config);
    fleet
        .api
        .put("servers/1", &json!({"root": "/"}))
        .expect(200);
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    let shown = fs::read_to_string(root.path().join("srv/app/current/index.html"));
    assert_eq!(shown.unwrap(), "one");
}

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

/// Fault 12: the connection is reset in the middle of an upload.
#[test]
fn a_connection_that_is_reset_costs_the_upload_and_nothing_else() {
    for config in ["", FILES] {
        let fleet = Fleet::of(1);
        let odd = move_to(&fleet, config);
        let project = fleet.project(json!({}));
        fleet.succeed(&project, "v1");
        enrich(&fleet, 6_000_000);
        let line = BadLine::to(odd.port, Trouble::Cut, 2_000_000);
        reach(&fleet, &odd, line.port, json!({}));
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
        let fleet = Fleet::of(1);
        let odd = move_to(&fleet, config);
        let project = fleet.project(json!({}));
        fleet.succeed(&project, "v1");
        enrich(&fleet, 6_000_000);
        let line = BadLine::to(odd.port, Trouble::Stall, 2_000_000);
        reach(&fleet, &odd, line.port, json!({}));
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
