//! Checkout and archive, also of hostile trees.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::{CommitId, GitError};
use super::fixture::{Repository, Served, fetch};

/// Every path below `folder` with its mode and content, or a link's target.
fn listing(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        for entry in fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let what = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                folders.push(path);
                "folder".to_owned()
            } else {
                let mode = metadata.permissions().mode() & 0o777;
                format!("{mode:o} {:?}", fs::read(&path).unwrap())
            };
            found.insert(name, what);
        }
    }
    found
}

fn rich_repository() -> Repository {
    let repository = Repository::new();
    let work = repository.work();
    fs::create_dir_all(work.join("bin")).unwrap();
    fs::write(work.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(work.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../a.txt", work.join("bin/a")).unwrap();
    symlink("bin", work.join("tools")).unwrap();
    fs::write(work.join(".gitattributes"), "*.txt text eol=crlf\n").unwrap();
    fs::write(work.join("lines.txt"), "one\ntwo\n").unwrap();
    fs::write(work.join("-rf"), "").unwrap();
    fs::write(work.join("new\nline"), "x").unwrap();
    fs::write(work.join("back\\slash"), "x").unwrap();
    fs::write(work.join("中文 名字"), "x").unwrap();
    let deep = format!("{}/{}", "d".repeat(120), "e".repeat(120));
    repository.commit(&deep, "deep");
    repository
}

#[test]
fn a_checkout_is_exact() {
    let served = Served::new(rich_repository());
    fetch(&served.mirror).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for revision in ["main", "v1", "feature/one", &served.repository.id("v0")] {
        let id = served.mirror.resolve(revision).unwrap().id;
        let mine = folder.path().join(format!("mine-{id}"));
        if mine.exists() {
            continue;
        }
        let done = served.mirror.checkout(&id, &mine).unwrap();
        let theirs = folder.path().join(format!("theirs-{id}"));
        let archive = folder.path().join("theirs.tar");
        fs::create_dir(&theirs).unwrap();
        // Read as the plain bytes of the commit: the attributes would change line ends.
        served.repository.app(&[
            "-c",
            "core.attributesFile=/dev/null",
            "archive",
            "-o",
            archive.to_str().unwrap(),
            revision,
        ]);
        tar::Archive::new(fs::File::open(&archive).unwrap())
            .unpack(&theirs)
            .unwrap();
        let (mine, mut theirs) = (listing(&mine), listing(&theirs));
        if theirs.contains_key("lines.txt") {
            for name in ["lines.txt", "a.txt", "b.txt"] {
                theirs.insert(
                    name.to_owned(),
                    format!("644 {:?}", plain(&served.repository, revision, name)),
                );
            }
        }
        // git archive writes 664 and 775 by its own umask setting.
        let theirs: BTreeMap<_, _> = theirs
            .into_iter()
            .map(|(name, what)| {
                (
                    name,
                    what.replacen("664 ", "644 ", 1).replacen("775 ", "755 ", 1),
                )
            })
            .collect();
        assert_eq!(mine, theirs, "{revision}");
        assert_eq!(
            done.files as usize,
            mine.values().filter(|what| *what != "folder").count()
        );
        assert!(!mine.contains_key(".git"));
    }
}

fn plain(repository: &Repository, revision: &str, name: &str) -> Vec<u8> {
    let output = Command::new("git")
        .args(["cat-file", "blob", &format!("{revision}:{name}")])
        .current_dir(repository.work())
        .output()
        .unwrap();
    output.stdout
}

#[test]
fn an_archive_holds_what_a_checkout_holds() {
    let served = Served::new(rich_repository());
    fetch(&served.mirror).unwrap();
    let id = served.mirror.resolve("main").unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    let (checked_out, unpacked) = (folder.path().join("a"), folder.path().join("b"));
    let wrote = served.mirror.checkout(&id, &checked_out).unwrap();
    let mut bytes = Vec::new();
    assert_eq!(
        served.mirror.archive(&id, "app-1/", &mut bytes).unwrap(),
        wrote
    );
    // Unpacked by the system's tar, as on a server.
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar")
        .arg("-xpf")
        .arg("-")
        .current_dir(&unpacked)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_eq!(listing(&unpacked.join("app-1")), listing(&checked_out));
    let mut again = Vec::new();
    served.mirror.archive(&id, "app-1/", &mut again).unwrap();
    assert!(bytes == again);
    for prefix in ["/abs", "../up", "a/../b"] {
        assert!(matches!(
            served.mirror.archive(&id, prefix, std::io::sink()),
            Err(GitError::UnsafePath { .. })
        ));
    }
}

#[test]
fn a_checkout_takes_an_empty_folder_only() {
    let served = Served::new(Repository::new());
    fetch(&served.mirror).unwrap();
    let id = served.mirror.resolve("main").unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    served.mirror.checkout(&id, folder.path()).unwrap();
    assert!(matches!(
        served.mirror.checkout(&id, folder.path()),
        Err(GitError::Disk { .. })
    ));
    assert!(matches!(
        served.mirror.checkout(&id, &folder.path().join("x/y")),
        Err(GitError::Disk { .. })
    ));
    let link = folder.path().join("link");
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), &link).unwrap();
    assert!(served.mirror.checkout(&id, &link).is_err());
    assert!(listing(outside.path()).is_empty());
    let unknown = CommitId::parse(&"12".repeat(20)).unwrap();
    let missing = served.mirror.checkout(&unknown, &folder.path().join("z"));
    assert!(
        matches!(missing, Err(GitError::UnknownCommit { .. })),
        "{missing:?}"
    );
    // An id that does not exist is no damage.
    served.fetch_and_compare();
}

#[test]
fn symlinks_that_leave_the_tree_are_refused_by_name() {
    for (link, target) in [
        ("evil", "/etc/passwd"),
        ("d/evil", "../../x"),
        ("evil", "a/../.."),
    ] {
        let repository = Repository::new();
        let path = repository.work().join(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        repository.commit("c.txt", "x");
        let served = Served::new(repository);
        fetch(&served.mirror).unwrap();
        refuses(&served, "main", link);
    }
}

fn refuses(served: &Served, revision: &str, path: &str) {
    let id = served.mirror.resolve(revision).unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    match served.mirror.checkout(&id, &into) {
        Err(error @ GitError::UnsafePath { .. }) => {
            assert!(error.to_string().contains(path), "{error}")
        }
        other => panic!("{path}: {other:?}"),
    }
    assert!(listing(folder.path()).is_empty(), "something was written");
    let mut bytes = Vec::new();
    assert!(served.mirror.archive(&id, "", &mut bytes).is_err());
    assert!(bytes.is_empty());
}

/// Mode, name, content.
type TreeEntry = (&'static str, &'static str, &'static str);

/// Writes a tree that git itself would not write, and a branch with it.
fn hostile_branch(repository: &Repository, name: &str, entries: &[TreeEntry]) {
    let objects = git2::Repository::open(repository.work()).unwrap();
    let mut tree = Vec::new();
    for (mode, path, content) in entries {
        let oid = if *mode == "40000" {
            objects.treebuilder(None).unwrap().write().unwrap()
        } else {
            objects.blob(content.as_bytes()).unwrap()
        };
        tree.extend_from_slice(format!("{mode} {path}\0").as_bytes());
        tree.extend_from_slice(oid.as_bytes());
    }
    let tree = objects
        .odb()
        .unwrap()
        .write(git2::ObjectType::Tree, &tree)
        .unwrap();
    let commit = format!("tree {tree}\nauthor A <a@b> 0 +0000\ncommitter A <a@b> 0 +0000\n\nx\n");
    let commit = objects
        .odb()
        .unwrap()
        .write(git2::ObjectType::Commit, commit.as_bytes())
        .unwrap();
    objects
        .reference(&format!("refs/heads/{name}"), commit, true, "")
        .unwrap();
}

#[test]
fn hostile_trees_write_nothing() {
    let repository = Repository::new();
    let cases: [(&str, &[TreeEntry]); 5] = [
        ("dot-git", &[("100644", ".GIT", "x")]),
        ("climbing", &[("100644", "..", "x")]),
        ("slash", &[("100644", "../../escape", "x")]),
        ("twice", &[("120000", "a", "b"), ("100644", "a", "x")]),
        ("through", &[("120000", "a", "b"), ("40000", "a", "")]),
    ];
    for (name, entries) in cases {
        hostile_branch(&repository, name, entries);
    }
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    for (name, _) in cases {
        let id = served.mirror.resolve(name).unwrap().id;
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("deep/into");
        fs::create_dir(folder.path().join("deep")).unwrap();
        let refused = served.mirror.checkout(&id, &into);
        assert!(refused.is_err(), "{name}: {refused:?}");
        assert_eq!(
            listing(folder.path()).len(),
            1,
            "{name}: something was written"
        );
    }
}
