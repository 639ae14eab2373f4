use super::*;

#[actix_web::test]
async fn a_login_with_the_right_password_opens_the_pages() {
    let test = TestApp::with_people();
    let mut browser = test.browser();
    let asked = browser.get("/servers?page=2").await.expect(303);
    assert_eq!(
        asked.header("location"),
        "/login?next=%2Fservers%3Fpage%3D2"
    );
    let form = browser.get(asked.header("location")).await.expect(200);
    assert!(
        form.body.contains("value=\"&#x2f;servers?page=2\""),
        "{}",
        form.body
    );

    let fields = [
        ("name", "ann"),
        ("password", PASSWORD),
        ("next", "/servers?page=2"),
    ];
    let entered = browser.post("/login", &fields).await.expect(303);
    assert_eq!(entered.header("location"), "/servers?page=2");
    let cookie = entered.cookie(SECURE_SESSION_COOKIE).unwrap();
    assert_eq!((cookie.path(), cookie.domain()), (Some("/"), None));
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.secure(), Some(true));
    assert_eq!(cookie.same_site(), Some(actix_web::cookie::SameSite::Lax));
    assert!(
        browser
            .get("/servers")
            .await
            .expect(200)
            .body
            .contains("ann")
    );

    let first = browser.session().unwrap().clone();
    let again = browser.post("/login/", &fields).await.expect(303);
    assert_eq!(again.header("location"), "/servers?page=2");
    assert_ne!(browser.session(), Some(&first));
    let old = TestRequest::get()
        .uri("/api/v1/servers")
        .insert_header((header::COOKIE, format!("{SECURE_SESSION_COOKIE}={first}")));
    test.send(old).await.expect(401);
}

#[actix_web::test]
async fn a_wrong_password_is_refused_and_the_name_kept() {
    let test = TestApp::with_people();
    let mut browser = test.browser();
    for name in ["ann", "nobody"] {
        let refused = browser
            .post("/login", &[("name", name), ("password", "wrong horse")])
            .await;
        let refused = refused.expect(401);
        assert!(refused.body.contains(&format!("value=\"{name}\"")));
        assert!(refused.body.contains("Name or password is wrong."));
        assert!(!refused.body.contains("wrong horse"));
    }
    assert!(browser.session().is_none());
}

#[actix_web::test]
async fn the_sixth_attempt_must_wait() {
    let test = TestApp::with_people();
    let mut browser = test.browser();
    for _ in 0..5 {
        let wrong = [("name", "ann"), ("password", "wrong horse")];
        browser.post("/login", &wrong).await.expect(401);
    }
    let right = [("name", "ann"), ("password", PASSWORD)];
    let limited = browser.post("/login", &right).await.expect(429);
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=300).contains(&wait));
}

#[actix_web::test]
async fn a_login_leads_nowhere_else() {
    let test = TestApp::with_people();
    for next in [
        "//evil.example",
        "https://evil.example",
        "/\\evil",
        "/login",
    ] {
        let mut browser = test.browser();
        let fields = [("name", "ann"), ("password", PASSWORD), ("next", next)];
        let entered = browser.post("/login", &fields).await.expect(303);
        assert_eq!(entered.header("location"), "/", "{next}");
    }
}

#[actix_web::test]
async fn logging_out_ends_the_session() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    let session = browser.session().unwrap().clone();
    browser.post("/logout", &[]).await.expect(303);
    assert!(browser.session().is_none());
    let page = browser.get("/login").await.expect(200);
    assert!(page.body.contains("You are signed out."));
    browser
        .cookies
        .insert(SECURE_SESSION_COOKIE.into(), session);
    browser.get("/servers").await.expect(303);
}

#[actix_web::test]
async fn links_work_once() {
    let test = TestApp::with_people();
    let link = test.app.auth().login_link("ann").unwrap();
    let path = crate::auth::login_path(&link);
    let head = TestRequest::with_uri(&path).method(Method::HEAD);
    test.send(head).await.expect(405);
    let mut browser = test.browser();
    browser.get(&path).await.expect(303);
    browser.get("/").await.expect(200);
    test.get(&path).await.expect(404);
    // A second click by a visitor who is logged in is not an error.
    browser.get(&path).await.expect(303);
}

#[actix_web::test]
async fn the_first_admin_is_made_under_the_set_up_link() {
    let test = TestApp::new();
    let link = test.app.auth().setup_link().unwrap();
    let path = crate::auth::setup_path(&link);
    test.get("/setup/wrong").await.expect(404);
    let mut browser = test.browser();
    browser.get(&path).await.expect(200);
    for (password, again, field) in [
        ("short", "short", "password"),
        ("password", "password", "password"),
        (PASSWORD, "correct house", "password_again"),
    ] {
        let fields = [
            ("name", "ann"),
            ("password", password),
            ("password_again", again),
        ];
        let refused = browser.post(&path, &fields).await.expect(422);
        assert!(
            refused.body.contains(&format!("id=\"{field}-error\"")),
            "{}",
            refused.body
        );
        assert!(refused.body.contains("value=\"ann\""));
    }
    let fields = [
        ("name", "ann"),
        ("password", PASSWORD),
        ("password_again", PASSWORD),
    ];
    browser.post(&path, &fields).await.expect(303);
    browser.get("/servers/new").await.expect(200);
    test.get(&path).await.expect(404);
}

#[actix_web::test]
async fn language_and_theme_are_remembered() {
    let test = TestApp::new();
    let mut browser = test.browser();
    let page = browser.get("/login").await.expect(200);
    assert!(page.body.contains("<html lang=\"en\""));
    for path in ["/preferences", "/language"] {
        let chosen = browser
            .post(path, &[("lang", "zh-CN"), ("next", "/login")])
            .await;
        assert_eq!(chosen.expect(303).header("location"), "/login");
    }
    browser
        .post("/preferences", &[("theme", "dark")])
        .await
        .expect(303);
    let page = browser.get("/login").await.expect(200);
    assert!(
        page.body
            .contains("<html lang=\"zh-CN\" data-theme=\"dark\"")
    );
    assert!(page.body.contains("登录"));
}

#[actix_web::test]
async fn a_login_from_before_the_prefix_goes_on_and_the_next_one_over_https_has_it() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    let session = browser.cookies.remove(SECURE_SESSION_COOKIE).unwrap();
    browser.cookies.insert(SESSION_COOKIE.into(), session);
    browser.get("/servers").await.expect(200);
    let fields = [("name", "ann"), ("password", PASSWORD)];
    browser.post("/login", &fields).await.expect(303);
    assert!(browser.session().is_some() && !browser.cookies.contains_key(SESSION_COOKIE));
    // With both cookies, the prefixed one counts, since no other host can have set it.
    browser
        .cookies
        .insert(SESSION_COOKIE.into(), "planted".into());
    browser.get("/servers").await.expect(200);
}
