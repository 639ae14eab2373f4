//! Releases kept on the servers, and rollback to them.

use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use crate::fixture::Fleet;

#[test]
fn only_the_last_releases_are_kept() {
    let fleet = Fleet::of(2);
    let project = fleet.project(json!({"keep": 2}));
    let ids: Vec<String> = ["v1", "feature", "main", "v1"]
        .iter()
        .map(|name| fleet.succeed(&project, name))
        .collect();
    for machine in &fleet.machines {
        assert_eq!(machine.kept(), ids[2..], "{}", machine.name);
        assert_eq!(machine.current().as_ref(), ids.last());
    }
}

#[test]
fn a_release_is_made_of_the_folder_of_the_one_that_went() {
    for hooks in [json!({"keep": 1}), json!({"keep": 1, "restart": "true"})] {
        let fleet = Fleet::of(2);
        let project = fleet.project(hooks);
        let inodes = |path: &str| -> Vec<u64> {
            let files = fleet
                .machines
                .iter()
                .map(|machine| machine.path().join(path).join("index.html"));
            files
                .map(|file| std::fs::metadata(file).unwrap().ino())
                .collect()
        };
        let gone = fleet.succeed(&project, "v1");
        let first = inodes("current");
        fleet.succeed(&project, "v1");
        assert_eq!(inodes(&format!("releases/.spare/{gone}")), first);
        let third = fleet.succeed(&project, "v1");
        assert_eq!(inodes("current"), first, "the very files");
        for machine in &fleet.machines {
            assert_eq!(machine.kept(), std::slice::from_ref(&third));
            assert_eq!(machine.shown().as_deref(), Some("one"));
        }
    }
}

#[test]
fn rolling_back_points_current_at_a_kept_release_without_an_upload() {
    let fleet = Fleet::of(2);
    let project = fleet.project(json!({"restart": "cat index.html"}));
    let first = fleet.succeed(&project, "v1");
    let second = fleet.succeed(&project, "main");
    // A file that only the kept copy has: it is still there after the rollback, so nothing was uploaded.
    for machine in &fleet.machines {
        std::fs::write(
            machine.path().join("releases").join(&first).join("kept"),
            "",
        )
        .unwrap();
    }
    let back = fleet
        .api
        .post(&format!("releases/{first}/rollback"), &json!({}))
        .expect(201);
    let back = back["id"].as_str().unwrap().to_owned();
    let ended = fleet.ended(&back);
    assert_eq!(
        (&ended["state"], &ended["kind"]),
        (&json!("succeeded"), &json!("rollback")),
        "{ended}"
    );
    for machine in &fleet.machines {
        assert_eq!(machine.shown().as_deref(), Some("one"));
        assert_eq!(machine.current().as_ref(), Some(&first));
        assert!(machine.path().join("current/kept").exists());
        assert_eq!(machine.kept(), [first.clone(), second.clone()]);
    }
    let keys: Vec<String> = fleet
        .tree(&back)
        .iter()
        .map(|row| row["key"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        !keys
            .iter()
            .any(|key| key.starts_with("download") || key.starts_with("zip")),
        "{keys:?}"
    );
    assert_eq!(fleet.states(&back, "restart"), ["succeeded", "succeeded"]);

    let forward = fleet
        .api
        .post(&format!("releases/{second}/rollback"), &json!({}))
        .expect(201);
    assert_eq!(
        fleet.ended(forward["id"].as_str().unwrap())["state"],
        "succeeded"
    );
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
}

#[test]
fn a_rolled_back_to_release_is_not_pruned_by_the_next_one() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"keep": 2}));
    let first = fleet.succeed(&project, "v1");
    let second = fleet.succeed(&project, "main");
    let back = fleet
        .api
        .post(&format!("releases/{first}/rollback"), &json!({}))
        .expect(201);
    fleet.ended(back["id"].as_str().unwrap());
    // The next one fails before its switch, so `current` must still find its files.
    let failed = fleet.release(&project, "no-such-branch");
    assert_eq!(failed["state"], "failed");
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("one"));
    let third = fleet.succeed(&project, "feature");
    let kept = fleet.machines[0].kept();
    assert!(
        kept.contains(&third) && kept.len() == 2,
        "{kept:?} of {first} {second} {third}"
    );
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("feature"));
}

#[test]
fn a_release_that_is_no_longer_kept_cannot_be_rolled_back_to() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"keep": 1}));
    let first = fleet.succeed(&project, "v1");
    let second = fleet.succeed(&project, "main");
    let answer = fleet
        .api
        .post(&format!("releases/{first}/rollback"), &json!({}));
    // Known at once, or found out on the server: either way nothing changes and it is said.
    if answer.status == 201 {
        let ended = fleet.ended(answer.json()["id"].as_str().unwrap());
        assert_eq!(ended["state"], "failed", "{ended}");
        assert!(
            crate::release_faults::message(&ended).contains("web-1"),
            "{ended}"
        );
    } else {
        assert!((400..500).contains(&answer.status), "{}", answer.text);
    }
    assert_eq!(fleet.machines[0].current(), Some(second));
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("two"));
}
