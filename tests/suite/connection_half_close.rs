//! Clients that send nothing more and read on: what they asked for is answered, and only what is held
//! for them ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::connection_requests::{connections, parked_polls, say};
use crate::fixture::{
    Fleet, Longshore, PASSWORD, RawAnswer, RawConnection, USER, ask_raw, raw, until_true,
};
use crate::request_text::{FORM, chat, session};

const CLOSE: &[u8] = b"Connection: close";

/// The answers of requests that are sent at once, behind which the client closes its half.
fn asked(server: &Longshore, requests: &[u8]) -> Vec<Vec<RawAnswer>> {
    let asked = |mut connection: RawConnection| {
        connection.send(requests);
        connection.half_close();
        connection.answers()
    };
    connections(server).into_iter().map(asked).collect()
}

#[test]
fn what_was_asked_for_is_answered() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let bearer = format!("Authorization: Bearer {}", server.token);
    let cookie = format!("Cookie: longshore_session={}", session(&server));
    let form = format!("name={USER}&password={}", PASSWORD.replace(' ', "+"));
    let get = |target: &str, headers: &[&[u8]]| {
        raw(
            &server.url,
            format!("GET {target}").as_bytes(),
            headers,
            b"",
        )
    };
    ann.say("waiting");
    let waiting = format!("/get_msg?name=h&room=chat&after={after}&wait=60");
    let keep: [&[u8]; 0] = [];
    for close in [&keep[..], &[CLOSE]] {
        let with = |header: &'static [u8]| [close, &[header]].concat();
        let own = [close, &[bearer.as_bytes()]].concat();
        let login = [close, &[cookie.as_bytes()]].concat();
        for (request, status) in [
            (say(&server, "half", close), 200),
            (say(&server, "half", &own), 200),
            (get("/get_msg?name=h&wait=0", close), 200),
            (get("/get_msg?name=h&room=chat&after=now", close), 200),
            (
                get("/get_msg?name=h&room=chat&after=start&wait=0", close),
                200,
            ),
            (get("/get_msg?name=h&room=releases&after=now", &own), 200),
            (get("/get_msg?name=h&room=releases&after=now", &login), 200),
            (get("/get_msg?name=h&room=chat&after=!", close), 400),
            (get(&waiting, close), 200),
            (get("/api/v1/releases", &own), 200),
            (get("/api/v1/projects", close), 401),
            (get("/home/?name=h", close), 200),
            (get("/assets/theme.js", close), 200),
            (
                raw(&server.url, b"POST /login", &with(FORM), form.as_bytes()),
                303,
            ),
        ] {
            for answers in asked(&server, &request) {
                let told = String::from_utf8_lossy(&request);
                assert_eq!(answers.len(), 1, "{told}");
                assert_eq!(answers[0].status, status, "{told}");
                assert!(
                    !request.starts_with(b"GET /get_msg?name=h&room=chat&after=b")
                        || answers[0].body.contains("waiting")
                );
            }
        }
    }
    let said = ann.drain("chat", &mut after);
    assert_eq!(said.len(), 1 + 12, "{said:?}");
}

#[test]
fn all_of_several_requests_are_answered() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let poll = raw(&server.url, b"GET /get_msg?name=h&wait=0", &[], b"");
    let held = format!("GET /get_msg?name=h&room=chat/quiet&after={after}&wait=60");
    let held = raw(&server.url, held.as_bytes(), &[], b"");
    let begun = Instant::now();
    let [one, two, behind] = ["one", "two", "behind"].map(|text| say(&server, text, &[]));
    for mut connection in connections(&server) {
        connection.send(&[&one[..], &poll, &two].concat());
        connection.half_close();
        assert_eq!(connection.answers().len(), 3);
        assert_eq!(ann.drain("chat", &mut after), ["one", "two"]);
    }
    // A held poll ends, and the request behind it is answered.
    for mut connection in connections(&server) {
        connection.send(&[&held[..], &behind].concat());
        connection.half_close();
        let answers = connection.answers();
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert_eq!(answers[0].json()["status"], false);
        assert_eq!(answers[1].body, "OK");
        assert_eq!(ann.drain("chat", &mut after), ["behind"]);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn what_is_held_ends_where_it_was() {
    let server = chat();
    let ann = server.wire("ann");
    let after = ann.now("chat");
    let full = format!("/get_msg?name=h&room=chat&after={after}&wait=60");
    for target in [
        &full,
        "/get_msg?name=h&wait=60",
        "/get_msg?name=h&room=chat/none&after=start&wait=60",
    ] {
        for headers in [&[][..], &[CLOSE]] {
            for mut connection in connections(&server) {
                let request = raw(
                    &server.url,
                    format!("GET {target}").as_bytes(),
                    headers,
                    b"",
                );
                connection.send(&request);
                until_true("a parked poll", || parked_polls(&server) == 1.0);
                connection.half_close();
                let begun = Instant::now();
                let answers = connection.answers();
                assert!(
                    begun.elapsed() < Duration::from_secs(15),
                    "{target} {:?}",
                    begun.elapsed()
                );
                // With or without an answer, nothing was given, and the cursor has not moved.
                for answer in answers {
                    assert_eq!(answer.json()["status"], false, "{target}");
                    if target == full {
                        assert_eq!(answer.json()["cursor"], after);
                    }
                }
                until_true("its end", || parked_polls(&server) == 0.0);
            }
        }
    }
    // Nothing is lost for the course's client either.
    ann.say("between");
    let poll = raw(&server.url, b"GET /get_msg?name=h&wait=5", &[], b"");
    let answer = ask_raw(&server.url, &poll);
    assert_eq!(answer.json(), json!({"status": true, "msg": "between"}));
}

#[test]
fn streams_end_with_their_client() {
    let server = chat();
    for request in [
        raw(&server.url, b"GET /events?name=s", &[], b""),
        raw(&server.url, b"GET /events?name=s", &[CLOSE], b""),
        b"GET /events?name=s HTTP/1.0\r\n\r\n".to_vec(),
    ] {
        let mut connection = RawConnection::to(&server.url);
        connection.send(&request);
        connection.half_close();
        let begun = Instant::now();
        let stream = connection.rest();
        assert!(stream.contains("event: cursor"), "{stream}");
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn a_command_that_is_soon_done_is_answered() {
    let fleet = Fleet::of(1);
    let server = &fleet.longshore;
    let bearer = format!("Authorization: Bearer {}", server.token);
    let headers: [&[u8]; 2] = [b"Content-Type: application/json", bearer.as_bytes()];
    for path in ["/api/v1/servers/1/exec", "/api/v1/servers/1/exec?live=1"] {
        let mut connection = RawConnection::to(&server.url);
        let line = format!("POST {path}");
        let body = json!({"command": "sleep 1; echo done"}).to_string();
        connection.send(&raw(
            &server.url,
            line.as_bytes(),
            &headers,
            body.as_bytes(),
        ));
        connection.half_close();
        let answer = connection.rest();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("done"),
            "{answer}"
        );
    }
}
