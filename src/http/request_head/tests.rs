use proptest::prelude::*;

use super::*;

fn is_socket(path: &str) -> bool {
    path == "/ws"
}

fn read(bytes: &[u8]) -> Result<Option<RequestHead>, Fault> {
    RequestHead::read(bytes, is_socket)
}

/// The parsed head with these lines, if it is valid.
fn sound(request: &str) -> RequestHead {
    let bytes = format!("{}\r\n\r\n", request.replace('\n', "\r\n"));
    let head = read(bytes.as_bytes()).unwrap().unwrap();
    assert_eq!(head.length, bytes.len(), "{request}");
    head
}

fn written(request: &str) -> String {
    let bytes = String::from_utf8(sound(request).bytes).unwrap();
    let lines = bytes.strip_suffix("\r\n\r\n").unwrap();
    lines.replace("\r\n", "\n")
}

#[test]
fn a_plain_head_stays_as_it_is() {
    let head = "GET /get_msg?name=a HTTP/1.1\nHost: here\nX-A: \tb c ;\nCookie: a=杰";
    assert_eq!(written(head), head.replace(" \tb", " b"));
    assert_eq!(sound(head).behind, Behind::Request);
    assert!(sound(head).body.is_over());
}

#[test]
fn raw_text_in_a_target_is_encoded() {
    let head = written("GET /杰?a=森 HTTP/1.1\nHost: here");
    assert_eq!(head, "GET /%E6%9D%B0?a=%E6%A3%AE HTTP/1.1\nHost: here");
    let head = written("GET /\"<>\\^`{|}?\"<>\\^`{|}~ HTTP/1.1\nHost: here");
    let signs = "%22%3C%3E%5C%5E%60%7B%7C%7D";
    assert_eq!(head, format!("GET /{signs}?{signs}~ HTTP/1.1\nHost: here"));
    let head = read(b"\r\n\nGET /\xff HTTP/1.1\nhost: a\n\nGET")
        .unwrap()
        .unwrap();
    assert_eq!(head.bytes, b"GET /%FF HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(head.length, 28);
}

#[test]
fn only_upgrades_to_sockets_of_ours_are_taken() {
    let upgrade = "Host: here\nUpgrade: websocket\nConnection: keep-alive, Upgrade\nX: y";
    let taken = "Host: here\nX: y\nconnection: upgrade\nupgrade: websocket";
    let left = "Host: here\nX: y";
    for (line, headers) in [
        ("GET /ws?name=a HTTP/1.1", taken),
        ("GET /%77s HTTP/1.1", taken),
        ("GET http://here/ws HTTP/1.1", taken),
        ("GET /releases HTTP/1.1", left),
        ("GET /%FF HTTP/1.1", left),
        ("POST /ws HTTP/1.1", left),
    ] {
        assert_eq!(
            written(&format!("{line}\n{upgrade}")),
            format!("{line}\n{headers}")
        );
    }
    for (headers, written_headers) in [
        ("Upgrade: websocket", ""),
        ("Upgrade: h2c\nConnection: upgrade, http2-settings", ""),
        (
            "Upgrade: h2c, WebSocket\nConnection: x\nConnection: upgrade",
            "\nconnection: upgrade\nupgrade: websocket",
        ),
        (
            "Upgrade: websocket\nConnection: upgrade, close",
            "\nconnection: close",
        ),
        (
            "Upgrade: websocket\nConnection: upgrade\nContent-Length: 1",
            "\ncontent-length: 1",
        ),
    ] {
        let head = format!("GET /ws HTTP/1.1\nHost: here\n{headers}");
        assert_eq!(
            written(&head),
            format!("GET /ws HTTP/1.1\nHost: here{written_headers}")
        );
    }
    let old = format!("GET /ws HTTP/1.0\n{upgrade}");
    assert_eq!(
        written(&old),
        "GET /ws HTTP/1.0\nHost: here\nX: y\nconnection: keep-alive"
    );
}

#[test]
fn a_connection_ends_where_the_client_says_so() {
    for (version, connection, behind) in [
        ("1.1", "", Behind::Request),
        ("1.1", "\nConnection: keep-alive", Behind::Request),
        ("1.1", "\nConnection: CLOSE", Behind::Nothing),
        (
            "1.1",
            "\nConnection: keep-alive\nconnection: a ,, close",
            Behind::Nothing,
        ),
        ("1.1", "\nConnection: closed", Behind::Request),
        ("1.0", "", Behind::Nothing),
        ("1.0", "\nConnection: Keep-Alive", Behind::Request),
        ("1.0", "\nConnection: keep-alive, close", Behind::Nothing),
    ] {
        let head = sound(&format!("GET / HTTP/{version}\nHost: a{connection}"));
        assert_eq!(head.behind, behind, "{version} {connection}");
        let written = String::from_utf8(head.bytes).unwrap();
        assert_eq!(
            written.contains("connection: close"),
            behind == Behind::Nothing
        );
    }
}

#[test]
fn bodies_are_announced_in_one_way() {
    let body = |headers: &str| {
        let head = sound(&format!("PUT / HTTP/1.1\nHost: a\n{headers}"));
        let (_, written) = std::str::from_utf8(&head.bytes)
            .unwrap()
            .split_once("a\r\n")
            .unwrap();
        (head.body, written.trim_end().to_owned())
    };
    assert_eq!(body("X: y").0, BodyFrame::of_length(0));
    assert_eq!(body("Content-Length: 0007").1, "content-length: 7");
    assert_eq!(body("Content-Length: 7").0, BodyFrame::of_length(7));
    let chunked = (
        BodyFrame::chunked(),
        "transfer-encoding: chunked".to_owned(),
    );
    assert_eq!(body("Transfer-Encoding: Chunked"), chunked);
    assert_eq!(body("Transfer-Encoding: , chunked"), chunked);
    let expects = body("Expect: 100-Continue\nContent-Length: 7");
    assert_eq!(expects.1, "expect: 100-continue\r\ncontent-length: 7");
    assert_eq!(
        body("Expect: 100-continue\nContent-Length: 0").1,
        "content-length: 0"
    );
    assert_eq!(body("Expect:\nContent-Length: 7").1, "content-length: 7");
    assert_eq!(
        written("PUT / HTTP/1.0\nExpect: 100-continue\nContent-Length: 7"),
        "PUT / HTTP/1.0\nconnection: close\ncontent-length: 7"
    );
}

#[test]
fn no_client_stands_in_for_a_fault() {
    let head = "GET / HTTP/1.1\nHost: a\nLongshore-Fault: slow";
    assert_eq!(written(head), "GET / HTTP/1.1\nHost: a");
    let own = stand_in(
        Fault::LongHead,
        b"\r\nHEAD /x\r\nACCEPT-LANGUAGE: zh, en;q=0.5 \r\nX",
    );
    let begin = "HEAD / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let sought =
        format!("{begin}longshore-fault: long-head\r\naccept-language: zh, en;q=0.5\r\n\r\n");
    assert_eq!(String::from_utf8(own).unwrap(), sought);
}

#[test]
fn every_fault_is_told_apart() {
    let many: String = (0..97).map(|i| format!("X-{i}: y\n")).collect();
    let long = "x".repeat(LINE_BYTES);
    let raw = "杰".repeat(LINE_BYTES / 9);
    let large = "x".repeat(HEAD_BYTES);
    for (head, fault) in [
        ("GET", Fault::Head),
        ("GET /", Fault::Head),
        ("GET / ", Fault::Head),
        ("GET / HTTP/1.1\nno header", Fault::Head),
        ("GET / HTTP/1.1\nHost : a", Fault::Head),
        ("GET / HTTP/1.1\nHost: a\n folded", Fault::Head),
        ("GET / HTTP/1.1\nHost: \0", Fault::Head),
        ("GET x HTTP/1.1\nHost: a", Fault::Head),
        ("GET * HTTP/1.1\nHost: a", Fault::Head),
        ("GET ftp://a/ HTTP/1.1\nHost: a", Fault::Head),
        ("GET http:///x HTTP/1.1\nHost: a", Fault::Head),
        ("GET / HTTP/x", Fault::Head),
        ("\u{16}\u{3}\u{1}", Fault::Head),
        ("GET / HTTP/2.0\nHost: a", Fault::Version),
        ("PRI * HTTP/2.0", Fault::Version),
        ("GET / HTTP/1.2\nHost: a", Fault::Version),
        ("CONNECT a:443 HTTP/1.1\nHost: a", Fault::Method),
        ("OPTIONS * HTTP/1.1\nHost: a", Fault::Method),
        ("GET / HTTP/1.1", Fault::Host),
        ("GET / HTTP/1.1\nHost: a\nHost: a", Fault::Host),
        ("GET / HTTP/1.0\nHost: a\nHost: b", Fault::Host),
        ("PUT / HTTP/1.1\nHost: a\nContent-Length: +1", Fault::Length),
        ("PUT / HTTP/1.1\nHost: a\nContent-Length:", Fault::Length),
        (
            "PUT / HTTP/1.1\nHost: a\nContent-Length: 1, 1",
            Fault::Length,
        ),
        (
            "PUT / HTTP/1.1\nHost: a\nContent-Length: 1\nContent-Length: 1",
            Fault::Length,
        ),
        ("POST / HTTP/1.0\nHost: a", Fault::Length),
        (
            "PUT / HTTP/1.1\nHost: a\nContent-Length: 18446744073709551616",
            Fault::TooLarge,
        ),
        (
            "PUT / HTTP/1.1\nHost: a\nContent-Length: 1\nTransfer-Encoding: chunked",
            Fault::Coding,
        ),
        (
            "PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, chunked",
            Fault::Coding,
        ),
        ("PUT / HTTP/1.1\nHost: a\nTransfer-Encoding:", Fault::Coding),
        ("PUT / HTTP/1.0\nTransfer-Encoding: chunked", Fault::Coding),
        (
            "PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked",
            Fault::UnknownCoding,
        ),
        (
            "PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: identity",
            Fault::UnknownCoding,
        ),
        (
            "PUT / HTTP/1.1\nHost: a\nTransfer-Encoding: x\nTransfer-Encoding: chunked",
            Fault::UnknownCoding,
        ),
        ("PUT / HTTP/1.1\nHost: a\nExpect: foo", Fault::Expectation),
        (
            "PUT / HTTP/1.1\nHost: a\nExpect: 100-continue, foo",
            Fault::Expectation,
        ),
        ("GET / HTTP/1.0\nExpect: foo", Fault::Expectation),
        (&format!("GET / HTTP/1.1\nHost: a\n{many}"), Fault::LongHead),
        (
            &format!("GET / HTTP/1.1\nHost: a\nX: {large}"),
            Fault::LongHead,
        ),
        (&format!("GET /{long} HTTP/1.1\nHost: a"), Fault::LongTarget),
        (&format!("GET /{raw} HTTP/1.1\nHost: a"), Fault::LongTarget),
    ] {
        let bytes = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
        let short: String = head.chars().take(80).collect();
        assert_eq!(read(bytes.as_bytes()), Err(fault), "{short}");
    }
}

/// The result for the first head of a stream that comes in chunks.
fn read_in_pieces(bytes: &[u8], step: usize) -> Result<Option<RequestHead>, Fault> {
    let mut end = 0;
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        match read(&bytes[..end]) {
            Ok(None) => {}
            found => return found,
        }
    }
    Ok(None)
}

#[test]
fn large_heads_are_judged_alike_in_any_pieces() {
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(HEAD_BYTES - 40)
    );
    let request = large.as_bytes();
    for length in [request.len() - 1, request.len()] {
        let whole = read(&request[..length]);
        assert_eq!(read_in_pieces(&request[..length], 1000), whole);
    }
    for padding in [1, 2, 3, 100, 5000] {
        let larger = large.replace("X: ", &format!("X: {}", "y".repeat(padding)));
        assert_eq!(
            read_in_pieces(larger.as_bytes(), 777),
            read(larger.as_bytes())
        );
    }
}

proptest! {
    #[test]
    fn any_cut_gives_the_same(
        head in "(\r\n)?(GET|PUT|OPTIONS|C\\(|)[ ]?(/[a-zé%]{0,4}|\\*|http://a/é|x)[ ]?(HTTP/1\\.[01]|HTTP/2\\.0|)\r?\n\
                 ((Host: a|Content-Length: [0-9]{1,2}|Transfer-Encoding: (chunked|gzip)|Connection: (close|upgrade)|Upgrade: websocket|a b|X: é)\r?\n){0,4}\
                 \r?\n(GET /é HTTP/1.1\r\n)?",
        step in 1..9usize,
    ) {
        let whole = read(head.as_bytes());
        prop_assert_eq!(read_in_pieces(head.as_bytes(), step), whole);
    }

    #[test]
    fn what_is_passed_on_passes_again_as_it_is(
        target in "/[a-zé?&=%]{0,9}",
        headers in "(X-[a-z]{1,3}: [ -~é]{0,9}\r\n|Connection: (close|keep-alive|upgrade)\r\n|Upgrade: websocket\r\n|Content-Length: 3\r\n){0,4}",
    ) {
        let request = format!("PUT {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        if let Ok(Some(head)) = read(request.as_bytes()) {
            let again = read(&head.bytes).unwrap().unwrap();
            let bytes = |head: &RequestHead| String::from_utf8_lossy(&head.bytes).into_owned();
            let sorted = |head: &RequestHead| {
                let text = bytes(head);
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            prop_assert_eq!(sorted(&again), sorted(&head));
            prop_assert_eq!((again.body, again.behind), (head.body, head.behind));
        }
    }
}
