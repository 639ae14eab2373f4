//! A data folder that was put back from a copy: what was published since is another history.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::fixture::{Browser, Longshore, Wire};

/// A copy of everything in the server's data folder, as `cp -a` makes it.
struct Copy(TempDir);

fn replace(from: &Path, to: &Path) {
    let script = "find \"$2\" -mindepth 1 -delete && cp -a \"$1/.\" \"$2\"";
    let copied = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([from, to])
        .status();
    assert!(copied.expect("sh").success());
}

impl Copy {
    fn of(server: &Longshore) -> Self {
        let copy = tempfile::tempdir().expect("a temporary folder");
        replace(server.data(), copy.path());
        Self(copy)
    }

    fn put_back(&self, server: &mut Longshore) {
        server.stop();
        replace(self.0.path(), server.data());
        server.start_again();
    }
}

fn say(wire: &Wire, what: &str, count: usize) -> Vec<String> {
    let said: Vec<String> = (1..=count).map(|n| format!("{what} {n}")).collect();
    said.iter().for_each(|text| wire.say(text));
    said
}

/// The gap of a poll after `after`, its cursor and its messages.
fn gap_after(wire: &Wire, after: &str) -> bool {
    let reply = wire.poll(&[("room", "chat"), ("after", after), ("wait", "0")]);
    reply["gap"] == json!(["chat"])
}

#[test]
fn a_cursor_of_the_history_that_is_gone_says_gap_and_one_of_a_kept_start_does_not() {
    let mut server = Longshore::settings().start();
    let wire = server.wire("ann");
    let old = wire.now("chat");
    say(&wire, "kept", 5);
    let mut kept = wire.now("chat");
    server.stop();
    let copy = Copy::of(&server);

    server.start_again();
    let younger = say(&wire, "gone", 3);
    let mut on = kept.clone();
    assert_eq!(wire.drain("chat", &mut on), younger, "a restart is no gap");
    let young = wire.now("chat");
    say(&wire, "gone", 7);
    let gone = wire.now("chat");

    copy.put_back(&mut server);
    let after_restore = wire.now("chat");
    // The same numbers again, and more.
    let new = say(&wire, "new", 14);
    assert!(gap_after(&wire, &gone) && gap_after(&wire, &young));
    assert!(!gap_after(&wire, &old) && !gap_after(&wire, &after_restore));
    assert_eq!(wire.drain("chat", &mut kept), new);
    server.restart();
    assert!(gap_after(&wire, &gone), "also after another start");
    assert!(wire.drain("chat", &mut kept).is_empty());
}

#[test]
fn a_copy_of_a_running_server_knows_its_history_up_to_the_copy() {
    let mut server = Longshore::settings().set("log_sync", "always").start();
    let wire = server.wire("ann");
    say(&wire, "kept", 3);
    let mut kept = wire.now("chat");
    let copy = Copy::of(&server);
    say(&wire, "gone", 4);
    let gone = wire.now("chat");
    copy.put_back(&mut server);
    let new = say(&wire, "new", 9);
    assert!(gap_after(&wire, &gone));
    assert_eq!(wire.drain("chat", &mut kept), new);
}

#[test]
fn the_courses_page_goes_on_where_both_histories_are_one() {
    let mut server = Longshore::settings().set("log_sync", "always").start();
    let page = server.wire("jason");
    page.open_home();
    page.say("kept");
    let copy = Copy::of(&server);
    assert_eq!(page.course_poll()["msg"], "kept");
    for text in ["gone 1", "gone 2"] {
        page.say(text);
        assert_eq!(page.course_poll()["msg"], text);
    }
    copy.put_back(&mut server);
    let new = say(&page, "new", 3);
    for text in new {
        assert_eq!(page.course_poll()["msg"], text);
    }
}

#[test]
fn a_page_that_is_told_of_the_gap_takes_the_new_historys_messages() {
    let mut server = Longshore::settings().start();
    let wire = server.wire("ann");
    let page = format!("{}/home/?name=eve", server.url);
    let browser = Browser::start();
    browser.open_page(&page, "");
    server.stop();
    let copy = Copy::of(&server);
    server.start_again();
    let transports = ["websocket", "sse", "longpoll", "poll"];
    for transport in transports {
        let place = format!("window.{transport}");
        browser.subscribe_as(&place, &format!("transports: ['{transport}']"));
        browser.wait_for(&format!("{transport}.transport === '{transport}'"));
    }
    let gone = say(&wire, "gone", 10);
    for transport in transports {
        browser.assert_got(transport, &gone);
    }

    copy.put_back(&mut server);
    for transport in transports {
        browser.wait_for(&format!("{transport}.gaps.length > 0"));
    }
    // Fewer than were gone: their numbers are all below the highest of before.
    let new = say(&wire, "new", 4);
    let all: Vec<String> = gone.into_iter().chain(new).collect();
    for transport in transports {
        browser.assert_got(transport, &all);
        assert_eq!(
            browser.script(&format!("return {transport}.gaps;")),
            json!([["chat"]]),
            "{transport}"
        );
    }
    // A plain restart is neither a gap nor a reason to take anything twice.
    server.restart();
    let later = say(&wire, "later", 3);
    let all: Vec<String> = all.into_iter().chain(later).collect();
    for transport in transports {
        browser.assert_got(transport, &all);
    }
}
