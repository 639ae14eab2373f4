//! The script that receives a release on a server: POSIX `sh`, one run from the report of what is
//! there to the rename. Pure text.
//!
//! Beside a release's folder `releases/ID` there may be its record `releases/.ID`: `sums` (checksums
//! and paths of its files), `digest` (the checksum of `sums`) and `seal`, the stat index: every path
//! with mode, size, inode and ctime of each file, taken after the release was verified. With hard
//! links it is `linked`, with mtime instead of ctime, since a hard link changes a file's ctime. A file
//! whose line in the stat index is still true has not been touched since. The index ends with `~`, so
//! that one that was cut off, for example by a full disk, is not valid.
//!
//! The release that was removed last is recycled: it lies in `releases/.spare`, as `ID` with its
//! record `.ID`. The next release is made from it, so that only the differences are written; without
//! it the unchanged files are copied.
//!
//! A release is made in its part folder `releases/ID.part` (`ID.part-2` if that name is taken and
//! cannot be removed): its folder `ID` and its record `.ID` in their final form, and the `lists` of
//! the pack. Starting a program costs a server about as much as copying twenty small files, so the
//! scripts start few.
//!
//! Folders are made readable for everybody, regardless of the login's umask. Group, setgid bit and
//! default ACL of `releases` apply to everything made below it; the modes are the release's.

mod make;

use make::{BEGIN, CHECK, ENTER, FAILING, PUBLISH, SETTLE, UNPACK, keep, look_over, prepare};

use crate::deploy::script::folders::{self, Owner};
use crate::deploy::script::{WAS_LIVE, head, take_turn};
use crate::ssh::quote;
use crate::store::ReleaseId;

/// The start of the line with the server's capabilities. The fields follow, each after a tab.
pub(super) const OFFER: &str = "longshore-offer";

/// The line that [`take`] prints before it goes on with the script that follows the release's arrival.
pub(super) const ARRIVED: &str = "longshore-arrived";

/// The start of the line that [`take`] prints before it ends because nothing can be unpacked. The part
/// folder's name follows, after a tab.
pub(super) const PART: &str = "longshore-part";

/// The path of the list of the release's files, as [`take`] gives it to `cksum`.
pub(super) fn sums(release: ReleaseId) -> String {
    format!("../.{release}/sums")
}

/// The facts about the release that are known before the script runs.
pub(super) struct Arrival<'a> {
    pub(super) base: &'a str,
    pub(super) release: ReleaseId,
    /// The checksum of its `sums`.
    pub(super) sums: &'a str,
    /// The checksum of its shape: of all paths with kind, mode, size and link target.
    pub(super) shape: &'a str,
    /// The same without modes.
    pub(super) modeless: &'a str,
    /// The number of files and links.
    pub(super) files: u64,
    /// True if unchanged files may be hard links to those of the earlier release.
    pub(super) hard_links: bool,
    /// True if an earlier release on the server may be used.
    pub(super) delta: bool,
    /// The mark of releases that may be used and removed.
    pub(super) owner: &'a Owner,
}

impl Arrival<'_> {
    /// The name of the release's stat index.
    fn seal(&self) -> &'static str {
        if self.hard_links { "linked" } else { "seal" }
    }
}

/// The start of both halves of the script.
fn opening(arrival: &Arrival<'_>) -> String {
    let Arrival {
        base,
        release,
        sums,
        owner,
        ..
    } = arrival;
    head(base)
        + &folders::functions(owner)
        + &format!(
            r#"export LC_ALL=C
umask 022
part=$rel/{release}.part ours={release} want={sums} from=-
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse not_a_link "$base/current"
fi
{WAS_LIVE}spare=$rel/.spare sealed='f%P//%m %s///%C@ %i\0' linked='f%P//%m %s///%T@ %i\0'
found() {{
  find . -xdev -mindepth 1 -type f -printf "$1" -o -type d -printf 'd%P//%m\0' -o -type l -printf 'l%P//%l\0' \
    -o -printf '?%P//\0'
}}
recorded() {{
  said=
  [ -n "$1" ] && [ -d "$rel/$1" ] && [ -f "$rel/.$1/digest" ] && owned "$1" && read -r said <"$rel/.$1/digest"
}}
touched() {{
  if [ -f "$rel/.$1/seal" ]; then set -- "$1" seal "$sealed"; else set -- "$1" linked "$linked"; fi
  [ "$( (cd "$rel/$1" && found "$3") | sort -z | comm -z -13 - "$rel/.$1/$2" | wc -c)" -ne 2 ]
}}
"#
        )
}

/// Defines `usable`, which tests that a recycled folder can be written. It looks at every folder and
/// removes every link, so that no link leads a write to another place.
const USABLE: &str = r#"links_gone() { said=$(find "$1" ! -type d ! -type f -delete 2>&1) && [ -z "$said" ]; }
usable() { fit "$1" && links_gone "$1"; }
"#;

/// Reports the server's state: an [`OFFER`] with the release `from` that a delta can start from, and
/// the recycled folder.
fn look(arrival: &Arrival<'_>) -> String {
    let mut text = String::new();
    text.push_str(&format!(
        r#"if recorded "$ours" && [ "$said" = "$want" ] && ! touched "$ours"; then
  printf '{OFFER}\tthere\n'
  go_on
  exit 0
fi
"#
    ));
    if arrival.delta {
        text.push_str(&format!(
            r#"newest=0
for one in "$rel"/.[0-9]*/digest; do
  one=${{one%/digest}} one=${{one##*/.}}
  case $one in *[!0-9]*) ;; *) if [ "$one" -gt "$newest" ] && recorded "$one"; then newest=$one; fi ;; esac
done
for one in "$live" "$newest"; do
  if [ "$from" = - ] && recorded "$one"; then from=$one digest=$said; fi
done
for one in "$spare"/.[0-9]*/{seal}; do
  one=${{one%/{seal}}} one=${{one##*/.}}
  if [ "$from" != - ] && [ -d "$spare/$one" ] && read -r record <"$spare/.$one/digest" && usable "$spare/$one"; then
    old=$one
  fi
done
"#,
            seal = arrival.seal(),
        ));
    }
    text + &format!(
        r#"gnu=1 tools= codec=cat
if [ "$from" = - ]; then
  [ "$(find / -maxdepth 0 -printf . 2>/dev/null)" = . ] && sort -z </dev/null 2>/dev/null &&
    sed -z p </dev/null 2>/dev/null && sha256sum -z </dev/null >/dev/null 2>&1 || gnu=0
fi
for tool in gzip zstd; do if command -v $tool >/dev/null 2>&1; then codec=$tool; fi; done
command -v tar >/dev/null 2>&1 || codec=none
for tool in sha256sum shasum cksum; do if command -v $tool >/dev/null 2>&1; then tools="$tools $tool"; fi; done
printf '{OFFER}\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' \
  "$codec" "$gnu" "$tools" "$from" "${{digest:--}}" "${{old:--}}" "${{record:--}}"
"#
    )
}

/// Creates the folder for the turn file; a failure is reported by later commands.
const MAKE_BASE: &str = r#"[ -d "$base" ] || mkdir -p "$base" 2>/dev/null || :
"#;

/// Reports the server's state and ends.
pub(super) fn look_only(arrival: &Arrival<'_>) -> String {
    opening(arrival) + &go_on(None) + USABLE + &look(arrival)
}

/// Defines `go_on`, which runs the script `then`, if there is one, after the release has arrived.
fn go_on(then: Option<&str>) -> String {
    match then {
        None => "go_on() { :; }\n".to_owned(),
        Some(then) => format!("go_on() {{\necho {ARRIVED}\n{then}}}\n"),
    }
}

/// Reports the server's state, reads a line `go CODEC GNU FROM PRINT SUM SPARE LENGTH FOLDERS`, LENGTH
/// bytes of paths to remove from the recycled folder, and the pack; makes it `releases/ID` and goes on
/// with `then`. FOLDERS is 1 if empty folders are to be removed. `asked` is true if the state was
/// reported before.
pub(super) fn take(arrival: &Arrival<'_>, asked: bool, then: Option<&str>) -> String {
    let look = match asked {
        true => String::new(),
        false => look(arrival),
    };
    // The turn is taken before anything is waited for.
    let turn = match then {
        None => String::new(),
        Some(_) => MAKE_BASE.to_owned() + &take_turn(arrival.release),
    };
    opening(arrival)
        + &turn
        + &go_on(then)
        + USABLE
        + &look
        + &prepare(arrival)
        + FAILING
        + "read -r go codec gnu from print sum old length folders\n"
        + BEGIN
        + &format!(
            "[ $codec != none ] || {{ printf '{PART}\\t%s\\n' \"${{part##*/}}\"; exit 0; }}\n"
        )
        + UNPACK
        + ENTER
        + &keep(arrival)
        + SETTLE
        + &look_over(arrival)
        + CHECK
        + PUBLISH
        + "go_on\n"
}

/// Finishes the part folder `part`, whose tree and `lists` came by another way. `gnu` and `print` are
/// as in the line that [`take`] reads.
pub(super) fn finish(
    arrival: &Arrival<'_>,
    part: &str,
    gnu: bool,
    print: &str,
    sum: &str,
) -> String {
    let gnu = u8::from(gnu);
    opening(arrival)
        + &format!(
            "part=$rel/{} gnu={gnu} print={print} sum={sum} old=-\n",
            quote(part)
        )
        + "told=$part/lists/told\n"
        + FAILING
        + ENTER
        + &keep(arrival)
        + SETTLE
        + &look_over(arrival)
        + CHECK
        + PUBLISH
}
