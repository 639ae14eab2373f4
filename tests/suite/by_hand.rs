//! Work on servers by hand: commands, files and host keys, by the command line, the API and for
//! admins alone; what was done can be read afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Api, Fleet, Longshore, until_true};

fn audit(fleet: &Fleet) -> Vec<Value> {
    let entries = fleet.api.get("audit").expect(200);
    entries.as_array().expect("a list").clone()
}

#[test]
fn the_command_line_passes_output_and_exit_code_on() {
    let fleet = Fleet::of(1);
    let run = |arguments: &[&str], input: &str| fleet.longshore.try_command(arguments, input);
    let (code, out, errors) = run(
        &["ssh", "exec", "web-1", "echo out; echo err >&2; exit 7"],
        "",
    );
    assert_eq!((code, out.as_str()), (7, "out\n"), "{errors}");
    assert_eq!(errors, "err\n");
    let (code, out, _) = run(&["ssh", "exec", "1", "--", "echo", "-n", "$MACHINE"], "");
    assert_eq!((code, out.as_str()), (0, "web-1\n"));
    let (code, out, _) = run(&["ssh", "exec", "--stdin", "web-1", "cat"], "fed\n");
    assert_eq!((code, out.as_str()), (0, "fed\n"));
    let (code, _, _) = run(&["ssh", "exec", "web-1", "kill -TERM $$"], "");
    assert_eq!(code, 143);
    let (code, _, errors) = run(&["ssh", "exec", "--limit", "1", "web-1", "sleep 60"], "");
    assert_eq!(code, 255);
    assert!(errors.contains("did not end within 1 s"), "{errors}");
    let (code, _, errors) = run(&["ssh", "exec", "nobody", "true"], "");
    assert!(code != 0 && errors.contains("nobody"), "{errors}");
    let entries = audit(&fleet);
    let first = &entries[entries.len() - 2];
    assert_eq!(first["action"], "exec");
    assert_eq!(
        (&first["way"], &first["server"]),
        (&json!("cli"), &json!("web-1"))
    );
    assert_eq!(first["outcome"], "failed");
    assert_eq!(first["message"], "exit code 7");
    // No entry holds the input or the output of a command.
    let text = serde_json::to_string(&entries).expect("JSON");
    assert!(!text.contains("fed"), "{text}");
}

#[test]
fn files_and_trees_keep_modes_and_times() {
    let fleet = Fleet::of(1);
    let here = tempfile::tempdir().expect("a folder");
    let there = fleet.machines[0].root.path();
    let local = here.path().join("tree");
    fs::create_dir_all(local.join("sub")).expect("a folder");
    fs::write(local.join("sub/run"), "#!/bin/sh\n").expect("a file");
    fs::set_permissions(local.join("sub/run"), fs::Permissions::from_mode(0o750)).expect("a mode");
    let changed = fs::metadata(local.join("sub/run")).expect("a file").mtime();
    let at = |name: &str| there.join(name).display().to_string();
    let here_at = |name: &str| here.path().join(name).display().to_string();
    for (from, to) in [("tree", "copy"), ("tree/sub/run", "one")] {
        let arguments = ["ssh", "put", "web-1", &here_at(from), &at(to)];
        let (code, out, errors) = fleet.longshore.try_command(&arguments, "");
        assert_eq!(code, 0, "{errors}");
        assert!(out.contains("bytes sent"), "{out}");
        let back = here_at(&format!("back-{to}"));
        let arguments = ["ssh", "get", "web-1", &at(to), &back];
        let (code, _, errors) = fleet.longshore.try_command(&arguments, "");
        assert_eq!(code, 0, "{errors}");
    }
    for path in [
        there.join("copy/sub/run"),
        there.join("one"),
        here.path().join("back-copy/sub/run"),
        here.path().join("back-one"),
    ] {
        let about = fs::metadata(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!((about.mode() & 0o777, about.mtime()), (0o750, changed));
    }
    let missing = ["ssh", "get", "web-1", "/missing", &here_at("x")];
    let (code, _, errors) = fleet.longshore.try_command(&missing, "");
    assert_eq!(code, 1);
    assert!(errors.contains("no such file"), "{errors}");
}

#[test]
fn the_api_runs_commands_and_moves_files() {
    let fleet = Fleet::with(1, Longshore::settings().set("ssh_upload_bytes", "100000"));
    let api = &fleet.api;
    let done = api
        .post(
            "servers/1/exec",
            &json!({"command": "cat; echo err >&2; exit 3", "stdin": "fed\n"}),
        )
        .expect(200);
    assert_eq!(done["exit_code"], 3);
    assert_eq!(
        (&done["stdout"], &done["stderr"]),
        (&json!("fed\n"), &json!("err\n"))
    );
    let flood = json!({"command": "yes | head -c 3000000"});
    let done = api.post("servers/1/exec", &flood).expect(200);
    assert_eq!(done["truncated"], true);
    assert!(done["stdout"].as_str().expect("a text").len() <= 1 << 20);
    let live = api.post(
        "servers/1/exec?live=1",
        &json!({"command": "echo a; exit 2"}),
    );
    let lines: Vec<Value> = live
        .text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[1], json!({"stream": "out", "line": "a"}));
    assert_eq!(lines.last().expect("an end")["exit_code"], 2);
    for (body, field) in [
        (json!({"command": ""}), "command"),
        (json!({"command": "true", "seconds": 0}), "seconds"),
        (json!({"command": "true", "seconds": 601}), "seconds"),
        (json!({"command": "true", "shell": "sh"}), "shell"),
    ] {
        let refused = api.post("servers/1/exec", &body).expect(422);
        assert_eq!(refused["field"], field, "{refused}");
    }
    api.post("servers/9/exec", &json!({"command": "true"}))
        .expect(404);

    let path = fleet.machines[0].root.path().join("a file");
    let at = |kind: &str| {
        let path = path.display().to_string().replace(' ', "%20");
        format!("servers/1/{kind}?path={path}")
    };
    let bytes: Vec<u8> = (0..90_000_u32).map(|at| at as u8).collect();
    let put = format!("{}&mode=600&changed=1600000000", at("file"));
    let sent = api.put_bytes(&put, &bytes).expect(200);
    assert_eq!(sent["bytes"], 90_000);
    let about = fs::metadata(&path).expect("the file");
    assert_eq!(
        (about.mode() & 0o777, about.mtime()),
        (0o600, 1_600_000_000)
    );
    assert_eq!(api.get_bytes(&at("file")), bytes);
    let refused = api.put_bytes(&at("file"), &vec![0; 100_001]);
    assert_eq!(refused.status, 413, "{}", refused.text);
    assert_eq!(fs::read(&path).expect("the file").len(), 90_000);
    let refused = api.get("servers/1/file?path=/missing").expect(422);
    assert_eq!(
        (&refused["code"], &refused["field"]),
        (&json!("remote_path"), &json!("path"))
    );
    api.get("servers/1/file").expect(422);
    api.put_bytes("servers/1/file?path=/x&mode=99", b"x")
        .expect(400);

    let root = fleet.machines[0].root.path();
    let packed = api.get_bytes(&format!("servers/1/tree?path={}", root.display()));
    let mut tar = tar::Archive::new(packed.as_slice());
    let names: Vec<String> = tar
        .entries()
        .expect("an archive")
        .map(|entry| {
            entry
                .expect("an entry")
                .path()
                .expect("a path")
                .display()
                .to_string()
        })
        .collect();
    assert!(
        names.iter().any(|name| name.ends_with("a file")),
        "{names:?}"
    );
    let copy = root.join("copy");
    api.put_bytes(
        &format!("servers/1/tree?path={}", copy.display()),
        &[0; 100_001],
    )
    .expect(413);
    fs::remove_file(&path).expect("the file");
    fs::write(root.join("small"), "small").expect("a file");
    let packed = api.get_bytes(&format!("servers/1/tree?path={}", root.display()));
    api.put_bytes(&format!("servers/1/tree?path={}", copy.display()), &packed)
        .expect(200);
    assert_eq!(
        fs::read_to_string(copy.join("small")).expect("a copy"),
        "small"
    );
}

#[test]
fn an_upload_that_breaks_off_leaves_no_file() {
    use std::io::Write;
    let fleet = Fleet::of(1);
    let path = fleet.machines[0].root.path().join("half");
    let token = fleet.longshore.command(&["token", "create", "admin"], "");
    let address = fleet.longshore.url.trim_start_matches("http://").to_owned();
    let mut socket = std::net::TcpStream::connect(&address).expect("a connection");
    let head = format!(
        "PUT /api/v1/servers/1/file?path={} HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: Bearer {}\r\nContent-Length: 1000000\r\n\r\n",
        path.display(),
        token.trim()
    );
    socket.write_all(head.as_bytes()).expect("the head");
    socket.write_all(&[b'x'; 300_000]).expect("a part");
    until_true("the upload begins", || !audit(&fleet).is_empty());
    drop(socket);
    until_true("the upload has failed", || {
        audit(&fleet)[0]["outcome"] == "failed"
    });
    let names: Vec<_> = fs::read_dir(fleet.machines[0].root.path())
        .expect("the folder")
        .collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn who_goes_away_ends_the_command() {
    let fleet = Fleet::of(1);
    let mark = fleet.machines[0].root.path().join("pid");
    let command = format!("echo $$ > {}; exec sleep 1000", mark.display());
    let token = fleet.longshore.command(&["token", "create", "admin"], "");
    let address = fleet.longshore.url.trim_start_matches("http://").to_owned();
    let body = json!({"command": command, "seconds": 600}).to_string();
    let mut socket = std::net::TcpStream::connect(&address).expect("a connection");
    let request = format!(
        "POST /api/v1/servers/1/exec?live=1 HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token.trim(),
        body.len()
    );
    std::io::Write::write_all(&mut socket, request.as_bytes()).expect("the request");
    until_true("the command runs", || {
        fs::read_to_string(&mark).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let pid = fs::read_to_string(&mark).expect("its number");
    let begun = Instant::now();
    drop(socket);
    until_true("the command is gone", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| stat.contains(") Z "))
            || !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
    until_true("that is written down", || {
        audit(&fleet)[0]["outcome"] == "failed"
    });
}

#[test]
fn only_admins_work_by_hand() {
    let fleet = Fleet::of(1);
    for (name, role) in [("dan", "deployer"), ("vic", "viewer")] {
        let token = fleet.longshore.add_user(name, role);
        let api = Api::new(&fleet.longshore.url, &token);
        api.post("servers/1/exec", &json!({"command": "true"}))
            .expect(403);
        api.get("servers/1/file?path=/etc/hostname").expect(403);
        api.get("servers/1/tree?path=/etc").expect(403);
        api.put_bytes("servers/1/file?path=/tmp/x", b"x")
            .expect(403);
        api.put_bytes("servers/1/tree?path=/tmp/x", b"x")
            .expect(403);
        api.post("known_hosts", &json!({"text": "x"})).expect(403);
        api.get("audit").expect(403);
    }
    let stranger = Api::new(&fleet.longshore.url, "nothing");
    stranger
        .put_bytes("servers/1/file?path=/tmp/x", b"x")
        .expect(401);
    assert!(
        audit(&fleet)
            .iter()
            .all(|entry| entry["action"] == "accept_host_key")
    );
}

#[test]
fn known_hosts_give_keys_to_servers_without_one() {
    let fleet = Fleet::of(2);
    let port = |at: usize| fleet.machines[at].sshd.port;
    // Another port is another machine, whose key nobody has accepted.
    let moved = json!({"port": port(1)});
    fleet.api.put("servers/1", &moved).expect(200);
    assert_eq!(
        fleet.api.get("servers/1").expect(200)["host_key"],
        Value::Null
    );
    let public = |at: usize| fleet.machines[at].sshd.host_key();
    let line = |port: u16, at: usize| format!("[127.0.0.1]:{port} {}", public(at));
    let text = line(port(1), 1) + "broken line\n";
    let import = fleet
        .api
        .post("known_hosts", &json!({"text": text}))
        .expect(200);
    let servers = import["servers"].as_array().expect("a list");
    assert_eq!(servers[0]["outcome"], "accepted");
    assert_eq!(servers[1]["outcome"], "same");
    assert_eq!(
        servers[0]["fingerprint"],
        fleet.machines[1].sshd.fingerprint()
    );
    assert_eq!(import["unread"], json!([2]));
    let text = line(port(1), 0);
    let import = fleet
        .api
        .post("known_hosts", &json!({"text": text}))
        .expect(200);
    assert_eq!(import["servers"][0]["outcome"], "differs");
    let here = tempfile::tempdir().expect("a folder");
    let file = here.path().join("known_hosts");
    fs::write(&file, format!("@revoked * {}", public(1))).expect("a file");
    let arguments = ["ssh", "known-hosts", file.to_str().expect("UTF-8")];
    let out = fleet.longshore.command(&arguments, "");
    assert!(out.contains("web-2: withdrawn SHA256:"), "{out}");
    let check = fleet.api.post("servers/2/check", &json!({})).expect(200);
    assert_eq!(check["code"], "host_key_unknown", "{check}");
}
