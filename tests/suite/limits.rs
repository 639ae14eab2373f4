//! Limits on strangers, and the effect of exceeding them, on the stranger and on everybody else.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Answer, Longshore, until, until_true};

/// A poll that asks for the cursor of this moment, as it comes from `address` through a proxy here.
fn enter(server: &Longshore, name: &str, address: &str) -> Answer {
    let url = format!("{}/get_msg", server.url);
    let query = [("name", name), ("room", "chat"), ("after", "now")];
    Answer::of(
        ureq::get(&url)
            .query_pairs(query)
            .header("X-Forwarded-For", address)
            .config()
            .http_status_as_error(false)
            .build()
            .call(),
    )
}

fn send(server: &Longshore, name: &str, address: &str) -> Answer {
    let form = [("name", name), ("content", "hi")];
    Answer::of(
        ureq::post(format!("{}/send_msg", server.url))
            .header("X-Forwarded-For", address)
            .config()
            .http_status_as_error(false)
            .build()
            .send_form(form),
    )
}

#[track_caller]
fn refused(answer: &Answer, status: u16, field: &str) -> Value {
    let error = answer.json();
    assert_eq!(answer.status, status, "{error}");
    assert_eq!(error["field"], field, "{error}");
    if matches!(status, 429 | 503) {
        let after: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
    }
    error
}

#[test]
fn clients_are_counted_in_all_and_by_address() {
    let server = Longshore::bounded()
        .set("clients", "5")
        .set("address_clients", "3")
        .set("trusted_proxies", "127.0.0.1")
        .start();
    for name in ["a", "b", "c", "a"] {
        enter(&server, name, "192.0.2.1").expect(200);
    }
    let full = enter(&server, "d", "192.0.2.1");
    refused(&full, 429, "");
    assert!(full.text.contains("address"), "{}", full.text);
    // An address that the sender wrote itself makes it no other sender; a /64 is one sender.
    refused(&enter(&server, "d", "198.51.100.9, 192.0.2.1"), 429, "");
    enter(&server, "d", "2001:db8::1").expect(200);
    enter(&server, "e", "2001:db8::ffff:2").expect(200);
    let full = enter(&server, "f", "192.0.2.2");
    refused(&full, 429, "");
    assert!(!full.text.contains("address"), "{}", full.text);
    enter(&server, "a", "192.0.2.1").expect(200);
}

#[test]
fn rooms_and_sizes_are_bounded() {
    let server = Longshore::bounded()
        .set("poll_rooms", "3")
        .set("message_bytes", "10")
        .start();
    let ann = server.wire("ann");
    let rooms = |count: usize| -> Vec<(String, String)> {
        (0..count)
            .map(|i| ("room".to_owned(), format!("chat/{i}")))
            .collect()
    };
    let poll = |count: usize| {
        let mut pairs = rooms(count);
        pairs.push(("after".to_owned(), "now".to_owned()));
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
        ann.get_msg(&pairs)
    };
    poll(3).expect(200);
    refused(&poll(4), 422, "room");
    refused(&poll(300), 422, "room");
    assert_eq!(ann.send(&[("content", "0123456789")]).status, 200);
    refused(&ann.send(&[("content", "0123456789a")]), 413, "content");
}

#[test]
fn messages_come_at_a_rate() {
    let server = Longshore::bounded()
        .set("client_messages_second", "1")
        .set("client_messages_burst", "3")
        .set("address_messages_second", "1")
        .set("address_messages_burst", "6")
        .set("trusted_proxies", "127.0.0.0/8")
        .start();
    // So many of these come through at most, however slow this machine is.
    let passed = |name: &str, address: &str, tries: usize| {
        let begun = Instant::now();
        let answers: Vec<Answer> = (0..tries).map(|_| send(&server, name, address)).collect();
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            refused(answer, 429, "");
        }
        let came_back = begun.elapsed().as_secs() as usize + 1;
        (passed, came_back)
    };
    let (sent, came_back) = passed("ann", "192.0.2.1", 10);
    assert!((3..=3 + came_back).contains(&sent), "{sent}");
    let (sent, _) = passed("bob", "192.0.2.1", 1);
    assert_eq!(sent, 1, "another one in the same office");
    let begun = Instant::now();
    let names = (0..20).filter(|i| send(&server, &format!("x{i}"), "192.0.2.1").status == 200);
    let names = names.count();
    let came_back = begun.elapsed().as_secs() as usize + 1;
    assert!(names <= 6 + came_back, "{names} by changing the name");
    assert_eq!(passed("ann", "192.0.2.9", 1).0, 1, "elsewhere");
    // Whoever waits as long as they are told gets through.
    let told = until("a refusal", || {
        let answer = send(&server, "eve", "192.0.2.5");
        (answer.status == 429).then(|| answer.header("retry-after").parse::<u64>().unwrap())
    });
    std::thread::sleep(Duration::from_secs(told));
    assert_eq!(send(&server, "eve", "192.0.2.5").status, 200);
}

#[test]
fn an_account_has_a_rate_of_its_own_wherever_it_is() {
    let server = Longshore::bounded()
        .set("client_messages_second", "1")
        .set("client_messages_burst", "2")
        .set("address_messages_second", "1")
        .set("address_messages_burst", "1")
        .start();
    let as_admin = |name: &str| {
        Answer::of(
            ureq::post(format!("{}/send_msg", server.url))
                .header("Authorization", &format!("Bearer {}", server.token))
                .config()
                .http_status_as_error(false)
                .build()
                .send_form([("name", name), ("content", "hi")]),
        )
    };
    // The office has spent what it had.
    until_true("a refusal", || {
        server.wire("ann").send(&[("content", "x")]).status == 429
    });
    let sent = (0..20)
        .filter(|i| as_admin(&format!("tab{i}")).status == 200)
        .count();
    assert!((2..20).contains(&sent), "{sent}");
}

#[test]
fn the_login_limiter_sees_the_sender_behind_the_proxy() {
    let guess = |server: &Longshore, address: &str| {
        let answer = ureq::post(format!("{}/login", server.url))
            .header("X-Forwarded-For", address)
            .config()
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .send_form([("name", "admin"), ("password", "wrong")]);
        answer.unwrap().status().as_u16()
    };
    let server = Longshore::settings()
        .set("trusted_proxies", "127.0.0.1")
        .start();
    for _ in 0..5 {
        assert_ne!(guess(&server, "192.0.2.1"), 429);
    }
    assert_eq!(guess(&server, "192.0.2.1"), 429);
    assert_ne!(guess(&server, "192.0.2.2"), 429);
    let server = Longshore::settings().start();
    for i in 0..5 {
        assert_ne!(guess(&server, &format!("192.0.2.{i}")), 429);
    }
    assert_eq!(
        guess(&server, "192.0.2.9"),
        429,
        "anybody can write that header"
    );
}

#[test]
fn limits_off_lifts_counts_and_rates_and_no_sizes() {
    let server = Longshore::settings()
        .set("clients", "1")
        .set("client_messages_burst", "1")
        .set("client_messages_second", "1")
        .set("message_bytes", "5")
        .start();
    for i in 0..20 {
        let ann = server.wire(&format!("ann{i}"));
        ann.now("chat");
        ann.say("hi");
    }
    assert_eq!(
        server.wire("ann").send(&[("content", "123456")]).status,
        413
    );
}
