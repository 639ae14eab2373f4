//! Files to and from a server.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rand::RngCore;

use super::exec::exec;
use super::sshd::Sshd;
use crate::ssh::{Cancel, Cause, NewRemoteFile};

pub(super) fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A new file with this mode.
pub(super) fn new(mode: u32) -> NewRemoteFile {
    NewRemoteFile {
        mode,
        changed: None,
        synced: true,
    }
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn five_megabytes_go_there_and_back_with_their_mode() {
    let sshd = Sshd::with(&["ed25519"], "MaxSessions 1");
    let folder = tempfile::tempdir().unwrap();
    let connection = sshd.connect();
    let content = random(5 * 1024 * 1024 + 17);
    let length = content.len() as u64;
    let (local, back) = (sshd.folder().join("local"), sshd.folder().join("back"));
    fs::write(&local, &content).unwrap();
    fs::set_permissions(&local, fs::Permissions::from_mode(0o750)).unwrap();
    let there = folder.path().join("it's 发布");
    let remote = there.to_str().unwrap();

    let mut seen = Vec::new();
    let sent = connection
        .put_file(&local, remote, &Cancel::new(), &mut |bytes| {
            seen.push(bytes)
        })
        .unwrap();
    assert_eq!(sent, length);
    assert_eq!(seen.last(), Some(&length));
    assert!(seen.is_sorted() && seen.len() > 5);
    assert_eq!(fs::read(&there).unwrap(), content);
    assert_eq!(mode(&there), 0o750);
    assert_eq!(names(folder.path()), ["it's 发布"]);

    seen.clear();
    let received = connection
        .get_file(remote, &back, &Cancel::new(), &mut |bytes| seen.push(bytes))
        .unwrap();
    assert_eq!(received, length);
    assert_eq!(seen.last(), Some(&length));
    assert_eq!(fs::read(&back).unwrap(), content);
    assert_eq!(mode(&back), 0o750);
    assert!(exec(&connection, "true").0.success());
}

#[test]
fn an_older_file_is_replaced_and_a_folder_is_not() {
    for config in ["", "ForceCommand internal-sftp"] {
        let sshd = Sshd::with(&["ed25519"], config);
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("file");
        fs::write(&there, "older and longer").unwrap();
        let connection = sshd.connect();
        let remote = there.to_str().unwrap();
        let put = |remote: &str| {
            connection.upload_from(
                &mut "new".as_bytes(),
                remote,
                new(0o600),
                &Cancel::new(),
                &mut |_| {},
            )
        };
        put(remote).unwrap();
        assert_eq!(fs::read_to_string(&there).unwrap(), "new");
        assert_eq!(mode(&there), 0o600);

        let inner = folder.path().join("folder");
        fs::create_dir(&inner).unwrap();
        let error = put(inner.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains("folder"), "{error}");
        assert_eq!(names(folder.path()), ["file", "folder"]);
        assert!(names(&inner).is_empty());
    }
}

#[test]
fn an_empty_file_and_a_path_relative_to_home_arrive() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let name = format!("longshore-test-{:x}", rand::random::<u64>());
    for content in ["", "again"] {
        connection
            .upload_from(
                &mut content.as_bytes(),
                &name,
                new(0o644),
                &Cancel::new(),
                &mut |_| {},
            )
            .unwrap();
        let (_, lines) = exec(&connection, &format!("cat ~/{name}; wc -c < ~/{name}"));
        assert!(
            lines
                .last()
                .unwrap()
                .1
                .ends_with(&content.len().to_string()),
            "{lines:?}"
        );
    }
    exec(&connection, &format!("rm ~/{name}"));
}

#[test]
fn what_is_wrong_with_a_remote_path_is_told_with_it() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let missing = sshd.folder().join("missing/file");
    let missing = missing.to_str().unwrap();
    let error = connection
        .upload_from(
            &mut "x".as_bytes(),
            missing,
            new(0o644),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(matches!(error.cause, Cause::RemoteFile { .. }), "{error}");
    assert!(error.to_string().contains(missing), "{error}");
    assert!(
        error.to_string().contains("folder does not exist"),
        "{error}"
    );

    let back = sshd.folder().join("back");
    let error = connection
        .get_file(missing, &back, &Cancel::new(), &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
    let folder = sshd.folder().to_str().unwrap();
    let error = connection
        .get_file(folder, &back, &Cancel::new(), &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    assert!(!back.exists());
    assert!(
        exec(&connection, "true").0.success(),
        "the connection stays usable"
    );
}

#[test]
fn what_is_wrong_with_a_local_path_is_told_with_it() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let local = sshd.folder().join("none");
    let error = connection
        .put_file(&local, "/tmp/never", &Cancel::new(), &mut |_| {})
        .unwrap_err();
    assert!(matches!(error.cause, Cause::LocalFile { .. }), "{error}");
    assert!(
        error.to_string().contains(local.to_str().unwrap()),
        "{error}"
    );
    let error = connection
        .get_file(
            sshd.key().to_str().unwrap(),
            &local.join("deeper"),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(matches!(error.cause, Cause::LocalFile { .. }), "{error}");
}

#[test]
fn a_cancelled_or_broken_upload_leaves_nothing_behind() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the archive is gone"))
        }
    }
    let sshd = Sshd::start();
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("file");
    let remote = there.to_str().unwrap();
    let connection = sshd.connect();
    let cancel = Cancel::new();
    let error = connection
        .upload_from(
            &mut io::repeat(b'x'),
            remote,
            new(0o644),
            &cancel,
            &mut |bytes| {
                if bytes > 3_000_000 {
                    cancel.cancel();
                }
            },
        )
        .unwrap_err();
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    assert!(
        names(folder.path()).is_empty(),
        "{:?}",
        names(folder.path())
    );

    let mut broken = "beginning".as_bytes().chain(Broken);
    let error = connection
        .upload_from(&mut broken, remote, new(0o644), &Cancel::new(), &mut |_| {})
        .unwrap_err();
    assert!(matches!(error.cause, Cause::Input { .. }), "{error}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_server_without_sftp_says_so() {
    let sshd = Sshd::with(&["ed25519"], "Subsystem sftp /nonexistent/sftp-server");
    let error = sshd
        .connect()
        .upload_from(
            &mut "x".as_bytes(),
            "/tmp/never",
            new(0o644),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::Refused { what: "SFTP", .. }),
        "{error}"
    );
}

/// A file system of a few megabytes; only root can create one.
pub(super) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(super) fn mount(megabytes: u32) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(disk.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(disk)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_is_told_as_such() {
    let Some(disk) = SmallDisk::mount(1) else {
        return;
    };
    let sshd = Sshd::start();
    let remote = disk.path().join("file");
    let content = random(3_000_000);
    let error = sshd
        .connect()
        .upload_from(
            &mut content.as_slice(),
            remote.to_str().unwrap(),
            new(0o644),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(matches!(error.cause, Cause::DiskFull { .. }), "{error:?}");
    assert!(names(disk.path()).is_empty());
}
