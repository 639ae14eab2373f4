//! Rights to read, publish and go on reading: every way to lack one, and every way to lose one.

use serde_json::{Value, json};

use crate::fixture::{Answer, Fleet, Longshore, Someone, messages, until, until_true};

/// Waits until the server counts this many parked polls.
pub fn parked(server: &Longshore, polls: u64) {
    until_true("parked polls", || {
        server.api().get("push").expect(200)["polls"] == polls
    });
}

#[track_caller]
pub fn refused(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text);
    let error = answer.json();
    let says = |key: &str| error[key].as_str().is_some_and(|text| !text.is_empty());
    assert!(says("code") && says("message"), "{what}: {error}");
    assert_eq!(error["messages"], Value::Null, "{what}: {error}");
}

#[test]
fn nobody_sees_releases_without_a_login() {
    let fleet = Fleet::of(1);
    let id = fleet.succeed(&fleet.project(json!({})), "main");
    let server = &fleet.longshore;
    let nobody = Someone::of(server);
    let strangers = [
        ("nothing", nobody.clone()),
        ("a token", Someone::bearing(server, "x")),
        ("half a token", Someone::bearing(server, &server.token[1..])),
        ("an empty token", Someone::bearing(server, "")),
        (
            "another scheme",
            nobody.showing("Authorization", &format!("Basic {}", server.token)),
        ),
        ("a cookie", nobody.showing("Cookie", "longshore_session=x")),
        (
            "a token as a cookie",
            nobody.showing("Cookie", &format!("longshore_session={}", server.token)),
        ),
    ];
    let of_release = format!("room=release/{id}");
    let rooms = [
        of_release.clone(),
        "room=releases".to_owned(),
        format!("room=presence/release/{id}"),
        "room=presence/releases".to_owned(),
        "room=chat&room=releases".to_owned(),
        format!("room=releases&{of_release}&room=vote/x"),
    ];
    let admin = Someone::bearing(server, &server.token);
    for room in &rooms {
        for (what, stranger) in &strangers {
            for asked in [
                "after=start&wait=0",
                "after=now",
                "wait=30",
                "after=start&wait=30",
            ] {
                let answer = stranger.poll(&format!("name=n&{room}&{asked}"));
                refused(&answer, 401, &format!("{what} {room} {asked}"));
            }
        }
        admin.poll(&format!("name=n&{room}&after=now")).expect(200);
    }
    let seen = admin
        .poll(&format!("name=n&{of_release}&after=start&wait=0"))
        .expect(200);
    assert!(
        !seen["messages"].as_array().unwrap().is_empty(),
        "there was something to see"
    );
    for unknown in ["release/999", "release/x", "presence/release/999"] {
        let answer = admin.poll(&format!("name=n&room=chat&room={unknown}&after=start"));
        refused(&answer, 403, unknown);
    }
}

#[test]
fn clients_publish_to_chat_and_votes_alone_and_never_choose_the_kind() {
    let server = Longshore::settings().start();
    let ann = Someone::bearing(&server, &server.add_user("ann", "admin"));
    let nobody = Someone::of(&server);
    let before = ann.cursor("chat");
    for room in [
        "releases",
        "release/1",
        "presence/chat",
        "presence/release/1",
    ] {
        for who in [&ann, &nobody] {
            let answer = who.post(
                "/send_msg",
                &[("content", "x"), ("room", room), ("kind", "release")],
            );
            refused(&answer, 403, room);
        }
    }
    for kind in ["kind", "Kind", "type"] {
        let form = [
            ("content", "hi"),
            ("room", "chat"),
            (kind, "release"),
            ("name", "bob"),
            ("from", "bob"),
        ];
        assert_eq!(ann.post("/send_msg", &form).status, 200);
        assert_eq!(nobody.post("/send_msg", &form).status, 200);
    }
    let reply = nobody
        .poll(&format!("name=n&room=chat&after={before}&wait=0"))
        .expect(200);
    let told = reply["messages"].as_array().unwrap();
    assert_eq!(told.len(), 6, "{reply}");
    for (i, message) in told.iter().enumerate() {
        assert_eq!(message["kind"], "message", "{message}");
        let from = if i % 2 == 0 { "ann" } else { "bob" };
        assert_eq!(
            message["from"], from,
            "with a login it is the account: {message}"
        );
    }
    let seen = ann
        .poll("name=n&room=releases&after=start&wait=0")
        .expect(200);
    assert_eq!(messages(&seen).len(), 0, "{seen}");
}

#[test]
fn a_name_is_no_key_to_anothers_queue() {
    let server = Longshore::settings().start();
    let people = [
        Someone::of(&server),
        Someone::bearing(&server, &server.add_user("ann", "viewer")),
        Someone::bearing(&server, &server.add_user("bob", "viewer")),
    ];
    // In course mode, by the position in memory: everybody is called jason, and gets everything.
    let forget = |who: &Someone| Someone {
        agent: Someone::of(&server).agent,
        ..who.clone()
    };
    for who in &people {
        assert_eq!(forget(who).get("/home/?name=jason").status, 200);
    }
    for text in ["one", "two"] {
        let form = [("content", text), ("name", "tank")];
        assert_eq!(Someone::of(&server).post("/send_msg", &form).status, 200);
    }
    for text in ["one", "two"] {
        for who in &people {
            let told = forget(who).poll("name=jason&wait=0").expect(200);
            assert_eq!(told["msg"], text);
        }
    }
    // In the full contract: a crowd of polls under the same name ends nobody else's poll.
    let after = people[1].cursor("chat");
    let held = people[1].park(&format!("name=jason&room=chat&after={after}"));
    parked(&server, 1);
    let crowd: Vec<_> = (0..5)
        .map(|_| people[2].park(&format!("name=jason&room=chat&after={after}")))
        .collect();
    // Five are parked before the last one came, too: it is the end of one that tells that all came.
    until_true("the end of bob's oldest poll", || {
        crowd.iter().any(|poll| poll.is_finished())
    });
    parked(&server, 5);
    let form = [("content", "three"), ("name", "tank")];
    assert_eq!(Someone::of(&server).post("/send_msg", &form).status, 200);
    let ann = held.join().unwrap().expect(200);
    assert_eq!(messages(&ann), ["three"], "{ann}");
    let bob = crowd
        .into_iter()
        .map(|poll| poll.join().unwrap().expect(200));
    let superseded = bob.filter(|reply| reply["superseded"] == true).count();
    assert_eq!(superseded, 1, "bob's own oldest one is");
}

/// A way to lose a right: its name, true if another process takes the right away, and the act.
type Loss = (&'static str, bool, fn(&Longshore, &Someone));

#[test]
fn a_parked_poll_does_not_survive_its_right() {
    let server = Longshore::settings().set("chat", "members").start();
    let losses: [Loss; 3] = [
        ("logout", false, |_, who| who.log_out()),
        ("disabled", true, |server, _| {
            drop(server.command(&["user", "disable", "ann"], ""))
        }),
        ("revoked", true, |server, _| {
            drop(server.command(&["token", "revoke", "ann"], ""))
        }),
    ];
    let token = server.add_user("ann", "deployer");
    for (what, elsewhere, lose) in losses {
        let ann = match what {
            "logout" => Someone::logged_in(&server, "ann"),
            "disabled" => Someone::bearing(&server, &token),
            _ => {
                // The tokens of a disabled account stay revoked after it is enabled again.
                server.command(&["user", "enable", "ann"], "");
                let token = server.command(&["token", "create", "ann"], "");
                Someone::bearing(&server, token.trim())
            }
        };
        let after = until("a cursor", || {
            let reply = ann.poll("name=n&room=chat&after=now");
            (reply.status == 200).then(|| reply.json()["cursor"].as_str().unwrap().to_owned())
        });
        let queries = [
            format!("name=long&room=chat&after={after}&wait=60"),
            format!("name=two&room=releases&room=chat&room=chat/other&after={after}&wait=60"),
            "name=course&wait=60".to_owned(),
        ];
        let held = queries.map(|query| ann.park(&query));
        parked(&server, 3);
        lose(&server, &ann);
        if elsewhere {
            until_true("the loss is known", || {
                ann.poll("name=n&room=chat&after=now").status == 401
            });
        }
        let admin = Someone::bearing(&server, &server.token);
        let form = [("content", "not for ann"), ("name", "x")];
        assert_eq!(admin.post("/send_msg", &form).status, 200);
        for poll in held {
            let answer = poll.join().unwrap();
            refused(&answer, 401, what);
            assert!(
                !answer.text.contains("not for ann"),
                "{what}: {}",
                answer.text
            );
        }
        let later = ann.poll(&format!("name=n&room=chat&after={after}&wait=0"));
        refused(&later, 401, what);
        refused(&ann.post("/send_msg", &form), 401, what);
    }
}

#[test]
fn a_release_is_not_told_to_one_who_logged_out_meanwhile() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let id = fleet.succeed(&project, "main");
    let server = &fleet.longshore;
    server.add_user("ann", "viewer");
    let ann = Someone::logged_in(server, "ann");
    let after = ann.cursor("releases");
    let held = ann.park(&format!(
        "name=n&room=releases&room=release/{id}&after={after}&wait=60"
    ));
    parked(server, 1);
    ann.log_out();
    fleet.succeed(&project, "main");
    refused(&held.join().unwrap(), 401, "after the logout");
}

#[test]
fn another_role_counts_within_a_second() {
    let server = Longshore::settings().start();
    let ann = Someone::bearing(&server, &server.add_user("ann", "admin"));
    assert_eq!(ann.get("/api/v1/push").status, 200);
    server.command(&["user", "role", "ann", "viewer"], "");
    until_true("the new role", || ann.get("/api/v1/push").status == 403);
    assert_eq!(ann.poll("name=n&room=releases&after=now").status, 200);
}

#[test]
fn a_forged_course_cookie_opens_nothing() {
    let server = Longshore::settings().start();
    let jason = Someone::of(&server);
    jason.get("/home/?name=jason");
    let page = jason.get("/home/?name=jason");
    let cookie = page
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let (name, own) = cookie.split_once('=').unwrap();
    let (birth, number) = own.rsplit_once('.').unwrap();
    assert!(
        name.starts_with("ls_") && number.parse::<u64>().is_ok(),
        "{cookie}"
    );
    let members = Longshore::settings().set("chat", "members").start();
    for forged in [
        "garbage".to_owned(),
        String::new(),
        "..".to_owned(),
        format!("{birth}.18446744073709551615"),
        format!("{birth}.0"),
        format!("{birth}.-1"),
        format!("another.{number}"),
        "9".repeat(200),
    ] {
        let shown = format!("{name}={forged}");
        let told = Someone::of(&server)
            .showing("Cookie", &shown)
            .poll("name=jason&wait=0");
        assert_eq!(
            told.expect(200),
            json!({"status": false, "msg": ""}),
            "{forged}"
        );
        let stranger = Someone::of(&members)
            .showing("Cookie", &shown)
            .poll("name=jason&wait=0");
        refused(&stranger, 401, &forged);
    }
    // The cookie of another name is passed over.
    let tank = Someone::of(&server)
        .showing("Cookie", &cookie)
        .poll("name=tank&wait=0");
    assert_eq!(tank.expect(200)["status"], false);
}

#[test]
fn only_our_own_pages_use_a_login() {
    let server = Longshore::settings()
        .set("chat", "members")
        .set("public_urls", "https://deploy.example.com")
        .start();
    server.add_user("ann", "viewer");
    let ann = Someone::logged_in(&server, "ann");
    let form = [("content", "x")];
    for (header, value, status) in [
        ("X-Nothing", "", 403),
        ("Origin", "http://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "https://deploy.example.com.evil.example", 403),
        ("Origin", "http://deploy.example.com", 403),
        (
            "Referer",
            "http://evil.example/https://deploy.example.com",
            403,
        ),
        ("Origin", "https://deploy.example.com", 200),
        ("Referer", "https://deploy.example.com/home/", 200),
        ("Origin", &server.url, 200),
    ] {
        let answer = ann.showing(header, value).post("/send_msg", &form);
        assert_eq!(answer.status, status, "{header}: {value}: {}", answer.text);
    }
    let both = ann
        .showing("Origin", "http://evil.example")
        .showing("Referer", &format!("{}/", server.url));
    refused(&both.post("/send_msg", &form), 403, "the Origin counts");
}
