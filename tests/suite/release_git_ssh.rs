//! A private repository over ssh: the git host's key is pinned as a server's is.

use serde_json::{Value, json};

use crate::fixture::{Fleet, Sshd};
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
