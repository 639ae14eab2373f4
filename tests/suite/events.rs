//! Server-Sent Events over real sockets.

use serde_json::json;

use crate::fixture::{Events, Longshore, until};

fn chat() -> Longshore {
    Longshore::settings().start()
}

#[test]
fn a_stream_begins_with_its_cursor_and_tells_each_message() {
    let server = chat();
    let bob = server.wire("bob");
    for path in ["/events", "/events/"] {
        let path = format!("{path}?name=ann&room=chat&room=chat/side");
        let mut stream = Events::open(&server.url, &path, "");
        for line in [
            "content-type: text/event-stream",
            "cache-control: no-store, no-transform",
            "x-accel-buffering: no",
        ] {
            assert!(stream.head.contains(line), "{}", stream.head);
        }
        let first = stream.expect("cursor");
        assert_eq!(first.json(), json!({ "cursor": first.id }));
        assert!(stream.retry.is_some_and(|retry| retry <= 3000));
        bob.say("你好\r\n<b>");
        let message = stream.expect("message");
        let told = message.json();
        assert_eq!(
            (&told["room"], &told["kind"], &told["from"], &told["data"]),
            (
                &json!("chat"),
                &json!("message"),
                &json!("bob"),
                &json!("你好\r\n<b>")
            )
        );
        assert_ne!(message.id, first.id);
        bob.send(&[("content", "aside"), ("room", "chat/side"), ("name", "bob")]);
        assert_eq!(stream.texts(1), ["aside"]);
    }
    let mut plain = Events::open(&server.url, "/events?name=ann", "");
    plain.expect("cursor");
    bob.say("no room means chat");
    assert_eq!(plain.texts(1), ["no room means chat"]);
}

#[test]
fn a_stream_that_breaks_off_anywhere_loses_and_repeats_nothing() {
    const MESSAGES: usize = 400;
    let server = chat();
    let start = server.wire("ann").now("chat");
    let bob = server.wire("bob");
    let sender = std::thread::spawn(move || {
        for number in 0..MESSAGES {
            bob.say(&format!("message {number}"));
        }
    });
    let mut got: Vec<String> = Vec::new();
    let (mut last, mut cuts, mut inside) = (start, 0_u64, 0);
    while got.len() < MESSAGES {
        // The query goes on naming where the page began, as a browser's does.
        let (path, headers) = match cuts % 2 {
            0 => (
                format!("/events?name=ann&room=chat&after={last}"),
                String::new(),
            ),
            _ => (
                "/events?name=ann&room=chat&after=start".to_owned(),
                format!("Last-Event-ID: {last}\n"),
            ),
        };
        let stream = Events::open(&server.url, &path, &headers);
        // Past the comment at the beginning; somewhere else each time.
        let events = stream.cut_after(2120 + cuts * 137 % 1900);
        inside += usize::from(events.len() > 2);
        for event in events {
            if event.name == "message" {
                got.push(event.json()["data"].as_str().unwrap().to_owned());
            } else {
                assert_eq!((event.name.as_str(), &event.id), ("cursor", &last));
            }
            last = event.id;
        }
        cuts += 1;
    }
    sender.join().unwrap();
    let all: Vec<String> = (0..MESSAGES).map(|n| format!("message {n}")).collect();
    assert_eq!(got, all);
    assert!(
        cuts > 30 && inside > 15,
        "{cuts} cuts, {inside} inside of batches"
    );
}

#[test]
fn a_stream_goes_on_across_a_crash_of_the_server() {
    let mut server = chat();
    let bob = server.wire("bob");
    let mut stream = Events::open(&server.url, "/events?name=ann&room=chat", "");
    stream.expect("cursor");
    bob.say("one");
    bob.say("two");
    let one = stream.expect("message");
    server.crash_and_restart();
    bob.say("three");
    let headers = format!("Last-Event-ID: {}\n", one.id);
    let mut stream = Events::open(&server.url, "/events?name=ann&room=chat", &headers);
    assert_eq!(stream.expect("cursor").id, one.id);
    assert_eq!(stream.texts(2), ["two", "three"]);
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
    let path = format!("/events?name=ann&room=chat&room=chat/quiet&after={old}");
    let (gap, mut stream) = until("the sweep", || {
        let mut stream = Events::open(&server.url, &path, "");
        assert_eq!(stream.expect("cursor").id, old);
        let event = stream.next()?;
        (event.name == "gap").then_some((event, stream))
    });
    assert_eq!(gap.json(), json!({"rooms": ["chat"], "cursor": gap.id}));
    let kept: Vec<String> = (50..60).map(|n| format!("message {n}")).collect();
    assert_eq!(stream.texts(10), kept);
    // From the gap on, nothing that was kept is lost.
    let headers = format!("Last-Event-ID: {}\n", gap.id);
    let mut again = Events::open(&server.url, "/events?name=ann&room=chat", &headers);
    again.expect("cursor");
    let mut next = again.next().unwrap();
    if next.name == "gap" {
        next = again.next().unwrap();
    }
    assert_eq!(next.json()["data"], "message 50");
    let of_another_log = "/events?name=ann&room=chat&after=another.7";
    let mut stream = Events::open(&server.url, of_another_log, "");
    assert_eq!(stream.expect("cursor").id, "another.7");
    let gap = stream.expect("gap");
    assert_eq!(gap.json(), json!({"rooms": ["chat"], "cursor": gap.id}));
    ann.say("after the gap");
    assert_eq!(stream.texts(1), ["after the gap"]);
}

#[test]
fn refusals_are_json_and_come_before_the_stream() {
    let server = chat();
    for (path, headers, status, field) in [
        ("/events", "", 400, "name"),
        ("/events?name=ann&room=chat&after=x", "", 400, "after"),
        (
            "/events?name=ann",
            "Last-Event-ID: x\n",
            400,
            "last-event-id",
        ),
        ("/events?name=ann&room=nope", "", 422, "room"),
        ("/events?name=", "", 422, "name"),
        ("/events?name=ann&room=release/1", "", 401, "room"),
        ("/events?name=ann&room=releases", "", 401, "room"),
        (
            "/events?name=ann",
            "Origin: http://evil.example\n",
            403,
            "origin",
        ),
        (
            "/events/?name=ann",
            "Referer: http://evil.example/x\n",
            403,
            "origin",
        ),
        ("/events/?name=ann", "Origin: null\n", 403, "origin"),
        ("/ws/?name=ann", "", 426, "upgrade"),
        ("/chat", "", 426, "upgrade"),
    ] {
        let (refused, error) = Events::refused(&server.url, path, headers);
        assert_eq!(
            (refused, &error["field"]),
            (status, &json!(field)),
            "{path} {headers}"
        );
        assert!(error["code"].is_string() && error["message"].is_string());
    }
    for path in ["/events?name=ann", "/ws/?name=ann", "/chat/"] {
        let mut answer = ureq::post(format!("{}{path}", server.url))
            .config()
            .http_status_as_error(false)
            .build()
            .send_empty()
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &"GET".parse().unwrap())
        );
        let error: serde_json::Value = answer.body_mut().read_json().unwrap();
        assert_eq!(error["code"], "method_not_allowed");
    }
}

#[test]
fn past_four_streams_of_one_client_the_oldest_ends() {
    let server = chat();
    let open = || {
        let mut stream = Events::open(&server.url, "/events?name=ann&room=chat", "");
        stream.expect("cursor");
        stream
    };
    let mut streams: Vec<Events> = (0..5).map(|_| open()).collect();
    let mut oldest = streams.remove(0);
    oldest.expect("retry");
    assert_eq!(oldest.next(), None);
    assert!(
        oldest
            .retry
            .is_some_and(|retry| (1000..=3000).contains(&retry))
    );
    server.wire("bob").say("hi");
    for stream in &mut streams {
        assert_eq!(stream.texts(1), ["hi"]);
    }
}
