//! Releases over connections that are shared, limited and bridged.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Fleet, Longshore, Sshd, until_true};

#[test]
fn the_next_release_uses_the_connection_of_the_one_before() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"before_deploy": "true", "after_deploy": "true"}));
    fleet.succeed(&project, "v1");
    fleet.succeed(&project, "main");
    assert_eq!(fleet.machines[0].sshd.logins(), 1);
    let done = fleet
        .api
        .post("servers/1/exec", &json!({"command": "true"}))
        .expect(200);
    assert_eq!(done["exit_code"], 0);
    assert_eq!(fleet.machines[0].sshd.logins(), 1);
}

#[test]
fn a_server_behind_a_jump_server_is_released_to() {
    let fleet = Fleet::of(1);
    let jump = Sshd::start("jump");
    let key = fleet.api.create(
        "credentials",
        &json!({"name": "jump", "kind": "ssh_key", "secret": jump.private_key()}),
    );
    let id = fleet.api.create(
        "servers",
        &json!({"hostname": "jump", "host": "127.0.0.1", "port": jump.port, "user": jump.user,
                "credential_id": key}),
    );
    fleet
        .api
        .put("servers/1", &json!({"jump_id": id}))
        .expect(200);
    let check = fleet.api.post("servers/1/check", &json!({})).expect(200);
    assert_eq!(
        check["ok"], false,
        "the jump server's key is not accepted: {check}"
    );
    let accept = json!({"fingerprint": jump.fingerprint()});
    fleet
        .api
        .post(&format!("servers/{id}/host_key"), &accept)
        .expect(200);
    let check = fleet.api.post("servers/1/check", &json!({})).expect(200);
    assert_eq!(check["ok"], true, "{check}");
    let found = &check["found"];
    assert_eq!(found["user"], fleet.machines[0].sshd.user.as_str());
    assert_eq!(found["folders"][0]["writable"], true);
    assert!(
        found["free_bytes"].as_u64().is_some_and(|free| free > 0),
        "{found}"
    );
    assert!(
        found["tools"]
            .as_array()
            .is_some_and(|tools| tools.len() > 5)
    );
    let ahead = found["clock_ahead_seconds"].as_i64();
    assert!(ahead.is_some_and(|ahead| ahead.abs() <= 2), "{found}");
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
    assert!(jump.logins() >= 1);
}

/// Fault 25 of the list, with a release: an sshd that bears two logins at a time, on which every
/// server of the project is.
#[test]
fn an_sshd_that_turns_connections_away_is_released_to() {
    let fleet = Fleet::of(3);
    let tight = Sshd::with("tight", "MaxStartups 2");
    let key = fleet.api.create(
        "credentials",
        &json!({"name": "tight", "kind": "ssh_key", "secret": tight.private_key()}),
    );
    for machine in &fleet.machines {
        let path = format!("servers/{}", machine.id);
        let moved = json!({"port": tight.port, "credential_id": key});
        fleet.api.put(&path, &moved).expect(200);
        let accept = json!({"fingerprint": tight.fingerprint()});
        let accepted = fleet.api.post(&format!("{path}/host_key"), &accept);
        assert_eq!(accepted.status, 200, "{}", accepted.text);
    }
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    for machine in &fleet.machines {
        assert_eq!(machine.shown().as_deref(), Some("one"));
    }
}

/// Fault 23: the machine goes away while its step runs, and comes back.
#[test]
fn a_server_that_reboots_under_a_release_costs_only_itself() {
    let mut fleet = Fleet::of(2);
    let slow = "touch begun; [ \"$MACHINE\" = web-2 ] || sleep 600";
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    fleet
        .api
        .put(
            &format!("projects/{project}"),
            &json!({"before_deploy": slow}),
        )
        .expect(200);
    let id = fleet.submit(&project, "main");
    let begun = fleet.machines[0]
        .path()
        .join(format!("releases/{id}/begun"));
    until_true("the step runs on web-1", || begun.exists());
    fleet.machines[0].sshd.reboot();
    let release = fleet.ended(&id);
    assert_eq!(release["state"], "partial", "{release}");
    let message = release["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("web-1") && message.contains("lost"),
        "{message}"
    );
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
    assert_ne!(fleet.machines[1].shown().as_deref(), Some("one"));
    fleet
        .api
        .put(
            &format!("projects/{project}"),
            &json!({"before_deploy": ""}),
        )
        .expect(200);
    fleet.succeed(&project, "main");
    assert_eq!(fleet.machines[0].shown(), fleet.machines[1].shown());
}

/// Fault 24: an sshd that hangs after the login.
#[test]
fn an_sshd_that_hangs_after_the_login_is_given_up() {
    let fleet = Fleet::with(2, Longshore::settings().set("step_seconds", "5"));
    let hangs = Sshd::with("hangs", "ForceCommand sleep 600");
    let key = fleet.api.create(
        "credentials",
        &json!({"name": "hangs", "kind": "ssh_key", "secret": hangs.private_key()}),
    );
    let moved = json!({"port": hangs.port, "credential_id": key});
    fleet.api.put("servers/1", &moved).expect(200);
    let accept = json!({"fingerprint": hangs.fingerprint()});
    fleet.api.post("servers/1/host_key", &accept).expect(200);
    let project = fleet.project(json!({}));
    let start = Instant::now();
    let release = fleet.release(&project, "v1");
    assert_eq!(release["state"], "partial", "{release}");
    let message = release["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("web-1") && message.contains("within"),
        "{message}"
    );
    assert!(start.elapsed() < Duration::from_secs(45));
    assert_eq!(fleet.machines[1].shown().as_deref(), Some("one"));
}

/// Fault 1: a wrong password is tried once a release, and never again by itself.
#[test]
fn a_wrong_password_is_no_storm_of_logins() {
    let fleet = Fleet::of(1);
    let wrong = fleet.api.create(
        "credentials",
        &json!({"name": "wrong", "kind": "password", "secret": "wrong"}),
    );
    fleet
        .api
        .put("servers/1", &json!({"credential_id": wrong}))
        .expect(200);
    let project = fleet.project(json!({}));
    let release = fleet.release(&project, "v1");
    assert_eq!(release["state"], "failed", "{release}");
    let log = fleet.machines[0].sshd.log();
    assert_eq!(log.matches("Failed password").count(), 1, "{log}");
    assert!(
        fs::read_dir(fleet.machines[0].path()).is_err(),
        "nothing was written"
    );
}
