//! The parts of a repository that reach the servers: submodules, `export-ignore`, Git LFS, limits,
//! depth.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{Fleet, Longshore};
use crate::release_faults::message;

const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:\
    4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=A", "-c", "user.email=a@b"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The fleet's repository with a submodule `lib`, a pointer of Git LFS, and tests that are not
/// released.
fn rich(fleet: &Fleet) {
    let root = fleet.git.repository.path();
    git(root, &["init", "-q", "-b", "main", "lib"]);
    std::fs::write(root.join("lib/code"), "library").unwrap();
    git(&root.join("lib"), &["add", "-A"]);
    git(&root.join("lib"), &["commit", "-q", "-m", "x"]);
    let commit = git(&root.join("lib"), &["rev-parse", "HEAD"]);
    let app = root.join("app");
    let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib\n";
    std::fs::write(app.join(".gitmodules"), modules).unwrap();
    std::fs::write(app.join(".gitattributes"), "tests export-ignore\n").unwrap();
    std::fs::write(app.join("film.bin"), LFS_POINTER).unwrap();
    std::fs::create_dir(app.join("tests")).unwrap();
    std::fs::write(app.join("tests/a"), "x").unwrap();
    git(
        &app,
        &["add", ".gitmodules", ".gitattributes", "film.bin", "tests"],
    );
    let entry = format!("160000,{commit},lib");
    git(&app, &["update-index", "--add", "--cacheinfo", &entry]);
    git(&app, &["commit", "-q", "-m", "rich"]);
}

fn with(fleet: &Fleet, project: &str, fields: Value) {
    let mut whole = fleet.api.get(&format!("projects/{project}")).expect(200);
    whole
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let changed = fleet.api.put(&format!("projects/{project}"), &whole);
    changed.expect(200);
}

#[test]
fn submodules_pointers_and_tests() {
    let fleet = Fleet::of(1);
    rich(&fleet);
    let project = fleet.project(json!({}));
    let current = fleet.machines[0].path().join("current");
    let release = fleet.succeed(&project, "main");
    assert!(current.join("film.bin").exists() && !current.join("tests").exists());
    assert_eq!(std::fs::read_dir(current.join("lib")).unwrap().count(), 0);
    let log = fleet.node_log(&release, "download");
    for told in [
        "Git LFS",
        "\"film.bin\"",
        "submodules left out",
        "\"lib\"",
        "export-ignore",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }

    with(&fleet, &project, json!({"submodules": true}));
    let release = fleet.succeed(&project, "main");
    assert_eq!(
        std::fs::read_to_string(current.join("lib/code")).unwrap(),
        "library"
    );
    let log = fleet.node_log(&release, "download");
    assert!(
        log.contains("submodule \"lib\"") && log.contains("/lib at "),
        "{log}"
    );

    // An address that the project itself could not have.
    let app = fleet.git.repository.path().join("app");
    let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = file:///etc\n";
    std::fs::write(app.join(".gitmodules"), modules).unwrap();
    git(&app, &["add", ".gitmodules"]);
    git(&app, &["commit", "-q", "-m", "bad"]);
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    let said = message(&release);
    assert!(
        said.contains("\"lib\"") && said.contains("not an allowed"),
        "{said}"
    );
}

#[test]
fn a_limit_is_named_by_its_setting() {
    let fleet = Fleet::with(1, Longshore::settings().set("git_files", "5"));
    let app = fleet.git.repository.path().join("app");
    for number in 0..6 {
        std::fs::write(app.join(format!("f{number}")), "x").unwrap();
    }
    git(&app, &["add", "-A"]);
    git(&app, &["commit", "-q", "-m", "many"]);
    let project = fleet.project(json!({}));
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    let said = message(&release);
    assert!(
        said.contains("git_files") && said.contains("download"),
        "{said}"
    );
    fleet.succeed(&project, "v1");
}

#[test]
fn a_project_of_a_limited_depth_releases_older_commits_too() {
    let fleet = Fleet::of(1);
    let mut old = String::new();
    for number in 0..10 {
        let id = fleet
            .git
            .repository
            .commit(&format!("text {number}"), "More");
        if number == 2 {
            old = id;
        }
    }
    let project = fleet.project(json!({"depth": 2}));
    let shown = fleet.api.get(&format!("projects/{project}")).expect(200);
    assert_eq!(
        (&shown["depth"], &shown["submodules"]),
        (&json!(2), &json!(false))
    );
    fleet.succeed(&project, "main");
    let commits = fleet
        .api
        .get(&format!("projects/{project}/commits"))
        .expect(200);
    assert_eq!(commits.as_array().unwrap().len(), 2);
    let release = fleet.succeed(&project, &old);
    assert_eq!(fleet.machines[0].shown().as_deref(), Some("text 2"));
    let log = fleet.node_log(&release, "download");
    assert!(log.contains("whole history"), "{log}");
}
