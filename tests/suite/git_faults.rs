//! `longshore git` and what goes wrong: it is killed, the disk is full.

use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

pub fn git(folder: &Path, arguments: &[&str]) -> String {
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
    // The namespace takes the file system with it when the script ends. The root of a chroot, which is no
    // mount point, cannot be made private: there the script's own end does.
    let script = r#"
        mount --make-rprivate / 2>/dev/null || trap 'umount "$disk"' EXIT
        mount -t tmpfs -o size="$1" tmpfs "$2"; disk=$2; program=$3; url=$4; more=$5
        fetch() { "$program" git branches "$url" --allow-loopback --mirrors "$disk/mirrors"; }
        shift 5
        eval "$@"
    "#;
    let run = |size: &str, steps: &str| -> Output {
        Command::new("unshare")
            .args(["--propagation", "unchanged", "-m"])
            .args(["sh", "-euc", script, "sh", size])
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
