//! The course's contract: the name alone.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Longshore, raw_request};

fn chat() -> Longshore {
    Longshore::settings().start()
}

fn says(text: &str) -> Value {
    json!({"status": true, "msg": text})
}

#[test]
fn each_client_gets_each_message_one_a_reply() {
    let server = chat();
    let (jason, tank) = (server.wire("jason"), server.wire("tank"));
    jason.open_home();
    tank.open_home();
    for text in ["hi", "<b>你好</b>", "bye"] {
        tank.say(text);
    }
    for client in [&jason, &tank] {
        let told = [
            client.course_poll(),
            client.course_poll(),
            client.course_poll(),
        ];
        assert_eq!(
            told,
            [says("hi"), says("<b>你好</b>"), says("bye")],
            "{}",
            client.name
        );
    }
}

#[test]
fn the_page_starts_from_now() {
    let server = chat();
    let (jason, tank) = (server.wire("jason"), server.wire("tank"));
    tank.open_home();
    tank.say("before");
    jason.open_home();
    tank.say("after");
    assert_eq!(jason.course_poll(), says("after"));
}

#[test]
fn with_the_cookie_a_lost_reply_comes_again() {
    let server = chat();
    let jason = Hand::open(&server, "jason");
    let tank = server.wire("tank");
    for text in ["one", "two", "three"] {
        tank.say(text);
    }
    let mut cookie = jason.cookie.clone();
    for text in ["one", "two", "three"] {
        for _ in 0..3 {
            assert_eq!(
                jason.poll(&cookie).0,
                says(text),
                "a reply that the browser never took"
            );
        }
        let (_, renewed) = jason.poll(&cookie);
        assert_ne!(renewed, cookie);
        cookie = renewed;
    }
    drop(jason.request(&cookie)); // parked, then cut off
    tank.say("four");
    assert_eq!(jason.poll(&cookie).0, says("four"));
}

#[test]
fn without_a_cookie_nothing_comes_twice() {
    let server = chat();
    let curl = Hand::open(&server, "curl");
    let tank = server.wire("tank");
    for text in ["one", "two", "three"] {
        tank.say(text);
    }
    let told = [curl.poll("").0, curl.poll("").0, curl.poll("").0];
    assert_eq!(told, [says("one"), says("two"), says("three")]);
    let mut parked = curl.request("");
    parked
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    assert!(
        parked.read(&mut [0; 1]).is_err(),
        "held: there is nothing new"
    );
}

#[test]
fn a_name_that_never_opened_the_page_starts_from_now() {
    let server = chat();
    let tank = server.wire("tank");
    tank.say("before");
    let jason = Hand {
        url: server.url.clone(),
        name: "jason".into(),
        cookie: String::new(),
    };
    let mut parked = jason.request("");
    parked
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    assert!(parked.read(&mut [0; 1]).is_err(), "held");
    tank.say("after");
    parked
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    assert_eq!(read_answer(parked).0, says("after"));
}

#[test]
fn a_page_goes_on_after_a_restart() {
    let mut server = chat();
    let (jason, tank) = (server.wire("jason"), server.wire("tank"));
    jason.open_home();
    tank.say("before");
    server.crash_and_restart();
    tank.say("after");
    assert_eq!(
        [jason.course_poll(), jason.course_poll()],
        [says("before"), says("after")]
    );
}

#[test]
fn two_names_in_one_browser_do_not_share_a_position() {
    let server = chat();
    let jason = server.wire("jason");
    let tank = jason.tab("tank");
    jason.open_home();
    tank.open_home();
    jason.say("hi");
    assert_eq!(jason.course_poll(), says("hi"));
    assert_eq!(tank.course_poll(), says("hi"));
}

#[test]
fn the_cookie_is_for_the_poll_alone() {
    let server = chat();
    let cookie = server.wire("jason").open_home();
    let cookie = cookie.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/get_msg"] {
        assert!(
            cookie.to_lowercase().contains(&part.to_lowercase()),
            "no {part} in {cookie}"
        );
    }
}

#[test]
fn an_empty_poll_is_held_for_thirty_seconds() {
    let server = chat();
    let jason = server.wire("jason");
    jason.open_home();
    let start = Instant::now();
    assert_eq!(jason.course_poll(), json!({"status": false, "msg": ""}));
    let held = start.elapsed();
    assert!((26..40).contains(&held.as_secs()), "{held:?}");
}

#[test]
fn jquery_is_where_the_course_looks_for_it() {
    let server = chat();
    let jquery = ureq::get(format!("{}/assets/jquery.min.js", server.url))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string();
    assert!(jquery.unwrap().contains("jQuery"));
}

/// A client whose cookies the test holds in its own hand.
struct Hand {
    url: String,
    name: String,
    cookie: String,
}

impl Hand {
    fn open(server: &Longshore, name: &str) -> Self {
        let stream = raw_request(&server.url, &format!("GET /home/?name={name}"));
        let mut text = String::new();
        (&stream).read_to_string(&mut text).unwrap();
        Self {
            url: server.url.clone(),
            name: name.to_owned(),
            cookie: cookie_of(&text),
        }
    }

    fn request(&self, cookie: &str) -> std::net::TcpStream {
        let header = if cookie.is_empty() {
            String::new()
        } else {
            format!("\nCookie: {cookie}")
        };
        raw_request(
            &self.url,
            &format!("GET /get_msg/?name={}{header}", self.name),
        )
    }

    fn poll(&self, cookie: &str) -> (Value, String) {
        read_answer(self.request(cookie))
    }
}

/// The JSON of an answer and the cookie that it sets.
fn read_answer(mut stream: std::net::TcpStream) -> (Value, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (_, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text}"));
    (
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")),
        cookie_of(&text),
    )
}

fn cookie_of(answer: &str) -> String {
    let lines = answer.lines().take_while(|line| !line.is_empty());
    let set = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    set.and_then(|(_, value)| value.split(';').next())
        .unwrap_or_default()
        .to_owned()
}
