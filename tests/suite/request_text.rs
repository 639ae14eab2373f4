//! Requests as they come in the world: in other encodings, with other programs' cookies and headers,
//! from other sites' links. Byte by byte, by both ways in.

use std::io::Read;

use serde_json::json;

use crate::fixture::{
    Longshore, PASSWORD, RawAnswer, RawConnection, USER, ask_raw, raw, raw_request, until,
};

pub const FORM: &[u8] = b"Content-Type: application/x-www-form-urlencoded";
pub const JSON: &[u8] = b"Content-Type: application/json";

pub fn chat() -> Longshore {
    Longshore::settings().start()
}

/// A browser's login: what the cookie carries.
pub fn session(server: &Longshore) -> String {
    let form = format!("name={USER}&password={}", PASSWORD.replace(' ', "+"));
    let answer = ask_raw(
        &server.url,
        &raw(&server.url, b"POST /login", &[FORM], form.as_bytes()),
    );
    assert_eq!(answer.status, 303, "{}", answer.body);
    let cookie = answer.header("set-cookie");
    let token = cookie.strip_prefix("longshore_session=");
    token.unwrap().split(';').next().unwrap().to_owned()
}

pub fn get(server: &Longshore, target: &[u8], headers: &[&[u8]]) -> RawAnswer {
    let line = [b"GET ", target].concat();
    ask_raw(&server.url, &raw(&server.url, &line, headers, b""))
}

/// A request on a connection that was the routes' before, and so stays theirs.
fn by_the_routes(server: &Longshore, request: &[u8]) -> RawAnswer {
    routes_connection(server).ask(request)
}

pub fn routes_connection(server: &Longshore) -> RawConnection {
    let mut connection = RawConnection::to(&server.url);
    let first = raw(&server.url, b"GET /assets/theme.js", &[], b"");
    assert_eq!(connection.ask(&first).status, 200);
    connection
}

/// The same on a connection that was the poll loop's before.
fn by_the_poll_loop(server: &Longshore, request: &[u8]) -> RawAnswer {
    poll_loop_connection(server).ask(request)
}

pub fn poll_loop_connection(server: &Longshore) -> RawConnection {
    let mut connection = RawConnection::to(&server.url);
    let first = b"GET /get_msg?name=first&room=chat&after=now";
    let first = raw(&server.url, first, &[], b"");
    assert_eq!(connection.ask(&first).status, 200);
    connection
}

/// The answer without the headers that may differ between both ways in: date and connection.
fn essence(mut answer: RawAnswer) -> RawAnswer {
    // A page's connection is ended after its first poll, so that the next one is the poll loop's.
    answer
        .headers
        .retain(|(name, _)| !matches!(name.as_str(), "date" | "connection"));
    answer
}

#[test]
fn two_hundred_requests_are_answered_alike_by_both_ways_in() {
    let server = chat();
    let token = session(&server);
    let bearer = format!("Authorization: Bearer {}", server.token);
    let cookie = format!("Cookie: longshore_session={token}");
    let hidden = format!("Cookie: nick=杰森; longshore_session={token}");
    let own = format!("Referer: {}/home/?name=杰森", server.url);
    let origin = format!("Origin: {}", server.url);
    let targets: [&[u8]; 20] = [
        b"name=ann&room=chat&after=now",
        b"name=ann&room=chat&after=start&wait=0",
        b"name=ann&wait=0",
        "name=杰森&room=chat&after=now".as_bytes(),
        "name=%E6%9D%B0%E6%A3%AE&room=chat/日志&after=now".as_bytes(),
        b"name=%C0%EE&room=chat&after=now",
        b"name=ann&room=chat%2F%FF&after=now",
        b"name=ann&room=chat&after=%E4%BD",
        b"name=ann&room[]=chat&room[]=vote/x&after=now",
        b"name=ann&room=releases&after=now",
        b"name=ann&room=release/1&after=start&wait=0",
        b"name=ann&room=nowhere&after=now",
        b"name=ann&room=chat&after=!",
        b"name=ann&room=chat&after=now&x=%FF&%FF=1",
        b"name=&room=chat&after=now",
        b"room=chat&after=now",
        b"name=a%00b&room=chat&after=now",
        b"name=ann&room=chat&after=now&wait=61",
        b"name=ann&after=now",
        b"name=a+b&room=chat&after=now&wait=0.0",
    ];
    let headers: [&[&[u8]]; 14] = [
        &[],
        &[bearer.as_bytes()],
        &[cookie.as_bytes()],
        &[hidden.as_bytes()],
        &[b"Cookie: nick=\xbd\xdc\xc9\xad; longshore_session=x"],
        &[b"Authorization: Basic eDp5", cookie.as_bytes()],
        &[b"Authorization: Bearer x", cookie.as_bytes()],
        &[own.as_bytes(), cookie.as_bytes()],
        &[origin.as_bytes(), cookie.as_bytes()],
        &[b"Referer: https://git.example/", cookie.as_bytes()],
        &[b"Referer: about:blank"],
        &[b"Origin: null"],
        &[b"Host: evil.example", b"Origin: http://evil.example"],
        &[b"X-Forwarded-For: \xff, 10.0.0.1", b"Via: 1.1 a"],
    ];
    let mut count = 0;
    for target in targets {
        for headers in headers {
            let line = [b"GET /get_msg?", target].concat();
            let request = raw(&server.url, &line, headers, b"");
            let routes = essence(by_the_routes(&server, &request));
            let poll_loop = essence(by_the_poll_loop(&server, &request));
            let fresh = essence(ask_raw(&server.url, &request));
            let told = String::from_utf8_lossy(&request);
            assert_eq!(poll_loop, routes, "{told}");
            assert_eq!(fresh, routes, "{told}");
            assert!(routes.status < 500, "{told} {routes:?}");
            count += 1;
        }
    }
    assert!(count >= 200, "{count}");
}

#[test]
fn links_from_other_sites_open_pages_and_assets_alone() {
    let server = chat();
    let token = session(&server);
    let cookie = format!("Cookie: longshore_session={token}");
    let referers: [&[u8]; 8] = [
        b"Referer: https://git.example/",
        b"Referer:",
        b"Referer: about:blank",
        b"Referer: /wiki/page",
        b"Referer: android-app://com.example/",
        "Referer: http://wiki.example/?q=杰森".as_bytes(),
        b"Referer: \xbd\xdc\xc9\xad",
        b"Origin: null",
    ];
    for referer in referers {
        for path in [
            "/releases",
            "/",
            "/home/?name=o",
            "/assets/longshore.js",
            "/vote",
        ] {
            let answer = get(&server, path.as_bytes(), &[referer, cookie.as_bytes()]);
            assert_eq!(
                answer.status,
                200,
                "{path} {}",
                String::from_utf8_lossy(referer)
            );
        }
        assert_eq!(get(&server, b"/login", &[referer]).status, 200);
    }
    // Polls and streams with a login stay shut to other sites, and so does every change.
    let foreign: [&[u8]; 3] = [
        b"Referer: https://git.example/",
        b"Origin: https://git.example",
        b"Origin: null",
    ];
    for foreign in foreign {
        for path in [
            "/get_msg?name=a&room=chat&after=now",
            "/get_msg?name=a&wait=0",
            "/events?name=a&room=chat",
        ] {
            let answer = get(&server, path.as_bytes(), &[foreign, cookie.as_bytes()]);
            assert_eq!(answer.status, 403, "{path}");
        }
        for path in ["/send_msg", "/preferences", "/logout", "/vote/x", "/login"] {
            let line = format!("POST {path}");
            let headers = [foreign, FORM, cookie.as_bytes()];
            let request = raw(&server.url, line.as_bytes(), &headers, b"content=x&name=a");
            assert_eq!(ask_raw(&server.url, &request).status, 403, "{path}");
        }
    }
}

#[test]
fn a_cookie_of_another_program_hides_none_of_ours() {
    let server = chat();
    let token = session(&server);
    let others: [&[u8]; 5] = [
        "nick=杰森".as_bytes(),
        b"nick=\xbd\xdc\xc9\xad",
        b"\xff\xfe",
        b"a=b; junk; =; ;",
        b"longshore_session=\xff",
    ];
    for other in others {
        let cookie = [
            b"Cookie: ",
            other,
            b"; longshore_session=",
            token.as_bytes(),
        ]
        .concat();
        let told = String::from_utf8_lossy(other);
        assert_eq!(get(&server, b"/releases", &[&cookie]).status, 200, "{told}");
        let poll = b"/get_msg?name=a&room=releases&after=now";
        assert_eq!(get(&server, poll, &[&cookie]).status, 200, "{told}");
    }
    // A lost reply of the course's contract comes again, by its cookie.
    let home = get(&server, b"/home/?name=jason", &[]);
    let set = home
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    server.wire("ann").say("not lost");
    for other in others {
        let cookie = [b"Cookie: ", other, b"; ", set.as_bytes()].concat();
        for _ in 0..2 {
            let answer = get(&server, b"/get_msg/?name=jason&wait=5", &[&cookie]);
            assert_eq!(answer.json(), json!({"status": true, "msg": "not lost"}));
        }
    }
    // And a voter is one, with whatever else the jar holds.
    let page = get(&server, b"/vote/lunch", &[]);
    let set = page
        .headers
        .iter()
        .find(|(name, value)| name == "set-cookie" && value.starts_with("longshore_guest"));
    let guest = set.unwrap().1.split(';').next().unwrap().to_owned();
    let own = format!("Origin: {}", server.url);
    let cookie = [b"Cookie: nick=\xbd\xdc; ", guest.as_bytes()].concat();
    let post = |path: &[u8], body: &[u8]| {
        let line = [b"POST ", path].concat();
        let headers = [FORM, own.as_bytes(), &cookie, b"Accept: application/json"];
        ask_raw(&server.url, &raw(&server.url, &line, &headers, body))
    };
    let asked = post(b"/vote/lunch/question", b"question=q&options=a%0Ab");
    assert_eq!(asked.status, 303, "{}", asked.body);
    let cast = post(b"/vote/lunch", b"choice=2");
    assert_eq!((cast.status, &cast.json()["choice"]), (200, &json!(2)));
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_field() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let post = |path: &[u8], kind: &[u8], body: &[u8]| {
        let line = [b"POST ", path].concat();
        ask_raw(&server.url, &raw(&server.url, &line, &[kind], body))
    };
    let malformed = |field: &str| (400, "malformed".to_owned(), field.to_owned());
    let forms: [(&[u8], &str); 8] = [
        (b"content=%C4%E3%BA%C3", "content"),
        (b"content=\xc4\xe3\xba\xc3", "content"),
        (b"content=%E4%BD", "content"),
        (b"content=x&name=%C0%EE%C0%D7", "name"),
        (b"content=x&room=chat%2F%D5%C5", "room"),
        (b"content=x%ED%A0%80", "content"),
        (b"content=\xe4%BD", "content"),
        (b"name=%FF&content=", "name"),
    ];
    for (form, field) in forms {
        let answer = post(b"/send_msg/", FORM, form);
        let told = String::from_utf8_lossy(form);
        assert_eq!(answer.refusal(), malformed(field), "{told}");
    }
    let answer = post(b"/send_msg", JSON, b"{\"content\":\"\xc4\xe3\"}");
    assert_eq!(
        (answer.status, answer.refusal().1.as_str()),
        (400, "malformed")
    );
    for (target, field) in [
        ("/get_msg?name=%C0%EE%C0%D7&room=chat&after=now", "name"),
        ("/get_msg?name=%C0%EE%C0%D7&wait=0", "name"),
        ("/get_msg?name=a&room=chat%2F%FF&after=now", "room"),
        ("/events?name=%FF", "name"),
        ("/events?name=a&lastEventId=%FF", "last-event-id"),
        ("/ws?name=%FF", "name"),
        ("/chat/?name=%FF", "name"),
    ] {
        let upgrade: [&[u8]; 4] = [
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        let is_socket = target.starts_with("/ws") || target.starts_with("/chat/");
        let headers = if is_socket { &upgrade[..] } else { &[] };
        let answer = get(&server, target.as_bytes(), headers);
        assert_eq!(answer.refusal(), malformed(field), "{target}");
    }
    for target in [
        "/home/?name=%C0%EE",
        "/home/?name=a&room=%FF",
        "/chat/%FF?name=a",
        "/vote/%C4%E3",
    ] {
        assert_eq!(get(&server, target.as_bytes(), &[]).status, 400, "{target}");
    }
    let own = format!("Authorization: Bearer {}", server.token);
    for (target, field) in [
        ("/api/v1/releases?project_id=%FF", "project_id"),
        ("/api/v1/releases/1/nodes/%FF/log", "path"),
    ] {
        let answer = get(&server, target.as_bytes(), &[own.as_bytes()]);
        assert_eq!(answer.refusal(), malformed(field), "{target}");
    }
    assert_eq!(
        post(b"/vote", FORM, b"name=x&question=%FF&options=a%0Ab").status,
        400
    );
    // Not ours, so of no interest; and what is UTF-8 passes as it is.
    let sound = post(
        b"/send_msg",
        FORM,
        "content=好%E5%A5%BD&utm=%FF&%FF=x".as_bytes(),
    );
    assert_eq!((sound.status, sound.body.as_str()), (200, "OK"));
    assert_eq!(ann.drain("chat", &mut after), ["好好"]);
}

#[test]
fn what_is_not_utf8_is_told_by_a_page_on_pages_and_as_json_to_programs() {
    let server = chat();
    let accept: &[u8] = b"Accept: text/html,application/xhtml+xml;q=0.9";
    for target in [
        "/%FF",
        "/login?next=%FF",
        "/projects/%FF/edit",
        "/home/?name=%FF",
        "/chat/%FF",
        "/vote/%FF",
        "/assets/%FF",
    ] {
        let answer = get(&server, target.as_bytes(), &[accept]);
        assert_eq!(answer.status, 400, "{target}");
        let kind = answer.header("content-type");
        assert!(kind.starts_with("text/html"), "{target} {kind}");
        assert!(answer.body.starts_with("<!doctype html>"), "{target}");
    }
    let form = raw(&server.url, b"POST /login", &[FORM, accept], b"name=%FF");
    let answer = ask_raw(&server.url, &form);
    assert_eq!(answer.status, 400);
    assert!(answer.header("content-type").starts_with("text/html"));
    for target in [
        "/api/v1/%FF",
        "/api/%FF",
        "/get_msg?name=%FF&room=chat",
        "/events?name=%FF",
    ] {
        let answer = get(&server, target.as_bytes(), &[accept]);
        assert_eq!(answer.refusal().0, 400, "{target}");
    }
}

#[test]
fn raw_utf8_in_a_target_counts_as_encoded() {
    let server = chat();
    let close = b"Connection: close";
    for target in [
        "/get_msg?name=杰森&room=chat&after=now",
        "/get_msg/?name=杰森&wait=0",
        "/home/?name=杰森",
        "/events?name=杰森&room=chat/日志",
        "/chat/日志?name=杰森",
        "/vote/午饭",
    ] {
        let line = format!("GET {target}");
        for headers in [&[][..], &[&close[..]]] {
            let request = raw(&server.url, line.as_bytes(), headers, b"");
            assert_eq!(ask_raw(&server.url, &request).status, 200, "{target}");
            assert_eq!(by_the_routes(&server, &request).status, 200, "{target}");
            assert_eq!(by_the_poll_loop(&server, &request).status, 200, "{target}");
        }
        let old = format!("{line} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        assert_eq!(ask_raw(&server.url, old.as_bytes()).status, 200, "{target}");
    }
    // Behind bodies of both kinds, on one connection.
    let mut connection = RawConnection::to(&server.url);
    let body = "content=好&name=杰森".as_bytes();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    for _ in 0..3 {
        let sent = raw(&server.url, b"POST /send_msg", &[FORM], body);
        assert_eq!(connection.ask(&sent).body, "OK");
        let headers: [&[u8]; 2] = [FORM, b"Transfer-Encoding: chunked"];
        let mut chunked = raw(&server.url, "POST /send_msg?杰".as_bytes(), &headers, b"");
        for piece in body.chunks(5) {
            chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
            chunked.extend(piece);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\n\r\n");
        assert_eq!(connection.ask(&chunked).body, "OK");
        let home = raw(&server.url, "GET /home/?name=杰森".as_bytes(), &[], b"");
        let home = connection.ask(&home);
        assert!(home.status == 200 && home.body.contains("杰森"));
    }
    assert_eq!(ann.drain("chat", &mut after), ["好"; 6]);
    // The other characters that no target may hold count as encoded too, by both ways.
    let signs = raw(
        &server.url,
        b"GET /get_msg?name=<a>\\\"{|}^`&room=chat&after=now",
        &[],
        b"",
    );
    assert_eq!(by_the_routes(&server, &signs).status, 200);
    assert_eq!(by_the_poll_loop(&server, &signs).status, 200);
    // Other encodings are refused, as JSON and with the field.
    let malformed = (400, "malformed".to_owned(), "name".to_owned());
    for target in [
        &b"/get_msg?name=\xbd\xdc\xc9\xad&room=chat&after=now"[..],
        b"/get_msg?name=\xbd\xdc\xc9\xad",
        b"/events?name=\xe4\xbd",
        b"/api/v1/audit?server_id=1&name=\xff",
    ] {
        let is_wire = !target.starts_with(b"/api");
        let bearer = format!("Authorization: Bearer {}", server.token);
        let answer = get(&server, target, &[bearer.as_bytes()]);
        match is_wire {
            true => assert_eq!(answer.refusal(), malformed),
            false => assert_eq!(answer.status, 200),
        }
    }
    assert_eq!(get(&server, b"/home/?name=\xbd\xdc", &[]).status, 400);
    assert_eq!(get(&server, b"/vote/\xbd\xdc", &[]).status, 400);
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_stream_goes_on_from_the_last_id_in_its_query() {
    let server = chat();
    let ann = server.wire("ann");
    let before = ann.now("chat");
    ann.say("one");
    let behind = ann.now("chat");
    ann.say("two");
    let events = |query: &str, header: Option<&str>| {
        let header = header.map(|id| format!("Last-Event-ID: {id}\n"));
        let head = format!("GET /events?name=s{query}\n{}", header.unwrap_or_default());
        let mut stream = raw_request(&server.url, &head);
        let mut text = String::new();
        until("an event with data", || {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).expect("the stream");
            text.push_str(&String::from_utf8_lossy(&piece[..length]));
            text.contains("event: message").then_some(())
        });
        (
            text.contains(r#""data":"one""#),
            text.contains(r#""data":"two""#),
        )
    };
    for name in [
        "lastEventId",
        "lastEventID",
        "last_event_id",
        "Last-Event-ID",
    ] {
        let query = format!("&room=chat&{name}={before}");
        assert_eq!(events(&query, None), (true, true), "{name}");
        let query = format!("&room=chat&after={before}&{name}={behind}");
        assert_eq!(events(&query, None), (false, true), "{name}");
        let query = format!("&room=chat&{name}={before}");
        assert_eq!(events(&query, Some(&behind)), (false, true), "{name}");
    }
}
