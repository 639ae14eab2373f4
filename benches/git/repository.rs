//! The repository that is fetched: texts that compress as source code does, with a history.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

const FILES: usize = 5000;
const BYTES: usize = 4096;
/// The number of files that a commit changes.
const CHANGES: usize = 3;

/// git with nobody's settings.
pub fn git() -> Command {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0");
    git
}

/// A bare repository with the tag `v1` at the end of its `main`.
pub struct Repository {
    folder: tempfile::TempDir,
    random: StdRng,
    files: Vec<String>,
    commits: usize,
}

impl Repository {
    /// One with `commits` commits; the first has 5,000 texts of 4 KB.
    pub fn of(commits: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut random = StdRng::seed_from_u64(7);
        let words: Vec<String> = (0..3000)
            .map(|_| {
                let letters = random.random_range(2..10);
                (0..letters)
                    .map(|_| random.random_range('a'..='z'))
                    .collect()
            })
            .collect();
        let files = (0..FILES).map(|_| text(&mut random, &words)).collect();
        let mut repository = Self {
            folder,
            random,
            files,
            commits: 0,
        };
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        repository.import(commits);
        repository.git(&["tag", "v1", "main"]);
        // As a host keeps it: one pack, its deltas found, a bitmap.
        repository.git(&["repack", "-a", "-d", "-q", "--write-bitmap-index"]);
        repository
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app.git")
    }

    /// The folder that the repository is in.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// One more commit.
    pub fn commit(&mut self) {
        self.import(1);
    }

    fn import(&mut self, commits: usize) {
        let mut stream = Vec::new();
        for place in 0..commits {
            self.write(&mut stream, place == 0);
        }
        let mut import = git()
            .args(["fast-import", "--quiet"])
            .current_dir(self.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("git");
        let mut input = import.stdin.take().expect("its input");
        input.write_all(&stream).expect("a reader");
        drop(input);
        assert!(import.wait().expect("git").success(), "git fast-import");
    }

    /// The next commit as `git fast-import` reads it; it knows the branch from the second on.
    fn write(&mut self, stream: &mut Vec<u8>, is_first: bool) {
        let number = self.commits;
        self.commits += 1;
        let changed: Vec<usize> = match number {
            0 => (0..FILES).collect(),
            _ => (0..CHANGES)
                .map(|_| self.random.random_range(0..FILES))
                .collect(),
        };
        let time = 1_700_000_000 + number * 60;
        let mut head = format!(
            "commit refs/heads/main\ncommitter Ann <ann@example.com> {time} +0000\n\
             data <<end\nchange {number}\nend\n"
        );
        if number > 0 && is_first {
            let _ = writeln!(head, "from refs/heads/main^0");
        }
        stream.extend_from_slice(head.as_bytes());
        for place in changed {
            let text = &mut self.files[place];
            if number > 0 {
                let middle = text.len() / 2;
                text.insert_str(middle, &format!("\nchange {number} of this file\n"));
            }
            let folder = place % 200;
            let head = format!(
                "M 100644 inline src/module{folder:03}/file{place:04}.txt\ndata {}\n",
                text.len()
            );
            stream.extend_from_slice(head.as_bytes());
            stream.extend_from_slice(text.as_bytes());
            stream.push(b'\n');
        }
    }

    fn git(&self, arguments: &[&str]) {
        std::fs::create_dir_all(self.path()).expect("a folder");
        let done = git().current_dir(self.path()).args(arguments).status();
        assert!(done.expect("git").success(), "git {arguments:?}");
    }
}

/// A text of about 4 KB.
fn text(random: &mut StdRng, words: &[String]) -> String {
    let mut text = String::with_capacity(BYTES + 16);
    while text.len() < BYTES {
        text.push_str(words.choose(random).expect("words"));
        text.push(if random.random_ratio(1, 9) { '\n' } else { ' ' });
    }
    text
}
