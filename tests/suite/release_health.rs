//! The health check: what it lets pass, and the way back from a release that it does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Fleet, Gate};
use crate::release_faults::message;
use crate::release_rungs::{FILES, move_to};

/// A service of the release: what it is goes by the release's `index.html`, the process by `pid`.
/// That of `two` dies 2 s after its restart.
const RESTART: &str = r#"pid=../../pid
if [ -e "$pid" ]; then kill "$(cat "$pid")" 2>/dev/null || :; fi
life=600
if [ "$(cat index.html)" = two ]; then life=2; fi
sleep "$life" </dev/null >/dev/null 2>&1 &
echo $! > "$pid""#;

/// The service runs.
const ALIVE: &str = r#"kill -0 "$(cat ../../pid)" || { echo "the service is gone"; exit 7; }"#;

/// Ends the services of a fleet's servers.
struct Services<'a>(&'a Fleet);

impl Services<'_> {
    fn is_alive(&self, machine: usize) -> bool {
        let pid = std::fs::read_to_string(self.0.machines[machine].path().join("pid")).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z "))
    }
}

impl Drop for Services<'_> {
    fn drop(&mut self) {
        for machine in &self.0.machines {
            if let Ok(pid) = std::fs::read_to_string(machine.path().join("pid")) {
                let _ = std::process::Command::new("kill").arg(pid.trim()).output();
            }
        }
    }
}

#[track_caller]
fn assert_says(release: &Value, parts: &[&str]) {
    let message = message(release);
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

#[test]
fn a_service_that_dies_two_seconds_after_its_restart_is_gone_back_from() {
    let fleet = Fleet::of(1);
    let services = Services(&fleet);
    let project = fleet.project(
        json!({"restart": RESTART, "health": ALIVE, "health_seconds": 9, "keep": 1, "after_deploy": "true"}),
    );
    let first = fleet.succeed(&project, "v1");
    assert_eq!(fleet.states(&first, "health"), ["succeeded"]);
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    let back = format!("went back to release {first}");
    assert_says(
        &release,
        &[
            "web-1",
            "health",
            "exit code 7",
            "the service is gone",
            &back,
        ],
    );
    let id = release["id"].as_str().unwrap();
    assert_eq!(fleet.states(id, "health"), ["failed"]);
    assert_eq!(fleet.states(id, "after_deploy"), ["skipped"]);
    let machine = &fleet.machines[0];
    assert_eq!(machine.current(), Some(first.clone()));
    assert_eq!(machine.shown().as_deref(), Some("one"));
    assert!(services.is_alive(0), "the old service runs again");
    let log = fleet.node_log(id, "health-1");
    assert!(
        log.contains("the service is gone") && log.contains("going back"),
        "{log}"
    );

    // The next one finds what it needs, and only then the failed one goes.
    let third = fleet.succeed(&project, "feature");
    assert_eq!(machine.kept(), [third]);
}

#[test]
fn a_server_that_fails_its_check_goes_back_and_the_other_one_stays() {
    let fleet = Fleet::of(2);
    let project = fleet.project(
        json!({"health": "[ \"$(cat index.html)$MACHINE\" != twoweb-2 ]", "health_seconds": 3}),
    );
    let first = fleet.succeed(&project, "v1");
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "partial", "{release}");
    let id = release["id"].as_str().unwrap();
    assert_eq!(fleet.states(id, "health"), ["succeeded", "failed"]);
    assert_says(
        &release,
        &["web-2", &format!("went back to release {first}")],
    );
    assert_eq!(fleet.machines[0].current().as_deref(), Some(id));
    assert_eq!(fleet.machines[1].current(), Some(first));
}

#[test]
fn a_rollback_is_checked_and_goes_back_to_what_was_live() {
    let fleet = Fleet::of(1);
    let flag = tempfile::tempdir().unwrap();
    let ill = flag.path().join("ill");
    let health = format!(
        "[ ! -e {} ] || [ \"$(cat index.html)\" = two ]",
        ill.display()
    );
    let project = fleet.project(json!({"health": health, "health_seconds": 3}));
    let first = fleet.succeed(&project, "v1");
    let second = fleet.succeed(&project, "main");
    std::fs::write(&ill, "").unwrap();
    let back = fleet
        .api
        .post(&format!("releases/{first}/rollback"), &json!({}))
        .expect(201);
    let ended = fleet.ended(back["id"].as_str().unwrap());
    assert_eq!(ended["state"], "failed", "{ended}");
    assert_says(
        &ended,
        &["health", &format!("went back to release {second}")],
    );
    assert_eq!(fleet.machines[0].current(), Some(second));
}

#[test]
fn a_check_that_hangs_is_ended() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"health": "sleep 300", "health_seconds": 2}));
    let begun = Instant::now();
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["took too long", "no other release"]);
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn cancelling_ends_a_check_and_the_server_stays() {
    let fleet = Fleet::of(1);
    let gate = Gate::closed();
    let project = fleet.project(json!({}));
    fleet.succeed(&project, "v1");
    let change = json!({"health": gate.command(), "health_seconds": 600});
    fleet
        .api
        .put(&format!("projects/{project}"), &change)
        .expect(200);
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.cancel(&id, Duration::from_secs(2));
    assert_eq!(fleet.states(&id, "health"), ["cancelled"]);
    assert_eq!(fleet.machines[0].current(), Some(id));
}

/// A service's own check may be deaf to being asked to end, and so may what it starts.
#[test]
fn cancelling_ends_a_check_that_does_not_listen() {
    let fleet = Fleet::of(1);
    let gate = Gate::closed();
    let deaf = format!("trap '' TERM INT HUP; {}", gate.command());
    let project = fleet.project(json!({"health": deaf, "health_seconds": 600}));
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.cancel(&id, Duration::from_secs(2));
}

/// As hosting companies have it: files alone, and a login that sees one folder of the machine (which
/// only root's sshd can do).
#[test]
fn a_server_without_a_shell_says_that_it_cannot_check() {
    let fleet = Fleet::of(1);
    let seen = tempfile::Builder::new()
        .prefix("longshore-chroot")
        .tempdir_in("/var/lib");
    let (config, releases) = match &seen {
        Ok(seen) => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(seen.path(), mode).unwrap();
            let config = format!("ChrootDirectory {}\n{FILES}", seen.path().display());
            (config, seen.path().join("srv/app"))
        }
        Err(_) => (FILES.to_owned(), fleet.machines[0].path()),
    };
    let current = || std::fs::read_link(releases.join("current")).unwrap();
    let is_current = |id: &str| current().ends_with(id);
    let _odd = move_to(&fleet, &config);
    if seen.is_ok() {
        let root = json!({"root": "/"});
        fleet.api.put("servers/1", &root).expect(200);
    }
    let project = fleet.project(json!({}));
    let first = fleet.succeed(&project, "v1");
    let second = fleet.succeed(&project, "main");
    let check = fleet.api.post("servers/1/check", &json!({})).expect(200);
    let told = check["message"].as_str().unwrap();
    assert!(told.contains("health check cannot run there"), "{check}");

    // The form takes it, for the project's servers may change; the release tells which one cannot.
    let path = format!("projects/{project}");
    fleet.api.put(&path, &json!({"health": "true"})).expect(200);
    let release = fleet.release(&project, "feature");
    let id = release["id"].as_str().unwrap();
    assert_eq!(release["state"], "failed", "{release}");
    assert_says(&release, &["web-1", "upload", "runs no commands"]);
    assert_eq!(fleet.states(id, "upload"), ["failed"]);
    for step in ["switch", "restart", "health"] {
        assert_eq!(fleet.states(id, step), ["skipped"], "{step}");
    }
    assert!(!releases.join("releases").join(id).exists());
    assert!(is_current(&second), "{:?}", current());

    // Nor does a rollback switch what it could not check.
    let back = fleet
        .api
        .post(&format!("releases/{first}/rollback"), &json!({}))
        .expect(201);
    let ended = fleet.ended(back["id"].as_str().unwrap());
    assert_eq!(ended["state"], "failed", "{ended}");
    assert_says(&ended, &["web-1", "switch", "runs no commands"]);
    assert!(is_current(&second), "{:?}", current());
}

#[test]
fn a_server_that_reboots_during_its_check_goes_back() {
    let mut fleet = Fleet::of(1);
    let gate = Gate::closed();
    let project = fleet.project(json!({}));
    let first = fleet.succeed(&project, "v1");
    let change = json!({"health": gate.command(), "health_seconds": 60});
    fleet
        .api
        .put(&format!("projects/{project}"), &change)
        .expect(200);
    let id = fleet.submit(&project, "main");
    gate.wait_until_reached();
    fleet.machines[0].sshd.reboot();
    let ended = fleet.ended(&id);
    assert_eq!(ended["state"], "failed", "{ended}");
    assert_says(&ended, &[&format!("went back to release {first}")]);
    assert_eq!(fleet.machines[0].current(), Some(first));
}

#[test]
fn bad_values_are_refused_and_good_ones_come_back() {
    let fleet = Fleet::of(1);
    let project = fleet.project(json!({"health": "true"}));
    let path = format!("projects/{project}");
    let shown = fleet.api.get(&path).expect(200);
    assert_eq!(
        (&shown["health"], &shown["health_seconds"]),
        (&json!("true"), &json!(30))
    );
    for seconds in [json!(0), json!(601), json!("soon")] {
        let refused = fleet
            .api
            .put(&path, &json!({"health_seconds": seconds}))
            .expect(422);
        assert_eq!(refused["field"], "health_seconds", "{refused}");
    }
    let shown = fleet
        .api
        .put(&path, &json!({"health": "", "health_seconds": 600}))
        .expect(200);
    assert_eq!(
        (&shown["health"], &shown["health_seconds"]),
        (&json!(""), &json!(600))
    );
}
