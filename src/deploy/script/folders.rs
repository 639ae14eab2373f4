//! Ownership and removal of the folders in `releases`: shell functions common to the scripts. Pure
//! text.
//!
//! Beside a release lies its record `.ID`, in which `owner` names the installation and the project. A
//! folder with another owner or none stays as it is. A folder to remove is first renamed to
//! `.longshore-gone-NAME-N`, so that a half-removed folder never counts as a release. Remains that
//! cannot be removed are reported, and tried again with each release. Nothing is removed on other file
//! systems, bind mounts included.

use crate::ssh::quote;
use crate::store::installation::Installation;
use crate::store::{ProjectId, ReleaseId};

/// The start of the line about a path that could not be removed. Its name and the reason follow, each
/// after a tab.
const LEFT: &str = "longshore-left";

/// Prefix of folders that are being removed.
pub(in crate::deploy) const GONE: &str = ".longshore-gone-";

/// The mark of this project's releases on servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::deploy) struct Owner {
    /// The content of `owner` in the project's records.
    mark: String,
    /// Releases up to this one may have no `owner` file.
    unmarked_through: ReleaseId,
}

impl Owner {
    pub(in crate::deploy) fn of(installation: &Installation, project: ProjectId) -> Self {
        Self {
            mark: format!("{}/{project}", installation.name),
            unmarked_through: installation.unmarked_through,
        }
    }

    /// The line of the file `owner`.
    pub(in crate::deploy) fn line(&self) -> String {
        format!("{}\n", self.mark)
    }

    /// True if the release with this line in `owner` is the project's. `None`: it has no such file.
    pub(in crate::deploy) fn has(&self, release: ReleaseId, line: Option<&str>) -> bool {
        match line {
            Some(line) => line.trim_end() == self.mark,
            None => release.0 <= self.unmarked_through.0,
        }
    }
}

/// A path on a server that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::deploy) struct Left {
    pub(in crate::deploy) name: String,
    pub(in crate::deploy) reason: String,
}

impl Left {
    /// Reads a script's line.
    pub(in crate::deploy) fn read(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix(LEFT)?.strip_prefix('\t')?.splitn(2, '\t');
        Some(Self {
            name: parts.next()?.to_owned(),
            reason: parts.next()?.to_owned(),
        })
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "not removed: {}: {}", self.name, self.reason)
    }
}

/// The functions, to follow [`head`](super::head):
///
/// - `owned ID`: true if the release is the project's.
/// - `mounted NAME`: true if something is mounted at or below `releases/NAME`. On a system without a
///   list of mounts, `find -xdev` still keeps to the file system.
/// - `discard NAME`: removes `releases/NAME`; false if some of it is left.
/// - `fit PATH`: true if the folder can become another release's: nothing is mounted in it, and
///   everything can be written. Needs GNU `find`.
/// - `drop_parts`: removes half-sent releases. Those that filled the disk would otherwise keep it
///   full.
/// - `sweep`: tries remains of earlier removals again and reports them.
pub(in crate::deploy) fn functions(owner: &Owner) -> String {
    let Owner {
        mark,
        unmarked_through,
    } = owner;
    format!(
        r#"rel=$base/releases owner={mark} mounts=-
left() {{
  printf '{LEFT}\t%s\t%s\n' "$1" "$(printf %s "$2" | tr '\n\t' '  ' | cut -c1-300)"
}}
owned() {{
  if [ -f "$rel/.$1/owner" ]; then
    whose= && {{ read -r whose <"$rel/.$1/owner" || :; }} && [ "$whose" = "$owner" ]
  else
    [ "$1" -le {unmarked_through} ]
  fi
}}
mounted() {{
  if [ "$mounts" = - ]; then
    mounts=$(sed 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .*/\1/' /proc/self/mountinfo 2>/dev/null) || mounts=
    real=$(cd "$rel" 2>/dev/null && pwd -P) || real=$rel
    case $real in
      *[\\\ ]* | *"$(printf '\t')"*)
        real=$(printf %s "$real" | sed "s/\\\\/\\\\134/g; s/ /\\\\040/g; s/$(printf '\t')/\\\\011/g") ;;
    esac
  fi
  case "
$mounts
" in
    *"
$real/$1
"* | *"
$real/$1/"*) return 0 ;;
  esac
  return 1
}}
remove_all() {{
  said=$(find "$1" -xdev -depth -delete 2>&1 | head -n 1) || :
  [ -e "$1" ] || [ -L "$1" ] || return 0
  find "$1" -xdev -type d ! -perm -0700 -exec chmod u+rwx {{}} + >/dev/null 2>&1 || :
  find "$1" -xdev -type d ! -perm -0700 -exec chmod u+rwx {{}} \; >/dev/null 2>&1 || :
  find "$1" -xdev ! -type d -exec rm -f {{}} + >/dev/null 2>&1 || :
  find "$1" -xdev -depth -type d -exec rmdir {{}} \; >/dev/null 2>&1 || :
  [ ! -e "$1" ] && [ ! -L "$1" ]
}}
discard() {{
  [ -e "$rel/$1" ] || [ -L "$rel/$1" ] || return 0
  if mounted "$1"; then
    left "$1" 'something is mounted in it'
    return 1
  fi
  turn=1
  while [ -e "$rel/{GONE}$1-$turn" ] || [ -L "$rel/{GONE}$1-$turn" ]; do turn=$((turn + 1)); done
  said=$(mv "$rel/$1" "$rel/{GONE}$1-$turn" 2>&1) || {{
    left "$1" "${{said##*: }}"
    return 1
  }}
  remove_all "$rel/{GONE}$1-$turn"
}}
sweep() {{
  for one in "$rel"/{GONE}*; do
    if [ -e "$one" ] || [ -L "$one" ]; then
      one=${{one##*/}}
      if mounted "$one"; then
        left "$one" 'something is mounted in it'
      else
        remove_all "$rel/$one" || left "$one" "${{said##*: }}"
      fi
    fi
  done
}}
fit() {{
  ! mounted "${{1#"$rel/"}}" || return 1
  all_writable "$1" && return 0
  find "$1" -xdev -type d ! -writable -exec chmod u+rwx {{}} + >/dev/null 2>&1 || :
  all_writable "$1"
}}
all_writable() {{
  odd=$(find "$1" \( -type d \( ! -writable -o -perm -1000 \) -o -type f -perm -200 ! -writable \) -print -quit 2>&1) &&
    [ -z "$odd" ]
}}
drop_parts() {{
  for one in "$rel"/[0-9]*.part*; do
    [ -d "$one" ] && [ ! -L "$one" ] || continue
    one=${{one##*/}}
    case ${{one%.part*}} in *[!0-9]*) continue ;; esac
    whose=$owner
    for file in "$rel/$one"/.[0-9]*/owner; do
      if [ -f "$file" ]; then read -r whose <"$file" || :; fi
    done
    [ "$whose" != "$owner" ] || discard "$one" || :
  done
}}
"#,
        mark = quote(mark),
    )
}
