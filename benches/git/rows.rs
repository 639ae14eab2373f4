//! The rows of the table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hosts::Daemon;
use crate::https::Https;
use crate::repository::{Repository, git};
use crate::usage::{Usage, measure};

/// The number of commits that are fetched in a round, one after the other.
const FETCHES: usize = 5;

/// The options of a run.
pub struct Bench {
    pub rounds: usize,
    pub commits: usize,
    pub ours_alone: bool,
}

pub struct Row {
    pub name: &'static str,
    /// The most that we may take of git's time.
    bound: Option<f64>,
    run: fn(&mut Place, bool) -> Usage,
}

pub const ROWS: [Row; 6] = [
    Row {
        name: "starting: the branches of a small repository",
        bound: None,
        run: idle,
    },
    Row {
        name: "fetch of one commit, git://",
        bound: Some(0.6),
        run: fetch,
    },
    Row {
        name: "tag to tar, 5,000 files",
        bound: Some(1.2),
        run: archive,
    },
    Row {
        name: "clone, git://",
        bound: Some(1.0),
        run: |place, ours| clone(place, ours, From::Daemon),
    },
    Row {
        name: "clone, https",
        bound: Some(1.0),
        run: |place, ours| clone(place, ours, From::Https),
    },
    Row {
        name: "one file of 1 GB to tar",
        bound: Some(1.2),
        run: large_file,
    },
];

/// The repository, its hosts and the work folder that all rows share.
pub struct Place {
    repository: Repository,
    daemon: Daemon,
    https: Https,
    work: tempfile::TempDir,
    /// A bare repository with one file of 1 GB; made when it is wanted.
    large: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum From {
    Daemon,
    Https,
}

impl Place {
    fn url(&self, from: From) -> String {
        match from {
            From::Daemon => self.daemon.url(),
            From::Https => self.https.url(),
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// `longshore git …`, allowed to go where the benchmark's hosts are.
    fn ours(&self, command: &str, arguments: &[&str]) -> Command {
        let mut ours = Command::new(env!("CARGO_BIN_EXE_longshore"));
        ours.args(["git", command])
            .args(arguments)
            .arg("--allow-loopback")
            .arg("--local-folder")
            .arg(self.repository.root())
            .env("SSL_CERT_FILE", self.https.ca_file());
        ours
    }

    fn git(&self, arguments: &[&str]) -> Command {
        let mut command = git();
        command
            .args(arguments)
            .env("GIT_SSL_CAINFO", self.https.ca_file());
        command
    }
}

/// Runs rows and prints each.
pub fn run(bench: &Bench, rows: &[&Row]) {
    let repository = Repository::of(bench.commits);
    let mut place = Place {
        daemon: Daemon::start(repository.root()),
        https: Https::start(repository.root()),
        work: tempfile::tempdir().expect("a temporary folder"),
        repository,
        large: None,
    };
    for row in rows {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            ours.push((row.run)(&mut place, true));
            if !bench.ours_alone {
                theirs.push((row.run)(&mut place, false));
            }
        }
        print(row, "longshore", &ours, &ours);
        print(row, "git", &theirs, &ours);
    }
}

fn print(row: &Row, who: &str, rounds: &[Usage], ours: &[Usage]) {
    if rounds.is_empty() {
        return;
    }
    let (usage, ours) = (median(rounds), median(ours));
    let ratio = ours.ms / usage.ms;
    let bound = match row.bound {
        Some(bound) if who == "git" => {
            format!("≤ {bound}{}", if ratio <= bound { " ✓" } else { "" })
        }
        _ => String::new(),
    };
    println!(
        "| {} | {who} | {:.0} | {ratio:.2} | {bound} | {:.0} | {:.0} | {:.0} |",
        row.name, usage.ms, usage.cpu_ms, usage.peak, usage.peak_own
    );
}

fn median(rounds: &[Usage]) -> Usage {
    let of = |figure: fn(&Usage) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Usage {
        ms: of(|usage| usage.ms),
        cpu_ms: of(|usage| usage.cpu_ms),
        peak: of(|usage| usage.peak),
        peak_own: of(|usage| usage.peak_own),
    }
}

/// The cost of a process that does next to nothing: memory counts from here.
fn idle(place: &mut Place, ours: bool) -> Usage {
    let small = place.folder("small.git");
    if !small.exists() {
        let path = small.to_str().expect("plain text");
        let done = place.git(&["init", "--quiet", "--bare", path]).status();
        assert!(done.expect("git").success());
    }
    let path = small.to_str().expect("plain text");
    measure(&mut match ours {
        true => place.ours("branches", &[path]),
        false => place.git(&["-C", path, "branch"]),
    })
}

fn main_of(place: &Place, repository: &Path) -> Vec<u8> {
    let path = repository.to_str().expect("plain text");
    let found = place.git(&["-C", path, "rev-parse", "main"]).output();
    found.expect("git").stdout
}

/// The mean of some fetches into a mirror that is there.
fn fetch(place: &mut Place, ours: bool) -> Usage {
    let mirror = place.folder(if ours { "mirror-ours" } else { "mirror-git" });
    let url = place.url(From::Daemon);
    let path = mirror.to_str().expect("plain text");
    let fetching = |place: &Place| match ours {
        true => place.ours("branches", &[&url, "--mirrors", path]),
        false => place.git(&["-C", path, "fetch", "--quiet", "--prune", "origin"]),
    };
    if !mirror.exists() {
        measure(&mut match ours {
            true => fetching(place),
            false => place.git(&["clone", "--quiet", "--mirror", &url, path]),
        });
    }
    // Both begin where the other ended.
    measure(&mut fetching(place));
    let rounds: Vec<Usage> = (0..FETCHES)
        .map(|_| {
            place.repository.commit();
            let usage = measure(&mut fetching(place));
            // Ours has a folder for each address.
            let fetched = match ours {
                true => {
                    let mut folders = fs::read_dir(&mirror).expect("mirrors").flatten();
                    folders.next().expect("a mirror").path().join("mirror.git")
                }
                false => mirror.clone(),
            };
            let theirs = main_of(place, &place.repository.path());
            assert_eq!(main_of(place, &fetched), theirs, "it was fetched");
            usage
        })
        .collect();
    let mean = |figure: fn(&Usage) -> f64| rounds.iter().map(figure).sum::<f64>() / FETCHES as f64;
    Usage {
        ms: mean(|usage| usage.ms),
        cpu_ms: mean(|usage| usage.cpu_ms),
        peak: mean(|usage| usage.peak),
        peak_own: mean(|usage| usage.peak_own),
    }
}

fn archive(place: &mut Place, ours: bool) -> Usage {
    let path = place.repository.path();
    tar(place, &path, "v1", ours)
}

fn tar(place: &Place, repository: &Path, revision: &str, ours: bool) -> Usage {
    let out = place.folder("out.tar");
    let _ = fs::remove_file(&out);
    let (repository, out) = (
        repository.to_str().expect("plain text"),
        out.to_str().expect("plain text"),
    );
    measure(&mut match ours {
        true => place.ours("archive", &[repository, revision, "--output", out]),
        false => place.git(&[
            "-C",
            repository,
            "archive",
            "--format=tar",
            "--output",
            out,
            revision,
        ]),
    })
}

fn clone(place: &mut Place, ours: bool, from: From) -> Usage {
    let into = place.folder("clone");
    let _ = fs::remove_dir_all(&into);
    let url = place.url(from);
    let path = into.to_str().expect("plain text");
    measure(&mut match ours {
        true => place.ours("branches", &[&url, "--mirrors", path]),
        false => place.git(&["clone", "--quiet", "--bare", &url, path]),
    })
}

fn large_file(place: &mut Place, ours: bool) -> Usage {
    let repository = match &place.large {
        Some(path) => path.clone(),
        None => {
            let path = place.folder("large");
            make_large(place, &path);
            place.large = Some(path.clone());
            path
        }
    };
    tar(place, &repository.join(".git"), "main", ours)
}

fn make_large(place: &Place, path: &Path) {
    let folder = path.to_str().expect("plain text");
    let git = |arguments: &[&str]| {
        let done = place.git(arguments).status();
        assert!(done.expect("git").success(), "{arguments:?}");
    };
    git(&["init", "--quiet", "--initial-branch=main", folder]);
    let file = fs::File::create(path.join("large")).expect("a file");
    file.set_len(1_000_000_000).expect("a large file");
    git(&["-C", folder, "add", "large"]);
    git(&[
        "-C",
        folder,
        "-c",
        "user.name=Ann",
        "-c",
        "user.email=ann@example.com",
        "commit",
        "--quiet",
        "--message",
        "large",
    ]);
}
