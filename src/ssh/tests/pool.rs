//! The pool on real servers.

use super::PATIENT;
use std::net::TcpListener;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::exec::{exec, on_output};
use super::sshd::{Sshd, wait_until};
use super::transfer::new;
use crate::secret::Secret;
use crate::ssh::{Cancel, Cause, Command, Credential, Phase, Pool, PoolOptions, Target, Timeouts};

fn pool(connections: usize, opening: usize) -> Pool {
    Pool::new(PoolOptions {
        connections,
        opening,
        idle: Duration::from_secs(60),
    })
}

fn lease(pool: &Pool, target: &Target) -> crate::ssh::Leased {
    pool.lease(target, &PATIENT, &Cancel::new()).unwrap()
}

#[test]
fn a_connection_that_was_returned_is_used_again() {
    let sshd = Sshd::with(&["ed25519"], "MaxSessions 1");
    let pool = pool(8, 8);
    let target = sshd.target();
    for number in 0..5 {
        let (exit, _) = exec(&lease(&pool, &target), &format!("exit {number}"));
        assert_eq!(exit.code, Some(number));
    }
    assert_eq!(
        sshd.log().matches("Accepted publickey").count(),
        1,
        "{}",
        sshd.log()
    );
    assert_eq!(pool.counts(), (1, 0));
    let (first, second) = (lease(&pool, &target), lease(&pool, &target));
    assert_eq!(pool.counts(), (0, 2));
    assert!(exec(&first, "true").0.success() && exec(&second, "true").0.success());
    drop((first, second));
    let new = pool.lease_new(&target, &PATIENT, &Cancel::new()).unwrap();
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 3);
    drop(new);
    drop(pool);
    wait_until("all are closed", || sshd.connections() == 0);
}

#[test]
fn what_makes_another_login_is_never_used_again() {
    let sshd = Sshd::start();
    let pool = pool(8, 8);
    let target = sshd.target();
    drop(lease(&pool, &target));
    let denied = |change: &dyn Fn(&mut Target)| {
        let mut other = target.clone();
        change(&mut other);
        pool.lease(&other, &PATIENT, &Cancel::new())
            .unwrap_err()
            .cause
    };
    let cause = denied(&|other| other.host_key = None);
    assert!(matches!(cause, Cause::UnknownHostKey { .. }), "{cause}");
    let cause = denied(&|other| other.credential = Credential::Password(Secret::new("x".into())));
    assert!(
        matches!(cause, Cause::AuthenticationFailed { .. }),
        "{cause}"
    );
    // A second credential that this server does not ask for also gets a connection of its own.
    let mut both = target.clone();
    let password = Secret::new("x".into());
    both.credential = both.credential.and_password(Some(password));
    drop(lease(&pool, &both));
    assert_eq!(pool.counts(), (2, 0));
    let cause = denied(&|other| other.user = "longshore-nobody".into());
    assert!(
        matches!(cause, Cause::AuthenticationFailed { .. }),
        "{cause}"
    );
    let cause = denied(&|other| {
        other.credential = Credential::KeyFile {
            path: "/nowhere".into(),
            passphrase: None,
        };
    });
    assert!(matches!(cause, Cause::KeyUnreadable { .. }), "{cause}");
    assert_eq!(pool.counts(), (2, 0));
}

#[test]
fn a_broken_connection_is_closed_and_a_harmless_error_does_not_break_it() {
    let sshd = Sshd::start();
    let pool = pool(8, 8);
    let target = sshd.target();
    let leased = lease(&pool, &target);
    let missing = sshd.folder().join("missing/file");
    let nothing = &mut "x".as_bytes();
    leased
        .upload_from(
            nothing,
            missing.to_str().unwrap(),
            new(0o644),
            &Cancel::new(),
            &mut |_| {},
        )
        .unwrap_err();
    assert!(!leased.is_broken());
    drop(leased);
    assert_eq!(pool.counts(), (1, 0));
    let leased = lease(&pool, &target);
    leased
        .exec(
            Command::new("echo begun; sleep 60", Duration::from_secs(60)),
            &Cancel::new(),
            &mut on_output(|| sshd.kill_connections()),
        )
        .unwrap_err();
    assert!(leased.is_broken());
    drop(leased);
    assert_eq!(pool.counts(), (0, 0));
    assert!(exec(&lease(&pool, &target), "true").0.success());
}

#[test]
fn a_server_that_restarted_meanwhile_is_connected_to_anew() {
    let mut sshd = Sshd::start();
    let pool = pool(8, 8);
    let target = sshd.target();
    drop(lease(&pool, &target));
    assert_eq!(pool.counts(), (1, 0));
    sshd.kill_connections();
    sshd.restart();
    assert!(exec(&lease(&pool, &target), "true").0.success());
}

#[test]
fn unused_connections_are_closed_after_a_time() {
    let sshd = Sshd::start();
    let pool = Pool::new(PoolOptions {
        idle: Duration::from_millis(300),
        ..PoolOptions::default()
    });
    drop(lease(&pool, &sshd.target()));
    wait_until("it is closed", || {
        pool.counts() == (0, 0) && sshd.connections() == 0
    });
}

/// Fault 25 of the list: an sshd that drops connections which are not logged in yet.
#[test]
fn thirty_at_once_get_through_an_sshd_that_turns_some_away() {
    for (startups, opening) in [("10:30:100", 8), ("2", 8), ("1", 30)] {
        let sshd = Sshd::with(&["ed25519"], &format!("MaxStartups {startups}"));
        let pool = pool(64, opening);
        let target = sshd.target();
        let (start, all) = (Barrier::new(30), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..30 {
                scope.spawn(|| {
                    start.wait();
                    let leased = lease(&pool, &target);
                    // No connection is shared: each is held until all have one.
                    all.fetch_add(1, Ordering::AcqRel);
                    wait_until("all have one", || all.load(Ordering::Acquire) == 30);
                    assert!(exec(&leased, "true").0.success());
                });
            }
        });
        assert_eq!(pool.counts(), (30, 0), "MaxStartups {startups}");
    }
}

#[test]
fn there_are_never_more_than_allowed_and_who_waits_gets_one() {
    let sshd = Sshd::start();
    let pool = pool(3, 2);
    let target = sshd.target();
    let most = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let leased = lease(&pool, &target);
                most.fetch_max(pool.counts().1, Ordering::AcqRel);
                assert!(exec(&leased, "true").0.success());
            });
        }
    });
    assert!(most.into_inner() <= 3);
    let held: Vec<_> = (0..3).map(|_| lease(&pool, &target)).collect();
    let cancel = Cancel::new();
    let error = thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.lease(&target, &PATIENT, &cancel));
        thread::sleep(Duration::from_millis(50));
        cancel.cancel();
        waiting.join().unwrap().unwrap_err()
    });
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    drop(held);
}

#[test]
fn another_servers_idle_connection_makes_room() {
    let (one, other) = (Sshd::start(), Sshd::start());
    let pool = pool(1, 1);
    drop(lease(&pool, &one.target()));
    assert!(exec(&lease(&pool, &other.target()), "true").0.success());
    wait_until("the first is closed", || one.connections() == 0);
    assert_eq!(pool.counts(), (1, 0));
}

#[test]
fn a_host_that_hangs_costs_only_itself() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let sshd = Sshd::start();
    let pool = pool(64, 2);
    let target = sshd.target();
    let mut hanging = target.clone();
    hanging.port = silent.local_addr().unwrap().port();
    let cancel = Cancel::new();
    thread::scope(|scope| {
        let stuck: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| pool.lease(&hanging, &PATIENT, &cancel)))
            .collect();
        wait_until("both hang", || pool.counts().1 == 2);
        for _ in 0..10 {
            assert!(exec(&lease(&pool, &target), "true").0.success());
        }
        assert_eq!(pool.counts(), (1, 2), "both hang still");
        cancel.cancel();
        for stuck in stuck {
            let error = stuck.join().unwrap().unwrap_err();
            assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
        }
    });
    assert_eq!(pool.counts(), (1, 0));
    let hasty = Timeouts {
        connect: Duration::from_millis(200),
        ..PATIENT
    };
    let error = pool.lease(&hanging, &hasty, &cancel.part()).unwrap_err();
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    let error = pool.lease(&hanging, &hasty, &Cancel::new()).unwrap_err();
    let phase = Phase::Handshake;
    assert!(
        matches!(error.cause, Cause::TimedOut { phase: at, .. } if at == phase),
        "{error}"
    );
}

#[test]
fn a_cancel_ends_a_connect_that_hangs() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let sshd = Sshd::start();
    let mut hanging = sshd.target();
    hanging.port = silent.local_addr().unwrap().port();
    let (pool, cancel) = (pool(4, 4), Cancel::new());
    let start = Instant::now();
    let error = thread::scope(|scope| {
        let stuck = scope.spawn(|| pool.lease(&hanging, &PATIENT, &cancel));
        wait_until("it hangs", || pool.counts().1 == 1);
        cancel.cancel();
        stuck.join().unwrap().unwrap_err()
    });
    assert!(matches!(error.cause, Cause::Cancelled { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4));
}

/// The connection that kills a command takes a slot like any other, and gives up if there is none.
#[test]
fn the_connection_that_kills_a_command_is_one_of_the_pool() {
    for (most, can_kill) in [(2, true), (1, false)] {
        let sshd = Sshd::start();
        let pool = pool(most, 8);
        let leased = lease(&pool, &sshd.target());
        let mut process = String::new();
        let start = Instant::now();
        let error = leased
            .exec(
                Command::new("echo $$; exec sleep 1000", Duration::from_secs(1)),
                &Cancel::new(),
                &mut |_, line| line.clone_into(&mut process),
            )
            .unwrap_err();
        match error.cause {
            Cause::CommandTimedOut { killed, .. } => assert_eq!(killed, can_kill),
            other => panic!("{other}"),
        }
        assert!(start.elapsed() < Duration::from_secs(25));
        assert_eq!(pool.counts(), (most - 1, 1));
        let logins = sshd.log().matches("Accepted publickey").count();
        assert_eq!(logins, most);
        if !can_kill {
            super::sshd::run("kill", &["-KILL", &process]);
        }
    }
}
