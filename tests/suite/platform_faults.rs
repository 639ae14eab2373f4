//! The platform's own disk and database, as they fail: nothing is acknowledged that is not kept, what can be
//! read is read, and what cannot be started with says why. The numbers are those of the catalogue of faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use serde_json::json;

use crate::fixture::{Longshore, Process, Wire, until, until_true};

/// The bound of a request that waits for the database, and some more for a slow machine.
const BOUND: Duration = Duration::from_secs(30);

/// The bound of a server's end; less than the fixture's patience.
const ENDED_WITHIN: Duration = Duration::from_secs(15);

fn database(server: &Longshore) -> PathBuf {
    server.data().join("longshore.db")
}

/// Sends numbered messages as long as they are taken; gives how many were.
fn say_until_refused(wire: &Wire, limit: usize) -> (usize, u16) {
    for number in 0..limit {
        let content = format!("message {number} {}", "x".repeat(1000));
        let status = wire.send(&[("content", &content)]).status;
        if status != 200 {
            return (number, status);
        }
    }
    (limit, 200)
}

/// The numbers of the messages that are kept.
fn kept(server: &Longshore) -> Vec<usize> {
    let reader = server.wire("reader");
    let texts = reader.drain("chat", &mut "start".to_owned());
    let number = |text: &String| {
        text.split(' ')
            .nth(1)
            .and_then(|number| number.parse().ok())
    };
    texts.iter().filter_map(number).collect()
}

#[track_caller]
fn reads_work(server: &Longshore) {
    assert_eq!(server.api().get("servers").status, 200);
    assert_eq!(server.wire("ann").get_json("/login").status, 200);
    let poll = [("room", "chat"), ("after", "start"), ("wait", "0")];
    assert_eq!(server.wire("ann").get_msg(&poll).status, 200);
}

/// Fault 18: the platform's disk is full.
#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_reading_goes_on() {
    let mut server = Longshore::settings().on_small_disk().start();
    let api = server.api();
    let wire = server.wire("ann");
    assert_eq!(say_until_refused(&wire, 3), (3, 200));
    server.disk().fill();
    let (taken, status) = say_until_refused(&wire, 10_000);
    assert_eq!(status, 503, "after {taken} messages");
    let refused = api.post("servers", &json!({"hostname": "a", "kind": "local"}));
    assert!(
        matches!(refused.status, 503 | 201),
        "{} {}",
        refused.status,
        refused.text
    );
    reads_work(&server);
    // It ends as ever, and keeps what it could not put in order.
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < ENDED_WITHIN, "{:?}", begun.elapsed());
    server.disk().free();
    server.start_again();
    until_true("messages again", || {
        wire.send(&[("content", "message 77777")]).status == 200
    });
    server.crash_and_restart();
    let kept = kept(&server);
    let firsts: Vec<usize> = (0..3).chain(0..taken).collect();
    assert_eq!(kept[..firsts.len()], firsts, "each that was acknowledged");
    assert_eq!(kept.last(), Some(&77_777));
    let again = json!({"hostname": "b", "kind": "local"});
    server.api().post("servers", &again).expect(201);
}

/// Fault 19: something else holds the database.
#[test]
fn a_locked_database_is_waited_for_within_a_bound_and_reading_goes_on() {
    let server = Longshore::settings().start();
    let api = server.api();
    let path = database(&server);
    let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN EXCLUSIVE").unwrap();
    let begun = Instant::now();
    let refused = api.post("servers", &json!({"hostname": "a", "kind": "local"}));
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert!(
        !refused.header("retry-after").is_empty(),
        "{}",
        refused.text
    );
    reads_work(&server);
    other.batch_execute("ROLLBACK").unwrap();
    api.post("servers", &json!({"hostname": "a", "kind": "local"}))
        .expect(201);
    assert_eq!(server.wire("ann").send(&[("content", "hi")]).status, 200);
}

/// Fault 34: a page of the database was overwritten.
#[test]
fn a_damaged_database_is_refused_at_the_start_and_kept() {
    let mut server = Longshore::settings().start();
    let wire = server.wire("ann");
    assert_eq!(say_until_refused(&wire, 50), (50, 200));
    server.stop();
    let path = database(&server);
    let mut whole = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let all = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE";
    whole.batch_execute(all).unwrap();
    drop(whole);
    let sound = fs::read(&path).unwrap();
    for page in [0, 1, sound.len() / 4096 / 2] {
        let mut damaged = sound.clone();
        let from = page * 4096;
        damaged[from..from + 2048].fill(0x5a);
        fs::write(&path, &damaged).unwrap();
        let (code, said) = server.start_in_vain();
        assert_ne!(code, 0, "{said}");
        assert!(said.contains("longshore.db"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(
            fs::read(&path).unwrap() == damaged,
            "page {page} was touched"
        );
    }
    fs::write(&path, &sound).unwrap();
    server.start_again();
    assert_eq!(kept(&server).len(), 50);
}

/// Fault 35: the data folder cannot be written.
#[test]
fn a_data_folder_that_is_read_only_is_named_at_the_start() {
    let mut server = Longshore::settings().on_small_disk().start();
    let wire = server.wire("ann");
    assert_eq!(say_until_refused(&wire, 3), (3, 200));
    server.stop();
    server.disk().remount("ro");
    let (code, said) = server.start_in_vain();
    assert_ne!(code, 0, "{said}");
    let data = server.data().canonicalize().unwrap();
    assert!(said.contains(data.to_str().unwrap()), "{said}");
    assert!(said.to_lowercase().contains("read-only"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    server.disk().remount("rw");
    server.start_again();
    assert_eq!(kept(&server), [0, 1, 2]);
}

/// Makes system calls of a running process fail.
struct Injected(Process);

impl Injected {
    fn into(server: &Longshore, fault: &str) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let pid = server.pid();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-o", "/dev/null", "-p", &pid.to_string()]);
        strace.args(["-e", &format!("inject={fault}")]);
        let process = Process::start("strace", &mut strace, log.path());
        let is_traced = |thread: fs::DirEntry| {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        until_true("every thread's tracer", || {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            threads.flatten().all(is_traced)
        });
        Self(process)
    }
}

/// Fault 47: the disk fails as it is written to or flushed.
#[test]
fn what_could_not_be_written_or_flushed_is_not_acknowledged() {
    for fault in [
        "fsync,fdatasync:error=EIO",
        "pwrite64:error=EIO",
        "pwrite64:error=ENOSPC",
    ] {
        let mut server = Longshore::settings().set("log_sync", "always").start();
        let wire = server.wire("ann");
        assert_eq!(say_until_refused(&wire, 3), (3, 200));
        let injected = Injected::into(&server, fault);
        let mut acknowledged = 0;
        for number in 100..105 {
            let content = format!("message {number}");
            let status = wire.send(&[("content", &content)]).status;
            assert!(status == 503 || status == 200, "{fault}: {status}");
            acknowledged += usize::from(status == 200);
        }
        assert_eq!(acknowledged, 0, "{fault}");
        drop(injected.0);
        until_true("messages again", || {
            if !server.is_running() {
                server.start_again();
            }
            wire.send(&[("content", "message 200")]).status == 200
        });
        server.crash_and_restart();
        let kept = kept(&server);
        assert_eq!(kept[..3], [0, 1, 2], "{fault}");
        assert_eq!(kept.last(), Some(&200), "{fault}");
    }
}

/// A database of the first version, with an account, as that version left it.
fn first_version(path: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let text = fs::read_to_string(folder.join(&names[0]).join("up.sql")).unwrap();
    let (version, _) = names[0].split_once('_').unwrap();
    let version = version.replace('-', "");
    let mut database = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    database
        .batch_execute(&format!(
            "PRAGMA journal_mode = WAL; BEGIN; {text};
             CREATE TABLE __diesel_schema_migrations (
               version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
             INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}');
             INSERT INTO servers (hostname, host, port, user, kind, root, created_at, updated_at)
               VALUES ('kept', '192.0.2.1', 22, 'deploy', 'ssh', '/', 0, 0);
             COMMIT;"
        ))
        .unwrap();
}

/// Fault 46: the platform is killed while it brings its database to the present version.
#[test]
fn a_kill_in_any_write_of_a_migration_leaves_a_database_that_starts() {
    let mut server = Longshore::settings().start();
    server.stop();
    let path = database(&server);
    let replace = || {
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{end}", path.display()));
        }
        first_version(&path);
    };
    let mut kills = 0;
    for write in (1..12).chain((12..400).step_by(41)) {
        replace();
        let inject = format!("inject=pwrite64:signal=SIGKILL:when={write}");
        let under = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=pwrite64",
            "-e",
            &inject,
        ];
        if !server.start_under_in_vain(&under) {
            break;
        }
        kills += 1;
        server.command(
            &[
                "user",
                "add",
                "after",
                "--role",
                "admin",
                "--password-stdin",
            ],
            "correct horse battery\n",
        );
        let token = server.command(&["token", "create", "after"], "");
        server.start_again();
        let api = crate::fixture::Api::new(&server.url, token.trim());
        let servers = api.get("servers").expect(200);
        assert_eq!(servers[0]["hostname"], "kept", "after write {write}");
        server.crash();
    }
    assert!(kills >= 10, "{kills}");
}

/// Fault 32: the platform stands still in the middle of a release, and goes on.
#[test]
fn a_platform_that_stood_still_runs_nothing_twice() {
    use crate::fixture::{Fleet, Gate, shared_folder};
    use rustix::process::{Pid, Signal, kill_process};
    let fleet = Fleet::of(1);
    let gate = Gate::closed();
    let folder = shared_folder();
    let count = folder.path().join("count");
    let restart = format!("echo ran >>{}; {}", count.display(), gate.command());
    let project = fleet.project(json!({"restart": restart}));
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    let pid = Pid::from_raw(i32::try_from(fleet.longshore.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    gate.open();
    // As long as a machine that is moved to another one may stand still.
    std::thread::sleep(Duration::from_secs(5));
    kill_process(pid, Signal::CONT).unwrap();
    let release = fleet.ended(&id);
    assert_eq!(release["state"], "succeeded", "{release}");
    assert_eq!(fs::read_to_string(&count).unwrap(), "ran\n");
    assert_eq!(fleet.machines[0].current(), Some(id));
}

/// Fault 8: two people, or one who clicks twice.
#[test]
fn of_fifty_who_ask_at_once_one_gets_a_release() {
    use crate::fixture::{Fleet, Gate};
    let fleet = Fleet::of(1);
    let gate = Gate::closed();
    let project = fleet.project(json!({"build": gate.command()}));
    let order = json!({"project_id": project, "ref": "main"});
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || fleet.longshore.api().post("releases", &order).status;
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = |status| statuses.iter().filter(|&&one| one == status).count();
    assert_eq!((count(201), count(409)), (1, 49), "{statuses:?}");
    gate.open();
    let id = fleet.api.get("releases").expect(200)[0]["id"].clone();
    let release = fleet.ended(id.as_str().unwrap());
    assert_eq!(release["state"], "succeeded", "{release}");
    let all = fleet.api.get("releases").expect(200);
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
}

/// Faults 15, 16, 17: the platform is killed in each step of a release.
#[test]
fn a_kill_in_any_step_leaves_one_whole_release_live_and_says_where_it_was() {
    use crate::fixture::{Fleet, Gate};
    let mut fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let mut live = fleet.succeed(&project, "v1");
    let path = format!("projects/{project}");
    for (hook, switched) in [
        ("before_download", false),
        ("build", false),
        ("before_deploy", false),
        ("restart", true),
        ("after_deploy", true),
    ] {
        let gate = Gate::closed();
        fleet
            .api
            .put(&path, &json!({hook: gate.command()}))
            .expect(200);
        let id = fleet.submit(&project, "main");
        gate.wait_until_reached();
        fleet.longshore.crash_and_restart();
        let release = fleet.look(&id);
        assert_eq!(release["state"], "interrupted", "{hook}: {release}");
        let message = release["message"].as_str().unwrap();
        assert!(message.contains("stopped"), "{hook}: {message}");
        if switched {
            live = id.clone();
        }
        assert_eq!(fleet.machines[0].current(), Some(live.clone()), "{hook}");
        assert!(fleet.machines[0].shown().is_some(), "{hook}");
        let states: Vec<String> = fleet
            .tree(&id)
            .iter()
            .map(|row| row["state"].as_str().unwrap().to_owned())
            .collect();
        let open = states.iter().any(|it| it == "running" || it == "waiting");
        assert!(!open, "{hook}: {states:?}");
        gate.open();
        drop(gate);
        fleet.api.put(&path, &json!({hook: ""})).expect(200);
        live = fleet.succeed(&project, "v1");
        assert_eq!(fleet.machines[0].current(), Some(live.clone()), "{hook}");
    }
}

/// Fault 4: a hook that never stops talking, and would tell what the platform knows.
#[test]
fn endless_output_costs_a_bounded_amount_and_shows_no_secret() {
    use crate::fixture::Fleet;
    let settings = Longshore::settings()
        .set("node_log_bytes", "1000000")
        .variable("PLATFORM_SECRET", "barley-sugar");
    let fleet = Fleet::with(1, settings);
    let talk = "env; cat /proc/$PPID/environ; head -c 100000000 /dev/zero | tr '\\0' y; yes | head -c 100000000";
    let project = fleet.project(json!({"build": talk, "restart": talk}));
    let before = fleet.longshore.memory();
    let id = fleet.submit(&project, "main");
    let mut most = 0;
    until("the release's end", || {
        most = most.max(fleet.longshore.memory());
        let release = fleet.look(&id);
        (release["state"] != "queued" && release["state"] != "running").then_some(())
    });
    assert!(most < before + 64 * 1024, "{before} to {most} KiB");
    for key in ["compile", "restart-1"] {
        let log = fleet.node_log(&id, key);
        assert!(log.len() < 1_100_000, "{key}: {} bytes", log.len());
        assert!(!log.contains("barley"), "{key}");
    }
}
