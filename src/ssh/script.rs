//! The text that goes to the server's shell, and what that text tells back.
//!
//! A command is wrapped, because SSH alone does not tell enough. The wrapper makes sure that the
//! command has a process group of its own, tells its number (so that the whole group can be
//! killed), and tells the exit status (libssh2 cannot tell status 0 from none yet, and a daemon
//! that keeps the command's output open delays the end of the channel for ever). Both are lines
//! on the command's own output that begin with a random mark. The mark's halves travel apart,
//! so that a command that lists processes does not print it by chance.

/// Quotes `text` for a POSIX shell: whatever it contains, the shell sees one word.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Begin: the mark, `g` (a process group) or `p` (only a process), its number. End: the mark,
/// `exit` and the status. `$1` is this text, `$2` the command, `$3` and `$4` the mark's halves.
const RUN: &str = r#"printf '%s%s %s %s\n' "$3" "$4" "${alone:-g}" "$$"; sh -c "$2"; status=$?; printf '%s%s exit %s\n' "$3" "$4" "$status"; exit "$status""#;

/// OpenSSH starts every command as the leader of a group; elsewhere `setsid` makes it one. Where
/// that is missing too, only the wrapper itself can be killed.
const START: &str = r#"if kill -0 "-$$" 2>/dev/null; then eval "$1"; elif command -v setsid >/dev/null 2>&1; then exec setsid sh -c "$1" sh "$@"; else alone=p; eval "$1"; fi"#;

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

    /// What to ask the server to run, so that it runs `command`.
    pub(super) fn wrap(&self, command: &str) -> String {
        let words = [START, "sh", RUN, command, &self.0[0], &self.0[1]].map(quote);
        format!("exec sh -c {}", words.join(" "))
    }
}

/// Whom a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Group(u32),
    Process(u32),
}

impl Victim {
    /// TERM, at most 3 s of patience (also by a `sleep` that knows whole seconds alone), KILL. Ends
    /// with status 0 if nobody is left, or got KILL. Where nobody reaps orphans (in a container, say),
    /// the dead still seem to be there: `ps` tells them, if it is there itself.
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

/// Takes the wrapper's lines out of a command's output.
pub(super) struct Listener {
    mark: Vec<u8>,
    held: Vec<u8>,
    /// Who is to be killed; known when the wrapper has begun.
    pub(super) victim: Option<Victim>,
    /// The command's exit status as its shell told it.
    pub(super) status: Option<i32>,
}

impl Listener {
    pub(super) fn new(mark: &Mark) -> Self {
        Self {
            mark: mark.whole().into_bytes(),
            held: Vec::new(),
            victim: None,
            status: None,
        }
    }

    /// Passes `bytes` on, without the wrapper's lines. What may be the beginning of a mark is held
    /// back until more is known.
    pub(super) fn feed(&mut self, bytes: &[u8], pass: &mut dyn FnMut(&[u8])) {
        if self.status.is_some() {
            return pass(bytes);
        }
        self.held.extend_from_slice(bytes);
        while let Some(start) = find(&self.held, &self.mark) {
            let Some(length) = self.held[start..].iter().position(|&byte| byte == b'\n') else {
                pass(&self.held[..start]);
                self.held.drain(..start);
                return;
            };
            pass(&self.held[..start]);
            let line = self.held[start + self.mark.len()..start + length].to_vec();
            self.held.drain(..=start + length);
            self.hear(&String::from_utf8_lossy(&line));
        }
        let keep = match self.status {
            Some(_) => 0,
            None => possible_start(&self.held, &self.mark),
        };
        let ready = self.held.len() - keep;
        pass(&self.held[..ready]);
        self.held.drain(..ready);
    }

    /// Passes on what was held back.
    pub(super) fn finish(&mut self, pass: &mut dyn FnMut(&[u8])) {
        pass(&self.held);
        self.held.clear();
    }

    fn hear(&mut self, line: &str) {
        match line.trim().split_once(' ') {
            Some(("exit", status)) => self.status = status.parse().ok(),
            Some(("g", number)) => self.victim = number.parse().ok().map(Victim::Group),
            Some(("p", number)) => self.victim = number.parse().ok().map(Victim::Process),
            _ => {}
        }
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

/// How many bytes at the end of `text` may be the beginning of `wanted`.
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

    fn hear(chunks: &[&str]) -> (String, Option<Victim>, Option<i32>) {
        let mut listener = Listener::new(&Mark(["mark".into(), "er".into()]));
        let mut passed = Vec::new();
        let mut pass = |bytes: &[u8]| passed.extend_from_slice(bytes);
        for chunk in chunks {
            listener.feed(chunk.as_bytes(), &mut pass);
        }
        listener.finish(&mut pass);
        let passed = String::from_utf8(passed).unwrap();
        (passed, listener.victim, listener.status)
    }

    #[test]
    fn the_wrappers_lines_are_heard_and_taken_out() {
        let (passed, victim, status) = hear(&["hi marker g 12\nout\nmarmark", "er exit 3\nlate"]);
        assert_eq!(passed, "hi out\nmarlate");
        assert_eq!(victim, Some(Victim::Group(12)));
        assert_eq!(status, Some(3));
    }

    #[test]
    fn what_only_looks_like_a_mark_is_passed_on() {
        assert_eq!(hear(&["mark", "mar"]).0, "markmar");
    }

    /// As in a container, where nobody reaps what ended.
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

    /// Where `sleep` knows whole seconds alone, those of a second's parts make one.
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
                ("mmarkemark\nm".to_owned(), Some(Victim::Process(7)), Some(0))
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
