//! Tabs of one browser that share one connection.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Browser, Longshore, RoughProxy, until_true};

/// Makes tabs elect their leader through storage, as in browsers without Web Locks.
const OLD: &str = "delete window.BroadcastChannel;";

fn tabs_share(before: &str, options: &str, path: &str) {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    let bob = server.wire("bob");
    let page = format!("{}/tabs", proxy.url);
    let mut windows = vec![browser.window()];
    for tab in 0..3 {
        if tab > 0 {
            windows.push(browser.open_window());
        }
        browser.open_page(&page, before);
        browser.subscribe(options);
        browser.wait_for("states.length && states[states.length - 1][0] === 'on'");
    }
    let mut said: Vec<String> = Vec::new();
    let say = |count: usize, said: &mut Vec<String>| {
        for _ in 0..count {
            said.push(format!("message {}", said.len()));
            bob.say(said.last().unwrap());
        }
    };
    // The first leads, the others have it as their transport.
    for window in &windows[1..] {
        browser.switch_to(window);
        browser.wait_for_transport("tab");
    }
    until_true("one connection", || {
        proxy.open("/ws") + proxy.open("/events") + proxy.open("/get_msg") == 1
            && proxy.open(path) == 1
    });
    say(10, &mut said);
    for window in &windows {
        browser.switch_to(window);
        browser.assert_got("window", &said);
    }
    // The leader closes in mid-traffic.
    browser.switch_to(&windows[0]);
    say(5, &mut said);
    browser.close_window();
    say(10, &mut said);
    for window in &windows[1..] {
        browser.switch_to(window);
        browser.assert_got("window", &said);
    }
    until_true("one connection", || {
        proxy.open("/ws") + proxy.open("/events") + proxy.open("/get_msg") == 1
    });
    // The next leader goes on to another page.
    let leader = windows[1..].iter().find(|window| {
        browser.switch_to(window);
        browser.script("return transport !== 'tab';") == json!(true)
    });
    browser.switch_to(leader.expect("one leads"));
    browser.go(&format!("{}/login", server.url));
    say(5, &mut said);
    let last = windows[1..]
        .iter()
        .find(|window| Some(*window) != leader)
        .unwrap();
    browser.switch_to(last);
    browser.assert_got("window", &said);
    assert_eq!(browser.script("return gaps;"), json!([]));
}

#[test]
fn tabs_share_one_socket() {
    tabs_share("", "", "/ws");
}

#[test]
fn tabs_of_old_browsers_share_one_long_poll() {
    tabs_share(OLD, "transports: ['longpoll']", "/get_msg");
}

#[test]
fn tabs_with_other_rooms_share_and_each_gets_its_own() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    let page = format!("{}/tabs", proxy.url);
    let first = browser.window();
    browser.open_page(&page, "");
    browser.subscribe("");
    browser.wait_for_transport("websocket");
    let bob = server.wire("bob");
    let after = bob.now("chat");
    for room in ["chat", "chat/a", "vote/b", "chat"] {
        bob.send(&[("content", room), ("room", room)]);
    }
    browser.open_window();
    browser.open_page(&page, "");
    // From before the leader's position.
    browser.subscribe(&format!("rooms: ['chat/a', 'chat'], after: '{after}'"));
    browser.wait_for_transport("tab");
    for room in ["chat/a", "chat"] {
        bob.send(&[("content", room), ("room", room)]);
    }
    let texts = |all: &[&str]| {
        all.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    bob.say("the end");
    browser.assert_got(
        "window",
        &texts(&["chat", "chat/a", "chat", "chat/a", "chat", "the end"]),
    );
    browser.switch_to(&first);
    browser.assert_got("window", &texts(&["chat", "chat", "chat", "the end"]));
    until_true("one connection", || proxy.open("/ws") == 1);
}

/// Keeps a leader's restart for a newcomer until the test lets it go.
const RESTART_BY_HAND: &str = "
    var set = window.setTimeout;
    window.setTimeout = function (run, ms, argument) {
        if (ms !== 30) { return set.call(window, run, ms, argument); }
        window.restart = run;
    };";

/// Keeps the answer to a page's first poll until the test lets it go; the page waits for it, and looks for
/// nothing when its window comes into view.
const ANSWER_BY_HAND: &str = "
    var set = window.setTimeout;
    window.setTimeout = function (run, ms, argument) {
        return set.call(window, run, ms === 4000 || ms === 10000 ? 60000 : ms, argument);
    };
    document.addEventListener = function () {};
    var send = XMLHttpRequest.prototype.send;
    XMLHttpRequest.prototype.send = function () {
        var take = this.onload;
        if (!window.answer) { this.onload = function () { window.answer = take; }; }
        send.call(this);
    };";

#[test]
fn a_tab_that_joins_from_an_older_position_misses_nothing_that_comes_meanwhile() {
    let server = Longshore::settings().start();
    let browser = Browser::start();
    let bob = server.wire("bob");
    let page = format!("{}/tabs", server.url);
    let only_streams = "transports: ['websocket']";
    let leader = browser.window();
    browser.open_page(&page, RESTART_BY_HAND);
    browser.subscribe(only_streams);
    browser.wait_for_transport("websocket");
    let newcomer = browser.open_window();
    browser.open_page(&page, ANSWER_BY_HAND);
    browser.subscribe(only_streams);
    browser.wait_for("window.answer");
    // The leader goes ahead of the newcomer, and on while the newcomer's position is to be taken up.
    let mut said = vec!["before the answer".to_owned()];
    bob.say(&said[0]);
    browser.switch_to(&leader);
    browser.assert_got("window", &said);
    browser.switch_to(&newcomer);
    browser.script("answer();");
    browser.switch_to(&leader);
    browser.wait_for("window.restart");
    said.push("before the restart".to_owned());
    bob.say(&said[1]);
    browser.assert_got("window", &said);
    browser.script("restart();");
    said.push("behind it".to_owned());
    bob.say(&said[2]);
    for window in [&leader, &newcomer] {
        browser.switch_to(window);
        browser.assert_got("window", &said);
    }
}

#[test]
fn tabs_with_more_rooms_than_one_client_may_have_connect_for_themselves() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    let page = format!("{}/tabs", proxy.url);
    for tab in ["a", "b"] {
        if tab == "b" {
            browser.open_window();
        }
        browser.open_page(&page, "");
        let rooms: Vec<String> = (0..20).map(|room| format!("chat/{tab}{room}")).collect();
        browser.subscribe(&format!("rooms: {}", json!(rooms)));
        browser.wait_for_transport("websocket");
        let room = rooms.last().unwrap();
        server
            .wire("bob")
            .send(&[("content", room), ("room", room)]);
        browser.assert_got("window", std::slice::from_ref(room));
    }
    assert_eq!(proxy.open("/ws"), 2);
}

#[test]
fn a_hidden_leader_serves_the_tab_that_is_seen() {
    let hide = "window.hide = function (hidden) {
           Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
           document.dispatchEvent(new Event('visibilitychange'));
         };";
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    let (page, bob) = (format!("{}/tabs", proxy.url), server.wire("bob"));
    let leader = browser.window();
    browser.open_page(&page, hide);
    browser.subscribe("transports: ['longpoll']");
    browser.wait_for_transport("longpoll");
    let follower = browser.open_window();
    browser.open_page(&page, hide);
    browser.subscribe("transports: ['longpoll']");
    browser.wait_for_transport("tab");
    browser.switch_to(&leader);
    browser.script("hide(true);");
    let mut said = Vec::new();
    browser.switch_to(&follower);
    for number in 0..4 {
        said.push(format!("message {number}"));
        let start = Instant::now();
        bob.say(&said[number]);
        browser.assert_got("window", &said);
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }
    // Nobody sees either: the poll that is held is the last.
    browser.script("hide(true);");
    bob.say("message 4");
    until_true("no poll", || proxy.open("/get_msg") == 0);
    let polls = proxy.began("/get_msg");
    bob.say("message 5");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(proxy.began("/get_msg"), polls);
    said.extend(["message 4".to_owned(), "message 5".to_owned()]);
    let start = Instant::now();
    browser.script("hide(false);");
    browser.assert_got("window", &said);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn our_pages_say_how_messages_come() {
    let server = Longshore::settings().start();
    let browser = Browser::start();
    let page = format!("{}/home/?name=jason", server.url);
    browser.go(&page);
    browser.wait_for("document.querySelector('#live[data-transport=websocket]')");
    assert!(
        browser
            .script("return document.getElementById('live').title;")
            .as_str()
            .unwrap()
            .contains("WebSocket")
    );
    browser.open_window();
    browser.go(&page);
    browser.wait_for("document.querySelector('#live[data-transport=tab]')");
    browser.open_window();
    browser.go(&format!("{}/home/?name=tank", server.url));
    browser.wait_for("document.querySelector('#live[data-transport=websocket]')");
}

#[test]
fn tabs_of_two_accounts_share_nothing() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    for account in ["ann", "bob"] {
        browser.open_window();
        browser.open_page(
            &format!("{}/tabs", proxy.url),
            &format!("Longshore.share = '{account}';"),
        );
        browser.subscribe("");
        browser.wait_for_transport("websocket");
    }
    assert_eq!(proxy.open("/ws"), 2);
}
