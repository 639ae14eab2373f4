//! The server under load: the real binary with an installation of its own.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

/// The process's own figures.
pub struct Used {
    /// Resident memory in KiB.
    pub memory: u64,
    pub files: u64,
    pub threads: u64,
}

/// A running server with one project on one server of kind `local`.
pub struct Server {
    pub address: String,
    pub token: String,
    pub project: String,
    pub agent: Agent,
    process: Child,
    _folder: TempDir,
}

impl Server {
    pub fn start(binary: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let command = |arguments: &[&str], input: &str| {
            let mut child = Command::new(binary)
                .args(arguments)
                .arg("--data")
                .arg(&data)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("longshore starts");
            let mut stdin = child.stdin.take().expect("its input");
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            let output = child.wait_with_output().expect("longshore ends");
            String::from_utf8(output.stdout)
                .expect("plain text")
                .trim()
                .to_owned()
        };
        let user = [
            "user",
            "add",
            "admin",
            "--role",
            "admin",
            "--password-stdin",
        ];
        command(&user, "correct horse battery\n");
        let token = command(&["token", "create", "admin"], "");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address").to_string();
        drop(free);
        let repository = repository(folder.path());
        let process = Command::new(binary)
            .args(["serve", "--listen", &address, "--data"])
            .arg(&data)
            .env("LONGSHORE_GIT_LOCAL_FOLDERS", folder.path())
            .env("LONGSHORE_CHAT", "open")
            .env("LONGSHORE_LIMITS", "off")
            .env("LONGSHORE_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("longshore starts");
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let mut server = Self {
            address,
            token,
            project: String::new(),
            agent,
            process,
            _folder: folder,
        };
        while server.get("/login").is_none() {
            std::thread::sleep(Duration::from_millis(100));
        }
        server.project = server.make_project(&repository);
        server
    }

    fn make_project(&self, repository: &str) -> String {
        let root = self._folder.path().join("root");
        std::fs::create_dir(&root).expect("a folder");
        let here = self.post(
            "servers",
            &json!({"hostname": "here", "kind": "local", "root": root}),
        );
        let id = here.expect("a server")["id"].clone();
        let project = self.post(
            "projects",
            &json!({"title": "soak", "repo": repository, "env": "test", "path": "/srv/app",
                "server_ids": [id], "keep": 3, "build": "date > built.txt"}),
        );
        text(&project.expect("a project")["id"])
    }

    /// The body of a page or of an answer of the API.
    pub fn get(&self, path: &str) -> Option<String> {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        request.call().ok()?.body_mut().read_to_string().ok()
    }

    /// Posts to the API.
    pub fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let request = self
            .agent
            .post(format!("http://{}/api/v1/{path}", self.address));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        request.send_json(body).ok()?.body_mut().read_json().ok()
    }

    pub fn used(&self) -> Used {
        let of = |name: &str| {
            Path::new("/proc")
                .join(self.process.id().to_string())
                .join(name)
        };
        let status = std::fs::read_to_string(of("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
                .unwrap_or(0)
        };
        Used {
            memory: field("VmRSS:"),
            files: std::fs::read_dir(of("fd")).map_or(0, |files| files.count() as u64),
            threads: field("Threads:"),
        }
    }

    /// The sums of these metrics.
    pub fn counts(&self, names: &[&str]) -> Vec<u64> {
        let text = self.get("/metrics").unwrap_or_default();
        let sum = |name: &&str| {
            let lines = text.lines().filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            });
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum::<f64>() as u64
        };
        names.iter().map(sum).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An id, which the API may give as a number or a text.
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn repository(folder: &Path) -> String {
    let path = folder.join("repository");
    let script = "git init -q -b main . && for n in $(seq 200); do echo $n > file-$n; done && git add . && \
                  git -c user.name=a -c user.email=a@example.com commit -qm one";
    std::fs::create_dir(&path).expect("a folder");
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(&path)
        .status();
    assert!(status.expect("git").success());
    path.display().to_string()
}
