//! The wire's full contract over real sockets.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Longshore, messages, raw_request, until};

fn chat() -> Longshore {
    Longshore::settings().start()
}

/// The JSON body of the raw answer on `stream`.
fn body(mut stream: std::net::TcpStream) -> Value {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let body = text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body)
        .unwrap_or_default();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// True if nothing comes on this connection for 700 ms.
fn is_held(stream: &mut std::net::TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    let held = stream
        .read(&mut [0; 1])
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream
        .set_read_timeout(Some(Duration::from_secs(90)))
        .unwrap();
    held
}

#[test]
fn a_poll_is_held_until_a_message_comes() {
    let server = chat();
    let (ann, bob) = (server.wire("ann"), server.wire("bob"));
    let after = ann.now("chat");
    let mut parked = raw_request(
        &server.url,
        &format!("GET /get_msg?name=ann&room=chat&after={after}"),
    );
    assert!(is_held(&mut parked));
    let sent = Instant::now();
    bob.say("你好");
    let reply = body(parked);
    assert!(
        sent.elapsed() < Duration::from_secs(5),
        "{:?}",
        sent.elapsed()
    );
    assert_eq!(reply["status"], true);
    let message = &reply["messages"][0];
    assert_eq!(
        (
            &message["room"],
            &message["kind"],
            &message["data"],
            &message["from"]
        ),
        (
            &json!("chat"),
            &json!("message"),
            &json!("你好"),
            &json!("bob")
        ),
        "{reply}"
    );
    assert!(
        message["id"].as_str().unwrap().parse::<u64>().is_ok(),
        "{reply}"
    );
    assert!(message["at"].as_str().unwrap().ends_with('Z'), "{reply}");
}

#[test]
fn a_poll_is_answered_empty_at_its_time_out() {
    let server = chat();
    let ann = server.wire("ann");
    let after = ann.now("chat");
    for path in ["get_msg", "get_msg/"] {
        let start = Instant::now();
        let answer = ann.get_msg(&[("room", "chat"), ("after", &after), ("wait", "1")]);
        assert!(
            start.elapsed() >= Duration::from_millis(850),
            "{path}: {:?}",
            start.elapsed()
        );
        assert_eq!(answer.header("cache-control"), "no-store, no-transform");
        assert_eq!(answer.header("x-accel-buffering"), "no");
        assert!(!answer.header("content-length").is_empty());
        let reply = answer.expect(200);
        assert_eq!(
            (&reply["status"], &reply["messages"]),
            (&json!(false), &json!([]))
        );
        assert!(reply["cursor"].is_string());
    }
    let start = Instant::now();
    ann.poll(&[("room", "chat"), ("after", &after), ("wait", "0")]);
    ann.poll(&[("room", "chat"), ("after", "now"), ("wait", "30")]);
    assert!(start.elapsed() < Duration::from_secs(10), "neither waits");
}

#[test]
fn a_reply_lost_on_the_way_is_delivered_again_by_the_old_cursor() {
    let server = chat();
    let (ann, bob) = (server.wire("ann"), server.wire("bob"));
    let mut cursor = ann.now("chat");
    let mut got = Vec::new();
    let mut said = Vec::new();
    for round in 0..25 {
        let text = format!("message {round}");
        let lost = raw_request(
            &server.url,
            &format!("GET /get_msg?name=ann&room=chat&after={cursor}"),
        );
        if round % 2 == 0 {
            bob.say(&text);
            drop(lost); // answered, and never read
        } else {
            drop(lost); // gone while it was parked
            bob.say(&text);
        }
        said.push(text);
        if round % 3 == 0 {
            got.extend(ann.drain("chat", &mut cursor));
        }
    }
    got.extend(ann.drain("chat", &mut cursor));
    assert_eq!(got, said);
    assert!(
        ann.drain("chat", &mut cursor).is_empty(),
        "each exactly once"
    );
}

#[test]
fn the_same_cursor_gives_the_same_messages_as_often_as_it_is_asked() {
    let server = chat();
    let ann = server.wire("ann");
    let after = ann.now("chat");
    server.wire("bob").say("once");
    for _ in 0..5 {
        let reply = ann.poll(&[("room", "chat"), ("after", &after)]);
        assert_eq!(messages(&reply), ["once"]);
    }
    let other = server.wire("eve");
    assert_eq!(
        messages(&other.poll(&[("room", "chat"), ("after", &after)])),
        ["once"],
        "and anybody may"
    );
}

#[test]
fn a_full_queue_loses_nothing() {
    let server = Longshore::settings().set("queue_messages", "4").start();
    let (ann, bob) = (server.wire("ann"), server.wire("bob"));
    let mut cursor = ann.now("chat");
    // Registers ann's queue, which is then left to overflow.
    ann.poll(&[("room", "chat"), ("after", &cursor), ("wait", "0")]);
    let said: Vec<String> = (0..20).map(|number| format!("message {number}")).collect();
    said.iter().for_each(|text| bob.say(text));
    assert_eq!(ann.drain("chat", &mut cursor), said);
    bob.say("after the flood");
    assert_eq!(ann.drain("chat", &mut cursor), ["after the flood"]);
}

#[test]
fn large_messages_come_in_several_replies() {
    let server = chat();
    let ann = server.wire("ann");
    let mut cursor = ann.now("chat");
    let said: Vec<String> = ["a", "好", "c", "d"]
        .iter()
        .map(|word| word.repeat(30_000 / word.len()))
        .collect();
    said.iter().for_each(|text| ann.say(text));
    let first = ann.get_msg(&[("room", "chat"), ("after", &cursor)]);
    assert!(first.text.len() <= 64 * 1024 + 200, "{}", first.text.len());
    assert_eq!(first.json()["more"], true);
    assert_eq!(ann.drain("chat", &mut cursor), said);
}

#[test]
fn cursors_outlive_a_restart_and_a_kill() {
    let mut server = chat();
    let (ann, bob) = (server.wire("ann"), server.wire("bob"));
    let start = ann.now("chat");
    bob.say("before");
    server.restart();
    let mut cursor = start.clone();
    assert_eq!(ann.drain("chat", &mut cursor), ["before"]);
    let said: Vec<String> = (0..30).map(|number| format!("message {number}")).collect();
    said.iter().for_each(|text| bob.say(text));
    server.crash_and_restart();
    assert_eq!(
        ann.drain("chat", &mut cursor),
        said,
        "what was answered with 200 is kept"
    );
    bob.say("after");
    assert_eq!(ann.drain("chat", &mut cursor), ["after"]);
    let mut all = vec!["before".to_owned()];
    all.extend(said);
    all.push("after".to_owned());
    assert_eq!(ann.drain("chat", &mut start.clone()), all);
}

#[test]
fn a_poll_that_is_parked_at_a_restart_is_answered() {
    let mut server = chat();
    let ann = server.wire("ann");
    let after = ann.now("chat");
    let mut parked = raw_request(
        &server.url,
        &format!("GET /get_msg?name=ann&room=chat&after={after}&wait=60"),
    );
    assert!(is_held(&mut parked));
    server.restart();
    let reply = body(parked);
    assert_eq!(
        (&reply["status"], &reply["messages"]),
        (&json!(false), &json!([])),
        "{reply}"
    );
    server.wire("bob").say("back again");
    assert_eq!(
        ann.drain("chat", &mut reply["cursor"].as_str().unwrap().to_owned()),
        ["back again"]
    );
}

#[test]
fn what_a_room_no_longer_keeps_is_told_as_a_gap() {
    let mut server = Longshore::settings().set("room_messages", "10").start();
    let ann = server.wire("ann");
    let old = ann.now("chat");
    for number in 0..60 {
        ann.say(&format!("message {number}"));
    }
    // Old messages are swept out from time to time, and at every start.
    server.restart();
    let reply = until("the sweep", || {
        let reply = ann.poll(&[("room", "chat"), ("after", &old), ("wait", "30")]);
        reply["gap"].is_array().then_some(reply)
    });
    assert_eq!(reply["gap"], json!(["chat"]), "{reply}");
    let mut cursor = reply["cursor"].as_str().unwrap().to_owned();
    let rest = ann.drain("chat", &mut cursor);
    let kept = [messages(&reply), rest].concat();
    assert_eq!(
        kept.last().map(String::as_str),
        Some("message 59"),
        "{kept:?}"
    );
    let quiet = ann.poll(&[("room", "chat/quiet"), ("after", &old), ("wait", "0")]);
    assert!(
        quiet["gap"].is_null(),
        "a room that was only quiet has no gap: {quiet}"
    );
}

#[test]
fn past_four_polls_of_one_client_the_oldest_is_superseded() {
    let server = chat();
    let ann = server.wire("ann");
    let after = ann.now("chat");
    let poll = || {
        let mut stream = raw_request(
            &server.url,
            &format!("GET /get_msg?name=ann&room=chat&after={after}"),
        );
        assert!(is_held(&mut stream));
        stream
    };
    let oldest = poll();
    let parked: Vec<_> = (0..4).map(|_| poll()).collect();
    let ended = body(oldest);
    assert_eq!(
        (&ended["superseded"], &ended["status"]),
        (&json!(true), &json!(false)),
        "{ended}"
    );
    assert_eq!(ended["cursor"], json!(after), "its cursor is unchanged");
    assert!(
        (1000..=3000).contains(&ended["retry"].as_u64().unwrap()),
        "{ended}"
    );
    ann.say("to the others");
    for stream in parked {
        assert_eq!(messages(&body(stream)), ["to the others"]);
    }
}

#[test]
fn rooms_are_apart_and_names_are_no_keys() {
    let server = chat();
    let ann = server.wire("安娜 & co");
    let after = ann.now("chat");
    let sent = ann.send(&[
        ("content", "only there"),
        ("room", "chat/other"),
        ("name", &ann.name),
    ]);
    assert_eq!(sent.status, 200, "{}", sent.text);
    ann.say("here");
    let reply = ann.poll(&[("room", "chat"), ("after", &after)]);
    assert_eq!(messages(&reply), ["here"]);
    assert_eq!(reply["messages"][0]["from"], "安娜 & co");
    let both = ann.poll(&[("room", "chat"), ("room", "chat/other"), ("after", &after)]);
    assert_eq!(messages(&both), ["only there", "here"]);
    let ids: Vec<u64> = both["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(ids[0] < ids[1]);
}
