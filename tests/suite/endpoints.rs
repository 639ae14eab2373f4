//! Every endpoint × method × identity: who gets in, and that nobody else learns or changes anything.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Api, Longshore, PASSWORD, Someone, until, until_true};

/// The least that an endpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Least {
    /// Anybody at all.
    Nobody,
    /// Any account.
    Viewer,
    Deployer,
    Admin,
}

use Least::{Admin, Deployer, Nobody, Viewer};

/// The endpoints and whom they let in, where chats are for members. A new route must enter this table.
pub const ENDPOINTS: &[(&str, &str, Least)] = &[
    ("GET", "/assets/{path:.*}", Nobody),
    ("GET", "/login", Nobody),
    ("POST", "/login", Nobody),
    ("GET", "/enter/{link}", Nobody),
    ("GET", "/setup/{link}", Nobody),
    ("POST", "/setup/{link}", Nobody),
    ("POST", "/preferences", Nobody),
    ("POST", "/language", Nobody),
    ("GET", "/home", Viewer),
    ("GET", "/metrics", Admin),
    ("GET", "/admin/push", Admin),
    ("GET", "/chat/{name}", Viewer),
    ("GET", "/vote", Viewer),
    ("POST", "/vote", Viewer),
    ("GET", "/vote/{name}", Viewer),
    ("POST", "/vote/{name}", Viewer),
    ("POST", "/vote/{name}/question", Viewer),
    ("POST", "/vote/{name}/close", Viewer),
    ("POST", "/vote/{name}/reopen", Viewer),
    ("GET", "/", Viewer),
    ("GET", "/releases", Viewer),
    ("POST", "/releases", Deployer),
    ("GET", "/releases/new", Deployer),
    ("GET", "/releases/{id}", Viewer),
    ("POST", "/releases/{id}/cancel", Deployer),
    ("POST", "/releases/{id}/rollback", Deployer),
    ("POST", "/releases/{id}/again", Deployer),
    ("GET", "/audit", Admin),
    ("GET", "/servers/known_hosts", Admin),
    ("POST", "/servers/known_hosts", Admin),
    ("GET", "/servers/{id}/work", Admin),
    ("POST", "/servers/{id}/work", Admin),
    ("GET", "/servers", Viewer),
    ("POST", "/servers", Admin),
    ("GET", "/servers/new", Admin),
    ("POST", "/servers/new", Admin),
    ("GET", "/servers/{id}", Admin),
    ("POST", "/servers/{id}", Admin),
    ("GET", "/servers/{id}/edit", Admin),
    ("POST", "/servers/{id}/edit", Admin),
    ("GET", "/servers/{id}/delete", Admin),
    ("POST", "/servers/{id}/delete", Admin),
    ("POST", "/servers/{id}/check", Admin),
    ("POST", "/servers/{id}/host_key", Admin),
    ("GET", "/projects", Viewer),
    ("POST", "/projects", Admin),
    ("GET", "/projects/new", Admin),
    ("POST", "/projects/new", Admin),
    ("GET", "/projects/{id}", Admin),
    ("POST", "/projects/{id}", Admin),
    ("GET", "/projects/{id}/edit", Admin),
    ("POST", "/projects/{id}/edit", Admin),
    ("GET", "/projects/{id}/delete", Admin),
    ("POST", "/projects/{id}/delete", Admin),
    ("POST", "/projects/{id}/check", Admin),
    ("POST", "/projects/{id}/host_key", Admin),
    ("GET", "/credentials", Viewer),
    ("POST", "/credentials", Admin),
    ("GET", "/credentials/new", Admin),
    ("POST", "/credentials/new", Admin),
    ("GET", "/credentials/{id}", Admin),
    ("POST", "/credentials/{id}", Admin),
    ("GET", "/credentials/{id}/edit", Admin),
    ("POST", "/credentials/{id}/edit", Admin),
    ("GET", "/credentials/{id}/delete", Admin),
    ("POST", "/credentials/{id}/delete", Admin),
    ("POST", "/api/v1/servers/{id}/exec", Admin),
    ("GET", "/api/v1/servers/{id}/file", Admin),
    ("PUT", "/api/v1/servers/{id}/file", Admin),
    ("GET", "/api/v1/servers/{id}/tree", Admin),
    ("PUT", "/api/v1/servers/{id}/tree", Admin),
    ("POST", "/api/v1/known_hosts", Admin),
    ("GET", "/api/v1/audit", Admin),
    ("GET", "/api/v1/servers", Viewer),
    ("POST", "/api/v1/servers", Admin),
    ("GET", "/api/v1/servers/{id}", Viewer),
    ("PUT", "/api/v1/servers/{id}", Admin),
    ("DELETE", "/api/v1/servers/{id}", Admin),
    ("POST", "/api/v1/servers/{id}/check", Admin),
    ("POST", "/api/v1/servers/{id}/host_key", Admin),
    ("GET", "/api/v1/projects", Viewer),
    ("POST", "/api/v1/projects", Admin),
    ("GET", "/api/v1/projects/{id}", Viewer),
    ("PUT", "/api/v1/projects/{id}", Admin),
    ("DELETE", "/api/v1/projects/{id}", Admin),
    ("GET", "/api/v1/projects/{id}/refs", Viewer),
    ("GET", "/api/v1/projects/{id}/commits", Viewer),
    ("POST", "/api/v1/projects/{id}/check", Admin),
    ("POST", "/api/v1/projects/{id}/host_key", Admin),
    ("GET", "/api/v1/credentials", Viewer),
    ("POST", "/api/v1/credentials", Admin),
    ("GET", "/api/v1/credentials/{id}", Viewer),
    ("PUT", "/api/v1/credentials/{id}", Admin),
    ("DELETE", "/api/v1/credentials/{id}", Admin),
    ("GET", "/api/v1/releases", Viewer),
    ("POST", "/api/v1/releases", Deployer),
    ("GET", "/api/v1/releases/{id}", Viewer),
    ("POST", "/api/v1/releases/{id}/cancel", Deployer),
    ("POST", "/api/v1/releases/{id}/rollback", Deployer),
    ("GET", "/api/v1/releases/{id}/tree", Viewer),
    ("GET", "/api/v1/push", Admin),
    ("GET", "/api/v1/releases/{id}/nodes/{key}/log", Viewer),
    ("GET", "/get_msg", Viewer),
    ("POST", "/send_msg", Viewer),
    ("GET", "/events", Viewer),
    ("GET", "/ws", Viewer),
    ("GET", "/chat", Viewer),
    // It ends the login that the others are asked by.
    ("POST", "/logout", Nobody),
];

/// The wire's own paths.
const WIRE: [&str; 5] = ["/get_msg", "/send_msg", "/events", "/ws", "/chat"];
/// In the names of everything that only accounts may learn of.
const MARK: &str = "zq7f-hidden";
/// No row has it.
const UNKNOWN: &str = "999999";

/// A platform that has one of each thing.
pub struct Stage {
    pub server: Longshore,
    pub api: Api,
    ids: [(&'static str, String); 4],
}

impl Stage {
    pub fn start() -> Self {
        let server = Longshore::settings()
            .set("chat", "members")
            .set("metrics_from", "192.0.2.0/24")
            .start();
        let api = server.api();
        let name = format!("one {MARK}");
        let machine = api.create(
            "servers",
            &json!({"hostname": name, "kind": "local", "root": "/nowhere"}),
        );
        let secret = json!({"name": name, "kind": "password", "secret": format!("secret {MARK}")});
        let credential = api.create("credentials", &secret);
        let project = api.create(
            "projects",
            &json!({
                "title": name, "repo": "git://127.0.0.1:9/none", "env": "test", "path": "/srv/app",
                "server_ids": [machine],
            }),
        );
        let order = json!({"project_id": project, "ref": format!("branch-{MARK}")});
        let release = api.create("releases", &order);
        until("the release's end", || {
            let release = api.get(&format!("releases/{release}")).expect(200);
            (release["state"] == "failed").then_some(())
        });
        Self {
            server,
            api,
            ids: [
                ("/servers/", machine),
                ("/credentials/", credential),
                ("/projects/", project),
                ("/releases/", release),
            ],
        }
    }

    /// `path` with what stands for its parts; `known`: of something that is there.
    pub fn fill(&self, path: &str, known: bool) -> String {
        let id = self.ids.iter().find(|(kind, _)| path.contains(kind));
        let id = id.filter(|_| known).map_or(UNKNOWN, |(_, id)| id);
        path.replace("{id}", id)
            .replace("{path:.*}", "longshore.css")
            .replace("{key}", "download")
            .replace("{name}", "lunch")
            .replace("{link}", "none")
    }

    /// Everything that a request could change.
    pub fn everything(&self) -> Vec<Value> {
        ["servers", "credentials", "projects", "releases", "audit"]
            .map(|list| self.api.get(list).expect(200))
            .into()
    }
}

/// Somebody who asks.
struct Identity {
    name: &'static str,
    rank: Least,
    headers: Vec<String>,
}

impl Identity {
    fn new(name: &'static str, rank: Least, headers: Vec<String>) -> Self {
        Self {
            name,
            rank,
            headers,
        }
    }
}

/// The cookie of a new login and the token of its forms.
pub fn log_in(server: &Longshore, name: &str) -> (String, String) {
    let form = format!("name={name}&password={}", PASSWORD.replace(' ', "+"));
    let request = format!(
        "POST /login HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        host = server.url.trim_start_matches("http://"),
        length = form.len(),
    );
    let (status, text) = ask(&server.url, "POST", request.as_bytes());
    assert_eq!(status, 303, "{text}");
    let (_, rest) = text.split_once("longshore_session=").unwrap();
    let cookie = format!("longshore_session={}", rest.split(';').next().unwrap());
    let shown = Someone::of(server).showing("Cookie", &cookie);
    (cookie, shown.form_token())
}

fn identities(stage: &Stage) -> Vec<Identity> {
    let server = &stage.server;
    let bearer = |token: &str| vec![format!("Authorization: Bearer {token}")];
    let cookie = |(cookie, token): (String, String)| {
        let cookie = format!("Cookie: {cookie}");
        let origin = format!("Origin: {}", server.url);
        vec![cookie, origin, format!("X-CSRF-Token: {token}")]
    };
    let mut all = vec![
        Identity::new("nobody", Nobody, vec![]),
        Identity::new("an unknown token", Nobody, bearer("x")),
        Identity::new(
            "an unknown login",
            Nobody,
            cookie(("longshore_session=x".into(), "x".into())),
        ),
    ];
    for (role, rank) in [("viewer", Viewer), ("deployer", Deployer), ("admin", Admin)] {
        let account = format!("the-{role}");
        let token = server.add_user(&account, role);
        let name = |kind: &'static str| match (role, kind) {
            ("viewer", "token") => "a viewer's token",
            ("viewer", _) => "a viewer's login",
            ("deployer", "token") => "a deployer's token",
            ("deployer", _) => "a deployer's login",
            (_, "token") => "an admin's token",
            _ => "an admin's login",
        };
        all.push(Identity::new(name("token"), rank, bearer(&token)));
        all.push(Identity::new(
            name("login"),
            rank,
            cookie(log_in(server, &account)),
        ));
    }
    let token = server.add_user("gone", "admin");
    let login = cookie(log_in(server, "gone"));
    server.command(&["user", "disable", "gone"], "");
    let disabled = Someone::bearing(server, &token);
    until_true("the loss is known", || {
        disabled.get("/api/v1/servers").status == 401
    });
    all.push(Identity::new(
        "a disabled account's token",
        Nobody,
        bearer(&token),
    ));
    all.push(Identity::new("a disabled account's login", Nobody, login));
    all
}

/// The answer's status and its text with its head; of an answer without a length the head alone.
pub fn ask(url: &str, method: &str, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.write_all(request).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        text.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    if method != "HEAD" {
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        text.push_str(&String::from_utf8_lossy(&body));
    }
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("{text:?}")), text)
}

/// A request that would read or change something, by its kind of path.
pub fn request(
    stage: &Stage,
    (method, path): (&str, &str),
    known: bool,
    headers: &[String],
) -> Vec<u8> {
    let filled = stage.fill(path, known);
    let query = match path {
        "/get_msg" => "?name=n&room=chat&after=now",
        "/events" | "/ws" => "?name=n&room=chat",
        "/home" => "?name=n",
        _ if path.ends_with("/file") || path.ends_with("/tree") => "?path=/nowhere/x",
        _ => "",
    };
    let changes = !matches!(method, "GET" | "HEAD");
    // Whoever is let in changes nothing that the others are asked about.
    let (kind, body) = match (changes, path.starts_with("/api/")) {
        (false, _) => ("text/plain", ""),
        (true, true) if known => (
            "application/json",
            r#"{"hostname":"changed","title":"changed","name":"changed"}"#,
        ),
        (true, true) => ("application/json", "{}"),
        (true, false) if known => (
            "application/x-www-form-urlencoded",
            "hostname=changed&title=changed&name=changed&content=changed",
        ),
        (true, false) => ("application/x-www-form-urlencoded", "x=y"),
    };
    let connection = match (method, path) {
        ("GET", "/ws" | "/chat") => {
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        }
        _ => "Connection: close",
    };
    let mut text = format!(
        "{method} {filled}{query} HTTP/1.1\r\nHost: {}\r\n{connection}\r\n",
        stage.server.url.trim_start_matches("http://")
    );
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if changes {
        text += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    }
    format!("{text}\r\n{body}").into_bytes()
}

#[test]
fn the_table_names_every_endpoint() {
    let mut registered: BTreeSet<(String, String)> = longshore::web::endpoints()
        .into_iter()
        .map(|endpoint| (endpoint.method.to_owned(), endpoint.path))
        .collect();
    for (method, path) in longshore::transport::ENDPOINTS {
        registered.insert((method.to_owned(), path.to_owned()));
    }
    let known = ENDPOINTS.iter();
    let known = known.map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(known.collect::<BTreeSet<_>>(), registered);
}

#[test]
fn every_endpoint_lets_in_whom_it_names_and_tells_the_others_nothing() {
    let stage = Stage::start();
    let identities = identities(&stage);
    let paths: Vec<&str> = {
        let mut seen = BTreeSet::new();
        let all = ENDPOINTS.iter().map(|(_, path, _)| *path);
        all.filter(|path| seen.insert(*path)).collect()
    };
    // Whoever may, leaves a line in the audit.
    let but_audit = || stage.everything()[..4].to_vec();
    let before = but_audit();
    let mut count = 0;
    for identity in &identities {
        for path in &paths {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"] {
                judge(&stage, identity, method, path);
                count += 1;
            }
        }
    }
    assert!(count >= 4284, "{count}");
    assert_eq!(but_audit(), before);
    assert!(
        !stage.server.log().contains(" ERROR "),
        "{}",
        stage.server.log()
    );
}

fn judge(stage: &Stage, identity: &Identity, method: &str, path: &str) {
    let asked = if method == "HEAD" { "GET" } else { method };
    let mut rows = ENDPOINTS.iter();
    let row = rows.find(|(method, known, _)| *method == asked && known == &path);
    let least = row.map(|(_, _, least)| *least);
    let admitted = least.is_some_and(|least| least <= identity.rank);
    let is_safe = matches!(method, "GET" | "HEAD");
    let request = request(
        stage,
        (method, path),
        is_safe || !admitted,
        &identity.headers,
    );
    let (status, text) = ask(&stage.server.url, method, &request);
    let told = format!("{} {method} {path}: {status}\n{text}", identity.name);
    let to_login = status == 303 && text.to_ascii_lowercase().contains("location: /login");
    match least {
        // Not every path that is read answers HEAD; the paths of the wire have rules of their own.
        Some(_) if method == "HEAD" && status == 405 => {}
        Some(_) if method == "HEAD" && WIRE.contains(&path) => assert!(status < 500, "{told}"),
        Some(_) if admitted => {
            let refused = status == 401 && path != "/login" || matches!(status, 403 | 405 | 500);
            assert!(!refused, "{told}");
        }
        Some(_) if identity.rank == Nobody => {
            assert!(status == 401 || (is_safe && to_login), "{told}");
        }
        Some(_) => assert_eq!(status, 403, "{told}"),
        None => assert!(matches!(status, 401 | 403 | 404 | 405), "{told}"),
    }
    if !admitted {
        assert!(!text.contains(MARK), "{told}");
    }
    // Only admitted identities learn that an object does not exist; others are refused alike.
    if is_safe && path.contains("{id}") && least.is_some() {
        let request = self::request(stage, (method, path), false, &identity.headers);
        let (unknown, text) = ask(&stage.server.url, method, &request);
        let expected = if admitted {
            vec![404, 405]
        } else {
            vec![status]
        };
        assert!(expected.contains(&unknown), "{unknown} {told}");
        assert!(!text.contains(MARK), "{told}");
    }
}
