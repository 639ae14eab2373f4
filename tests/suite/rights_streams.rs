//! The same rights on streams and sockets, which live longer than a poll.

use std::net::TcpStream;
use std::thread::spawn;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::{HandshakeError, Message, WebSocket};

use crate::fixture::{Longshore, Someone, messages, until_true};
use crate::rights::refused;

/// A socket to `path`, or the status and body with which it was refused.
fn socket(who: &Someone, path: &str) -> Result<WebSocket<TcpStream>, (u16, Value)> {
    let address = who.url.trim_start_matches("http://");
    let mut request = format!("ws://{address}{path}")
        .into_client_request()
        .unwrap();
    for (name, value) in &who.headers {
        let name: HeaderName = name.parse().unwrap();
        request
            .headers_mut()
            .insert(name, HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(90)))
        .unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            let body = answer.body().clone().unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Err((answer.status().as_u16(), body))
        }
        Err(other) => panic!("{other}"),
    }
}

/// Everything that comes until the socket ends.
fn heard(mut socket: WebSocket<TcpStream>) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => texts.push(text.to_string()),
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock =>
            {
                panic!("the socket stays open: {texts:?}")
            }
            Err(_) => return texts,
        }
    }
}

#[test]
fn no_stream_and_no_socket_without_a_right() {
    let server = Longshore::settings().set("chat", "members").start();
    let nobody = Someone::of(&server);
    let stranger = Someone::bearing(&server, "x");
    let admin = Someone::bearing(&server, &server.token);
    for room in [
        "release/1",
        "releases",
        "presence/releases",
        "presence/release/1",
        "chat",
    ] {
        let query = format!("name=n&room={room}&after=start");
        for who in [&nobody, &stranger] {
            refused(&who.get(&format!("/events?{query}")), 401, room);
            let (status, _) = socket(who, &format!("/ws?{query}")).expect_err(room);
            assert_eq!(status, 401, "{room}");
        }
    }
    for who in [&nobody, &stranger] {
        assert_eq!(socket(who, "/chat/").expect_err("the chat").0, 401);
    }
    refused(
        &admin.get("/events?name=n&room=release/999"),
        403,
        "no such release",
    );
    let (status, _) = socket(&admin, "/ws?name=n&room=release/999").expect_err("no such release");
    assert_eq!(status, 403);
}

#[test]
fn another_sites_page_opens_none() {
    let server = Longshore::settings().start();
    server.add_user("ann", "viewer");
    let ann = Someone::logged_in(&server, "ann");
    let cookie = ann
        .agent
        .cookie_jar_lock()
        .iter()
        .map(|cookie| format!("{}={}", cookie.name(), cookie.value()))
        .next()
        .unwrap();
    // Sockets do not go through the agent and its jar.
    let ann = Someone::of(&server).showing("Cookie", &cookie);
    let foreign = ann.showing("Origin", "http://evil.example");
    for path in [
        "/events?name=n&room=chat",
        "/get_msg?name=n&room=chat&after=now",
    ] {
        refused(&foreign.get(path), 403, path);
    }
    for path in ["/ws?name=n&room=chat", "/chat/"] {
        for (who, what) in [(&foreign, "foreign"), (&ann, "unstated")] {
            assert_eq!(socket(who, path).expect_err(what).0, 403, "{what} {path}");
        }
        assert!(
            socket(&ann.showing("Origin", &server.url), path).is_ok(),
            "{path}"
        );
    }
}

#[test]
fn streams_and_sockets_end_with_the_right() {
    let server = Longshore::settings().set("chat", "members").start();
    let token = server.add_user("ann", "deployer");
    let ann = Someone::bearing(&server, &token);
    let after = ann.cursor("chat");
    let query = format!("name=n&room=chat&room=releases&after={after}");
    let events = spawn({
        let (ann, query) = (ann.clone(), query.clone());
        move || ann.get(&format!("/events?{query}"))
    });
    let sockets = [format!("/ws?{query}"), "/chat/".to_owned()].map(|path| {
        let socket = socket(&ann, &path).unwrap_or_else(|refused| panic!("{refused:?}"));
        spawn(move || heard(socket))
    });
    until_true("a stream and two sockets", || {
        let live = server.api().get("push").expect(200);
        live["polls"] == 3
    });
    server.command(&["user", "disable", "ann"], "");
    until_true("the loss is known", || {
        ann.poll("name=x&room=chat&after=now").status == 401
    });
    let admin = Someone::bearing(&server, &server.token);
    let form = [("content", "not for ann"), ("name", "x")];
    assert_eq!(admin.post("/send_msg", &form).status, 200);

    let stream = events.join().unwrap();
    assert_eq!(stream.status, 200);
    assert!(stream.text.contains("event: refused"), "{}", stream.text);
    assert!(!stream.text.contains("not for ann"), "{}", stream.text);
    for socket in sockets {
        let texts = socket.join().unwrap().join("\n");
        assert!(!texts.contains("not for ann"), "{texts}");
    }
}

#[test]
fn a_socket_publishes_where_its_client_may() {
    let server = Longshore::settings().start();
    let ann = Someone::bearing(&server, &server.add_user("ann", "admin"));
    let after = ann.cursor("chat");
    let mut line = socket(&ann, "/ws?name=n&room=chat").unwrap();
    for room in ["releases", "release/1", "presence/chat", "chat"] {
        let said = json!({"content": "hi", "room": room, "kind": "release", "from": "bob"});
        line.send(Message::text(said.to_string())).unwrap();
    }
    until_true("what may be published", || {
        let told = ann
            .poll(&format!("name=x&room=chat&after={after}&wait=0"))
            .expect(200);
        let told = told["messages"].as_array().unwrap().clone();
        told.iter()
            .all(|message| message["kind"] == "message" && message["from"] == "ann")
            && told.len() == 1
    });
    let seen = ann
        .poll("name=x&room=releases&after=start&wait=0")
        .expect(200);
    assert_eq!(messages(&seen).len(), 0, "{seen}");
}
