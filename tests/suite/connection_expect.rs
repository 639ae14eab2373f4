//! Clients that ask before they send a body (`Expect: 100-continue`): the final status at once where it
//! is refused.

use serde_json::json;

use crate::connection_requests::connections;
use crate::fixture::{Fleet, Longshore, PASSWORD, RawConnection, USER, raw};
use crate::request_text::{FORM, JSON, chat, session};

const EXPECT: &[u8] = b"Expect: 100-continue";

/// A request that waits for its `100`, without its body of `bytes`.
fn asking(server: &Longshore, line: &str, headers: &[&[u8]], bytes: usize) -> Vec<u8> {
    let length = format!("Content-Length: {bytes}");
    let headers: Vec<&[u8]> = headers
        .iter()
        .copied()
        .chain([EXPECT, length.as_bytes()])
        .collect();
    raw(&server.url, line.as_bytes(), &headers, b"")
}

#[test]
fn a_body_that_is_refused_is_not_asked_for() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let bearer = format!("Authorization: Bearer {}", server.token);
    let cookie = format!("Cookie: longshore_session={}", session(&server));
    let own = format!("Origin: {}", server.url);
    let foreign: &[u8] = b"Origin: https://evil.example";
    let (bearer, cookie, own) = (bearer.as_bytes(), cookie.as_bytes(), own.as_bytes());
    let refused: [(&str, &[&[u8]], usize, u16); 17] = [
        ("POST /send_msg", &[FORM], 500_000, 413),
        ("POST /send_msg/", &[JSON, own], 500_000, 413),
        ("POST /send_msg", &[FORM], 100_000_000, 413),
        ("POST /send_msg", &[FORM, foreign], 9, 403),
        ("POST /send_msg", &[FORM, b"Origin: null"], 9, 403),
        (
            "POST /send_msg",
            &[FORM, b"Referer: https://evil.example/"],
            9,
            403,
        ),
        ("POST /send_msg", &[FORM, cookie], 9, 403),
        ("POST /login", &[FORM, foreign], 9, 403),
        ("POST /login", &[FORM], 65_537, 413),
        ("POST /lo%67in", &[FORM], 65_537, 413),
        ("POST /vote/x", &[FORM, foreign], 9, 403),
        ("POST /api/v1/releases", &[JSON, bearer], 3_000_000, 413),
        ("POST /api/v1/releases", &[JSON], 65_537, 413),
        ("POST /api/v1/releases", &[JSON, cookie, foreign], 9, 403),
        (
            "POST /api/v1/releases",
            &[JSON, bearer, b"Content-Encoding: gzip"],
            9,
            415,
        ),
        ("PUT /api/v1/servers/1/file?path=/x", &[], 9, 401),
        ("GET /api/v1/releases", &[bearer], 9, 200),
    ];
    for (line, headers, bytes, status) in refused {
        for mut connection in connections(&server) {
            let answer = connection.ask(&asking(&server, line, headers, bytes));
            assert_eq!(answer.status, status, "{line} {bytes}");
            assert_eq!(answer.header("connection"), "close", "{line}");
            assert_eq!(connection.rest(), "", "{line}");
        }
    }
    // Of unknown length too.
    let chunked: [&[u8]; 4] = [FORM, EXPECT, foreign, b"Transfer-Encoding: chunked"];
    let request = raw(&server.url, b"POST /send_msg", &chunked, b"");
    let answer = RawConnection::to(&server.url).ask(&request);
    assert_eq!(answer.refusal(), (403, "forbidden".into(), "origin".into()));
    // Whoever sends it all the same hears the answer, and the body is read for nothing.
    let mut request = asking(&server, "POST /send_msg", &[FORM, foreign], 14);
    request.extend(b"content=forged");
    let mut next = raw(
        &server.url,
        b"POST /send_msg",
        &[FORM, b"Connection: close"],
        b"content=next",
    );
    request.append(&mut next);
    let mut connection = RawConnection::to(&server.url);
    connection.send(&request);
    let statuses: Vec<u16> = connection
        .answers()
        .iter()
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses, [403, 200]);
    assert_eq!(ann.drain("chat", &mut after), ["next"]);
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_body_that_is_taken_is_asked_for_and_read_once() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let bearer = format!("Authorization: Bearer {}", server.token);
    let login = format!("name={USER}&password={}", PASSWORD.replace(' ', "+"));
    for mut connection in connections(&server) {
        for (line, headers, body, status) in [
            ("POST /send_msg", [FORM, b"X: y"], "content=one", 200),
            (
                "POST /send_msg",
                [JSON, bearer.as_bytes()],
                r#"{"content":"two"}"#,
                200,
            ),
            ("POST /send_msg", [FORM, b"X: y"], "name=x", 400),
            ("POST /login", [FORM, b"X: y"], &login, 303),
            (
                "POST /api/v1/releases",
                [JSON, bearer.as_bytes()],
                "{}",
                422,
            ),
            (
                "POST /send_msg",
                [FORM, b"Expect: 100-Continue"],
                "content=three",
                200,
            ),
        ] {
            let asked = connection.ask(&asking(&server, line, &headers, body.len()));
            assert_eq!(asked.status, 100, "{line}");
            assert_eq!(connection.ask(body.as_bytes()).status, status, "{line}");
        }
        assert_eq!(ann.drain("chat", &mut after), ["one", "two", "three"]);
        // There is nothing to ask for, or nobody who could.
        let none = connection.ask(&asking(&server, "GET /get_msg?name=a&wait=0", &[], 0));
        assert_eq!(none.status, 200);
    }
    let old =
        "POST /send_msg HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\ncontent=four";
    assert_eq!(
        RawConnection::to(&server.url).ask(old.as_bytes()).status,
        200
    );
    assert_eq!(ann.drain("chat", &mut after), ["four"]);
}

#[test]
fn an_upload_begins_with_its_body() {
    let fleet = Fleet::with(1, Longshore::settings().set("ssh_upload_bytes", "100000"));
    let server = &fleet.longshore;
    let file = fleet.machines[0].root.path().join("file");
    let bearer = format!("Authorization: Bearer {}", server.token);
    let headers: [&[u8]; 1] = [bearer.as_bytes()];
    let path = format!("?path={}", file.display());
    for (target, bytes, status) in [
        (format!("1/file{path}"), 100_001, 413),
        (format!("9/file{path}"), 9, 404),
        ("1/file?path=".to_owned(), 9, 422),
        (format!("1/fil%65{path}"), 100_001, 413),
    ] {
        let line = format!("PUT /api/v1/servers/{target}");
        let mut connection = RawConnection::to(&server.url);
        let answer = connection.ask(&asking(server, &line, &headers, bytes));
        assert_eq!(answer.status, status, "{target}");
    }
    let uploads = || {
        let audit = fleet.api.get("audit").expect(200);
        let entries = audit.as_array().expect("a list").clone();
        let is_upload = |entry: &&serde_json::Value| entry["action"] != "accept_host_key";
        entries.iter().filter(is_upload).count()
    };
    assert_eq!(uploads(), 0);
    let mut connection = RawConnection::to(&server.url);
    let line = format!("PUT /api/v1/servers/1/file{path}");
    let asked = connection.ask(&asking(server, &line, &headers, 7));
    assert_eq!((asked.status, uploads()), (100, 0));
    let answer = connection.ask(b"content");
    assert_eq!(answer.json(), json!({"bytes": 7}));
    assert_eq!(std::fs::read_to_string(&file).expect("it"), "content");
    assert_eq!(uploads(), 1);
}
