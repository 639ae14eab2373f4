//! Texts of the engine in the reader's language.

use super::*;
use crate::store::releases::ReleaseChange;
use crate::store::{NodeState, ReleaseId, ReleaseState, nodes, releases};

const CAUSE: &str = r#"{"key":"failure.command","args":{"exit":{"key":"failure.exit.code",
    "args":{"code":"7"},"text":"exit code 7"}},"text":"the command ended with exit code 7"}"#;

impl Script<'_> {
    async fn ask(&self, method: Method, path: &str, language: &str) -> Value {
        let request = TestRequest::with_uri(&format!("/api/v1/{path}"))
            .method(method)
            .insert_header(("Authorization", format!("Bearer {}", self.token)))
            .insert_header((header::ACCEPT_LANGUAGE, language))
            .set_json(json!({"fingerprint": "SHA256:x"}));
        self.test.send(request).await.json()
    }
}

/// Ends release 1 as the engine does after a failed step on a server.
fn fail(app: &App) {
    let id = ReleaseId(1);
    let causes = format!(
        r#"{{"causes":[{{"servers":["web-2"],"step":"restart","cause":{CAUSE}}}],"more":1}}"#
    );
    for (release, node) in [
        (ReleaseState::Running, NodeState::Running),
        (ReleaseState::Failed, NodeState::Failed),
    ] {
        let change = ReleaseChange {
            state: Some(release),
            message: Some(causes.clone()),
            ..ReleaseChange::default()
        };
        let changed = app.store().write(|conn| {
            let version = releases::find(conn, id)?.version;
            releases::change(conn, id, version, &change)?;
            let first = nodes::of_release(conn, id)?.remove(0);
            nodes::set_state(conn, &first, node, CAUSE)
        });
        changed.unwrap();
    }
}

#[actix_web::test]
async fn why_a_release_failed_is_told_in_the_readers_language() {
    let test = TestApp::with_people();
    let project = test.script("ann").project("shop").await;
    let dan = test.script("dan");
    let order = json!({"project_id": project, "ref": "main"});
    dan.post("releases", order).await.expect(201);
    fail(&test.app);

    let english = "the command ended with exit code 7";
    let chinese = "命令以退出码 7 结束";
    let in_english = format!("web-2: restart: {english}; and 1 more");
    let in_chinese = format!("web-2 的「服务重启」：{chinese}；另有 1 处");
    for (language, node, release) in [
        ("en", english, &in_english),
        ("zh-CN", chinese, &in_chinese),
        ("fr", english, &in_english),
    ] {
        let shown = dan.ask(Method::GET, "releases/1", language).await;
        assert_eq!(shown["message"], json!(release));
        let list = dan.ask(Method::GET, "releases", language).await;
        assert_eq!(list[0]["message"], json!(release));
        let tree = dan.ask(Method::GET, "releases/1/tree", language).await;
        assert_eq!(tree[0]["message"], json!(node));

        let mut browser = test.browser_of("dan").await;
        let request = browser
            .request(Method::GET, "/releases/1")
            .insert_header((header::ACCEPT_LANGUAGE, language));
        let page = browser.send(request).await.expect(200);
        assert!(page.body.contains(release), "{}", page.body);
    }
}

#[actix_web::test]
async fn a_server_out_of_reach_is_told_in_the_readers_language() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let credential = json!({"name": "pw", "kind": "password", "secret": "correct horse"});
    let credential = ann.post("credentials", credential).await.expect(201).json();
    let server = json!({"hostname": "web-1", "host": "127.0.0.1", "port": port,
        "user": "demo", "kind": "ssh", "root": "/", "credential_id": credential["id"]});
    let added = ann.post("servers", server).await.expect(201).json();
    let path = format!("servers/{}", added["id"].as_str().unwrap());
    for (language, unreachable) in [
        ("en", "the host cannot be reached: "),
        ("zh", "无法连接主机："),
    ] {
        let address = format!("{path}/check");
        let check = ann.ask(Method::POST, &address, language).await;
        let message = check["message"].as_str().unwrap();
        assert!(message.contains(unreachable), "{check}");
        let address = format!("{path}/host_key");
        let refused = ann.ask(Method::POST, &address, language).await;
        assert_eq!(refused["code"], "ssh_failed");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(unreachable), "{message}");
    }
}
