//! Fault 7: the branch is force-pushed between releases, and under one.

use std::path::PathBuf;

use serde_json::json;

use crate::fixture::{Fleet, Gate};
use crate::git_faults::git;
use crate::release_faults::message;

/// Takes `main` one commit back and says `text` instead; the host forgets what it was before.
fn force_push(fleet: &Fleet, text: &str) -> String {
    let app = app(fleet);
    git(&app, &["reset", "--quiet", "--hard", "HEAD~1"]);
    let commit = fleet.git.repository.commit(text, "Another past");
    git(&app, &["reflog", "expire", "--expire=now", "--all"]);
    git(&app, &["gc", "--quiet", "--prune=now"]);
    commit
}

fn app(fleet: &Fleet) -> PathBuf {
    fleet.git.repository.path().join("app")
}

#[test]
fn a_force_pushed_branch_is_released_as_it_is_and_what_was_fetched_stays() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"keep": 9}));
    let machine = &fleet.machines[0];
    let first = fleet.succeed(&project, "main");
    let picked = fleet.look(&first)["commit"].as_str().unwrap().to_owned();
    let unseen = fleet.git.repository.commit("unseen", "Nobody fetches this");
    git(&app(&fleet), &["reset", "--quiet", "--hard", "HEAD~1"]);

    let new = force_push(&fleet, "three");
    let release = fleet.look(&fleet.succeed(&project, "main"));
    assert_eq!(release["commit"], new, "{release}");
    assert_eq!(machine.shown().as_deref(), Some("three"));

    // The commit that was picked before is on no branch any more; its files are the same.
    let release = fleet.look(&fleet.succeed(&project, &picked));
    assert_eq!(release["commit"], picked, "{release}");
    assert_eq!(machine.shown().as_deref(), Some("two"));

    let refused = fleet.release(&project, &unseen);
    assert_eq!(refused["state"], "failed", "{refused}");
    let said = message(&refused);
    for part in ["download", &unseen, "force-pushed"] {
        assert!(said.contains(part), "no {part:?} in {said:?}");
    }
    assert_eq!(
        machine.shown().as_deref(),
        Some("two"),
        "nothing was touched"
    );

    // A rollback needs no commit, only what is on the server.
    fleet.succeed(&project, "main");
    let back = fleet
        .api
        .post(&format!("releases/{first}/rollback"), &json!({}))
        .expect(201);
    let ended = fleet.ended(back["id"].as_str().unwrap());
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(machine.current(), Some(first));
    assert_eq!(machine.shown().as_deref(), Some("two"));
}

#[test]
fn a_force_push_under_a_release_does_not_change_what_it_brings() {
    let fleet = Fleet::of(1);
    let gate = Gate::closed();
    let project = fleet.project(json!({"after_download": gate.command()}));
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    let before = fleet.look(&id)["commit"].as_str().unwrap().to_owned();
    let new = force_push(&fleet, "three");
    // Somebody looks at the branches, which fetches.
    let refs = fleet
        .api
        .get(&format!("projects/{project}/refs"))
        .expect(200);
    assert!(refs.to_string().contains(&new), "{refs}");
    gate.open();
    let ended = fleet.ended(&id);
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["commit"], before, "{ended}");
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
    fleet.succeed(&project, "main");
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("three"));
}
