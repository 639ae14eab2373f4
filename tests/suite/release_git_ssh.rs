//! A private repository over ssh: the git host's key is pinned as a server's is.

use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{Account, Fleet, Sshd};
use crate::release_faults::message;

#[test]
fn a_git_hosts_key_is_shown_accepted_and_refused_when_it_changes() {
    let fleet = Fleet::of(1);
    let mut host = Sshd::start("git-host");
    let key = fleet.api.create(
        "credentials",
        &json!({"name": "deploy key", "kind": "git_ssh_key", "secret": host.private_key()}),
    );
    let repository = fleet.git.repository.path().join("app");
    let address = format!(
        "ssh://{}@127.0.0.1:{}{}",
        host.user,
        host.port,
        repository.display()
    );
    let project = fleet.project(json!({"repo": address, "credential_id": key}));
    let post = |path: &str, body: Value| {
        let path = format!("projects/{project}/{path}");
        fleet.api.post(&path, &body)
    };

    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert!(message(&release).contains(&host.fingerprint()), "{release}");
    let check = post("check", json!({})).expect(200);
    assert_eq!(check["ok"], false, "{check}");
    assert_eq!(check["fingerprint"], host.fingerprint().as_str(), "{check}");

    let refused = post("host_key", json!({"fingerprint": "SHA256:another"})).expect(422);
    assert_eq!(refused["field"], "fingerprint", "{refused}");
    post("host_key", json!({"fingerprint": host.fingerprint()})).expect(200);
    assert_eq!(post("check", json!({})).expect(200)["ok"], true);
    fleet.succeed(&project, "feature");
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("feature"));

    let accepted = host.fingerprint();
    host.change_host_key();
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    for fingerprint in [accepted, host.fingerprint()] {
        assert!(message(&release).contains(&fingerprint), "{release}");
    }
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("feature"));
}

/// An address without a port means the port of SSH itself, which another sshd of this machine may have.
const SSH_HOST: &str = "127.0.0.22";

#[test]
fn an_scp_like_address_is_released_from() {
    let Some(account) = Account::create("gh", "bash", &[]) else {
        return;
    };
    let config = format!("ListenAddress {SSH_HOST}:22\nAuthorizedKeysFile .ssh/authorized_keys");
    let host = Sshd::with("git-host", &config);
    if host.log().contains("Bind to port 22") {
        return;
    }
    let fleet = Fleet::of(1);
    let bare = account.path().join("app.git");
    let run = |command: &mut Command| assert!(command.status().unwrap().success());
    let refresh = || {
        let _ = std::fs::remove_dir_all(&bare);
        let app = fleet.git.repository.path().join("app");
        run(Command::new("git")
            .args(["clone", "--quiet", "--bare"])
            .args([&app, &bare]));
        run(Command::new("chown")
            .arg("-R")
            .args([&account.name])
            .arg(&bare));
    };
    refresh();
    let key = fleet.api.create(
        "credentials",
        &json!({"name": "deploy key", "kind": "git_ssh_key", "secret": account.private_key()}),
    );
    for (title, path) in [("relative", "app.git"), ("whole", bare.to_str().unwrap())] {
        let repo = format!("{}@{SSH_HOST}:{path}", account.name);
        let folder = format!("/srv/{title}");
        let project = fleet
            .project(json!({"title": title, "repo": repo, "credential_id": key, "path": folder}));
        let shown = fleet.api.get(&format!("projects/{project}")).expect(200);
        assert_eq!(shown["repo"], repo.as_str(), "{shown}");
        let accepted = json!({"fingerprint": host.fingerprint()});
        let path = format!("projects/{project}/host_key");
        fleet.api.post(&path, &accepted).expect(200);
        fleet.succeed(&project, "feature");
        let site = fleet.machines[0]
            .root
            .path()
            .join(folder.trim_start_matches('/'));
        let read = || std::fs::read_to_string(site.join("current/index.html")).unwrap();
        assert_eq!(read(), "feature");
        fleet.git.repository.commit(title, "newer");
        refresh();
        fleet.succeed(&project, "main");
        assert_eq!(read(), title);
    }
}
