//! The rungs that other rows do not tread: a server without a shell, and files that releases share.

use crate::fleet::{Fleet, settle};
use crate::ours::Ours;
use crate::repository::{self, Repository};
use crate::rows::{Bench, Row, Runner, print};
use crate::usage::{Here, measure};

pub const ROWS: [Row; 2] = [
    Row {
        name: "2,000 files of 4 KB to a server without a shell",
        run: without_shell,
    },
    Row {
        name: "1 % of 2,000 files changed, files shared by hard links",
        run: shared,
    },
];

fn without_shell(bench: &Bench, name: &str) {
    let repository = Repository::of(2000, 4096);
    let fleet = Fleet::without_shells(1, bench.delay_ms);
    let folder = tempfile::tempdir().expect("a temporary folder");
    repository::texts(&folder.path().join("tree"), 2000, 4096);
    let ours = Ours::start(&fleet, &repository.url());
    ours.release();
    let mut runners = [
        Runner::new("longshore, a release", None),
        Runner::new("sftp, put -r", None),
    ];
    for _ in 0..bench.rounds {
        fleet.clear();
        let release = || ours.release();
        let here = Here::Process(ours.pid());
        runners[0]
            .rounds
            .push(measure(here, &fleet.daemons(), release));
        if !bench.ours_alone {
            let put = "echo \"put -r tree $path/current\" | sftp -q -F $config -b - web-1";
            runners[1].rounds.push(fleet.shell(folder.path(), put));
        }
    }
    print(name, &runners);
}

/// Ours alone, beside itself: a copy of what did not change, and a hard link.
fn shared(bench: &Bench, name: &str) {
    let mut repository = Repository::of(2000, 18_500);
    let fleet = Fleet::start(bench.servers, bench.delay_ms);
    let mut ours = Ours::start(&fleet, &repository.url());
    let mut runners = [("link", "shared"), ("copy", "copied")]
        .map(|(unchanged, what)| (unchanged, Runner::new(what, None)));
    for _ in 0..bench.rounds {
        for (unchanged, runner) in &mut runners {
            ours.change_project("unchanged", unchanged);
            fleet.clear();
            ours.release();
            repository.change_one_percent();
            settle();
            let release = || ours.release();
            let here = Here::Process(ours.pid());
            runner.rounds.push(measure(here, &fleet.daemons(), release));
        }
        fleet.forget();
    }
    print(name, &runners.map(|(_, runner)| runner));
}
