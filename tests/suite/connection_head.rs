//! `HEAD`: as `GET` would answer, without a body and without taking anything.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::connection_requests::connections;
use crate::fixture::{RawAnswer, RawConnection, ask_raw, raw};
use crate::request_text::chat;

/// The headers that `HEAD` has in common with `GET`.
fn headers(answer: &RawAnswer) -> Vec<&(String, String)> {
    let headers = answer.headers.iter();
    headers.filter(|(name, _)| name != "date").collect()
}

#[test]
fn a_head_is_the_get_without_its_body() {
    let server = chat();
    server.wire("ann").say("hi");
    for path in [
        "/get_msg?name=h&room=chat&after=now",
        "/get_msg/?name=h&room=chat&after=start&wait=0",
        "/get_msg?name=h&wait=0",
        "/get_msg?name=h&room=chat&after=!",
        "/get_msg?room=chat",
        "/get_msg?name=h&room=releases&after=now",
        "/events?name=h",
        "/events/?name=h&room=chat&after=start",
        "/events?name=%FF",
        "/events?name=h&room=releases",
        "/ws?name=h",
        "/chat/",
        "/home/?name=h",
        "/home",
        "/chat/den?name=h",
        "/assets/theme.js",
        "/assets/nothing",
        "/login",
        "/vote",
        "/send_msg",
        "/nowhere",
        "/api/v1/nowhere",
    ] {
        let request = |method: &str| {
            let line = format!("{method} {path}");
            raw(&server.url, line.as_bytes(), &[b"Connection: close"], b"")
        };
        let mut get = RawConnection::to(&server.url);
        get.send(&request("GET"));
        let sought = get.head();
        for mut connection in connections(&server) {
            let begun = Instant::now();
            connection.send(&request("HEAD"));
            let found = connection.head();
            assert_eq!(found.status, sought.status, "{path}");
            assert_eq!(headers(&found), headers(&sought), "{path}");
            assert_eq!(connection.rest(), "", "{path}");
            assert!(begun.elapsed() < Duration::from_secs(15), "{path}");
        }
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_head_holds_nothing_and_its_connection_goes_on() {
    let server = chat();
    for mut connection in connections(&server) {
        for path in [
            "/get_msg?name=h&room=chat&after=now",
            "/get_msg?name=h&wait=60",
            "/assets/theme.js",
            "/events?name=h",
        ] {
            let line = format!("HEAD {path}");
            connection.send(&raw(&server.url, line.as_bytes(), &[], b""));
            assert_eq!(connection.head().status, 200, "{path}");
        }
        let poll = raw(&server.url, b"GET /get_msg?name=h&wait=0", &[], b"");
        assert_eq!(connection.ask(&poll).status, 200);
    }
}

#[test]
fn a_head_takes_no_message() {
    let server = chat();
    let poll = |method: &str, cookie: &[u8]| {
        let line = format!("{method} /get_msg?name=jason&wait=0");
        raw(&server.url, line.as_bytes(), &[cookie], b"")
    };
    let head = |request: &[u8]| {
        let mut connection = RawConnection::to(&server.url);
        connection.send(request);
        connection.head()
    };
    let cookie = |answer: &RawAnswer| {
        let set = answer.header("set-cookie").split(';').next();
        format!("Cookie: {}", set.unwrap_or_default()).into_bytes()
    };
    let home = raw(&server.url, b"GET /home/?name=jason", &[], b"");
    let entered = cookie(&ask_raw(&server.url, &home));
    let got = json!({"status": true, "msg": "hi"});
    server.wire("ann").say("hi");
    // A preview of a link looks at the page, and at the poll.
    let look = raw(&server.url, b"HEAD /home/?name=jason", &[], b"");
    assert_eq!(head(&look).status, 200);
    let looked = head(&poll("HEAD", &entered));
    assert_eq!(
        looked.header("content-length"),
        got.to_string().len().to_string()
    );
    assert_eq!(
        ask_raw(&server.url, &poll("GET", &cookie(&looked))).json(),
        got
    );
    // Without a cookie the position is in the server's memory.
    for _ in 0..2 {
        let looked = head(&poll("HEAD", b"X: y"));
        assert_eq!(
            looked.header("content-length"),
            got.to_string().len().to_string()
        );
    }
    assert_eq!(ask_raw(&server.url, &poll("GET", b"X: y")).json(), got);
    let nothing = ask_raw(&server.url, &poll("GET", b"X: y"));
    assert_eq!(nothing.json(), json!({"status": false, "msg": ""}));
}
