//! `longshore git` and repositories that would run something, or are huge.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fixture::GitDaemon;
use crate::git_command::{errors, longshore};
use crate::git_faults::git;

/// A repository, a work copy and settings full of programs that git would run.
#[test]
fn no_program_of_a_repository_or_of_gits_settings_runs() {
    let host = GitDaemon::start();
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let trap = folder.path().join("trap");
    let text = format!("#!/bin/sh\necho \"$0\" >> {}\ncat\n", mark.display());
    let program = |path: &Path| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    };
    program(&trap);
    let hooks = [
        "post-checkout",
        "post-merge",
        "reference-transaction",
        "post-index-change",
        "pre-auto-gc",
    ];
    let app = host.repository.path().join("app");
    for hook in hooks {
        program(&folder.path().join("template/hooks").join(hook));
        program(&app.join("hooks").join(hook));
        program(&app.join(".githooks").join(hook));
    }
    std::fs::write(
        app.join(".gitattributes"),
        "* filter=trap diff=trap merge=trap\n",
    )
    .unwrap();
    let third = host.repository.commit("three", "Programs");
    let settings = |hooks: &str| {
        let trap = trap.display();
        format!(
            "[core]\n hooksPath = {hooks}\n fsmonitor = {trap}\n sshCommand = {trap}\n gitProxy = {trap}\n\
             [init]\n templateDir = {0}/template\n[filter \"trap\"]\n smudge = {trap}\n clean = {trap}\n \
             process = {trap}\n required = true\n[diff \"trap\"]\n textconv = {trap}\n\
             [credential]\n helper = {trap}\n[uploadpack]\n packObjectsHook = {trap}\n",
            folder.path().display()
        )
    };
    let ours = |arguments: &[&str]| {
        let done = longshore(folder.path(), arguments)
            .env("GIT_TEMPLATE_DIR", folder.path().join("template"))
            .env("GIT_SSH_COMMAND", &trap)
            .env("GIT_PROXY_COMMAND", &trap)
            .env("GIT_ASKPASS", &trap)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", errors(&done));
    };
    std::fs::write(folder.path().join(".gitconfig"), settings("hooks")).unwrap();
    let copy = folder.path().join("copy");
    let (copy_text, url) = (copy.to_str().unwrap(), host.url());
    ours(&["clone", &url, copy_text, "--allow-loopback"]);
    // Then the work copy has them too.
    let mut config = std::fs::OpenOptions::new()
        .append(true)
        .open(copy.join(".git/config"))
        .unwrap();
    config.write_all(settings(".githooks").as_bytes()).unwrap();
    for hook in hooks {
        program(&copy.join(".git/hooks").join(hook));
    }
    host.repository.commit("four", "Something to pull");
    let into = folder.path().join("into");
    let packed = folder.path().join("packed.tar");
    ours(&["pull", copy_text, "--allow-loopback"]);
    ours(&["checkout", copy_text, "feature"]);
    ours(&["checkout", copy_text, "main"]);
    ours(&["reset", copy_text, &third]);
    ours(&[
        "checkout",
        copy_text,
        "main",
        "--into",
        into.to_str().unwrap(),
    ]);
    ours(&[
        "archive",
        copy_text,
        "main",
        "--output",
        packed.to_str().unwrap(),
    ]);
    ours(&[
        "archive",
        &url,
        "main",
        "--allow-loopback",
        "--output",
        packed.to_str().unwrap(),
    ]);
    assert_eq!(
        std::fs::read_to_string(into.join("index.html")).unwrap(),
        "three"
    );
    let ran = std::fs::read_to_string(&mark).unwrap_or_default();
    assert_eq!(ran, "", "these programs ran");

    // The traps are traps: git itself runs into them.
    let _ = Command::new("git")
        .args(["-C", copy_text, "checkout", "feature"])
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(mark.exists(), "git ran none of them either");
}

const FOLDERS: usize = 100;
const FILES: usize = 1000;

/// A repository with a hundred thousand files, no two the same.
fn many_files(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("many.git");
    let created = Command::new("git")
        .args(["init", "--quiet", "--bare", "--initial-branch=main"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(created.success());
    let mut stream =
        "commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 1\nx\n".to_owned();
    for number in 0..FOLDERS * FILES {
        let (below, text) = (number % FOLDERS, format!("file {number}"));
        stream += &format!(
            "M 644 inline d{below}/f{number}\ndata {}\n{text}\n",
            text.len()
        );
    }
    let mut import = Command::new("git")
        .arg("-C")
        .arg(&path)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import
        .stdin
        .take()
        .unwrap()
        .write_all(stream.as_bytes())
        .unwrap();
    assert!(import.wait().unwrap().success());
    path
}

#[test]
fn a_hundred_thousand_files_are_exact_or_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let repository = many_files(&folder);
    let into = folder.path().join("into");
    // Memory that is the process's own is bounded, whatever the tree's size.
    let bounded = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -d 98304; exec \"$0\" git \"$@\""])
            .arg(env!("CARGO_BIN_EXE_longshore"))
            .args(arguments)
            .env("HOME", folder.path())
            .stdin(Stdio::null());
        command
    };
    let (path, into_text) = (repository.to_str().unwrap(), into.to_str().unwrap());
    let arguments = ["checkout", path, "main", "--into", into_text];
    let begun = Instant::now();
    let refused = bounded(&arguments)
        .env("LONGSHORE_GIT_FILES", "90000")
        .output()
        .unwrap();
    assert!(
        !refused.status.success() && errors(&refused).contains("git_files"),
        "{}",
        errors(&refused)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert!(!into.exists());

    let done = bounded(&arguments).output().unwrap();
    assert!(done.status.success(), "{}", errors(&done));
    // The written files have the hash of the commit's tree, as git itself computes it.
    let index = folder.path().join("index");
    let written = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["--git-dir", path, "--work-tree", into_text])
            .args(arguments)
            .env("GIT_INDEX_FILE", &index)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    written(&["add", "--all"]);
    assert_eq!(
        written(&["write-tree"]).trim(),
        git(&repository, &["rev-parse", "main^{tree}"])
    );

    let packed = bounded(&["archive", path, "main", "--output", "-"])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", errors(&packed));
    let theirs = Command::new("git")
        .args(["-C", path, "archive", "--format=tar", "main"])
        .output()
        .unwrap();
    let names = |tar: &[u8]| -> Vec<Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
        entries
            .filter(|entry| entry.header().entry_type().is_file())
            .map(|entry| entry.path_bytes().into_owned())
            .collect()
    };
    let (mine, theirs) = (names(&packed.stdout), names(&theirs.stdout));
    assert_eq!(mine.len(), FOLDERS * FILES);
    assert!(mine == theirs);
}
