//! Repository addresses and revisions that are refused: 422, the field named, before anything is
//! opened.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::fixture::{Answer, Fleet, Longshore};

fn is_refused(answer: &Answer, field: &str, what: &str) {
    let body = answer.json();
    assert_eq!(answer.status, 422, "{what:.60}: {}", answer.text);
    assert_eq!(body["field"], field, "{what:.60}: {}", answer.text);
    let message = body["message"].as_str().unwrap();
    assert!(
        !message.is_empty() && !message.contains("error."),
        "{message}"
    );
}

fn project(fleet: &Fleet, repo: &str) -> Value {
    json!({
        "title": "app", "repo": repo, "env": "test", "path": "/srv/app",
        "server_ids": [fleet.machines[0].id],
    })
}

#[test]
fn addresses_are_refused_and_nothing_is_opened() {
    let fleet = Fleet::with(1, Longshore::settings().set("git_allow_loopback", "false"));
    // A host that would notice.
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let port = host.local_addr().unwrap().port();
    let long = format!("https://h.example/{}", "a".repeat(10_000));
    let loopback = [
        format!("http://127.0.0.1:{port}/x"),
        format!("https://127.0.0.1:{port}/x"),
        format!("git://127.0.0.1:{port}/x"),
        format!("ssh://git@127.0.0.1:{port}/x"),
        format!("git://localhost:{port}/x"),
        format!("https://[::ffff:127.0.0.1]:{port}/x"),
    ];
    let plain = [
        "",
        "ext::sh -c id",
        "ext::id",
        "fd::17",
        "--upload-pack=id",
        "-oProxyCommand=id",
        "-u@h:x",
        "ssh://-oProxyCommand=id/x",
        "ssh://-oProxyCommand=id@h/x",
        "git@-oProxyCommand=id:x",
        "git@h:-x",
        "file:///etc",
        "/etc",
        "../x",
        "./x",
        "javascript:1",
        "http://169.254.169.254/",
        "https://169.254.169.254/x",
        "https://[::ffff:169.254.169.254]/x",
        "https://[64:ff9b::a9fe:a9fe]/x",
        "https://2852039166/x",
        "https://0xa9fea9fe/x",
        "https://0251.0376.0251.0376/x",
        "https://[fd00:ec2::254]/x",
        "https://100.100.100.200/x",
        "https://0.0.0.0/x",
        "http://[::1]/",
        "http://0x7f.1/",
        "https://127.1/x",
        "https://2130706433/x",
        "http://h/%0d%0aX",
        "https://h.example/a\nb",
        "https://h.example/%2e%2e/x",
        "https://user:password@h.example/x",
        "https://h.example:0/x",
        "https://h.example:65536/x",
        "https://h.example:22;id/x",
        "https://h.example/$(id)",
        "https://h.example/\u{202e}x",
        long.as_str(),
    ];
    let all = plain.into_iter().chain(loopback.iter().map(String::as_str));
    for repo in all {
        let answer = fleet.api.post("projects", &project(&fleet, repo));
        is_refused(&answer, "repo", repo);
    }
    assert!(host.accept().is_err(), "somebody connected");
    assert_eq!(fleet.api.get("projects").expect(200), json!([]));
}

#[test]
fn revisions_are_refused_before_the_host_is_asked() {
    let mut fleet = Fleet::of(1);
    let id = fleet.project(json!({}));
    // From here on whoever asks the git host gets an error of it, not a 422.
    fleet.git.stop();
    let long = "a".repeat(300);
    for revision in [
        "--help",
        "-b",
        "-h",
        "--config=alias.x=!id",
        "--split-string",
        "a..b",
        "@{-1}",
        "HEAD:x",
        "HEAD^",
        "a\nb",
        "a\0b",
        "a b",
        "a//b",
        "a.lock",
        long.as_str(),
    ] {
        let wanted = json!({"project_id": id, "ref": revision});
        is_refused(&fleet.api.post("releases", &wanted), "ref", revision);
        let query: String = url::form_urlencoded::byte_serialize(revision.as_bytes()).collect();
        let listed = fleet.api.get(&format!("projects/{id}/commits?ref={query}"));
        is_refused(&listed, "ref", revision);
    }
    for commit in ["--help", "main", "abc", "12g4", "$(id)"] {
        let wanted = json!({"project_id": id, "commit": commit});
        is_refused(&fleet.api.post("releases", &wanted), "commit", commit);
    }
    assert_eq!(fleet.api.get("releases").expect(200), json!([]));
}
