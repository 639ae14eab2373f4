//! Votes: the wire's ballots, the page's bars.

use serde_json::{Value, json};

use crate::fixture::{Answer, Browser, Longshore, Wire};

/// Somebody's browser without a screen: it keeps cookies.
struct Visitor {
    wire: Wire,
}

impl Visitor {
    fn of(server: &Longshore) -> Self {
        Self {
            wire: server.wire("visitor"),
        }
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.wire.post_form(path, form)
    }

    /// The state of a vote, as JSON for the script of its page.
    fn state(&self, name: &str) -> Value {
        self.wire.get_json(&format!("/vote/{name}")).expect(200)
    }

    fn open(&self, name: &str) {
        let form = [
            ("question", "Lunch?"),
            ("options", "noodles\nrice\ndumplings"),
        ];
        let answer = self.post(&format!("/vote/{name}/question"), &form);
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, format!("/vote/{name}").as_str())
        );
    }

    fn cast(&self, name: &str, choice: &str) -> Answer {
        self.state(name);
        self.post(&format!("/vote/{name}"), &[("choice", choice)])
    }
}

#[test]
fn one_vote_a_browser_and_the_count_survives_a_crash() {
    let mut server = Longshore::settings().set("room_messages", "1").start();
    let (ann, bob) = (Visitor::of(&server), Visitor::of(&server));
    ann.open("lunch");
    let mut cursor = ann.wire.now("vote/lunch");
    for (who, choice, counts) in [
        (&ann, "1", [1, 0, 0]),
        (&bob, "1", [2, 0, 0]),
        (&ann, "3", [1, 0, 1]),
        (&ann, "3", [1, 0, 1]),
    ] {
        assert_eq!(
            who.cast("lunch", choice).expect(200)["counts"],
            json!(counts)
        );
        let reply = ann.wire.poll(&[("room", "vote/lunch"), ("after", &cursor)]);
        let message = &reply["messages"][0];
        assert_eq!(
            (&message["kind"], &message["from"]),
            (&json!("vote"), &json!(""))
        );
        assert_eq!(message["data"]["counts"], json!(counts));
        cursor = reply["cursor"].as_str().unwrap().to_owned();
    }
    server.crash_and_restart();
    let state = bob.state("lunch");
    assert_eq!(
        (&state["vote"]["counts"], &state["choice"]),
        (&json!([1, 0, 1]), &json!(1))
    );
    assert_eq!(state["vote"]["question"], "Lunch?");
    assert_eq!(Visitor::of(&server).state("lunch")["choice"], Value::Null);
}

#[test]
fn only_the_organiser_and_accounts_may_change_the_question() {
    let server = Longshore::settings().start();
    let (ann, bob) = (Visitor::of(&server), Visitor::of(&server));
    ann.state("lunch");
    ann.open("lunch");
    assert_eq!(bob.post("/vote/lunch/close", &[]).status, 403);
    assert_eq!(
        bob.post(
            "/vote/lunch/question",
            &[("question", "x"), ("options", "a\nb")]
        )
        .status,
        403
    );
    assert_eq!(bob.cast("lunch", "2").status, 200);
    assert_eq!(ann.post("/vote/lunch/close", &[]).status, 303);
    let refused = bob.cast("lunch", "1").expect(409);
    assert_eq!(refused["code"], "vote_closed");
    assert_eq!(ann.post("/vote/lunch/reopen", &[]).status, 303);
    assert_eq!(
        bob.cast("lunch", "1").expect(200)["counts"],
        json!([1, 0, 0])
    );
    let blocked = Visitor::of(&server).post("/vote/lunch", &[("choice", "1")]);
    assert_eq!(
        blocked.expect(422)["code"],
        "vote_cookie",
        "who keeps no cookie has no ballot"
    );
}

#[test]
fn programs_vote_by_the_wire_and_malformed_ballots_name_their_field() {
    let server = Longshore::settings().start();
    let ann = Visitor::of(&server);
    let send = |fields: &[(&str, &str)]| {
        let mut form = vec![("room", "vote/lunch")];
        form.extend(fields);
        server.wire("x").send(&form)
    };
    assert_eq!(
        send(&[("content", "hello")]).status,
        200,
        "nothing is asked: a room like any other"
    );
    ann.open("lunch");
    for (content, name, field) in [
        ("hello", "p", "content"),
        ("{\"choice\":0}", "p", "choice"),
        ("{\"choice\":9}", "p", "choice"),
        ("{}", "p", "choice"),
        ("1", "", "name"),
    ] {
        let mut form = vec![("content", content)];
        if !name.is_empty() {
            form.push(("name", name));
        }
        assert_eq!(send(&form).expect(422)["field"], field, "{content}");
    }
    for (name, choice) in [("p", "1"), ("q", "{\"choice\":\"2\"}"), ("p", "2")] {
        assert_eq!(send(&[("content", choice), ("name", name)]).status, 200);
    }
    assert_eq!(ann.state("lunch")["vote"]["counts"], json!([0, 2, 0]));
}

#[test]
fn bars_move_in_another_browser() {
    let server = Longshore::settings().start();
    let [screen, phone] = Browser::start_several();
    screen.resize(1920, 1080);
    phone.resize(420, 860);
    screen.go(&format!("{}/vote/lunch", server.url));
    screen.fill("#question", "中午吃什么？ What is for lunch?");
    screen.fill("#options", "面 noodles\n饭 rice\n饺子 dumplings");
    screen.click("form[action='/vote/lunch/question'] button[type=submit]");
    screen.wait_for(&bars(&[0, 0, 0]));
    phone.go(&format!("{}/vote/lunch", server.url));
    for browser in [&screen, &phone] {
        browser.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
        browser.mark();
    }
    phone.click("#bars li:nth-child(2) button");
    screen.wait_for(&bars(&[0, 1, 0]));
    phone.click("#bars li:nth-child(3) button");
    screen.wait_for(&bars(&[0, 0, 1]));
    screen.click("#bars li:nth-child(1) button");
    phone.wait_for(&bars(&[1, 0, 1]));
    for number in 0..17 {
        let choice = ["1", "1", "1", "2", "3"][number % 5];
        let form = [
            ("room", "vote/lunch"),
            ("name", &format!("p{number}") as &str),
            ("content", choice),
        ];
        assert_eq!(server.wire("x").send(&form).status, 200);
    }
    for browser in [&screen, &phone] {
        browser.wait_for(&bars(&[12, 3, 4]));
        browser.wait_for("document.getElementById('here').textContent.indexOf('2') > 0");
        assert!(browser.is_marked(), "there was no reload");
    }
    let width = screen.script("return document.querySelector('#bars rect').getAttribute('width');");
    assert_eq!(width, json!("63%"));
    screen.screenshot("vote-screen");
    phone.screenshot("vote-phone");
    for (language, theme) in [("zh-CN", "dark"), ("zh-CN", "light"), ("en", "dark")] {
        for (browser, of) in [(&screen, "screen"), (&phone, "phone")] {
            browser.script(&format!(
                "document.cookie = 'lang={language}; path=/'; document.cookie = 'theme={theme}; path=/';"
            ));
            browser.go(&format!("{}/vote/lunch", server.url));
            browser.wait_for("document.getElementById('live').getAttribute('data-state') === 'on'");
            browser.screenshot(&format!("vote-{of}-{language}-{theme}"));
        }
    }
    screen.click(".vote-desk summary");
    screen.click("#desk button");
    phone.wait_for("document.querySelector('#bars button').disabled");
    assert!(phone.text("#hint").contains("closed"));
}

/// A condition: the bars show these counts.
fn bars(counts: &[u32]) -> String {
    let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
    format!(
        "[].map.call(document.querySelectorAll('#bars b'), function (one) {{
           return one.textContent;
         }}).join() === {}",
        json!(counts.join(","))
    )
}

#[test]
fn ballots_have_a_rate_as_messages_do() {
    let server = Longshore::bounded()
        .set("client_messages_second", "1")
        .set("client_messages_burst", "3")
        .start();
    let (quick, calm) = (Visitor::of(&server), Visitor::of(&server));
    quick.open("lunch");
    let choices = ["1", "2"].iter().cycle().take(20);
    let answers: Vec<Answer> = choices.map(|choice| quick.cast("lunch", choice)).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    calm.cast("lunch", "3").expect(200);
}
