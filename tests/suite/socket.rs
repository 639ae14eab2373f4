//! WebSockets: `/ws`, and the course's `/chat/`.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::fixture::{Longshore, Socket};

fn chat() -> Longshore {
    Longshore::settings().start()
}

#[test]
fn a_socket_begins_with_its_cursor_and_tells_each_message() {
    let server = chat();
    let bob = server.wire("bob");
    for path in ["/ws", "/ws/"] {
        let mut ann = Socket::open(&server.url, &format!("{path}?name=ann&room=chat"));
        let first = ann.json();
        assert!(first["cursor"].is_string(), "{first}");
        bob.say("你好");
        let told = ann.json();
        assert_eq!(
            (&told["room"], &told["kind"], &told["from"], &told["data"]),
            (
                &json!("chat"),
                &json!("message"),
                &json!("bob"),
                &json!("你好")
            )
        );
        assert!(told["id"].is_string() && told["at"].is_string(), "{told}");
        assert_ne!(told["cursor"], first["cursor"]);
    }
}

#[test]
fn a_socket_that_breaks_anywhere_loses_and_repeats_nothing() {
    const MESSAGES: usize = 400;
    let server = chat();
    let mut last = server.wire("ann").now("chat");
    let bob = server.wire("bob");
    let sender = std::thread::spawn(move || {
        for number in 0..MESSAGES {
            bob.say(&format!("message {number}"));
        }
    });
    let (mut got, mut cuts) = (Vec::new(), 0_usize);
    while got.len() < MESSAGES {
        let path = format!("/ws?name=ann&room=chat&after={last}");
        let mut ann = Socket::open(&server.url, &path);
        assert_eq!(ann.json(), json!({ "cursor": last }));
        for _ in 0..(cuts * 7 % 13).min(MESSAGES - got.len()) {
            let told = ann.json();
            got.push(told["data"].as_str().unwrap().to_owned());
            last = told["cursor"].as_str().unwrap().to_owned();
        }
        cuts += 1;
    }
    sender.join().unwrap();
    let all: Vec<String> = (0..MESSAGES).map(|n| format!("message {n}")).collect();
    assert_eq!(got, all);
    assert!(cuts > 50, "{cuts} cuts");
}

#[test]
fn what_is_gone_is_told_as_a_gap() {
    let server = chat();
    let path = "/ws?name=ann&room=chat&room=chat/side&after=another.7";
    let mut ann = Socket::open(&server.url, path);
    assert_eq!(ann.json(), json!({ "cursor": "another.7" }));
    let gap = ann.json();
    assert_eq!(gap["gap"], json!(["chat", "chat/side"]));
    let cursor = gap["cursor"].as_str().unwrap();
    server.wire("bob").say("after the gap");
    assert_eq!(ann.json()["data"], "after the gap");
    let mut again = Socket::open(
        &server.url,
        &format!("/ws?name=ann&room=chat&after={cursor}"),
    );
    again.json();
    assert_eq!(again.json()["data"], "after the gap");
}

#[test]
fn a_client_publishes_through_its_socket() {
    let server = chat();
    let mut ann = Socket::open(&server.url, "/ws?name=ann&room=chat&room=vote/lunch");
    let mut bob = Socket::open(&server.url, "/ws?name=bob&room=chat&room=vote/lunch");
    ann.json();
    bob.json();
    ann.say(r#"{"content":"hi","ref":{"n":1}}"#);
    let told = bob.json();
    assert_eq!(
        (&told["from"], &told["data"]),
        (&json!("ann"), &json!("hi"))
    );
    let two = [ann.json(), ann.json()];
    let accepted = two.iter().find(|frame| frame["sent"] == true).unwrap();
    assert_eq!(
        *accepted,
        json!({"id": told["id"], "sent": true, "ref": {"n": 1}})
    );
    assert!(two.contains(&told), "the sender hears it too");
    ann.say_in_pieces(r#"{"content":"so"#, r#"up","room":"vote/lunch"}"#);
    let told = bob.json();
    assert_eq!(
        (&told["kind"], &told["data"]),
        (&json!("vote"), &json!("soup"))
    );
}

/// A message of so many bytes with its envelope.
fn frame_of(bytes: usize) -> String {
    let envelope = json!({ "content": "", "ref": 1 }).to_string().len();
    json!({ "content": "x".repeat(bytes - envelope), "ref": 1 }).to_string()
}

#[test]
fn what_cannot_be_published_is_told_and_the_socket_goes_on() {
    let server = chat();
    let mut ann = Socket::open(&server.url, "/ws?name=ann&room=chat");
    ann.json();
    for (frame, code, field) in [
        ("{", "malformed", ""),
        ("[1]", "malformed", ""),
        ("null", "malformed", ""),
        ("", "malformed", ""),
        (r#"{"content":1}"#, "malformed", "content"),
        (r#"{"room":"chat"}"#, "malformed", "content"),
        (r#"{"content":""}"#, "invalid", "content"),
        (r#"{"content":"x","room":"nope"}"#, "invalid", "room"),
        (r#"{"content":"x","room":"release/1"}"#, "forbidden", "room"),
        (r#"{"content":"x","name":""}"#, "invalid", "name"),
        (r#"{"ack":"x"}"#, "malformed", "ack"),
        (r#"{"ack":7}"#, "malformed", "ack"),
    ] {
        ann.say(frame);
        let error = ann.json();
        let frame = &frame[..frame.len().min(60)];
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!(code), &json!(field)),
            "{frame}"
        );
    }
    ann.say(&frame_of(64 << 10));
    let two = [ann.json(), ann.json()];
    assert!(two.iter().any(|frame| frame["sent"] == true));
    ann.say(r#"{"ping":[1,"x"]}"#);
    assert_eq!(ann.json(), json!({"pong": [1, "x"]}));
}

#[test]
fn frames_that_cannot_be_close_the_socket_and_say_why() {
    let server = chat();
    let garbled = || {
        use tungstenite::protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        };
        Message::Frame(Frame::message(
            vec![0xff, 0xfe],
            OpCode::Data(Data::Text),
            true,
        ))
    };
    for path in ["/ws?name=ann", "/chat/"] {
        for (message, code) in [
            (Message::text(frame_of((64 << 10) + 1)), 1009),
            (garbled(), 1007),
            (Message::binary(vec![1, 2, 3]), 1003),
        ] {
            let mut socket = Socket::open(&server.url, path);
            socket.send(message);
            assert_eq!(socket.closed(), code, "{path}");
        }
        let mut socket = Socket::open(&server.url, path);
        socket.send(Message::Close(None));
        assert_eq!(socket.closed(), 1000, "{path}");
    }
    server.wire("bob").say("the server is well");
}

#[test]
fn a_client_that_acknowledges_is_not_sent_more_than_it_can_take() {
    const MESSAGES: usize = 1500;
    let server = chat();
    let bob = server.wire("bob");
    let after = bob.now("chat");
    let mut ann = Socket::open(&server.url, &format!("/ws?name=ann&after={after}"));
    ann.json();
    ann.say(&json!({ "ack": after }).to_string());
    ann.say(r#"{"ping":1}"#);
    assert_eq!(ann.json(), json!({"pong": 1}));
    for number in 0..MESSAGES {
        bob.say(&number.to_string());
    }
    let (mut got, mut rounds) = (Vec::new(), 0);
    while got.len() < MESSAGES {
        let frames = ann.all();
        // A batch is not cut in two: 64 KiB of small messages are some hundreds.
        assert!(frames.len() <= 256 + 600, "{} at once", frames.len());
        if let Some(last) = frames.last() {
            ann.say(&json!({ "ack": last["cursor"] }).to_string());
            rounds += 1;
        }
        got.extend(frames);
    }
    let all: Vec<Value> = (0..MESSAGES).map(|n| json!(n.to_string())).collect();
    let texts: Vec<Value> = got.iter().map(|frame| frame["data"].clone()).collect();
    assert_eq!(texts, all);
    assert!(rounds >= 2, "{rounds} rounds");
}

#[test]
fn a_foreign_page_gets_no_socket() {
    let server = chat();
    for path in ["/ws?name=ann", "/chat/"] {
        let refused = |headers: &[(&str, &str)]| Socket::refused(&server.url, path, headers).0;
        assert_eq!(refused(&[("Origin", "http://evil.example")]), 403);
        assert_eq!(refused(&[("Origin", "null")]), 403);
        // A browser always tells; a cookie without it is somebody else's doing.
        assert_eq!(refused(&[("Cookie", "longshore_session=x")]), 403);
        Socket::open_with(&server.url, path, &[("Origin", &server.url)]);
        let own = [
            ("Origin", server.url.as_str()),
            ("Cookie", "longshore_session=x"),
        ];
        Socket::open_with(&server.url, path, &own);
    }
    let (status, error) = Socket::refused(&server.url, "/ws?name=ann&room=release/1", &[]);
    assert_eq!((status, &error["field"]), (401, &json!("room")));
    let members = Longshore::settings().set("chat", "members").start();
    for path in ["/ws?name=ann", "/chat/"] {
        assert_eq!(Socket::refused(&members.url, path, &[]).0, 401);
        let bearer = format!("Bearer {}", members.token);
        Socket::open_with(&members.url, path, &[("Authorization", &bearer)]);
    }
}

#[test]
fn the_courses_socket_carries_plain_texts_between_everybody() {
    let server = chat();
    let mut ann = Socket::open(&server.url, "/chat/");
    let mut bob = Socket::open(&server.url, "/chat");
    let poller = server.wire("jason");
    poller.open_home();
    let mut full = Socket::open(&server.url, "/ws?name=full");
    full.json();
    for text in ["大家好", r#"{"content":"no JSON here"}"#, "<b>\n"] {
        ann.say(text);
        for socket in [&mut ann, &mut bob] {
            assert_eq!(socket.hear().as_deref(), Some(text));
        }
        assert_eq!(full.json()["data"], text);
        assert_eq!(poller.course_poll(), json!({"status": true, "msg": text}));
    }
    bob.say("");
    poller.say("from the poller");
    for socket in [&mut ann, &mut bob] {
        assert_eq!(socket.hear().as_deref(), Some("from the poller"));
    }
    // A vote or a message of another room is none of the chat's.
    poller.send(&[("content", "aside"), ("room", "chat/side"), ("name", "x")]);
    poller.say("last");
    assert_eq!(bob.hear().as_deref(), Some("last"));
}
