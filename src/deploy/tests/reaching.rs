//! Releases that get through: files, messages, retention, rollback.

use super::*;

/// The first line of a build's log, since tests of the library run without the sandbox.
const UNCONFINED: &str = "this command runs without a full sandbox: build_sandbox is off\n";

#[test]
fn a_release_reaches_every_server_through_current() {
    let stage = Stage::new(3, |project| {
        project.build = "echo building $LONGSHORE_REF; echo built > built.txt".into();
        project.restart = "echo restarted $LONGSHORE_RELEASE > restarted.txt".into();
        project.before_download = "echo before > index.html; echo x > left".into();
        project.after_download = "test -f index.html".into();
        project.before_deploy = "test -f built.txt && basename $PWD".into();
        project.after_deploy = "cat restarted.txt".into();
    });
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Succeeded, "{release:?}");
    assert_eq!(release.summary, "Begin");
    assert_eq!(release.message, "");
    for server in 1..=3 {
        let current = stage.base(server).join("current");
        assert_eq!(stage.current(server), format!("releases/{}", release.id));
        assert_eq!(
            fs::read_to_string(current.join("index.html")).unwrap(),
            "hello\n"
        );
        assert!(!current.join("left").exists());
        assert_eq!(
            fs::read_to_string(current.join("built.txt")).unwrap(),
            "built\n"
        );
        assert_eq!(
            fs::read_to_string(current.join("restarted.txt")).unwrap(),
            format!("restarted {}\n", release.id)
        );
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(current.join("bin/run"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111);
    }
    let log = stage.engine.read_log(release.id, "compile", 0).unwrap();
    assert_eq!(log.text, format!("{UNCONFINED}building main\n"));
    assert!(
        !stage
            .folder
            .path()
            .join("work")
            .join(release.id.to_string())
            .exists()
    );
}

#[test]
fn every_change_is_a_message_of_the_releases_room() {
    let stage = Stage::new(1, |_| {});
    let release = stage.release("main");
    let messages = stage
        .store
        .read_log(|conn| events::read(conn, &[room(release.id)], 0, i64::MAX, 1000))
        .unwrap();
    let mut versions = std::collections::HashMap::new();
    for message in messages.iter().filter(|message| message.kind == "node") {
        let data: serde_json::Value = serde_json::from_str(&message.data).unwrap();
        let version = data["version"].as_i64().unwrap();
        let before = versions.insert(data["key"].as_str().unwrap().to_owned(), version);
        assert!(before.is_none_or(|before| before < version));
    }
    for node in stage.nodes(release.id) {
        assert_eq!(versions.get(&node.key), Some(&node.version), "{}", node.key);
    }
    let last = messages.last().unwrap();
    assert_eq!(last.kind, "release");
    assert!(last.data.contains("\"state\":\"succeeded\""));
}

#[test]
fn a_rollback_points_current_back_and_old_releases_go() {
    let stage = Stage::new(1, |project| project.keep = 2);
    let releases: Vec<Release> = (0..3).map(|_| stage.release("main")).collect();
    let kept = |id: ReleaseId| stage.base(1).join(format!("releases/{id}")).exists();
    assert!(!kept(releases[0].id) && kept(releases[1].id) && kept(releases[2].id));

    let back = stage.engine.roll_back(releases[1].id, "ann").unwrap();
    let back = stage.wait_for(back.id, |release| !release.state.is_active());
    assert_eq!(back.state, ReleaseState::Succeeded, "{back:?}");
    assert_eq!(stage.current(1), format!("releases/{}", releases[1].id));
    assert!(kept(releases[1].id) && kept(releases[2].id));

    let gone = stage.engine.roll_back(releases[0].id, "ann").unwrap();
    let gone = stage.wait_for(gone.id, |release| !release.state.is_active());
    assert_eq!(gone.state, ReleaseState::Failed);
    assert!(
        gone.message.contains("not on this server any more"),
        "{}",
        gone.message
    );
    assert_eq!(stage.current(1), format!("releases/{}", releases[1].id));
}

#[test]
fn failed_releases_do_not_push_good_ones_out() {
    let stage = Stage::new(1, |project| {
        project.keep = 2;
        project.restart = "test ! -e ../../fail".into();
    });
    let good = stage.release("main");
    fs::write(stage.base(1).join("fail"), "").unwrap();
    for _ in 0..3 {
        assert_eq!(stage.release("main").state, ReleaseState::Failed);
    }
    fs::remove_file(stage.base(1).join("fail")).unwrap();
    let newest = stage.release("main");
    let mut left: Vec<String> = fs::read_dir(stage.base(1).join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    left.sort();
    assert_eq!(left, [good.id.to_string(), newest.id.to_string()]);
}

#[test]
fn an_endless_log_is_cut_and_the_step_goes_on() {
    let stage = Stage::new(1, |project| {
        project.build = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done".into();
    });
    let release = stage.release("main");
    assert_eq!(release.state, ReleaseState::Succeeded);
    let log = stage.engine.read_log(release.id, "compile", 0).unwrap();
    assert!(log.text.len() < 11_000);
    assert!(log.text.starts_with(&format!("{UNCONFINED}line 0\n")));
    assert!(log.text.contains(" lines are left out here]\n"));
    assert!(log.text.ends_with("line 4999\n"));
}

#[test]
fn a_project_without_servers_cannot_be_released() {
    let stage = Stage::new(0, |_| {});
    assert!(matches!(stage.submit("main"), Err(DeployError::NoServers)));
    let unknown = stage.engine.submit(Order {
        project: ProjectId(99),
        revision: "main".into(),
        commit: None,
        by: "ann".into(),
    });
    assert!(matches!(
        unknown,
        Err(DeployError::Store(StoreError::NotFound { .. }))
    ));
}
