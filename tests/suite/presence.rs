//! Presence, over the wire and between browsers.

use std::io::Read;

use serde_json::{Value, json};

use crate::fixture::{Browser, Fleet, Longshore, Wire, raw_request, until};

/// The newest presence of `room` that is after `after`; moves it on.
fn told(client: &Wire, room: &str, after: &mut String) -> Option<Value> {
    let reply = client.poll(&[("room", room), ("after", after), ("wait", "1")]);
    assert!(reply["gap"].is_null(), "{reply}");
    *after = reply["cursor"].as_str().unwrap().to_owned();
    let newest = reply["messages"].as_array().unwrap().last()?.clone();
    assert_eq!(
        (&newest["kind"], &newest["room"]),
        (&json!("presence"), &json!(room))
    );
    Some(newest["data"].clone())
}

fn names(data: &Value) -> Vec<&str> {
    let people = data["people"].as_array().unwrap().iter();
    people
        .map(|person| person["name"].as_str().unwrap())
        .collect()
}

#[test]
fn programs_see_each_other_come_and_go() {
    let server = Longshore::settings().start();
    let (ann, eve) = (server.wire("ann"), server.wire("eve"));
    let mut after = "start".to_owned();
    let mut until_here = |expected: &[&str]| {
        until(&format!("{expected:?} in the room"), || {
            let data = told(&eve, "presence/chat/lobby", &mut after)?;
            assert_eq!(data["count"], data["people"].as_array()?.len());
            (names(&data) == expected).then_some(())
        });
    };
    until_here(&[]);
    ann.now("chat/lobby");
    server.wire("bob").now("chat/lobby");
    until_here(&["ann", "bob"]);
    // Held polls are leases: ann stays while bob's lease ends.
    let parked = std::thread::spawn(move || {
        ann.poll(&[("room", "chat/lobby"), ("after", "now"), ("wait", "60")]);
        ann.poll(&[
            ("room", "chat/lobby"),
            ("after", &ann.now("chat/lobby")),
            ("wait", "50"),
        ]);
        ann
    });
    until_here(&["ann"]);
    let late = server.wire("late");
    let newest = late.poll(&[
        ("room", "presence/chat/lobby"),
        ("after", "start"),
        ("wait", "0"),
    ]);
    assert_eq!(
        newest["messages"].as_array().unwrap().len(),
        1,
        "the newest alone, at once"
    );
    let sent = late.send(&[("room", "chat/lobby"), ("content", "bye")]);
    assert_eq!(sent.status, 200);
    parked.join().unwrap();
}

#[test]
fn a_number_is_never_given_twice() {
    let mut server = Longshore::settings().start();
    let eve = server.wire("eve");
    let rooms = [("room", "chat"), ("room", "presence/chat")];
    let newest = until("a presence message", || {
        let reply = eve.poll(&[rooms[0], rooms[1], ("after", "start"), ("wait", "0")]);
        reply["messages"].as_array().unwrap().last().cloned()
    });
    let cursor = eve.now("chat");
    server.crash_and_restart();
    server.wire("ann").say("after the crash");
    let reply = eve.poll(&[rooms[0], rooms[1], ("after", &cursor), ("wait", "5")]);
    assert!(reply["gap"].is_null(), "{reply}");
    let number = |message: &Value| message["id"].as_str().unwrap().parse::<u64>().unwrap();
    let first = &reply["messages"][0];
    assert_eq!(first["data"], "after the crash");
    assert!(number(first) > number(&newest));
}

#[test]
fn presence_has_the_rights_of_its_room() {
    let server = Longshore::settings().set("chat", "members").start();
    let stranger = server.wire("stranger");
    for room in [
        "presence/chat",
        "presence/vote/x",
        "presence/releases",
        "presence/release/1",
    ] {
        let refused = stranger.get_msg(&[("room", room), ("after", "now")]);
        assert_eq!(refused.expect(401)["field"], "room", "{room}");
    }
    let sent = stranger.send(&[("room", "presence/chat"), ("content", "{}")]);
    assert_eq!(sent.expect(403)["field"], "room");
    let off = Longshore::settings().set("chat", "off").start();
    let refused = off
        .wire("x")
        .get_msg(&[("room", "presence/chat"), ("after", "now")]);
    refused.expect(403);
}

#[test]
fn presence_of_releases_is_for_those_who_may_see_them() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let wanted = json!({"project_id": project, "ref": "main"});
    let release = fleet.longshore.api().create("releases", &wanted);
    let status = |room: &str| {
        let head = format!(
            "GET /get_msg?name=a&room={room}&after=now\nAuthorization: Bearer {}",
            fleet.longshore.token
        );
        let mut answer = String::new();
        let mut stream = raw_request(&fleet.longshore.url, &head);
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status(&format!("presence/release/{release}")), "200");
    assert_eq!(status("presence/releases"), "200");
    assert_eq!(status("presence/release/4711"), "403");
    let room = format!("presence/release/{release}");
    let stranger = fleet.longshore.wire("stranger");
    let refused = stranger.get_msg(&[("room", &room), ("after", "now")]);
    refused.expect(401);
}

#[test]
fn two_browsers_see_each_other_come_and_go() {
    let server = Longshore::settings().start();
    let [jason, tank] = Browser::start_several();
    jason.go(&format!("{}/chat/lobby?name=jason", server.url));
    jason.wait_for(&here(&["jason (you)"]));
    tank.go(&format!("{}/chat/lobby?name=tank", server.url));
    tank.wait_for(&here(&["jason", "tank (you)"]));
    jason.wait_for(&here(&["jason (you)", "tank"]));
    jason.screenshot("chat-room");
    // A page that is reloaded does not come and go.
    jason.mark();
    jason.script(
        "window.seen = [];
         new MutationObserver(function () {
           window.seen.push(document.querySelectorAll('#people li').length);
         }).observe(document.getElementById('people'), {childList: true});",
    );
    tank.go(&format!("{}/chat/lobby?name=tank", server.url));
    tank.wait_for(&here(&["jason", "tank (you)"]));
    tank.go("about:blank");
    jason.wait_for(&here(&["jason (you)"]));
    assert!(jason.is_marked(), "there was no reload");
    let seen = jason.script("return window.seen.filter(function (n) { return n === 1; }).length;");
    assert_eq!(seen, json!(1), "gone once");
}

#[test]
fn who_enters_gets_the_last_fifty_and_is_told_of_a_taken_name() {
    let server = Longshore::settings().start();
    let jason = server.wire("jason");
    for number in 0..60 {
        let said = format!("message {number}");
        jason.send(&[
            ("room", "chat/lobby"),
            ("name", "jason"),
            ("content", &said),
        ]);
    }
    jason.now("chat/lobby");
    let browser = Browser::start();
    browser.go(&format!("{}/chat/lobby?name=jason", server.url));
    browser.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
    let bubbles = browser.script(
        "return [].map.call(document.querySelectorAll('#record .bubble'), function (bubble) {
           return bubble.lastChild.textContent;
         });",
    );
    let expected: Vec<String> = (10..60).map(|number| format!("message {number}")).collect();
    assert_eq!(bubbles, json!(expected));
    assert!(
        browser
            .text("#taken")
            .starts_with("There is already a jason here.")
    );
    // The same browser again is no other person.
    browser.go(&format!("{}/chat/lobby?name=jason", server.url));
    browser.wait_for(&here(&["jason (you)"]));
    assert_eq!(
        browser.script("return document.getElementById('taken');"),
        Value::Null
    );
    browser.fill("#txt", "from the page");
    browser.click("#composer button[type=submit]");
    let said = until("the message of the page", || {
        let all = jason.poll(&[("room", "chat/lobby"), ("after", "start"), ("wait", "0")]);
        all["messages"].as_array()?.last().cloned()
    });
    assert_eq!(said["room"], "chat/lobby");
}

#[test]
fn the_entry_asks_for_a_name_and_a_room() {
    let server = Longshore::settings().start();
    let browser = Browser::start();
    browser.go(&format!("{}/chat/%E4%B8%AD%E5%8D%88", server.url));
    assert_eq!(browser.value("#room"), "中午");
    browser.fill("#name", "小明");
    browser.click("form[action='/home/'] button[type=submit]");
    browser.wait_for(&here(&["小明 (you)"]));
    assert_eq!(browser.text("h1"), "中午");
    browser.go(&format!("{}/home/", server.url));
    assert_eq!(
        browser.value("#name"),
        "小明",
        "the name that was given last"
    );
    browser.fill("#room", "a/b");
    browser.click("form[action='/home/'] button[type=submit]");
    assert!(browser.text(".field-error").contains("without a slash"));
}

/// A condition: the page shows these people, in this order.
fn here(people: &[&str]) -> String {
    format!(
        "[].map.call(document.querySelectorAll('#people li'), function (one) {{
           return one.textContent;
         }}).join('|') === {}",
        json!(people.join("|"))
    )
}
