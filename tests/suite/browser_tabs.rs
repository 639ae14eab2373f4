//! Tabs of one browser that share one connection.

use serde_json::json;

use crate::fixture::{Browser, Longshore, RoughProxy, until_true};

/// How browsers without Web Locks find a leader.
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
