//! The output, input and exit of commands.

use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::time::Duration;

use super::sshd::Sshd;
use crate::ssh::{Cancel, Cause, Command, Connection, Exit, Followed, Stream, Underway};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs `text` and returns its lines and its exit, without the output of this machine's login.
pub(super) fn exec(connection: &Connection, text: &str) -> (Exit, Vec<(Stream, String)>) {
    let (exit, mut lines) = exec_with_login(connection, text);
    lines.retain(|(stream, _)| *stream != Stream::Login);
    (exit, lines)
}

/// Calls `act` for each line of a command, and for none of what its login prints.
pub(super) fn on_output(mut act: impl FnMut()) -> impl FnMut(Stream, &str) {
    move |stream, _| {
        if stream != Stream::Login {
            act();
        }
    }
}

fn exec_with_login(connection: &Connection, text: &str) -> (Exit, Vec<(Stream, String)>) {
    let mut lines = Vec::new();
    let exit = connection
        .exec(
            Command::new(text, LIMIT),
            &Cancel::new(),
            &mut |stream, line| {
                lines.push((stream, line.to_owned()));
            },
        )
        .unwrap();
    (exit, lines)
}

fn out(text: &str) -> (Stream, String) {
    (Stream::Out, text.to_owned())
}

fn code(code: i32) -> Exit {
    Exit {
        code: Some(code),
        signal: None,
    }
}

#[test]
fn a_line_arrives_while_the_command_runs() {
    let sshd = Sshd::start();
    let heard = sshd.folder().join("heard");
    let text = format!(
        "echo first; until [ -e {} ]; do sleep 0.05; done; printf second",
        heard.display()
    );
    let mut lines = Vec::new();
    let exit = sshd
        .connect()
        .exec(
            Command::new(&text, LIMIT),
            &Cancel::new(),
            &mut |_, line| {
                lines.push(line.to_owned());
                fs::write(&heard, "").unwrap();
            },
        )
        .unwrap();
    assert!(exit.success());
    assert_eq!(lines, ["first", "second"]);
}

#[test]
fn the_streams_are_separate_and_the_exit_code_is_told() {
    let connection = Sshd::start();
    let connection = connection.connect();
    let (exit, mut lines) = exec(
        &connection,
        "echo out; echo err >&2; printf 'caf\\351'; exit 7",
    );
    lines.sort_by_key(|(stream, _)| *stream == Stream::Err);
    let err = (Stream::Err, "err".to_owned());
    assert_eq!(lines, [out("out"), out("caf\u{fffd}"), err]);
    assert_eq!(exit, code(7));
    assert_eq!(exit.to_string(), "exit code 7");
}

#[test]
fn one_connection_runs_many_commands() {
    let sshd = Sshd::with(&["ed25519"], "MaxSessions 1");
    let connection = sshd.connect();
    for number in 0..20 {
        let (exit, lines) = exec(&connection, &format!("echo {number}; exit {number}"));
        assert_eq!(
            (exit, lines),
            (code(number), vec![out(&number.to_string())])
        );
    }
}

#[test]
fn a_signal_that_killed_the_command_is_told() {
    let sshd = Sshd::start();
    let (exit, lines) = exec(&sshd.connect(), "echo before; kill -TERM $$; echo after");
    assert_eq!(exit.signal.as_deref(), Some("TERM"));
    assert!(!exit.success());
    assert!(lines.contains(&out("before")) && !lines.contains(&out("after")));
    let (exit, _) = exec(&sshd.connect(), "kill -9 0");
    assert_eq!(exit.signal.as_deref(), Some("KILL"));
}

#[test]
fn words_of_the_command_reach_its_shell_as_they_are() {
    let sshd = Sshd::start();
    let text = "printf '%s\\n' \"it's\" '$HOME' '`x`' \"a  b\"\nprintf '%s\\n' 发布 \"$#\"";
    let (_, lines) = exec(&sshd.connect(), text);
    let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["it's", "$HOME", "`x`", "a  b", "发布", "0"]);
}

#[test]
fn a_command_that_lists_processes_does_not_forge_the_wrappers_lines() {
    let sshd = Sshd::start();
    let text = "for p in $$ $PPID; do tr '\\0' ' ' < /proc/$p/cmdline; echo; \
                tr '\\0' '\\n' < /proc/$p/cmdline; done; exit 5";
    assert_eq!(exec(&sshd.connect(), text).0, code(5));
}

#[test]
fn what_the_login_prints_before_is_told_apart() {
    let forced = "ForceCommand printf '\\033]0;me@host\\007welcome '; printf oh >&2; \
                  sh -c \"$SSH_ORIGINAL_COMMAND\"";
    let chatty = Sshd::with(&["ed25519"], forced);
    let command = "echo hello; echo no >&2; exit 3";
    let (exit, mut lines) = exec_with_login(&chatty.connect(), command);
    // The account's own login may print anything or nothing.
    lines.retain(|(stream, line)| {
        *stream != Stream::Login || ["oh", "welcome"].contains(&line.as_str())
    });
    lines.sort_by_key(|(stream, line)| (*stream as u8, line.clone()));
    let login = |line: &str| (Stream::Login, line.to_owned());
    let err = (Stream::Err, "no".to_owned());
    let expected = vec![out("hello"), err, login("oh"), login("welcome")];
    assert_eq!((exit, lines), (code(3), expected));
}

#[test]
fn a_forced_command_that_ignores_ours_is_heard_and_is_not_ours() {
    for (forced, ended) in [("echo forced; exit 4", 4), ("echo forced", 0)] {
        let sshd = Sshd::with(&["ed25519"], &format!("ForceCommand {forced}"));
        let mut lines = Vec::new();
        let command = Command::new("echo hello", LIMIT);
        let connection = sshd.connect();
        let error = connection
            .exec(command, &Cancel::new(), &mut |stream, line| {
                lines.push((stream, line.to_owned()));
            })
            .unwrap_err();
        assert!(!error.is_without_shell(), "{error}");
        assert!(!connection.is_broken());
        match error.cause {
            Cause::LoginEnded { ended: exit, said } => {
                assert_eq!((exit, said.as_str()), (code(ended), "forced"));
            }
            other => panic!("{other}"),
        }
        assert_eq!(lines, [(Stream::Login, "forced".to_owned())]);
    }
}

#[test]
fn a_command_that_reads_without_input_gets_the_end() {
    let sshd = Sshd::start();
    let (exit, lines) = exec(&sshd.connect(), "read x; echo \"$?[$x]\"");
    assert_eq!((exit, lines), (code(0), vec![out("1[]")]));
}

#[test]
fn ten_megabytes_of_output_arrive_whole() {
    let sshd = Sshd::start();
    let text = "head -c 10000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo end";
    let (mut bytes, mut last) = (0, String::new());
    sshd.connect()
        .exec(Command::new(text, LIMIT), &Cancel::new(), &mut |_, line| {
            bytes += line.len();
            line.clone_into(&mut last);
        })
        .unwrap();
    assert_eq!((bytes, last.as_str()), (10_000_003, "end"));
}

#[test]
fn a_flood_on_standard_error_does_not_block_standard_output() {
    let sshd = Sshd::start();
    let text = "head -c 8000000 /dev/zero | tr '\\0' x | fold -w 99 >&2; echo done";
    let (_, lines) = exec(&sshd.connect(), text);
    assert!(lines.contains(&out("done")));
    let errors: usize = lines
        .iter()
        .filter(|line| line.0 == Stream::Err)
        .map(|line| line.1.len())
        .sum();
    assert_eq!(errors, 8_000_000);
}

#[test]
fn a_line_of_megabytes_arrives_in_pieces() {
    let sshd = Sshd::start();
    let (_, lines) = exec(
        &sshd.connect(),
        "head -c 3000000 /dev/zero | tr '\\0' x; echo y",
    );
    assert!(lines.iter().all(|(_, line)| line.len() <= 64 * 1024));
    let whole: String = lines.into_iter().map(|(_, line)| line).collect();
    assert_eq!(whole.len(), 3_000_001);
    assert!(whole.ends_with("xy"));
}

#[test]
fn input_and_output_flow_at_once() {
    let sshd = Sshd::start();
    let line = "0123456789".repeat(10) + "\n";
    let input = line.repeat(100_000);
    let mut returned = 0;
    let exit = sshd
        .connect()
        .exec(
            Command::new("cat; echo $? >&2", LIMIT).stdin(&mut input.as_bytes()),
            &Cancel::new(),
            &mut |stream, text| {
                if stream == Stream::Out {
                    assert_eq!(text.len(), 100);
                    returned += text.len() + 1;
                }
            },
        )
        .unwrap();
    assert!(exit.success());
    assert_eq!(returned, input.len());
}

#[test]
fn a_command_need_not_read_its_input() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let mut endless = io::repeat(b'x');
    let command = Command::new("head -c 5; exec <&-; exit 2", LIMIT).stdin(&mut endless);
    let mut lines = Vec::new();
    let exit = connection
        .exec(command, &Cancel::new(), &mut |_, line| {
            lines.push(line.to_owned())
        })
        .unwrap();
    assert_eq!((exit, lines), (code(2), vec!["xxxxx".to_owned()]));
    assert!(exec(&connection, "true").0.success());
}

#[test]
fn input_that_cannot_be_read_ends_the_command() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the archive is gone"))
        }
    }
    let sshd = Sshd::start();
    let error = sshd
        .connect()
        .exec(
            Command::new("cat > /dev/null; echo finished", LIMIT).stdin(&mut Broken),
            &Cancel::new(),
            &mut |_, line| assert_ne!(line, "finished"),
        )
        .unwrap_err();
    assert!(matches!(error.cause, Cause::Input { .. }), "{error}");
    assert!(error.to_string().contains("the archive is gone"));
}

/// A command that is followed to its line `half`, and its output until then.
fn followed_to_half(connection: &Connection, text: &str) -> (Underway, Vec<String>) {
    let mut lines = Vec::new();
    let mut on_line = |_, line: &str| {
        lines.push(line.to_owned());
        match line {
            "half" => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let command = Command::new(text, LIMIT);
    let followed = connection.exec_until(command, &Cancel::new(), &mut on_line);
    match followed.unwrap() {
        Followed::Underway(underway) => (*underway, lines),
        Followed::Ended(exit) => panic!("{exit}"),
    }
}

#[test]
fn a_command_that_goes_on_meanwhile_is_followed_to_its_end() {
    let sshd = Sshd::with(&["ed25519"], "MaxSessions 1");
    let connection = sshd.connect();
    let going_on = sshd.folder().join("going on");
    let text = format!(
        "echo one; echo half; cat; : >{:?}; echo two; printf three; exit 7",
        going_on.display()
    );
    let (underway, mut lines) = followed_to_half(&connection, &text);
    let mut on_line = |_, line: &str| lines.push(line.to_owned());
    let exit = connection.go_on(underway, LIMIT, &Cancel::new(), &mut on_line);
    assert_eq!(exit.unwrap(), code(7));
    assert_eq!(lines, ["one", "half", "two", "three"]);
    assert!(going_on.exists());
    assert!(exec(&connection, "true").0.success());
}

#[test]
fn a_command_that_never_says_the_line_is_followed_to_its_end() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let mut on_line = |_, _: &str| ControlFlow::Continue(());
    let command = Command::new("echo one; exit 3", LIMIT);
    match connection.exec_until(command, &Cancel::new(), &mut on_line) {
        Ok(Followed::Ended(exit)) => assert_eq!(exit, code(3)),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_command_that_goes_on_can_be_cancelled() {
    let sshd = Sshd::start();
    let connection = sshd.connect();
    let text = "echo half; sleep 1000; echo never";
    let (underway, _) = followed_to_half(&connection, text);
    let cancel = Cancel::new();
    cancel.cancel();
    let mut heard = Vec::new();
    let mut on_line = |_, line: &str| heard.push(line.to_owned());
    let error = connection.go_on(underway, LIMIT, &cancel, &mut on_line);
    let error = error.unwrap_err();
    assert!(
        matches!(error.cause, Cause::Cancelled { killed: true }),
        "{error}"
    );
    assert_eq!(heard, [""; 0]);
}
