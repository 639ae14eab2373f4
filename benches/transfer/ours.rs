//! Longshore itself: the release binary, driven by its API as a person's script would.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fleet::{Fleet, PATH};

/// The number of releases kept on a server.
pub const KEPT: usize = 3;

/// A running installation with a project on every server of a fleet.
pub struct Ours {
    process: Child,
    base: String,
    token: String,
    project: String,
    fields: Value,
    agent: ureq::Agent,
    folder: tempfile::TempDir,
}

impl Ours {
    pub fn start(fleet: &Fleet, repository: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        run(
            &data,
            &[
                "user",
                "add",
                "bench",
                "--role",
                "admin",
                "--password-stdin",
            ],
            "correct horse battery\n",
        );
        let token = run(&data, &["token", "create", "bench"], "")
            .trim()
            .to_owned();
        let listen = TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .expect("a port");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let process = binary(&data, &["serve", "--listen", &listen.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("longshore");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut ours = Self {
            process,
            base: format!("http://{listen}"),
            token,
            project: String::new(),
            fields: Value::Null,
            agent,
            folder,
        };
        let over = Instant::now() + Duration::from_secs(20);
        while ours
            .agent
            .get(format!("{}/login", ours.base))
            .call()
            .is_err()
        {
            assert!(
                Instant::now() < over,
                "longshore does not answer: {}",
                ours.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        ours.register(fleet, repository);
        ours
    }

    fn register(&mut self, fleet: &Fleet, repository: &str) {
        let secret = fs::read_to_string(fleet.key()).expect("the key");
        let key = self.create(
            "credentials",
            &json!({"name": "key", "kind": "ssh_key", "secret": secret}),
        );
        let fingerprint = json!({"fingerprint": fleet.fingerprint()});
        let mut servers = Vec::new();
        for machine in &fleet.machines {
            let server = json!({
                "hostname": machine.name, "host": machine.address.to_string(), "port": machine.port,
                "user": "root", "kind": "ssh", "credential_id": key, "root": "/",
            });
            let id = self.create("servers", &server);
            self.post(&format!("servers/{id}/host_key"), &fingerprint);
            servers.push(id);
        }
        self.fields = json!({
            "title": "app", "repo": repository, "env": "test", "path": PATH, "server_ids": servers, "keep": KEPT,
        });
        self.project = self.create("projects", &self.fields);
    }

    /// Changes a field of the project.
    pub fn change_project(&mut self, field: &str, value: &str) {
        self.fields[field] = json!(value);
        let request = self
            .agent
            .put(format!("{}/api/v1/projects/{}", self.base, self.project));
        let answer = request
            .header("Authorization", format!("Bearer {}", self.token))
            .send_json(&self.fields)
            .expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A release of `main`, from the request to its end on every server, which is heard as a page hears it:
    /// who asks again and again takes processor time from what is measured.
    pub fn release(&self) {
        let mut events = self.events("releases");
        let id = self.create(
            "releases",
            &json!({"project_id": self.project, "ref": "main"}),
        );
        let ended = events.find(|message| {
            message["data"]["id"] == id.as_str()
                && !matches!(
                    message["data"]["state"].as_str(),
                    Some("queued" | "running")
                )
        });
        let state = ended.map(|message| message["data"]["state"].clone());
        assert_eq!(state, Some(json!("succeeded")), "{}", self.log());
    }

    /// The messages of a room from now on.
    fn events(&self, room: &str) -> impl Iterator<Item = Value> + use<> {
        let request = self
            .agent
            .get(format!("{}/events?name=bench&room={room}", self.base));
        let answer = request
            .header("Authorization", format!("Bearer {}", self.token))
            .call()
            .expect("a stream");
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        let mut messages = lines.map_while(Result::ok).filter_map(|line| {
            let data = line.strip_prefix("data:")?;
            serde_json::from_str(data).ok()
        });
        messages.next().expect("the cursor");
        messages
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn create(&self, path: &str, body: &Value) -> String {
        let made = self.post(path, body);
        made["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {made}"))
            .to_owned()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}/api/v1/{path}", self.base));
        let mut answer = request
            .header("Authorization", format!("Bearer {}", self.token))
            .send_json(body)
            .expect("an answer");
        answer.body_mut().read_json().unwrap_or_default()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status();
        let over = Instant::now() + Duration::from_secs(15);
        while Instant::now() < over && !matches!(self.process.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command
        .args(arguments)
        .arg("--data")
        .arg(data)
        .env("LONGSHORE_GIT_ALLOW_LOOPBACK", "true")
        .env("LONGSHORE_LIMITS", "off")
        .env("HOME", data);
    command
}

fn run(data: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = binary(data, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("longshore");
    child
        .stdin
        .take()
        .expect("its input")
        .write_all(input.as_bytes())
        .expect("its input");
    let output = child.wait_with_output().expect("longshore ends");
    assert!(output.status.success(), "longshore {arguments:?}");
    String::from_utf8(output.stdout).expect("plain text")
}
