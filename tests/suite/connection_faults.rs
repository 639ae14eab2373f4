//! Refusals of the HTTP layer: as JSON, with the headers of every answer, in their turn, and without a
//! line in the log.

use std::time::{Duration, Instant};

use crate::connection_requests::{connections, say};
use crate::fixture::{Longshore, RawAnswer, RawConnection, ask_raw, raw, until_true};
use crate::request_text::{FORM, chat, routes_connection};

/// The refusal of a request: status, code and field.
type Told = (u16, &'static str, &'static str);

/// Requests with their expected refusals.
fn faults(server: &Longshore) -> Vec<(Vec<u8>, Told)> {
    let many: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
    let faults: Vec<(String, u16, &str, &str)> = vec![
        ("GET / HTTP/1.1\r\nno header\r\n".into(), 400, "malformed", ""),
        ("GET / HTTP/1.1\r\nHost : a\r\n".into(), 400, "malformed", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n".into(), 400, "malformed", ""),
        ("GET x HTTP/1.1\r\nHost: a\r\n".into(), 400, "malformed", ""),
        ("GET /\u{7f} HTTP/1.1\r\nHost: a\r\n".into(), 400, "malformed", ""),
        ("GET / nonsense\r\n".into(), 400, "malformed", ""),
        ("\u{16}\u{3}\u{1}\u{2}\r\n".into(), 400, "malformed", ""),
        ("GET / HTTP/1.1\r\n".into(), 400, "malformed", "host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n".into(), 400, "malformed", "host"),
        ("POST /send_msg HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n".into(), 400, "malformed", "content-length"),
        ("POST /send_msg HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n".into(), 400, "malformed", "content-length"),
        ("POST /send_msg HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n".into(), 400, "malformed", "transfer-encoding"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n".into(), 405, "method_not_allowed", ""),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n".into(), 405, "method_not_allowed", ""),
        ("POST /send_msg HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n".into(), 413, "too_large", "content-length"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(40_000)), 414, "address_too_long", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: foo\r\n".into(), 417, "expectation_failed", "expect"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}"), 431, "head_too_long", ""),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n", "x".repeat(70_000)), 431, "head_too_long", ""),
        ("POST /send_msg HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n".into(), 501, "unknown_coding", "transfer-encoding"),
        ("GET / HTTP/2.0\r\nHost: a\r\n".into(), 505, "unknown_version", ""),
        ("PRI * HTTP/2.0\r\n".into(), 505, "unknown_version", ""),
    ];
    let mut faults: Vec<_> = faults
        .into_iter()
        .map(|(head, status, code, field)| {
            (format!("{head}\r\n").into_bytes(), (status, code, field))
        })
        .collect();
    // A real head, refused for its target alone.
    let long = format!("GET /get_msg?name={}", "杰".repeat(5000));
    faults.push((
        raw(&server.url, long.as_bytes(), &[], b""),
        (414, "address_too_long", ""),
    ));
    faults
}

#[track_caller]
fn is_refused(answer: &RawAnswer, (status, code, field): Told) {
    assert_eq!(
        answer.refusal(),
        (status, code.to_owned(), field.to_owned())
    );
    let message = answer.json()["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(message.len() > 10, "{message:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(
        answer
            .header("content-security-policy")
            .contains("default-src")
    );
    assert_eq!(answer.header("allow").is_empty(), status != 405);
}

#[test]
fn every_fault_is_told_as_json_and_in_its_turn() {
    let server = chat();
    let behind = say(&server, "never", &[]);
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    for (request, told) in faults(&server) {
        for mut connection in connections(&server) {
            connection.send(&request);
            let answers = connection.answers();
            assert_eq!(answers.len(), 1, "{told:?} {answers:?}");
            is_refused(&answers[0], told);
        }
        // Behind two that wait for their answers, and before one that is never carried out.
        for mut connection in connections(&server) {
            let poll = raw(&server.url, b"GET /get_msg?name=b&wait=0.3", &[], b"");
            let first = say(&server, "first", &[]);
            connection.send(&[&poll[..], &first, &request, &behind].concat());
            let answers = connection.answers();
            assert_eq!(answers.len(), 3, "{told:?} {answers:?}");
            assert_eq!(answers[0].json()["status"], answers[0].json()["msg"] != "");
            assert_eq!(answers[1].body, "OK");
            is_refused(&answers[2], told);
            assert_eq!(ann.drain("chat", &mut after), ["first"]);
        }
    }
    let log = server.log();
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn a_head_that_does_not_come_is_told_so() {
    let server = chat();
    let begun = Instant::now();
    let starts: [&[u8]; 3] = [
        b"G",
        b"GET /get_msg?name=a",
        b"POST /send_msg HTTP/1.1\r\nHost: a\r\n",
    ];
    let late: Vec<RawConnection> = starts
        .iter()
        .flat_map(|start| {
            let mut connections = connections(&server);
            connections
                .iter_mut()
                .for_each(|connection| connection.send(start));
            connections
        })
        .collect();
    for mut connection in late {
        let answers = connection.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        is_refused(&answers[0], (408, "too_slow", ""));
    }
    let took = begun.elapsed();
    assert!((4..20).contains(&took.as_secs()), "{took:?}");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_fault_of_a_head_request_has_no_body() {
    let server = chat();
    let mut connection = RawConnection::to(&server.url);
    connection.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    let answer = connection.rest();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_fault_is_told_in_the_readers_language() {
    let server = chat();
    let answer = ask_raw(
        &server.url,
        b"GET x HTTP/1.1\r\nHost: a\r\nAccept-Language: zh-CN\r\n\r\n",
    );
    assert_eq!(answer.json()["message"], "无法理解该请求。");
}

#[test]
fn nobody_can_make_a_fault_of_a_sound_request() {
    let server = chat();
    for mut connection in connections(&server) {
        let header: [&[u8]; 1] = [b"Longshore-Fault: slow"];
        let request = raw(&server.url, b"GET /get_msg?name=a&wait=0", &header, b"");
        assert_eq!(connection.ask(&request).status, 200);
    }
}

#[test]
fn garbled_chunks_are_a_malformed_body() {
    let server = chat();
    let headers: [&[u8]; 2] = [FORM, b"Transfer-Encoding: chunked"];
    let head = raw(&server.url, b"POST /send_msg", &headers, b"");
    let login = raw(&server.url, b"POST /login", &headers, b"");
    for chunks in [
        "x\r\n",
        "5\r\nabcdefg\r\n0\r\n\r\n",
        "5\nabcde\n0\n\n",
        "ffffffffffffffffff\r\n",
    ] {
        for head in [&head, &login] {
            let mut connection = routes_connection(&server);
            connection.send(&[head, chunks.as_bytes()].concat());
            let answers = connection.answers();
            assert_eq!((answers.len(), answers[0].status), (1, 400), "{chunks:?}");
        }
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn an_answer_reaches_a_client_that_is_still_sending() {
    let server = chat();
    // 431 in the middle of a megabyte of headers.
    let mut connection = RawConnection::to(&server.url);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: {}",
        "x".repeat(1 << 20)
    );
    connection.send(head.as_bytes());
    let answers = connection.answers();
    assert_eq!((answers.len(), answers[0].status), (1, 431));
    // Whoever stays is let go all the same.
    let before = server.open_files();
    let mut staying: Vec<RawConnection> = (0..10)
        .map(|_| {
            let mut connection = RawConnection::to(&server.url);
            connection.send(b"GET x HTTP/1.1\r\n\r\n");
            connection
        })
        .collect();
    for connection in &mut staying {
        assert_eq!(connection.answer().status, 400);
    }
    let begun = Instant::now();
    until_true("their end", || server.open_files() <= before);
    assert!(begun.elapsed() < Duration::from_secs(20));
}
