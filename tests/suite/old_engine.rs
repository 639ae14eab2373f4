//! PhantomJS 2.1.1 with nothing but XMLHttpRequest: ES5 without Promise, fetch, or CSS variables.

use serde_json::{Value, json};

use crate::fixture::{CoursePage, Fleet, Gate, Longshore, Page, Phantom};

#[test]
fn the_chat_page_works_in_an_old_engine() {
    let mut server = Longshore::settings().start();
    let (here, there) = (Phantom::start(), Phantom::start());
    let (jason, tank) = (here.page("jason"), there.page("tank"));
    jason.go(&format!("{}/home/?name=jason", server.url));
    tank.go(&format!("{}/home/?name=tank", server.url));
    for page in [&jason, &tank] {
        assert_eq!(
            page.script("return [typeof WebSocket, typeof EventSource, typeof Promise];"),
            json!(["undefined", "undefined", "undefined"])
        );
        page.mark();
        page.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
    }
    let mut expected = Vec::new();
    let mut say = |page: &Page<'_>, text: &str| {
        page.fill("#txt", text);
        page.click("#composer button[type=submit]");
        expected.push(text.to_owned());
        for page in [&jason, &tank] {
            page.wait_for(&last_is(text));
        }
    };
    say(&tank, "大家好");
    say(&jason, "<script>alert(1)</script>");
    server.crash_and_restart();
    for number in 0..5 {
        say(&jason, &format!("message {number}"));
    }
    for page in [&jason, &tank] {
        assert_eq!(told(page), expected);
        assert!(page.is_marked(), "there was no reload");
    }
    jason.picture("phantomjs-chat");
    for phantom in [&here, &there] {
        assert_eq!(phantom.complaints(), json!([]));
    }
}

#[test]
fn the_courses_own_page_works_in_an_old_engine() {
    let server = Longshore::settings().start();
    let course = CoursePage::start(&server.url);
    let phantom = Phantom::start();
    let (jason, tank) = (phantom.page("jason"), phantom.page("tank"));
    jason.go(&format!("{}/home/?name=jason", course.url));
    tank.go(&format!("{}/home/?name=tank", course.url));
    let texts: Vec<String> = (0..6).map(|number| format!("消息 {number}")).collect();
    for (number, text) in texts.iter().enumerate() {
        let page = if number % 2 == 0 { &tank } else { &jason };
        page.fill("#txt", text);
        page.click("button");
    }
    for page in [&jason, &tank] {
        page.wait_for("jQuery('.record p').length === 6");
        let told = page.script(
            "return jQuery('.record p').map(function () { return jQuery(this).text(); }).get();",
        );
        assert_eq!(told, json!(texts));
    }
    jason.picture("phantomjs-course-chat");
    assert_eq!(phantom.complaints(), json!([]));
}

#[test]
fn the_vote_page_works_in_an_old_engine() {
    let server = Longshore::settings().start();
    let (hall, pocket) = (Phantom::start(), Phantom::start());
    let (screen, phone) = (hall.page("screen"), pocket.page("phone"));
    screen.go(&format!("{}/vote/lunch", server.url));
    screen.fill("#question", "中午吃什么？");
    // Its own line breaks would send nothing: it is a text field of several lines.
    screen.script("document.getElementById('options').value = '面\\n饭\\n饺子';");
    screen.click("form[action='/vote/lunch/question'] button[type=submit]");
    screen.wait_for(&bars(&[0, 0, 0]));
    phone.go(&format!("{}/vote/lunch", server.url));
    for page in [&screen, &phone] {
        page.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
        page.mark();
    }
    phone.click("#bars li:nth-child(2) button");
    screen.wait_for(&bars(&[0, 1, 0]));
    screen.click("#bars li:nth-child(1) button");
    phone.wait_for(&bars(&[1, 1, 0]));
    phone.click("#bars li:nth-child(1) button");
    screen.wait_for(&bars(&[2, 0, 0]));
    let width = "document.querySelector('#bars rect').getAttribute('width') === '100%'";
    for page in [&screen, &phone] {
        page.wait_for(width);
        assert!(page.is_marked(), "there was no reload");
    }
    screen.picture("phantomjs-vote");
    for phantom in [&hall, &pocket] {
        assert_eq!(phantom.complaints(), json!([]));
    }
}

#[test]
fn the_flow_chart_of_a_running_release_works_in_an_old_engine() {
    let fleet = Fleet::of(2);
    let gate = Gate::closed();
    let project = fleet.project(json!({"title": "网站", "restart": gate.command()}));
    let phantom = Phantom::start();
    let page = phantom.page("release");
    let url = &fleet.longshore.url;
    page.log_in(url);
    page.go(&format!("{url}/releases/new?project={project}"));
    page.click("#ref-picker [data-value='main']");
    // The list of commits moves the button when it comes.
    page.wait_for("document.body.textContent.indexOf('Say two') >= 0");
    page.click("#release-form button[type=submit]");
    page.wait_for("document.querySelectorAll('g.node').length > 5");
    page.mark();
    gate.wait_until_reached();
    page.wait_for("document.querySelector(\"g.node[data-key^='restart'][data-state='running']\")");
    let before = nodes(&page);
    assert!(
        before.iter().any(|node| node["state"] == "succeeded"),
        "{before:?}"
    );
    let running = before.iter().find(|node| node["state"] == "running");
    let running = running.expect("one that waits at the gate")["fill"].clone();
    page.picture("phantomjs-release-running");
    gate.open();
    page.wait_for(
        "[].every.call(document.querySelectorAll('g.node'), function (node) {
           return node.getAttribute('data-state') === 'succeeded'; })",
    );
    page.wait_for("document.getElementById('release').getAttribute('data-state') === 'succeeded'");
    let after = nodes(&page);
    assert_eq!(after.len(), before.len());
    for node in &after {
        assert_eq!(node["fill"], after[0]["fill"], "{node}");
        assert_ne!(node["fill"], running, "{node}");
    }
    assert!(page.is_marked(), "there was no reload");
    page.picture("phantomjs-release");
    assert_eq!(phantom.complaints(), json!([]));
}

/// The nodes of the chart: key, state and the color as painted.
fn nodes(page: &Page<'_>) -> Vec<Value> {
    let nodes = page.script(
        "return [].map.call(document.querySelectorAll('g.node'), function (node) {
           return { key: node.getAttribute('data-key'), state: node.getAttribute('data-state'),
                    fill: getComputedStyle(node.querySelector('.shape')).fill };
         });",
    );
    serde_json::from_value(nodes).expect("a list")
}

/// A condition: the vote's bars show these counts.
fn bars(counts: &[u32]) -> String {
    let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
    format!(
        "[].map.call(document.querySelectorAll('#bars b'), function (one) {{
           return one.textContent;
         }}).join() === {}",
        json!(counts.join(","))
    )
}

/// A condition: the last bubble of the chat says `text`.
fn last_is(text: &str) -> String {
    format!(
        "[].slice.call(document.querySelectorAll('#record .bubble'), -1)[0].lastChild.textContent === {}",
        json!(text)
    )
}

fn told(page: &Page<'_>) -> Vec<String> {
    let texts = page.script(
        "return [].map.call(document.querySelectorAll('#record .bubble'), function (bubble) {
           return bubble.lastChild.textContent;
         });",
    );
    serde_json::from_value(texts).expect("a list")
}

#[test]
fn a_quick_change_of_mind_counts_in_an_old_engine() {
    let server = Longshore::settings().start();
    let (here, there) = (Phantom::start(), Phantom::start());
    let (screen, phone) = (here.page("screen"), there.page("phone"));
    screen.go(&format!("{}/vote/lunch", server.url));
    screen.fill("#question", "午饭？");
    screen.fill("#options", "面\n饭");
    screen.click("form[action='/vote/lunch/question'] button[type=submit]");
    screen.wait_for("document.querySelectorAll('#bars button').length === 2");
    phone.go(&format!("{}/vote/lunch", server.url));
    for page in [&screen, &phone] {
        page.mark();
        page.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
    }
    phone.click("#bars li:nth-child(2) button");
    screen.click("#bars li:nth-child(1) button");
    phone.click("#bars li:nth-child(1) button");
    for page in [&screen, &phone] {
        page.wait_for(&bars(&[2, 0]));
        assert!(page.is_marked(), "there was no reload");
    }
    for phantom in [&here, &there] {
        assert_eq!(phantom.complaints(), json!([]));
    }
}
