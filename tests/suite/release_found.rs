//! Servers as they are found: other accounts' files, closed folders, mounts, other tools' releases. The login is
//! an ordinary account, for to root most of that is no hindrance.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::fixture::{Fleet, Sshd};
use crate::release_rungs::{FILES, reach};

/// The account that releases go in by.
const USER: &str = "longshore-deploy";
/// The one that the application runs as.
const APPLICATION: u32 = 33;

fn done(program: &str, words: &[&str]) -> bool {
    let output = Command::new(program).args(words).output().unwrap();
    output.status.success()
}

/// A fleet of one server whose login is [`USER`]; none where nobody may make accounts.
struct Found {
    fleet: Fleet,
    _sshd: Sshd,
    mounts: Vec<PathBuf>,
}

impl Found {
    fn with(config: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tested: only root can log in as somebody else");
            return None;
        }
        let made = || done("useradd", &["-p", "*", "-s", "/bin/sh", USER]);
        crate::fixture::until_true("the account", || done("id", &[USER]) || made());
        let fleet = Fleet::of(1);
        let sshd = Sshd::of(USER, "odd", config);
        let key = json!({"name": "deploy", "kind": "ssh_key", "secret": sshd.private_key()});
        let key = fleet.api.create("credentials", &key);
        let change = json!({"credential_id": key, "user": USER});
        reach(&fleet, &sshd, sshd.port, change);
        let found = Self {
            fleet,
            _sshd: sshd,
            mounts: Vec::new(),
        };
        let root = found.fleet.machines[0].root.path();
        assert!(done("chown", &[USER, root.to_str().unwrap()]));
        Some(found)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.fleet.machines[0].path().join(below)
    }

    fn mount(&mut self, what: &Path, at: &Path) -> bool {
        let words = ["--bind", what.to_str().unwrap(), at.to_str().unwrap()];
        let is_done = done("mount", &words);
        if is_done {
            self.mounts.push(at.canonicalize().unwrap());
        }
        is_done
    }

    /// The rows of all nodes of a release, as text.
    fn said(&self, id: &str) -> String {
        self.fleet
            .tree(id)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Everything that is neither a release nor hidden.
    fn kept(&self) -> Vec<String> {
        self.fleet.machines[0].kept()
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        let releases = self.path("releases");
        done("chattr", &["-R", "-i", releases.to_str().unwrap()]);
        for mount in &self.mounts {
            // Its folders may have been renamed since.
            let list = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let name = mount.file_name().unwrap().to_str().unwrap();
            let root = self.fleet.machines[0].root.path().to_str().unwrap();
            for line in list.lines() {
                let at = line.split(' ').nth(4).unwrap_or_default();
                if at.starts_with(root) && at.ends_with(name) {
                    done("umount", &[at]);
                }
            }
        }
    }
}

/// Folders of the application's, one with the bit that lets nobody remove another's files, one that is closed,
/// and a file that nobody may remove.
fn live_in(current: &Path) {
    let cache = current.join("var/cache");
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join("log"), "l").unwrap();
    for path in [&cache.join("log"), &cache, &current.join("var")] {
        chown(path, Some(APPLICATION), Some(APPLICATION)).unwrap();
    }
    let sticky = current.join("tmp");
    fs::create_dir_all(&sticky).unwrap();
    fs::write(sticky.join("session"), "s").unwrap();
    chown(sticky.join("session"), Some(APPLICATION), Some(APPLICATION)).unwrap();
    fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).unwrap();
    let closed = current.join("closed");
    fs::create_dir_all(closed.join("deeper")).unwrap();
    fs::write(closed.join("deeper/f"), "f").unwrap();
    assert!(done("chown", &["-R", USER, closed.to_str().unwrap()]));
    for path in [closed.join("deeper"), closed] {
        fs::set_permissions(path, Permissions::from_mode(0o555)).unwrap();
    }
    let fast = current.join("immutable");
    fs::write(&fast, "i").unwrap();
    if !done("chattr", &["+i", fast.to_str().unwrap()]) {
        eprintln!("not tested: this file system knows no immutable files");
    }
}

#[track_caller]
fn goes_on_for_ever(config: &str, unchanged: &str) {
    let Some(found) = Found::with(config) else {
        return;
    };
    let restart = match config {
        FILES => "",
        _ => "[ ! -e ../../ill ]",
    };
    let fields = json!({"keep": 2, "unchanged": unchanged, "restart": restart});
    let project = found.fleet.project(fields);
    let mut wanted: Vec<String> = Vec::new();
    let mut last = String::new();
    for (turn, revision) in ["v1", "main", "feature", "v1", "main", "feature", "v1"]
        .iter()
        .enumerate()
    {
        if turn > 2 && !restart.is_empty() {
            fs::write(found.path("ill"), "").unwrap();
            let failed = found.fleet.release(&project, "main");
            assert_eq!(failed["state"], "failed", "{failed}");
            assert!(failed.to_string().contains("exit code 1"), "{failed}");
            fs::remove_file(found.path("ill")).unwrap();
        }
        last = found.fleet.succeed(&project, revision);
        live_in(&found.path("current"));
        wanted.push(last.clone());
    }
    assert_eq!(found.fleet.machines[0].shown().as_deref(), Some("one"));
    assert_eq!(found.kept(), wanted[wanted.len() - 2..]);
    let said = found.said(&last);
    assert!(said.contains("could be removed"), "{said}");
}

#[test]
fn what_others_leave_in_releases_stops_no_later_one() {
    goes_on_for_ever("", "copy");
}

#[test]
fn what_others_leave_in_releases_stops_no_later_one_of_hard_links() {
    goes_on_for_ever("", "link");
}

#[test]
fn what_others_leave_in_releases_stops_no_later_one_by_sftp() {
    goes_on_for_ever(FILES, "copy");
}

/// As Go's module cache has it.
#[test]
fn closed_folders_of_a_release_are_kept_and_hinder_none() {
    for (config, unchanged) in [("", "copy"), ("", "link"), (FILES, "copy")] {
        let Some(found) = Found::with(config) else {
            return;
        };
        let build =
            "mkdir -p mod/a; echo 1 >mod/a/f; cp index.html mod/a/page; chmod 555 mod/a mod";
        let project = found
            .fleet
            .project(json!({"keep": 1, "build": build, "unchanged": unchanged}));
        for (revision, text) in [
            ("v1", "one"),
            ("main", "two"),
            ("main", "two"),
            ("v1", "one"),
        ] {
            let id = found.fleet.succeed(&project, revision);
            let current = found.path("current");
            assert_eq!(
                fs::read_to_string(current.join("mod/a/page")).unwrap(),
                text
            );
            for folder in ["mod", "mod/a"] {
                let mode = fs::metadata(current.join(folder)).unwrap().mode() & 0o7777;
                assert_eq!(mode, 0o555, "{folder}");
            }
            assert_eq!(found.kept(), [id]);
        }
    }
}

#[test]
fn what_is_mounted_in_an_old_release_stays_as_it_is() {
    for config in ["", FILES] {
        let Some(mut found) = Found::with(config) else {
            return;
        };
        let project = found.fleet.project(json!({"keep": 1}));
        found.fleet.succeed(&project, "v1");
        let (data, volume) = (found.path("data"), found.path("current/data"));
        for folder in [&data, &volume] {
            fs::create_dir(folder).unwrap();
            assert!(done("chown", &[USER, folder.to_str().unwrap()]));
        }
        fs::write(data.join("kept"), "").unwrap();
        assert!(done("chown", &[USER, data.join("kept").to_str().unwrap()]));
        if !found.mount(&data, &volume) {
            eprintln!("not tested: nothing can be mounted here");
            return;
        }
        let mut said = String::new();
        for revision in ["main", "feature", "v1", "main"] {
            said = found.said(&found.fleet.succeed(&project, revision));
        }
        assert!(data.join("kept").exists());
        assert!(said.contains("could be removed"), "{said}");
        assert_eq!(found.fleet.machines[0].shown().as_deref(), Some("two"));
    }
}

#[test]
fn releases_of_another_tool_are_neither_counted_nor_removed() {
    for config in ["", FILES] {
        let Some(found) = Found::with(config) else {
            return;
        };
        let foreign: Vec<String> = (1..=4)
            .map(|month| format!("20240{month}01000000"))
            .collect();
        for name in foreign.iter().map(String::as_str).chain(["2"]) {
            let folder = found.path("releases").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("index.html"), name).unwrap();
        }
        symlink("releases/20240401000000", found.path("current")).unwrap();
        let root = found.fleet.machines[0].root.path().to_str().unwrap();
        assert!(done("chown", &["-R", USER, root]));
        let project = found.fleet.project(json!({"keep": 2}));
        let mut ids = Vec::new();
        for revision in ["v1", "main", "feature", "v1", "main"] {
            ids.push(found.fleet.succeed(&project, revision));
        }
        let mut kept = found.kept();
        // Number 2 was there as well: it is another's, and beside ours.
        let aside = fs::read_to_string(found.path("releases/2.aside-1/index.html"));
        assert_eq!(aside.unwrap(), "2");
        kept.retain(|name| name != "2.aside-1");
        assert_eq!(kept, [&ids[3..], &foreign].concat());
    }
}

#[test]
fn a_failed_check_restores_exactly_what_another_tool_had_made_live() {
    let Some(found) = Found::with("") else {
        return;
    };
    let (old, elsewhere) = (
        found.path("releases/20240401000000"),
        found.path("other/v1"),
    );
    for folder in [&old, &elsewhere] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("index.html"), "old").unwrap();
    }
    let root = found.fleet.machines[0].root.path().to_str().unwrap();
    assert!(done("chown", &["-R", USER, root]));
    let health = "grep -q old index.html";
    let fields = json!({"health": health, "health_seconds": 2, "restart": "true"});
    let project = found.fleet.project(fields);
    let current = found.path("current");
    for target in [
        old.to_str().unwrap(),
        "./releases/20240401000000",
        "releases/20240401000000/",
        "other/v1",
    ] {
        let _ = fs::remove_file(&current);
        symlink(target, &current).unwrap();
        let release = found.fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{release}");
        assert!(
            release
                .to_string()
                .contains(&format!("went back to {target}")),
            "{release}"
        );
        assert_eq!(fs::read_link(&current).unwrap(), Path::new(target));
        assert_eq!(found.fleet.machines[0].shown().as_deref(), Some("old"));
    }
}

/// Group, setgid bit and ACL of the project's folder hold below it; the modes are the release's, whatever the
/// login's umask is.
#[test]
fn what_the_projects_folder_says_holds_for_what_is_made_in_it() {
    for (config, acl) in [("", false), ("", true), (FILES, false)] {
        let Some(found) = Found::with(config) else {
            return;
        };
        assert!(done("usermod", &["-aG", "www-data", USER]));
        let base = found.path("");
        fs::create_dir_all(&base).unwrap();
        chown(&base, None, Some(APPLICATION)).unwrap();
        let root = found.fleet.machines[0].root.path().to_str().unwrap();
        assert!(done("chown", &["-R", USER, root]));
        fs::set_permissions(&base, Permissions::from_mode(0o2775)).unwrap();
        let base = base.to_str().unwrap();
        if acl && !done("setfacl", &["-d", "-m", "u:www-data:rwx,o::-", base]) {
            eprintln!("not tested: this file system knows no ACLs");
            continue;
        }
        crate::release_rungs::enrich(&found.fleet, 2000);
        let project = found.fleet.project(json!({"keep": 2}));
        let mut before = String::new();
        for revision in ["main", "v1", "main", "main", "main"] {
            let id = found.fleet.succeed(&project, revision);
            let current = found.path("current");
            let about = |path: &str| {
                let about = fs::metadata(current.join(path)).unwrap();
                (about.mode() & 0o7777, about.gid())
            };
            if !acl {
                assert_eq!(about(""), (0o2755, APPLICATION), "{revision}");
            }
            assert_eq!(about("index.html"), (0o644, APPLICATION), "{revision}");
            if revision == "main" {
                assert_eq!(about("bin"), (0o2755, APPLICATION));
                assert_eq!(about("bin/run"), (0o755, APPLICATION));
            }
            let said = found.said(&id);
            let log = found.fleet.node_log(&id, "upload-1");
            assert!(!log.contains("does not keep"), "{log}");
            if !before.is_empty() && config.is_empty() {
                assert!(said.contains(&format!("since release {before}")), "{said}");
            }
            before = id;
        }
    }
}

#[test]
fn a_release_is_for_everybody_to_read_whatever_the_logins_umask_is() {
    let shell = "ForceCommand umask 077; exec sh -c \"$SSH_ORIGINAL_COMMAND\"";
    for config in [shell, "ForceCommand internal-sftp -u 077\nMaxSessions 1"] {
        let Some(found) = Found::with(config) else {
            return;
        };
        let project = found.fleet.project(json!({}));
        let id = found.fleet.succeed(&project, "v1");
        for path in ["releases".to_owned(), format!("releases/{id}")] {
            let mode = fs::metadata(found.path(&path)).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o755, "{path}");
        }
    }
}

#[test]
fn two_contents_of_one_size_and_second_have_two_times() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let time = || {
        let page = fleet.machines[0].path().join("current/index.html");
        fs::metadata(page).unwrap().mtime()
    };
    fleet.succeed(&project, "v1");
    let first = time();
    // `one` and `two` were committed in one second.
    fleet.succeed(&project, "main");
    let second = time();
    assert!(second > first, "{second} after {first}");
    fleet.succeed(&project, "main");
    assert_eq!(time(), second, "nothing changed");
}
