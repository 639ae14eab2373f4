//! The rows of the table.

use std::path::Path;

use longshore::ssh::{Cancel, Connection, Credential, Target, Timeouts};

use crate::fleet::{Fleet, PATH, settle};
use crate::ours::{self, Ours};
use crate::repository::{self, Repository};
use crate::shell::{Script, sh};
use crate::usage::{Here, Usage, measure};

/// The options of a run.
pub struct Bench {
    pub rounds: usize,
    pub servers: usize,
    pub delay_ms: u64,
    pub ours_alone: bool,
    /// The peers of the fleet that have this in their name.
    pub beside: String,
}

pub struct Row {
    pub name: &'static str,
    pub run: fn(&Bench, &str),
}

pub const ROWS: [Row; 3] = [
    Row {
        name: "one file of 200 MB to one server",
        run: one_file,
    },
    Row {
        name: "2,000 files of 4 KB to one server",
        run: small_files,
    },
    Row {
        name: "2,000 files, 37 MB, to the fleet",
        run: fleet_release,
    },
];

/// A program that does the work, and the cost of each round.
pub struct Runner {
    name: &'static str,
    /// The most that we may take of this peer's time.
    bound: Option<f64>,
    pub rounds: Vec<Usage>,
}

impl Runner {
    pub fn new(name: &'static str, bound: Option<f64>) -> Self {
        Self {
            name,
            bound,
            rounds: Vec::new(),
        }
    }

    fn median(&self) -> Usage {
        let of = |figure: fn(&Usage) -> f64| {
            let mut all: Vec<f64> = self.rounds.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        Usage {
            seconds: of(|usage| usage.seconds),
            cpu_here: of(|usage| usage.cpu_here),
            cpu_there: of(|usage| usage.cpu_there),
            peak: of(|usage| usage.peak),
            bytes: of(|usage| usage.bytes as f64) as u64,
        }
    }
}

/// Prints a row: ours first, then each peer and our time as a part of its.
pub fn print(name: &str, runners: &[Runner]) {
    let ours = runners[0].median();
    for runner in runners.iter().filter(|runner| !runner.rounds.is_empty()) {
        let theirs = runner.median();
        let ratio = ours.seconds / theirs.seconds;
        let bound = runner.bound.map_or(String::new(), |bound| {
            format!("≤ {bound}{}", if ratio <= bound { " ✓" } else { "" })
        });
        println!(
            "| {name} | {} | {:.2} | {ratio:.2} | {bound} | {:.2} | {:.2} | {:.0} |",
            runner.name, theirs.seconds, theirs.cpu_here, theirs.cpu_there, theirs.peak
        );
        if theirs.bytes > 0 {
            let ratio = ours.bytes as f64 / theirs.bytes as f64;
            println!(
                "| bytes on the wire | {} | {} | {ratio:.2} | | | | |",
                runner.name, theirs.bytes
            );
        }
    }
}

impl Fleet {
    fn target(&self, number: usize) -> Target {
        let machine = &self.machines[number];
        Target {
            host: machine.address.to_string(),
            port: machine.port,
            user: "root".to_owned(),
            credential: Credential::KeyFile {
                path: self.key(),
                passphrase: None,
            },
            host_key: Some(self.fingerprint()),
            via: None,
            proxy: None,
        }
    }

    /// The work of a shell's line, measured.
    pub fn shell(&self, folder: &Path, text: &str) -> Usage {
        self.clear();
        measure(Here::Children, &self.daemons(), || sh(self, folder, text))
    }
}

fn one_file(bench: &Bench, name: &str) {
    let fleet = Fleet::start(1, bench.delay_ms);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("big");
    repository::noise(&file, 200_000_000);
    let mut runners = [
        Runner::new("longshore, a file", None),
        Runner::new("scp", Some(0.8)),
        Runner::new("sftp", Some(0.8)),
        Runner::new("rsync -W", Some(0.8)),
    ];
    for _ in 0..bench.rounds {
        fleet.clear();
        let target = fleet.target(0);
        let own = Here::Process(std::process::id());
        runners[0].rounds.push(measure(own, &fleet.daemons(), || {
            let connection = Connection::open(&target, &Timeouts::default()).expect("a connection");
            let remote = format!("{PATH}/big");
            connection
                .put_file(&file, &remote, &Cancel::new(), &mut |_| {})
                .expect("an upload");
        }));
        if bench.ours_alone {
            continue;
        }
        let peers = [
            "scp -q -F $config big web-1:$path/big",
            "echo \"put big $path/big\" | sftp -q -F $config -b - web-1",
            "rsync -W -e \"ssh -F $config\" big web-1:$path/big",
        ];
        for (runner, text) in runners[1..].iter_mut().zip(peers) {
            runner.rounds.push(fleet.shell(folder.path(), text));
        }
    }
    print(name, &runners);
}

fn small_files(bench: &Bench, name: &str) {
    let mut repository = Repository::of(2000, 4096);
    let fleet = Fleet::start(1, bench.delay_ms);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tree = folder.path().join("tree");
    repository::texts(&tree, 2000, 4096);
    let ours = Ours::start(&fleet, &repository.url());
    // The mirror is there in both ways of working.
    ours.release();
    let mut runners = [
        Runner::new("longshore, a release", None),
        Runner::new("rsync -a", Some(0.8)),
        Runner::new("tar \\| ssh tar", Some(0.8)),
    ];
    let mut again = [
        Runner::new("longshore, a release", None),
        Runner::new("rsync -a", Some(0.5)),
    ];
    let mut rsync = Script::new("rsync");
    let here = Here::Process(ours.pid());
    let counted = |mut usage: Usage| {
        usage.bytes = fleet.machines[0].proxy.take();
        usage
    };
    for _ in 0..bench.rounds {
        fleet.clear();
        runners[0]
            .rounds
            .push(measure(here, &fleet.daemons(), || ours.release()));
        repository.change_one_percent();
        settle();
        fleet.machines[0].proxy.take();
        again[0]
            .rounds
            .push(counted(measure(here, &fleet.daemons(), || ours.release())));
        if bench.ours_alone {
            continue;
        }
        let peers = [
            "rsync -a -e \"ssh -F $config\" tree/ web-1:$path/current/",
            "tar -C tree -c . | ssh -F $config web-1 \"mkdir $path/current && tar -C $path/current -x\"",
        ];
        for (runner, text) in runners[1..].iter_mut().zip(peers) {
            runner.rounds.push(fleet.shell(folder.path(), text));
        }
        fleet.clear();
        rsync.release(&fleet, &repository.url());
        repository.change_one_percent();
        settle();
        fleet.machines[0].proxy.take();
        again[1]
            .rounds
            .push(counted(measure(Here::Children, &fleet.daemons(), || {
                rsync.release(&fleet, &repository.url());
            })));
    }
    print(name, &runners);
    print("again, 1 % of 2,000 files changed", &again);
}

fn fleet_release(bench: &Bench, name: &str) {
    let mut repository = Repository::of(2000, 18_500);
    let fleet = Fleet::start(bench.servers, bench.delay_ms);
    let ours = Ours::start(&fleet, &repository.url());
    let here = Here::Process(ours.pid());
    let mut scripts = [
        Script::new("course"),
        Script::new("script"),
        Script::new("rsync"),
    ];
    let runners = |bounds: [f64; 3]| {
        [
            Runner::new("longshore", None),
            Runner::new("the course's way", Some(bounds[0])),
            Runner::new("git archive, zstd, 8 ssh", Some(bounds[1])),
            Runner::new("rsync, 8 at a time", Some(bounds[2])),
        ]
    };
    let mut first = runners([0.25, 0.9, 0.5]);
    let mut again = runners([0.1, 0.25, 0.3]);
    let mut second = Runner::new("longshore, the second release there", None);
    // The mirrors are there.
    ours.release();
    for _ in 0..bench.rounds {
        fleet.clear();
        let release = || measure(here, &fleet.daemons(), || ours.release());
        first[0].rounds.push(release());
        repository.change_one_percent();
        settle();
        second.rounds.push(release());
        // From the release on after which an old one goes.
        for _ in 1..ours::KEPT {
            repository.change_one_percent();
            ours.release();
        }
        repository.change_one_percent();
        settle();
        again[0].rounds.push(release());
        for (place, script) in scripts.iter_mut().enumerate() {
            if bench.ours_alone || !first[place + 1].name.contains(&bench.beside) {
                continue;
            }
            fleet.clear();
            let url = repository.url();
            let mut release = || {
                measure(Here::Children, &fleet.daemons(), || {
                    script.release(&fleet, &url)
                })
            };
            first[place + 1].rounds.push(release());
            repository.change_one_percent();
            settle();
            again[place + 1].rounds.push(release());
        }
        fleet.forget();
    }
    print(name, &first);
    print("again, 1 % of 2,000 files changed, the fleet", &again);
    print("again, 1 % of 2,000 files changed, the fleet", &[second]);
}
