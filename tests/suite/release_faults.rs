//! Whatever breaks, the release ends, and says which server, which step and why.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Fleet, Longshore, Silent};

/// The fields of a server that a person enters.
const SERVER_FIELDS: [&str; 7] = [
    "hostname",
    "host",
    "port",
    "user",
    "kind",
    "credential_id",
    "root",
];

/// The explanation that a release gives of its end; empty if there is none.
pub fn message(release: &Value) -> String {
    release["message"]
        .as_str()
        .or(release["error"].as_str())
        .unwrap_or_default()
        .to_owned()
}

#[track_caller]
fn assert_says(release: &Value, parts: &[&str]) {
    let message = message(release);
    for part in parts {
        assert!(
            message.to_lowercase().contains(&part.to_lowercase()),
            "no {part:?} in {message:?}: {release}"
        );
    }
}

#[test]
fn a_restart_that_fails_on_one_of_three_servers_leaves_the_others_alone() {
    let fleet = Fleet::of(3);
    let project = fleet.project(json!({
        "restart": "if [ \"$MACHINE\" = web-2 ]; then echo no such unit >&2; exit 7; fi",
        "after_deploy": "true",
    }));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "partial", "{release}");
    let id = release["id"].as_str().unwrap();
    assert_eq!(
        fleet.states(id, "restart"),
        ["succeeded", "failed", "succeeded"]
    );
    assert_eq!(
        fleet.states(id, "after_deploy"),
        ["succeeded", "skipped", "succeeded"]
    );
    assert_says(&release, &["web-2", "restart", "7"]);
    for machine in &fleet.machines {
        assert_eq!(machine.shown().as_deref(), Some("two"), "{}", machine.name);
    }
    let tree = fleet.tree(id);
    let failed = tree.iter().find(|row| row["state"] == "failed").unwrap();
    let log = fleet.node_log(id, failed["key"].as_str().unwrap());
    assert!(log.contains("no such unit"), "{log}");
    let colors: Vec<&Value> = tree
        .iter()
        .filter(|row| row["state"] == "failed")
        .map(|row| &row["color"])
        .collect();
    assert!(
        tree.iter()
            .filter(|row| row["state"] == "succeeded")
            .all(|row| !colors.contains(&&row["color"]))
    );
}

#[test]
fn a_restart_that_fails_everywhere_fails_the_release() {
    let fleet = Fleet::of(2);
    let project = fleet.project(json!({"restart": "exit 3"}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_eq!(
        fleet.states(release["id"].as_str().unwrap(), "restart"),
        ["failed", "failed"]
    );
}

#[test]
fn an_unknown_branch_is_said() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let release = fleet.release(&project, "no-such-branch");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["no-such-branch"]);
    assert_eq!(fleet.machines[0].shown(), None);
    let id = release["id"].as_str().unwrap();
    assert_eq!(fleet.states(id, "upload"), ["skipped"]);
    fleet.succeed(&project, "main");
}

#[test]
fn a_dead_git_host_is_said() {
    let mut fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    fleet.git.stop();
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["download"]);
    assert!(
        message(&release).len() > "download".len() + 10,
        "a cause: {release}"
    );
    let refs = fleet.api.get(&format!("projects/{project}/refs"));
    assert!(refs.status >= 400, "{}", refs.text);
    assert!(refs.json()["message"].is_string());
}

#[test]
fn a_git_host_that_says_nothing_is_given_up() {
    let silent = Silent::start();
    let fleet = Fleet::with(1, Longshore::settings().set("git_stall_seconds", "2"));
    let project = fleet.project(json!({"repo": format!("git://127.0.0.1:{}/app", silent.port)}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["download"]);
}

#[test]
fn a_dead_server_is_said_and_the_other_one_is_released_to() {
    let mut fleet = Fleet::of(2);
    let project = fleet.project(json!({"restart": "true"}));
    fleet.machines[1].sshd.stop();
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "partial", "{release}");
    assert_says(&release, &["web-2"]);
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
    let id = release["id"].as_str().unwrap();
    assert_eq!(fleet.states(id, "upload"), ["succeeded", "failed"]);
    assert_eq!(fleet.states(id, "restart"), ["succeeded", "skipped"]);
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = Silent::start();
    let fleet = Fleet::with(1, Longshore::settings().set("ssh_connect_seconds", "2"));
    let server = fleet
        .api
        .get(&format!("servers/{}", fleet.machines[0].id))
        .expect(200);
    let mut moved = server.clone();
    moved["port"] = json!(silent.port);
    fleet
        .api
        .put(&format!("servers/{}", fleet.machines[0].id), &moved)
        .expect(200);
    let start = Instant::now();
    let check = fleet
        .api
        .post(
            &format!("servers/{}/check", fleet.machines[0].id),
            &json!({}),
        )
        .expect(200);
    assert_eq!(check["ok"], false, "{check}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let project = fleet.project(json!({}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["web-1"]);
}

#[test]
fn a_wrong_password_is_said() {
    let fleet = Fleet::of(1);
    let secret = "wrong horse battery";
    let wrong = fleet.api.create(
        "credentials",
        &json!({"name": "wrong password", "kind": "password", "secret": secret}),
    );
    let id = &fleet.machines[0].id;
    let mut server = fleet.api.get(&format!("servers/{id}")).expect(200);
    server["credential_id"] = json!(wrong);
    fleet.api.put(&format!("servers/{id}"), &server).expect(200);
    let check = fleet
        .api
        .post(&format!("servers/{id}/check"), &json!({}))
        .expect(200);
    assert_eq!(check["ok"], false, "{check}");
    assert!(
        check["message"]
            .as_str()
            .unwrap()
            .contains("refused the login"),
        "{check}"
    );
    let project = fleet.project(json!({}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["web-1", "upload", "login"]);
    assert!(
        !fleet.longshore.log().contains(secret),
        "the password is in the log"
    );
}

#[test]
fn a_host_key_that_nobody_accepted_is_refused() {
    let fleet = Fleet::of(1);
    let id = &fleet.machines[0].id;
    let mut server = fleet.api.get(&format!("servers/{id}")).expect(200);
    server["hostname"] = json!("fresh");
    let server = server.as_object_mut().unwrap();
    server.retain(|field, _| SERVER_FIELDS.contains(&field.as_str()));
    let fresh = fleet.api.create("servers", &json!(server));
    let check = fleet
        .api
        .post(&format!("servers/{fresh}/check"), &json!({}))
        .expect(200);
    assert_eq!(
        (&check["ok"], &check["code"]),
        (&json!(false), &json!("host_key_unknown")),
        "{check}"
    );
    assert_eq!(
        check["fingerprint"],
        json!(fleet.machines[0].sshd.fingerprint()),
        "{check}"
    );

    let project = fleet.project(json!({"server_ids": [fresh]}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["fresh", "host key"]);

    let forged = json!({"fingerprint": "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"});
    let refused = fleet
        .api
        .post(&format!("servers/{fresh}/host_key"), &forged);
    assert!(
        (400..500).contains(&refused.status),
        "{} {}",
        refused.status,
        refused.text
    );
    let shown = json!({"fingerprint": check["fingerprint"]});
    assert!(
        fleet
            .api
            .post(&format!("servers/{fresh}/host_key"), &shown)
            .status
            < 300
    );
    let check = fleet
        .api
        .post(&format!("servers/{fresh}/check"), &json!({}))
        .expect(200);
    assert_eq!(check["ok"], true, "{check}");
    fleet.succeed(&project, "main");
}

#[test]
fn a_changed_host_key_is_refused_until_a_person_accepts_it() {
    let mut fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    let old = fleet.machines[0].sshd.fingerprint();
    fleet.machines[0].sshd.change_host_key();
    let new = fleet.machines[0].sshd.fingerprint();
    let id = fleet.machines[0].id.clone();
    let check = fleet
        .api
        .post(&format!("servers/{id}/check"), &json!({}))
        .expect(200);
    assert_eq!(
        (&check["ok"], &check["code"]),
        (&json!(false), &json!("host_key_changed")),
        "{check}"
    );
    assert_eq!(
        (&check["fingerprint"], &check["known_fingerprint"]),
        (&json!(new), &json!(old)),
        "{check}"
    );
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["web-1", "host key"]);
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
    let accepted = fleet.api.post(
        &format!("servers/{id}/host_key"),
        &json!({"fingerprint": new}),
    );
    assert!(accepted.status < 300, "{}", accepted.text);
    fleet.succeed(&project, "main");
}

#[test]
fn a_target_that_cannot_be_written_is_said() {
    let fleet = Fleet::of(2);
    // A file where a folder must be stops even root.
    let blocked = fleet.machines[1].path();
    std::fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    std::fs::write(&blocked, "in the way").unwrap();
    let project = fleet.project(json!({}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "partial", "{release}");
    assert_says(&release, &["web-2"]);
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
    assert_eq!(std::fs::read_to_string(&blocked).unwrap(), "in the way");
}

/// The server goes from the upload to the switch by itself where nothing is to run between them.
#[test]
fn a_switch_that_fails_is_no_failure_of_the_upload() {
    for fields in [json!({}), json!({"before_deploy": "true"})] {
        let fleet = Fleet::of(1);
        let project = fleet.project(fields);
        let first: u32 = fleet.succeed(&project, "v1").parse().unwrap();
        let in_the_way = format!("current.{}.new", first + 1);
        std::fs::create_dir(fleet.machines[0].path().join(&in_the_way)).unwrap();
        let release = fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{release}");
        let id = release["id"].as_str().unwrap();
        assert_eq!(fleet.states(id, "upload"), ["succeeded"]);
        assert_eq!(fleet.states(id, "switch"), ["failed"]);
        let why = message(&release);
        assert!(
            why.contains("web-1: switch") && why.contains("replaced"),
            "{why}"
        );
        assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
        std::fs::remove_dir_all(fleet.machines[0].path().join(&in_the_way)).unwrap();
        fleet.succeed(&project, "main");
        assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
    }
}
