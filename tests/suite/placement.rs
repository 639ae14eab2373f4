//! Projects whose folders would be one or lie inside each other are refused where they are saved.

use serde_json::{Value, json};

use crate::fixture::{Answer, Api, Fleet, Longshore, Someone, Sshd, USER};

fn server(api: &Api, name: &str, fields: Value) -> String {
    let mut server = json!({"hostname": name, "host": "web.invalid", "user": "deploy"});
    let all = server.as_object_mut().unwrap();
    all.extend(fields.as_object().unwrap().clone());
    api.create("servers", &server)
}

fn project(path: &str, servers: &[&str]) -> Value {
    json!({
        "title": format!("at {path} on {}", servers.join(" ")), "repo": "https://git.example/app.git", "env": "test",
        "path": path, "server_ids": servers,
    })
}

#[track_caller]
fn refused(answer: Answer, field: &str) -> String {
    let refused = answer.expect(422);
    assert_eq!(refused["code"], "paths_overlap", "{refused}");
    assert_eq!(refused["field"], field, "{refused}");
    refused["message"].as_str().unwrap().to_owned()
}

#[test]
fn folders_inside_each_other_are_refused_either_way_round() {
    let longshore = Longshore::settings().start();
    let api = longshore.api();
    let web = server(&api, "web", json!({}));
    api.create("projects", &project("/a", &[&web]));
    for inner in ["/a/releases/1", "/a/current/sub", "/a/b/"] {
        let message = refused(api.post("projects", &project(inner, &[&web])), "path");
        assert!(
            message.contains("at /a on") && message.contains("web"),
            "{message}"
        );
    }
    api.create("projects", &project("/b/deep/er", &[&web]));
    for outer in ["/b", "/b/deep"] {
        refused(api.post("projects", &project(outer, &[&web])), "path");
    }
    let beside = api.create("projects", &project("/ab", &[&web]));
    let path = format!("projects/{beside}");
    refused(api.put(&path, &json!({"path": "/a/x"})), "path");
    let kept = api.get(&path).expect(200);
    assert_eq!(kept["path"], "/ab", "{kept}");
    api.put(&path, &json!({"path": "/ac", "keep": 2}))
        .expect(200);
    assert_eq!(api.get("projects").expect(200).as_array().unwrap().len(), 3);
}

#[test]
fn a_form_says_beside_its_field_in_the_readers_language_what_clashes() {
    let longshore = Longshore::settings().start();
    let api = longshore.api();
    let web = server(&api, "web", json!({}));
    api.create("projects", &project("/a", &[&web]));
    let admin = Someone::logged_in(&longshore, USER);
    let mut fields = vec![("title", "inner"), ("repo", "https://git.example/app.git")];
    fields.extend([("path", "/a/b"), ("server_ids", &web), ("env", "test")]);
    let page = admin.submit("/projects/new", &fields);
    assert_eq!(page.status, 422, "{}", page.text);
    assert!(
        page.text.contains("one lies inside the other"),
        "{}",
        page.text
    );
    let chinese = admin.showing("Accept-Language", "zh-CN");
    let page = chinese.submit("/projects/new", &fields);
    assert_eq!(page.status, 422, "{}", page.text);
    assert!(page.text.contains("或一个位于另一个之内"), "{}", page.text);
}

#[test]
fn a_server_is_not_moved_so_that_its_projects_clash() {
    let longshore = Longshore::settings().start();
    let api = longshore.api();
    let one = server(&api, "one", json!({"host": "192.0.2.1", "root": "/data"}));
    let two = server(&api, "two", json!({"host": "192.0.2.2", "root": "/data"}));
    let outer = api.create("projects", &project("/a", &[&one]));
    let inner = api.create("projects", &project("/a/b", &[&two]));
    let path = format!("servers/{two}");
    refused(api.put(&path, &json!({"host": "192.0.2.1"})), "host");
    assert_eq!(api.get(&path).expect(200)["host"], "192.0.2.2");
    api.put(&path, &json!({"root": "/other", "host": "192.0.2.1"}))
        .expect(200);
    refused(api.put(&path, &json!({"root": "/data"})), "root");
    // Nor is a project given a server where it clashes.
    let both = json!({"server_ids": [one, two]});
    for id in [&inner, &outer] {
        refused(api.put(&format!("projects/{id}"), &both), "path");
    }
    let form = [("host", "192.0.2.1"), ("root", "/data"), ("kind", "ssh")];
    let page = Someone::logged_in(&longshore, USER).submit(&format!("/{path}/edit"), &form);
    assert_eq!(page.status, 422, "{}", page.text);
}

#[test]
fn one_machine_is_known_by_all_its_names() {
    let longshore = Longshore::settings().start();
    let api = longshore.api();
    for (index, (one, other)) in [
        (
            json!({"host": "web.invalid"}),
            json!({"host": "WEB.invalid."}),
        ),
        (json!({"host": "::1"}), json!({"host": "[::1]"})),
        (json!({"host": "localhost"}), json!({"host": "127.0.0.1"})),
        (json!({"kind": "local"}), json!({"host": "127.0.0.1"})),
        (
            json!({"kind": "local"}),
            json!({"host": "localhost", "port": 2222}),
        ),
        (
            json!({"host": "web.invalid", "proxy": "http://gate"}),
            json!({"host": "Web.invalid", "proxy": "http://gate"}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let one = server(&api, &format!("one {index}"), one);
        let other = server(&api, &format!("other {index}"), other);
        let outer = api.create("projects", &project(&format!("/a{index}"), &[&one]));
        let inner = project(&format!("/a{index}/b"), &[&other]);
        refused(api.post("projects", &inner), "path");
        api.delete(&format!("projects/{outer}")).expect(204);
        api.create("projects", &inner);
    }
    // Behind a way of its own the same name is another machine.
    let direct = server(&api, "direct", json!({"host": "localhost", "port": 22}));
    let jump = server(&api, "jump", json!({}));
    api.create("projects", &project("/c", &[&direct]));
    for (name, way) in [
        (
            "proxied",
            json!({"host": "localhost", "proxy": "http://gate"}),
        ),
        (
            "commanded",
            json!({"host": "localhost", "proxy_command": ["nc", "%h", "%p"]}),
        ),
        ("jumped", json!({"host": "localhost", "jump_id": jump})),
    ] {
        let behind = server(&api, name, way);
        api.create("projects", &project("/c/d", &[&behind]));
        refused(
            api.put(
                &format!("servers/{behind}"),
                &json!({"jump_id": null, "proxy": null, "proxy_command": null}),
            ),
            if name == "jumped" {
                "jump_id"
            } else if name == "proxied" {
                "proxy"
            } else {
                "proxy_command"
            },
        );
    }
}

#[test]
fn the_platforms_own_data_is_no_projects() {
    let longshore = Longshore::settings().start();
    let api = longshore.api();
    let data = longshore.data().canonicalize().unwrap();
    let here = server(&api, "here", json!({"kind": "local"}));
    let link = tempfile::tempdir().unwrap();
    let link = link.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let inside = data.join("work/app");
    for path in [data.as_path(), &inside, &link, &link.join("x")] {
        let project = project(path.to_str().unwrap(), &[&here]);
        let message = refused(api.post("projects", &project), "path");
        assert!(message.contains(data.to_str().unwrap()), "{message}");
    }
    // Above it, by way of the server's root.
    let name = data.file_name().unwrap().to_str().unwrap();
    let parent = data.parent().unwrap();
    let rooted = server(&api, "rooted", json!({"kind": "local", "root": parent}));
    refused(
        api.post("projects", &project(&format!("/{name}"), &[&rooted])),
        "path",
    );
    let beside = format!("/{name}-beside");
    let beside = api.create("projects", &project(&beside, &[&rooted]));
    api.delete(&format!("projects/{beside}")).expect(204);
    let far = server(&api, "far", json!({}));
    api.create("projects", &project(inside.to_str().unwrap(), &[&far]));
}

#[test]
fn links_are_followed_by_the_connection_test() {
    let fleet = Fleet::of(1);
    let (api, machine) = (&fleet.api, &fleet.machines[0]);
    let app = fleet.project(json!({}));
    fleet.succeed(&app, "v1");
    std::os::unix::fs::symlink("app/current", machine.root.path().join("srv/link")).unwrap();
    let linked = fleet.project(json!({"title": "linked", "path": "/srv/link/inner"}));
    let checked = api
        .post(&format!("servers/{}/check", machine.id), &json!({}))
        .expect(200);
    let real = machine.path().canonicalize().unwrap();
    let inner = real
        .join("releases")
        .join(machine.current().unwrap())
        .join("inner");
    let folders = checked["found"]["folders"].as_array().unwrap();
    let seen = folders.iter().any(|it| it["real_path"] == json!(inner));
    assert!(seen, "{checked}");
    assert_eq!(checked["ok"], false, "{checked}");
    let message = checked["message"].as_str().unwrap();
    assert!(message.contains("one lies inside the other"), "{message}");
    let path = format!("projects/{linked}");
    refused(api.put(&path, &json!({"keep": 4})), "path");
    refused(
        api.put(&format!("projects/{app}"), &json!({"keep": 4})),
        "path",
    );
    let order = json!({"project_id": linked, "ref": "v1"});
    let stopped = api.post("releases", &order).expect(409);
    assert_eq!(stopped["code"], "paths_overlap", "{stopped}");
    assert!(machine.shown().is_some());
    api.put(&path, &json!({"path": "/srv/beside"})).expect(200);
    let checked = api
        .post(&format!("servers/{}/check", machine.id), &json!({}))
        .expect(200);
    assert_eq!(checked["ok"], true, "{checked}");
    fleet.succeed(&linked, "v1");
}

#[test]
fn links_are_followed_on_a_server_of_files_alone() {
    let longshore = Longshore::settings().start();
    let api = longshore.api();
    let sshd = Sshd::with("files", "ForceCommand internal-sftp");
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("data/app")).unwrap();
    std::os::unix::fs::symlink("data", root.path().join("srv")).unwrap();
    let key = json!({"name": "key", "kind": "ssh_key", "secret": sshd.private_key()});
    let key = api.create("credentials", &key);
    let files = server(
        &api,
        "files",
        json!({"host": "127.0.0.1", "port": sshd.port, "user": sshd.user, "credential_id": key, "root": root.path()}),
    );
    let accepted = json!({"fingerprint": sshd.fingerprint()});
    api.post(&format!("servers/{files}/host_key"), &accepted)
        .expect(200);
    api.create("projects", &project("/srv/app", &[&files]));
    let checked = api
        .post(&format!("servers/{files}/check"), &json!({}))
        .expect(200);
    assert_eq!(checked["ok"], true, "{checked}");
    refused(
        api.post("projects", &project("/data/app/x", &[&files])),
        "path",
    );
    api.create("projects", &project("/data/other", &[&files]));
}
