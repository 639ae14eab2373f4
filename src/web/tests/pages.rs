use super::*;

#[track_caller]
fn names(answer: &Answer, fields: &[&str]) {
    for field in fields {
        let mark = format!("id=\"{field}-error\"");
        assert!(answer.body.contains(&mark), "{field}: {}", answer.body);
    }
}

#[actix_web::test]
async fn servers_are_kept_by_their_pages() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    let empty = browser.get("/servers").await.expect(200);
    assert!(empty.body.contains("No server yet"));
    let form = browser.get("/servers/new").await.expect(200);
    assert!(form.body.contains("value=\"22\""));

    let fields = [
        ("hostname", "web <1>"),
        ("kind", "ssh"),
        ("host", "a b"),
        ("user", "de ploy"),
        ("port", "0"),
    ];
    let refused = browser.post("/servers/new", &fields).await.expect(422);
    names(&refused, &["host", "user", "port"]);
    assert!(
        refused.body.contains("value=\"web &lt;1&gt;\""),
        "{}",
        refused.body
    );
    assert!(refused.body.contains("value=\"a b\"") && refused.body.contains("value=\"0\""));
    assert!(browser.get("/servers").await.body.contains("No server yet"));

    let fields = [("hostname", "web-1"), ("kind", "local"), ("root", "/srv")];
    let made = browser.post("/servers", &fields).await.expect(303);
    let page = browser.get(made.header("location")).await.expect(200);
    assert!(page.body.contains("web-1 was created."));
    assert!(page.body.contains("value=\"&#x2f;srv\""));
    assert!(
        !browser
            .get(made.header("location"))
            .await
            .body
            .contains("was created")
    );
    browser.get("/servers/1").await.expect(200);

    let refused = browser
        .post("/servers/1/edit", &[("hostname", ""), ("kind", "local")])
        .await;
    names(&refused.expect(422), &["hostname"]);
    let fields = [("hostname", "web-2"), ("kind", "local"), ("root", "/opt")];
    browser.post("/servers/1/edit", &fields).await.expect(303);
    let list = browser.get("/servers").await.expect(200);
    assert!(list.body.contains("web-2") && !list.body.contains("web-1"));

    let ask = browser.get("/servers/1/delete?page=3").await.expect(200);
    assert!(
        ask.body.contains("value=\"&#x2f;servers?page=3\""),
        "{}",
        ask.body
    );
    let gone = browser
        .post("/servers/1/delete", &[("back", "/servers?page=3")])
        .await;
    assert_eq!(gone.expect(303).header("location"), "/servers?page=3");
    browser.get("/servers?page=3").await.expect(200);
    browser.get("/servers/1/edit").await.expect(404);
}

#[actix_web::test]
async fn projects_are_kept_by_their_pages() {
    let test = TestApp::with_people();
    let script = test.script("ann");
    script.server("web-1").await;
    script.server("web-2").await;
    let mut browser = test.browser_of("ann").await;
    browser.get("/projects/new").await.expect(200);
    let fields = [
        ("title", "shop"),
        ("repo", "file:///etc"),
        ("path", "/etc"),
        ("keep", "0"),
        ("build", "make all"),
    ];
    let refused = browser.post("/projects/new", &fields).await.expect(422);
    names(&refused, &["repo", "path", "keep", "server_ids"]);
    assert!(refused.body.contains("make all") && refused.body.contains("file:&#x2f;&#x2f;"));

    let fields = [
        ("title", "shop"),
        ("repo", "https://git.example/shop.git"),
        ("path", "/srv/shop"),
        ("keep", "3"),
        ("env", "prod"),
        ("build", "make\r\nmake test"),
        ("server_ids", "1"),
        ("server_ids", "2"),
        ("credential_id", ""),
    ];
    let made = browser.post("/projects/new", &fields).await.expect(303);
    let page = browser.get(made.header("location")).await.expect(200);
    assert_eq!(page.body.matches("name=\"server_ids\"").count(), 2);
    // Two servers, the environment, and copies of unchanged files.
    assert_eq!(page.body.matches(" checked>").count(), 4);
    let project = script.get("projects/1").await.json();
    assert_eq!(
        (&project["build"], &project["server_ids"]),
        (&json!("make\nmake test"), &json!(["1", "2"]))
    );

    let mut one = fields.to_vec();
    one.retain(|(name, value)| *name != "server_ids" || *value == "2");
    browser.post("/projects/1/edit", &one).await.expect(303);
    assert_eq!(
        script.get("projects/1").await.json()["server_ids"],
        json!(["2"])
    );
    one.retain(|(name, _)| *name != "server_ids");
    let refused = browser.post("/projects/1/edit", &one).await.expect(422);
    names(&refused, &["server_ids"]);

    let list = browser.get("/projects").await.expect(200);
    assert!(list.body.contains("shop"));
    let blocked = browser.get("/servers/2/delete").await.expect(200);
    assert!(blocked.body.contains("while these use it: shop"));
    browser.post("/servers/2/delete", &[]).await.expect(409);
    browser.get("/projects/1/delete").await.expect(200);
    let gone = browser
        .post("/projects/1/delete", &[("back", "//evil.example")])
        .await;
    assert_eq!(gone.expect(303).header("location"), "/projects");
}

#[actix_web::test]
async fn credentials_are_kept_by_their_pages_and_never_shown() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    browser.get("/credentials/new").await.expect(200);
    let fields = [
        ("name", "key <1>"),
        ("kind", "ssh_key"),
        ("secret", "hunter2"),
        ("passphrase", "sesame"),
    ];
    let refused = browser.post("/credentials/new", &fields).await.expect(422);
    names(&refused, &["secret"]);
    assert!(refused.body.contains("value=\"key &lt;1&gt;\""));
    assert!(!refused.body.contains("hunter2") && !refused.body.contains("sesame"));

    let fields = [("name", "key"), ("kind", "password"), ("secret", "hunter2")];
    browser.post("/credentials/new", &fields).await.expect(303);
    for path in ["/credentials", "/credentials/1/edit", "/credentials/1"] {
        let page = browser.get(path).await.expect(200);
        assert!(page.body.contains("key") && !page.body.contains("hunter2"));
    }
    let fields = [("name", "renamed"), ("kind", "password"), ("secret", "")];
    browser
        .post("/credentials/1/edit", &fields)
        .await
        .expect(303);
    assert!(browser.get("/credentials").await.body.contains("renamed"));
    browser.get("/credentials/1/delete").await.expect(200);
    browser.post("/credentials/1/delete", &[]).await.expect(303);
    assert!(
        browser
            .get("/credentials")
            .await
            .body
            .contains("No credential yet")
    );
}

#[actix_web::test]
async fn lists_come_in_pages_and_survive_an_emptied_last_one() {
    let test = TestApp::with_people();
    let script = test.script("ann");
    for number in 0..21 {
        script.server(&format!("web-{number:02}")).await;
    }
    let mut browser = test.browser_of("ann").await;
    let first = browser.get("/servers").await.expect(200);
    assert!(first.body.contains("web-19") && !first.body.contains("web-20"));
    let second = browser.get("/servers/?page=2").await.expect(200);
    assert!(second.body.contains("web-20") && !second.body.contains("web-19"));
    assert!(second.body.contains("/delete?page=2"));
    let back = [("back", "/servers?page=2")];
    let gone = browser.post("/servers/21/delete", &back).await.expect(303);
    let page = browser.get(gone.header("location")).await.expect(200);
    assert!(page.body.contains("web-19"));
    for query in ["page=0", "page=x", "page=999999999999"] {
        browser.get(&format!("/servers?{query}")).await.expect(200);
    }
}

#[actix_web::test]
async fn every_page_is_there_in_both_languages() {
    let test = TestApp::with_people();
    let script = test.script("ann");
    let project = script.project("shop").await;
    let order = json!({"project_id": project, "ref": "main"});
    script.post("releases", order).await.expect(201);
    script
        .post(
            "credentials",
            json!({"name": "c", "kind": "password", "secret": "x"}),
        )
        .await
        .expect(201);
    let mut browser = test.browser_of("ann").await;
    for lang in ["en", "zh-CN"] {
        browser
            .post("/preferences", &[("lang", lang)])
            .await
            .expect(303);
        for path in [
            "/",
            "/releases",
            "/releases/new",
            "/releases/new?project=1",
            "/releases/1",
            "/releases/1?node=start",
            "/releases/1?node=nothing",
            "/servers",
            "/servers/new",
            "/servers/1",
            "/servers/1/edit",
            "/servers/1/delete",
            "/projects",
            "/projects/new",
            "/projects/1/edit",
            "/projects/1/delete",
            "/credentials",
            "/credentials/new",
            "/credentials/1/edit",
            "/credentials/1/delete",
            "/home/?name=ann",
        ] {
            let page = browser.get(path).await.expect(200);
            assert!(
                page.body.contains(&format!("<html lang=\"{lang}\"")),
                "{path}"
            );
            for key in [
                "nav.", "error.", "form.", "state.", "release.", "server.", "flash.",
            ] {
                let missing = [format!(">{key}"), format!("\"{key}")];
                let shown = missing.iter().find(|text| page.body.contains(*text));
                let scripts = ["\"state.", "\"error."].contains(&format!("\"{key}").as_str());
                assert!(shown.is_none() || scripts, "{path} lacks a text: {shown:?}");
            }
        }
    }
}
