//! Sending.

use super::*;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json; charset=utf-8\r\nAccept: application/json\r\n";

#[actix_web::test]
async fn forms_and_json_are_taken() {
    let site = site(HubOptions::default());
    let ok = site
        .call(
            "POST",
            "/send_msg/",
            FORM,
            b"content=h%20i%2B+%E5%A5%BD&name=ann",
        )
        .await;
    assert_eq!((ok.status, ok.body.as_str()), (200, "OK"));
    let body = r#"{"content":"\u4f60","room":"vote/x","name":"ann","more":1}"#;
    let id = site.call("POST", "/send_msg", JSON, body.as_bytes()).await;
    assert_eq!((id.status, id.body.as_str()), (200, r#"{"id":"2"}"#));
    let all = site
        .get("/get_msg?name=n&room=chat&room=vote/x&after=start")
        .await;
    assert_eq!(all.texts(), ["h i+ 好", "你"]);
    site.stop().await;
}

#[actix_web::test]
async fn content_is_bounded_when_decoded() {
    let site = site(HubOptions::default());
    let most = "content=".to_owned() + &"%E5%A5%BD".repeat(CONTENT_BYTES / 3);
    assert_eq!(
        site.call("POST", "/send_msg", FORM, most.as_bytes())
            .await
            .status,
        200
    );
    let escaped = format!(r#"{{"content":"{}"}}"#, r"\u0041".repeat(CONTENT_BYTES));
    assert_eq!(
        site.call("POST", "/send_msg", JSON, escaped.as_bytes())
            .await
            .status,
        200
    );
    for bytes in [CONTENT_BYTES + 1, BIG] {
        let over = "content=".to_owned() + &"x".repeat(bytes);
        let answer = site.call("POST", "/send_msg", FORM, over.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (413, Some("content"))
        );
    }
    site.stop().await;
}

const BIG: usize = 1 << 20;

#[actix_web::test]
async fn refusals_are_json_and_name_their_field() {
    let site = site(HubOptions::default());
    let deep = "[".repeat(10_000);
    let table: [(&str, &[u8], u16, &str); 16] = [
        (FORM, b"", 400, "content"),
        (FORM, b"content=", 422, "content"),
        (FORM, b"content=x&room=nope", 422, "room"),
        (FORM, b"content=x&room=release/1", 403, "room"),
        (FORM, b"content=x&room=releases", 403, "room"),
        (FORM, b"content=x&room=presence/chat", 403, "room"),
        (FORM, b"content=x&name=", 422, "name"),
        ("Origin: http://foreign\r\n", b"content=x", 403, "origin"),
        (JSON, b"{", 400, ""),
        (JSON, b"[1]", 400, ""),
        (JSON, br#"{"content":1}"#, 400, "content"),
        (JSON, br#"{"content":"\ud800"}"#, 400, ""),
        (JSON, b"{\"content\":\"\xff\"}", 400, ""),
        (JSON, br#"{"content":"x","room":7}"#, 400, "room"),
        (JSON, deep.as_bytes(), 400, ""),
        ("Content-Type: text/plain\r\n", b"content=x", 400, ""),
    ];
    for (headers, body, status, field) in table {
        let answer = site.call("POST", "/send_msg/", headers, body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]);
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (status, Some(field)),
            "{shown}"
        );
    }
    assert_eq!(site.hub.head(), 0, "nothing of it was published");
    assert_eq!(site.call("GET", "/send_msg/", "", b"").await.status, 405);
    site.stop().await;
}
