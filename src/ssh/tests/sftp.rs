//! Folders, links and renames by SFTP alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::sshd::Sshd;
use crate::ssh::{Cancel, Cause, Kind};

#[test]
fn a_folder_of_many_files_is_listed_and_removed_whole() {
    let sshd = Sshd::with(&["ed25519"], "ForceCommand internal-sftp\nMaxSessions 1");
    let folder = sshd.folder().join("many");
    fs::create_dir_all(folder.join("inner")).unwrap();
    for number in 0..1500 {
        fs::write(folder.join(format!("file number {number}")), "x").unwrap();
    }
    let outside = sshd.folder().join("outside");
    fs::write(&outside, "stays").unwrap();
    symlink(sshd.folder(), folder.join("inner/link")).unwrap();
    let (connection, cancel) = (sshd.connect(), Cancel::new());
    let files = connection.files(&cancel).unwrap();
    let listed = files.list(&folder).unwrap();
    assert_eq!(listed.len(), 1501);
    let inner = listed.iter().find(|(name, _)| name == Path::new("inner"));
    assert_eq!(inner.unwrap().1.kind, Kind::Folder);
    files.remove_all(&folder).unwrap();
    assert!(!folder.exists() && outside.exists());
    assert_eq!(files.look(&folder).unwrap(), None);
    assert!(files.list(&folder).is_err());
}

#[test]
fn a_link_is_replaced_in_one_step() {
    let sshd = Sshd::with(&["ed25519"], "ForceCommand internal-sftp\nMaxSessions 1");
    let at = |name: &str| sshd.folder().join(name);
    for name in ["1", "2"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("index"), name).unwrap();
    }
    symlink("1", at("current")).unwrap();
    let (connection, cancel) = (sshd.connect(), Cancel::new());
    let mut files = connection.files(&cancel).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !over.load(Ordering::Relaxed) {
                fs::read_to_string(at("current/index")).unwrap();
                reads += 1;
            }
            reads
        });
        for number in 0..30 {
            let target = if number % 2 == 0 { "2" } else { "1" };
            files.make_link(&at("new"), Path::new(target)).unwrap();
            assert!(files.replace(&at("new"), &at("current")).unwrap());
            assert_eq!(
                files.link_target(&at("current")).unwrap(),
                Path::new(target)
            );
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 30);
    });
    let missing = files.replace(&at("nothing"), &at("current")).unwrap_err();
    assert!(
        matches!(missing.cause, Cause::RemoteFile { .. }),
        "{missing}"
    );
    assert!(!connection.is_broken());
}

#[test]
fn a_server_that_cannot_replace_says_so_and_changes_nothing() {
    let sshd = Sshd::with(&["ed25519"], "Subsystem sftp internal-sftp -P posix-rename");
    let at = |name: &str| sshd.folder().join(name);
    fs::write(at("new"), "new").unwrap();
    fs::write(at("old"), "old").unwrap();
    let (connection, cancel) = (sshd.connect(), Cancel::new());
    let mut files = connection.files(&cancel).unwrap();
    assert!(!files.replace(&at("new"), &at("old")).unwrap());
    assert!(files.rename(&at("new"), &at("old")).is_err());
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "old");
    // An upload still replaces it.
    drop(files);
    let remote = at("old");
    connection
        .put_file(&at("new"), remote.to_str().unwrap(), &cancel, &mut |_| {})
        .unwrap();
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "new");
}

/// A server that hangs while a folder is listed costs its time-out.
#[test]
fn a_listing_ends_with_its_cancel() {
    let sshd = Sshd::start();
    let (connection, cancel) = (sshd.connect(), Cancel::new());
    let files = connection.files(&cancel).unwrap();
    cancel.cancel();
    let start = Instant::now();
    let error = files.list(sshd.folder()).unwrap_err();
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}
