//! The scripts that Longshore itself runs on a server: POSIX `sh`, one a step. Pure text.
//!
//! On a server a project has one folder, `ROOT` + `PATH`:
//! `releases/ID` (whole releases alone; a half-sent one is `releases/ID.part`) and `current`, a link
//! that is only ever replaced by renaming another one over it.

use super::health::{self, Times};
use super::hook::Hook;
use super::said::refusal::MARK;
use crate::ssh::quote;
use crate::store::ReleaseId;

#[cfg(test)]
mod tests;

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
    case $id in '' | *[!0-9]*) ;; *) rm -rf "$left" || : ;; esac
  done
}
"#;

/// The project's folder on a server.
pub(super) fn base(root: &str, path: &str) -> String {
    format!("{}/{}", root.trim_end_matches('/'), path.trim_matches('/'))
}

/// Finds what `current` points to.
pub(super) const WAS_LIVE: &str = r#"was_live=$(readlink "$base/current") || was_live=nothing
"#;

/// Points `current` to a release that is there.
pub(super) fn switch(base: &str, release: ReleaseId) -> String {
    head(base) + WAS_LIVE + &switch_from_live(release)
}

/// The same as the end of a script that has found [what was live](WAS_LIVE).
pub(super) fn switch_from_live(release: ReleaseId) -> String {
    format!(
        r#"[ -d "$base/releases/{release}" ] || refuse release_gone {release}
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse not_a_link "$base/current"
fi
echo "before: $was_live"
ln -sfn "releases/{release}" "$base/current.{release}.new"
mv -fT "$base/current.{release}.new" "$base/current" 2>/dev/null ||
  mv -fh "$base/current.{release}.new" "$base/current" ||
  refuse not_replaced "$base/current"
[ "$base/current" -ef "$base/releases/{release}" ] || refuse not_replaced "$base/current"
echo "now: releases/{release}"
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
/// `live`: the release that it is known to point to; without it `current` is read.
pub(super) fn prune(
    base: &str,
    keep: i32,
    failed: &[ReleaseId],
    live: Option<ReleaseId>,
) -> String {
    let live = match live {
        Some(live) => live.to_string(),
        None => r#"$(readlink "$base/current") || live="#.to_owned(),
    };
    let failed: Vec<String> = failed.iter().map(ReleaseId::to_string).collect();
    head(base)
        + DROP_PARTS
        + &format!(
            r#"cd "$base/releases" || exit
live={live}
live=${{live#releases/}}
remove() {{
  [ "$1" != "$live" ] || return 0
  echo "removing release $1"
  if [ -f ".$1/digest" ]; then
    [ -d .spare ] && [ ! -L .spare ] || rm -rf .spare || :
    for old in .spare/.[0-9]* .spare/[0-9]*; do [ ! -e "$old" ] || rm -rf "$old" || :; done
    {{ [ -d .spare ] || mkdir .spare; }} && mv ".$1" "./$1" .spare && return 0
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
    hook: Hook<'_>,
) -> String {
    in_folder(base, folder, variables) + &hook.script()
}

/// The health check: `check` in `current`, about every second, until it has exited 0 at every try for
/// the steady time (0), or can no longer do so in time (1). Each second that is slept is counted, so no
/// clock that is set makes it longer or shorter. Where `setsid` is there a try has a process group of
/// its own, so that it can be ended with all that it started.
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
