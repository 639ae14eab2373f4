//! The platform's numbers: who may read them, and that they count what happened.

use std::collections::BTreeMap;

use ureq::Agent;

use crate::fixture::{Answer, Longshore, until, until_true};

/// `GET /metrics` with these headers.
fn scrape(server: &Longshore, headers: &[(&str, &str)]) -> Answer {
    let mut request = Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent()
        .get(format!("{}/metrics", server.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.call())
}

/// The values by their names with labels, as they stand in the text.
fn values(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn now(server: &Longshore) -> BTreeMap<String, f64> {
    let answer = scrape(server, &[]);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text"),
        "{}",
        answer.header("content-type")
    );
    assert!(answer.text.ends_with("# EOF\n"), "{}", answer.text);
    values(&answer.text)
}

#[test]
fn what_happens_is_counted() {
    let server = Longshore::settings().start();
    let ann = server.wire("ann");
    let after = ann.now("chat");
    let parked = std::thread::spawn({
        let (ann, after) = (ann.clone(), after.clone());
        move || ann.poll(&[("room", "chat"), ("after", &after)])
    });
    until("a parked poll", || {
        let now = now(&server);
        (now["longshore_parked_polls"] == 1.0).then_some(())?;
        assert_eq!(
            now["longshore_clients_connected{transport=\"long_poll\"}"],
            1.0
        );
        Some(())
    });
    ann.tab("bob").say("hi");
    let reply = parked.join().unwrap();
    assert_eq!(reply["messages"][0]["data"], "hi");
    // The same once more for one who was not there, in plain polling.
    ann.poll(&[("room", "chat"), ("after", &after), ("wait", "0")]);
    ann.tab("carl").open_home();
    ann.get_msg(&[("room", "releases"), ("after", "now")])
        .expect(401);
    ann.send(&[("content", "x"), ("room", "release/1")])
        .expect(403);

    // The message is published before it comes into the database.
    let now = until("the commit", || {
        let now = now(&server);
        (now["longshore_log_groups_total"] > 0.0).then_some(now)
    });
    let told = |name: &str| {
        *now.get(name)
            .unwrap_or_else(|| panic!("{name} in {now:#?}"))
    };
    for (name, value) in [
        ("longshore_published_messages_total", 1.0),
        ("longshore_delivered_messages_total", 2.0),
        ("longshore_delivery_seconds_count{client=\"waiting\"}", 1.0),
        (
            "longshore_delivery_seconds_count{client=\"returning\"}",
            1.0,
        ),
        (
            "longshore_delivery_seconds_bucket{le=\"+Inf\",client=\"waiting\"}",
            1.0,
        ),
        ("longshore_requests_total{transport=\"plain_poll\"}", 1.0),
        (
            "longshore_refused_requests_total{code=\"unauthorized\"}",
            1.0,
        ),
        ("longshore_refused_requests_total{code=\"forbidden\"}", 1.0),
        ("longshore_clients_connected{transport=\"long_poll\"}", 0.0),
        ("longshore_parked_polls", 0.0),
        ("longshore_log_messages_total", 1.0),
        ("longshore_log_groups_total", 1.0),
        ("longshore_log_waiting_messages", 0.0),
        ("longshore_gaps_total", 0.0),
        ("longshore_queue_overflows_total", 0.0),
        ("longshore_releases{state=\"succeeded\"}", 0.0),
        ("longshore_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(told(name), value, "{name}");
    }
    assert!(told("longshore_log_commit_seconds_total") > 0.0);
    assert!(told("longshore_clients") >= 1.0);
    assert!(told("process_resident_memory_bytes") > 1e6);
    assert!(told("process_open_fds") < told("process_max_fds"));
    assert!(told("longshore_uptime_seconds") > 0.0);
}

#[test]
fn only_admins_and_named_addresses_read_them() {
    let server = Longshore::settings().start();
    let bearer = format!("Bearer {}", server.token);
    let admin = ("Authorization", bearer.as_str());
    assert_eq!(scrape(&server, &[]).status, 200, "this machine");
    for marked in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
    ] {
        let refused = scrape(&server, &[marked]);
        assert_eq!(refused.json()["code"], "unauthorized", "{marked:?}");
        assert_eq!(refused.status, 401, "{marked:?}");
        assert_eq!(scrape(&server, &[marked, admin]).status, 200, "{marked:?}");
    }
    let behind = Longshore::settings()
        .set("trusted_proxies", "127.0.0.1")
        .set("metrics_from", "127.0.0.1,203.0.113.0/24")
        .start();
    for (forwarded, status) in [
        ("203.0.113.9", 200),
        ("198.51.100.1", 401),
        ("203.0.113.9, 198.51.100.1", 401),
        ("127.0.0.1, 198.51.100.1", 401),
    ] {
        let answer = scrape(&behind, &[("X-Forwarded-For", forwarded)]);
        assert_eq!(answer.status, status, "{forwarded}");
    }
    let closed = Longshore::settings().set("metrics_from", "").start();
    assert_eq!(scrape(&closed, &[]).status, 401);
}

#[test]
fn the_page_and_its_numbers_are_for_admins() {
    let server = Longshore::settings().start();
    let viewer = server.add_user("vera", "viewer");
    let vera = format!("Bearer {viewer}");
    assert_eq!(
        scrape(&server, &[("Via", "1.1 proxy"), ("Authorization", &vera)]).status,
        403
    );
    let api = crate::fixture::Api::new(&server.url, &viewer);
    assert_eq!(api.get("push").status, 403);
    assert_eq!(
        crate::fixture::Api::new(&server.url, "x")
            .get("push")
            .status,
        401
    );

    server.wire("ann").now("chat/hall");
    until_true("a sample with the poll in it", || {
        let live = server.api().get("push?after=0").expect(200);
        let samples = live["samples"].as_array().unwrap();
        assert_eq!(live["fullest"][0]["room"], "chat/hall", "{live}");
        samples
            .iter()
            .any(|sample| sample["begun"]["long_poll"].as_f64() > Some(0.0))
    });
    let newest = server.api().get("push").expect(200)["samples"][0]["number"].clone();
    let later = server
        .api()
        .get(&format!("push?after={newest}"))
        .expect(200);
    assert_ne!(later["samples"][0]["number"], newest, "{later}");
    assert_eq!(server.api().get("push?after=x").status, 400);
}
