//! A repository to fetch from, a git daemon to serve it, and a mirror of it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::{
    GitError, Mirror, MirrorOptions, Mirrors, Progress, RepoUrl, Source, UrlPolicy,
};

/// Long enough for a slow machine; nothing waits this long in a test that passes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A work tree whose `.git` is served.
pub struct Repository {
    pub folder: TempDir,
}

impl Repository {
    /// Three commits on `main`, a branch, two tags.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Self { folder };
        repository.git(&["init", "-q", "-b", "main", "app"]);
        repository.commit("a.txt", "one");
        repository.git(&["-C", "app", "tag", "v0"]);
        repository.commit("b.txt", "two");
        repository.git(&["-C", "app", "tag", "-a", "v1", "-m", "the first"]);
        repository.git(&["-C", "app", "branch", "feature/one"]);
        repository.commit("a.txt", "three");
        repository
    }

    pub fn work(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Runs git in the folder, without the user's settings.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .envs([
                ("GIT_AUTHOR_NAME", "阿丽 Ali"),
                ("GIT_AUTHOR_EMAIL", "ali@example.com"),
                ("GIT_COMMITTER_NAME", "Bo"),
                ("GIT_COMMITTER_EMAIL", "bo@example.com"),
            ])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {errors}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Runs git in the work tree.
    pub fn app(&self, arguments: &[&str]) -> String {
        self.git(&[&["-C", "app"], arguments].concat())
    }

    pub fn commit(&self, name: &str, content: &str) -> String {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.app(&["add", "-A"]);
        self.app(&[
            "commit",
            "-q",
            "-m",
            &format!("{name} becomes {content:.20}"),
        ]);
        self.id("HEAD")
    }

    pub fn id(&self, revision: &str) -> String {
        self.app(&["rev-parse", &format!("{revision}^{{commit}}")])
    }
}

/// A server of the test; killed when it is dropped.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts `command(port)` on a free port and waits until it accepts; if another process takes
    /// the port in between, the next one is tried.
    pub fn start(command: impl Fn(u16) -> Command) -> Self {
        for _ in 0..20 {
            let port = free_port();
            let child = command(port).stdin(Stdio::null()).spawn().unwrap();
            let mut server = Self { child, port };
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if server.child.try_wait().unwrap().is_some() {
                    break;
                }
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return server;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("the server does not start");
    }

    /// `git daemon` serving everything below `root`.
    pub fn git_daemon(root: &Path) -> Self {
        let path = Command::new("git").arg("--exec-path").output().unwrap();
        let path = String::from_utf8(path.stdout).unwrap();
        let program = Path::new(path.trim()).join("git-daemon");
        Self::start(|port| {
            let mut command = Command::new(&program);
            command
                .args(["--export-all", "--listen=127.0.0.1", "--reuseaddr"])
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", root.display()))
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "safe.directory")
                .env("GIT_CONFIG_VALUE_0", "*")
                .stderr(Stdio::null());
            command
        })
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

pub fn policy() -> UrlPolicy {
    UrlPolicy {
        allow_http: true,
        allow_loopback: true,
        local_folders: Vec::new(),
    }
}

pub fn source(url: &str) -> Source {
    Source::new(RepoUrl::parse(url, &policy()).unwrap())
}

/// A mirror below `folder` with a time-out that fits tests.
pub fn mirror(folder: &Path, source: Source, stall_timeout: Duration) -> Mirror {
    let options = MirrorOptions {
        policy: policy(),
        stall_timeout,
        ..MirrorOptions::default()
    };
    Mirrors::new(folder.join("mirrors"), options).mirror(source)
}

pub fn fetch(mirror: &Mirror) -> Result<(), GitError> {
    mirror.fetch(&mut |_: &Progress| ControlFlow::Continue(()))
}

/// A served repository and its mirror.
pub struct Served {
    pub repository: Repository,
    pub server: Server,
    pub mirror: Mirror,
    /// Removed at the end.
    pub folder: TempDir,
}

impl Served {
    pub fn new(repository: Repository) -> Self {
        let server = Server::git_daemon(repository.root());
        let folder = tempfile::tempdir().unwrap();
        let url = format!("git://127.0.0.1:{}/app/.git", server.port);
        let mirror = mirror(folder.path(), source(&url), PATIENCE);
        Self {
            repository,
            server,
            mirror,
            folder,
        }
    }

    /// Fetches, then compares branches and tags with git's own.
    pub fn fetch_and_compare(&self) {
        fetch(&self.mirror).unwrap();
        let refs = self.mirror.refs().unwrap();
        let listed = |refs: Vec<super::super::Ref>| -> Vec<String> {
            refs.iter()
                .map(|one| format!("{} {}", one.name, one.commit))
                .collect()
        };
        for (mine, folder) in [
            (listed(refs.branches), "refs/heads"),
            (listed(refs.tags), "refs/tags"),
        ] {
            let names =
                self.repository
                    .app(&["for-each-ref", "--format=%(refname:lstrip=2)", folder]);
            let theirs: Vec<String> = names
                .lines()
                .map(|name| format!("{name} {}", self.repository.id(&format!("{folder}/{name}"))))
                .collect();
            assert_eq!(mine, theirs);
        }
    }
}

/// The variable that names a folder to a process that measures itself.
const MEASURED: &str = "LONGSHORE_TEST_MEASURED";

/// The folder with the data that this process measures itself with; `None` in the process that runs
/// all tests.
pub fn measured() -> Option<PathBuf> {
    std::env::var_os(MEASURED).map(PathBuf::from)
}

/// Runs `test` again, alone in a process in which [`measured`] is `folder`. It must print that it
/// "was measured".
pub fn measure_in_its_own_process(test: &str, folder: &Path) {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MEASURED, folder)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}\n{errors}");
    assert!(told.contains("was measured"), "{told}");
    println!("{told}");
}

/// The peak memory of this process, in bytes.
pub fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse::<u64>().unwrap() * 1024
}
