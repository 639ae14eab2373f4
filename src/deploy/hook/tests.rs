//! Commands, run by real shells.

use super::*;
use std::fs;
use std::process::{Command, Output, Stdio};

const PLAIN: Hook<'_> = Hook {
    text: "",
    stops: false,
    login_shell: false,
};

/// A machine with a home, a folder for temporary files and a working directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for folder in ["home/.config/fish", "tmp", "work"] {
            fs::create_dir_all(place.0.path().join(folder)).unwrap();
        }
        for (name, text) in files {
            fs::write(place.0.path().join("home").join(name), text).unwrap();
        }
        place
    }

    fn run(&self, sh: &[&str], login: &str, hook: Hook<'_>) -> Output {
        let at = |name: &str| self.0.path().join(name);
        let script = at("script");
        fs::write(&script, hook.script()).unwrap();
        let output = Command::new(sh[0])
            .args(&sh[1..])
            .arg(&script)
            .current_dir(at("work"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", at("home"))
            .env("SHELL", login)
            .env("TMPDIR", at("tmp"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let left = fs::read_dir(at("tmp")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        // zsh makes a folder for itself.
        assert!(
            left.iter()
                .all(|name| !name.to_string_lossy().starts_with("longshore")),
            "{left:?}"
        );
        output
    }
}

const SHELLS: [&[&str]; 3] = [&["sh"], &["busybox", "sh"], &["bash", "--posix"]];

#[track_caller]
fn said(output: &Output) -> (Option<i32>, String) {
    let err = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    (output.status.code(), format!("{out}{err}"))
}

#[test]
fn a_line_that_fails_ends_the_command_where_the_project_says_so() {
    let text = "echo one\nfalse\necho two";
    for sh in SHELLS {
        let place = Place::new(&[]);
        let goes_on = Hook { text, ..PLAIN };
        let stops = Hook {
            stops: true,
            ..goes_on
        };
        let output = place.run(sh, "/bin/sh", goes_on);
        assert_eq!(said(&output), (Some(0), "one\ntwo\n".into()), "{sh:?}");
        let output = place.run(sh, "/bin/sh", stops);
        assert_eq!(said(&output), (Some(1), "one\n".into()), "{sh:?}");
    }
}

#[test]
fn a_command_runs_by_the_interpreter_that_it_names() {
    for sh in SHELLS {
        let place = Place::new(&[]);
        for login_shell in [false, true] {
            let hook = |text| Hook {
                text,
                stops: true,
                login_shell,
            };
            let perl = "#!/usr/bin/perl -w\nprint \"it's $0\" =~ /longshore/ ? \"yes\\n\" : \"no\\n\"; exit 7;";
            let output = place.run(sh, "/bin/bash", hook(perl));
            assert_eq!(said(&output), (Some(7), "yes\n".into()), "{sh:?}");
            let bash = "#!/usr/bin/env -S bash -u\nx=(a b)\nfalse\necho ${x[1]} $-";
            let output = place.run(sh, "/bin/bash", hook(bash));
            let (code, text) = said(&output);
            assert!(
                code == Some(0) && text.starts_with("b ") && text.contains('u'),
                "{text}"
            );
            let output = place.run(sh, "/bin/bash", hook("#!/no/such -x\n"));
            let (code, text) = said(&output);
            assert!(matches!(code, Some(126 | 127)), "{code:?} {text}");
        }
    }
}

#[test]
fn a_command_of_any_length_and_any_characters_runs() {
    let text = format!(
        ": {}\nprintf '%s\\n' \"\\\\n\\r\u{1}\u{7f}发\"\n",
        quote(&"'".repeat(60 << 10))
    );
    for sh in SHELLS {
        let place = Place::new(&[]);
        for login_shell in [false, true] {
            let hook = Hook {
                text: &text,
                stops: true,
                login_shell,
            };
            let output = place.run(sh, "/bin/sh", hook);
            let (code, text) = said(&output);
            assert_eq!(
                (code, text.as_str()),
                (Some(0), "\\n\\r\u{1}\u{7f}发\n"),
                "{sh:?}"
            );
        }
    }
}

/// The file as nvm's installer leaves it on Debian, where it ends early for shells that are not
/// interactive.
const BASHRC: &str = "case $- in *i*) ;; *) return ;; esac\nexport VERSION=20\nnvm() { echo \"nvm $1\"; }\nread x\ncd /\n";

#[test]
fn a_login_shell_brings_its_environment_along() {
    let files = [
        (".bash_profile", "export PROFILE=yes\n. ~/.bashrc\n"),
        (".bashrc", BASHRC),
        (".zprofile", "export PROFILE=yes\n"),
        (
            ".zshrc",
            "export VERSION=20\nnvm() { echo \"nvm $1\"; }\ncd /\n",
        ),
        (
            ".profile",
            "export PROFILE=yes VERSION=20\nnvm() { echo \"nvm $1\"; }\ncd /\n",
        ),
        (".cshrc", "setenv VERSION 20\n"),
        (".login", "setenv PROFILE yes\ncd /\n"),
        (
            ".config/fish/config.fish",
            "set -x VERSION 20\nset -x PROFILE yes\ncd /\n",
        ),
    ];
    let text = "printf '%s\\n' \"$PROFILE $VERSION $LONGSHORE_RELEASE it's\"; [ -d ../home ] && echo there\n\
                if [ \"$VERSION\" != 20 ]; then echo never; fi\nfalse\necho two\n";
    for sh in SHELLS {
        for login in ["bash", "zsh", "dash", "ksh", "tcsh", "fish"] {
            let place = Place::new(&files);
            let login = format!("/bin/{login}");
            let hook = Hook {
                text,
                stops: true,
                login_shell: true,
            };
            let (code, text) = said(&place.run(sh, &login, hook));
            assert_eq!(
                (code, text.as_str()),
                (Some(1), "yes 20  it's\nthere\n"),
                "{sh:?} {login}"
            );
        }
    }
    for login in ["bash", "zsh", "dash", "ksh"] {
        let place = Place::new(&files);
        let hook = Hook {
            text: "nvm use; echo a!b; exit 3",
            stops: true,
            login_shell: true,
        };
        let (code, text) = said(&place.run(&["sh"], &format!("/bin/{login}"), hook));
        assert_eq!(
            (code, text.as_str()),
            (Some(3), "nvm use\na!b\n"),
            "{login}"
        );
    }
}

#[test]
fn the_login_shell_is_used_only_where_the_project_says_so() {
    let place = Place::new(&[(".profile", "export VERSION=20\n"), (".bashrc", BASHRC)]);
    let hook = Hook {
        text: "echo \"[$VERSION]\"",
        ..PLAIN
    };
    assert_eq!(
        said(&place.run(&["sh"], "/bin/bash", hook)),
        (Some(0), "[]\n".into())
    );
}
