//! The stages of a sandbox: processes of this program with one thread (and one more during a command's
//! grace period).

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{FIRST_MAPPED_ID, Isolation, MAPPED_IDS, Order, PROGRAM, STAGE, mounts, restrict};

/// The exit code of a sandbox that could not be created.
const BROKEN: u8 = 125;
/// The time that a command has to end after TERM before everything in its sandbox is killed.
const GRACE: Duration = Duration::from_secs(3);
/// The maximum time for a child to enter its user namespace.
const MAPPING: Duration = Duration::from_secs(10);
/// The interval of checking for it.
const GLANCE: Duration = Duration::from_millis(1);

/// Runs a stage, if the program was started as one. Must be called before there is a second thread.
pub fn entry() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != STAGE {
        return None;
    }
    let stage = arguments.next()?;
    let order = arguments.next()?;
    let command: Vec<OsString> = arguments.collect();
    let ended = serde_json::from_str(&order.to_string_lossy())
        .map_err(io::Error::other)
        .and_then(|order| match stage.to_str() {
            Some("supervisor") => supervise(&order, &command),
            Some("init") => init(&order, &command),
            _ => become_command(&order, &command),
        });
    Some(ended.unwrap_or_else(|error| {
        eprintln!("sandbox: {error}");
        ExitCode::from(BROKEN)
    }))
}

/// The next stage as a command.
fn stage(name: &str, order: &Order, command: &[OsString]) -> io::Result<Command> {
    let mut next = Command::new(PROGRAM);
    next.args([STAGE, name])
        .arg(serde_json::to_string(order)?)
        .args(command);
    Ok(next)
}

fn supervise(order: &Order, command: &[OsString]) -> io::Result<ExitCode> {
    close_inherited();
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    if u32::try_from(parent) != Ok(order.parent) {
        return Err(io::Error::other("the platform has ended"));
    }
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP])?;
    if order.isolation == Isolation::Namespaces {
        let outer = make_namespaces()?;
        let order = Order {
            outer,
            ..order.clone()
        };
        let child = stage("init", &order, command)?.spawn()?;
        let end = |child, signal| {
            let _ = kill_process(child, signal);
        };
        // The processes of the namespace end with its init.
        return follow(&mut signals, child, &end, &|| ());
    }
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))?;
    let child = stage("command", order, command)?.spawn()?;
    let end = |child, signal| {
        // Before it has its session, the command has no process group of its own.
        let _ = kill_process_group(child, signal).or_else(|_| kill_process(child, signal));
    };
    follow(&mut signals, child, &end, &|| kill_descendants(me))
}

/// Creates user, mount, PID and IPC namespaces; without the user namespace if the platform can do
/// without it. Returns the outer ids of root in the new user namespace, if one was created.
fn make_namespaces() -> io::Result<Option<(u32, u32)>> {
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() && unshare(own).is_ok() {
        return Ok(None);
    }
    unshare(CloneFlags::CLONE_NEWUSER | own).map_err(told("unshare"))?;
    let outer = (uid.as_raw(), gid.as_raw());
    map_self((0, 0), outer)?;
    Ok(Some(outer))
}

/// Maps the only ids of this process's new user namespace.
fn map_self(inner: (u32, u32), outer: (u32, u32)) -> io::Result<()> {
    write_map("self", "setgroups", "deny")?;
    write_map("self", "uid_map", &format!("{} {} 1", inner.0, outer.0))?;
    write_map("self", "gid_map", &format!("{} {} 1", inner.1, outer.1))
}

fn write_map(process: &str, file: &'static str, text: &str) -> io::Result<()> {
    std::fs::write(Path::new("/proc").join(process).join(file), text).map_err(told(file))
}

/// Adds to the error the name of the operation or path that failed.
pub(super) fn told<E: Into<io::Error>>(
    what: impl std::fmt::Display,
) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

fn init(order: &Order, command: &[OsString]) -> io::Result<ExitCode> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP])?;
    mounts::build(order)?;
    let child = stage("command", order, command)?.spawn()?;
    if order.mapped {
        map_child(child.id())?;
    }
    let end = |_, signal: Signal| {
        // Signals every process in the namespace except its init.
        let signal = nix::sys::signal::Signal::try_from(signal.as_raw()).ok();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), signal);
    };
    follow(&mut signals, child, &end, &|| ())
}

/// Maps user ids for the child as soon as it has a user namespace.
fn map_child(child: u32) -> io::Result<()> {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user"));
    let (own, name) = (namespace("self")?, child.to_string());
    let deadline = Instant::now() + MAPPING;
    while namespace(&name)? == own {
        if Instant::now() >= deadline {
            return Err(io::Error::other("no user namespace"));
        }
        thread::sleep(GLANCE);
    }
    let map = format!("0 {FIRST_MAPPED_ID} {MAPPED_IDS}");
    write_map(&name, "uid_map", &map)?;
    write_map(&name, "gid_map", &map)
}

/// Waits for the end of `child` and reaps all other processes. If this process receives a
/// termination signal, it calls `end` with TERM for the child, and with KILL after the grace
/// period. `finish` is called once the child has ended.
fn follow(
    signals: &mut Signals,
    child: Child,
    end: &(dyn Fn(Pid, Signal) + Sync),
    finish: &dyn Fn(),
) -> io::Result<ExitCode> {
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let child = raw.ok_or_else(|| io::Error::other("no process"))?;
    let mut is_ending = false;
    thread::scope(|scope| {
        for signal in signals.forever() {
            if signal == SIGCHLD {
                if let Some(status) = reap(child) {
                    finish();
                    // Returning would wait for the thread of the grace period.
                    std::process::exit(code_of(status));
                }
            } else if !is_ending {
                is_ending = true;
                end(child, Signal::TERM);
                scope.spawn(move || {
                    thread::sleep(GRACE);
                    end(child, Signal::KILL);
                });
            }
        }
        Err(io::Error::other("no signals"))
    })
}

/// Reaps every child that has ended; returns the status of `child` if it is among them.
fn reap(child: Pid) -> Option<ExitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            found = Some(ExitStatus::from_raw(status.as_raw()));
        }
    }
    found
}

fn code_of(status: ExitStatus) -> i32 {
    let signalled = || status.signal().map_or(1, |signal| 128 + signal);
    status.code().unwrap_or_else(signalled)
}

/// Kills every descendant: an orphan becomes a child of this process.
fn kill_descendants(me: Pid) {
    loop {
        let children = children_of(me);
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kill_process(child, Signal::KILL);
        }
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        thread::sleep(GLANCE);
    }
}

/// The children of `parent`, from `/proc`.
fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_child = |pid: &Pid| {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        // The state and the parent come after the name, which may contain anything.
        let fields = text
            .ok()
            .and_then(|text| Some(text.rsplit_once(')')?.1.to_owned()));
        let ppid = fields.and_then(|fields| fields.split_whitespace().nth(1)?.parse().ok());
        ppid == Some(parent.as_raw_nonzero().get())
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(is_child)
        .collect()
}

/// Becomes the command; returns only if that fails.
fn become_command(order: &Order, command: &[OsString]) -> io::Result<ExitCode> {
    let [program, arguments @ ..] = command else {
        return Err(io::Error::other("no command"));
    };
    // A session of its own, so that the command cannot write to the platform's terminal.
    rustix::process::setsid()?;
    let folder = match order.isolation {
        Isolation::Namespaces => Path::new(super::TREE),
        _ => &order.tree,
    };
    std::env::set_current_dir(folder).map_err(told(folder.display()))?;
    take_identity(order)?;
    restrict::apply(order)?;
    Err(Command::new(program).args(arguments).exec())
}

fn take_identity(order: &Order) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let become_one = |uid: u32, gid: u32, groups: &[u32]| -> io::Result<()> {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&groups).map_err(told("setgroups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(told("setgid"))?;
        set_thread_res_uid(uid, uid, uid).map_err(told("setuid"))
    };
    if let Some(identity) = &order.identity {
        restrict::drop_capabilities()?;
        return become_one(identity.uid, identity.gid, &identity.groups);
    }
    if order.mapped {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(told("unshare"))?;
        let deadline = Instant::now() + MAPPING;
        while std::fs::read_to_string("/proc/self/gid_map")?.is_empty() {
            if Instant::now() >= deadline {
                return Err(io::Error::other("no user ids"));
            }
            thread::sleep(GLANCE);
        }
        return become_one(0, 0, &[]);
    }
    if let Some(outer) = order.outer {
        // Maps back from root of the namespace to the platform's own ids.
        unshare(CloneFlags::CLONE_NEWUSER).map_err(told("unshare"))?;
        return map_self(outer, (0, 0));
    }
    restrict::drop_capabilities()
}

/// Closes descriptors that a library of the platform left open to its children.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        let _ = nix::unistd::close(number);
    }
}
