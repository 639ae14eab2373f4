//! Releases that end before they are done: cancelled by a person, or cut off with the platform.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Fleet, Gate};

/// The time within which a cancelled release must be over.
const CANCELLED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn cancelling_ends_a_command_on_a_server_and_frees_the_project() {
    let gate = Gate::closed();
    let command = gate.command();
    cancel_at(&gate, json!({"restart": command}));
}

#[test]
fn cancelling_ends_a_build_on_the_platform_and_frees_the_project() {
    let gate = Gate::closed();
    let command = gate.command();
    cancel_at(&gate, json!({"build": command}));
}

fn cancel_at(gate: &Gate, fields: Value) {
    let fleet = Fleet::of(2);
    let project = fleet.project(fields);
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.cancel(&id, CANCELLED_WITHIN);
    let tree = fleet.tree(&id);
    let open = tree
        .iter()
        .find(|row| row["state"] == "running" || row["state"] == "waiting");
    assert!(open.is_none(), "{open:?}");
    assert!(
        tree.iter().any(|row| row["state"] == "cancelled"),
        "{tree:?}"
    );

    let again = fleet.api.post(&format!("releases/{id}/cancel"), &json!({}));
    assert_eq!(again.status, 409, "{}", again.text);
    gate.open();
    fleet.succeed(&project, "main");
}

#[test]
fn a_release_that_the_platform_did_not_survive_is_interrupted() {
    let mut fleet = Fleet::of(2);
    let gate = Gate::closed();
    let project = fleet.project(json!({"restart": gate.command()}));
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.longshore.crash_and_restart();
    let release = fleet.look(&id);
    assert_eq!(release["state"], "interrupted", "{release}");
    assert!(
        !crate::release_faults::message(&release).is_empty(),
        "{release}"
    );
    let states: Vec<Value> = fleet
        .tree(&id)
        .iter()
        .map(|row| row["state"].clone())
        .collect();
    assert!(
        states.contains(&json!("interrupted")) && !states.contains(&json!("running")),
        "{states:?}"
    );
    assert!(!states.contains(&json!("waiting")), "{states:?}");
    gate.open();
    fleet.succeed(&project, "main");
}

#[test]
fn a_platform_that_is_stopped_while_a_release_runs_leaves_nothing_active() {
    let mut fleet = Fleet::of(1);
    let gate = Gate::closed();
    let project = fleet.project(json!({"before_deploy": gate.command()}));
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.longshore.restart();
    let release = fleet.look(&id);
    assert_eq!(release["state"], "interrupted", "{release}");
    gate.open();
    fleet.succeed(&project, "main");
}

#[test]
fn an_unknown_release_cannot_be_cancelled() {
    let fleet = Fleet::of(0);
    let refused = fleet
        .api
        .post("releases/4711/cancel", &json!({}))
        .expect(404);
    assert_eq!(refused["code"], "not_found", "{refused}");
}
