//! The repository that is transferred: texts that compress as source code does, and its daemon.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

/// A repository served by `git daemon`.
pub struct Repository {
    folder: tempfile::TempDir,
    port: u16,
    daemon: Child,
    files: Vec<PathBuf>,
    changes: usize,
}

/// A text of about `bytes` bytes.
fn text(random: &mut StdRng, words: &[String], bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(words.choose(random).expect("words"));
        text.push(if random.random_ratio(1, 9) { '\n' } else { ' ' });
    }
    text
}

/// `count` files of `bytes` bytes in `folder`, forty folders of them; their paths.
pub fn texts(folder: &Path, count: usize, bytes: usize) -> Vec<PathBuf> {
    let mut random = StdRng::seed_from_u64(7);
    let words: Vec<String> = (0..3000)
        .map(|_| {
            (0..random.random_range(2..10))
                .map(|_| random.random_range('a'..='z'))
                .collect()
        })
        .collect();
    (0..count)
        .map(|number| {
            let below = folder.join(format!("src/module{:02}", number % 40));
            fs::create_dir_all(&below).expect("a folder");
            let path = below.join(format!("file{number:04}.txt"));
            fs::write(&path, text(&mut random, &words, bytes)).expect("a file");
            path
        })
        .collect()
}

/// A file that does not compress.
pub fn noise(path: &Path, bytes: usize) {
    noises(&mut StdRng::seed_from_u64(8), path, bytes);
}

fn noises(random: &mut StdRng, path: &Path, bytes: usize) {
    let mut file = fs::File::create(path).expect("a file");
    let mut piece = vec![0; bytes.min(1 << 20)];
    let mut left = bytes;
    while left > 0 {
        piece.truncate(left);
        random.fill_bytes(&mut piece);
        file.write_all(&piece).expect("a file");
        left -= piece.len();
    }
}

impl Repository {
    /// One with `count` texts of `bytes` bytes in its only commit.
    pub fn of(count: usize, bytes: usize) -> Self {
        Self::filled(|tree| texts(tree, count, bytes))
    }

    /// One with `count` files of `bytes` bytes that do not compress, of which no two are the same.
    pub fn of_noise(count: usize, bytes: usize) -> Self {
        Self::filled(|tree| {
            // Compressing them is none of the work.
            git(tree, &["config", "core.compression", "0"]);
            let mut random = StdRng::seed_from_u64(9);
            (0..count)
                .map(|number| {
                    let below = tree.join(format!("folder{:02}", number % 40));
                    fs::create_dir_all(&below).expect("a folder");
                    let path = below.join(format!("noise{number:05}"));
                    noises(&mut random, &path, bytes);
                    path
                })
                .collect()
        })
    }

    fn filled(fill: impl FnOnce(&Path) -> Vec<PathBuf>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        git(
            folder.path(),
            &["init", "--quiet", "--initial-branch=main", "app"],
        );
        let files = fill(&folder.path().join("app"));
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .expect("a port")
            .port();
        let exec_path = Command::new("git")
            .arg("--exec-path")
            .output()
            .expect("git")
            .stdout;
        let exec_path = String::from_utf8(exec_path).expect("plain text");
        let daemon = Command::new(Path::new(exec_path.trim()).join("git-daemon"))
            .args(["--listen=127.0.0.1", "--reuseaddr", "--export-all"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", folder.path().display()))
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git daemon");
        let over = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < over, "no git daemon");
            std::thread::sleep(Duration::from_millis(10));
        }
        let repository = Self {
            folder,
            port,
            daemon,
            files,
            changes: 0,
        };
        repository.commit("all files");
        repository
    }

    pub fn url(&self) -> String {
        format!("git://127.0.0.1:{}/app", self.port)
    }

    /// Writes a line into the middle of every hundredth file and commits that.
    pub fn change_one_percent(&mut self) {
        self.changes += 1;
        let one_percent = self.files.len() / 100;
        for number in 0..one_percent {
            let path = &self.files[(number * 97 + self.changes * 13) % self.files.len()];
            let mut text = fs::read_to_string(path).expect("a text");
            text.insert_str(
                text.len() / 2,
                &format!("\nchange {} of this file\n", self.changes),
            );
            fs::write(path, text).expect("a text");
        }
        self.commit("one percent");
    }

    fn commit(&self, summary: &str) {
        let app = self.folder.path().join("app");
        git(&app, &["add", "--all"]);
        git(&app, &["commit", "--quiet", "--message", summary]);
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.com",
            "-c",
            "gc.auto=0",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status();
    assert!(done.expect("git").success(), "git {arguments:?}");
}
