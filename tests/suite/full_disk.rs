//! A data folder that cannot be written to for a while: its disk is full, or somebody else has the database.

use std::thread::sleep;
use std::time::Duration;

use diesel::Connection as _;
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection as _;
use serde_json::{Value, json};

use crate::fixture::{Answer, Fleet, Gate, Longshore, until, until_true};

/// The time for which the disk stays full.
const FULL_FOR: Duration = Duration::from_secs(3);
/// The bound of a release's end once it can be written.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// Another program that has the database for itself.
struct Lock(SqliteConnection);

impl Lock {
    fn take(longshore: &Longshore) -> Self {
        let path = longshore.data().join("longshore.db");
        let path = path.to_str().expect("plain text");
        let mut connection = SqliteConnection::establish(path).expect("the database");
        until_true("the database's lock", || {
            connection.batch_execute("BEGIN EXCLUSIVE").is_ok()
        });
        Self(connection)
    }

    fn give_back(mut self) {
        self.0
            .batch_execute("ROLLBACK")
            .expect("an open transaction");
    }
}

/// A release whose build is held up at a gate.
fn held_build(fleet: &Fleet, gate: &Gate) -> (String, String) {
    let project = fleet.project(json!({"build": gate.command()}));
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    (project, id)
}

#[track_caller]
fn assert_ends(fleet: &Fleet, id: &str, state: &str) {
    let begun = std::time::Instant::now();
    let release = fleet.ended(id);
    assert!(begun.elapsed() < ENDED_WITHIN, "{:?}", begun.elapsed());
    assert_eq!(release["state"], state, "{release}");
    for row in fleet.tree(id) {
        let state = row["state"].as_str().expect("a state");
        assert!(!["waiting", "running"].contains(&state), "{row}");
    }
}

#[test]
fn a_release_goes_on_when_the_full_disk_of_its_build_has_room_again() {
    let fleet = Fleet::with(1, Longshore::settings().on_small_disk());
    let gate = Gate::closed();
    let (project, id) = held_build(&fleet, &gate);
    fleet.longshore.disk().fill();
    gate.open();
    sleep(FULL_FOR);
    fleet.longshore.disk().free();
    assert_ends(&fleet, &id, "succeeded");
    fleet.succeed(&project, "main");
}

#[test]
fn a_release_that_is_cancelled_while_the_disk_is_full_is_cancelled() {
    let fleet = Fleet::with(1, Longshore::settings().on_small_disk());
    let gate = Gate::closed();
    let (project, id) = held_build(&fleet, &gate);
    fleet.longshore.disk().fill();
    let cancelled = fleet.api.post(&format!("releases/{id}/cancel"), &json!({}));
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    sleep(FULL_FOR);
    fleet.longshore.disk().free();
    assert_ends(&fleet, &id, "cancelled");
    gate.open();
    fleet.succeed(&project, "main");
}

#[test]
fn a_release_goes_on_when_its_locked_database_is_free_again() {
    let fleet = Fleet::of(1);
    let gate = Gate::closed();
    let (project, id) = held_build(&fleet, &gate);
    let lock = Lock::take(&fleet.longshore);
    gate.open();
    until_true("a write that failed", || {
        fleet.longshore.log().contains("database is locked")
    });
    lock.give_back();
    assert_ends(&fleet, &id, "succeeded");
    fleet.succeed(&project, "main");
}

/// Sound values, as long as they may be: no page of the database has room for them.
fn new_credential(number: usize) -> Value {
    let secret = "s".repeat(900);
    json!({"name": format!("key {number}"), "kind": "password", "secret": secret})
}

#[track_caller]
fn assert_disk_full(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text);
    let body = answer.json();
    assert_eq!(body["code"], "disk_full", "{body}");
    assert!(!answer.header("retry-after").is_empty());
}

#[test]
fn a_request_that_the_full_disk_has_no_room_for_is_told_so_and_saves_nothing() {
    let longshore = Longshore::settings().on_small_disk().start();
    let api = longshore.api();
    let names = || {
        let all = api.get("credentials").expect(200);
        let all = all.as_array().expect("a list").iter();
        let mut names: Vec<Value> = all.map(|one| one["name"].clone()).collect();
        names.sort_by_key(Value::to_string);
        names
    };
    longshore.disk().fill();
    // Takes the room that is left in the files first.
    let mut saved = Vec::new();
    let refused = until("a disk that is full", || {
        let new = new_credential(saved.len());
        let answer = api.post("credentials", &new);
        if answer.status != 201 {
            return Some(answer);
        }
        saved.push(new["name"].clone());
        None
    });
    assert_disk_full(&refused);
    assert_disk_full(&api.post("credentials", &new_credential(4711)));
    saved.sort_by_key(Value::to_string);
    assert_eq!(names(), saved);

    longshore.disk().free();
    api.create("credentials", &new_credential(4711));
    assert!(names().contains(&json!("key 4711")));
}

#[test]
fn a_message_that_the_full_disk_has_no_room_for_is_refused_and_the_next_one_is_taken() {
    let longshore = Longshore::settings()
        .set("log_sync", "always")
        .on_small_disk()
        .start();
    let wire = longshore.wire("ann");
    let mut cursor = wire.now("chat");
    longshore.disk().fill();
    let send = |text: &str| {
        let form = [("content", text), ("room", "chat")];
        wire.send(&form)
    };
    let long = "a".repeat(30_000);
    let mut taken = Vec::new();
    let refused = until("a disk that is full", || {
        let text = format!("{} {long}", taken.len());
        let answer = send(&text);
        if answer.status != 200 {
            return Some(answer);
        }
        taken.push(text);
        None
    });
    assert_disk_full(&refused);
    longshore.disk().free();
    until_true("a message that is taken", || send("last").status == 200);
    taken.push("last".to_owned());
    assert_eq!(wire.drain("chat", &mut cursor), taken);
}
