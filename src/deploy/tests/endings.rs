//! Releases that end early: failures, cancels, the platform's shutdown.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_failing_restart_on_one_server_is_partial_and_skips_only_its_later_nodes() {
    let stage = Stage::new(3, |project| {
        project.restart = "case $PWD in *web-2*) echo no >&2; exit 7;; esac".into();
        project.after_deploy = "true".into();
    });
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Partial);
    assert_eq!(
        release.message,
        "web-2: restart: the command ended with exit code 7"
    );
    let states = stage.states(release.id);
    let state = |key: &str| states.iter().find(|(k, _)| k == key).unwrap().1;
    assert_eq!(state("restart-2"), NodeState::Failed);
    assert_eq!(state("after_deploy-2"), NodeState::Skipped);
    assert_eq!(state("after_deploy-1"), NodeState::Succeeded);
    assert_eq!(state("after_deploy-3"), NodeState::Succeeded);
}

#[test]
fn an_unknown_branch_fails_the_download_and_says_so() {
    let stage = Stage::new(1, |_| {});
    let release = stage.release("no-such-branch");
    assert_eq!(release.state, ReleaseState::Failed);
    assert!(
        release.message.starts_with("download: "),
        "{}",
        release.message
    );
    assert!(release.message.contains("no-such-branch"));
    assert_eq!(
        stage.states(release.id).last().unwrap().1,
        NodeState::Skipped
    );
    assert!(matches!(stage.submit("--help"), Err(DeployError::Git(_))));
}

#[test]
fn a_second_release_is_refused_while_one_is_active_and_cancel_frees_the_project() {
    let stage = Stage::new(1, |project| project.build = "sleep 300".into());
    let first = stage.submit("main").unwrap();
    stage.wait_for_node(first.id, "compile", NodeState::Running);
    assert!(matches!(
        stage.submit("main"),
        Err(DeployError::Store(StoreError::ReleaseActive { active })) if active == first.id
    ));
    let begun = Instant::now();
    stage.engine.cancel(first.id, "ann").unwrap();
    let ended = stage.wait_for(first.id, |release| !release.state.is_active());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(ended.state, ReleaseState::Cancelled);
    let states = stage.states(first.id);
    assert!(states.contains(&("compile".into(), NodeState::Cancelled)));
    assert!(states.contains(&("upload-1".into(), NodeState::Cancelled)));
    assert!(matches!(
        stage.engine.cancel(first.id, "ann"),
        Err(DeployError::Ended { .. })
    ));
    let next = stage.submit("main").unwrap();
    stage.engine.cancel(next.id, "ann").unwrap();
    stage.wait_for(next.id, |release| release.state == ReleaseState::Cancelled);
}

#[test]
fn what_was_active_at_the_end_is_interrupted_at_the_next_start() {
    let stage = Stage::new(1, |project| project.build = "sleep 300".into());
    let running = stage.submit("main").unwrap();
    stage.wait_for_node(running.id, "compile", NodeState::Running);
    assert!(stage.engine.stop(PATIENCE));
    let stopped = stage.find(running.id);
    assert_eq!(stopped.state, ReleaseState::Interrupted);

    // A stopped engine starts nothing: the next engine finds its queued releases.
    let queued = stage.submit("main").unwrap();
    let _next = open_engine(&stage.folder.path().canonicalize().unwrap(), &stage.store);
    let found = stage.find(queued.id);
    assert_eq!(found.state, ReleaseState::Interrupted);
    assert_eq!(found.message, "the platform was stopped");
    assert!(stage.submit("main").is_ok());
}

#[test]
fn an_account_to_run_as_that_is_not_there_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("longshore.db"), Durability::Process).unwrap();
    let refused = try_open_engine(folder.path(), &store, Some("no-such-account".into()));
    let text = refused.err().unwrap().to_string();
    assert_eq!(
        text,
        "setting run_as: there is no account 'no-such-account' here"
    );
}

#[test]
fn an_unwritable_target_and_a_real_folder_at_current_are_named() {
    let stage = Stage::new(2, |_| {});
    fs::create_dir_all(stage.base(1).join("current")).unwrap();
    fs::create_dir_all(stage.base(2).parent().unwrap()).unwrap();
    fs::write(stage.base(2), "a file").unwrap();
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Failed);
    assert!(
        release.message.contains("web-1: upload: "),
        "{}",
        release.message
    );
    assert!(
        release.message.contains("is not a link"),
        "{}",
        release.message
    );
    assert!(
        release.message.contains("web-2: upload: "),
        "{}",
        release.message
    );
}

#[test]
fn cancel_at_any_moment_ends_the_release_and_frees_the_project() {
    let stage = Stage::new(2, |project| project.restart = "sleep 0.05".into());
    for round in 0..20 {
        let id = stage.submit("main").unwrap().id;
        thread::sleep(Duration::from_millis(rand::random_range(0..24) * round));
        let cancels: Vec<Result<Release, DeployError>> = thread::scope(|scope| {
            let asking: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| stage.engine.cancel(id, "ann")))
                .collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let ended = stage.wait_for(id, |release| !release.state.is_active());
        match ended.state {
            ReleaseState::Cancelled => {}
            ReleaseState::Succeeded => {}
            other => panic!("{other}: {}", ended.message),
        }
        for refused in cancels.iter().filter_map(|cancel| cancel.as_ref().err()) {
            assert!(matches!(refused, DeployError::Ended { .. }), "{refused}");
        }
        let active = [NodeState::Waiting, NodeState::Running];
        assert!(
            stage
                .nodes(id)
                .iter()
                .all(|node| !active.contains(&node.state))
        );
        for server in 1..=2 {
            let base = stage.base(server);
            if let Ok(current) = fs::read_link(base.join("current")) {
                assert!(base.join(current).join("index.html").exists());
            }
        }
    }
    assert_eq!(stage.release("main").state, ReleaseState::Succeeded);
}

/// Makes the release run in the database only, as after a crash of its worker.
fn abandon(stage: &Stage, id: ReleaseId) {
    let change = |state| releases::ReleaseChange {
        state: Some(state),
        ..releases::ReleaseChange::default()
    };
    stage
        .store
        .write(|conn| {
            let release = releases::find(conn, id)?;
            releases::change(conn, id, release.version, &change(ReleaseState::Running))?;
            let node = nodes::find(conn, id, "compile")?;
            nodes::set_state(conn, &node, NodeState::Running, "")?;
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_runs_without_a_worker_is_ended_within_seconds() {
    let stage = Stage::new(1, |project| project.build = "true".into());
    let id = stage.release("main").id;
    abandon(&stage, id);
    assert!(matches!(
        stage.submit("main"),
        Err(DeployError::Store(StoreError::ReleaseActive { .. }))
    ));
    let begun = Instant::now();
    stage.wait_for_node(id, "compile", NodeState::Interrupted);
    assert!(begun.elapsed() < Duration::from_secs(15));
    // Every server has the files, and the project is free again.
    assert_eq!(stage.find(id).state, ReleaseState::Succeeded);
    assert_eq!(stage.release("main").state, ReleaseState::Succeeded);
}

#[test]
fn a_release_that_never_came_to_its_servers_is_interrupted_where_its_worker_is_gone() {
    let stage = Stage::new(1, |project| project.build = "false".into());
    let id = stage.release("main").id;
    abandon(&stage, id);
    stage.wait_for_node(id, "compile", NodeState::Interrupted);
    let ended = stage.find(id);
    assert_eq!(ended.state, ReleaseState::Interrupted);
    let message = "compile: the platform failed; its own log says why";
    assert_eq!(ended.message, message);
}

#[test]
fn cancelling_what_runs_without_a_worker_ends_it() {
    let stage = Stage::new(1, |project| project.build = "false".into());
    let id = stage.release("main").id;
    // No sweep runs any more.
    assert!(stage.engine.stop(PATIENCE));
    abandon(&stage, id);
    let cancelled = stage.engine.cancel(id, "ann").unwrap();
    assert_eq!(cancelled.state, ReleaseState::Cancelled);
    let states = stage.states(id);
    assert!(states.contains(&("compile".into(), NodeState::Cancelled)));
    assert!(matches!(
        stage.engine.cancel(id, "ann"),
        Err(DeployError::Ended { .. })
    ));
}

#[test]
fn old_work_trees_go_and_the_one_in_use_and_the_caches_stay() {
    let stage = Stage::new(1, |project| {
        project.build = "touch seen; sleep 300".into();
    });
    let root = stage.folder.path().canonicalize().unwrap();
    let id = stage.submit("main").unwrap().id;
    let tree = root.join(format!("work/{id}/tree"));
    stage.wait_for(id, |_| tree.join("seen").exists());
    let closed = root.join("work/999/tree/mod");
    fs::create_dir_all(&closed).unwrap();
    fs::write(closed.join("file"), "1").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    for old in ["998", "999.left-0badcafe", "probe-x"] {
        fs::create_dir_all(root.join("work").join(old).join("tree")).unwrap();
    }
    assert_eq!(stage.engine.sweep_work_folder().unwrap(), 4);
    assert!(tree.join("seen").exists() && root.join("caches").exists());
    let left: Vec<_> = fs::read_dir(root.join("work")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    stage.engine.cancel(id, "ann").unwrap();
    stage.wait_for(id, |release| !release.state.is_active());
}
