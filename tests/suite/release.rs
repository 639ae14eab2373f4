//! A release over real sshds, as the API tells it.

use serde_json::json;

use crate::fixture::{Fleet, Gate};

#[test]
fn a_branch_comes_to_every_server() {
    let fleet = Fleet::of(3);
    let project = fleet.project(json!({"restart": "cat index.html"}));
    let id = fleet.succeed(&project, "main");
    for machine in &fleet.machines {
        assert_eq!(machine.shown().as_deref(), Some("two"));
        assert_eq!(machine.current().as_deref(), Some(id.as_str()));
    }
    let release = fleet.look(&id);
    assert_eq!(
        release["commit"].as_str().map(str::len),
        Some(40),
        "{release}"
    );
    for time in ["created_at", "started_at", "finished_at"] {
        assert!(
            release[time].as_str().is_some_and(|at| at.ends_with('Z')),
            "{time}: {release}"
        );
    }

    let tree = fleet.tree(&id);
    let mut seen = vec![None];
    for row in &tree {
        assert!(
            seen.contains(&row["parent"].as_str()),
            "parents come first: {row}"
        );
        seen.push(row["key"].as_str());
        assert_eq!(row["state"], "succeeded", "{row}");
        for key in ["text", "figure", "color", "link_color"] {
            assert!(
                row[key].as_str().is_some_and(|text| !text.is_empty()),
                "{key}: {row}"
            );
        }
        assert!(
            row["version"].is_number() && row["link_text"].is_string(),
            "{row}"
        );
    }
    assert_eq!(
        fleet.states(&id, "restart"),
        ["succeeded", "succeeded", "succeeded"]
    );
    let restarts = tree
        .iter()
        .filter_map(|row| row["key"].as_str())
        .filter(|key| key.starts_with("restart"));
    for key in restarts {
        assert!(fleet.node_log(&id, key).contains("two"), "{key}");
    }
}

#[test]
fn a_tag_a_branch_and_a_commit_can_be_released() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let shown = || fleet.machines[0].shown();
    fleet.succeed(&project, "v1");
    assert_eq!(shown().as_deref(), Some("one"));
    fleet.succeed(&project, "feature");
    assert_eq!(shown().as_deref(), Some("feature"));
    let commit = fleet.git.repository.commit("three", "Say three");
    fleet.git.repository.commit("four", "Say four");
    let release = fleet.api.create(
        "releases",
        &json!({"project_id": project, "commit": commit}),
    );
    let release = fleet.ended(&release);
    assert_eq!(
        (&release["state"], &release["commit"]),
        (&json!("succeeded"), &json!(commit)),
        "{release}"
    );
    assert_eq!(shown().as_deref(), Some("three"));
    let short = fleet.api.create(
        "releases",
        &json!({"project_id": project, "commit": &commit[..8]}),
    );
    assert_eq!(fleet.ended(&short)["commit"], json!(commit));
}

#[test]
fn refs_and_commits_are_the_repositorys() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let newest = fleet
        .git
        .repository
        .commit("three", "修复 «引号» \"quoted\"");
    let refs = fleet
        .api
        .get(&format!("projects/{project}/refs"))
        .expect(200);
    let names = |list: &str| -> Vec<String> {
        refs[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut branches = names("branches");
    branches.sort();
    assert_eq!(
        (branches, names("tags")),
        (vec!["feature".into(), "main".into()], vec!["v1".into()])
    );
    let commits = fleet
        .api
        .get(&format!("projects/{project}/commits?ref=main"))
        .expect(200);
    assert_eq!(commits.as_array().unwrap().len(), 3, "{commits}");
    assert_eq!(commits[0]["summary"], "修复 «引号» \"quoted\"");
    assert_eq!(commits[0]["author"], "Ann Author");
    assert!(newest.starts_with(commits[0]["commit"].as_str().unwrap()));
    let date = commits[0]["date"].as_str().unwrap();
    assert_eq!(
        (date.len(), &date[4..5], &date[10..11]),
        (16, "-", " "),
        "{date}"
    );
    assert_eq!(commits[2]["summary"], "第一次提交");
}

#[test]
fn a_second_release_is_refused_while_one_runs() {
    let fleet = Fleet::of(1);
    let gate = Gate::closed();
    let project = fleet.project(json!({"before_deploy": gate.command()}));
    let other = fleet.project(json!({"title": "other", "path": "/srv/other"}));
    let first = fleet.submit(&project, "main");
    gate.wait_until_reached();
    let refused = fleet
        .api
        .post("releases", &json!({"project_id": project, "ref": "v1"}))
        .expect(409);
    assert_eq!(refused["code"], "release_active", "{refused}");
    assert!(
        refused["message"].as_str().unwrap().contains(&first),
        "{refused}"
    );
    fleet.succeed(&other, "main");
    assert_eq!(fleet.look(&first)["state"], "running");
    gate.open();
    assert_eq!(fleet.ended(&first)["state"], "succeeded");
    fleet.succeed(&project, "v1");
    let releases = fleet.api.get("releases").expect(200);
    assert_eq!(
        releases.as_array().unwrap().len(),
        3,
        "the refused one was not saved: {releases}"
    );
}

#[test]
fn bad_input_names_its_field_and_saves_nothing() {
    let fleet = Fleet::of(1);
    let count = |path: &str| fleet.api.get(path).expect(200).as_array().unwrap().len();
    let known = fleet
        .api
        .get(&format!("servers/{}", fleet.machines[0].id))
        .expect(200);
    let server = |field: &str, value: serde_json::Value| {
        let mut server = json!({
            "hostname": "new", "host": "192.0.2.1", "port": 22, "user": "deploy", "kind": "ssh",
            "credential_id": known["credential_id"], "root": "/",
        });
        server[field] = value;
        ("servers", field.to_owned(), server)
    };
    let project = |field: &str, value: serde_json::Value| {
        let mut project = json!({
            "title": "new", "repo": "https://git.example.com/a.git", "env": "test", "path": "/srv/new",
            "server_ids": [fleet.machines[0].id], "keep": 3,
        });
        project[field] = value;
        ("projects", field.to_owned(), project)
    };
    let cases = [
        server("hostname", json!("")),
        server("hostname", json!("web-1")),
        server("host", json!("not a host")),
        server("port", json!(0)),
        server("port", json!(65536)),
        server("kind", json!("telnet")),
        server("root", json!("/srv/../etc")),
        server("credential_id", json!("4711")),
        project("title", json!("")),
        project("repo", json!("file:///etc")),
        project("repo", json!("--upload-pack=id")),
        project("env", json!("staging")),
        project("path", json!("relative")),
        project("path", json!("/srv/../../etc")),
        project("keep", json!(0)),
        project("server_ids", json!(["4711"])),
        (
            "credentials",
            "secret".into(),
            json!({"name": "k", "kind": "ssh_key", "secret": "no key"}),
        ),
        (
            "credentials",
            "kind".into(),
            json!({"name": "k", "kind": "nonsense", "secret": "x"}),
        ),
    ];
    for (path, field, body) in cases {
        let before = count(path);
        let answer = fleet.api.post(path, &body);
        assert!(
            (400..500).contains(&answer.status),
            "{path} {body}: {} {}",
            answer.status,
            answer.text
        );
        let answer = answer.json();
        assert_eq!(answer["field"], json!(field), "{path} {body}: {answer}");
        assert!(
            answer["code"].is_string() && answer["message"].is_string(),
            "{answer}"
        );
        assert_eq!(count(path), before, "{path} {body}");
    }
    assert_eq!(fleet.api.get("servers/4711").status, 404);
    assert_eq!(
        fleet
            .api
            .post("releases", &json!({"project_id": "4711", "ref": "main"}))
            .status
            / 100,
        4
    );
}

#[test]
fn an_account_is_needed() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({}));
    let nobody = crate::fixture::Api::new(&fleet.longshore.url, "no-such-token");
    let paths = [
        "servers",
        "projects",
        "releases",
        "credentials",
        &format!("projects/{project}/refs"),
    ];
    for path in paths {
        let refused = nobody.get(path).expect(401);
        assert_eq!(refused["code"], "unauthorized", "{path}");
    }
    assert_eq!(nobody.delete(&format!("projects/{project}")).status, 401);
    assert_eq!(fleet.api.get(&format!("projects/{project}")).status, 200);
}
