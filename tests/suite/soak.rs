//! A short soak: what a mixed load takes is given back, by name.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Events, Fleet, Longshore, raw_request, until_true};

const STREAMS: usize = 120;
const ROUNDS: usize = 3;
const POLLERS: usize = 40;
const READS: usize = 100;
const RELEASES: usize = 3;
/// The database's connections beside the first one, of three files each, which stay open.
const POOLED_FILES: usize = 7 * 3;

/// The hub's two minutes for a client that was answered, a round of its sweep, and more for a slow machine.
const KEPT: Duration = Duration::from_secs(180);

/// The sum of the server's counts under this name.
fn count(server: &Longshore, name: &str) -> u64 {
    let text = server.wire("metrics").get_json("/metrics").text;
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter(|rest| rest.starts_with([' ', '{']));
    let value = |rest: &str| rest.rsplit(' ').next()?.parse::<f64>().ok();
    values.filter_map(value).sum::<f64>() as u64
}

fn threads(server: &Longshore) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid()));
    tasks.expect("a running process").count()
}

/// Opens event streams one after another and breaks each off.
fn stream(fleet: &Fleet) {
    let token = format!("Authorization: Bearer {}", fleet.longshore.token);
    for number in 0..STREAMS {
        let path = format!("/events?name=stream-{number}&room=releases&room=chat");
        drop(Events::open(&fleet.longshore.url, &path, &token));
    }
}

/// Pollers in a room of their own, all of them parked before they are cut.
fn poll(server: &Longshore, round: usize) {
    let room = format!("chat/round-{round}");
    let after = server.wire("publisher").now(&room);
    let ask = |number| {
        let name = format!("poller-{round}-{number}");
        let path = format!("/get_msg?name={name}&room={room}&after={after}&wait=60");
        raw_request(&server.url, &format!("GET {path}\n"))
    };
    let polls: Vec<_> = (0..POLLERS).map(ask).collect();
    until_true("parked polls", || {
        count(server, "longshore_parked_polls") >= POLLERS as u64
    });
    drop(polls);
    // Else the message answers some of them before their cut is noticed.
    until_true("cut polls", || count(server, "longshore_parked_polls") == 0);
    let form = [("content", "hello"), ("room", &room), ("name", "publisher")];
    assert_eq!(server.wire("publisher").send(&form).status, 200);
}

/// Waits as long as a client is kept that was answered just before it was cut.
#[track_caller]
fn given_back(what: &str, is_given_back: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_given_back() {
        assert!(begun.elapsed() < KEPT, "{what} are not given back");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn what_a_mixed_load_takes_is_given_back() {
    let fleet = Fleet::of(1);
    let server = &fleet.longshore;
    let project = fleet.project(json!({"build": "date > built.txt"}));
    fleet.succeed(&project, "main");
    let before = (server.open_files(), threads(server));
    std::thread::scope(|scope| {
        scope.spawn(|| stream(&fleet));
        scope.spawn(|| (0..ROUNDS).for_each(|round| poll(server, round)));
        scope.spawn(|| {
            for _ in 0..READS {
                assert_eq!(fleet.api.get("releases").status, 200);
            }
        });
        for _ in 0..RELEASES {
            fleet.succeed(&project, "main");
        }
    });
    for (name, most) in [
        ("longshore_parked_polls", 0),
        // The publisher's own client and room are kept for two minutes after its last answer.
        ("longshore_clients", 1),
        ("longshore_rooms", 1),
    ] {
        given_back(name, || count(server, name) <= most);
    }
    until_true("closed files", || {
        server.open_files() <= before.0 + POOLED_FILES
    });
    until_true("ended threads", || threads(server) <= before.1);
}
