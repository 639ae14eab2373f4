//! Every way on which a release comes to a server, with what may go wrong on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{Fleet, Sshd};
use crate::release_faults::message;

/// A server of files alone.
pub const FILES: &str = "ForceCommand internal-sftp\nMaxSessions 1";

/// Puts the fleet's first server behind another sshd.
pub fn move_to(fleet: &Fleet, config: &str) -> Sshd {
    let sshd = Sshd::with("odd", config);
    let key = fleet.api.create(
        "credentials",
        &json!({"name": format!("key {}", sshd.port), "kind": "ssh_key", "secret": sshd.private_key()}),
    );
    reach(fleet, &sshd, sshd.port, json!({"credential_id": key}));
    sshd
}

/// Reaches the first server by another port.
pub fn reach(fleet: &Fleet, sshd: &Sshd, port: u16, mut change: Value) {
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

/// The row of a node in the tree of a release, as JSON text.
fn said(fleet: &Fleet, id: &str, key: &str) -> String {
    let tree = fleet.tree(id);
    let row = tree.iter().find(|row| row["key"] == key).unwrap();
    row.to_string()
}

/// Adds a program, a link and a file of `bytes` random bytes to the repository.
pub fn enrich(fleet: &Fleet, bytes: usize) {
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

/// Asserts that the release in `shown` equals the work tree of the repository.
#[track_caller]
pub fn assert_whole(fleet: &Fleet, shown: &Path) {
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
        "the release's time"
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

    // A tree that is already there under the next number is read and not sent again.
    let next = (last.parse::<u64>().unwrap() + 1).to_string();
    let releases = machine.path().join("releases");
    for record in ["", "."] {
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .arg(releases.join(format!("{record}{last}")))
            .arg(releases.join(format!("{record}{next}")));
        assert!(copy.status().unwrap().success());
    }
    let id = fleet.succeed(&project, "main");
    assert_eq!(id, next);
    let upload = said(&fleet, &id, "upload-1");
    assert!(upload.contains("already in"), "{upload}");

    // A foreign folder under the next number is moved aside.
    let next = (id.parse::<u64>().unwrap() + 1).to_string();
    fs::create_dir_all(releases.join(&next)).unwrap();
    fs::write(releases.join(&next).join("index.html"), "forged").unwrap();
    fleet.succeed(&project, "main");
    assert_whole(&fleet, &machine.path().join("current"));
    let aside = releases.join(format!("{next}.aside-1/index.html"));
    assert_eq!(fs::read_to_string(aside).unwrap(), "forged");
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
