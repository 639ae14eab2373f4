use super::*;

const POLICY: [&str; 4] = [
    "object-src 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "script-src 'self'",
];

#[actix_web::test]
async fn every_answer_has_its_security_headers() {
    let test = TestApp::with_people();
    for path in [
        "/login",
        "/nowhere",
        "/api/v1/servers",
        "/api/nowhere",
        "/assets/longshore.css",
    ] {
        let answer = test.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(
            POLICY.iter().all(|part| policy.contains(part)),
            "{path}: {policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert!(
            answer
                .header("strict-transport-security")
                .contains("max-age"),
            "{path}"
        );
        assert!(!answer.header("cache-control").is_empty(), "{path}");
    }
    assert_eq!(test.get("/login").await.header("cache-control"), "no-store");
}

#[actix_web::test]
async fn the_api_speaks_json_and_the_rest_html() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/nowhere",
        "/api/v2/servers",
        "/api/v1/a/b/c",
    ] {
        let answer = test.get(path).await.expect(404);
        assert_eq!(answer.error(), ("not_found".into(), None), "{path}");
    }
    for id in ["-1", "9223372036854775808", "x", "1", "0x1", "+1"] {
        let answer = ann.get(&format!("servers/{id}")).await.expect(404);
        assert_eq!(answer.error().0, "not_found", "{id}");
    }
    let wrong = ann.send(Method::PATCH, "servers", None).await.expect(405);
    assert_eq!(wrong.error().0, "method_not_allowed");
    let trace = TestRequest::with_uri("/login").method(Method::TRACE);
    test.send(trace).await.expect(405);
    let page = test.get("/nowhere").await.expect(404);
    assert!(page.header("content-type").starts_with("text/html"));
    let page = test
        .browser_of("ann")
        .await
        .get("/servers/-1/edit")
        .await
        .expect(404);
    assert!(page.header("content-type").starts_with("text/html"));
}

#[actix_web::test]
async fn nobody_gets_in_without_a_login() {
    let test = TestApp::with_people();
    for path in [
        "/",
        "/servers",
        "/servers/new",
        "/servers/1/edit",
        "/projects",
        "/credentials",
        "/releases",
        "/releases/new",
        "/releases/1",
        "/servers/1/delete",
    ] {
        let answer = test.get(path).await.expect(303);
        assert!(
            answer.header("location").starts_with("/login?next=%2F"),
            "{path}"
        );
    }
    for (method, path) in [
        (Method::GET, "servers"),
        (Method::POST, "servers"),
        (Method::PUT, "servers/1"),
        (Method::DELETE, "servers/1"),
        (Method::GET, "releases/1/tree"),
        (Method::GET, "releases/1/nodes/zip/log"),
        (Method::POST, "releases/1/cancel"),
        (Method::GET, "projects/1/refs"),
        (Method::POST, "projects/1/check"),
        (Method::GET, "credentials"),
    ] {
        for token in [
            None,
            Some("Bearer"),
            Some("Bearer x"),
            Some("Basic eDp5"),
            Some("x"),
        ] {
            let mut request =
                TestRequest::with_uri(&format!("/api/v1/{path}")).method(method.clone());
            if let Some(token) = token {
                request = request.insert_header(("Authorization", token));
            }
            let answer = test.send(request).await.expect(401);
            assert_eq!(
                answer.error().0,
                "unauthorized",
                "{method} {path} {token:?}"
            );
        }
    }
    let post = TestRequest::post()
        .uri("/servers/new")
        .set_form([("hostname", "x")]);
    test.send(post).await.expect(401);
}

#[actix_web::test]
async fn roles_bound_what_an_account_may_do() {
    let test = TestApp::with_people();
    let project = test.script("ann").project("shop").await;
    for (user, release) in [("dan", 201), ("vic", 403)] {
        let script = test.script(user);
        for list in ["servers", "projects", "credentials", "releases"] {
            script.get(list).await.expect(200);
        }
        script
            .post("servers", json!({"hostname": "x", "kind": "local"}))
            .await
            .expect(403);
        script
            .put("servers/1", json!({"hostname": "x"}))
            .await
            .expect(403);
        script.delete("servers/1").await.expect(403);
        script
            .put(&format!("projects/{project}"), json!({"build": "id"}))
            .await
            .expect(403);
        script.post("credentials", json!({})).await.expect(403);
        script.post("servers/1/check", json!({})).await.expect(403);
        let order = json!({"project_id": project, "ref": "main"});
        script.post("releases", order).await.expect(release);
        let mut browser = test.browser_of(user).await;
        let list = browser.get("/servers").await.expect(200);
        assert!(!list.body.contains("/servers/new") && !list.body.contains("/edit"));
        browser.get("/servers/new").await.expect(403);
        browser.post("/servers/1/delete", &[]).await.expect(403);
    }
}

#[actix_web::test]
async fn a_change_by_cookie_needs_the_token() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    let right = browser.csrf.clone();
    for wrong in ["", "x"] {
        browser.csrf = wrong.into();
        browser.post("/logout", &[]).await.expect(403);
    }
    browser.csrf = right.clone();
    browser
        .post("/preferences", &[("lang", "en")])
        .await
        .expect(303);

    let body = json!({"hostname": "web-1", "kind": "local"});
    let api = |browser: &Browser<'_>| {
        browser
            .request(Method::POST, "/api/v1/servers")
            .insert_header((header::ORIGIN, ORIGIN))
            .set_json(&body)
    };
    let request = api(&browser);
    let refused = browser.send(request).await.expect(403);
    assert_eq!(refused.error().0, "csrf");
    let request = api(&browser).insert_header(("X-CSRF-Token", right));
    browser.send(request).await.expect(201);
}

#[actix_web::test]
async fn pages_of_other_sites_change_nothing() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    let form = [("csrf", browser.csrf.clone()), ("lang", "en".into())];
    for (name, value, status) in [
        ("Origin", "http://longshore.test", 303),
        ("Origin", "https://deploy.example", 303),
        ("Referer", "http://longshore.test/servers", 303),
        ("Origin", "http://evil.example", 403),
        ("Origin", "null", 403),
        ("Referer", "http://evil.example/longshore.test", 403),
        ("X-Nothing", "", 403),
    ] {
        let request = browser
            .request(Method::POST, "/preferences")
            .insert_header((name, value))
            .set_form(&form);
        let answer = browser.send(request).await;
        assert_eq!(answer.status.as_u16(), status, "{name} {value}");
    }
    // Without a cookie there is nothing to abuse, but another site's page is refused nevertheless.
    let stranger = TestRequest::post().uri("/preferences").set_form(&form);
    test.send(stranger).await.expect(303);
    let foreign = TestRequest::post()
        .uri("/login")
        .insert_header((header::ORIGIN, "http://evil.example"))
        .set_form([("name", "ann"), ("password", PASSWORD)]);
    test.send(foreign).await.expect(403);
}

#[actix_web::test]
async fn bodies_are_bounded_and_of_the_right_kind() {
    let test = TestApp::with_people();
    let token = format!("Bearer {}", test.script("ann").token);
    let post = |kind: &'static str, body: String| {
        TestRequest::post()
            .uri("/api/v1/servers")
            .insert_header(("Authorization", token.clone()))
            .insert_header((header::CONTENT_TYPE, kind))
            .set_payload(body)
    };
    let json = "application/json";
    let deep = "[".repeat(10_000);
    for (kind, body, status, code) in [
        (json, "{".to_owned(), 400, "malformed"),
        (json, String::new(), 400, "malformed"),
        (json, "[]".to_owned(), 400, "malformed"),
        (json, format!("{{\"hostname\":{deep}"), 400, "malformed"),
        (
            json,
            r#"{"hostname":"\ud800"}"#.to_owned(),
            400,
            "malformed",
        ),
        ("text/plain", "{}".to_owned(), 415, "content_type"),
        (
            "application/x-www-form-urlencoded",
            "a=b".to_owned(),
            415,
            "content_type",
        ),
        (
            json,
            format!("{{\"hostname\":\"{}\"}}", "x".repeat(1 << 20)),
            422,
            "too_long",
        ),
        (
            json,
            format!("{{\"hostname\":\"{}\"}}", "x".repeat(3 << 20)),
            413,
            "too_large",
        ),
    ] {
        let answer = test.send(post(kind, body)).await.expect(status);
        assert_eq!(answer.error().0, code);
    }
    let packed = post(json, "{}".into()).insert_header(("Content-Encoding", "gzip"));
    test.send(packed).await.expect(415);
    let login = TestRequest::post()
        .uri("/login")
        .set_form([("name", "x".repeat(100_000).as_str())]);
    test.send(login).await.expect(413);
}

#[actix_web::test]
async fn assets_are_cached_by_their_hash() {
    let test = TestApp::new();
    let page = test.get("/login").await.body.replace("&#x2f;", "/");
    let start = page.find("/assets/longshore.css?v=").unwrap();
    let address = page[start..].split('"').next().unwrap();
    let asset = test.get(address).await.expect(200);
    assert_eq!(asset.header("content-type"), "text/css; charset=utf-8");
    assert!(asset.header("cache-control").contains("immutable"));
    let tag = asset.header("etag").to_owned();
    let plain = test.get("/assets/longshore.css").await.expect(200);
    assert_eq!(plain.header("cache-control"), "no-cache");
    let again = TestRequest::get()
        .uri("/assets/longshore.css")
        .insert_header((header::IF_NONE_MATCH, tag));
    assert!(test.send(again).await.expect(304).body.is_empty());
    let jquery = test.get("/assets/jquery.min.js").await.expect(200);
    assert!(jquery.body.contains("jQuery"));
    for path in [
        "/assets/",
        "/assets/../Cargo.toml",
        "/assets/%2e%2e/Cargo.toml",
        "/assets/x",
    ] {
        test.get(path).await.expect(404);
    }
}

#[actix_web::test]
async fn the_chat_page_asks_for_a_name() {
    let test = TestApp::new();
    for path in ["/home", "/home/"] {
        let page = test.get(path).await.expect(200);
        assert!(page.body.contains("action=\"/home/\""));
    }
    let page = test.get("/home/?name=%E5%B0%8F%E6%98%8E").await.expect(200);
    assert!(page.body.contains("小明") && page.body.contains("\"cursor\""));
    assert!(
        page.cookies
            .iter()
            .any(|cookie| cookie.path() == Some("/get_msg"))
    );
    let long = format!("/home/?name={}", "x".repeat(65));
    test.get(&long).await.expect(422);
}
