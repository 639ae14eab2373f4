//! Credentials and servers in forms and the API.

use super::*;
use crate::ssh::tests::sshd::{make_key, run};
use crate::store::credentials;

const PASSPHRASE: &str = "open sesame";

fn key_text(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[actix_web::test]
async fn a_wrong_passphrase_is_refused_when_the_key_is_saved() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    make_key(&at("openssh"), "ed25519", PASSPHRASE);
    let pem = at("pem");
    let options = ["-q", "-t", "rsa", "-m", "PEM", "-N", PASSPHRASE, "-f"];
    run(
        "ssh-keygen",
        &[&options[..], &[pem.to_str().unwrap()]].concat(),
    );
    for (name, kind) in [("openssh", "ssh_key"), ("pem", "git_ssh_key")] {
        let values = |passphrase: &str| {
            json!({"name": name, "kind": kind, "secret": key_text(&at(name)),
                   "passphrase": passphrase})
        };
        for (passphrase, code) in [("", "passphrase_required"), ("barley", "passphrase_wrong")] {
            let refused = ann.post("credentials", values(passphrase)).await;
            let refused = refused.expect(422);
            assert_eq!(refused.error(), (code.into(), Some("passphrase".into())));
            assert!(!refused.body.contains("barley"));
        }
        let made = ann.post("credentials", values(PASSPHRASE)).await;
        let id = made.expect(201).json()["id"].as_str().unwrap().to_owned();
        // The kept key is verified too.
        let path = format!("credentials/{id}");
        let refused = ann.put(&path, json!({"passphrase": "barley"})).await;
        assert_eq!(refused.expect(422).error().0, "passphrase_wrong");
        ann.put(&path, json!({"name": format!("{name}2")}))
            .await
            .expect(200);
    }
}

#[actix_web::test]
async fn what_is_wrong_with_a_key_is_said_in_the_readers_language() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    let putty = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n";
    let fields = [("name", "k"), ("kind", "ssh_key"), ("secret", putty)];
    let page = browser.post("/credentials/new", &fields).await.expect(422);
    assert!(page.body.contains("puttygen"), "{}", page.body);
    assert!(!page.body.contains("Encryption: none"));
    let public = "ssh-ed25519 AAAAC3Nza me@here";
    let fields = [("name", "k"), ("kind", "ssh_key"), ("secret", public)];
    browser.post("/preferences", &[("lang", "zh-CN")]).await;
    let page = browser.post("/credentials/new", &fields).await.expect(422);
    assert!(page.body.contains("无法使用"), "{}", page.body);
    assert!(!page.body.contains("public half"));
}

#[actix_web::test]
async fn key_files_and_the_agent_need_the_operators_leave() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let key = keys.join("deploy");
    make_key(&key, "ed25519", "");
    let file = |path: &std::path::Path| json!({"name": "file", "kind": "ssh_key_file", "path": path.to_str().unwrap()});
    let agent = json!({"name": "agent", "kind": "ssh_agent"});

    let closed = TestApp::with_people();
    let ann = closed.script("ann");
    let refused = ann.post("credentials", file(&key)).await.expect(422);
    assert_eq!(refused.error().1.as_deref(), Some("path"));
    assert!(refused.body.contains("ssh_key_folders"), "{}", refused.body);
    let refused = ann.post("credentials", agent.clone()).await.expect(422);
    assert_eq!(refused.error().1.as_deref(), Some("kind"));

    let open = TestApp::with(|settings| {
        settings.ssh_key_folders = vec![keys.clone()];
        settings.ssh_agent = true;
    })
    .and_people();
    let ann = open.script("ann");
    let made = ann.post("credentials", file(&key)).await.expect(201).json();
    assert_eq!(made["path"], key.to_str().unwrap());
    for path in ["/etc/shadow", "keys/deploy", ""] {
        let refused = ann.post("credentials", file(path.as_ref())).await;
        let refused = refused.expect(422);
        assert_eq!(refused.error().1.as_deref(), Some("path"), "{path}");
    }
    ann.post("credentials", agent).await.expect(201);
}

#[actix_web::test]
async fn the_password_beside_a_key_is_sealed_kept_and_removed() {
    const PASSWORD: &str = "correct horse";
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str| {
        let path = folder.path().join(name);
        make_key(&path, "ed25519", "");
        key_text(&path)
    };
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let both = json!({"name": "both", "kind": "ssh_key", "secret": key("a"), "password": PASSWORD});
    let made = ann.post("credentials", both).await.expect(201);
    assert_eq!(made.json()["has_password"], true);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("credentials/{id}");
    let sealed = || {
        let id = crate::store::CredentialId(id.parse().unwrap());
        let found = test.app.store().read(|conn| credentials::find(conn, id));
        found.unwrap().password
    };
    let opens = |expected: &str| {
        let vault = test.app.vault();
        let opened = vault.open_text(&sealed().unwrap(), credentials::PASSWORD);
        assert_eq!(opened.unwrap().expose(), expected);
    };
    assert!(!sealed().unwrap().windows(5).any(|part| part == b"horse"));
    opens(PASSWORD);
    // A new key, or a script's unchanged values, keep the password; a new password replaces it.
    for change in [
        json!({"secret": key("b")}),
        made.json(),
        json!({"password": ""}),
    ] {
        let kept = ann.put(&path, change).await.expect(200);
        assert!(!kept.body.contains("horse"), "{}", kept.body);
        opens(PASSWORD);
    }
    ann.put(&path, json!({"password": "new"})).await.expect(200);
    opens("new");

    let mut browser = test.browser_of("ann").await;
    let edit = format!("/credentials/{id}/edit");
    let page = browser.get(&edit).await.expect(200);
    assert!(page.body.contains("name=\"has_password\""));
    let fields = [("name", "both"), ("kind", "ssh_key"), ("password", "a\tb")];
    let page = browser.post(&edit, &fields).await.expect(422);
    assert!(page.body.contains("id=\"password-error\""), "{}", page.body);
    assert!(page.body.contains("name=\"has_password\"") && !page.body.contains("a\tb"));
    let fields = [
        ("name", "both"),
        ("kind", "ssh_key"),
        ("has_password", "false"),
    ];
    browser.post(&edit, &fields).await.expect(303);
    assert_eq!(sealed(), None);
    let page = browser.get(&edit).await.expect(200);
    assert!(!page.body.contains("name=\"has_password\""));
}

async fn ssh_server(script: &Script<'_>, hostname: &str) -> String {
    let server = json!({"hostname": hostname, "host": "192.0.2.1", "user": "deploy"});
    let made = script.post("servers", server).await.expect(201);
    made.json()["id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn jump_servers_lead_somewhere() {
    let test = TestApp::with_people();
    let ann = test.script("ann");
    let bastion = ssh_server(&ann, "bastion").await;
    let web = ssh_server(&ann, "web").await;
    let set = |jump: &str| json!({ "jump_id": jump });
    let web_path = format!("servers/{web}");
    let changed = ann.put(&web_path, set(&bastion)).await.expect(200).json();
    assert_eq!(changed["jump_id"], bastion.as_str());
    for (path, jump, code) in [
        (format!("servers/{bastion}"), web.as_str(), "jump_loop"),
        (web_path.clone(), web.as_str(), "jump_loop"),
        (web_path.clone(), "99", "unknown_choice"),
    ] {
        let refused = ann.put(&path, set(jump)).await.expect(422);
        assert_eq!(refused.error(), (code.into(), Some("jump_id".into())));
    }
    let local = json!({"kind": "local"});
    let refused = ann.put(&format!("servers/{bastion}"), local).await;
    assert_eq!(
        refused.expect(422).error(),
        ("in_use".into(), Some("kind".into()))
    );
    ann.delete(&format!("servers/{bastion}")).await.expect(409);
    let mut browser = test.browser_of("ann").await;
    let page = browser
        .get(&format!("/servers/{web}/edit"))
        .await
        .expect(200);
    assert!(page.body.contains("bastion"));
    ann.delete(&web_path).await.expect(204);
    ann.delete(&format!("servers/{bastion}")).await.expect(204);
}

#[actix_web::test]
async fn the_form_of_a_server_shows_its_proxy_and_never_the_password() {
    let test = TestApp::with_people();
    let mut browser = test.browser_of("ann").await;
    let server = |proxy: &str, command: &str| {
        [
            ("hostname", "web-1"),
            ("host", "192.0.2.1"),
            ("user", "deploy"),
            ("proxy", proxy),
            ("proxy_command", command),
        ]
        .map(|(name, value)| (name, value.to_owned()))
    };
    let fields =
        |values: &[(&'static str, String)]| -> Vec<(&'static str, String)> { values.to_vec() };
    let post = async |browser: &mut Browser<'_>, path: &str, values: &[(&'static str, String)]| {
        let values = fields(values);
        let values: Vec<(&str, &str)> = values.iter().map(|(k, v)| (*k, v.as_str())).collect();
        browser.post(path, &values).await
    };
    let proxy = "socks5://ann:barley@192.0.2.9:1081";
    for (text, command) in [(proxy, "nc"), ("socks5://ann:barley@192.0.2.9:1081/x", "")] {
        let refused = post(&mut browser, "/servers/new", &server(text, command)).await;
        let refused = refused.expect(422);
        assert!(!refused.body.contains("barley"), "{}", refused.body);
    }
    let made = post(&mut browser, "/servers/new", &server(proxy, "")).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
    let page = browser.get("/servers/1/edit").await.expect(200);
    let shown = "value=\"socks5:&#x2f;&#x2f;ann@192.0.2.9:1081\"";
    assert!(page.body.contains(shown), "{}", page.body);
    assert!(page.body.contains("A password is kept"), "{}", page.body);
    assert!(!page.body.contains("barley"), "{}", page.body);
    let command = "socat\r\n-\r\nTCP:%h:%p\r\n";
    let saved = post(&mut browser, "/servers/1/edit", &server("", command)).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
    let page = browser.get("/servers/1/edit").await.expect(200);
    assert!(
        page.body.contains("socat\n-\nTCP:%h:%p</textarea>"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("A password is kept"), "{}", page.body);
}
