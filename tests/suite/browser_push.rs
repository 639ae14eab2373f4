//! The browser's library on a page that is not ours, through networks that misbehave.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Browser, Longshore, Rough, RoughProxy, Wire};

/// The longest time that a page may take to find a transport that works, on a slow machine.
const SECONDS: Duration = Duration::from_secs(20);
/// The script that reads which transport the library remembers as working.
const MEMORY: &str =
    "localStorage.getItem('longshore ' + location.origin + ' websocket,sse,longpoll,poll')";

fn texts(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("message {number}"))
        .collect()
}

fn say_all(wire: &Wire, texts: &[String]) {
    for text in texts {
        wire.say(text);
    }
}

#[test]
fn each_transport_by_itself_delivers_everything_once_and_in_order() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    browser.open_page(&format!("{}/page", proxy.url), "");
    let transports = ["websocket", "sse", "longpoll", "poll"];
    for transport in transports {
        browser.subscribe_as(
            &format!("window.{transport}"),
            &format!("transports: ['{transport}']"),
        );
    }
    for transport in transports {
        browser.wait_for(&format!("{transport}.transport === '{transport}'"));
    }
    let said = texts(40);
    say_all(&server.wire("bob"), &said);
    for transport in transports {
        browser.assert_got(transport, &said);
        let states = browser.script(&format!("return {transport}.states;"));
        assert_eq!(states, json!([["connecting", ""], ["on", transport]]));
        browser.script(&format!("{transport}.handle.close();"));
        assert_eq!(
            browser.script(&format!("return {transport}.states.pop();")),
            json!(["off", ""])
        );
    }
}

#[test]
fn the_best_transport_is_taken_and_remembered() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    let page = format!("{}/page", proxy.url);
    browser.open_page(&page, "");
    browser.subscribe("");
    browser.wait_for_transport("websocket");
    // Without WebSocket and EventSource the page goes on by long polls, and the next one begins there.
    for _ in 0..2 {
        browser.open_page(&page, "delete window.WebSocket; delete window.EventSource;");
        browser.subscribe("");
        browser.wait_for_transport("longpoll");
        server.wire("bob").say("hi");
        browser.assert_got("window", &["hi".to_owned()]);
        browser.wait_for(&format!("JSON.parse({MEMORY}).way === 'longpoll'"));
    }
    let sockets = proxy.began("/ws");
    browser.open_page(&page, "");
    browser.subscribe("");
    browser.wait_for_transport("longpoll");
    server.wire("bob").say("hi");
    browser.assert_got("window", &["hi".to_owned()]);
    assert_eq!(proxy.began("/ws"), sockets, "not tried again so soon");
    // Later it is.
    browser.open_page(
        &page,
        "var key = 'longshore ' + location.origin + ' websocket,sse,longpoll,poll', memory = JSON.parse(localStorage.getItem(key));
         memory.next = Date.now() - 1; localStorage.setItem(key, JSON.stringify(memory));",
    );
    browser.subscribe("");
    browser.wait_for_transport("websocket");
}

#[test]
fn a_page_without_storage_works() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    browser.open_page(
        &format!("{}/tabs", proxy.url),
        "delete window.BroadcastChannel;
         Object.defineProperty(window, 'localStorage', { get: function () { throw new Error('forbidden'); } });",
    );
    browser.subscribe("");
    browser.wait_for_transport("websocket");
    server.wire("bob").say("hi");
    browser.assert_got("window", &["hi".to_owned()]);
}

/// Opens a page behind a network that is rough from the beginning; messages come before a transport is found.
fn falls_back(rough: Rough, transport: &str) {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    proxy.set(rough);
    let browser = Browser::start();
    let bob = server.wire("bob");
    let after = bob.now("chat");
    let mut said = texts(3);
    say_all(&bob, &said);
    browser.open_page(&format!("{}/page", proxy.url), "");
    let start = Instant::now();
    browser.subscribe(&format!("after: '{after}'"));
    browser.assert_got("window", &said);
    assert_eq!(
        browser.script(&format!("return {MEMORY};")),
        json!(null),
        "what comes does not wait until a transport has proved itself"
    );
    browser.wait_for(MEMORY);
    assert!(start.elapsed() < SECONDS, "{:?}", start.elapsed());
    assert_eq!(
        browser.script(&format!("return JSON.parse({MEMORY}).way;")),
        json!(transport)
    );
    browser.wait_for_transport(transport);
    for number in 3..13 {
        said.push(format!("message {number}"));
        bob.say(said.last().unwrap());
    }
    browser.assert_got("window", &said);
    assert_eq!(browser.script("return gaps;"), json!([]));
}

#[test]
fn a_proxy_that_swallows_frames_leaves_the_event_stream() {
    falls_back(Rough::SwallowsFrames, "sse");
}

#[test]
fn a_proxy_that_holds_streams_to_their_end_leaves_long_polling() {
    falls_back(Rough::HoldsStreams, "longpoll");
}

#[test]
fn a_proxy_that_cuts_what_is_held_leaves_plain_polling() {
    falls_back(Rough::CutsHolds, "poll");
}

/// A page that is on, then a network that gets rough in mid-traffic.
fn loses_nothing(rough: Rough, options: &str) {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    let bob = server.wire("bob");
    let after = bob.now("chat");
    browser.open_page(&format!("{}/page", proxy.url), "");
    proxy.set(rough);
    browser.subscribe(&format!("after: '{after}', {options}"));
    let said = texts(60);
    for text in &said {
        bob.say(text);
        std::thread::sleep(Duration::from_millis(25));
    }
    browser.assert_got("window", &said);
    proxy.set(Rough::Smooth);
    bob.say("the end");
    browser.wait_for("got.indexOf('the end') >= 0");
    assert_eq!(browser.script("return got.length;"), json!(61));
    assert_eq!(browser.script("return gaps;"), json!([]));
}

#[test]
fn connections_cut_at_random_lose_and_repeat_nothing() {
    loses_nothing(Rough::CutsAtRandom, "");
}

#[test]
fn swallowed_replies_lose_and_repeat_nothing() {
    loses_nothing(Rough::SwallowsReplies, "transports: ['longpoll', 'poll']");
}

#[test]
fn a_crash_of_the_server_in_mid_traffic_loses_and_repeats_nothing() {
    let mut server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    browser.open_page(&format!("{}/page", proxy.url), "");
    for transport in ["websocket", "sse", "longpoll"] {
        browser.subscribe_as(
            &format!("window.{transport}"),
            &format!("transports: ['{transport}']"),
        );
        browser.wait_for(&format!("{transport}.transport === '{transport}'"));
    }
    let said = texts(30);
    say_all(&server.wire("bob"), &said[..10]);
    server.crash_and_restart();
    say_all(&server.wire("bob"), &said[10..20]);
    server.restart();
    say_all(&server.wire("bob"), &said[20..]);
    for transport in ["websocket", "sse", "longpoll"] {
        browser.assert_got(transport, &said);
        browser.wait_for(&format!("{transport}.transport === '{transport}'"));
    }
}

#[test]
fn a_hidden_tab_polls_slowly_and_wakes_at_once() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    browser.open_page(
        &format!("{}/page", proxy.url),
        "window.hide = function (hidden) {
           Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
           document.dispatchEvent(new Event('visibilitychange'));
         };",
    );
    browser.subscribe("transports: ['sse', 'longpoll']");
    browser.wait_for_transport("sse");
    browser.script("hide(true);");
    crate::fixture::until_true("the stream's end", || proxy.open("/events") == 0);
    let polls = proxy.began("/get_msg");
    server.wire("bob").say("unseen");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(browser.script("return got;"), json!([]));
    assert_eq!(proxy.began("/get_msg"), polls);
    let start = Instant::now();
    browser.script("hide(false);");
    browser.assert_got("window", &["unseen".to_owned()]);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    browser.wait_for_transport("sse");
}

#[test]
fn a_handler_that_throws_neither_stops_nor_loses() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    browser.open_page(&format!("{}/page", proxy.url), "");
    browser.subscribe(
        "onMessage: function (message) {
           got.push(message.data);
           if (message.data === 'message 1') { throw new Error('on purpose'); }
         }",
    );
    browser.wait_for_transport("websocket");
    let said = texts(4);
    say_all(&server.wire("bob"), &said);
    browser.assert_got("window", &said);
}

#[test]
fn a_refused_room_is_denied_and_asked_for_slowly() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    browser.open_page(&format!("{}/page", proxy.url), "");
    browser.subscribe("rooms: ['release/1']");
    browser.wait_for("states.length && states[states.length - 1][0] === 'denied'");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(proxy.began("/get_msg"), 1);
    assert_eq!(proxy.began("/ws"), 0);
}

#[test]
fn the_library_comes_back_when_it_is_asked_to() {
    let server = Longshore::settings().start();
    let proxy = RoughProxy::start(&server.url);
    let browser = Browser::start();
    browser.open_page(&format!("{}/page", proxy.url), "");
    proxy.set(Rough::Refuses);
    browser.script("window.began = Date.now();");
    browser.subscribe("onMessage: function () {}");
    browser.wait_for("states.length && states[states.length - 1][0] === 'waiting'");
    proxy.set(Rough::Smooth);
    browser.wait_for_transport("websocket");
    let took = browser
        .script("return Date.now() - began;")
        .as_u64()
        .unwrap();
    assert!((2000..12_000).contains(&took), "{took} ms");
}
