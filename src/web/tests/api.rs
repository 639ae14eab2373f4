use super::*;

/// Secrets of the tests that must not be in any response.
const SECRETS: [&str; 3] = ["hunter2-password", "open-sesame", "ghp_secret"];

#[track_caller]
fn holds_no_secret(answer: &Answer) {
    for secret in SECRETS {
        assert!(!answer.body.contains(secret), "{}", answer.body);
    }
}

fn server() -> Value {
    json!({
        "hostname": "web-1", "host": "192.0.2.1", "port": 22, "user": "deploy",
        "kind": "ssh", "credential_id": "1", "root": "/",
    })
}

async fn password(script: &Script<'_>) -> String {
    let credential = json!({"name": "pw", "kind": "password", "secret": SECRETS[0]});
    let made = script.post("credentials", credential).await.expect(201);
    holds_no_secret(&made);
    made.json()["id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn servers_are_made_read_changed_and_deleted() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    password(&ann).await;
    let made = ann.post("servers/", server()).await.expect(201).json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["hostname"], "web-1");
    assert_eq!(made["port"], 22);
    assert_eq!(made["credential_id"], "1");
    assert_eq!(made["host_key"], Value::Null);
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        ann.get(&format!("servers/{id}/")).await.expect(200).json(),
        made
    );
    assert_eq!(ann.get("servers").await.expect(200).json(), json!([made]));

    let changed = ann
        .put(&format!("servers/{id}"), json!({"port": "2222"}))
        .await;
    let changed = changed.expect(200).json();
    assert_eq!(
        (&changed["port"], &changed["user"]),
        (&json!(2222), &json!("deploy"))
    );
    // A body can be sent back as it was read.
    ann.put(&format!("servers/{id}"), changed).await.expect(200);

    let number = id.parse().unwrap();
    let pin =
        |conn: &mut _| crate::store::servers::set_host_key(conn, number, Some("ssh-x SHA256:y"));
    test.app.store().write(pin).unwrap();
    let pinned = ann.get(&format!("servers/{id}")).await.expect(200).json();
    assert_eq!(pinned["host_key"], "SHA256:y");
    let moved = ann
        .put(&format!("servers/{id}"), json!({"host": "192.0.2.2"}))
        .await;
    assert_eq!(moved.expect(200).json()["host_key"], Value::Null);

    ann.delete(&format!("servers/{id}")).await.expect(204);
    ann.delete(&format!("servers/{id}")).await.expect(404);
    ann.get(&format!("servers/{id}")).await.expect(404);
    ann.put(&format!("servers/{id}"), json!({}))
        .await
        .expect(404);
}

#[actix_web::test]
async fn refused_fields_are_named_and_nothing_is_saved() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    password(&ann).await;
    let mut body = server();
    body["host"] = json!("-oX");
    body["port"] = json!(0);
    let refused = ann.post("servers", body).await.expect(422);
    assert_eq!(
        refused.error(),
        ("invalid_host".into(), Some("host".into()))
    );
    let errors = refused.json()["errors"].clone();
    assert_eq!(
        errors.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["host", "port"]
    );
    let mut body = server();
    body["sudo"] = json!(true);
    let refused = ann.post("servers", body).await.expect(422);
    assert_eq!(
        refused.error(),
        ("unknown_field".into(), Some("sudo".into()))
    );
    assert_eq!(ann.get("servers").await.json(), json!([]));

    ann.post("servers", server()).await.expect(201);
    let refused = ann.post("servers", server()).await.expect(422);
    assert_eq!(refused.error(), ("taken".into(), Some("hostname".into())));
    assert!(
        refused.json()["message"]
            .as_str()
            .unwrap()
            .contains("web-1")
    );

    let chinese = TestRequest::post()
        .uri("/api/v1/servers")
        .insert_header(("Authorization", format!("Bearer {}", ann.token)))
        .insert_header((header::ACCEPT_LANGUAGE, "zh-CN"))
        .set_json(json!({}));
    let refused = test.send(chinese).await.expect(422).json();
    assert!(!refused["message"].as_str().unwrap().is_ascii());
}

#[actix_web::test]
async fn projects_are_made_read_changed_and_deleted() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let id = ann.project("shop").await;
    let path = format!("projects/{id}");
    let project = ann.get(&path).await.expect(200).json();
    assert_eq!(project["server_ids"], json!(["1"]));
    assert_eq!(
        (&project["env"], &project["keep"]),
        (&json!("test"), &json!(5))
    );
    assert_eq!(ann.get("projects").await.json(), json!([project]));

    let other = ann.server("other").await;
    let changes = json!({"server_ids": ["1", other], "build": "make", "env": "prod"});
    let changed = ann.put(&path, changes).await.expect(200).json();
    assert_eq!(changed["server_ids"], json!(["1", other]));
    assert_eq!(
        (&changed["build"], &changed["title"]),
        (&json!("make"), &json!("shop"))
    );

    let mut second = changed.clone();
    for field in ["id", "created_at", "updated_at", "host_key"] {
        second.as_object_mut().unwrap().remove(field);
    }
    let refused = ann.post("projects", second.clone()).await.expect(422);
    assert_eq!(refused.error(), ("taken".into(), Some("title".into())));
    second["env"] = json!("test");
    let second = ann.post("projects", second).await.expect(201).json();
    let order = json!({"project_id": second["id"], "ref": "main"});
    let refused = ann.post("releases", order).await.expect(409);
    assert_eq!(refused.error().0, "place_shared");
    ann.delete(&format!("projects/{}", second["id"].as_str().unwrap()))
        .await
        .expect(204);

    let refused = ann.delete(&format!("servers/{other}")).await.expect(409);
    assert_eq!(refused.error().0, "in_use");
    assert!(refused.json()["message"].as_str().unwrap().contains("shop"));
    ann.delete(&path).await.expect(204);
    ann.get(&path).await.expect(404);
}

#[actix_web::test]
async fn repositories_must_be_allowed() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let server = ann.server("web-1").await;
    let long = format!("https://git.example/{}", "x".repeat(10_000));
    for repo in [
        "ext::sh -c id",
        "--upload-pack=id",
        "-oProxyCommand=id",
        "ssh://-oProxyCommand=id/x",
        "file:///etc",
        "/etc",
        "../x",
        "javascript:1",
        "http://169.254.169.254/",
        "http://[::1]/",
        "http://0x7f.1/",
        "http://h/%0d%0aX",
        "",
        long.as_str(),
    ] {
        let project = json!({
            "title": "shop", "repo": repo, "path": "/srv/shop", "server_ids": [server],
        });
        let refused = ann.post("projects", project).await.expect(422);
        assert_eq!(refused.error().1.as_deref(), Some("repo"), "{repo:.50}");
    }
}

#[actix_web::test]
async fn credentials_are_written_and_never_read() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let id = password(&ann).await;
    let path = format!("credentials/{id}");
    ann.post("servers", server()).await.expect(201);
    let shown = ann.get(&path).await.expect(200);
    holds_no_secret(&shown);
    let mut keys: Vec<String> = shown.json().as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "created_at",
            "has_password",
            "id",
            "kind",
            "name",
            "path",
            "updated_at"
        ]
    );
    holds_no_secret(&ann.get("credentials").await.expect(200));

    let kept = ann
        .put(&path, json!({"name": "renamed", "secret": ""}))
        .await
        .expect(200);
    assert_eq!(kept.json()["name"], "renamed");
    let sealed = test
        .app
        .store()
        .read(|conn| crate::store::credentials::find(conn, id.parse().unwrap()));
    let purpose = crate::store::credentials::SECRET;
    let opened = test
        .app
        .vault()
        .open_text(&sealed.unwrap().secret, purpose)
        .unwrap();
    assert_eq!(opened.expose(), SECRETS[0]);

    let other = json!({"kind": "git_token", "secret": SECRETS[2]});
    let refused = ann.put(&path, other).await.expect(422);
    assert_eq!(refused.error(), ("in_use".into(), Some("kind".into())));
    let refused = ann
        .put(&path, json!({"kind": "git_token"}))
        .await
        .expect(422);
    assert_eq!(refused.error(), ("required".into(), Some("secret".into())));
    ann.delete(&path).await.expect(409);
    ann.delete("servers/1").await.expect(204);
    ann.delete(&path).await.expect(204);

    let broken =
        json!({"name": "k", "kind": "ssh_key", "secret": SECRETS[1], "passphrase": SECRETS[1]});
    let refused = ann.post("credentials", broken).await.expect(422);
    assert_eq!(
        refused.error(),
        ("invalid_key".into(), Some("secret".into()))
    );
    holds_no_secret(&refused);
}

#[actix_web::test]
async fn lists_come_in_pages() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    for number in 0..7 {
        ann.server(&format!("web-{number}")).await;
    }
    for (query, names) in [
        (
            "",
            vec![
                "web-0", "web-1", "web-2", "web-3", "web-4", "web-5", "web-6",
            ],
        ),
        ("?limit=3", vec!["web-0", "web-1", "web-2"]),
        ("?limit=3&page=3", vec!["web-6"]),
        ("?limit=3&page=4", vec![]),
    ] {
        let answer = ann.get(&format!("servers{query}")).await.expect(200);
        assert_eq!(answer.header("x-total-count"), "7");
        let list = answer.json();
        let found: Vec<&str> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|server| server["hostname"].as_str().unwrap())
            .collect();
        assert_eq!(found, names, "{query}");
    }
    for query in [
        "limit=0",
        "limit=501",
        "limit=1e9",
        "limit=x",
        "page=0",
        "page=-1",
        "page=x",
    ] {
        for list in ["servers", "projects", "credentials", "releases"] {
            let answer = ann.get(&format!("{list}?{query}")).await.expect(400);
            let field = query.split('=').next().map(str::to_owned);
            assert_eq!(
                answer.error(),
                ("malformed".into(), field),
                "{list} {query}"
            );
        }
    }
}

#[actix_web::test]
async fn text_is_kept_as_it_is() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    for text in [
        "<script>alert(1)</script>",
        "{{7*7}}",
        "\u{202e}x",
        "' OR 1=1--",
    ] {
        let id = ann.server(text).await;
        let shown = ann.get(&format!("servers/{id}")).await.json();
        assert_eq!(shown["hostname"], text);
    }
    let page = test
        .browser_of("ann")
        .await
        .get("/servers")
        .await
        .expect(200);
    assert!(!page.body.contains("<script>alert(1)"));
    assert!(page.body.contains("{{7*7}}"));
}

#[actix_web::test]
async fn a_local_server_has_no_host_key_to_accept() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let id = ann.server("here").await;
    let path = format!("servers/{id}/host_key");
    let refused = ann
        .post(&path, json!({"fingerprint": "SHA256:x"}))
        .await
        .expect(422);
    assert_eq!(
        refused.error(),
        ("no_host_key".into(), Some("fingerprint".into()))
    );
    let refused = ann.post(&path, json!({})).await.expect(422);
    assert_eq!(
        refused.error(),
        ("required".into(), Some("fingerprint".into()))
    );
    let check = ann
        .post(&format!("servers/{id}/check"), json!({}))
        .await
        .expect(200)
        .json();
    assert_eq!(check["ok"], true, "{check}");
    assert_eq!(check["fingerprint"], Value::Null);
}
