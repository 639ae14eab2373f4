//! `longshore git` and what goes wrong: it is killed, the disk is full, the repository is hostile or
//! huge.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fixture::{GitDaemon, Process, until_true};
use crate::git_command::{errors, longshore};

/// Passes connections on to a git daemon; each gets so many bytes, then it stands still.
struct Slow {
    port: u16,
    most: Arc<AtomicU64>,
}

impl Slow {
    fn start(far: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let most = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&most);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let most = passed.load(Ordering::SeqCst);
                std::thread::spawn(move || pass(near, far, most));
            }
        });
        Self { port, most }
    }

    fn url(&self) -> String {
        format!("git://127.0.0.1:{}/app", self.port)
    }
}

fn pass(mut near: TcpStream, far: u16, most: u64) -> std::io::Result<()> {
    let far = TcpStream::connect(("127.0.0.1", far))?;
    let (mut near_in, mut far_out) = (near.try_clone()?, far.try_clone()?);
    let up = std::thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
    let count = std::io::copy(&mut (&far).take(most), &mut near)?;
    if count < most {
        near.shutdown(Shutdown::Both)?;
    }
    // Else nothing more comes until the other side has gone.
    let _ = up.join();
    Ok(())
}

fn commit_noise(git: &GitDaemon, mib: usize) {
    let mut noise = vec![0; mib << 20];
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    random.read_exact(&mut noise).unwrap();
    std::fs::write(git.repository.path().join("app/noise"), noise).unwrap();
    git.repository.commit("noise", "noise");
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        errors(&output)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Every file below `folder`, with its length.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => files(&entry.path()),
            Ok(found) => vec![(entry.path(), found.len())],
            Err(_) => Vec::new(),
        })
        .collect()
}

/// The one mirror below `folder`, which has to be whole.
fn whole_mirror(folder: &Path, git_host: &GitDaemon) {
    let mirrors: Vec<PathBuf> = folder
        .read_dir()
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    assert_eq!(mirrors.len(), 1, "{mirrors:?}");
    let mirror = mirrors[0].join("mirror.git");
    git(&mirror, &["fsck", "--full", "--strict"]);
    let app = git_host.repository.path().join("app");
    let refs = ["for-each-ref", "--format=%(refname) %(objectname)"];
    assert_eq!(git(&mirror, &refs), git(&app, &refs));
    let left: Vec<_> = files(&mirrors[0])
        .into_iter()
        .filter(|(path, _)| {
            let path = path.to_string_lossy();
            path.contains("pack_git2_") || path.contains("new.git") || path.contains("old.git")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_killed_fetch_heals() {
    let host = GitDaemon::start();
    commit_noise(&host, 6);
    let slow = Slow::start(host.port);
    let folder = tempfile::tempdir().unwrap();
    let mirrors = folder.path().join("mirrors");
    let url = slow.url();
    let arguments = [
        "branches",
        &url,
        "--allow-loopback",
        "--mirrors",
        mirrors.to_str().unwrap(),
    ];
    // At first there is no mirror; then one that is being brought up to date.
    for round in 0..2 {
        slow.most.store(3 << 20, Ordering::SeqCst);
        let mut command = longshore(folder.path(), &arguments);
        let log = folder.path().join("log");
        let mut fetching = Process::start("longshore git", &mut command, &log);
        until_true("half a pack", || {
            assert!(fetching.is_running(), "{}", fetching.log());
            files(&mirrors).iter().any(|(path, length)| {
                path.to_string_lossy().contains("pack_git2_") && *length > 1 << 20
            })
        });
        fetching.kill();
        slow.most.store(u64::MAX, Ordering::SeqCst);
        let healed = longshore(folder.path(), &arguments).output().unwrap();
        assert!(healed.status.success(), "{round}: {}", errors(&healed));
        whole_mirror(&mirrors, &host);
        commit_noise(&host, 6);
    }
}

#[test]
fn a_full_disk_is_named_and_the_next_fetch_heals() {
    let host = GitDaemon::start();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    // The namespace takes the file system with it when the script ends.
    let script = r#"
        mount -t tmpfs -o size="$1" tmpfs "$2"; disk=$2; program=$3; url=$4; more=$5
        fetch() { "$program" git branches "$url" --allow-loopback --mirrors "$disk/mirrors"; }
        shift 5
        eval "$@"
    "#;
    let run = |size: &str, steps: &str| -> Output {
        Command::new("unshare")
            .args(["-m", "sh", "-euc", script, "sh", size])
            .arg(&disk)
            .arg(env!("CARGO_BIN_EXE_longshore"))
            .arg(host.url())
            .arg(host.repository.path().join("app"))
            .arg(steps)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let check = "git -C $disk/mirrors/*/mirror.git fsck --full --strict && ls $disk/mirrors/*/mirror.git/objects/pack";
    let commit = "head -c 6000000 /dev/urandom > $more/noise
        git -C $more add . && git -C $more -c user.name=A -c user.email=a@b commit -qm noise";
    // A mirror that does not fit when it is cloned, and one that no longer does.
    for steps in [
        format!("{commit}; ! fetch || exit 3; mount -o remount,size=60m $disk; fetch; {check}"),
        format!(
            "mount -o remount,size=60m $disk; fetch; {commit}
            full=$(($(df --output=avail -k $disk | tail -1) - 2000))
            head -c ${{full}}k /dev/zero > $disk/filler
            ! fetch || exit 3; rm $disk/filler; fetch; {check}"
        ),
    ] {
        let done = run("3m", &steps);
        let told = errors(&done);
        assert!(done.status.success(), "{steps}\n{told}");
        let told = told
            .lines()
            .find(|line| line.contains("No space left on device"));
        let told = told.unwrap_or_else(|| panic!("{}", errors(&done)));
        assert!(told.contains(disk.to_str().unwrap()), "{told}");
        let listed = String::from_utf8_lossy(&done.stdout);
        assert!(
            listed.contains("main") && !listed.contains("pack_git2_"),
            "{listed}"
        );
    }
}

/// A repository, a work copy and settings full of programs that git would run.
#[test]
fn no_program_of_a_repository_or_of_gits_settings_runs() {
    let host = GitDaemon::start();
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let trap = folder.path().join("trap");
    let text = format!("#!/bin/sh\necho \"$0\" >> {}\ncat\n", mark.display());
    let program = |path: &Path| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    };
    program(&trap);
    let hooks = [
        "post-checkout",
        "post-merge",
        "reference-transaction",
        "post-index-change",
        "pre-auto-gc",
    ];
    let app = host.repository.path().join("app");
    for hook in hooks {
        program(&folder.path().join("template/hooks").join(hook));
        program(&app.join("hooks").join(hook));
        program(&app.join(".githooks").join(hook));
    }
    std::fs::write(
        app.join(".gitattributes"),
        "* filter=trap diff=trap merge=trap\n",
    )
    .unwrap();
    let third = host.repository.commit("three", "Programs");
    let settings = |hooks: &str| {
        let trap = trap.display();
        format!(
            "[core]\n hooksPath = {hooks}\n fsmonitor = {trap}\n sshCommand = {trap}\n gitProxy = {trap}\n\
             [init]\n templateDir = {0}/template\n[filter \"trap\"]\n smudge = {trap}\n clean = {trap}\n \
             process = {trap}\n required = true\n[diff \"trap\"]\n textconv = {trap}\n\
             [credential]\n helper = {trap}\n[uploadpack]\n packObjectsHook = {trap}\n",
            folder.path().display()
        )
    };
    let ours = |arguments: &[&str]| {
        let done = longshore(folder.path(), arguments)
            .env("GIT_TEMPLATE_DIR", folder.path().join("template"))
            .env("GIT_SSH_COMMAND", &trap)
            .env("GIT_PROXY_COMMAND", &trap)
            .env("GIT_ASKPASS", &trap)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", errors(&done));
    };
    std::fs::write(folder.path().join(".gitconfig"), settings("hooks")).unwrap();
    let copy = folder.path().join("copy");
    let (copy_text, url) = (copy.to_str().unwrap(), host.url());
    ours(&["clone", &url, copy_text, "--allow-loopback"]);
    // Then the work copy has them too.
    let mut config = std::fs::OpenOptions::new()
        .append(true)
        .open(copy.join(".git/config"))
        .unwrap();
    config.write_all(settings(".githooks").as_bytes()).unwrap();
    for hook in hooks {
        program(&copy.join(".git/hooks").join(hook));
    }
    host.repository.commit("four", "Something to pull");
    let into = folder.path().join("into");
    let packed = folder.path().join("packed.tar");
    ours(&["pull", copy_text, "--allow-loopback"]);
    ours(&["checkout", copy_text, "feature"]);
    ours(&["checkout", copy_text, "main"]);
    ours(&["reset", copy_text, &third]);
    ours(&[
        "checkout",
        copy_text,
        "main",
        "--into",
        into.to_str().unwrap(),
    ]);
    ours(&[
        "archive",
        copy_text,
        "main",
        "--output",
        packed.to_str().unwrap(),
    ]);
    ours(&[
        "archive",
        &url,
        "main",
        "--allow-loopback",
        "--output",
        packed.to_str().unwrap(),
    ]);
    assert_eq!(
        std::fs::read_to_string(into.join("index.html")).unwrap(),
        "three"
    );
    let ran = std::fs::read_to_string(&mark).unwrap_or_default();
    assert_eq!(ran, "", "these programs ran");

    // The traps are traps: git itself runs into them.
    let _ = Command::new("git")
        .args(["-C", copy_text, "checkout", "feature"])
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(mark.exists(), "git ran none of them either");
}

const FOLDERS: usize = 100;
const FILES: usize = 1000;

/// A repository with a hundred thousand files, no two the same.
fn many_files(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("many.git");
    let created = Command::new("git")
        .args(["init", "--quiet", "--bare", "--initial-branch=main"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(created.success());
    let mut stream =
        "commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 1\nx\n".to_owned();
    for number in 0..FOLDERS * FILES {
        let (below, text) = (number % FOLDERS, format!("file {number}"));
        stream += &format!(
            "M 644 inline d{below}/f{number}\ndata {}\n{text}\n",
            text.len()
        );
    }
    let mut import = Command::new("git")
        .arg("-C")
        .arg(&path)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import
        .stdin
        .take()
        .unwrap()
        .write_all(stream.as_bytes())
        .unwrap();
    assert!(import.wait().unwrap().success());
    path
}

#[test]
fn a_hundred_thousand_files_are_exact_or_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let repository = many_files(&folder);
    let into = folder.path().join("into");
    // Memory that is the process's own is bounded, whatever the tree's size.
    let bounded = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -d 98304; exec \"$0\" git \"$@\""])
            .arg(env!("CARGO_BIN_EXE_longshore"))
            .args(arguments)
            .env("HOME", folder.path())
            .stdin(Stdio::null());
        command
    };
    let (path, into_text) = (repository.to_str().unwrap(), into.to_str().unwrap());
    let arguments = ["checkout", path, "main", "--into", into_text];
    let begun = Instant::now();
    let refused = bounded(&arguments)
        .env("LONGSHORE_GIT_FILES", "90000")
        .output()
        .unwrap();
    assert!(
        !refused.status.success() && errors(&refused).contains("git_files"),
        "{}",
        errors(&refused)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert!(!into.exists());

    let done = bounded(&arguments).output().unwrap();
    assert!(done.status.success(), "{}", errors(&done));
    // What was written is, by git's own count, the tree.
    let index = folder.path().join("index");
    let written = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["--git-dir", path, "--work-tree", into_text])
            .args(arguments)
            .env("GIT_INDEX_FILE", &index)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    written(&["add", "--all"]);
    assert_eq!(
        written(&["write-tree"]).trim(),
        git(&repository, &["rev-parse", "main^{tree}"])
    );

    let packed = bounded(&["archive", path, "main", "--output", "-"])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", errors(&packed));
    let theirs = Command::new("git")
        .args(["-C", path, "archive", "--format=tar", "main"])
        .output()
        .unwrap();
    let names = |tar: &[u8]| -> Vec<Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
        entries
            .filter(|entry| entry.header().entry_type().is_file())
            .map(|entry| entry.path_bytes().into_owned())
            .collect()
    };
    let (mine, theirs) = (names(&packed.stdout), names(&theirs.stdout));
    assert_eq!(mine.len(), FOLDERS * FILES);
    assert!(mine == theirs);
}
