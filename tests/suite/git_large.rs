//! `longshore git` and files that do not fit into memory, in a work copy.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::fixture::GitDaemon;
use crate::git_command::{errors, longshore};
use crate::git_faults::git;

const SIZE: usize = 300 << 20;
/// The most memory of each command, the program itself (20 MiB) included, in KiB.
const LITTLE: u64 = 84 << 10;

/// A repository with three states of a large file beside a small one, and a work copy of it.
struct Copies {
    folder: TempDir,
}

impl Copies {
    fn new() -> Self {
        let copies = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let app = copies.path("app");
        let program = ["init", "--quiet", "--initial-branch=main", "app"];
        git(copies.folder.path(), &program);
        git(&app, &["config", "core.compression", "1"]);
        fs::create_dir(app.join("media")).unwrap();
        for (version, content) in ["v1", "v2"].iter().zip([1, 2]) {
            let large = vec![content; SIZE / content as usize];
            fs::write(app.join("media/film"), large).unwrap();
            fs::write(app.join("small"), version).unwrap();
            copies.commit(version);
        }
        // A folder in the place of the large file.
        fs::remove_file(app.join("media/film")).unwrap();
        fs::create_dir(app.join("media/film")).unwrap();
        fs::write(app.join("media/film/part"), "x").unwrap();
        copies.commit("v3");
        copies
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn commit(&self, tag: &str) {
        let app = self.path("app");
        git(&app, &["add", "--all"]);
        let author = ["-c", "user.name=A", "-c", "user.email=a@b"];
        git(&app, &[&author[..], &["commit", "-qm", tag]].concat());
        git(&app, &["tag", tag]);
    }

    /// Does it, and measures the most memory that it had.
    fn does(&self, arguments: &[&str]) -> Result<(), String> {
        let mut running = longshore(self.folder.path(), arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut most = 0;
        while running.try_wait().unwrap().is_none() {
            most = most.max(peak(running.id()));
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = running.wait_with_output().unwrap();
        assert!(0 < most && most < LITTLE, "{arguments:?}: {most} KiB");
        match output.status.success() {
            true => Ok(()),
            false => Err(errors(&output)),
        }
    }

    /// The work copy has this state, in git's own eyes.
    #[track_caller]
    fn is_at(&self, version: &str) {
        let copy = self.path("copy");
        assert_eq!(git(&copy, &["status", "--porcelain"]), "", "{version}");
        let head = git(&copy, &["rev-parse", "HEAD"]);
        assert_eq!(head, git(&self.path("app"), &["rev-parse", version]));
        assert!(copy.join("small").exists());
        // Read anew, not believed by its times.
        let _ = fs::remove_file(copy.join(".git/index"));
        git(&copy, &["reset", "--quiet"]);
        assert_eq!(git(&copy, &["status", "--porcelain"]), "", "{version}");
    }
}

/// VmHWM in KiB; 0 if there is no such process.
fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// A field of `/proc/PID/status`, in KiB; 0 if it cannot be read.
fn status(pid: u32, of: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(of));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn a_large_file_of_a_work_copy_is_written_in_little_memory() {
    let copies = Copies::new();
    let (app, copy) = (copies.path("app"), copies.path("copy"));
    let film = copy.join("media/film");
    let name = copy.to_str().unwrap();
    // A clone's fetch is another matter: libgit2 maps what it receives.
    let clone = Command::new("git")
        .args(["clone", "--quiet", "--no-checkout", "--no-local"])
        .args([&app, &copy])
        .status();
    assert!(clone.unwrap().success());
    git(&copy, &["update-ref", "--no-deref", "HEAD", "v3"]);
    git(&copy, &["reset", "--quiet", "--hard"]);

    copies.does(&["checkout", name, "v1"]).unwrap();
    copies.is_at("v1");
    assert_eq!(fs::metadata(&film).unwrap().len(), SIZE as u64);
    copies.does(&["checkout", name, "v2"]).unwrap();
    copies.is_at("v2");
    copies.does(&["checkout", name, "v3"]).unwrap();
    copies.is_at("v3");
    copies.does(&["reset", name, "v2"]).unwrap();
    copies.is_at("v2");

    // A person's change is not overwritten by a checkout, and is dropped by a reset.
    fs::write(&film, "mine").unwrap();
    let refused = copies.does(&["checkout", name, "v1"]).unwrap_err();
    assert!(
        refused.contains("changed here") && refused.contains("media/film"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&film).unwrap(), "mine");
    copies.does(&["reset", name, "v2"]).unwrap();
    copies.is_at("v2");

    // Nobody is led outside by a link in its way.
    let outside = copies.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(copy.join("media")).unwrap();
    std::os::unix::fs::symlink(&outside, copy.join("media")).unwrap();
    let refused = copies.does(&["checkout", name, "v1"]).unwrap_err();
    assert!(refused.contains("changed here"), "{refused}");
    copies.does(&["reset", name, "v2"]).unwrap();
    copies.is_at("v2");
    assert!(fs::read_dir(&outside).unwrap().next().is_none());

    // Nor is a reset kept by a folder in its place.
    fs::remove_file(&film).unwrap();
    fs::create_dir_all(film.join("mine")).unwrap();
    fs::write(film.join("mine/too"), "mine").unwrap();
    copies.does(&["reset", name, "v2"]).unwrap();
    copies.is_at("v2");
}

/// The pages of the pack are the page cache's; what counts is the heap, which kept holes behind every
/// object: 39 MiB for these.
#[test]
fn a_clone_of_many_files_leaves_no_holes_in_the_heap() {
    let host = GitDaemon::start();
    let app = host.repository.path().join("app");
    // The host is to send, not to look for what is alike.
    git(&app, &["config", "core.bigFileThreshold", "1k"]);
    let mut noise = vec![0; 100_000];
    for number in 0..2000 {
        let folder = app.join(format!("module{}", number % 40));
        fs::create_dir_all(&folder).unwrap();
        rand::fill(&mut noise[..]);
        fs::write(folder.join(format!("noise{number}")), &noise).unwrap();
    }
    host.repository.commit("many", "Many files");
    let home = tempfile::tempdir().unwrap();
    let copy = home.path().join("copy");
    let url = host.url();
    let arguments = ["clone", "--allow-loopback", &url, copy.to_str().unwrap()];
    let mut running = longshore(home.path(), &arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    while running.try_wait().unwrap().is_none() {
        most = most.max(status(running.id(), "RssAnon:"));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(running.wait().unwrap().success());
    assert!(copy.join("module39/noise1999").exists());
    assert!(0 < most && most < 16 << 10, "{most} KiB");
}
