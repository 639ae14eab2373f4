//! The end of a connection's requests, and what is ignored on the way: upgrades that nobody takes,
//! requests behind a close, clients of HTTP/1.0.

use std::time::{Duration, Instant};

use crate::fixture::{Longshore, RawConnection, ask_raw, raw, until_true};
use crate::request_text::{FORM, chat, get, poll_loop_connection, routes_connection};

const KEY: &[u8] = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &[u8] = b"Sec-WebSocket-Version: 13";

/// Connections of every kind: fresh, the routes', the poll loop's.
pub fn connections(server: &Longshore) -> Vec<RawConnection> {
    vec![
        RawConnection::to(&server.url),
        routes_connection(server),
        poll_loop_connection(server),
    ]
}

/// A message to the room `chat`.
pub fn say(server: &Longshore, text: &str, headers: &[&[u8]]) -> Vec<u8> {
    let headers: Vec<&[u8]> = headers.iter().copied().chain([FORM]).collect();
    let body = format!("content={text}&name=ann");
    raw(&server.url, b"POST /send_msg", &headers, body.as_bytes())
}

/// The number of parked polls, from `/metrics`.
pub fn parked_polls(server: &Longshore) -> f64 {
    let metrics = ureq::get(format!("{}/metrics", server.url)).call();
    let text = metrics.unwrap().into_body().read_to_string().unwrap();
    let name = "longshore_parked_polls ";
    let number = text.lines().find_map(|line| line.strip_prefix(name));
    number.expect("the number").parse().unwrap()
}

#[test]
fn an_upgrade_that_is_not_taken_is_ignored() {
    let server = chat();
    let upgrades: [&[&[u8]]; 5] = [
        &[b"Connection: upgrade"],
        &[
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABk",
        ],
        &[b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"],
        &[b"Upgrade: websocket"],
        &[
            b"Connection: Upgrade",
            b"Upgrade: TLS/1.0, WebSocket",
            KEY,
            VERSION,
        ],
    ];
    let targets = [
        "/get_msg?name=a&room=chat&after=start&wait=0",
        "/get_msg?name=a&wait=0",
        "/home/?name=a",
        "/assets/theme.js",
    ];
    for upgrade in upgrades {
        for mut connection in connections(&server) {
            for round in 0..20 {
                let request = match targets.get(round % 5) {
                    Some(target) => {
                        let line = format!("GET {target}");
                        raw(&server.url, line.as_bytes(), upgrade, b"")
                    }
                    None => say(&server, "hi", upgrade),
                };
                let answer = connection.ask(&request);
                let told = String::from_utf8_lossy(&request);
                assert_eq!(answer.status, 200, "{round} {told}");
                let left = (answer.header("connection"), answer.header("upgrade"));
                assert_eq!(left, ("", ""), "{told}");
            }
        }
    }
}

#[test]
fn sockets_open_by_every_spelling_of_an_upgrade_and_by_no_other_request() {
    let server = chat();
    let upgrade: [&[u8]; 4] = [
        b"Connection: keep-alive, upgrade",
        b"Upgrade: WebSocket",
        KEY,
        VERSION,
    ];
    for (line, status) in [
        ("GET /ws?name=a", 101),
        ("GET /%77s/?name=a", 101),
        ("GET /chat/", 101),
        ("GET /ch%61t?name=a", 101),
        ("POST /ws?name=a", 405),
        ("GET /get_msg?name=a&wait=0", 200),
    ] {
        let request = raw(&server.url, line.as_bytes(), &upgrade, b"");
        assert_eq!(ask_raw(&server.url, &request).status, status, "{line}");
    }
    // Without the option of the connection it is none; and then the connection goes on.
    let mut connection = routes_connection(&server);
    for headers in [&[][..], &upgrade[1..], &upgrade[..1]] {
        let request = raw(&server.url, b"GET /ws?name=a", headers, b"");
        let answer = connection.ask(&request);
        assert_eq!(answer.refusal().0, 426);
        assert_eq!(answer.header("upgrade"), "websocket");
    }
    // A refused upgrade ends the connection, and the answer says so.
    let mut foreign = upgrade.to_vec();
    foreign.push(b"Origin: https://evil.example");
    let request = raw(&server.url, b"GET /ws?name=a", &foreign, b"");
    let answer = ask_raw(&server.url, &request);
    assert_eq!((answer.status, answer.header("connection")), (403, "close"));
}

#[test]
fn nothing_behind_a_close_is_carried_out() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let closes: [&[&[u8]]; 3] = [
        &[b"Connection: close"],
        &[b"Connection: keep-alive, CLOSE"],
        &[b"Connection: keep-alive", b"connection: close"],
    ];
    let chunked = {
        let head = raw(
            &server.url,
            b"POST /send_msg",
            &[FORM, b"Connection: close", b"Transfer-Encoding: chunked"],
            b"",
        );
        [&head[..], b"b;x=y\r\ncontent=one\r\n0\r\nT: x\r\n\r\n"].concat()
    };
    let old = "POST /send_msg HTTP/1.0\r\nContent-Length: 11\r\n\r\ncontent=one"
        .as_bytes()
        .to_vec();
    let lasts: Vec<Vec<u8>> = closes
        .iter()
        .map(|close| say(&server, "one", close))
        .chain([chunked, old])
        .collect();
    for last in &lasts {
        for mut connection in connections(&server) {
            let behind = say(&server, "two", &[]);
            connection.send(&[&say(&server, "zero", &[])[..], last, &behind, &behind].concat());
            let answers = connection.answers();
            let told = String::from_utf8_lossy(last);
            let bodies: Vec<&str> = answers.iter().map(|answer| answer.body.as_str()).collect();
            assert_eq!(bodies, ["OK", "OK"], "{told}");
            assert_eq!(ann.drain("chat", &mut after), ["zero", "one"], "{told}");
        }
    }
    // In pieces, and far more than anybody listens to.
    for mut connection in connections(&server) {
        let poll = raw(
            &server.url,
            b"GET /get_msg?name=a&wait=1",
            &[b"Connection: close"],
            b"",
        );
        connection.send(&poll);
        let junk = say(&server, "junk", &[]).repeat(1000);
        assert!(junk.len() > 100_000);
        connection.send(&junk);
        let answers = connection.answers();
        assert_eq!((answers.len(), answers[0].status), (1, 200));
    }
    assert!(ann.drain("chat", &mut after).is_empty());
}

#[test]
fn an_answer_that_ends_the_connection_is_the_last() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    // A held poll by the routes ends its connection, unless the client is ahead of it.
    let held = format!("GET /get_msg?name=h&room=chat/quiet&after={after}&wait=1");
    let held = raw(&server.url, held.as_bytes(), &[], b"");
    for mut connection in connections(&server) {
        let close: &[u8] = b"Connection: close";
        connection.send(&[&held[..], &held, &say(&server, "behind", &[close])].concat());
        let answers = connection.answers();
        let ends: Vec<&str> = answers
            .iter()
            .map(|answer| answer.header("connection"))
            .collect();
        assert_eq!(ends, ["", "", "close"]);
        assert_eq!(ann.drain("chat", &mut after), ["behind"]);
    }
    let mut connection = routes_connection(&server);
    assert_eq!(connection.ask(&held).header("connection"), "close");
    assert_eq!(connection.rest(), "");
}

#[test]
fn a_last_request_is_held_as_long_as_any_other() {
    let server = chat();
    let bob = server.wire("bob");
    let after = bob.now("chat");
    let close: &[u8] = b"Connection: close";
    let mut held = Vec::new();
    for round in 0..9 {
        let target = format!("/get_msg?name=h{round}&room=chat&after={after}&wait=60");
        let line = format!("GET {target}");
        let request = match round % 3 {
            0 => raw(&server.url, line.as_bytes(), &[close], b""),
            1 => format!("{line} HTTP/1.0\r\n\r\n").into_bytes(),
            _ => format!("{line} HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n").into_bytes(),
        };
        let mut connections = connections(&server);
        let mut connection = connections.swap_remove(round / 3);
        connection.send(&request);
        held.push(connection);
    }
    until_true("nine parked polls", || parked_polls(&server) == 9.0);
    // Longer than anything here takes to notice an end.
    std::thread::sleep(Duration::from_millis(1500));
    bob.say("at last");
    for connection in &mut held {
        let answers = connection.answers();
        assert_eq!(answers.len(), 1);
        assert!(answers[0].body.contains("at last"), "{answers:?}");
    }
}

#[test]
fn old_clients_get_no_chunks_and_no_upgrade() {
    let server = chat();
    let mut stream = RawConnection::to(&server.url);
    let answer = stream.ask(b"GET /events?name=a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("transfer-encoding"), "");
    assert_eq!(answer.header("connection"), "");
    stream.half_close();
    let events = stream.rest();
    assert!(events.starts_with(": "), "{events:?}");
    assert!(
        events.ends_with("\n\n") && events.contains("event: cursor"),
        "{events:?}"
    );
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for path in ["/ws?name=a", "/chat/"] {
        let request = format!("GET {path} HTTP/1.0\r\n{upgrade}\r\n\r\n");
        assert_eq!(
            ask_raw(&server.url, request.as_bytes()).status,
            426,
            "{path}"
        );
    }
    // It may keep its connection.
    let mut connection = RawConnection::to(&server.url);
    for _ in 0..3 {
        let answer = connection
            .ask(b"GET /get_msg?name=a&wait=0 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, "keep-alive")
        );
    }
    let modern = get(&server, b"/events?name=a", &[]);
    assert_eq!(modern.header("transfer-encoding"), "chunked");
}

#[test]
fn requests_cut_at_every_byte_are_answered_alike() {
    let server = chat();
    let close: &[u8] = b"Connection: close";
    let chunked: [&[u8]; 3] = [FORM, close, b"Transfer-Encoding: chunked"];
    let mut garbled = raw(&server.url, b"POST /send_msg", &chunked, b"");
    let mut whole = garbled.clone();
    whole.extend(b"b\r\ncontent=one\r\n0\r\n\r\n");
    garbled.extend(b"b\r\ncontent=oneXX0\r\n\r\n");
    let requests = [
        (
            raw(
                &server.url,
                "GET /get_msg?name=杰&wait=0".as_bytes(),
                &[close],
                b"",
            ),
            200,
        ),
        (say(&server, "hi", &[close]), 200),
        (whole, 200),
        (garbled, 400),
        (raw(&server.url, b"GET x", &[close], b""), 400),
    ];
    for (request, status) in requests {
        for cut in 1..request.len() {
            let mut connection = RawConnection::to(&server.url);
            connection.send(&request[..cut]);
            // Half of them find the first piece alone.
            if cut % 2 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            connection.send(&request[cut..]);
            let answers = connection.answers();
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [status], "cut at {cut}");
            // And one that never goes on ends without an answer, or with its own.
            let mut connection = RawConnection::to(&server.url);
            connection.send(&request[..cut]);
            connection.half_close();
            let begun = Instant::now();
            let answers = connection.answers();
            assert!(
                answers.iter().all(|answer| answer.status == 400),
                "cut at {cut}: {answers:?}"
            );
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}
