//! The chat, between browsers: the course's own page, unmodified, and ours.

use serde_json::json;

use crate::fixture::{Browser, CoursePage, Longshore};

#[test]
fn the_courses_own_page_works_between_two_windows() {
    let server = Longshore::settings().start();
    let course = CoursePage::start(&server.url);
    let browser = Browser::start();
    let jason = browser.window();
    browser.go(&format!("{}/home/?name=jason", course.url));
    let tank = browser.open_window();
    browser.go(&format!("{}/home/?name=tank", course.url));
    assert_eq!(browser.text("h1"), "聊天室:tank");
    for window in [&jason, &tank] {
        browser.switch_to(window);
        browser.mark();
    }

    say_there(&browser, "大家好");
    browser.switch_to(&jason);
    browser.wait_for(&heard("大家好"));
    say_there(&browser, "<b>hello</b> tank");
    browser.switch_to(&tank);
    browser.wait_for(&heard("<b>hello</b> tank"));
    for number in 0..8 {
        say_there(&browser, &format!("message {number}"));
    }
    let mut all: Vec<String> = vec!["大家好".into(), "<b>hello</b> tank".into()];
    all.extend((0..8).map(|number| format!("message {number}")));
    for window in [&jason, &tank] {
        browser.switch_to(window);
        browser.wait_for(&heard("message 7"));
        assert_eq!(told(&browser), all);
        assert!(browser.is_marked(), "there was no reload");
    }
    browser.screenshot("course-chat");
}

#[test]
fn the_courses_websocket_page_works_between_two_windows() {
    // The address at which the course's page looks for its server.
    const PLACE: &str = "127.0.0.1:8000";
    let server = Longshore::settings().start();
    let course = CoursePage::start(&server.url);
    let browser = Browser::start_with(PLACE, &course.url);
    let page = format!("http://{PLACE}/index/");
    let jason = browser.window();
    browser.go(&page);
    let tank = browser.open_window();
    browser.go(&page);
    for window in [&jason, &tank] {
        browser.switch_to(window);
        browser.wait_for("ws.readyState === WebSocket.OPEN");
    }
    let poller = server.wire("poller");
    poller.open_home();

    say_there(&browser, "大家好");
    browser.switch_to(&jason);
    browser.wait_for(&heard("大家好"));
    say_there(&browser, "<b>hello</b> tank");
    browser.wait_for(&heard("<b>hello</b> tank"));
    poller.say("from a long poller");
    let all = ["大家好", "<b>hello</b> tank", "from a long poller"];
    for window in [&jason, &tank] {
        browser.switch_to(window);
        browser.wait_for(&heard("from a long poller"));
        assert_eq!(told(&browser), all);
    }
    for text in all {
        assert_eq!(poller.course_poll(), json!({"status": true, "msg": text}));
    }
    browser.screenshot("course-websocket");
}

#[test]
fn the_courses_page_survives_a_restart_of_the_server() {
    let mut server = Longshore::settings().start();
    let course = CoursePage::start(&server.url);
    let browser = Browser::start();
    browser.go(&format!("{}/home/?name=jason", course.url));
    say_there(&browser, "before");
    browser.wait_for(&heard("before"));
    // The course's page ends its loop at a failed request; a reload is what its reader would do.
    server.restart();
    browser.go(&format!("{}/home/?name=jason", course.url));
    say_there(&browser, "after");
    browser.wait_for(&heard("after"));
    assert_eq!(told(&browser), ["after"]);
}

#[test]
fn our_chat_page_works_between_two_browsers() {
    let mut server = Longshore::settings().start();
    let [jason, tank] = Browser::start_several();
    jason.go(&format!("{}/home/?name=jason", server.url));
    tank.go(&format!("{}/home/?name=tank", server.url));
    for browser in [&jason, &tank] {
        browser.mark();
        browser.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
    }
    send(&tank, "大家好");
    jason.wait_for(&shown("大家好"));
    send(&jason, "<script>alert(1)</script>");
    tank.wait_for(&shown("<script>alert(1)</script>"));
    server.crash_and_restart();
    send(&jason, "still here");
    tank.wait_for(&shown("still here"));
    jason.wait_for(&shown("still here"));
    for browser in [&jason, &tank] {
        assert!(browser.is_marked(), "there was no reload");
        assert_eq!(
            browser.script("return document.querySelectorAll('#record .bubble').length;"),
            json!(3)
        );
    }
    jason.screenshot("chat");
}

fn say_there(browser: &Browser, text: &str) {
    browser.fill("#txt", text);
    browser.click("button");
}

/// A condition: the course's page shows `text` as a paragraph.
fn heard(text: &str) -> String {
    format!(
        "jQuery('.record p').filter(function () {{ return jQuery(this).text() === {}; }}).length",
        json!(text)
    )
}

fn told(browser: &Browser) -> Vec<String> {
    let texts = browser.script(
        "return jQuery('.record p').map(function () { return jQuery(this).text(); }).get();",
    );
    serde_json::from_value(texts).unwrap()
}

fn send(browser: &Browser, text: &str) {
    browser.fill("#txt", text);
    browser.click("#composer button[type=submit]");
}

/// A condition: our page shows `text` in a bubble.
fn shown(text: &str) -> String {
    format!(
        "[].some.call(document.querySelectorAll('#record .bubble'), function (bubble) {{
           return bubble.lastChild.textContent === {};
         }})",
        json!(text)
    )
}
