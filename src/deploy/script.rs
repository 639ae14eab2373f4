//! The scripts that Longshore itself runs on a server: POSIX `sh`, one a step. Pure text.
//!
//! On a server a project has one folder, `ROOT` + `PATH`:
//! `releases/ID` (whole releases alone; a half-sent one is `releases/ID.part`) and `current`, a link
//! that is only ever replaced by renaming another one over it.

use super::health::{self, Times};
use super::said::refusal::MARK;
use crate::ssh::quote;
use crate::store::ReleaseId;

/// The exit code of a script that has said on its standard error why it cannot go on, as
/// [`Refusal`](super::said::refusal::Refusal) reads it.
pub(super) const REFUSED: i32 = 65;

/// What stands before the name of who we are on a server.
pub(super) const LOGGED_IN: &str = "Logged in as ";

/// What every script begins with.
pub(super) fn head(base: &str) -> String {
    format!(
        r#"set -eu
refuse() {{
  said={MARK}
  for part; do said="$said$(printf '\t%s' "$(printf %s "$part" | tr '\n\t' '  ')")"; done
  printf '%s\n' "$said" >&2
  exit {REFUSED}
}}
base={}
"#,
        quote(base)
    )
}

/// Removes half-sent releases. They are nobody's: a project has one active release. Left where they
/// are, those that filled the disk would keep it full.
pub(super) const DROP_PARTS: &str = r#"drop_parts() {
  for left in "$base/releases"/*.part; do
    id=${left##*/}
    id=${id%.part}
    case $id in '' | *[!0-9]*) ;; *) rm -rf "$left" ;; esac
  done
}
"#;

/// The project's folder on a server.
pub(super) fn base(root: &str, path: &str) -> String {
    format!("{}/{}", root.trim_end_matches('/'), path.trim_matches('/'))
}

/// Points `current` to a release that is there.
pub(super) fn switch(base: &str, release: ReleaseId) -> String {
    head(base)
        + &format!(
            r#"[ -d "$base/releases/{release}" ] || refuse release_gone {release}
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse not_a_link "$base/current"
fi
echo "before: $(readlink "$base/current" || echo nothing)"
ln -sfn "releases/{release}" "$base/current.{release}.new"
mv -fT "$base/current.{release}.new" "$base/current" 2>/dev/null ||
  mv -fh "$base/current.{release}.new" "$base/current" ||
  refuse not_replaced "$base/current"
echo "now: $(readlink "$base/current")"
"#
        )
}

/// The release that a line of [`switch`] says was live before.
pub(super) fn live_before(line: &str) -> Option<ReleaseId> {
    line.strip_prefix("before: releases/")?.parse().ok()
}

/// Removes what is no longer kept: half-sent releases, the `failed` ones, and all but the newest
/// `keep`; never the one that `current` points to. The last that goes becomes the spare, which the next
/// release is made of (see [`transfer::script`](super::transfer)).
pub(super) fn prune(base: &str, keep: i32, failed: &[ReleaseId]) -> String {
    let failed: Vec<String> = failed.iter().map(ReleaseId::to_string).collect();
    head(base)
        + DROP_PARTS
        + &format!(
            r#"cd "$base/releases" || exit
live=$(readlink "$base/current" || true)
live=${{live#releases/}}
remove() {{
  [ "$1" != "$live" ] || return 0
  echo "removing release $1"
  if [ -f ".$1/digest" ]; then
    [ ! -e .spare ] || rm -rf .spare
    mkdir .spare && echo "$1" >.spare/id && mv ".$1" .spare/record && mv "./$1" .spare/tree && return 0
  fi
  rm -rf "./$1" "./.$1"
}}
is_release() {{ [ -d "./$1" ] && [ "$1" != "$live" ] && case $1 in *[!0-9]*) false ;; esac; }}
drop_parts
for id in {failed}; do
  if [ -d "./$id" ]; then remove "$id"; fi
done
for id in [0-9]*; do
  is_release "$id" || continue
  newer=0
  for other in [0-9]*; do
    if is_release "$other" && [ "$other" -gt "$id" ]; then newer=$((newer + 1)); fi
  done
  if [ "$newer" -ge $(({keep} - 1)) ]; then remove "$id"; fi
done
"#,
            failed = failed.join(" "),
        )
}

/// A user's command in `folder` below the project's, with `variables` set.
pub(super) fn command(
    base: &str,
    folder: &str,
    variables: &[(&'static str, String)],
    text: &str,
) -> String {
    in_folder(base, folder, variables) + &format!("exec sh -c {}\n", quote(text))
}

/// The health check: `text` in `current`, about every second, until it has exited 0 at every try for
/// the steady time (0), or can no longer do so in time (1). Each second that is slept is counted, so no
/// clock that is set makes it longer or shorter. Where `setsid` is there a try has a process group of
/// its own, so that it can be ended with all that it started.
pub(super) fn health(
    base: &str,
    variables: &[(&'static str, String)],
    text: &str,
    times: Times,
) -> String {
    let Times { seconds, steady } = times;
    in_folder(base, "current", variables)
        + &format!(
            r#"text={text}
left={seconds}
held=-1
pid=
own=
if command -v setsid >/dev/null 2>&1; then own=setsid; fi
end_try() {{
  [ -z "$pid" ] || kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || :
}}
trap 'end_try; exit 143' HUP INT PIPE TERM
while [ "$left" -ge $(({steady} - held)) ]; do
  $own sh -c 'sh -c "$1" || exit' sh "$text" </dev/null 2>&1 &
  pid=$!
  ran=0
  late=
  while
    sleep 1
    ran=$((ran + 1))
    left=$((left - 1))
    kill -0 "$pid" 2>/dev/null
  do
    if [ "$ran" -ge {TRY} ] || [ "$left" -le 0 ]; then
      late={LATE}
      end_try
      break
    fi
  done
  code=0
  wait "$pid" 2>/dev/null || code=$?
  pid=
  if [ "${{late:-$code}}" != 0 ]; then
    held=-1
  elif [ "$held" -lt 0 ]; then
    held=0
  else
    held=$((held + ran))
  fi
  printf '\n%s\t%s\t%s\n' {MARK} "${{late:-$code}}" "$held"
  if [ "$held" -ge {steady} ]; then exit 0; fi
done
exit 1
"#,
            text = quote(text),
            TRY = health::TRY,
            LATE = health::LATE,
            MARK = health::MARK,
        )
}

/// What begins the script of a user's command.
fn in_folder(base: &str, folder: &str, variables: &[(&'static str, String)]) -> String {
    let mut script = head(base);
    script.push_str(&format!(
        "cd \"$base\"/{} || refuse folder_gone \"$base\"/{}\n",
        quote(folder),
        quote(folder)
    ));
    for (name, value) in variables {
        script.push_str(&format!("export {name}={}\n", quote(value)));
    }
    script
}

/// Says who we are on a server and whether its root can be written.
pub(super) fn inspect(root: &str) -> String {
    head(root)
        + &format!(
            r#"command -v find >/dev/null || refuse tool_missing find
[ -d "$base" ] || mkdir -p "$base" 2>/dev/null || refuse root_not_made "$base"
[ -w "$base" ] || echo "the folder $base itself cannot be written; project folders below it must be"
echo "{LOGGED_IN}$(id -un)"
"#
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::said::refusal::Refusal;
    use std::fs;
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    fn sh(script: &str, input: &[u8]) -> Output {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// What a script said last, in English.
    #[track_caller]
    fn refusal(output: &Output) -> String {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        let refusal = Refusal::read(last);
        refusal.unwrap_or_else(|| panic!("{output:?}")).to_string()
    }

    /// A release as it lies there once it has arrived.
    fn place(base: &Path, id: i64) {
        let folder = base.join("releases").join(id.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("index.html"), id.to_string()).unwrap();
        fs::create_dir(base.join("releases").join(format!(".{id}"))).unwrap();
    }

    fn switch_to(base: &Path, id: i64) -> Output {
        sh(&switch(base.to_str().unwrap(), ReleaseId(id)), b"")
    }

    #[test]
    fn a_release_arrives_is_switched_to_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("it's/a shop");
        for id in [8, 9, 10, 11] {
            place(&base, id);
            assert!(switch_to(&base, id).status.success());
            assert_eq!(
                fs::read_to_string(base.join("current/index.html")).unwrap(),
                id.to_string()
            );
        }
        fs::create_dir(base.join("releases/7.part")).unwrap();
        fs::create_dir(base.join("releases/notes")).unwrap();
        assert!(switch_to(&base, 8).status.success());
        let output = sh(
            &prune(base.to_str().unwrap(), 2, &[ReleaseId(11), ReleaseId(8)]),
            b"",
        );
        assert!(output.status.success(), "{output:?}");
        let mut left: Vec<_> = fs::read_dir(base.join("releases"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".10", ".8", "10", "8", "notes"]);
    }

    #[test]
    fn what_is_in_the_way_is_named_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("current")).unwrap();
        fs::create_dir_all(base.join("releases/1")).unwrap();
        let output = switch_to(base, 1);
        assert_eq!(output.status.code(), Some(REFUSED));
        assert!(refusal(&output).contains("not a link"));
        let output = switch_to(base, 2);
        assert_eq!(refusal(&output), "release 2 is not on this server any more");
    }

    #[test]
    fn every_word_that_a_script_refuses_with_is_known() {
        let source = include_str!("script.rs");
        let words: Vec<&str> = source
            .match_indices("refuse ")
            .map(|(at, opening)| &source[at + opening.len()..])
            .filter_map(|rest| rest.split([' ', '\n']).next())
            .filter(|word| word.contains('_'))
            .collect();
        assert!(words.len() > 5, "{words:?}");
        for word in words {
            let line = format!("{MARK}\t{word}\ta\tb\tc");
            assert!(Refusal::read(&line).is_some(), "{word}");
        }
    }

    #[test]
    fn a_detail_stays_one_detail() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("it's\ta\nshop");
        fs::create_dir_all(base.join("releases/1")).unwrap();
        fs::create_dir_all(base.join("current")).unwrap();
        let said = refusal(&switch_to(&base, 1));
        assert!(said.contains("it's a shop/current is there"), "{said}");
    }

    #[test]
    fn a_command_runs_in_its_folder_with_its_variables() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("current")).unwrap();
        let script = command(
            folder.path().to_str().unwrap(),
            "current",
            &[("LONGSHORE_RELEASE", "it's 7".into())],
            "pwd; echo \"$LONGSHORE_RELEASE\"; exit 3",
        );
        let output = sh(&script, b"");
        assert_eq!(output.status.code(), Some(3));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with("/current\nit's 7\n"), "{text}");
    }

    /// Runs a health check by each shell that servers have; gives its exit code and what it said.
    fn check(text: &str, seconds: i32) -> Vec<(Option<i32>, String)> {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().to_str().unwrap();
        [&["sh"][..], &["busybox", "sh"], &["bash", "--posix"]]
            .iter()
            .map(|shell| {
                let _ = fs::remove_dir_all(folder.path().join("current"));
                fs::create_dir(folder.path().join("current")).unwrap();
                let script = health(base, &[], text, Times::within(seconds));
                let output = Command::new(shell[0])
                    .args(&shell[1..])
                    .args(["-c", &script])
                    .output()
                    .unwrap();
                let said = String::from_utf8(output.stdout).unwrap();
                (output.status.code(), said)
            })
            .collect()
    }

    #[test]
    fn a_health_check_holds_once_it_has_passed_for_the_steady_time() {
        for (code, said) in check("echo well", 3) {
            assert_eq!(code, Some(0), "{said}");
            let ends: Vec<&str> = said
                .lines()
                .filter(|line| line.starts_with("long"))
                .collect();
            let held = [0, 1, 2].map(|held| format!("{}\t0\t{held}", health::MARK));
            assert_eq!(ends, held, "{said}");
        }
    }

    #[test]
    fn a_health_check_that_passes_at_first_and_then_fails_does_not_hold() {
        let dies = "echo x >> tries; [ $(wc -l < tries) -lt 3 ] || { printf gone; exit 4; }";
        for (code, said) in check(dies, 4) {
            assert_eq!(code, Some(1), "{said}");
            let last = said.trim_end().lines().last().unwrap();
            assert_eq!(last, format!("{}\t4\t-1", health::MARK), "{said}");
            assert!(
                said.contains("gone\n"),
                "the end has a line of its own: {said}"
            );
        }
    }

    #[test]
    fn a_try_that_hangs_is_ended_with_all_that_it_started() {
        let begun = std::time::Instant::now();
        for (code, said) in check("sleep 4711 & echo $!; wait", 2) {
            assert_eq!(code, Some(1), "{said}");
            let (pid, end) = said.split_once('\n').unwrap();
            assert!(
                end.contains(&format!("{}\t{}\t-1", health::MARK, health::LATE)),
                "{said}"
            );
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            assert!(
                stat.is_err() || stat.unwrap().contains(") Z "),
                "{pid} lives on"
            );
        }
        assert!(begun.elapsed().as_secs() < 60);
    }

    #[test]
    fn the_release_that_was_live_is_read() {
        assert_eq!(live_before("before: releases/12"), Some(ReleaseId(12)));
        for line in ["before: nothing", "before: /srv/other", "now: releases/12"] {
            assert_eq!(live_before(line), None);
        }
    }

    #[test]
    fn roots_and_paths_are_joined_without_doubled_slashes() {
        assert_eq!(base("/", "/srv/shop/"), "/srv/shop");
        assert_eq!(base("/home/demo/", "srv/shop"), "/home/demo/srv/shop");
    }
}
