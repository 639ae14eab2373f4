//! The scripts that Longshore runs on a server: POSIX `sh`, one per step. Pure text.
//!
//! A project has one folder on a server, `ROOT` + `PATH`, with `releases/ID` (complete releases only;
//! a half-sent one is `releases/ID.part`) and `current`, a link that is only replaced by renaming
//! another one over it.

use folders::Owner;

use super::health::{self, Times};
use super::hook::Hook;
use super::said::refusal::MARK;
use crate::ssh::quote;
use crate::store::ReleaseId;
use crate::store::nodes::Sent;

pub(super) mod folders;
#[cfg(test)]
mod tests;

/// The exit code of a script that refused and printed the reason on standard error for
/// [`Refusal`](super::said::refusal::Refusal).
pub(super) const REFUSED: i32 = 65;

/// Prefix of the user's name in the output of [`inspect`].
pub(super) const LOGGED_IN: &str = "Logged in as ";

/// The start of every script.
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

/// The project's folder on a server.
pub(super) fn base(root: &str, path: &str) -> String {
    format!("{}/{}", root.trim_end_matches('/'), path.trim_matches('/'))
}

/// Sets `was_live` to the text of the link `current`, and `live` to the name of its folder in
/// `releases` regardless of the link's spelling, else to nothing.
pub(super) const WAS_LIVE: &str = r#"link=$(readlink "$base/current") || link=
was_live=
[ ! -d "$base/current" ] || was_live=$link
live=${was_live%/} live=${live##*/}
[ -n "$live" ] && [ "$base/current" -ef "$base/releases/$live" ] || live=
"#;

/// The start of the line with the earlier target of `current`. The folder in `releases` and the link's
/// text follow, each after a tab.
const WAS: &str = "longshore-was";

/// A copy of the link `current` from before the last switch.
const BEFORE: &str = "releases/.before";

/// The name of the script whose turn it is to replace `current`.
const TURN: &str = ".turn";

/// Takes the turn to replace `current` away from all earlier scripts. A script that continues
/// later, because its machine was frozen or its connection is gone, finds its turn or its link
/// removed.
pub(super) fn take_turn(release: ReleaseId) -> String {
    format!(
        r#"own_turn={release}-$$
rm -f "$base/{TURN}" "$base"/current.*.new 2>/dev/null || :
{{ echo "$own_turn" >"$base/{TURN}"; }} 2>/dev/null || own_turn=
"#
    )
}

/// Defines `point`, which replaces `current` by a link with its argument as text, byte for byte, if
/// the script still has its [turn](take_turn). The line that it prints before that ends a script
/// whose connection is gone.
fn point(release: ReleaseId) -> String {
    format!(
        r#"point() {{
  ln -sfn "$1" "$base/current.{release}.new"
  echo "next: $1"
  has_turn=$own_turn
  [ -z "$own_turn" ] || {{ read -r has_turn <"$base/{TURN}"; }} 2>/dev/null || :
  [ "$has_turn" = "$own_turn" ] || {{
    rm -f "$base/current.{release}.new"
    refuse overtaken "$base/current"
  }}
  mv -fT "$base/current.{release}.new" "$base/current" 2>/dev/null ||
    mv -fh "$base/current.{release}.new" "$base/current" ||
    refuse not_replaced "$base/current"
  [ "$(readlink "$base/current")" = "$1" ] || refuse not_replaced "$base/current"
}}
"#
    )
}

/// Points `current` to an existing release.
pub(super) fn switch(base: &str, release: ReleaseId) -> String {
    head(base) + &take_turn(release) + WAS_LIVE + &switch_from_live(release)
}

/// [`switch`] as the end of a script that has run [`WAS_LIVE`].
pub(super) fn switch_from_live(release: ReleaseId) -> String {
    point(release)
        + &format!(
            r#"[ -d "$base/releases/{release}" ] || refuse release_gone {release}
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse not_a_link "$base/current"
fi
printf '{WAS}\t%s\t%s\n' "$live" "$was_live"
if [ "$live" = {release} ]; then
  :
elif [ -n "$was_live" ]; then
  ln -sfn "$was_live" "$base/{BEFORE}"
else
  rm -f "$base/{BEFORE}"
fi
point releases/{release}
[ "$base/current" -ef "$base/releases/{release}" ] || refuse not_replaced "$base/current"
echo "now: releases/{release}"
"#
        )
}

/// Points `current` back to its target from before the switch to `release`.
pub(super) fn switch_back(base: &str, release: ReleaseId) -> String {
    head(base)
        + &take_turn(release)
        + &point(release)
        + &format!(
            r#"before=$(readlink "$base/{BEFORE}") || refuse folder_gone "$base/{BEFORE}"
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse not_a_link "$base/current"
fi
(cd "$base" && [ -d "$before" ]) || refuse folder_gone "$before"
point "$before"
echo "now: $before"
"#
        )
}

/// The target of `current` before a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// The link's text.
    pub(super) target: String,
    /// The release that its folder's name stands for, if it lies in `releases`. The folder may be
    /// another tool's.
    pub(super) named: Option<ReleaseId>,
}

impl Before {
    /// Reads a switch's line. The inner `None` means that nothing was live.
    pub(super) fn read(line: &str) -> Option<Option<Self>> {
        let (live, target) = line
            .strip_prefix(WAS)?
            .strip_prefix('\t')?
            .split_once('\t')?;
        let before = Self {
            target: target.to_owned(),
            named: live.parse().ok().map(ReleaseId),
        };
        Some(Some(before).filter(|before| !before.target.is_empty()))
    }
}

/// The retention of releases on a server.
pub(super) struct Keep<'a> {
    /// The number of releases to keep.
    pub(super) count: i32,
    /// The releases that were sent to the server, newest first. Other folders are not touched.
    pub(super) sent: &'a [Sent],
    pub(super) owner: &'a Owner,
}

/// Removes releases that are no longer kept: half-sent ones, those that did not get through, and all
/// others but the newest; never the target of `current`. The last one removed becomes the recycled
/// folder that the next release is built in (see [`transfer::script`](super::transfer)), if it is fit.
/// A path that cannot be removed is reported by a line for [`Left`](folders::Left).
pub(super) fn prune(base: &str, keep: &Keep<'_>) -> String {
    let names = |is_whole: bool| {
        let sent = keep.sent.iter().filter(|sent| sent.is_whole == is_whole);
        let names: Vec<String> = sent.map(|sent| sent.release.to_string()).collect();
        names.join(" ")
    };
    head(base)
        + &folders::functions(keep.owner)
        + &format!(
            r#"cd "$rel" || exit
there() {{ [ -d "./$1" ] && [ ! -L "./$1" ] && owned "$1" && [ ! "$base/current" -ef "./$1" ]; }}
remove() {{
  echo "removing release $1"
  if [ -f ".$1/digest" ] && fit "$rel/$1"; then
    [ -d .spare ] && [ ! -L .spare ] || discard .spare || :
    for old in .spare/.[0-9]* .spare/[0-9]*; do [ ! -e "$old" ] || discard .spare || :; done
    {{ [ -d .spare ] || mkdir .spare; }} && mv ".$1" "./$1" .spare 2>/dev/null && return 0
  fi
  discard "$1" || [ ! -e "./$1" ] || return 0
  discard ".$1" || :
}}
drop_parts
for id in {failed}; do
  if there "$id"; then remove "$id"; fi
done
kept=1
for id in {whole}; do
  there "$id" || continue
  kept=$((kept + 1))
  if [ "$kept" -gt {count} ]; then remove "$id"; fi
done
sweep
"#,
            failed = names(false),
            whole = names(true),
            count = keep.count,
        )
}

/// A user's command in `folder` below the project's folder, with `variables` set.
pub(super) fn command(
    base: &str,
    folder: &str,
    variables: &[(&'static str, String)],
    hook: Hook<'_>,
) -> String {
    in_folder(base, folder, variables) + &hook.script()
}

/// The health check: runs `check` in `current` about every second until it has exited 0 at every try
/// for the steady time (exit code 0), or can no longer do so in time (1). The script counts its own
/// sleeps, so a change of the clock makes no difference. With `setsid`, a try has its own process
/// group, so that all of its processes can be killed.
pub(super) fn health(
    base: &str,
    variables: &[(&'static str, String)],
    check: Hook<'_>,
    times: Times,
) -> String {
    let Times { seconds, steady } = times;
    in_folder(base, "current", variables)
        + &check.prelude()
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
            text = quote(&check.command()),
            TRY = health::TRY,
            LATE = health::LATE,
            MARK = health::MARK,
        )
}

/// The start of the script of a user's command.
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

/// Prints the user on the server and tests that the root can be written.
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
