//! A git host or a server that says nothing costs those who wait for it, and nobody else.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{
    Api, Browser, Events, Fleet, GitDaemon, Longshore, Silent, free_port, until, until_true,
};

/// The longest time that a page may take while others wait for a silent host, also on a slow machine.
/// Before each kind of waiting had threads of its own, a page took ten seconds or was refused.
const AT_ONCE: Duration = Duration::from_secs(4);
/// The bound on the server's threads: those for pages, and those for fetches with their relays and for
/// checks.
const THREADS: usize = 250;

/// Requests that nobody reads the answers of.
struct Crowd(Vec<TcpStream>);

impl Crowd {
    fn asks(server: &Longshore, count: usize, method: &str, path: &str) -> Self {
        let address = server.url.trim_start_matches("http://").to_owned();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 0\r\n\r\n",
            server.token
        );
        let ask = |_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        };
        Self((0..count).map(ask).collect())
    }

    fn goes(self) {
        for stream in self.0 {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn threads(server: &Longshore) -> usize {
    let folder = format!("/proc/{}/task", server.pid());
    std::fs::read_dir(folder).unwrap().count()
}

/// Asserts that everybody else is served at once and the server's threads stay bounded.
#[track_caller]
fn others_are_served(server: &Longshore) {
    let page = |path: &str| {
        let begun = Instant::now();
        let answer = ureq::get(format!("{}{path}", server.url))
            .header("Authorization", format!("Bearer {}", server.token))
            .call();
        assert_eq!(answer.unwrap().status(), 200, "{path}");
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "{path} took {took:?}");
        took
    };
    let paths = ["/login", "/metrics", "/api/v1/projects", "/servers"];
    let took: Vec<Duration> = paths.iter().map(|path| page(path)).collect();
    let threads = threads(server);
    eprintln!("{took:?}, {threads} threads");
    assert!(threads < THREADS, "{threads} threads");
}

fn server(stall: &str) -> Longshore {
    Longshore::settings()
        .set("git_stall_seconds", stall)
        .set("ssh_connect_seconds", "30")
        .start()
}

fn project(api: &Api, repo: &str) -> String {
    let title = repo.rsplit(':').next().unwrap();
    let server = json!({"hostname": title, "kind": "local", "root": "/nowhere"});
    let server = api.create("servers", &server);
    let project = json!({"title": title, "repo": repo, "env": "test", "path": "/srv/app", "server_ids": [server]});
    api.create("projects", &project)
}

#[test]
fn a_silent_git_host_costs_one_fetch_however_many_wait_for_it() {
    let (silent, server) = (Silent::start(), server("60"));
    let api = server.api();
    let id = project(&api, &format!("git://127.0.0.1:{}/app", silent.port));
    let crowd = Crowd::asks(&server, 80, "GET", &format!("/api/v1/projects/{id}/refs"));
    until_true("the fetch", || silent.held() > 0);
    others_are_served(&server);
    let checks = Crowd::asks(&server, 80, "POST", &format!("/api/v1/projects/{id}/check"));
    others_are_served(&server);
    // A newcomer is told after a moment that it is still being fetched.
    let answer = api.get(&format!("projects/{id}/refs?wait=1")).expect(202);
    assert_eq!(answer["fetched_at"], Value::Null, "{answer}");
    assert_eq!(answer["fetching"], true, "{answer}");
    assert_eq!(answer["branches"], json!([]), "{answer}");
    assert_eq!(silent.held(), 1, "one fetch for all of them");
    crowd.goes();
    checks.goes();
    others_are_served(&server);
}

#[test]
fn a_fetch_ends_with_the_last_who_wants_it() {
    let (silent, server) = (Silent::start(), server("3600"));
    let api = server.api();
    let id = project(&api, &format!("git://127.0.0.1:{}/app", silent.port));
    let path = format!("/api/v1/projects/{id}/check");
    let (one, other) = (
        Crowd::asks(&server, 1, "POST", &path),
        Crowd::asks(&server, 2, "POST", &path),
    );
    until_true("the fetch", || silent.held() == 1);
    one.goes();
    others_are_served(&server);
    assert_eq!(silent.gone(), 0, "somebody wants it still");
    other.goes();
    until_true("its end", || silent.gone() == 1);
    // Nobody who comes now is given what was cancelled.
    let again = Crowd::asks(&server, 1, "POST", &path);
    until_true("another fetch", || silent.held() == 2);
    drop(again);
}

#[test]
fn hundreds_who_ask_and_go_leave_nothing_behind() {
    let (silent, server) = (Silent::start(), server("60"));
    let api = server.api();
    let id = project(&api, &format!("git://127.0.0.1:{}/app", silent.port));
    let git = GitDaemon::start();
    let sound = project(&api, &git.url());
    for _ in 0..7 {
        let paths = ["refs", "commits?ref=main"];
        for path in paths {
            let path = format!("/api/v1/projects/{id}/{path}");
            Crowd::asks(&server, 40, "GET", &path).goes();
        }
        others_are_served(&server);
    }
    let refs = api.get(&format!("projects/{sound}/refs")).expect(200);
    assert_eq!(refs["branches"][0]["name"], "feature", "{refs}");
    until_true("few threads", || threads(&server) < 60);
}

#[test]
fn a_silent_server_is_tried_apart_from_everything_else() {
    let (silent, server) = (Silent::start(), server("60"));
    let api = server.api();
    let id = api.create(
        "servers",
        &json!({"hostname": "mute", "host": "127.0.0.1", "port": silent.port, "user": "deploy", "root": "/srv"}),
    );
    let path = format!("/api/v1/servers/{id}/check");
    let crowd = Crowd::asks(&server, 200, "POST", &path);
    until_true("a check", || silent.held() > 0);
    others_are_served(&server);
    // Another server has threads left.
    let (dead, port) = ("127.0.0.1", free_port());
    let other =
        json!({"hostname": "dead", "host": dead, "port": port, "user": "deploy", "root": "/srv"});
    let other = api.create("servers", &other);
    let begun = Instant::now();
    let checked = api.post(&format!("servers/{other}/check"), &json!({}));
    assert_eq!(checked.expect(200)["ok"], false);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(silent.held() <= 4, "{} at once", silent.held());
    crowd.goes();
    until_true("the end of what nobody waits for", || {
        silent.gone() == silent.held()
    });
    others_are_served(&server);
}

#[test]
fn what_is_known_is_answered_at_once_and_the_room_tells_of_the_fetch() {
    let mut fleet = Fleet::with(1, Longshore::settings().set("git_stall_seconds", "3"));
    let project = fleet.project(json!({}));
    let refs = format!("projects/{project}/refs");
    let first = fleet.api.get(&refs).expect(200);
    let fetched_at = first["fetched_at"].as_str().unwrap().to_owned();
    assert!(
        fetched_at.ends_with('Z') && fetched_at.len() >= 20,
        "{first}"
    );
    assert_eq!(first["fetching"], false, "{first}");
    let room = format!("project/{project}");
    let login = format!("Authorization: Bearer {}\n", fleet.longshore.token);
    let mut watcher = Events::open(
        &fleet.longshore.url,
        &format!("/events?name=watcher&room={room}"),
        &login,
    );
    watcher.expect("cursor");

    fleet.git.stop();
    let silent = Silent::at(fleet.git.port);
    let begun = Instant::now();
    let known = fleet.api.get(&refs).expect(200);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(known["branches"], first["branches"], "{known}");
    assert_eq!(known["fetched_at"], fetched_at.as_str(), "{known}");
    assert_eq!(known["fetching"], true, "{known}");
    let told = watcher.expect("project").json();
    assert_eq!(told["kind"], "project", "{told}");
    assert_eq!(told["room"], room.as_str(), "{told}");
    assert_eq!(told["data"]["id"], project.as_str(), "{told}");
    assert_eq!(told["data"]["what"], "refs", "{told}");
    assert_eq!(told["data"]["ok"], false, "{told}");
    assert_eq!(told["data"]["fetched_at"], fetched_at.as_str(), "{told}");
    let version = told["data"]["version"].as_i64().unwrap();
    // The names stay, and why they are old is said.
    let known = fleet.api.get(&format!("{refs}?fetch=false")).expect(200);
    assert_eq!(known["branches"], first["branches"], "{known}");
    assert!(known["error"]["message"].is_string(), "{known}");

    drop(silent);
    fleet.git.start_again();
    fleet.git.repository.commit("three", "Say three");
    let new = until("the new commit", || {
        let new = fleet.api.get(&refs).expect(200);
        (new["branches"] != first["branches"]).then_some(new)
    });
    assert_eq!(new["error"], Value::Null, "{new}");
    assert!(new["fetched_at"].as_str().unwrap() > fetched_at.as_str());
    let told = watcher.expect("project").json();
    assert_eq!(told["data"]["ok"], true, "{told}");
    assert!(
        told["data"]["version"].as_i64().unwrap() > version,
        "{told}"
    );
}

#[test]
fn a_projects_room_is_for_those_who_may_see_it() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let wire = fleet.longshore.wire("ann");
    let poll = |room: &str| wire.get_msg(&[("room", room), ("after", "now")]);
    assert_eq!(poll(&format!("project/{project}")).status, 401);
    assert_eq!(poll(&format!("presence/project/{project}")).status, 401);
    let known = |room: &str| {
        let url = format!(
            "{}/get_msg?name=a&after=now&room={room}",
            fleet.longshore.url
        );
        ureq::get(url)
            .header("Authorization", format!("Bearer {}", fleet.longshore.token))
            .config()
            .http_status_as_error(false)
            .build()
            .call()
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(known(&format!("project/{project}")), 200);
    assert_eq!(known("project/999"), 403);
    assert_eq!(known("project/x"), 403);
    let sent = wire.send(&[("room", &format!("project/{project}")), ("content", "hi")]);
    assert_eq!(sent.status, 403);
}

#[test]
fn the_form_of_a_new_release_shows_the_age_and_refreshes_itself() {
    let mut fleet = Fleet::with(1, Longshore::settings().set("git_stall_seconds", "3600"));
    let project = fleet.project(json!({}));
    let refs = format!("projects/{project}/refs");
    fleet.api.get(&refs).expect(200);
    fleet.git.stop();
    let silent = Silent::at(fleet.git.port);
    let browser = Browser::start();
    browser.log_in(&fleet.longshore.url);
    browser.go(&format!(
        "{}/releases/new?project={project}",
        fleet.longshore.url
    ));
    // A known branch can be chosen while the host says nothing.
    browser.click("#ref-picker [data-value='feature']");
    browser.wait_for("document.querySelector('#ref-age time[datetime]')");
    let is_fetching =
        "document.getElementById('ref-age').textContent.indexOf('refreshes itself') >= 0";
    browser.wait_for(is_fetching);
    browser.mark();
    drop(silent);
    fleet.git.repository.branch("hotfix");
    fleet.git.start_again();
    browser.wait_for(&format!("!({is_fetching})"));
    // Somebody else's fetch is told to this page too.
    fleet.api.get(&format!("{refs}?wait=60")).expect(200);
    browser.wait_for("document.querySelector(\"#ref-picker [data-value='hotfix']\")");
    browser.wait_for("document.getElementById('ref').value === 'feature'");
    assert!(browser.is_marked(), "there was no reload");
}
