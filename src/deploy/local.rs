//! Commands on the platform's own machine: in their own process group, with a scrubbed environment
//! and a time limit that ends the whole group.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::error::StepError;
use crate::sandbox::{Identity, Isolation, Rooms, Sandbox};
use crate::ssh::{Cancel, Exit, Stream};

/// The interval at which the end of a silent command is checked.
const GLANCE: Duration = Duration::from_millis(40);
/// The time for which output is still read after the command has ended. A daemon left behind may keep
/// the output open for ever.
const DRAIN: Duration = Duration::from_secs(1);
/// The time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(3);
/// The same for a sandbox, which kills its own processes 3 s after TERM.
const SANDBOX_GRACE: Duration = Duration::from_secs(10);
/// The longest line that is passed on whole, in bytes.
const LONGEST_LINE: u64 = 64 << 10;
/// The number of lines that are buffered.
const LINES: usize = 1024;

/// The program of util-linux that changes to another account with all of its groups (`initgroups`).
const SETPRIV: &str = "/usr/bin/setpriv";

/// The longest text in one argument or variable, in bytes: Linux allows 128 KiB.
const LONGEST_ARGUMENT: usize = 100 << 10;

/// The search path of commands: that of a login on Debian.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An account of this machine that runs commands.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    groups: Vec<u32>,
    home: PathBuf,
    shell: String,
}

impl Account {
    /// Looks the account up with `getent`, so that directories other than `/etc/passwd` count.
    pub(super) fn find(name: &str) -> Result<Self, StepError> {
        let unknown = || StepError::Account(name.to_owned());
        let answer = Command::new("getent")
            .args(["passwd", "--", name])
            .output()
            .map_err(StepError::Start)?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let fields: Vec<&str> = text.trim_end().split(':').collect();
        match fields.as_slice() {
            [_, _, uid, gid, _, home, shell, ..] => Ok(Self {
                name: name.to_owned(),
                uid: uid.parse().map_err(|_| unknown())?,
                gid: gid.parse().map_err(|_| unknown())?,
                groups: groups_of(name)?,
                home: PathBuf::from(home),
                shell: (*shell).to_owned(),
            }),
            _ => Err(unknown()),
        }
    }

    /// Starts `program` as this account, with all of its groups if `setpriv` is installed.
    fn command(&self, program: &str) -> Command {
        if !rustix::process::geteuid().is_root() || !Path::new(SETPRIV).exists() {
            let mut command = Command::new(program);
            command.uid(self.uid).gid(self.gid);
            return command;
        }
        let mut command = Command::new(SETPRIV);
        command.args([
            &format!("--reuid={}", self.uid),
            &format!("--regid={}", self.gid),
            "--init-groups",
            "--",
            program,
        ]);
        command
    }

    /// The account's ids for a sandbox.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        }
    }
}

/// All groups of an account.
fn groups_of(name: &str) -> Result<Vec<u32>, StepError> {
    let answer = Command::new("id")
        .args(["-G", "--", name])
        .output()
        .map_err(StepError::Start)?;
    let text = String::from_utf8_lossy(&answer.stdout);
    Ok(text
        .split_whitespace()
        .filter_map(|group| group.parse().ok())
        .collect())
}

/// A sandbox for a command, and its folders in it.
pub(super) struct Confinement<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) rooms: Rooms<'a>,
}

/// A command and its environment.
pub(super) struct LocalCommand<'a> {
    /// Text for `sh`.
    pub(super) text: &'a str,
    /// The working directory.
    pub(super) folder: &'a Path,
    /// Variables beside `PATH`, `HOME`, `USER` and `LANG`.
    pub(super) variables: &'a [(&'static str, String)],
    /// The account that runs it. `None`: the platform's account.
    pub(super) account: Option<&'a Account>,
    /// The sandbox. `None`: the account's permissions are the only limit.
    pub(super) confinement: Option<Confinement<'a>>,
    /// The time after which it is killed.
    pub(super) time_limit: Duration,
}

impl LocalCommand<'_> {
    /// The sandbox, unless it is off.
    fn confinement(&self) -> Option<&Confinement<'_>> {
        let confinement = self.confinement.as_ref()?;
        (confinement.sandbox.isolation() != Isolation::Off).then_some(confinement)
    }

    fn grace(&self) -> Duration {
        self.confinement().map_or(GRACE, |_| SANDBOX_GRACE)
    }
}

/// Runs a command until its end, its time limit or `cancel`. Output goes to `on_line` line by line
/// while it runs.
pub(super) fn run(
    command: &LocalCommand<'_>,
    stdin: Option<&mut (dyn Read + Send)>,
    cancel: &Cancel,
    on_line: &mut dyn FnMut(Stream, &str),
) -> Result<Exit, StepError> {
    let mut child = start(command, stdin.is_some())?;
    let (lines, heard) = sync_channel(LINES);
    listen(child.stdout.take(), Stream::Out, lines.clone());
    listen(child.stderr.take(), Stream::Err, lines);
    let input = child.stdin.take();
    thread::scope(|scope| {
        if let (Some(source), Some(mut input)) = (stdin, input) {
            // A command that closes its input early ends the copy; its exit code says if that was a
            // fault.
            scope.spawn(move || io::copy(source, &mut input));
        }
        let deadline = Instant::now() + command.time_limit;
        let mut drained_at = None;
        loop {
            match heard.recv_timeout(GLANCE) {
                Ok((stream, line)) => on_line(stream, &line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    drained_at = Some(Instant::now());
                    thread::sleep(GLANCE);
                }
            }
            let now = Instant::now();
            match child.try_wait().map_err(StepError::Start)? {
                Some(status) if now >= *drained_at.get_or_insert(now + DRAIN) => {
                    return Ok(exit(status));
                }
                Some(_) => {}
                None if cancel.is_cancelled() => {
                    end(&mut child, command.grace());
                    return Err(StepError::Stopped);
                }
                None if now >= deadline => {
                    end(&mut child, command.grace());
                    return Err(StepError::CommandTimedOut(command.time_limit));
                }
                None => {}
            }
        }
    })
}

fn start(command: &LocalCommand<'_>, has_input: bool) -> Result<Child, StepError> {
    let input = if has_input {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let mut shell = match command.confinement() {
        // The sandbox changes to the account's ids itself, as its last step.
        Some(_) => dressed(Command::new("/bin/sh"), command.account),
        None => scrubbed("/bin/sh", command.account),
    };
    let (text, pieces) = in_pieces(command.text);
    shell
        .arg("-c")
        .arg(text.as_ref())
        .current_dir(command.folder)
        .envs(command.variables.iter().map(|(name, value)| (name, value)))
        .envs(pieces);
    if let Some(Confinement { sandbox, rooms }) = command.confinement() {
        let identity = command.account.map(Account::identity);
        shell = sandbox.confine(&shell, rooms, identity.as_ref());
    }
    shell
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    shell.spawn().map_err(StepError::Start)
}

/// A command without the platform's variables, in its own process group, as `account`. `None`: as the
/// platform.
pub(super) fn scrubbed(program: &str, account: Option<&Account>) -> Command {
    let command = match account {
        Some(account) => account.command(program),
        None => Command::new(program),
    };
    dressed(command, account)
}

/// `command` with the variables of `account` only, in its own process group.
fn dressed(mut command: Command, account: Option<&Account>) -> Command {
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .process_group(0);
    match account {
        Some(account) => {
            command
                .env("HOME", &account.home)
                .env("USER", &account.name)
                .env("SHELL", &account.shell);
        }
        None => {
            for name in ["HOME", "USER", "SHELL"] {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
    }
    command
}

/// A text for a shell and, if the text is too long for an argument, the variables that hold its
/// pieces.
fn in_pieces(text: &str) -> (Cow<'_, str>, Vec<(String, &str)>) {
    if text.len() <= LONGEST_ARGUMENT {
        return (Cow::Borrowed(text), Vec::new());
    }
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(LONGEST_ARGUMENT));
        pieces.push((format!("longshore_script_{}", pieces.len()), piece));
        rest = after;
    }
    let names: Vec<&str> = pieces.iter().map(|(name, _)| name.as_str()).collect();
    let all: String = names.iter().map(|name| format!("${{{name}}}")).collect();
    let text = format!("set -- \"{all}\"; unset {}; eval \"$1\"", names.join(" "));
    (Cow::Owned(text), pieces)
}

/// Sends the lines of `source` until it ends or the receiver is dropped.
fn listen(
    source: Option<impl Read + Send + 'static>,
    stream: Stream,
    lines: SyncSender<(Stream, String)>,
) {
    let Some(source) = source else { return };
    let mut source = BufReader::new(source);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match (&mut source)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut bytes)
            {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            let line = String::from_utf8_lossy(&bytes).into_owned();
            if lines.send((stream, line)).is_err() {
                return;
            }
        }
    });
}

/// Ends the command's process group: TERM, then KILL after `grace`.
fn end(child: &mut Child, grace: Duration) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| group.is_some_and(|group| kill_process_group(group, signal).is_ok());
    signal(Signal::TERM);
    let patience = Instant::now() + grace;
    while Instant::now() < patience {
        let reaped = matches!(child.try_wait(), Ok(Some(_)));
        // A group whose leader is reaped exists as long as one of its processes does.
        if reaped
            && group.is_none_or(|group| rustix::process::test_kill_process_group(group).is_err())
        {
            return;
        }
        thread::sleep(GLANCE);
    }
    signal(Signal::KILL);
    let _ = child.wait();
}

fn exit(status: ExitStatus) -> Exit {
    Exit {
        code: status.code().or(status.signal().map(|signal| 128 + signal)),
        signal: status.signal().map(|signal| signal.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_text(text: &str, limit: u64, cancel: &Cancel) -> (Result<Exit, StepError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        let result = run(
            &LocalCommand {
                text,
                folder: folder.path(),
                variables: &[("LONGSHORE_RELEASE", "7".into())],
                account: None,
                confinement: None,
                time_limit: Duration::from_secs(limit),
            },
            None,
            cancel,
            &mut |stream, line| lines.push(format!("{stream:?} {line}")),
        );
        (result, lines)
    }

    fn is_alive(pid: &str) -> bool {
        // A zombie that nobody has reaped counts as dead.
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn both_streams_and_the_exit_code_come_through() {
        let (result, lines) = run_text(
            "echo out; echo err >&2; printf last; exit 3",
            10,
            &Cancel::new(),
        );
        assert_eq!(result.unwrap().code, Some(3));
        let mut lines = lines;
        lines.sort();
        assert_eq!(lines, ["Err err", "Out last", "Out out"]);
    }

    #[test]
    fn the_environment_is_scrubbed_and_the_input_is_at_its_end() {
        let (result, lines) = run_text("read x; env | sort | cut -d= -f1", 10, &Cancel::new());
        assert!(result.unwrap().success());
        for line in lines {
            let name = line.trim_start_matches("Out ");
            assert!(
                [
                    "HOME",
                    "LANG",
                    "LONGSHORE_RELEASE",
                    "PATH",
                    "PWD",
                    "SHELL",
                    "USER",
                    "_",
                    "OLDPWD",
                    "SHLVL"
                ]
                .contains(&name),
                "{name} leaked"
            );
        }
    }

    #[test]
    fn the_time_limit_ends_the_whole_process_group() {
        let (result, lines) = run_text("sleep 300 & echo $!; wait", 1, &Cancel::new());
        assert!(matches!(result, Err(StepError::CommandTimedOut(_))));
        let pid = lines[0].trim_start_matches("Out ").to_owned();
        assert!(!is_alive(&pid));
    }

    #[test]
    fn cancelling_ends_a_command_that_ignores_term() {
        let cancel = Cancel::new();
        let stop = cancel.clone();
        let folder = tempfile::tempdir().unwrap();
        let mut pid = String::new();
        let result = run(
            &LocalCommand {
                text: "trap '' TERM; echo $$; while :; do sleep 0.1; done",
                folder: folder.path(),
                variables: &[],
                account: None,
                confinement: None,
                time_limit: Duration::from_secs(60),
            },
            None,
            &cancel,
            &mut |_, line| {
                pid = line.to_owned();
                stop.cancel();
            },
        );
        assert!(matches!(result, Err(StepError::Stopped)));
        assert!(!is_alive(&pid));
    }

    #[test]
    fn a_daemon_left_behind_does_not_hold_the_step() {
        let begun = Instant::now();
        let (result, lines) = run_text("sleep 20 & echo $!", 60, &Cancel::new());
        assert!(result.unwrap().success());
        assert!(begun.elapsed() < Duration::from_secs(15));
        let pid: i32 = lines[0].trim_start_matches("Out ").parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn input_reaches_the_command_and_an_early_end_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        for (text, code) in [("wc -c", 0), ("exit 4", 4)] {
            let bytes = vec![b'x'; 3 << 20];
            let mut source = bytes.as_slice();
            let mut said = String::new();
            let result = run(
                &LocalCommand {
                    text,
                    folder: folder.path(),
                    variables: &[],
                    account: None,
                    confinement: None,
                    time_limit: Duration::from_secs(20),
                },
                Some(&mut source),
                &Cancel::new(),
                &mut |_, line| said.push_str(line.trim()),
            );
            assert_eq!(result.unwrap().code, Some(code));
            assert!(code != 0 || said == "3145728");
        }
    }

    /// Docker's socket, for example, is open to a group.
    #[test]
    fn an_account_has_all_of_its_groups() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let name = format!("lsgroups{}", std::process::id());
        let change = |program: &str, arguments: &[&str]| {
            let limit = Instant::now() + Duration::from_secs(30);
            // The user database is locked while another test changes it.
            while !Command::new(program)
                .args(arguments)
                .arg(&name)
                .output()
                .unwrap()
                .status
                .success()
            {
                assert!(Instant::now() < limit, "{program}");
                thread::sleep(GLANCE);
            }
        };
        change("useradd", &["-M", "-G", "tty,adm"]);
        let account = Account::find(&name).unwrap();
        let mut said = String::new();
        let command = LocalCommand {
            text: "id -Gn; id -un",
            folder: Path::new("/"),
            variables: &[],
            account: Some(&account),
            confinement: None,
            time_limit: Duration::from_secs(20),
        };
        let ended = run(&command, None, &Cancel::new(), &mut |_, line| {
            said.push_str(line);
            said.push(' ');
        });
        change("userdel", &["-f"]);
        assert!(ended.unwrap().success(), "{said}");
        let mut words: Vec<&str> = said.split_whitespace().collect();
        words.sort_unstable();
        assert_eq!(words, ["adm", name.as_str(), name.as_str(), "tty"]);
    }
}
