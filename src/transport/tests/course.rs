//! The course's contract.

use super::*;

const COURSE: &str = "/get_msg/?name=%E6%9D%B0&wait=60";
const TIME_OUT: &str = r#"{"status":false,"msg":""}"#;

impl Site {
    fn enter(&self, name: &str) -> String {
        let cookie = super::super::course::enter(&self.hub, None, name).unwrap();
        assert_eq!(cookie.path(), Some("/get_msg"));
        format!("Cookie: other=1; {}={}\r\n", cookie.name(), cookie.value())
    }

    async fn course(&self, cookie: &str) -> Answer {
        self.call("GET", COURSE, cookie, b"").await
    }
}

#[actix_web::test]
async fn a_cookie_is_the_cursor() {
    let site = site(HubOptions::default());
    site.say("chat", "before");
    let home = site.enter("杰");
    let parked = site.parked(COURSE, &home).await;
    site.say("chat", "\"hi\"");
    site.say("chat", "two");
    let first = parked.await.unwrap();
    assert_eq!(first.body, r#"{"status":true,"msg":"\"hi\""}"#);
    let set = &first.headers["set-cookie"];
    for part in ["HttpOnly", "SameSite=Lax", "Path=/get_msg"] {
        assert!(set.split("; ").any(|p| p == part), "{set}");
    }
    // The reply was lost: the browser still has the older cookie.
    assert_eq!(site.course(&home).await.body, first.body);
    let second = site.course(&first.cookie()).await;
    assert_eq!(second.body, r#"{"status":true,"msg":"two"}"#);
    let third = site
        .call(
            "GET",
            "/get_msg?name=%E6%9D%B0&wait=0.2",
            &second.cookie(),
            b"",
        )
        .await;
    assert_eq!(third.body, TIME_OUT);
    assert!(third.headers["set-cookie"].contains("=b.3;"));
    site.stop().await;
}

#[actix_web::test]
async fn without_cookies_each_message_comes_once() {
    let site = site(HubOptions::default());
    site.enter("杰");
    for text in ["one", "two"] {
        site.say("chat", text);
    }
    let messages = ["one", "two"].map(|text| format!(r#"{{"status":true,"msg":"{text}"}}"#));
    assert_eq!(site.course("").await.body, messages[0]);
    assert_eq!(site.course("").await.body, messages[1]);
    // Two polls at a time share what comes; neither is ended for the other.
    let mut parked = Vec::new();
    for _ in 0..6 {
        parked.push(site.parked(COURSE, "").await);
    }
    for i in 0..6 {
        site.say("chat", &i.to_string());
    }
    let mut given = Vec::new();
    for poll in parked {
        given.push(
            poll.await.unwrap().json()["msg"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    given.sort();
    assert_eq!(given.join(""), "012345");
    let empty = site
        .call("GET", "/get_msg/?name=%E6%9D%B0&wait=0", "", b"")
        .await;
    assert_eq!(empty.body, TIME_OUT);
    site.stop().await;
}

#[actix_web::test]
async fn a_stranger_starts_from_now_and_stays_there() {
    let site = site(HubOptions::default());
    site.say("chat", "before");
    for garbage in ["", "garbage"] {
        let name = super::super::course::enter(&site.hub, None, "x").unwrap();
        let cookie = match garbage {
            "" => String::new(),
            _ => format!("Cookie: {}={garbage}\r\n", name.name()),
        };
        let answer = site
            .call("GET", "/get_msg?name=x&wait=0", &cookie, b"")
            .await;
        assert_eq!((answer.status, answer.body.as_str()), (200, TIME_OUT));
    }
    // Cut while it was held: what comes in between is not lost.
    let stream = site.open("GET", "/get_msg?name=new", "", b"").await;
    site.until_polls(1).await;
    drop(stream);
    site.until_polls(0).await;
    site.say("chat", "between");
    let answer = site.get("/get_msg?name=new").await;
    assert_eq!(answer.body, r#"{"status":true,"msg":"between"}"#);
    site.stop().await;
}

#[actix_web::test]
async fn lost_history_goes_on_from_the_oldest_kept() {
    let site = site(HubOptions::default());
    let home = site.enter("杰");
    for i in 0..4 {
        site.say("chat", &i.to_string());
    }
    let chat = RoomName::chat();
    site.hub
        .dropped(&chat, site.access.log.drop_up_to(&chat, 2).unwrap());
    assert_eq!(
        site.course(&home).await.body,
        r#"{"status":true,"msg":"2"}"#
    );
    let elder = home.replace("=b.0", "=elder.9");
    let third = site.course(&elder).await;
    assert_eq!(third.body, r#"{"status":true,"msg":"2"}"#);
    assert_eq!(
        site.course(&third.cookie()).await.body,
        r#"{"status":true,"msg":"3"}"#
    );
    site.stop().await;
}

#[actix_web::test]
async fn a_cursor_neither_reads_nor_sets_the_cookie() {
    let site = site(HubOptions::default());
    let home = site.enter("杰");
    site.say("chat", "one");
    let path = "/get_msg/?name=%E6%9D%B0&room=chat&after=b.1&wait=0";
    let answer = site.call("GET", path, &home, b"").await;
    assert!(answer.texts().is_empty() && !answer.headers.contains_key("set-cookie"));
    assert_eq!(site.course(&home).await.json()["msg"], "one");
    site.stop().await;
}

#[actix_web::test]
async fn a_drain_does_not_make_pages_come_back_in_a_loop() {
    let site = site(HubOptions::default());
    let home = site.enter("杰");
    let parked = site.parked(COURSE, &home).await;
    site.hub.drain();
    let begun = std::time::Instant::now();
    assert_eq!(parked.await.unwrap().body, TIME_OUT);
    let again = site.course(&home).await;
    assert_eq!(again.body, TIME_OUT);
    assert_eq!(again.headers["connection"], "close");
    assert!(begun.elapsed() >= Duration::from_millis(500));
    // At the end of the drain nobody is held any more.
    site.hub.end();
    let begun = std::time::Instant::now();
    assert_eq!(site.course(&home).await.body, TIME_OUT);
    assert!(begun.elapsed() < Duration::from_millis(500));
    site.stop().await;
}
