//! Facts about a server after a login: the user, the writable folders, the installed programs.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::ssh::quote;

/// The start of a line of the script. A word and its details follow, each after a tab.
const MARK: &str = "longshore-found";

/// The programs that are looked for: those that releases use or may use.
const TOOLS: [&str; 8] = [
    "tar",
    "gzip",
    "zstd",
    "find",
    "sha256sum",
    "cp",
    "setsid",
    "git",
];

/// Facts about a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The user that is logged in.
    pub user: Option<String>,
    /// True if commands can be run; otherwise only SFTP works.
    pub shell: bool,
    /// The folders that releases write to, the server's root first.
    pub folders: Vec<Folder>,
    /// The free space on the root's disk, in bytes.
    pub free_bytes: Option<u64>,
    /// The programs that were looked for.
    pub tools: Vec<Tool>,
    /// The difference of the server's clock to the platform's, in seconds; positive if it is ahead.
    pub clock_ahead_seconds: Option<i64>,
}

/// A folder on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Folder {
    /// Its path.
    pub path: String,
    /// The path with all links resolved; `None` if it cannot be resolved.
    pub real_path: Option<String>,
    /// True if it can be written or, if it does not exist, made.
    pub writable: bool,
}

/// A program on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// True if it is installed.
    pub found: bool,
}

/// The script that collects the facts. It changes nothing.
pub(super) fn script(folders: &[String]) -> String {
    let folders: Vec<String> = folders.iter().map(|folder| quote(folder)).collect();
    format!(
        r#"say() {{ printf '{MARK}'; printf '\t%s' "$@"; echo; }}
say user "$(id -un)"
say clock "$(date +%s)"
for tool in {tools}; do
  if command -v "$tool" >/dev/null 2>&1; then say tool "$tool" yes; else say tool "$tool" no; fi
done
free=
tab=$(printf '\t')
line_end='
'
for folder in {folders}; do
  at=$folder
  while [ -n "$at" ] && [ ! -e "$at" ]; do at=${{at%/*}}; done
  at=${{at:-/}}
  real=$(CDPATH= cd -P "$at" 2>/dev/null && pwd -P) || real=
  case $real in *"$tab"*|*"$line_end"*) real= ;; esac
  [ -z "$real" ] || real=${{real%/}}${{folder#"${{at%/}}"}}
  if [ -d "$at" ] && [ -w "$at" ] && [ -x "$at" ]; then able=yes; else able=no; fi
  say folder "$folder" "$able" "$real"
  if [ -z "$free" ]; then
    free=$(df -Pk "$at" 2>/dev/null | tail -n 1 | sed 's/.* \([0-9][0-9]*\)  *[0-9][0-9]*%.*/\1/')
    say free "$free"
  fi
done
"#,
        tools = TOOLS.join(" "),
        folders = folders.join(" "),
    )
}

impl Found {
    /// Reads a line of the script's output.
    pub(super) fn hear(&mut self, line: &str) {
        let mut words = line.split('\t');
        if words.next() != Some(MARK) {
            return;
        }
        self.shell = true;
        let words: Vec<&str> = words.collect();
        match words[..] {
            ["user", user] => self.user = Some(user.to_owned()),
            ["clock", seconds] => {
                let theirs = seconds.parse::<i64>().ok();
                self.clock_ahead_seconds = theirs.zip(now()).map(|(theirs, ours)| theirs - ours);
            }
            ["tool", name, found] => self.tools.push(Tool {
                name: name.to_owned(),
                found: found == "yes",
            }),
            ["folder", path, writable, real] => self.folders.push(Folder {
                path: path.to_owned(),
                real_path: Some(real.to_owned()).filter(|real| !real.is_empty()),
                writable: writable == "yes",
            }),
            ["free", kibibytes] => {
                self.free_bytes = kibibytes.parse::<u64>().ok().map(|count| count * 1024);
            }
            _ => {}
        }
    }
}

fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_machine_is_seen_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("it's a root").display().to_string();
        std::fs::create_dir(&root).unwrap();
        std::fs::write(format!("{root}/file"), "").unwrap();
        let folders = [
            root.clone(),
            format!("{root}/new/deep"),
            format!("{root}/file/x"),
        ];
        let output = Command::new("sh")
            .args(["-c", &script(&folders)])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.stderr.is_empty(), "{:?}", output.stderr);
        let mut found = Found::default();
        text.lines().for_each(|line| found.hear(line));
        assert!(found.shell && found.user.is_some(), "{text}");
        let writable: Vec<bool> = found.folders.iter().map(|it| it.writable).collect();
        assert_eq!(writable, [true, true, false], "{text}");
        assert_eq!(found.folders[1].path, folders[1]);
        let here = folder.path().canonicalize().unwrap();
        let real = found.folders[1].real_path.as_deref().unwrap();
        assert_eq!(real, format!("{}/it's a root/new/deep", here.display()));
        assert!(found.free_bytes.unwrap() > 0, "{text}");
        assert!(found.clock_ahead_seconds.unwrap().abs() <= 2, "{text}");
        assert!(
            found
                .tools
                .iter()
                .any(|tool| tool.name == "tar" && tool.found)
        );
        assert_eq!(found.tools.len(), TOOLS.len());
    }

    #[test]
    fn other_lines_are_not_ours() {
        let mut found = Found::default();
        for line in [
            "welcome",
            "",
            "longshore-found",
            "longshore-foundx\tuser\troot",
        ] {
            found.hear(line);
        }
        assert_eq!(found.user, None);
        found.hear("longshore-found\tclock\tsoon");
        found.hear("longshore-found\tfree\t");
        assert_eq!((found.clock_ahead_seconds, found.free_bytes), (None, None));
    }
}
