//! The end of a command: by its limit, by its caller, by the network; and its daemons, which are
//! not killed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::exec::{exec, on_output};
use super::sshd::{Sshd, wait_until};
use crate::ssh::{Cancel, Cause, Command, Connection, Timeouts};

const LONG: Duration = Duration::from_secs(120);

/// True if the process runs; one that is dead but not yet reaped does not.
fn is_running(process: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}

/// A line that is a process's number. A login's shell may print lines of its own before the
/// command's.
fn number(line: &str) -> Option<String> {
    line.parse::<u32>().ok().map(|_| line.to_owned())
}

fn assert_gone(processes: &[String]) {
    assert_eq!(processes.len(), 2, "{processes:?}");
    for process in processes {
        wait_until("the process is gone", || !is_running(process));
    }
}

const TWO_PROCESSES: &str = "echo $$; sleep 1000 & echo $!; wait";

#[test]
fn the_time_limit_ends_the_whole_process_group() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let mut processes = Vec::new();
    let start = Instant::now();
    let error = connection
        .exec(
            Command::new(TWO_PROCESSES, Duration::from_secs(2)),
            &Cancel::new(),
            &mut |_, line| processes.extend(number(line)),
        )
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::CommandTimedOut { killed: true, .. }),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_gone(&processes);
    assert!(
        exec(&connection, "true").0.success(),
        "the connection stays usable"
    );
}

#[test]
fn cancel_ends_the_whole_process_group_and_its_last_words_arrive() {
    let sshd = Sshd::start();
    let cancel = Cancel::new();
    let mut processes = Vec::new();
    let mut last_words = String::new();
    let start = Instant::now();
    let text = format!("trap 'echo cleaning up; exit 1' TERM; {TWO_PROCESSES}");
    let error = sshd
        .connect()
        .exec(Command::new(&text, LONG), &cancel, &mut |_, line| {
            processes.extend(number(line));
            if line == "cleaning up" {
                line.clone_into(&mut last_words);
            }
            if processes.len() == 2 {
                cancel.cancel();
            }
        })
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::Cancelled { killed: true }),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_gone(&processes);
    assert_eq!(last_words, "cleaning up");
}

#[test]
fn a_command_that_ignores_term_is_killed() {
    let sshd = Sshd::start();
    let cancel = Cancel::new();
    let mut processes = Vec::new();
    let text = format!("trap '' TERM; {TWO_PROCESSES}");
    let error = sshd
        .connect()
        .exec(Command::new(&text, LONG), &cancel, &mut |_, line| {
            processes.extend(number(line));
            if processes.len() == 2 {
                cancel.cancel();
            }
        })
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::Cancelled { killed: true }),
        "{error}"
    );
    assert_gone(&processes);
}

#[test]
fn cancel_ends_a_command_that_floods_and_one_that_does_not_read() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let cancel = Cancel::new();
    let mut count = 0;
    let error = connection
        .exec(Command::new("yes", LONG), &cancel, &mut |_, _| {
            count += 1;
            if count == 1000 {
                cancel.cancel();
            }
        })
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::Cancelled { killed: true }),
        "{error}"
    );

    let mut endless = io::repeat(b'x');
    let command = Command::new("sleep 1000", Duration::from_secs(2)).stdin(&mut endless);
    let error = sshd
        .connect()
        .exec(command, &Cancel::new(), &mut |_, _| {})
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::CommandTimedOut { killed: true, .. }),
        "{error}"
    );
}

#[test]
fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    for status in [0, 3] {
        let start = Instant::now();
        let (exit, lines) = exec(
            &connection,
            &format!("sleep 1000 & echo $!; printf 'no line end'; exit {status}"),
        );
        assert_eq!(exit.code, Some(status));
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(lines[1].1, "no line end");
        assert!(is_running(&lines[0].1), "the daemon is left alone");
        exec(&connection, &format!("kill {}", lines[0].1));
    }
}

#[test]
fn a_silent_command_on_a_living_server_is_not_given_up() {
    let sshd = Sshd::start();
    let timeouts = Timeouts {
        idle: Duration::from_secs(1),
        ..Timeouts::default()
    };
    let connection = Connection::open(&sshd.target(), &timeouts).unwrap();
    assert!(exec(&connection, "sleep 11").0.success());
}

/// A proxy that forwards bytes to the sshd until it is told to swallow them.
fn swallowing_proxy(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let proxy = listener.local_addr().unwrap().port();
    let swallow = Arc::new(AtomicBool::new(false));
    let swallows = Arc::clone(&swallow);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            pass(
                client.try_clone().unwrap(),
                server.try_clone().unwrap(),
                &swallows,
            );
            pass(server, client, &swallows);
        }
    });
    (proxy, swallow)
}

fn pass(mut from: TcpStream, mut to: TcpStream, swallow: &Arc<AtomicBool>) {
    let swallow = Arc::clone(swallow);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if !swallow.load(Ordering::Acquire) && to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn a_server_that_falls_silent_is_given_up_after_the_idle_time() {
    let sshd = Sshd::start();
    let (port, swallow) = swallowing_proxy(sshd.port);
    let timeouts = Timeouts {
        connect: Duration::from_secs(10),
        idle: Duration::from_secs(2),
    };
    let mut target = sshd.target();
    target.port = port;
    let connection = Connection::open(&target, &timeouts).unwrap();
    let mut silent_since = None;
    let error = connection
        .exec(
            Command::new("echo $$; exec sleep 40", LONG),
            &Cancel::new(),
            &mut on_output(|| {
                swallow.store(true, Ordering::Release);
                silent_since = Some(Instant::now());
            }),
        )
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::ConnectionLost { .. }),
        "{error}"
    );
    let took = silent_since.unwrap().elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(25),
        "{took:?}"
    );
    let start = Instant::now();
    drop(connection);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "dropping it does not hang"
    );
}

#[test]
fn a_server_that_goes_away_is_a_lost_connection() {
    let sshd = Sshd::start();
    let error = sshd
        .connect()
        .exec(
            Command::new("kill -9 $(ps -o ppid= -p $PPID)", LONG),
            &Cancel::new(),
            &mut |_, _| {},
        )
        .unwrap_err();
    assert!(
        matches!(error.cause, Cause::ConnectionLost { .. }),
        "{error}"
    );
}
