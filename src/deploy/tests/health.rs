//! The health check on local servers, and the automatic rollback.

use super::*;

/// Healthy if the restart wrote so.
const WELL: &str = "cat state; grep -q well state";

fn stage(change: impl FnOnce(&mut ProjectValues)) -> Stage {
    Stage::new(1, |project| {
        project.health = WELL.into();
        project.health_seconds = 2;
        project.keep = 1;
        // The first release works, also after the rollback to it.
        project.restart =
            "[ -e state ] || echo well > state; echo $LONGSHORE_RELEASE >> ../../log; \
             [ $(wc -l < ../../log) != 2 ] || echo ill > state"
                .into();
        change(project);
    })
}

#[test]
fn a_server_where_the_check_does_not_hold_is_at_the_release_before() {
    let stage = stage(|_| {});
    let first = stage.release("main");
    assert_eq!(first.state, ReleaseState::Succeeded, "{first:?}");
    let second = stage.release("main");
    assert_eq!(second.state, ReleaseState::Failed, "{second:?}");
    assert_eq!(
        second.message,
        format!(
            "web-1: health: the health check did not hold for 1 s within 2 s; its last failed try \
             ended with exit code 1: ill; went back to release {}",
            first.id
        )
    );
    assert_eq!(stage.current(1), format!("releases/{}", first.id));
    let log = fs::read_to_string(stage.base(1).join("log")).unwrap();
    let (first_id, second_id) = (first.id, second.id);
    assert_eq!(log, format!("{first_id}\n{second_id}\n{first_id}\n"));
}

#[test]
fn a_restart_that_fails_goes_back_too_where_there_is_a_health_check() {
    let stage = stage(|project| project.restart += "; grep well state");
    let first = stage.release("main");
    let second = stage.release("main");
    let end = format!("exit code 1; went back to release {}", first.id);
    assert!(second.message.ends_with(&end), "{second:?}");
    let states = stage.states(second.id);
    assert!(states.contains(&("restart-1".into(), NodeState::Failed)));
    assert!(states.contains(&("health-1".into(), NodeState::Skipped)));
    assert_eq!(stage.current(1), format!("releases/{}", first.id));
}

#[test]
fn without_a_release_before_the_new_one_stays_and_that_is_said() {
    let stage = stage(|project| project.health = "exit 3".into());
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Failed);
    let end = "exit code 3; no other release was live here before, so this one stays in place";
    assert!(release.message.ends_with(end), "{release:?}");
    assert_eq!(stage.current(1), format!("releases/{}", release.id));
}
