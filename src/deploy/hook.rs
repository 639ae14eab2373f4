//! A user's command as text for `sh`: the interpreter, and the reaction to a line that fails. Pure.

use crate::ssh::quote;
use crate::store::projects::Project;

/// The largest text given to a program as one argument, in bytes: Linux allows 128 KiB.
const ARGUMENT: usize = 100 << 10;

/// The shell variable with the path of a command's file.
const FILE: &str = "longshore_hook";

/// A user's command and its project's options for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook<'a> {
    pub(super) text: &'a str,
    /// True if it ends at the first line that fails (`set -e`). A command with its own interpreter is
    /// not affected.
    pub(super) stops: bool,
    /// True if the account's login shell runs it, or its interpreter, with the environment that the
    /// shell's start-up files set.
    pub(super) login_shell: bool,
}

/// The interpreter in a first line `#!PROGRAM ARGUMENT`. Everything after the program is one argument,
/// as Linux reads it.
struct Interpreter<'a> {
    program: &'a str,
    argument: &'a str,
}

impl<'a> Interpreter<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let line = text.strip_prefix("#!")?.lines().next()?.trim();
        let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        (!program.is_empty()).then(|| Self {
            program,
            argument: argument.trim(),
        })
    }
}

/// Runs the words `$@` in the folder `$PWD` through the login shell. Bash and zsh read `.bashrc` and
/// `.zshrc`, to which version managers add themselves, only if they are interactive. Such a shell
/// complains that it has no terminal; this output is dropped. An interactive shell ignores TERM, so a
/// trap is set. `{run}` is the rest for a POSIX shell.
const LOGIN: &str = r#"shell=${SHELL:-/bin/sh}
case ${shell##*/} in
  bash | zsh)
    exec "$shell" -l -i -c 'exec 2>&3 3>&-; trap "exit 143" TERM; cd "$1" || exit; shift; {run}' \
      "$longshore_hook" "$PWD" "$@" 3>&2 2>/dev/null ;;
  csh | tcsh)
    exec "$shell" -c 'if (-r ~/.login) source ~/.login; exec $argv:q' \
      sh -c 'cd "$1" && shift && exec "$@"' sh "$PWD" "$@" ;;
  fish)
    exec "$shell" -l -c 'exec $argv' sh -c 'cd "$1" && shift && exec "$@"' sh "$PWD" "$@" ;;
  *)
    exec "$shell" -l -c 'cd "$1" || exit; shift; {run}' "$longshore_hook" "$PWD" "$@" ;;
esac"#;

impl<'a> Hook<'a> {
    /// A hook, the build or the restart command of a project.
    pub(super) fn of(project: &Project, text: &'a str) -> Self {
        Self {
            text,
            stops: project.hooks_stop,
            login_shell: project.login_shell,
        }
    }

    /// The health check of a project. Its exit code is that of its last line.
    pub(super) fn health_check(project: &'a Project) -> Self {
        Self {
            stops: false,
            ..Self::of(project, &project.health)
        }
    }

    /// True if the command is in a file while it runs.
    fn has_file(&self) -> bool {
        self.login_shell || self.text.len() > ARGUMENT || Interpreter::of(self.text).is_some()
    }

    /// Prepares [`command`](Self::command): text for a POSIX shell. A command's file is removed when
    /// this shell ends. An interpreter reads the file, so it needs no execute permission.
    pub(super) fn prelude(&self) -> String {
        if !self.has_file() {
            return String::new();
        }
        format!(
            r#"{FILE}=$(umask 077; mktemp "${{TMPDIR:-/tmp}}/longshore.XXXXXX" 2>/dev/null || mktemp ./.longshore.XXXXXX) || exit
trap 'rm -f "${FILE}"' EXIT
trap 'exit 143' HUP INT PIPE TERM
case ${FILE} in ./*) {FILE}=$PWD/${{{FILE}#./}} ;; esac
printf '%s\n' {text} >"${FILE}" || exit
export {FILE}
"#,
            text = quote(self.text),
        )
    }

    /// The argument for `sh -c` after the [`prelude`](Self::prelude).
    pub(super) fn command(&self) -> String {
        if !self.has_file() {
            // On the first line, so that line numbers in error messages are those of the user's text.
            let stops = if self.stops { "set -e; " } else { "" };
            return format!("{stops}{}", self.text);
        }
        let stops = if self.stops { "set -e; " } else { "" };
        let (words, run) = match Interpreter::of(self.text) {
            Some(Interpreter { program, argument }) => {
                let argument = match argument {
                    "" => String::new(),
                    argument => format!(" {}", quote(argument)),
                };
                (
                    format!("{}{argument}", quote(program)),
                    r#"exec "$@""#.to_owned(),
                )
            }
            None => {
                let words = if self.stops { "sh -e" } else { "sh" };
                // A restricted shell refuses to read a file whose name contains a slash.
                let read = r#"case $- in *r*) eval "$(cat "$0")" ;; *) . "$0" ;; esac"#;
                (words.to_owned(), format!("{stops}{read}"))
            }
        };
        let words = format!(r#"set -- {words} "${FILE}""#);
        match self.login_shell {
            true => format!("{words}\n{}", LOGIN.replace("{run}", &run)),
            false => format!("{words}\nexec \"$@\""),
        }
    }

    /// The whole script, for a shell that gets it as an argument and does nothing else.
    pub(super) fn local_script(&self) -> String {
        match self.has_file() {
            false => self.command(),
            true => self.script(),
        }
    }

    /// The whole script, for a shell that does nothing else after it.
    pub(super) fn script(&self) -> String {
        match self.has_file() {
            false => format!("exec sh -c {}\n", quote(&self.command())),
            true => format!("{}sh -c {}\n", self.prelude(), quote(&self.command())),
        }
    }
}

#[cfg(test)]
mod tests;
