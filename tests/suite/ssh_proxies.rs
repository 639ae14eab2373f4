//! Servers behind proxies: what is entered, kept and shown, and releases that go that way.

use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::{Api, Fleet, Longshore, Process, free_port, until_true};

const PASSWORD: &str = "sesame%40seeds";

/// A SOCKS server that asks for a login.
fn socks(folder: &std::path::Path) -> (Process, u16) {
    let port = free_port();
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    command.args(["-u", "ann", "-P", "sesame@seeds"]);
    let process = Process::start("microsocks", &mut command, &folder.join("socks.log"));
    until_true("the proxy", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (process, port)
}

#[track_caller]
fn check(api: &Api, id: &str) -> Value {
    api.post(&format!("servers/{id}/check"), &json!({}))
        .expect(200)
}

#[test]
fn a_release_goes_through_a_proxy_whose_password_nobody_sees() {
    let fleet = Fleet::of(1);
    let folder = tempfile::tempdir().unwrap();
    let (proxy, port) = socks(folder.path());
    let (id, api) = (&fleet.machines[0].id, &fleet.api);
    let path = format!("servers/{id}");
    let address = format!("socks5h://ann@127.0.0.1:{port}");
    let secret = format!("socks5h://ann:{PASSWORD}@127.0.0.1:{port}");
    let shown = api.put(&path, &json!({"proxy": secret})).expect(200);
    assert_eq!(shown["proxy"], address.as_str(), "{shown}");
    assert!(!shown.to_string().contains("sesame"), "{shown}");
    let checked = check(api, id);
    assert_eq!(checked["ok"], true, "{checked}");
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "main");

    // It stays with its address, whatever else is changed.
    let again = json!({"proxy": address, "idle_seconds": 40});
    api.put(&path, &again).expect(200);
    assert_eq!(check(api, id)["ok"], true);
    // Empty, it goes.
    let without = format!("socks5h://ann:@127.0.0.1:{port}");
    api.put(&path, &json!({"proxy": without})).expect(200);
    let refused = check(api, id);
    assert_eq!(refused["ok"], false, "{refused}");
    let said = refused["message"].as_str().unwrap();
    assert!(said.contains("user or the password"), "{said}");
    // The password is in no file of the platform and not in its log.
    api.put(&path, &json!({"proxy": secret})).expect(200);
    for file in fleet.longshore.files() {
        let content = std::fs::read(&file).unwrap_or_default();
        let holds = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
        assert!(!holds(b"sesame"), "{}", file.display());
    }
    assert!(!fleet.longshore.log().contains("sesame"));

    drop(proxy);
    let gone = check(api, id);
    let said = gone["message"].as_str().unwrap();
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    api.put(&path, &json!({"proxy": null})).expect(200);
    fleet.succeed(&project, "main");
}

#[test]
fn a_command_reaches_a_server_without_a_shell_or_our_variables() {
    let fleet = Fleet::with(
        1,
        Longshore::settings().variable("PLATFORM_SECRET", "barley"),
    );
    let (id, api) = (&fleet.machines[0].id, &fleet.api);
    let path = format!("servers/{id}");
    let told = tempfile::tempdir().unwrap();
    let place = told.path().join("env");
    let text = format!("env > {}; exec socat - TCP:$1:$2", place.display());
    let words = json!(["sh", "-c", text, "it's $HOME;", "%h", "%p"]);
    let shown = api.put(&path, &json!({"proxy_command": words})).expect(200);
    assert_eq!(shown["proxy_command"], words, "{shown}");
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "main");
    let variables = std::fs::read_to_string(&place).unwrap();
    assert!(
        variables.contains("PATH=") && !variables.contains("barley"),
        "{variables}"
    );
    assert!(!variables.contains("LONGSHORE"), "{variables}");

    // Only admins see or change it.
    let viewer = Api::new(
        &fleet.longshore.url,
        &fleet.longshore.add_user("vic", "viewer"),
    );
    let seen = viewer.get(&path).expect(200);
    assert_eq!(seen["proxy_command"], Value::Null, "{seen}");
    let listed = viewer.get("servers").expect(200);
    assert_eq!(listed[0]["proxy_command"], Value::Null, "{listed}");
    viewer
        .put(&path, &json!({"proxy_command": ["id"]}))
        .expect(403);

    // The reason given is the standard error of the command and its exit code.
    let fails = json!({"proxy_command": ["sh", "-c", "echo the tunnel is shut >&2; exit 4"]});
    api.put(&path, &fails).expect(200);
    let said = check(api, id)["message"].as_str().unwrap().to_owned();
    assert!(
        said.contains("the tunnel is shut") && said.contains('4'),
        "{said}"
    );
}

#[test]
fn what_leads_nowhere_names_its_field() {
    let fleet = Fleet::of(2);
    let (api, id) = (&fleet.api, &fleet.machines[0].id);
    let path = format!("servers/{id}");
    let jump = &fleet.machines[1].id;
    for (fields, field, code) in [
        (json!({"proxy": "ftp://gate"}), "proxy", "invalid_proxy"),
        (json!({"proxy": "http://gate/x"}), "proxy", "invalid_proxy"),
        (
            json!({"proxy": "http://gate", "jump_id": jump}),
            "proxy",
            "proxy_behind_jump",
        ),
        (
            json!({"proxy": "http://gate", "proxy_command": ["nc"]}),
            "proxy_command",
            "proxy_twice",
        ),
        (
            json!({"proxy_command": ["nc", "%x"]}),
            "proxy_command",
            "invalid_proxy_command",
        ),
    ] {
        let refused = api.put(&path, &fields).expect(422);
        assert_eq!(refused["field"], field, "{fields}: {refused}");
        assert_eq!(refused["code"], code, "{fields}: {refused}");
    }
    let kept = api.get(&path).expect(200);
    assert_eq!(kept["proxy"], Value::Null, "{kept}");
}
