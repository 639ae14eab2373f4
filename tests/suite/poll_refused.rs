//! Requests that the wire refuses, and the form of its refusals.

use serde_json::Value;

use crate::fixture::{Answer, Longshore, Wire};

fn chat() -> Longshore {
    Longshore::settings().start()
}

#[test]
fn a_foreign_origin_is_refused() {
    let server = chat();
    let address = server.url.trim_start_matches("http://").to_owned();
    let send = |headers: &[(&str, &str)]| {
        let mut request = ureq::post(format!("{}/send_msg", server.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.config().http_status_as_error(false).build();
        request
            .send_form([("content", "x"), ("name", "ann")])
            .unwrap()
    };
    let mut refused = send(&[("Origin", "http://evil.example")]);
    assert_eq!(refused.status(), 403);
    let error: Value = refused.body_mut().read_json().unwrap();
    assert!(
        error["code"].is_string() && error["message"].is_string(),
        "{error}"
    );
    assert_eq!(
        send(&[("Referer", "http://evil.example/page")]).status(),
        403
    );
    assert_eq!(send(&[("Origin", "null")]).status(), 403);
    assert_eq!(send(&[("Origin", &server.url)]).status(), 200);
    assert_eq!(
        send(&[
            ("Origin", &format!("http://{address}")),
            ("Referer", "http://evil.example")
        ])
        .status(),
        200
    );
    assert_eq!(
        send(&[]).status(),
        200,
        "a program without a login has neither"
    );
}

#[test]
fn refused_requests_say_why_in_json() {
    let server = chat();
    let ann = server.wire("ann");
    let get = |pairs: &[(&str, &str)]| ann.get_msg(pairs);
    let long = "n".repeat(65);
    let named = |name: &str| {
        server
            .wire(name)
            .get_msg(&[("room", "chat"), ("after", "now")])
    };
    let send = |form: &[(&str, &str)]| ann.send(form);
    let large = "好".repeat(64 * 1024 / 3 + 1);
    let cases: Vec<(&str, u16, Answer)> = vec![
        (
            "a bad cursor",
            400,
            get(&[("room", "chat"), ("after", "no cursor!")]),
        ),
        (
            "a cursor of no installation",
            400,
            get(&[("room", "chat"), ("after", "x")]),
        ),
        (
            "a bad number",
            400,
            get(&[("room", "chat"), ("after", "now"), ("wait", "soon")]),
        ),
        (
            "a wait out of bounds",
            422,
            get(&[("room", "chat"), ("after", "now"), ("wait", "61")]),
        ),
        (
            "a room that cannot be",
            422,
            get(&[("room", "no/such/room"), ("after", "now")]),
        ),
        ("an empty name", 422, named("")),
        ("a long name", 422, named(&long)),
        ("a name with a line break", 422, named("a\nb")),
        (
            "a release's room without a login",
            401,
            get(&[("room", "release/1"), ("after", "now")]),
        ),
        (
            "the dashboard's room without a login",
            401,
            get(&[("room", "releases"), ("after", "now")]),
        ),
        (
            "publishing to a release",
            403,
            send(&[("content", "x"), ("room", "release/1"), ("name", "ann")]),
        ),
        (
            "publishing too much",
            413,
            send(&[("content", &large), ("name", "ann")]),
        ),
        ("publishing nothing", 400, send(&[("name", "ann")])),
        ("publishing bad JSON", 400, json_post(&ann, "{")),
    ];
    for (what, status, answer) in cases {
        // A missing value is malformed or out of bounds: the contract leaves that open.
        let same = answer.status == status
            || (status, answer.status) == (400, 422)
            || (status, answer.status) == (422, 400);
        assert!(same, "{what}: {} {}", answer.status, answer.text);
        let error = answer.json();
        assert!(
            error["code"].is_string() && error["message"].is_string(),
            "{what}: {error}"
        );
    }
    let fits = "好".repeat(64 * 1024 / 3);
    assert_eq!(
        send(&[("content", &fits), ("name", "ann")]).status,
        200,
        "64 KiB of content, three times that in a form"
    );
}

#[test]
fn a_message_can_be_sent_as_json() {
    let server = chat();
    let ann = server.wire("ann");
    let mut after = ann.now("chat");
    let sent = json_post(
        &ann,
        r#"{"content":"\"hi\" <b>","name":"ann","room":"chat"}"#,
    )
    .expect(200);
    assert!(
        sent["id"].as_str().unwrap().parse::<u64>().is_ok(),
        "{sent}"
    );
    assert_eq!(ann.drain("chat", &mut after), ["\"hi\" <b>"]);
}

#[test]
fn members_only_chat_needs_a_login() {
    let server = Longshore::settings().set("chat", "members").start();
    let ann = server.wire("ann");
    assert_eq!(
        ann.get_msg(&[("room", "chat"), ("after", "now")]).status,
        401
    );
    assert_eq!(ann.send(&[("content", "x"), ("name", "ann")]).status, 401);
}

fn json_post(wire: &Wire, body: &str) -> Answer {
    let mut response = ureq::post(format!("{}/send_msg", wire.url))
        .header("Content-Type", "application/json")
        .header("Accept", "application/json")
        .config()
        .http_status_as_error(false)
        .build()
        .send(body)
        .unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string().unwrap(),
    }
}
