//! Files and trees with their modes and times.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::exec::exec;
use super::sshd::Sshd;
use crate::ssh::{Cancel, Cause};

const CHANGED: u64 = 1_600_000_000;

fn age(path: &Path) {
    let times = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(CHANGED));
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

/// A realistic tree.
fn make(folder: &Path) {
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::write(folder.join("it's 发布\n"), "odd name").unwrap();
    fs::write(folder.join("deep/run"), vec![7; 300_000]).unwrap();
    fs::set_permissions(folder.join("deep/run"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(folder.join("-rf"), "").unwrap();
    symlink("deep/run", folder.join("link")).unwrap();
    age(&folder.join("deep/run"));
}

/// Names, kinds, modes, times and lengths.
fn look(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let about = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            let link = fs::read_link(&path).ok();
            let content = match about.is_file() {
                true => fs::read(&path).unwrap().len(),
                false => 0,
            };
            let mode = if link.is_none() { about.mode() } else { 0 };
            let changed = if about.is_file() { about.mtime() } else { 0 };
            found.push(format!("{name:?} {mode:o} {link:?} {content} {changed}"));
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_goes_there_and_back_as_it_is() {
    let sshd = Sshd::with(&["ed25519"], "MaxSessions 1");
    let at = |name: &str| sshd.folder().join(name);
    make(&at("tree"));
    let connection = sshd.connect();
    let remote = at("there/by/now");
    let mut seen = 0;
    let cancel = Cancel::new();
    let sent = connection
        .put_tree(&at("tree"), remote.to_str().unwrap(), &cancel, &mut |n| {
            seen = n
        })
        .unwrap();
    assert!(sent >= 300_000 && seen == sent);
    assert_eq!(look(&remote), look(&at("tree")));
    let received = connection
        .get_tree(remote.to_str().unwrap(), &at("back"), &cancel, &mut |_| {})
        .unwrap();
    assert!(received >= 300_000);
    assert_eq!(look(&at("back")), look(&at("tree")));
    assert!(!connection.is_broken());
    assert!(exec(&connection, "true").0.success());
}

#[test]
fn without_a_shell_a_tree_goes_file_by_file() {
    let sshd = Sshd::with(&["ed25519"], "ForceCommand internal-sftp\nMaxSessions 1");
    let at = |name: &str| sshd.folder().join(name);
    make(&at("tree"));
    let connection = sshd.connect();
    let remote = at("there");
    let (remote, cancel) = (remote.to_str().unwrap(), Cancel::new());
    let mut seen = 0;
    for _ in 0..2 {
        let sent = connection
            .put_tree(&at("tree"), remote, &cancel, &mut |count| seen = count)
            .unwrap();
        assert_eq!((sent, seen), (300_008, 300_008));
    }
    assert_eq!(look(&at("there")), look(&at("tree")));
    for _ in 0..2 {
        connection
            .get_tree(remote, &at("back"), &cancel, &mut |_| {})
            .unwrap();
    }
    assert_eq!(look(&at("back")), look(&at("tree")));
}

#[test]
fn a_file_keeps_its_mode_and_time_both_ways() {
    let sshd = Sshd::start();
    let at = |name: &str| sshd.folder().join(name);
    fs::write(at("local"), "content").unwrap();
    fs::set_permissions(at("local"), fs::Permissions::from_mode(0o640)).unwrap();
    age(&at("local"));
    let connection = sshd.connect();
    let (remote, cancel) = (at("remote"), Cancel::new());
    let remote = remote.to_str().unwrap();
    connection
        .put_file(&at("local"), remote, &cancel, &mut |_| {})
        .unwrap();
    connection
        .get_file(remote, &at("back"), &cancel, &mut |_| {})
        .unwrap();
    for name in ["remote", "back"] {
        let about = fs::metadata(at(name)).unwrap();
        assert_eq!(
            (about.mode() & 0o7777, about.mtime()),
            (0o640, CHANGED as i64)
        );
    }
    let found = connection.remote_file(remote, &cancel).unwrap();
    assert_eq!(
        (found.length, found.mode, found.changed),
        (7, 0o640, CHANGED)
    );
    let mut read = Vec::new();
    connection
        .read_file(remote, &mut read, &cancel, &mut |_| {})
        .unwrap();
    assert_eq!(read, b"content");
}

#[test]
fn what_is_wrong_with_a_tree_is_told() {
    let sshd = Sshd::start();
    let at = |name: &str| sshd.folder().join(name).display().to_string();
    let connection = sshd.connect();
    let cancel = Cancel::new();
    let back = sshd.folder().join("back");
    let error = connection
        .get_tree(&at("missing"), &back, &cancel, &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    fs::write(at("file"), "").unwrap();
    let local = sshd.folder().join("tree");
    make(&local);
    let error = connection
        .put_tree(&local, &at("file/below"), &cancel, &mut |_| {})
        .unwrap_err();
    assert!(matches!(error.cause, Cause::RemoteFile { .. }), "{error}");
    let error = connection
        .put_tree(&sshd.folder().join("none"), &at("x"), &cancel, &mut |_| {})
        .unwrap_err();
    assert!(matches!(error.cause, Cause::LocalFile { .. }), "{error}");
    let none = at("-o none");
    let error = connection
        .get_tree(&none, &back, &cancel, &mut |_| {})
        .unwrap_err();
    assert!(matches!(error.cause, Cause::RemoteFile { .. }), "{error}");
    assert!(exec(&connection, "true").0.success());
}

#[test]
fn a_server_cannot_write_outside_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("evil.tar");
    let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
    header.set_cksum();
    tar.append(&header, &b"evil"[..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "out", folder.path()).unwrap();
    let mut through = tar::Header::new_gnu();
    through.set_size(4);
    through.set_mode(0o644);
    tar.append_data(&mut through, "out/through", &b"evil"[..])
        .unwrap();
    tar.into_inner().unwrap();
    let sshd = with_tar(folder.path(), &format!("cat {}", archive.display()));
    let back = folder.path().join("back");
    let _ = sshd
        .connect()
        .get_tree("/", &back, &Cancel::new(), &mut |_| {});
    assert!(!folder.path().join("escape").exists());
    assert!(!folder.path().join("through").exists());
}

/// A server whose `tar` is the program `text`.
fn with_tar(folder: &Path, text: &str) -> Sshd {
    let tools = folder.join("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("tar"), format!("#!/bin/sh\nexec {text}\n")).unwrap();
    fs::set_permissions(tools.join("tar"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("SetEnv PATH={}:/usr/bin:/bin", tools.display());
    Sshd::with(&["ed25519"], &path)
}

#[test]
fn a_cancel_ends_an_endless_download() {
    let folder = tempfile::tempdir().unwrap();
    let sshd = with_tar(folder.path(), "cat /dev/zero");
    let connection = sshd.connect();
    let cancel = Cancel::new();
    let mut sink = std::io::sink();
    let error = connection
        .receive_tar("/", &mut sink, &cancel, &mut |count| {
            if count > 1_000_000 {
                cancel.cancel();
            }
        })
        .unwrap_err();
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
}
