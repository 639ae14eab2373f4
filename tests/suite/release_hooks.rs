//! Commands of a project: where they run, what they see, and how they end.

use serde_json::json;

use crate::fixture::{Fleet, Longshore, shared_folder};

#[test]
fn hooks_run_in_their_order_and_place() {
    let fleet = Fleet::of(1);
    let trace = shared_folder();
    let file = trace.path().join("trace");
    // Each of two accounts appends to it.
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let note = |word: &str| {
        format!(
            "echo {word} $(cat index.html 2>/dev/null) ${{MACHINE:-here}} >> {}",
            file.display()
        )
    };
    let project = fleet.project(json!({
        "before_download": note("before_download"), "after_download": note("after_download"),
        "build": format!("{}; echo built > built.txt", note("build")),
        "before_deploy": note("before_deploy"), "restart": note("restart"), "after_deploy": note("after_deploy"),
    }));
    fleet.succeed(&project, "v1");
    let trace = std::fs::read_to_string(&file).unwrap();
    let words: Vec<&str> = trace
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let order = [
        "before_download",
        "after_download",
        "build",
        "before_deploy",
        "restart",
        "after_deploy",
    ];
    assert_eq!(words, order);
    let place = |word: &str| trace.lines().find(|line| line.starts_with(word)).unwrap();
    assert_eq!(place("after_download"), "after_download one here");
    assert_eq!(place("build"), "build one here");
    assert_eq!(place("restart"), "restart one web-1");
    let built = fleet.machines[0].path().join("current/built.txt");
    assert_eq!(
        std::fs::read_to_string(built).unwrap(),
        "built\n",
        "what the build made is released"
    );
}

#[test]
fn commands_see_nothing_of_the_platforms_environment() {
    let settings = Longshore::settings()
        .variable("CLOUD_SECRET", "leaked-cloud-secret")
        .variable("SSH_AUTH_SOCK", "/leaked-agent");
    let fleet = Fleet::with(1, settings);
    let project = fleet.project(json!({
        "before_download": "env", "after_download": "env", "build": "env; export -p",
        "before_deploy": "env", "restart": "env", "after_deploy": "env",
    }));
    let id = fleet.succeed(&project, "main");
    let mut read = 0;
    for row in fleet.tree(&id) {
        let log = fleet.node_log(&id, row["key"].as_str().unwrap());
        read += usize::from(log.contains("PATH="));
        for leak in ["leaked-", "LONGSHORE_LOG", "LONGSHORE_GIT_ALLOW_LOOPBACK"] {
            assert!(
                !log.contains(leak),
                "{leak} in the log of {}: {log}",
                row["key"]
            );
        }
    }
    assert_eq!(read, 6, "each of the commands printed its environment");
}

#[test]
fn a_command_that_reads_its_input_ends() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({
        "before_download": "cat; read line || true", "build": "cat", "before_deploy": "cat; read line || true",
        "restart": "cat",
    }));
    fleet.succeed(&project, "main");
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let fleet = Fleet::with(1, Longshore::settings().set("command_seconds", "1"));
    for hook in ["build", "restart"] {
        let path = format!("/srv/{hook}");
        let project = fleet.project(json!({"title": hook, "path": path, hook: "sleep 300"}));
        let release = fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{release}");
        let message = crate::release_faults::message(&release);
        assert!(message.contains('1'), "{message}");
    }
}

#[test]
fn a_build_that_fails_ends_the_release_before_any_server_is_touched() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"build": "echo compiler says no >&2; exit 9"}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    let message = crate::release_faults::message(&release);
    assert!(
        message.contains('9') && message.to_lowercase().contains("compile"),
        "{message}"
    );
    let id = release["id"].as_str().unwrap();
    assert!(fleet.node_log(id, "compile").contains("compiler says no"));
    assert_eq!(fleet.states(id, "upload"), ["skipped"]);
    assert_eq!(fleet.machines[0].shown(), None);
}

#[test]
fn a_local_server_gets_its_files_without_ssh() {
    let fleet = Fleet::of(0);
    let root = tempfile::tempdir().unwrap();
    let here = fleet.api.create(
        "servers",
        &json!({"hostname": "here", "kind": "local", "root": root.path()}),
    );
    let check = fleet
        .api
        .post(&format!("servers/{here}/check"), &json!({}))
        .expect(200);
    assert_eq!(check["ok"], true, "{check}");
    let project =
        fleet.project(json!({"server_ids": [here], "restart": "cat index.html > restarted"}));
    fleet.succeed(&project, "v1");
    let site = root.path().join("srv/app/current");
    assert_eq!(
        std::fs::read_to_string(site.join("index.html")).unwrap(),
        "one"
    );
    assert_eq!(
        std::fs::read_to_string(site.join("restarted")).unwrap(),
        "one"
    );
}

#[test]
fn a_new_projects_commands_end_at_the_first_line_that_fails() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"health": "false; true", "health_seconds": 1}));
    for hook in [
        "before_download",
        "after_download",
        "build",
        "before_deploy",
        "restart",
        "after_deploy",
    ] {
        let mut fields = json!({
            "before_download": "", "after_download": "", "build": "", "before_deploy": "", "restart": "",
            "after_deploy": "",
        });
        let text = "echo first\nfalse\necho never";
        fields[hook] = json!(text);
        fields["hooks_stop"] = json!(true);
        fleet
            .api
            .put(&format!("projects/{project}"), &fields)
            .expect(200);
        let release = fleet.release(&project, "v1");
        assert_eq!(release["state"], "failed", "{hook}: {release}");
        fields["hooks_stop"] = json!(false);
        fleet
            .api
            .put(&format!("projects/{project}"), &fields)
            .expect(200);
        fleet.succeed(&project, "v1");
    }
    let shown = fleet.api.get(&format!("projects/{project}")).expect(200);
    assert_eq!(
        (&shown["hooks_stop"], &shown["login_shell"]),
        (&json!(false), &json!(false))
    );
    let other = fleet.project(json!({"title": "other", "path": "/srv/other"}));
    let shown = fleet.api.get(&format!("projects/{other}")).expect(200);
    assert_eq!(shown["hooks_stop"], true);
}

#[test]
fn hooks_of_64_kib_and_of_interpreters_run_on_both_sides() {
    let fleet = Fleet::of(1);
    let long = format!(
        "#!/usr/bin/perl -w\n# {}\nprint \"by perl\\n\"; <STDIN>; exit 0;",
        "'".repeat(60 << 10)
    );
    let quotes = format!(": \"{}\"\nread x\necho ran", "'".repeat(60 << 10));
    let lines = "#!/bin/bash\r\nx=(a b)\r\necho \"${x[1]}\"\r\n";
    for text in [long.as_str(), quotes.as_str(), lines] {
        let ends = text.contains("read x");
        let project = fleet.project(json!({
            "title": format!("p{}{}", text.len(), text.contains("perl")),
            "path": format!("/srv/p{}{}", text.len(), text.contains("perl")),
            "build": text, "before_deploy": text, "restart": text, "hooks_stop": !ends,
        }));
        let id = fleet.succeed(&project, "v1");
        for key in [
            "compile".to_owned(),
            format!("restart-{}", fleet.machines[0].id),
        ] {
            let log = fleet.node_log(&id, &key);
            let expected = ["by perl", "ran", "b"];
            assert!(
                expected.iter().any(|line| log.contains(line)),
                "{key}: {log}"
            );
        }
    }
}
