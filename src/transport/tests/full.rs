//! The full contract.

use std::time::Instant;

use super::*;

const CHAT: &str = "/get_msg?name=n&room=chat";

#[actix_web::test]
async fn held_until_a_message_comes() {
    let site = site(HubOptions::default());
    let now = site.get(CHAT).await;
    assert_eq!(now.body, r#"{"status":false,"cursor":"b.0","messages":[]}"#);
    let parked = site
        .parked(
            &format!("/get_msg/?name=n&room=chat&after={}", now.cursor()),
            "",
        )
        .await;
    site.say("chat/other", "no");
    site.say("chat", "你好");
    let answer = parked.await.unwrap();
    assert_eq!(
        (answer.status, answer.texts()),
        (200, vec!["你好".to_owned()])
    );
    let message = &answer.json()["messages"][0];
    assert_eq!(
        (&message["id"], &message["room"], &message["kind"]),
        (&"2".into(), &"chat".into(), &"message".into())
    );
    assert_eq!(answer.json()["status"], true);
    let header = |name: &str| answer.headers[name].as_str();
    assert_eq!(header("cache-control"), "no-store, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    assert_eq!(header("content-length"), answer.body.len().to_string());
    assert_eq!(header("content-type"), "application/json");
    assert!(!answer.headers.contains_key("set-cookie"));
    site.stop().await;
}

#[actix_web::test]
async fn held_until_its_time_out() {
    let site = site(HubOptions::default());
    let begun = Instant::now();
    let answer = site.get(&format!("{CHAT}&after=b.0&wait=1")).await;
    assert_eq!(
        answer.body,
        r#"{"status":false,"cursor":"b.0","messages":[]}"#
    );
    let held = begun.elapsed();
    assert!(held >= Duration::from_millis(900), "{held:?}");
    let begun = Instant::now();
    site.get(&format!("{CHAT}&after=b.0&wait=0")).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    site.stop().await;
}

#[actix_web::test]
async fn a_lost_reply_comes_again_by_the_old_cursor() {
    let site = site(HubOptions {
        queue: 3,
        ..HubOptions::default()
    });
    site.get(CHAT).await;
    let path = format!("{CHAT}&after=b.0");
    let mut said = Vec::new();
    for text in ["one", "two", "three", "four", "five", "six"] {
        let polls = site.hub.census().polls;
        let stream = site.open("GET", &path, "", b"").await;
        if said.is_empty() {
            site.until_polls(polls + 1).await;
        }
        site.say("chat", text);
        said.push(text);
        // The client never reads the reply.
        drop(stream);
        site.until_polls(0).await;
    }
    assert_eq!(site.get(&path).await.texts(), said);
    assert_eq!(site.get(&path).await.texts(), said);
    assert_eq!(
        site.get(&format!("{CHAT}&after=b.4&after=b.5&after=now"))
            .await
            .texts(),
        ["five", "six"]
    );
    site.stop().await;
}

#[actix_web::test]
async fn a_disconnect_deregisters() {
    let site = site(HubOptions::default());
    for half in [true, false] {
        let mut stream = site
            .open("GET", &format!("{CHAT}&after=b.0"), "", b"")
            .await;
        site.until_polls(1).await;
        match half {
            true => stream.shutdown().await.unwrap(),
            false => drop(stream),
        }
        site.until_polls(0).await;
    }
    site.stop().await;
}

#[actix_web::test]
async fn overlapping_polls_are_answered_each_by_its_cursor() {
    let site = site(HubOptions::default());
    site.say("chat", "one");
    let path = format!("{CHAT}&after=b.1&wait=60");
    let oldest = site.parked(&path, "").await;
    let mut rest = Vec::new();
    for _ in 0..3 {
        rest.push(site.parked(&path, "").await);
    }
    let stream = site.open("GET", &path, "", b"").await;
    let ended = oldest.await.unwrap().json();
    assert_eq!(
        (&ended["superseded"], &ended["cursor"]),
        (&true.into(), &"b.1".into())
    );
    assert!(
        (1000..=3000).contains(&ended["retry"].as_u64().unwrap()),
        "{ended}"
    );
    assert_eq!(
        site.get(&format!("{CHAT}&after=b.0")).await.texts(),
        ["one"]
    );
    drop(stream);
    // The last poll took the place of another one; two or three are left by now.
    site.say("chat", "two");
    for poll in rest {
        let answer = poll.await.unwrap();
        assert!(
            answer.json()["superseded"] == true || answer.texts() == ["two"],
            "{answer:?}"
        );
    }
    site.stop().await;
}

#[actix_web::test]
async fn a_gap_is_told_and_more_too() {
    let site = site(HubOptions {
        reply_bytes: 300,
        ..HubOptions::default()
    });
    for i in 0..5 {
        site.say("chat", &i.to_string());
    }
    let chat = RoomName::chat();
    site.hub
        .dropped(&chat, site.access.log.drop_up_to(&chat, 2).unwrap());
    let answer = site.get(&format!("{CHAT}&room=vote/x&after=b.1")).await;
    let json = answer.json();
    assert_eq!(
        (&json["gap"], &json["more"]),
        (&serde_json::json!(["chat"]), &true.into())
    );
    let mut texts = answer.texts();
    texts.extend(
        site.get(&format!("{CHAT}&after={}", answer.cursor()))
            .await
            .texts(),
    );
    assert_eq!(texts, ["2", "3", "4"]);
    let foreign = site.get(&format!("{CHAT}&after=other.1")).await;
    assert_eq!(
        foreign.body,
        r#"{"status":false,"cursor":"b.5","messages":[],"gap":["chat"]}"#
    );
    site.stop().await;
}

#[actix_web::test]
async fn rights_are_checked_before_and_after() {
    let site = site(HubOptions::default());
    let path = "/get_msg?name=n&room=chat&room=release%2F7&after=b.0";
    let stranger = site.get(path).await;
    assert_eq!(
        (stranger.status, stranger.json()["code"].as_str()),
        (401, Some("unauthorized"))
    );
    let parked = site.parked(path, "Authorization: Bearer ann\r\n").await;
    site.access.shut.store(true, Ordering::Relaxed);
    site.say("release/7", "secret");
    let answer = parked.await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(!answer.body.contains("secret"));
    site.stop().await;
}

#[actix_web::test]
async fn a_drain_answers_and_refuses() {
    let site = site(HubOptions::default());
    let parked = site.parked(&format!("{CHAT}&after=b.0&wait=60"), "").await;
    site.hub.drain();
    let answer = parked.await.unwrap();
    assert!(answer.json()["retry"].as_u64().unwrap() >= 500);
    let send = site.call("POST", "/send_msg", "", b"content=hi").await;
    let after: u64 = send.headers["retry-after"].parse().unwrap();
    assert_eq!(
        (send.status, (1..=5).contains(&after)),
        (503, true),
        "{after}"
    );
    for closed in [&answer, &send] {
        assert_eq!(closed.headers["connection"], "close");
    }
    let told = site.get(CHAT).await.json();
    assert!(told["retry"].is_u64(), "whatever is asked: {told}");
    site.stop().await;
}

#[actix_web::test]
async fn refusals_are_json_and_name_their_field() {
    let site = site(HubOptions {
        clients: 1,
        ..HubOptions::default()
    });
    site.get(CHAT).await;
    let long = "x".repeat(65);
    let table = [
        ("/get_msg", 400, "name"),
        ("/get_msg/?room=chat", 400, "name"),
        ("/get_msg?name=", 422, "name"),
        (&format!("/get_msg?name={long}"), 422, "name"),
        ("/get_msg?name=a%0Ab", 422, "name"),
        ("/get_msg?name=n&room=nope", 422, "room"),
        ("/get_msg?name=n&room=chat&after=-1", 400, "after"),
        (
            "/get_msg?name=n&room=chat&after=b.99999999999999999999",
            400,
            "after",
        ),
        ("/get_msg?name=n&room=chat&wait=61", 422, "wait"),
        ("/get_msg?name=n&room=chat&wait=soon", 400, "wait"),
        ("/get_msg?name=another&room=chat", 429, ""),
    ];
    for (path, status, field) in table {
        let answer = site.get(path).await;
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (status, Some(field)),
            "{path}"
        );
        assert!(
            answer.json()["message"]
                .as_str()
                .is_some_and(|m| !m.is_empty())
        );
        assert!(answer.json()["code"].is_string());
    }
    let wrong = site.call("POST", "/get_msg/", "", b"").await;
    assert_eq!(
        (wrong.status, wrong.headers["allow"].as_str()),
        (405, "GET")
    );
    site.access.log.broken.store(true, Ordering::Relaxed);
    site.say("vote/x", "1");
    let unread = site.get("/get_msg?name=n&room=chat/new&after=b.0").await;
    assert_eq!(
        (unread.status, unread.json()["code"].as_str()),
        (503, Some("unavailable"))
    );
    site.stop().await;
}
