//! Large files over several connections.

use super::PATIENT;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::sshd::{Sshd, wait_until};
use super::transfer::{SmallDisk, mode, names, random};
use crate::ssh::parallel_upload::LARGE;
use crate::ssh::{Cancel, Cause, Pool, PoolOptions, SshError};

/// A server, a large file of random content, and a folder for it.
struct Upload {
    sshd: Sshd,
    content: Vec<u8>,
    local: PathBuf,
    folder: tempfile::TempDir,
}

impl Upload {
    fn of(config: &str) -> Self {
        let sshd = Sshd::with(&["ed25519"], config);
        let content = random(LARGE as usize + 9_000_017);
        let local = sshd.folder().join("local");
        fs::write(&local, &content).unwrap();
        fs::set_permissions(&local, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
        let changed = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let file = fs::File::options().write(true).open(&local).unwrap();
        file.set_modified(changed).unwrap();
        Self {
            sshd,
            content,
            local,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Waits until this many connections are logged in.
    fn wait_for(&self, logins: usize) {
        wait_until("another connection stands", || self.logins() >= logins);
    }

    fn logins(&self) -> usize {
        self.sshd.log().matches("Accepted publickey").count()
    }

    fn there(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    /// Uploads it; `heed` receives the bytes that have arrived.
    fn put(&self, cancel: &Cancel, mut heed: impl FnMut(u64)) -> Result<(), SshError> {
        let connection = self.sshd.connect();
        let mut seen = Vec::new();
        let there = self.there();
        let sent =
            connection.put_file(&self.local, there.to_str().unwrap(), cancel, &mut |bytes| {
                seen.push(bytes);
                heed(bytes);
            })?;
        assert_eq!(sent, self.content.len() as u64);
        assert_eq!(seen.last(), Some(&sent));
        assert!(seen.is_sorted());
        Ok(())
    }

    fn arrived_whole(&self) {
        assert!(fs::read(self.there()).unwrap() == self.content);
        assert_eq!(mode(&self.there()), 0o750);
        let changed = fs::metadata(self.there()).unwrap().modified().unwrap();
        assert_eq!(
            changed,
            fs::metadata(&self.local).unwrap().modified().unwrap()
        );
        assert_eq!(names(self.folder.path()), ["file"]);
    }
}

#[test]
fn a_large_file_goes_over_several_connections_and_arrives_as_it_is() {
    for config in [
        "",
        "MaxSessions 1",
        "Subsystem sftp /usr/lib/openssh/sftp-server",
    ] {
        let upload = Upload::of(config);
        let mut most = 0;
        let watch = |_| {
            upload.wait_for(2);
            most = most.max(upload.sshd.connections());
        };
        upload.put(&Cancel::new(), watch).unwrap();
        upload.arrived_whole();
        assert!((2..=4).contains(&most), "{most}");
    }
}

#[test]
fn a_server_that_lets_nobody_else_in_gets_it_all_the_same() {
    let upload = Upload::of("");
    let authorized = upload.sshd.folder().join("authorized");
    let mut most = 0;
    let connection = upload.sshd.connect();
    fs::write(authorized, "").unwrap();
    let there = upload.there();
    connection
        .put_file(
            &upload.local,
            there.to_str().unwrap(),
            &Cancel::new(),
            &mut |_| {
                most = most.max(upload.sshd.connections());
            },
        )
        .unwrap();
    upload.arrived_whole();
    assert!(!connection.is_broken());
}

#[test]
fn what_a_lost_connection_was_to_carry_goes_over_another() {
    let upload = Upload::of("");
    let mut killed = false;
    let kill = |bytes| {
        upload.wait_for(2);
        if !killed && bytes > 10_000_000 {
            upload.sshd.kill_newest_connection();
            killed = true;
        }
    };
    upload.put(&Cancel::new(), kill).unwrap();
    upload.arrived_whole();
    assert!(killed);
}

#[test]
fn a_cancel_ends_all_connections_and_nothing_is_left() {
    let upload = Upload::of("");
    let cancel = Cancel::new();
    let mut since = None;
    let error = upload
        .put(&cancel, |bytes| {
            upload.wait_for(2);
            if since.is_none() && bytes > 10_000_000 {
                cancel.cancel();
                since = Some(Instant::now());
            }
        })
        .unwrap_err();
    let took = since.map(|since| since.elapsed());
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    assert!(names(upload.folder.path()).is_empty());
    assert!(took < Some(Duration::from_secs(2)), "{took:?}");
}

#[test]
fn a_disk_that_gets_full_is_told_as_such_whichever_connection_finds_out() {
    let Some(disk) = SmallDisk::mount(24) else {
        return;
    };
    let upload = Upload::of("");
    let there = disk.path().join("file");
    let error = upload
        .sshd
        .connect()
        .put_file(
            &upload.local,
            there.to_str().unwrap(),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(matches!(error.cause, Cause::DiskFull { .. }), "{error:?}");
    assert!(names(disk.path()).is_empty());
}

#[test]
fn a_pool_never_has_more_connections_than_it_may() {
    for connections in [1, 2] {
        let upload = Upload::of("");
        let pool = Pool::new(PoolOptions {
            connections,
            ..PoolOptions::default()
        });
        let target = upload.sshd.target();
        let leased = pool.lease(&target, &PATIENT, &Cancel::new()).unwrap();
        let there = upload.there();
        leased
            .put_file(
                &upload.local,
                there.to_str().unwrap(),
                &Cancel::new(),
                &mut |_| upload.wait_for(connections),
            )
            .unwrap();
        upload.arrived_whole();
        drop(leased);
        wait_until("all rest", || pool.counts() == (connections, 0));
        assert_eq!(upload.logins(), connections);
    }
}

#[test]
fn a_file_that_becomes_shorter_meanwhile_is_told_and_nothing_is_left() {
    let upload = Upload::of("");
    let local = fs::File::options().write(true).open(&upload.local).unwrap();
    let error = upload
        .put(&Cancel::new(), |_| local.set_len(1_000_000).unwrap())
        .unwrap_err();
    assert!(matches!(error.cause, Cause::LocalFile { .. }), "{error}");
    assert!(error.to_string().contains("shorter"), "{error}");
    assert!(names(upload.folder.path()).is_empty());
}
