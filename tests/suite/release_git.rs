//! Repositories that not everybody may read, and addresses that nobody may give.

use serde_json::json;

use crate::fixture::{Fleet, GitHttps, Longshore};
use crate::release_faults::message;

const TOKEN: &str = "glpat-test-token-4711";

#[test]
fn a_private_repository_is_released_with_its_token() {
    let git = GitHttps::start("deploy", TOKEN);
    let settings = Longshore::settings().set("git_ca_file", git.ca_file().to_str().unwrap());
    let fleet = Fleet::with(1, settings);
    let token = |name: &str, secret: String| {
        fleet.api.create(
            "credentials",
            &json!({"name": name, "kind": "git_token", "secret": secret}),
        )
    };
    let right = token("right", format!("deploy:{TOKEN}"));
    let wrong = token("wrong", "deploy:wrong-token".to_owned());

    let project = fleet.project(json!({"repo": git.url(), "credential_id": wrong}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert!(
        message(&release).to_lowercase().contains("download"),
        "{release}"
    );
    let check = fleet
        .api
        .post(&format!("projects/{project}/check"), &json!({}))
        .expect(200);
    assert_eq!(check["ok"], false, "{check}");

    let mut edited = fleet.api.get(&format!("projects/{project}")).expect(200);
    edited["credential_id"] = json!(right);
    fleet
        .api
        .put(&format!("projects/{project}"), &edited)
        .expect(200);
    let check = fleet
        .api
        .post(&format!("projects/{project}/check"), &json!({}))
        .expect(200);
    assert_eq!(check["ok"], true, "{check}");
    let id = fleet.succeed(&project, "main");
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
    for row in fleet.tree(&id) {
        let log = fleet.node_log(&id, row["key"].as_str().unwrap());
        assert!(!log.contains(TOKEN), "{log}");
    }
    assert!(
        !fleet.longshore.log().contains(TOKEN),
        "the token is in the server's log"
    );
    let config = fleet.longshore.files().into_iter().filter(|file| {
        std::fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(TOKEN))
    });
    assert_eq!(
        config.collect::<Vec<_>>(),
        Vec::<std::path::PathBuf>::new(),
        "the token lies open on the disk"
    );
}

#[test]
fn a_host_whose_certificate_nobody_vouches_for_gets_no_token() {
    let git = GitHttps::start("deploy", TOKEN);
    let fleet = Fleet::of(1);
    let token = fleet.api.create(
        "credentials",
        &json!({"name": "token", "kind": "git_token", "secret": format!("deploy:{TOKEN}")}),
    );
    let project = fleet.project(json!({"repo": git.url(), "credential_id": token}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert!(
        message(&release).to_lowercase().contains("certificate"),
        "{release}"
    );
}

#[test]
fn a_secret_is_never_given_back() {
    let fleet = Fleet::of(0);
    let secret = json!({"name": "token", "kind": "git_token", "secret": TOKEN});
    let made = fleet.api.post("credentials", &secret).expect(201);
    let id = made["id"].as_str().unwrap();
    let listed = fleet.api.get("credentials").expect(200);
    let one = fleet.api.get(&format!("credentials/{id}")).expect(200);
    for answer in [&made, &listed, &one] {
        assert!(!answer.to_string().contains(TOKEN), "{answer}");
    }
    let renamed = fleet.api.put(
        &format!("credentials/{id}"),
        &json!({"name": "renamed", "kind": "git_token"}),
    );
    assert_eq!(renamed.expect(200)["name"], "renamed");
}

#[test]
fn loopback_addresses_are_refused_unless_they_are_allowed() {
    let fleet = Fleet::with(1, Longshore::settings().set("git_allow_loopback", "false"));
    let project = json!({
        "title": "app", "repo": fleet.git.url(), "env": "test", "path": "/srv/app",
        "server_ids": [fleet.machines[0].id], "keep": 3,
    });
    let answer = fleet.api.post("projects", &project);
    if answer.status == 201 {
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(fleet.release(&id, "main")["state"], "failed");
    } else {
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (422, &json!("repo")),
            "{}",
            answer.text
        );
    }
    assert_eq!(fleet.machines[0].shown(), None);
}
