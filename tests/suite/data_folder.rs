//! A data folder that lost one of its parts is refused with what to do, and left as it is.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::Connection as _;
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection as _;
use rand::Rng as _;
use tempfile::TempDir;

use crate::fixture::{Longshore, Refused, run_in_vain};

/// Debian's `daemon`, an account that every machine has.
const ACCOUNT: u32 = 1;

/// A whole installation that does not run.
fn installation() -> Longshore {
    let mut longshore = Longshore::settings().start();
    longshore.wire("ann").say("kept");
    longshore.stop();
    longshore
}

/// A copy of the installation as a backup has it: without the log of the tests, and without what SQLite's
/// processes share in memory.
fn copy_of(longshore: &Longshore) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::set_permissions(copy.path(), Permissions::from_mode(0o711)).unwrap();
    for path in longshore.files() {
        let name = path.strip_prefix(longshore.data()).unwrap();
        if ["test-log", "longshore.db-shm"]
            .map(Path::new)
            .contains(&name)
        {
            continue;
        }
        fs::create_dir_all(copy.path().join(name).parent().unwrap()).unwrap();
        fs::copy(&path, copy.path().join(name)).unwrap();
    }
    copy
}

/// Every path in a folder with what is there.
fn picture(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut seen = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = path.symlink_metadata().unwrap();
        let bytes = if about.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if about.is_dir() {
            seen.extend(picture(&path));
        }
        seen.insert(path, (about.permissions().mode(), bytes));
    }
    seen
}

#[track_caller]
fn assert_refused(folder: &Path, words: &[&str]) {
    let before = picture(folder);
    let listen = ["serve", "--listen", "127.0.0.1:0"];
    for arguments in [
        &listen[..],
        &["token", "create", "admin"],
        &["user", "disable", "admin"],
    ] {
        let Refused { code, errors } = run_in_vain(folder, arguments, None);
        assert_eq!(code, 1, "{arguments:?}: {errors}");
        for word in words {
            assert!(
                errors.contains(word),
                "{arguments:?}, no {word:?}: {errors}"
            );
        }
        let last = errors.lines().last().unwrap_or_default();
        assert!(last.starts_with("longshore: "), "{errors}");
        assert!(
            picture(folder) == before,
            "{arguments:?}: something was written"
        );
    }
}

fn put_elsewhere(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[test]
fn a_folder_that_lost_a_part_is_refused_and_left_as_it_is() {
    let longshore = installation();
    let other = installation();
    type Damage<'a> = &'a dyn Fn(&Path, &Path);
    let not_a_file = &["secret.key", "not a file"];
    let cases: [(Damage<'_>, &[&str]); 13] = [
        (
            &|database, _| fs::write(database, "").unwrap(),
            &["longshore.db is empty", "backup"],
        ),
        (
            &|database, _| put_elsewhere(database),
            &["longshore.db is missing", "backup"],
        ),
        (
            &|_, key| put_elsewhere(key),
            &["secret.key is missing", "backup"],
        ),
        (
            &|_, key| fs::write(key, [7; 32]).unwrap(),
            &["not the key of this longshore.db"],
        ),
        (
            &|database, _| {
                fs::copy(other.data().join("longshore.db"), database).unwrap();
            },
            &["not the key of this longshore.db"],
        ),
        (
            &|_, key| fs::write(key, [7; 5]).unwrap(),
            &["secret.key", "5 bytes", "32"],
        ),
        (
            &|_, key| fs::write(key, "").unwrap(),
            &["secret.key", "0 bytes", "32"],
        ),
        (
            &|_, key| fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap(),
            &["other accounts can read it", "chmod 600", "secret.key"],
        ),
        (
            &|_, key| {
                put_elsewhere(key);
                fs::create_dir(key).unwrap();
            },
            not_a_file,
        ),
        (
            &|_, key| {
                put_elsewhere(key);
                make_pipe(key);
            },
            not_a_file,
        ),
        (
            &|_, key| {
                put_elsewhere(key);
                drop(UnixListener::bind(key).unwrap());
            },
            not_a_file,
        ),
        (
            &|database, _| {
                put_elsewhere(database);
                make_pipe(database);
            },
            &["longshore.db", "not a file"],
        ),
        (
            &|database, _| fs::write(database, [b'x'; 9000]).unwrap(),
            &["longshore.db", "not a database"],
        ),
    ];
    for (damage, words) in cases {
        let copy = copy_of(&longshore);
        damage(
            &copy.path().join("longshore.db"),
            &copy.path().join("secret.key"),
        );
        assert_refused(copy.path(), words);
    }
}

fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[test]
fn a_folder_that_a_killed_server_left_without_its_key_is_refused_with_all_that_was_acknowledged() {
    let mut longshore = Longshore::settings().start();
    longshore.wire("ann").say("acknowledged");
    longshore.crash();
    let key = longshore.data().join("secret.key");
    let kept = fs::read(&key).unwrap();
    put_elsewhere(&key);
    let names = || -> Vec<PathBuf> { picture(longshore.data()).into_keys().collect() };
    let before = names();
    let refused = run_in_vain(
        longshore.data(),
        &["serve", "--listen", "127.0.0.1:0"],
        None,
    );
    assert!(
        refused.errors.contains("secret.key is missing"),
        "{}",
        refused.errors
    );
    assert_eq!(names(), before);
    fs::write(&key, kept).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    longshore.start_again();
    let wire = longshore.wire("bob");
    let mut start = "start".to_owned();
    assert_eq!(wire.drain("chat", &mut start), ["acknowledged"]);
}

#[test]
fn parts_that_the_account_may_not_read_are_refused_with_whose_they_are() {
    let longshore = installation();
    let copy = copy_of(&longshore);
    for name in ["longshore.db", "secret.key"] {
        let words = ["serve", "--listen", "127.0.0.1:0"];
        let Refused { code, errors } = run_in_vain(copy.path(), &words, Some(ACCOUNT));
        assert_eq!(code, 1, "{errors}");
        let told = format!(
            "{name}: permission denied: it belongs to user 0, and longshore runs as user {ACCOUNT}"
        );
        assert!(errors.contains(&told), "{errors}");
        std::os::unix::fs::chown(copy.path().join(name), Some(ACCOUNT), None).unwrap();
    }
}

#[test]
fn a_database_from_before_the_check_is_trusted_once() {
    let mut longshore = installation();
    let database = longshore.data().join("longshore.db");
    let mut connection = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    let older = "DROP TABLE key_check;
        DELETE FROM __diesel_schema_migrations WHERE version = '20261130073900'";
    connection.batch_execute(older).unwrap();
    drop(connection);
    longshore.start_again();
    longshore.stop();
    let copy = copy_of(&longshore);
    fs::write(copy.path().join("secret.key"), [7; 32]).unwrap();
    assert_refused(copy.path(), &["not the key of this longshore.db"]);
    longshore.start_again();
}

#[test]
fn an_installation_whose_first_start_was_killed_starts() {
    for _ in 0..12 {
        let data = tempfile::tempdir().unwrap();
        let wait = Duration::from_millis(rand::rng().random_range(0..400));
        Longshore::kill_in_start(data.path(), wait);
        Longshore::settings().start_in(data).stop();
    }
}
