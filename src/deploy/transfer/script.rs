//! The script that takes a release on a server: POSIX `sh`, one run from the look at what is there to
//! the rename. Pure text.
//!
//! Beside a release's folder `releases/ID` there may be its record `releases/.ID`: `sums` (checksums
//! and paths of its files), `digest` (the checksum of `sums`) and `seal` (what is at every path, with
//! mode, size, inode and time of the last change of every file, as it was when it had been verified;
//! `linked`: with the time of its content instead, since a hard link changes a file too). A file whose
//! line of the seal is still true has not been touched since. The seal ends with `~`: one that was cut
//! off, as by a full disk, holds nothing.
//!
//! The release that went last lies in `releases/.spare`, as `ID` with its record `.ID`. The next release
//! is made of it, so that only what differs is written; without it the unchanged files are copied.
//!
//! A release is made in its part folder `releases/ID.part` (`ID.part-2` where something is in the way that cannot
//! be removed): its folder `ID` and its record `.ID` are there, as they will be, and the `lists` of the pack.
//! Starting a program costs a server about as much as copying twenty small files, so the scripts start few.
//!
//! Folders are made for everybody to read, whatever the login's umask is. Group, setgid bit and default ACL of
//! `releases` hold for what is made below it; the modes are the release's.

mod make;

use make::{BEGIN, CHECK, ENTER, FAILING, PUBLISH, SETTLE, UNPACK, keep, look_over, prepare};

use crate::deploy::script::folders::{self, Owner};
use crate::deploy::script::{WAS_LIVE, head};
use crate::ssh::quote;
use crate::store::ReleaseId;

/// What the line begins with that says what the server has; the rest follows, each after a tab.
pub(super) const OFFER: &str = "longshore-offer";

/// What [`take`] says on a line of its own before it goes on with what comes after the release's arrival.
pub(super) const ARRIVED: &str = "longshore-arrived";

/// What [`take`] says before it ends where nothing could be unpacked: the part folder's name follows, after a tab.
pub(super) const PART: &str = "longshore-part";

/// Where the list of the release's files is, as [`take`] names it to `cksum`.
pub(super) fn sums(release: ReleaseId) -> String {
    format!("../.{release}/sums")
}

/// What the script is told of the release before it runs.
pub(super) struct Arrival<'a> {
    pub(super) base: &'a str,
    pub(super) release: ReleaseId,
    /// The checksum of its `sums`.
    pub(super) sums: &'a str,
    /// The checksum of its shape.
    pub(super) shape: &'a str,
    /// The same without modes.
    pub(super) modeless: &'a str,
    /// How many files and links it has.
    pub(super) files: u64,
    /// Whether unchanged files may be shared with the release that is there.
    pub(super) hard_links: bool,
    /// Whether what is there may be used at all.
    pub(super) delta: bool,
    /// Whose releases may be used and removed.
    pub(super) owner: &'a Owner,
}

impl Arrival<'_> {
    /// Which seal the release gets.
    fn seal(&self) -> &'static str {
        if self.hard_links { "linked" } else { "seal" }
    }
}

/// What both halves begin with.
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

/// Tells whether a spare can be worked in: every folder is looked at, and every link goes, so that none leads
/// what is done in it to another place.
const USABLE: &str = r#"links_gone() { said=$(find "$1" ! -type d ! -type f -delete 2>&1) && [ -z "$said" ]; }
usable() { fit "$1" && links_gone "$1"; }
"#;

/// Says what is there: an [`OFFER`], with the release `from` that a delta can start from and the spare.
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

/// Says what is there and ends.
pub(super) fn look_only(arrival: &Arrival<'_>) -> String {
    opening(arrival) + &go_on(None) + USABLE + &look(arrival)
}

/// Goes on with the script `then`, if there is one, once the release is there.
fn go_on(then: Option<&str>) -> String {
    match then {
        None => "go_on() { :; }\n".to_owned(),
        Some(then) => format!("go_on() {{\necho {ARRIVED}\n{then}}}\n"),
    }
}

/// Says what is there, reads a line `go CODEC GNU FROM PRINT SUM SPARE LENGTH FOLDERS`, LENGTH bytes of
/// paths that go from the spare, then the pack, makes it `releases/ID`, and goes on with `then`. FOLDERS:
/// 1 where folders may go. `asked`: the look has been done before.
pub(super) fn take(arrival: &Arrival<'_>, asked: bool, then: Option<&str>) -> String {
    let look = match asked {
        true => String::new(),
        false => look(arrival),
    };
    opening(arrival)
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

/// Takes the part folder `part` on where its `tree` and its `lists` came by another way. `gnu` and `print`:
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
