//! The reach of a project's commands on the platform's machine, and what they leave there.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;
use std::time::Duration;

use nix::libc::{SYS_add_key, SYS_landlock_create_ruleset};
use serde_json::json;

use crate::fixture::{Fleet, Gate, Longshore, Settings, Someone, USER, until_true};

/// Debian's `daemon`, an account that every machine has.
const ACCOUNT: u32 = 1;

/// Takes the namespaces away from the program that follows, as a container's system does.
fn no_namespaces() -> &'static [&'static str] {
    if has_user_namespaces() {
        &NO_NAMESPACES
    } else {
        &[
            "setpriv",
            "--inh-caps",
            "-sys_admin",
            "--bounding-set",
            "-sys_admin",
        ]
    }
}

/// False in a chroot (clone(2), EPERM) and in most containers: there a platform that is not root has no
/// namespaces.
fn has_user_namespaces() -> bool {
    let tried = Command::new("unshare").args(["-Ur", "true"]).output();
    tried.expect("unshare").status.success()
}

const NO_NAMESPACES: [&str; 5] = [
    "unshare",
    "-Ur",
    "sh",
    "-c",
    "for kind in user mnt pid; do echo 0 > /proc/sys/user/max_${kind}_namespaces || exit 9; done; exec \"$0\" \"$@\"",
];

/// Prints what it can read of the platform's, each line with a mark of its own.
fn spy(fleet: &Fleet) -> String {
    let files = fleet.longshore.files();
    let data = files
        .iter()
        .find(|path| path.ends_with("secret.key"))
        .and_then(|path| path.parent())
        .expect("the key")
        .display()
        .to_string();
    let pid = fleet.longshore.pid();
    [
        format!("cat ../../../secret.key {data}/secret.key >/dev/null 2>&1 && echo STOLEN key"),
        format!("head -c 1 {data}/longshore.db >/dev/null 2>&1 && echo STOLEN database"),
        format!("ls {data}/mirrors {data}/work {data}/logs >/dev/null 2>&1 && echo STOLEN folders"),
        format!("cat /proc/{pid}/environ /proc/$PPID/environ >/dev/null 2>&1 && echo STOLEN process"),
        "grep -lz LONGSHORE_LISTEN_SECRET /proc/[0-9]*/environ 2>/dev/null && echo STOLEN variables".to_owned(),
        format!("kill -0 {pid} 2>/dev/null && echo STOLEN signal"),
        "touch /etc/stolen /usr/stolen 2>/dev/null && echo STOLEN system".to_owned(),
        "echo ENDED; echo built > built.txt; echo x > \"$TMPDIR/own\" || exit 1; echo y > \"$HOME/own\"".to_owned(),
    ]
    .join("\n")
}

fn settings() -> Settings {
    Longshore::settings().variable("CLOUD_SECRET", "LONGSHORE_LISTEN_SECRET")
}

fn nothing_is_stolen(settings: Settings) -> (Fleet, String) {
    let fleet = Fleet::with(1, settings);
    let spy = spy(&fleet);
    let project =
        fleet.project(json!({"before_download": spy, "after_download": spy, "build": spy}));
    let id = fleet.succeed(&project, "main");
    let mut logs = String::new();
    for key in ["before_download", "after_download", "compile"] {
        let row = fleet.tree(&id).into_iter().find(|row| {
            row["key"]
                .as_str()
                .is_some_and(|found| found.replace('-', "_") == key)
        });
        let log = fleet.node_log(&id, row.expect(key)["key"].as_str().unwrap());
        assert!(
            log.contains("ENDED") && !log.contains("STOLEN"),
            "{key}: {log}"
        );
        logs += &log;
    }
    let built = fleet.machines[0].path().join("current/built.txt");
    assert_eq!(std::fs::read_to_string(built).unwrap(), "built\n");
    (fleet, logs)
}

#[test]
fn a_build_of_a_platform_that_is_root_reads_none_of_its_secrets() {
    let (_, logs) = nothing_is_stolen(settings());
    assert!(!logs.contains("without a full sandbox"), "{logs}");
}

#[test]
fn a_build_under_run_as_reads_none_of_the_platforms_secrets() {
    nothing_is_stolen(settings().set("run_as", "daemon"));
}

#[test]
fn a_build_of_a_platform_that_is_not_root_reads_none_of_its_secrets() {
    let (_, logs) = nothing_is_stolen(settings().owned_by(ACCOUNT));
    let is_confined = !logs.contains("without a full sandbox");
    assert_eq!(is_confined, has_user_namespaces(), "{logs}");
}

#[test]
fn a_build_without_namespaces_reads_no_secrets_and_the_platform_says_what_is_missing() {
    let (fleet, logs) = nothing_is_stolen(settings().under(no_namespaces()));
    assert!(logs.contains("without a full sandbox"), "{logs}");
    let log = fleet.longshore.log();
    assert!(log.contains("builds run without a full sandbox"), "{log}");
    assert!(tells_on_the_projects_page(&fleet));
}

/// True where the page of a project says that builds run without a full sandbox.
fn tells_on_the_projects_page(fleet: &Fleet) -> bool {
    let page = Someone::logged_in(&fleet.longshore, USER).get("/projects/1/edit");
    assert_eq!(page.status, 200, "{}", page.text);
    page.text.contains("id=\"unconfined\"")
}

/// Asks for things of the machine that no file system shows: a key of the kernel's keyrings, and a
/// connection to the abstract socket `name`. Prints what was reached, and the version of the kernel's
/// Landlock, which keeps sockets apart from the sixth on.
fn reach_out(name: &str) -> String {
    let (add_key, landlock) = (SYS_add_key, SYS_landlock_create_ruleset);
    format!(
        r#"perl -MSocket -e '
        my ($type, $key, $text) = ("user", "longshore", "x");
        print "REACHED keyring\n" if syscall({add_key}, $type, $key, $text, 1, -4) != -1;
        socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die;
        print "REACHED socket\n" if connect($socket, pack("S a*", AF_UNIX, "\0{name}"));
        print "landlock ", syscall({landlock}, 0, 0, 1), "\n";'"#
    )
}

#[test]
fn a_build_reaches_neither_the_kernels_keyrings_nor_sockets_without_a_file() {
    let name = format!("longshore-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"build": reach_out(&name)}));
    let id = fleet.succeed(&project, "main");
    let log = fleet.node_log(&id, "compile");
    let version = log.split("landlock ").nth(1).expect(&log).trim();
    let version: i32 = version.parse().expect(&log);
    assert!(!log.contains("REACHED keyring"), "{log}");
    assert!(version < 6 || !log.contains("REACHED socket"), "{log}");
    assert!(!tells_on_the_projects_page(&fleet));
}

#[test]
fn a_platform_that_requires_a_sandbox_does_not_start_without_one() {
    let started = std::panic::catch_unwind(|| {
        settings()
            .under(no_namespaces())
            .set("build_sandbox", "require")
            .start()
    });
    let message = started.err().expect("a refusal");
    let message = message.downcast_ref::<String>().expect("a text");
    assert!(message.contains("build_sandbox"), "{message}");
}

/// The number of processes of the machine that were started as `sleep SECONDS`.
fn sleepers(seconds: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let command = format!("sleep\0{seconds}\0");
    processes
        .filter(|entry| {
            std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line == command)
        })
        .count()
}

fn nothing_is_left_behind(settings: Settings, seconds: &str) {
    let fleet = Fleet::with(1, settings);
    let start = format!(
        "setsid sleep {seconds} & setsid sh -c 'sleep {seconds} & sleep {seconds}' & sleep 0.3"
    );
    let project = fleet.project(json!({"build": start}));
    fleet.succeed(&project, "main");
    assert_eq!(sleepers(seconds), 0);

    let gate = Gate::closed();
    let stubborn = format!("{start}; trap '' TERM; {}; sleep {seconds}", gate.command());
    let project =
        fleet.project(json!({"title": "stubborn", "path": "/srv/stubborn", "build": stubborn}));
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.cancel(&id, Duration::from_secs(15));
    until_true("the end of everything in the build", || {
        sleepers(seconds) == 0
    });
}

#[test]
fn nothing_that_a_build_starts_outlives_it() {
    nothing_is_left_behind(Longshore::settings(), "86311");
}

#[test]
fn nothing_that_a_build_starts_outlives_it_without_namespaces() {
    let settings = Longshore::settings().under(no_namespaces());
    nothing_is_left_behind(settings, "86312");
}

#[test]
fn a_build_ends_with_the_platform() {
    let mut fleet = Fleet::of(1);
    let gate = Gate::closed();
    let build = format!("setsid sleep 86313 & {}", gate.command());
    let project = fleet.project(json!({"build": build}));
    fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.longshore.crash_and_restart();
    until_true("the build's end", || sleepers("86313") == 0);
}

#[test]
fn a_link_that_a_build_makes_and_that_leaves_the_tree_is_refused() {
    let fleet = Fleet::of(1);
    let links = [
        "ln -s /etc/passwd web",
        "mkdir -p a/b && ln -s ../../../x a/b/up",
        "mkdir d && ln -s .. d/up && ln -s d/up/../secret deep",
    ];
    for (number, link) in links.into_iter().enumerate() {
        let (title, path) = (format!("p{number}"), format!("/srv/p{number}"));
        let project = fleet.project(json!({"title": title, "path": path, "build": link}));
        let release = fleet.release(&project, "main");
        assert_eq!(release["state"], "failed", "{link}: {release}");
        let message = crate::release_faults::message(&release);
        assert!(message.contains("leaves the work tree"), "{message}");
    }
    let inside = "mkdir -p a/b; echo 1 > a/file; ln -s ../file a/b/link; ln -s a/b/link top";
    let project = fleet.project(json!({"title": "inside", "path": "/srv/inside", "build": inside}));
    fleet.succeed(&project, "main");
}

#[test]
fn a_projects_cache_outlives_its_builds_and_is_its_own() {
    let fleet = Fleet::of(1);
    let count = "echo again >> \"$HOME/builds\"; mkdir -p \"$XDG_CACHE_HOME\"; wc -l < \"$HOME/builds\"; \
                 mkdir -p \"$HOME/go/mod\"; chmod 555 \"$HOME/go/mod\"";
    let project = fleet.project(json!({"build": count}));
    let other = fleet.project(json!({"title": "other", "path": "/srv/other", "build": count}));
    for (project, lines) in [
        (&project, "1"),
        (&project, "2"),
        (&other, "1"),
        (&project, "3"),
    ] {
        let id = fleet.succeed(project, "main");
        let log = fleet.node_log(&id, "compile");
        assert_eq!(log.split_whitespace().last(), Some(lines), "{log}");
    }
}

#[test]
fn a_cache_beyond_its_bound_begins_anew() {
    let fleet = Fleet::with(1, Longshore::settings().set("build_cache_bytes", "1000000"));
    let fill = "ls \"$HOME\" | wc -l; head -c 2000000 /dev/urandom > \"$HOME/big\"";
    let project = fleet.project(json!({"build": fill}));
    for _ in 0..2 {
        let id = fleet.succeed(&project, "main");
        let log = fleet.node_log(&id, "compile");
        assert_eq!(log.split_whitespace().last(), Some("0"), "{log}");
    }
}
