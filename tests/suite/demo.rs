//! `longshore demo`: what a newcomer sees first.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::fixture::{Api, Longshore, until, until_true};

#[test]
fn demo_releases_to_three_servers_and_goes_on_serving() {
    let (demo, told) = Longshore::demo();
    let api = demo.api();
    let text = |key: &str| {
        told[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key}: {told}"))
    };
    assert!(
        !text("user").is_empty() && text("password").len() >= 10,
        "{told}"
    );

    let release = ended(&api, text("release_id"));
    assert_eq!(release["state"], "succeeded", "{release}");
    let project = api
        .get(&format!("projects/{}", text("project_id")))
        .expect(200);
    let sites = sites(&api, &project);
    assert_eq!(sites.len(), 3);
    for site in &sites {
        let files = std::fs::read_dir(site.join("current"))
            .expect("the released files")
            .count();
        assert!(files > 0, "{}", site.display());
        let target = std::fs::read_link(site.join("current")).unwrap();
        assert!(target.ends_with(text("release_id")), "{}", target.display());
    }

    let refs = api
        .get(&format!("projects/{}/refs", text("project_id")))
        .expect(200);
    assert!(refs["branches"].as_array().unwrap().len() > 1, "{refs}");
    assert!(!refs["tags"].as_array().unwrap().is_empty(), "{refs}");
    let branch = refs["branches"][0]["name"].as_str().unwrap();
    let commits = api
        .get(&format!(
            "projects/{}/commits?ref={branch}",
            text("project_id")
        ))
        .expect(200);
    assert!(commits.as_array().unwrap().len() >= 10, "{commits}");

    let again = json!({"project_id": text("project_id"), "commit": release["commit"]});
    let again = api.create("releases", &again);
    assert_eq!(ended(&api, &again)["state"], "succeeded");
    for site in &sites {
        assert!(
            std::fs::read_link(site.join("current"))
                .unwrap()
                .ends_with(&again)
        );
    }
}

#[test]
fn demo_servers_are_real_ones() {
    let (demo, _) = Longshore::demo();
    let servers = demo.api().get("servers").expect(200);
    let kinds: Vec<&str> = servers
        .as_array()
        .unwrap()
        .iter()
        .map(|server| server["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["ssh", "ssh", "ssh"],
        "there is an sshd on this machine"
    );
    // A newcomer tries files on them, too.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sent");
    let file = format!("servers/1/file?path={}", path.display());
    demo.api().put_bytes(&file, b"a file").expect(200);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "a file");
    assert_eq!(demo.api().get_bytes(&file), b"a file");
}

#[test]
fn demo_login_link_signs_in_once() {
    let (demo, told) = Longshore::demo();
    let url = told["url"].as_str().unwrap().trim_end_matches('/');
    let link = until("the login link", || {
        let log = demo.log();
        let mut links = log
            .split_whitespace()
            .filter(|word| word.starts_with(url) && word.len() > url.len() + 20);
        links.next_back().map(str::to_owned)
    });
    let first = ureq::get(&link)
        .config()
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .call()
        .unwrap();
    assert!(first.status().is_redirection(), "{}", first.status());
    assert!(first.headers().contains_key("set-cookie"));
    let second = ureq::get(&link)
        .config()
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .call()
        .unwrap();
    assert!(
        second
            .headers()
            .get("set-cookie")
            .is_none_or(|cookie| !cookie.to_str().unwrap().contains("login"))
    );
    assert!(!second.status().is_success() || second.headers().get("location").is_none());
}

#[test]
fn demo_chat_answers() {
    let (demo, _) = Longshore::demo();
    let (jason, tank) = (demo.wire("jason"), demo.wire("tank"));
    assert!(jason.open_home().text.contains("jason"));
    tank.open_home();
    tank.say("hi");
    assert_eq!(jason.course_poll(), json!({"status": true, "msg": "hi"}));
}

#[test]
fn demo_stops_on_sigterm_and_takes_its_servers_with_it() {
    let (demo, _) = Longshore::demo();
    let servers = demo.api().get("servers").expect(200);
    let ports: Vec<u16> = servers
        .as_array()
        .unwrap()
        .iter()
        .map(|server| u16::try_from(server["port"].as_u64().unwrap()).unwrap())
        .collect();
    drop(demo);
    for port in ports {
        until_true("the end of the demo's sshd", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
        });
    }
}

fn ended(api: &Api, id: &str) -> Value {
    until("the release's end", || {
        let release = api.get(&format!("releases/{id}")).expect(200);
        (release["state"] != "queued" && release["state"] != "running").then_some(release)
    })
}

/// The project's folder on each of its servers.
fn sites(api: &Api, project: &Value) -> Vec<PathBuf> {
    let path = project["path"].as_str().unwrap().trim_start_matches('/');
    let ids = project["server_ids"].as_array().unwrap().iter();
    ids.map(|id| {
        let server = api
            .get(&format!("servers/{}", id.as_str().unwrap()))
            .expect(200);
        PathBuf::from(server["root"].as_str().unwrap()).join(path)
    })
    .collect()
}
