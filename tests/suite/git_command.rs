//! `longshore git`, beside git's own command line.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{GitDaemon, GitHttps};

/// `longshore git` with nobody's settings and secrets.
pub fn longshore(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGSHORE_") {
            command.env_remove(name);
        }
    }
    command
        .arg("git")
        .args(arguments)
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .stdin(Stdio::null());
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A served repository, and a folder to work in.
struct Shell {
    git: GitDaemon,
    folder: TempDir,
}

impl Shell {
    fn new() -> Self {
        Self {
            git: GitDaemon::start(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs a command that must succeed, and returns its standard output.
    fn does(&self, arguments: &[&str]) -> String {
        let output = longshore(self.folder.path(), arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            errors(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must exit with `expected` and print nothing on standard output, and returns
    /// its standard error.
    fn fails(&self, expected: i32, arguments: &[&str]) -> String {
        let output = longshore(self.folder.path(), arguments).output().unwrap();
        assert_eq!(
            code(&output),
            expected,
            "{arguments:?}: {}",
            errors(&output)
        );
        assert!(output.stdout.is_empty());
        errors(&output)
    }

    fn theirs(&self, folder: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-C", folder])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            errors(&output)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[test]
fn the_courses_methods_on_a_work_copy() {
    let shell = Shell::new();
    let (url, copy) = (shell.git.url(), shell.path("copy"));
    shell.does(&["clone", &url, &copy, "--allow-loopback"]);
    assert_eq!(
        std::fs::read_to_string(shell.path("copy/index.html")).unwrap(),
        "two"
    );
    assert_eq!(shell.theirs(&copy, &["status", "--porcelain"]), "");
    assert_eq!(shell.theirs(&copy, &["branch", "--show-current"]), "main");
    shell.theirs(&copy, &["fsck", "--strict"]);

    let branches = shell.does(&["branches", &copy]);
    let names: Vec<&str> = branches
        .lines()
        .filter_map(|line| line.split("  ").nth(1))
        .collect();
    assert_eq!(names, ["feature", "main"]);
    let tags = shell.does(&["tags", &copy]);
    assert!(
        tags.trim().ends_with("  v1") && tags.lines().count() == 1,
        "{tags}"
    );

    let json: Value = serde_json::from_str(&shell.does(&["commits", &copy, "--json"])).unwrap();
    let mine: Vec<String> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|commit| {
            ["commit", "author", "summary", "date"]
                .map(|key| commit[key].as_str().unwrap())
                .join("|")
        })
        .collect();
    let theirs = shell.theirs(
        &copy,
        &[
            "log",
            "--format=%h|%an|%s|%cd",
            "--date=format:%Y-%m-%d %H:%M",
        ],
    );
    assert_eq!(mine, theirs.lines().collect::<Vec<_>>());
    assert_eq!(
        shell.does(&["commits", &copy, "-n", "1"]).lines().count(),
        1
    );

    // A branch of the remote becomes one here; a tag leaves no branch.
    shell.does(&["checkout", &copy, "feature"]);
    assert_eq!(
        shell.theirs(&copy, &["branch", "--show-current"]),
        "feature"
    );
    assert_eq!(
        shell.theirs(&copy, &["rev-parse", "--abbrev-ref", "feature@{upstream}"]),
        "origin/feature"
    );
    shell.does(&["checkout", &copy, "v1"]);
    assert_eq!(shell.theirs(&copy, &["branch", "--show-current"]), "");
    assert_eq!(
        std::fs::read_to_string(shell.path("copy/index.html")).unwrap(),
        "one"
    );

    // change_to_commit(branch, commit)
    let first = shell.theirs(&copy, &["rev-parse", "v1"]);
    shell.does(&["reset", &copy, &first, "--branch", "main"]);
    assert_eq!(shell.theirs(&copy, &["rev-parse", "main"]), first);
    assert_eq!(shell.theirs(&copy, &["status", "--porcelain"]), "");

    let new = shell.git.repository.commit("three", "Say three");
    let pulled = shell.does(&["pull", &copy, "--allow-loopback"]);
    assert!(pulled.contains("Say three"), "{pulled}");
    assert_eq!(shell.theirs(&copy, &["rev-parse", "main"]), new);
    assert_eq!(
        std::fs::read_to_string(shell.path("copy/index.html")).unwrap(),
        "three"
    );
    let again = shell.does(&["pull", &copy, "--allow-loopback"]);
    assert!(again.contains("up to date"), "{again}");
}

#[test]
fn a_work_copy_is_not_overwritten() {
    let shell = Shell::new();
    let (url, copy) = (shell.git.url(), shell.path("copy"));
    shell.does(&["clone", &url, &copy, "--allow-loopback"]);
    let refused = shell.fails(1, &["clone", &url, &copy, "--allow-loopback"]);
    assert!(refused.contains("not empty"), "{refused}");

    let file = shell.path("copy/index.html");
    std::fs::write(&file, "mine").unwrap();
    let refused = shell.fails(1, &["checkout", &copy, "feature"]);
    assert!(refused.contains("changed here"), "{refused}");
    shell.git.repository.commit("three", "Say three");
    let refused = shell.fails(1, &["pull", &copy, "--allow-loopback"]);
    assert!(refused.contains("changed here"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    shell.does(&["reset", &copy, "main"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
    std::fs::write(&file, "ours").unwrap();
    let author = ["-c", "user.name=A", "-c", "user.email=a@b"];
    shell.theirs(&copy, &[&author[..], &["commit", "-qam", "ours"]].concat());
    let refused = shell.fails(1, &["pull", &copy, "--allow-loopback"]);
    assert!(refused.contains("diverged"), "{refused}");
    assert!(refused.contains("origin/main"), "{refused}");
    shell.does(&["reset", &copy, "origin/main"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "three");
    shell.does(&["pull", &copy, "--allow-loopback"]);
}

#[test]
fn an_address_is_read_without_a_work_copy() {
    let shell = Shell::new();
    let url = shell.git.url();
    let at = |arguments: &[&str]| shell.does(&[arguments, &["--allow-loopback"]].concat());
    assert_eq!(at(&["branches", &url]).lines().count(), 2);
    assert!(at(&["commits", &url, "--ref", "feature", "-n", "1"]).contains("A feature"));
    at(&["checkout", &url, "v1", "--into", &shell.path("files")]);
    assert_eq!(
        std::fs::read_to_string(shell.path("files/index.html")).unwrap(),
        "one"
    );
    assert!(!Path::new(&shell.path("files/.git")).exists());

    for (name, unpack) in [("a.tar", "-xf"), ("a.tar.gz", "-xzf"), ("a.tgz", "-xzf")] {
        let file = shell.path(name);
        at(&[
            "archive", &url, "v1", "--prefix", "app-1/", "--output", &file,
        ]);
        let unpacked = Command::new("tar")
            .args([unpack, &file, "-O", "app-1/index.html"])
            .output()
            .unwrap();
        assert_eq!(unpacked.stdout, b"one", "{name}");
        assert!(!Path::new(&format!("{file}.part")).exists());
    }
    let piped = longshore(
        shell.folder.path(),
        &["archive", &url, "v1", "-o", "-", "--allow-loopback"],
    );
    let piped = { piped }.output().unwrap().stdout;
    let local = shell.git.repository.path().join("app");
    let theirs = Command::new("git")
        .arg("-C")
        .arg(&local)
        .args(["archive", "--format=tar", "v1"])
        .output()
        .unwrap()
        .stdout;
    let names = |tar: &[u8]| -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
        entries
            .filter(|entry| !entry.header().entry_type().is_pax_global_extensions())
            .map(|entry| entry.path().unwrap().display().to_string())
            .collect()
    };
    assert_eq!(names(&piped), names(&theirs));

    // A local folder, read where it is.
    let local = local.to_str().unwrap();
    assert_eq!(shell.does(&["branches", local]).lines().count(), 2);
    assert_eq!(shell.does(&["commits", local]).lines().count(), 2);
    // Cloned from only where that is allowed.
    let root = shell.git.repository.path().to_str().unwrap();
    let copy = shell.path("of-local");
    shell.fails(2, &["clone", local, &copy]);
    shell.does(&["clone", local, &copy, "--local-folder", root]);
}

#[test]
fn a_shallow_clone_is_pulled() {
    let shell = Shell::new();
    let (url, copy) = (shell.git.url(), shell.path("copy"));
    for text in ["2a", "2b", "2c"] {
        shell.git.repository.commit(text, "More");
    }
    shell.does(&["clone", &url, &copy, "--allow-loopback", "--depth", "1"]);
    assert_eq!(shell.does(&["commits", &copy]).lines().count(), 1);
    shell.git.repository.commit("three", "Say three");
    shell.does(&["pull", &copy, "--allow-loopback", "--depth", "5"]);
    assert_eq!(
        std::fs::read_to_string(shell.path("copy/index.html")).unwrap(),
        "three"
    );
    assert_eq!(shell.theirs(&copy, &["status", "--porcelain"]), "");
}

#[test]
fn what_is_not_allowed_is_refused_before_anything_is_opened() {
    let shell = Shell::new();
    let into = shell.path("into");
    for url in [
        "ext::sh -c id",
        "-oProxyCommand=id",
        "ssh://-oProxyCommand=id/x",
        "file:///etc",
        "http://example.com/x",
        "https://169.254.169.254/x",
        "git://127.0.0.1/x",
    ] {
        let refused = shell.fails(2, &["clone", "--", url, &into]);
        assert!(
            refused.contains("not an allowed repository address"),
            "{url}: {refused}"
        );
    }
    let url = shell.git.url();
    for revision in ["-b", "a..b", "HEAD:x", "@{-1}", "a b"] {
        let arguments = [
            "checkout",
            "--allow-loopback",
            "--into",
            &into,
            "--",
            &url,
            revision,
        ];
        let refused = shell.fails(2, &arguments);
        assert!(
            refused.contains("not the name of a branch"),
            "{revision}: {refused}"
        );
    }
    assert!(!Path::new(&into).exists());
    assert!(
        !shell.folder.path().join(".cache").exists(),
        "something was opened"
    );
    // Refused by clap (an unknown option) and by libc (a folder that does not exist).
    shell.fails(2, &["clone", "--upload-pack=id", &url, &into]);
    let nothing = shell.fails(1, &["branches", &shell.path("nothing-")]);
    assert!(!nothing.is_empty());
}

#[test]
fn secrets_come_from_files_the_environment_or_standard_input() {
    const TOKEN: &str = "glpat-command-4711";
    let git = GitHttps::start("deploy", TOKEN);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let (file, url) = (file.to_str().unwrap(), git.url());
    let ca = git.ca_file();
    let reach = [
        "branches",
        &url,
        "--allow-loopback",
        "--ca-file",
        ca.to_str().unwrap(),
    ];
    let with = |arguments: &[&str]| {
        longshore(
            folder.path(),
            &[&reach[..], &["--user", "deploy"], arguments].concat(),
        )
    };
    let by_file = with(&["--token-file", file]).output().unwrap();
    assert!(by_file.status.success(), "{}", errors(&by_file));
    assert_eq!(String::from_utf8_lossy(&by_file.stdout).lines().count(), 2);

    let by_variable = with(&[])
        .env("LONGSHORE_GIT_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(by_variable.status.success(), "{}", errors(&by_variable));

    let by_input = with(&["--password-file", "-"])
        .stdin(std::fs::File::open(file).unwrap())
        .output()
        .unwrap();
    assert!(by_input.status.success(), "{}", errors(&by_input));

    let wrong = with(&[])
        .env("LONGSHORE_GIT_TOKEN", "wrong-token")
        .output()
        .unwrap();
    assert_eq!(code(&wrong), 1);
    let told = errors(&wrong);
    assert!(
        told.contains("refused the login") && !told.contains("wrong-token"),
        "{told}"
    );
}

#[test]
fn a_public_repository_is_cloned_over_https_from_a_trusted_host_only() {
    let git = GitHttps::public();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let url = git.url();
    let clone = ["clone", &url, copy.to_str().unwrap(), "--allow-loopback"];
    let refused = longshore(folder.path(), &clone).output().unwrap();
    assert_eq!(code(&refused), 1);
    assert!(
        errors(&refused).contains("certificate is not trusted"),
        "{}",
        errors(&refused)
    );
    assert!(!copy.exists());
    let ca = git.ca_file();
    let trusting = [&clone[..], &["--ca-file", ca.to_str().unwrap()]].concat();
    let cloned = longshore(folder.path(), &trusting).output().unwrap();
    assert!(cloned.status.success(), "{}", errors(&cloned));
    assert_eq!(
        std::fs::read_to_string(copy.join("index.html")).unwrap(),
        "two"
    );
}
