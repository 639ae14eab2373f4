//! The wire through Debian's proxies: every message once, in order and at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Connection, Longshore, Place, Proxy, ProxyKind, messages};

/// The bound on "at once" for a slow machine; a message that a proxy holds back comes only when the
/// hold ends.
const AT_ONCE: Duration = Duration::from_secs(6);

/// A listener whose speaker fell silent ends too.
const GIVEN_UP: Duration = Duration::from_secs(120);

fn chat() -> Longshore {
    Longshore::settings().start()
}

/// A server that knows its public addresses, with a proxy of each kind.
pub fn with_proxies() -> (Longshore, Vec<Proxy>) {
    let places = Place::of(&ProxyKind::ALL);
    let server = Longshore::settings()
        .set("public_urls", &Place::public_urls(&places))
        .start();
    let proxies = Proxy::at(&places, &server.url);
    (server, proxies)
}

/// Does the same through each proxy at the same time; says which of them failed.
#[track_caller]
pub fn through_each(proxies: &[Proxy], story: impl Fn(&Proxy) + Sync) {
    let story = &story;
    let failed: Vec<ProxyKind> = std::thread::scope(|scope| {
        let running: Vec<_> = proxies
            .iter()
            .map(|proxy| {
                let run = move || story(proxy);
                let name = format!("{:?}", proxy.kind);
                let thread = std::thread::Builder::new().name(name);
                (
                    proxy.kind,
                    thread.spawn_scoped(scope, run).expect("a thread"),
                )
            })
            .collect();
        running
            .into_iter()
            .filter_map(|(kind, thread)| thread.join().is_err().then_some(kind))
            .collect()
    });
    assert!(failed.is_empty(), "failed through {failed:?}");
}

#[test]
fn a_long_poll_lives_through_every_proxy() {
    let server = chat();
    let proxies = Proxy::all(&server.url);
    through_each(&proxies, |proxy| {
        let room = format!("chat/{:?}", proxy.kind);
        std::thread::scope(|scope| {
            scope.spawn(|| is_held_to_its_end(proxy));
            let heard = scope.spawn(|| listen(proxy, &room));
            let said = talk(proxy, &room);
            let heard = heard.join().expect("the listener");
            let texts: Vec<&str> = heard.iter().map(|(text, _)| text.as_str()).collect();
            let expected: Vec<&str> = said.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!(texts, expected, "{:?}", proxy.kind);
            let lag = said
                .iter()
                .zip(&heard)
                .map(|((_, sent), (_, got))| got.saturating_duration_since(*sent))
                .max()
                .unwrap_or_default();
            println!("{:?}: the slowest message took {lag:?}", proxy.kind);
            assert!(lag < AT_ONCE, "{:?}: {lag:?}", proxy.kind);
        });
    });
}

/// The whole hold that our pages ask for, with nothing to say at its end.
fn is_held_to_its_end(proxy: &Proxy) {
    let mut idle = Connection::new(proxy);
    let room = format!("chat/idle-{:?}", proxy.kind);
    let after = now(&mut idle, &room);
    let start = Instant::now();
    let answer = idle.poll_answer(&[
        ("name", room.as_str()),
        ("room", &room),
        ("after", &after),
        ("wait", "25"),
    ]);
    let held = start.elapsed();
    assert_eq!(
        answer.json()["status"],
        false,
        "{:?}: {}",
        proxy.kind,
        answer.text()
    );
    assert!(
        (22..40).contains(&held.as_secs()),
        "{:?}: {held:?}",
        proxy.kind
    );
}

const LAST: &str = "the last";

/// Polls until the last message; gives each text and when it came.
fn listen(proxy: &Proxy, room: &str) -> Vec<(String, Instant)> {
    let mut ear = Connection::new(proxy);
    let mut cursor = "start".to_owned();
    let mut heard: Vec<(String, Instant)> = Vec::new();
    let (mut polls, begun) = (0, Instant::now());
    while heard.last().is_none_or(|(text, _)| text != LAST) {
        assert!(begun.elapsed() < GIVEN_UP, "{:?}: {heard:?}", proxy.kind);
        let ask = [
            ("name", room),
            ("room", room),
            ("after", &cursor),
            ("wait", "25"),
        ];
        let answer = ear.poll_answer(&ask);
        polls += 1;
        let reply = answer.json();
        assert_eq!(answer.header("cache-control"), "no-store, no-transform");
        assert_eq!(
            answer.header("content-length"),
            answer.body.len().to_string(),
            "{:?}",
            proxy.kind
        );
        assert!(reply["gap"].is_null(), "{reply}");
        let came = Instant::now();
        heard.extend(messages(&reply).into_iter().map(|text| (text, came)));
        cursor = reply["cursor"].as_str().expect("a cursor").to_owned();
    }
    println!(
        "{:?}: {polls} polls, {} connections",
        proxy.kind, ear.connects
    );
    if proxy.kind.keeps_connections() {
        assert!(ear.connects < polls, "{:?} keeps connections", proxy.kind);
    }
    heard
}

/// Says things one by one and in bursts, also while nobody can be listening for the moment; gives
/// each text and when it was accepted.
fn talk(proxy: &Proxy, room: &str) -> Vec<(String, Instant)> {
    let mut mouth = Connection::new(proxy);
    let mut said = Vec::new();
    let mut say = |text: String| {
        let form = [
            ("content", text.as_str()),
            ("room", room),
            ("name", "mouth"),
        ];
        let answer = mouth.post("/send_msg", &form, "");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "OK"),
            "{:?}",
            proxy.kind
        );
        said.push((text, Instant::now()));
    };
    for round in 0..5 {
        for number in 0..3 {
            say(format!("第 {round} 轮 <b>{number}</b>"));
        }
        // Long enough that the listener's next poll is parked.
        std::thread::sleep(Duration::from_millis(700));
    }
    say("好".repeat(9_000));
    say(LAST.to_owned());
    said
}

#[test]
fn no_proxy_answers_a_poll_from_its_cache() {
    let server = chat();
    let proxies = Proxy::all(&server.url);
    let mouth = server.wire("mouth");
    through_each(&proxies, |proxy| {
        let room = format!("chat/{:?}", proxy.kind);
        let say = |text: &str| {
            let form = [("content", text), ("room", &room), ("name", "mouth")];
            assert_eq!(mouth.send(&form).status, 200);
        };
        let mut ear = Connection::new(proxy);
        let start = now(&mut ear, &room);
        let ask = [
            ("name", room.as_str()),
            ("room", room.as_str()),
            ("after", &start),
            ("wait", "0"),
        ];
        let mut expected: Vec<String> = Vec::new();
        for number in 0..6 {
            // The very same request each time, and each time another answer.
            assert_eq!(messages(&ear.poll(&ask)), expected, "{:?}", proxy.kind);
            let before = now(&mut ear, &room);
            say(&format!("message {number}"));
            expected.push(format!("message {number}"));
            assert_ne!(now(&mut ear, &room), before, "{:?}", proxy.kind);
        }
        assert_eq!(messages(&ear.poll(&ask)), expected, "{:?}", proxy.kind);
    });
}

#[test]
fn the_courses_contract_holds_through_every_proxy() {
    let server = chat();
    let proxies = Proxy::all(&server.url);
    let mouth = server.wire("mouth");
    let said: Vec<String> = (0..8).map(|number| format!("消息 {number}")).collect();
    let opened = std::sync::Barrier::new(proxies.len() + 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            opened.wait();
            said.iter().for_each(|text| mouth.say(text));
        });
        through_each(&proxies, |proxy| {
            let mut page = Connection::new(proxy);
            let home = page.get(&format!("/home/?name={:?}", proxy.kind));
            let is_sound = home.status == 200 && page.cookie.starts_with("ls_");
            opened.wait();
            assert!(
                is_sound,
                "{:?}: {} {}",
                proxy.kind, home.status, page.cookie
            );
            for text in &said {
                let poll = format!("/get_msg/?name={:?}", proxy.kind);
                // A reply that dies on its way: its cookie was never taken.
                page.send("GET", &poll, "", "").expect("a request");
                page.cut();
                let reply = page.get(&poll).json();
                assert_eq!(
                    reply,
                    json!({"status": true, "msg": text}),
                    "{:?}",
                    proxy.kind
                );
            }
        });
    });
}

#[test]
fn a_page_behind_a_proxy_is_known_by_its_public_address() {
    let kinds = ProxyKind::ALL;
    let (unknown, known) = (Place::of(&kinds), Place::of(&kinds));
    let server = Longshore::settings()
        .set("chat", "open")
        .set("public_urls", &Place::public_urls(&known))
        .start();
    let say = |proxy: &Proxy, origin: &str| {
        let form = [("content", "hi"), ("name", "mouth")];
        let header = format!("Origin: {origin}\r\n");
        let answer = Connection::new(proxy).post("/send_msg", &form, &header);
        answer.status
    };
    through_each(&Proxy::at(&unknown, &server.url), |proxy| {
        // A proxy that changes the Host makes our own page a foreign one.
        let expected = if proxy.kind.keeps_host() { 200 } else { 403 };
        assert_eq!(say(proxy, &proxy.url()), expected, "{:?}", proxy.kind);
        assert_eq!(say(proxy, "http://evil.example"), 403, "{:?}", proxy.kind);
    });
    through_each(&Proxy::at(&known, &server.url), |proxy| {
        assert_eq!(say(proxy, &proxy.url()), 200, "{:?}", proxy.kind);
        assert_eq!(say(proxy, "http://evil.example"), 403, "{:?}", proxy.kind);
    });
}

/// The cursor of this moment.
fn now(client: &mut Connection, room: &str) -> String {
    let reply: Value = client.poll(&[("name", room), ("room", room), ("after", "now")]);
    reply["cursor"].as_str().expect("a cursor").to_owned()
}
