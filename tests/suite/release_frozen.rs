//! Scripts on a server that stand still while the platform dies, and go on after a newer release.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::fixture::{Fleet, Longshore, Sshd, until, until_true};
use crate::release_rungs::move_to;

/// Programs that a release's script starts, from its begin to the switch.
const PROGRAMS: [&str; 5] = ["mkdir", "tar", "mv", "ln", "rm"];

/// A server on which any of these programs can be made to stand still.
struct Freezer {
    folder: TempDir,
    _sshd: Sshd,
}

impl Freezer {
    fn of(fleet: &Fleet) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path().join("bin");
        fs::create_dir(&tools).unwrap();
        for entry in fs::read_dir("/usr/bin").unwrap() {
            let path = entry.unwrap().path();
            symlink(&path, tools.join(path.file_name().unwrap())).unwrap();
        }
        for program in PROGRAMS {
            let (place, at) = (tools.join(program), folder.path().display());
            fs::remove_file(&place).unwrap();
            let text = format!(
                "#!/bin/sh\nif /usr/bin/rm {at}/{program} 2>/dev/null; then\n  echo $$ >{at}/frozen.new\n  \
                 /usr/bin/mv {at}/frozen.new {at}/frozen\n  kill -STOP $$\nfi\nexec /usr/bin/{program} \"$@\"\n"
            );
            fs::write(&place, text).unwrap();
            fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
        }
        let sshd = move_to(fleet, &format!("SetEnv PATH={}", tools.display()));
        Self {
            folder,
            _sshd: sshd,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The script that a program of the next release stands still in: its process and the program's.
    fn freeze(&self, program: &str) -> Frozen<'_> {
        let _ = fs::remove_file(self.at("frozen"));
        fs::write(self.at(program), "").unwrap();
        Frozen {
            freezer: self,
            program: None,
        }
    }
}

struct Frozen<'a> {
    freezer: &'a Freezer,
    program: Option<u32>,
}

impl Frozen<'_> {
    fn wait(&mut self) {
        self.program = Some(until("a program that stands still", || {
            let text = fs::read_to_string(self.freezer.at("frozen")).ok()?;
            let pid = text.trim().parse().ok()?;
            stat(pid).filter(|(state, _)| state == "T").map(|_| pid)
        }));
    }

    /// Lets it go on, and waits until the script has ended.
    fn thaw(&mut self) {
        let program = self.program.take().unwrap();
        let mut family = vec![program];
        // The shells above it, up to sshd.
        while let Some((_, parent)) = stat(*family.last().unwrap())
            && !name(parent).starts_with("sshd")
            && parent > 1
        {
            family.push(parent);
        }
        signal(program, Signal::CONT);
        until_true("the script's end", || {
            family.iter().all(|&pid| !is_alive(pid))
        });
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Some(program) = self.program {
            signal(program, Signal::KILL);
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // One that has ended is none.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// A process's state and its parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

#[test]
fn a_frozen_script_that_goes_on_after_a_newer_release_leaves_that_one_live() {
    // Each program is a shell's first: a slow machine takes its time.
    let settings = Longshore::settings().set("ssh_connect_seconds", "90");
    let mut fleet = Fleet::with(1, settings);
    let freezer = Freezer::of(&fleet);
    let project = fleet.project(json!({"keep": 20}));
    fleet.succeed(&project, "v1");
    for program in PROGRAMS {
        let mut frozen = freezer.freeze(program);
        let old = fleet.submit(&project, "main");
        frozen.wait();
        fleet.longshore.crash_and_restart();
        assert_eq!(fleet.look(&old)["state"], "interrupted", "{program}");
        let newer = fleet.succeed(&project, "feature");
        frozen.thaw();
        let machine = &fleet.machines[0];
        assert_eq!(machine.current(), Some(newer.clone()), "{program}");
        assert_eq!(machine.shown().as_deref(), Some("feature"), "{program}");
        // And the next one finds nothing in its way.
        let next = fleet.succeed(&project, "v1");
        assert_eq!(fleet.machines[0].current(), Some(next), "{program}");
        assert_eq!(
            shown(&fleet, &newer).as_deref(),
            Some("feature"),
            "{program}"
        );
    }
}

/// The page of a kept release.
fn shown(fleet: &Fleet, release: &str) -> Option<String> {
    let releases = fleet.machines[0].path().join("releases");
    fs::read_to_string(Path::new(&releases).join(release).join("index.html")).ok()
}
