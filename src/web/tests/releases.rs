use super::*;

#[actix_web::test]
async fn a_release_is_queued_shown_and_cancelled() {
    let test = TestApp::with_people();
    let project = test.script("ann").project("shop").await;
    let dan = test.script("dan");
    let order = json!({"project_id": project, "ref": "main"});
    let made = dan.post("releases", order.clone()).await.expect(201).json();
    assert_eq!(
        (&made["state"], &made["ref"]),
        (&json!("queued"), &json!("main"))
    );
    assert_eq!(made["requested_by"], "dan");
    let id = made["id"].as_str().unwrap();

    let second = dan.post("releases", order).await.expect(409);
    assert_eq!(second.error().0, "release_active");
    let ann = test.script("ann");
    ann.delete(&format!("projects/{project}")).await.expect(409);

    let shown = dan.get(&format!("releases/{id}")).await.expect(200).json();
    assert_eq!(
        (&shown["id"], &shown["project_title"]),
        (&made["id"], &json!("shop"))
    );
    assert!(shown.get("spec").is_none());
    let list = dan
        .get(&format!("releases?project_id={project}"))
        .await
        .json();
    assert_eq!(list.as_array().unwrap().len(), 1);

    let tree = dan
        .get(&format!("releases/{id}/tree"))
        .await
        .expect(200)
        .json();
    let rows = tree.as_array().unwrap();
    assert_eq!(
        (&rows[0]["key"], &rows[0]["parent"]),
        (&json!("start"), &Value::Null)
    );
    for row in rows {
        for key in [
            "text",
            "figure",
            "color",
            "link_color",
            "link_text",
            "state",
            "version",
        ] {
            assert!(row.get(key).is_some(), "{key}: {row}");
        }
        assert_eq!(row["state"], "waiting");
    }
    assert!(rows.iter().any(|row| row["text"] == "server of shop"));

    let log = dan
        .get(&format!("releases/{id}/nodes/zip/log"))
        .await
        .expect(200);
    assert_eq!(log.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!((log.header("x-log-offset"), log.body.as_str()), ("0", ""));
    dan.get(&format!("releases/{id}/nodes/..%2f..%2fx/log"))
        .await
        .expect(404);
    dan.get("releases/99/tree").await.expect(404);

    test.script("vic")
        .post(&format!("releases/{id}/cancel"), json!({}))
        .await
        .expect(403);
    let cancelled = dan
        .post(&format!("releases/{id}/cancel"), json!({}))
        .await
        .expect(200);
    assert_eq!(cancelled.json()["state"], "cancelled");
    let ended = dan
        .post(&format!("releases/{id}/cancel"), json!({}))
        .await
        .expect(409);
    assert_eq!(ended.error().0, "release_ended");
    let back = dan
        .post(&format!("releases/{id}/rollback"), json!({}))
        .await
        .expect(409);
    assert_eq!(back.error().0, "release_not_succeeded");
}

#[actix_web::test]
async fn what_is_asked_for_is_checked() {
    let test = TestApp::with_people();
    let project = test.script("ann").project("shop").await;
    let dan = test.script("dan");
    for (order, field, code) in [
        (json!({"ref": "main"}), "project_id", "required"),
        (
            json!({"project_id": "99", "ref": "main"}),
            "project_id",
            "unknown_choice",
        ),
        (json!({"project_id": project}), "ref", "required"),
        (
            json!({"project_id": project, "ref": "--help"}),
            "ref",
            "invalid_revision",
        ),
        (
            json!({"project_id": project, "ref": "a b"}),
            "ref",
            "invalid_revision",
        ),
        (
            json!({"project_id": project, "commit": "x"}),
            "commit",
            "invalid_revision",
        ),
        (
            json!({"project_id": project, "branch": "x"}),
            "branch",
            "unknown_field",
        ),
    ] {
        let refused = dan.post("releases", order).await.expect(422);
        assert_eq!(refused.error(), (code.into(), Some(field.into())));
    }
    assert_eq!(dan.get("releases").await.json(), json!([]));
}

#[actix_web::test]
async fn releases_are_asked_for_by_their_pages() {
    let test = TestApp::with_people();
    let project = test.script("ann").project("shop").await;
    let mut browser = test.browser_of("dan").await;
    let form = browser
        .get(&format!("/releases/new?project={project}"))
        .await
        .expect(200);
    assert!(form.body.contains(" selected"));
    let refused = browser
        .post(
            "/releases",
            &[("project_id", &project), ("ref", "a..b"), ("commit", "")],
        )
        .await
        .expect(422);
    assert!(refused.body.contains("id=\"ref-error\"") && refused.body.contains("a..b"));

    let order = [
        ("project_id", project.as_str()),
        ("ref", "main"),
        ("commit", ""),
    ];
    let made = browser.post("/releases", &order).await.expect(303);
    assert_eq!(made.header("location"), "/releases/1");
    let page = browser.get("/releases/1").await.expect(200);
    assert!(page.body.contains("\"cursor\""));
    assert!(page.body.contains("/releases/1/cancel") && !page.body.contains("/releases/1/again"));
    let busy = browser.post("/releases", &order).await.expect(409);
    assert!(
        busy.body
            .contains("Release 1 of this project is still running.")
    );
    assert!(busy.body.contains("main"));

    browser.post("/releases/1/cancel", &[]).await.expect(303);
    let page = browser.get("/releases/1").await.expect(200);
    assert!(page.body.contains("/releases/1/again") && !page.body.contains("/releases/1/cancel"));
    assert!(!page.body.contains("/releases/1/rollback"));
    let again = browser.post("/releases/1/again", &[]).await.expect(303);
    assert_eq!(again.header("location"), "/releases/2");
    browser.post("/releases/2/rollback", &[]).await.expect(409);
    let list = browser.get("/").await.expect(200);
    assert!(list.body.contains("/releases/1") && list.body.contains("/releases/2"));
    let mut viewer = test.browser_of("vic").await;
    viewer.post("/releases/2/cancel", &[]).await.expect(403);
    viewer.get("/releases/new").await.expect(403);
}

#[actix_web::test]
async fn a_production_release_asks_first_and_takes_only_a_plain_answer() {
    let test = TestApp::with_people();
    let project = test.script("ann").project("shop").await;
    test.script("ann")
        .put(&format!("projects/{project}"), json!({"env": "prod"}))
        .await
        .expect(200);
    let mut browser = test.browser_of("dan").await;
    let order = [
        ("project_id", project.as_str()),
        ("ref", "main"),
        ("commit", ""),
    ];
    let none = json!([]);
    let dan = test.script("dan");
    for answer in ["", "no", "YES", "abc", "main"] {
        let mut order = order.to_vec();
        order.push(("confirmed", answer));
        let asked = browser.post("/releases", &order).await.expect(200);
        for part in [
            "server of shop",
            "value=\"main\"",
            "name=\"confirmed\" value=\"yes\"",
        ] {
            assert!(asked.body.contains(part), "{part}: {}", asked.body);
        }
        assert_eq!(dan.get("releases").await.json(), none, "{answer}");
    }
    let wrong = browser
        .post(
            "/releases",
            &[("project_id", &project), ("ref", "a..b"), ("commit", "")],
        )
        .await;
    assert!(wrong.expect(422).body.contains("id=\"ref-error\""));
    let mut answered = order.to_vec();
    answered.push(("confirmed", "yes"));
    let made = browser.post("/releases", &answered).await.expect(303);
    assert_eq!(made.header("location"), "/releases/1");
    browser.post("/releases/1/cancel", &[]).await.expect(303);
    // Again, with the commit that a page showed.
    let asked = browser.post("/releases/1/again", &[]).await.expect(200);
    assert!(asked.body.contains("id=\"release-confirm\""));
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let mut answered = order.to_vec();
    answered.push(("confirmed", commit));
    browser.post("/releases", &answered).await.expect(303);
    let release = dan.get("releases/2").await.json();
    assert_eq!(
        (&release["commit"], &release["ref"]),
        (&json!(commit), &json!("main"))
    );
    let mut viewer = test.browser_of("vic").await;
    viewer.post("/releases", &order).await.expect(403);
    viewer.post("/releases/1/rollback", &[]).await.expect(403);
}
