//! The sender of a request: logins beside other programs' headers, spellings of paths, names of this
//! server, proxies, and the parts of a request that reach the log.

use serde_json::json;

use crate::fixture::{Fleet, Longshore, PASSWORD, Someone, USER, ask_raw, raw};
use crate::request_text::{FORM, JSON, chat, get, session};

#[test]
fn another_authorization_leaves_the_login_cookie_in_force() {
    let server = chat();
    let token = session(&server);
    let cookie = format!("Cookie: longshore_session={token}");
    let poll = b"/get_msg?name=a&room=releases&after=now";
    for (authorization, status) in [
        ("Basic eDp5", 200),
        ("Negotiate abc", 200),
        ("Digest username=\"a\"", 200),
        ("", 200),
        ("Bearer x", 401),
        ("bearer", 401),
    ] {
        let header = format!("Authorization: {authorization}");
        let headers: [&[u8]; 2] = [header.as_bytes(), cookie.as_bytes()];
        for target in [&b"/api/v1/releases"[..], poll] {
            let answer = get(&server, target, &headers);
            assert_eq!(answer.status, status, "{authorization:?}");
        }
        let alone = get(&server, b"/api/v1/releases", &[header.as_bytes()]);
        assert_eq!(alone.status, 401, "{authorization:?}");
    }
    // The proxy's password saves no form its token.
    let headers: [&[u8]; 3] = [FORM, b"Authorization: Basic eDp5", cookie.as_bytes()];
    let request = raw(&server.url, b"POST /logout", &headers, b"x=y");
    assert_eq!(ask_raw(&server.url, &request).status, 403);
}

#[test]
fn one_spelling_of_a_path_decides_all() {
    let fleet = Fleet::of(1);
    let server = &fleet.longshore;
    let file = fleet.machines[0].root.path().join("file");
    std::fs::write(&file, "before").expect("a file");
    let own = format!("Authorization: Bearer {}", server.token);
    let before = "before".to_owned();
    for (path, content) in [
        ("/api/v1/servers/1/fil%65", "one"),
        ("/api/v1/%73ervers/1/%66ile/", "two"),
        ("/%61pi/v1/servers/1/file", "three"),
    ] {
        let line = format!("PUT {path}?path={}", file.display());
        let request = raw(
            &server.url,
            line.as_bytes(),
            &[own.as_bytes()],
            content.as_bytes(),
        );
        let answer = ask_raw(&server.url, &request);
        assert_eq!(answer.json(), json!({"bytes": content.len()}), "{path}");
        assert_eq!(
            std::fs::read_to_string(&file).expect("it"),
            content,
            "{path}"
        );
    }
    assert_ne!(std::fs::read_to_string(&file).expect("it"), before);
    // Errors of the API are JSON under each spelling, and the CSRF token is asked for.
    for path in ["/api/v1/nowhere", "/ap%69/v1/nowhere", "/%61%70%69/nowhere"] {
        assert_eq!(
            get(server, path.as_bytes(), &[]).refusal().1,
            "not_found",
            "{path}"
        );
    }
    let origin = format!("Origin: {}", server.url);
    for (path, status) in [("/l%6fgin", 303), ("/l%6fgout", 403), ("/logout%2F", 403)] {
        let cookie = format!("Cookie: longshore_session={}", session(server));
        let headers: [&[u8]; 3] = [FORM, origin.as_bytes(), cookie.as_bytes()];
        let line = format!("POST {path}");
        let form = format!("name={USER}&password={}", PASSWORD.replace(' ', "+"));
        let request = raw(&server.url, line.as_bytes(), &headers, form.as_bytes());
        assert_eq!(ask_raw(&server.url, &request).status, status, "{path}");
    }
    let asset = get(server, b"/assets/them%65.js", &[]);
    assert_eq!(asset.status, 200);
    let poll = get(server, b"/get_ms%67?name=a&room=chat&after=now", &[]);
    assert_eq!(poll.status, 200);
}

#[test]
fn a_request_with_very_many_fields_costs_no_more_than_its_bytes() {
    let server = chat();
    let own = format!("Authorization: Bearer {}", server.token);
    let fields: Vec<String> = (0..120_000).map(|i| format!("\"k{i}\":1")).collect();
    let body = format!("{{{}}}", fields.join(","));
    assert!(body.len() > 1_000_000 && body.len() < 2_000_000);
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let headers: [&[u8]; 2] = [JSON, own.as_bytes()];
                let request = raw(
                    &server.url,
                    b"POST /api/v1/releases",
                    &headers,
                    body.as_bytes(),
                );
                let answer = ask_raw(&server.url, &request);
                assert_eq!(answer.refusal().1, "too_many_fields", "{}", answer.status);
                assert_eq!(answer.status, 422);
            });
        }
    });
    // Quadratic, these took minutes.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    // Of those that are read, sixteen errors are told.
    let fields: Vec<String> = (0..40).map(|i| format!("\"k{i}\":1")).collect();
    let body = format!("{{{}}}", fields.join(","));
    let headers: [&[u8]; 2] = [JSON, own.as_bytes()];
    let request = raw(
        &server.url,
        b"POST /api/v1/releases",
        &headers,
        body.as_bytes(),
    );
    let told = ask_raw(&server.url, &request).json();
    assert_eq!(told["errors"].as_object().unwrap().len(), 16, "{told}");
    // A form drops nothing in silence.
    let form: Vec<String> = (0..65).map(|i| format!("k{i}=1")).collect();
    let form = raw(
        &server.url,
        b"POST /preferences",
        &[FORM],
        form.join("&").as_bytes(),
    );
    assert_eq!(ask_raw(&server.url, &form).status, 422);
    let form = "lang=en&".repeat(10_001);
    let form = raw(
        &server.url,
        b"POST /login",
        &[FORM],
        &form.as_bytes()[..60_000],
    );
    assert_ne!(ask_raw(&server.url, &form).status, 500);
}

#[test]
fn a_name_that_a_stranger_gave_this_server_opens_nothing() {
    let server = chat();
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let host = |name: &str| format!("Host: {name}:{port}");
    let paths = [
        "/metrics",
        "/home/?name=a",
        "/chat/room?name=a",
        "/vote",
        "/get_msg?name=a&room=chat&after=now",
        "/get_msg?name=a&wait=0",
        "/events?name=a&room=chat",
    ];
    for path in paths {
        let foreign = host("evil.example");
        let answer = get(&server, path.as_bytes(), &[foreign.as_bytes()]);
        assert!(
            matches!(answer.status, 401 | 403),
            "{path}: {}",
            answer.status
        );
        for own in ["127.0.0.1", "localhost", "[::1]", "classroom-pc"] {
            let answer = get(&server, path.as_bytes(), &[host(own).as_bytes()]);
            assert_eq!(answer.status, 200, "{path} {own}");
        }
    }
    let foreign = host("evil.example");
    let origin = format!("Origin: http://evil.example:{port}");
    let headers: [&[u8]; 3] = [foreign.as_bytes(), origin.as_bytes(), FORM];
    let request = raw(
        &server.url,
        b"POST /send_msg",
        &headers,
        b"content=x&name=a",
    );
    let answer = ask_raw(&server.url, &request);
    assert_eq!(answer.refusal(), (403, "forbidden".into(), "host".into()));
    // A made-up cookie is no login, and one that is known shows who asks.
    let junk: [&[u8]; 2] = [foreign.as_bytes(), b"Cookie: longshore_session=x"];
    let poll = b"/get_msg?name=a&room=chat&after=now";
    assert_eq!(get(&server, poll, &junk).status, 403);
    let bearer = format!("Authorization: Bearer {}", server.token);
    let known: [&[u8]; 2] = [foreign.as_bytes(), bearer.as_bytes()];
    for path in [&b"/metrics"[..], poll] {
        assert_eq!(get(&server, path, &known).status, 200);
    }
    let public = Longshore::settings()
        .set("public_urls", "https://push.example")
        .start();
    assert_eq!(get(&public, poll, &[b"Host: push.example"]).status, 200);
    assert_eq!(get(&public, poll, &[b"Host: other.example"]).status, 403);
}

#[test]
fn what_a_proxy_of_any_kind_hands_on_is_not_from_this_machine() {
    let server = chat();
    assert_eq!(get(&server, b"/metrics", &[]).status, 200);
    for header in [
        "Via: 1.1 squid",
        "Forwarded: for=1.2.3.4",
        "X-Forwarded-Port: 80",
        "X-Forwarded-Server: a",
        "X-Forwarded: 1.2.3.4",
        "CF-Connecting-IP: 1.2.3.4",
        "True-Client-IP: 1.2.3.4",
        "X-Client-IP: 1.2.3.4",
        "X-Envoy-External-Address: 1.2.3.4",
        "X-Original-Forwarded-For: 1.2.3.4",
        "CDN-Loop: a",
    ] {
        let answer = get(&server, b"/metrics", &[header.as_bytes()]);
        assert_eq!(answer.status, 401, "{header}");
    }
}

#[test]
fn what_was_typed_for_a_name_stays_out_of_the_log() {
    let server = chat();
    let someone = Someone::of(&server);
    let attempts = [("hunter2 is my password", "x"), (USER, "wrong")];
    for (name, password) in attempts {
        let form = [("name", name), ("password", password)];
        assert_eq!(someone.post("/login", &form).status, 401);
    }
    let log = server.log();
    let failed: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("login failed"))
        .collect();
    assert_eq!(failed.len(), 2, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    assert!(failed[1].contains(USER), "{log}");
}

#[test]
fn a_title_that_shows_nothing_is_none() {
    let server = chat();
    let api = server.api();
    for title in [
        "\u{200b}",
        "\u{200b}\u{200d} \u{feff}",
        "\u{3164}",
        "\u{2800}",
    ] {
        let answer = api.post("servers", &json!({"hostname": title, "kind": "local"}));
        assert_eq!(answer.status, 422, "{title:?}");
        let errors = &answer.json()["errors"];
        assert!(errors["hostname"].is_string(), "{}", answer.text);
        let question = server.wire("ann").post_form(
            "/vote/lunch/question",
            &[("question", title), ("options", "a\nb")],
        );
        assert_eq!(question.status, 422, "{title:?}");
    }
}
