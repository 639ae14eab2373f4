//! The text sent to the server's shell, and the parsing of the lines that it prints.
//!
//! The exec request is one word, [`REQUEST`]: it means the same to every login shell, including
//! csh, fish and restricted ones. That `sh` reads a program from its standard input. The program is
//! one line, made so that no suffix of it does anything by itself: a login that reads from the
//! standard input may consume its start, and then nothing runs. The empty lines before it are for
//! logins that read a line.
//!
//! The program wraps the command, because SSH alone reports too little. It ensures that the command
//! has a process group of its own, reports its number (so that the whole group can be killed), and
//! reports the exit status (libssh2 cannot distinguish status 0 from none yet, and a daemon that
//! keeps the command's output open delays the end of the channel forever). Both are lines on the
//! command's own output that begin with a random mark, as does a line on its standard error: the
//! bytes before them are the login's. The two halves of the mark are sent separately, so that a
//! login that echoes its input, or a shell that prints the commands it runs, does not print it by
//! chance.

/// The request that starts a program, as sshd passes it to the account's login shell.
pub(super) const REQUEST: &str = "sh";

/// The number of empty lines for logins that read some: they only ever see Enter pressed.
const PADDING: usize = 16;

/// The longest text that is passed to a program as an argument, in bytes: Linux allows 128 KiB in
/// one.
const ARGUMENT: usize = 100 << 10;

/// Quotes `text` for a POSIX shell: whatever it contains, the shell sees one word.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Begin: the mark, `g` (a process group) or `p` (only a process), its number. `$1` is this text,
/// `$2` and `$3` the mark's halves, `$4` the command, `$5` the letter.
const BEGIN: &str =
    r#"printf '%s%s %s %s\n' "$2" "$3" "$5" "$$"; printf '%s%s err\n' "$2" "$3" >&2; "#;

/// End: the mark, `exit` and the status.
const END: &str = r#"; set -- "$2" "$3" "$?"; printf '%s%s exit %s\n' "$@"; exit "$3""#;

/// The command in a process of its own, or in a subshell of the existing shell.
const RUN: [&str; 2] = [r#"sh -c "$4""#, r#"(eval "$4")"#];

/// OpenSSH starts every command as the leader of a group; elsewhere, and below a login shell that
/// does not exec, `setsid` makes it one.
const START: &str = r#"if kill -0 "-$$" 2>/dev/null; then eval "$1"; elif command -v setsid >/dev/null 2>&1; then exec setsid sh -c "$1" sh "$@"; fi; "#;

/// The same for a text that is too long for `setsid`'s arguments.
const START_LONG: &str = r#"if kill -0 "-$$" 2>/dev/null; then eval "$1"; fi; "#;

/// Without a group only the wrapper itself can be killed.
const ALONE: &str = r#"set -- "$1" "$2" "$3" "$4" p; eval "$1""#;

/// The random mark of one command.
pub(super) struct Mark([String; 2]);

impl Mark {
    pub(super) fn new() -> Self {
        let half = || format!("{:016x}", rand::random::<u64>());
        Self([format!("longshore-{}", half()), half()])
    }

    fn whole(&self) -> String {
        self.0.concat()
    }

    /// The input of the [`REQUEST`], which makes it run `command`: in a process of its own, if
    /// `own_process` is set and its length allows it.
    pub(super) fn wrap(&self, command: &str, own_process: bool) -> Vec<u8> {
        let is_long = command.len() > ARGUMENT;
        let run = RUN[usize::from(is_long || !own_process)];
        let body = [BEGIN, run, END].concat();
        let words = [&body, &self.0[0], &self.0[1], command].map(quote);
        let start = if is_long { START_LONG } else { START };
        let program = format!("set -- {} g; {start}{ALONE}", words.join(" "));
        let mut line = "\n".repeat(PADDING);
        line.push_str(r#"eval "$(printf %b '"#);
        encode(&program, &mut line);
        line.push_str("')\"\n");
        line.into_bytes()
    }
}

/// Writes `text` for `printf %b`, without characters that could end the surrounding quotes, a
/// command or a line. Its last byte is none that `printf` or a shell might take for the start of a
/// sequence.
fn encode(text: &str, line: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'\n' => line.push_str(r"\n"),
            b'\\' => line.push_str(r"\\"),
            byte if byte.is_ascii_alphanumeric() || b" _./:,=-+@%$[]{}!*?~^".contains(&byte) => {
                line.push(char::from(byte));
            }
            byte => line.push_str(&format!(r"\0{byte:03o}")),
        }
    }
}

/// The target of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Group(u32),
    Process(u32),
}

impl Victim {
    /// TERM, at most 3 s of waiting (even with a `sleep` that only takes whole seconds), KILL.
    /// Exits with status 0 if no process is left, or the rest got KILL. If orphans are not reaped (in a
    /// container, say), dead processes still seem to exist: `ps` shows their state, if it is
    /// installed.
    pub(super) fn kill_script(self) -> String {
        let (who, column, number) = match self {
            Self::Group(number) => (format!("-{number}"), "pgid", number),
            Self::Process(number) => (format!("{number}"), "pid", number),
        };
        format!(
            "kill -TERM {who} 2>/dev/null; \
             for pause in 0.1 0.2 0.3 0.4 1 1; do \
             kill -0 {who} 2>/dev/null || exit 0; \
             all=$(ps -A -o {column}= -o stat= 2>/dev/null) && [ \"$all\" ] && \
             {{ echo \"$all\" | grep -q '^ *{number}  *[^Z ]' || exit 0; }}; \
             sleep $pause 2>/dev/null || case $pause in 0.1) sleep 1 ;; esac; done; \
             kill -KILL {who} 2>/dev/null || ! kill -0 {who} 2>/dev/null"
        )
    }
}

/// The source of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The account's login, before the command began.
    Login,
    Command,
}

/// Removes the wrapper's lines from one of a command's streams.
pub(super) struct Listener {
    mark: Vec<u8>,
    held: Vec<u8>,
    /// True if the wrapper has begun on this stream.
    pub(super) has_begun: bool,
    /// The target of a kill; known when the wrapper has begun.
    pub(super) victim: Option<Victim>,
    /// The command's exit status as its shell reported it.
    pub(super) status: Option<i32>,
    /// True if no more lines of the wrapper will come.
    is_over: bool,
}

impl Listener {
    pub(super) fn new(mark: &Mark) -> Self {
        Self {
            mark: mark.whole().into_bytes(),
            held: Vec::new(),
            has_begun: false,
            victim: None,
            status: None,
            is_over: false,
        }
    }

    /// Passes `bytes` on, without the wrapper's lines. Bytes that may be the start of a mark are
    /// held back until more arrive.
    pub(super) fn feed(&mut self, bytes: &[u8], pass: &mut dyn FnMut(Origin, &[u8])) {
        if self.is_over {
            return pass(Origin::Command, bytes);
        }
        self.held.extend_from_slice(bytes);
        while let Some(start) = find(&self.held, &self.mark).filter(|_| !self.is_over) {
            pass(self.origin(), &self.held[..start]);
            self.held.drain(..start);
            let Some(end) = self.held.iter().position(|&byte| byte == b'\n') else {
                return;
            };
            let line = self.held[self.mark.len()..end].to_vec();
            self.held.drain(..=end);
            self.hear(&String::from_utf8_lossy(&line));
        }
        let keep = match self.is_over {
            true => 0,
            false => possible_start(&self.held, &self.mark),
        };
        let ready = self.held.len() - keep;
        pass(self.origin(), &self.held[..ready]);
        self.held.drain(..ready);
    }

    /// Passes on the bytes that were held back.
    pub(super) fn finish(&mut self, pass: &mut dyn FnMut(Origin, &[u8])) {
        pass(self.origin(), &self.held);
        self.held.clear();
    }

    fn origin(&self) -> Origin {
        match self.has_begun {
            true => Origin::Command,
            false => Origin::Login,
        }
    }

    fn hear(&mut self, line: &str) {
        let line = line.trim();
        let (word, number) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "exit" => {
                self.status = number.parse().ok();
                self.is_over = self.status.is_some();
            }
            "g" => self.victim = number.parse().ok().map(Victim::Group),
            "p" => self.victim = number.parse().ok().map(Victim::Process),
            "err" => self.is_over = true,
            _ => return,
        }
        self.has_begun = true;
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut from = 0;
    while let Some(offset) = text.get(from..)?.iter().position(|byte| byte == first) {
        if text[from + offset..].starts_with(wanted) {
            return Some(from + offset);
        }
        from += offset + 1;
    }
    None
}

/// The number of bytes at the end of `text` that may be the start of `wanted`.
fn possible_start(text: &[u8], wanted: &[u8]) -> usize {
    (1..wanted.len().min(text.len() + 1))
        .rev()
        .find(|&length| wanted.starts_with(&text[text.len() - length..]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    /// The login's output, the command's, and the values that the wrapper reported.
    fn hear(chunks: &[&str]) -> ([String; 2], Option<Victim>, Option<i32>) {
        let mut listener = Listener::new(&Mark(["mark".into(), "er".into()]));
        let mut passed = [Vec::new(), Vec::new()];
        let mut pass = |origin: Origin, bytes: &[u8]| {
            passed[usize::from(origin == Origin::Command)].extend_from_slice(bytes);
        };
        for chunk in chunks {
            listener.feed(chunk.as_bytes(), &mut pass);
        }
        listener.finish(&mut pass);
        let passed = passed.map(|bytes| String::from_utf8(bytes).unwrap());
        (passed, listener.victim, listener.status)
    }

    /// Feeds a shell that leads a group of its own; returns its output.
    fn run(shell: &[&str], input: &[u8]) -> String {
        let mut child = Command::new("setsid")
            .args(shell)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A shell that has ended reads no more.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
        String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
    }

    #[test]
    fn the_wrappers_lines_are_heard_and_taken_out() {
        let (passed, victim, status) = hear(&["hi marker g 12\nout\nmarmark", "er exit 3\nlate"]);
        assert_eq!(passed, ["hi ", "out\nmarlate"]);
        assert_eq!(victim, Some(Victim::Group(12)));
        assert_eq!(status, Some(3));
    }

    #[test]
    fn what_only_looks_like_a_mark_is_passed_on() {
        assert_eq!(hear(&["mark", "mar"]).0, ["markmar", ""]);
        assert_eq!(
            hear(&["marker err\nmarker exit 1\n"]).0,
            ["", "marker exit 1\n"]
        );
    }

    #[test]
    fn every_kind_of_sh_runs_a_text_as_it_is() {
        let text = "printf '%s\\n' \"it's\" 'a\\nb' '$HOME' \"#$#\" 发布 '`<>|&;!%b\\0101'\t\nprintf 'x\r'\n";
        let shells: [&[&str]; 5] = [
            &["sh"],
            &["busybox", "sh"],
            &["bash", "--posix"],
            &["ksh"],
            &["zsh", "--emulate", "sh"],
        ];
        for shell in shells {
            for own_process in [true, false] {
                let mark = Mark(["mark".into(), "er".into()]);
                let said = run(shell, &mark.wrap(text, own_process));
                let ([before, said], victim, status) = hear(&[&said]);
                let (hash, end) = (if own_process { "#0" } else { "#5" }, "x\r");
                let expected = format!("it's\na\\nb\n$HOME\n{hash}\n发布\n`<>|&;!%b\\0101\n{end}");
                assert_eq!((before.as_str(), said), ("", expected), "{shell:?}");
                assert!(victim.is_some(), "{shell:?}");
                assert_eq!(status, Some(0), "{shell:?}");
            }
        }
    }

    #[test]
    fn a_text_of_any_length_runs() {
        let mark = Mark(["mark".into(), "er".into()]);
        let text = format!(": {}; echo ran", quote(&"'".repeat(64 << 10)));
        let (passed, _, status) = hear(&[&run(&["sh"], &mark.wrap(&text, true))]);
        assert_eq!((passed[1].as_str(), status), ("ran\n", Some(0)));
    }

    /// Like a login that reads from its standard input bytes that were not meant for it.
    #[test]
    fn no_end_of_a_program_does_anything_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        let text = format!(
            "set -eu\n# it's\nfor x in 1; do\ntouch {0}; touch {0}\n\ttouch {0} &\n(touch {0}) || touch {0}\ndone\n",
            made.display()
        );
        let input = Mark::new().wrap(&text, false);
        let whole = PADDING + 1;
        for taken in (whole..input.len()).step_by(7) {
            run(&["sh"], &input[taken..]);
            assert!(
                !made.exists(),
                "{taken}: {:?}",
                String::from_utf8_lossy(&input[taken..])
            );
        }
        run(&["sh"], &input[PADDING..]);
        assert!(made.exists());
    }

    /// As in a container in which dead processes are not reaped.
    #[test]
    fn the_dead_are_not_waited_for() {
        for victim in [Victim::Group, Victim::Process] {
            let mut child = Command::new("setsid")
                .args(["sleep", "600"])
                .spawn()
                .unwrap();
            let group = format!("kill -0 -{}", child.id());
            let sh = |script: &str| Command::new("sh").args(["-c", script]).status().unwrap();
            while !sh(&format!("{group} 2>/dev/null")).success() {
                std::thread::yield_now();
            }
            let begun = std::time::Instant::now();
            assert!(sh(&victim(child.id()).kill_script()).success());
            let took = begun.elapsed();
            assert!(took < std::time::Duration::from_secs(2), "{took:?}");
            assert!(!child.wait().unwrap().success());
        }
    }

    /// With a `sleep` that only takes whole seconds, the fractions of a second become one second.
    #[test]
    fn whole_seconds_are_no_more_patience() {
        let folder = tempfile::tempdir().unwrap();
        let (sleep, slept) = (folder.path().join("sleep"), folder.path().join("slept"));
        let text = format!(
            "#!/bin/sh\ncase $1 in *.*) exit 1 ;; esac\necho $1 >>{}\n",
            slept.display()
        );
        std::fs::write(&sleep, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&sleep, mode).unwrap();
        let mut deaf = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; read never"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        deaf.stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let script = Victim::Process(deaf.id()).kill_script();
        let killing = Command::new("sh")
            .args(["-c", &script])
            .env("PATH", path)
            .status();
        assert!(killing.unwrap().success());
        assert!(!deaf.wait().unwrap().success());
        assert_eq!(std::fs::read_to_string(slept).unwrap(), "1\n1\n1\n");
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(cuts in proptest::collection::vec(0_usize..40, 0..6)) {
            let text = "mmarker p 7\nmarkemark\nmarker exit 0\nm";
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut <= text.len()).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            let chunks: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(
                hear(&chunks),
                (["m".to_owned(), "markemark\nm".to_owned()], Some(Victim::Process(7)), Some(0))
            );
        }

        #[test]
        fn a_real_shell_reads_a_quoted_text_back(text in "[^\0]{0,40}") {
            let output = Command::new("sh")
                .args(["-c", &format!("printf %s {}", quote(&text))])
                .output()
                .unwrap();
            prop_assert_eq!(output.stdout, text.as_bytes());
        }
    }
}
