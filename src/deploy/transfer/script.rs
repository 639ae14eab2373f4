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
//! A release is made in its part folder `releases/ID.part`: its folder `ID` and its record `.ID` are
//! there, as they will be, and the `lists` of the pack. Starting a program costs a server about as much
//! as copying twenty small files, so the scripts start few.

use crate::deploy::script::{DROP_PARTS, WAS_LIVE, head};
use crate::store::ReleaseId;

/// What the line begins with that says what the server has; the rest follows, each after a tab.
pub(super) const OFFER: &str = "longshore-offer";

/// What [`take`] says on a line of its own before it goes on with what comes after the release's arrival.
pub(super) const ARRIVED: &str = "longshore-arrived";

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
    /// Its folders as words for the shell, if they are few.
    pub(super) folders: Option<&'a str>,
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
        ..
    } = arrival;
    head(base)
        + DROP_PARTS
        + &format!(
            r#"export LC_ALL=C
rel=$base/releases part=$base/releases/{release}.part ours={release} want={sums} from=-
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse not_a_link "$base/current"
fi
{WAS_LIVE}live=${{was_live#releases/}}
spare=$rel/.spare told=$part/lists/told sealed='f%P//%m %s///%C@ %i\0' linked='f%P//%m %s///%T@ %i\0'
found() {{
  find . -mindepth 1 -type f -printf "$1" -o -type d -printf 'd%P//%m\0' -o -type l -printf 'l%P//%l\0' \
    -o -printf '?%P//\0'
}}
recorded() {{ said=; [ -d "$rel/$1" ] && [ -f "$rel/.$1/digest" ] && read -r said <"$rel/.$1/digest"; }}
touched() {{
  if [ -f "$rel/.$1/seal" ]; then set -- "$1" seal "$sealed"; else set -- "$1" linked "$linked"; fi
  [ "$( (cd "$rel/$1" && found "$3") | sort -z | comm -z -13 - "$rel/.$1/$2" | wc -c)" -ne 2 ]
}}
"#
        )
}

/// Tells whether a spare can be worked in: no link leads what is done in it to another place, and nobody
/// else lets nobody write into its folders. Few folders are looked at without a program; by `links_gone`
/// all are, and every link goes.
fn fit(arrival: &Arrival<'_>) -> String {
    let looked_at = match arrival.folders {
        None => "false".to_owned(),
        Some(folders) => format!(
            r#"for folder in . {folders}; do
    if [ -L "$1/$folder" ] || {{ [ -e "$1/$folder" ] && [ ! -w "$1/$folder" ]; }}; then return 1; fi
  done"#
        ),
    };
    format!(
        r#"links_gone() {{
  said=$(find "$1" ! -type d ! -type f -delete -o -type d ! -writable -print -quit 2>&1) && [ -z "$said" ]
}}
fit() {{
  {looked_at}
}}
"#
    )
}

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
  if [ "$from" != - ] && [ -d "$spare/$one" ] && read -r record <"$spare/.$one/digest" &&
    {{ fit "$spare/$one" || links_gone "$spare/$one"; }}; then
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
  [ -z "$(find / -maxdepth 0 -printf . 2>/dev/null | tr -d .)" ] && sort -z </dev/null 2>/dev/null &&
    sed -z p </dev/null 2>/dev/null && sha256sum -z </dev/null >/dev/null 2>&1 && find / -maxdepth 0 -printf '' 2>/dev/null || gnu=0
fi
for tool in gzip zstd; do if command -v $tool >/dev/null 2>&1; then codec=$tool; fi; done
command -v tar >/dev/null 2>&1 || codec=none
for tool in sha256sum shasum openssl; do if command -v $tool >/dev/null 2>&1; then tools="$tools $tool"; fi; done
printf '{OFFER}\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' \
  "$codec" "$gnu" "$tools" "$from" "${{digest:--}}" "${{old:--}}" "${{record:--}}"
"#
    )
}

/// Says what is there and ends.
pub(super) fn look_only(arrival: &Arrival<'_>) -> String {
    opening(arrival) + &go_on(None) + &fit(arrival) + &look(arrival)
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
        false => HELLO.to_owned() + &look(arrival),
    };
    opening(arrival)
        + &go_on(then)
        + &fit(arrival)
        + &look
        + &prepare(arrival)
        + FAILING
        + "read -r go codec gnu from print sum old length folders\n"
        + BEGIN
        + "[ $codec != none ] || exit 0\n"
        + UNPACK
        + ENTER
        + &keep(arrival)
        + &look_over(arrival)
        + CHECK
        + PUBLISH
        + "go_on\n"
}

/// What the script is told before it is asked anything. A server that has no shell takes it for files by
/// SFTP, which it is not, and hangs up at once.
pub(super) const GREETING: &str = "longshore\n";

const HELLO: &str = "read -r hello\n";

/// Takes the part folder on where its `tree` and its `lists` came by another way. `gnu` and `print`:
/// as in the line that [`take`] reads.
pub(super) fn finish(arrival: &Arrival<'_>, gnu: bool, print: &str, sum: &str) -> String {
    let gnu = u8::from(gnu);
    opening(arrival)
        + &format!("gnu={gnu} print={print} sum={sum} old=-\n")
        + FAILING
        + ENTER
        + &keep(arrival)
        + &look_over(arrival)
        + CHECK
        + PUBLISH
}

/// Makes the empty part folder.
fn prepare(arrival: &Arrival<'_>) -> String {
    let release = arrival.release;
    format!(
        r#"[ -d "$rel" ] || said=$(mkdir -p "$rel" 2>&1) || refuse releases_not_made "$rel" "${{said##*: }}"
if [ "$live" = {release} ]; then refuse foreign_release "$base/current" {release}; fi
drop_parts
said=$(mkdir "$part" "$part/lists" "$part/.$ours" 2>&1) || refuse releases_not_written "$rel" "${{said##*: }}"
"#
    )
}

const FAILING: &str = r#"fail() {
  cd "$rel"
  drop_parts
  if [ "$old" != - ]; then
    rm -rf "$spare" || :
    refuse spare_failed "$old" "$2"
  fi
  if [ "$from" != - ]; then refuse delta_failed "$from" "$2"; fi
  refuse "$1" "$part" "$2"
}
names() {
  if [ $gnu = 1 ]; then cut -z -b67- "$1"; else tr '\0\n' '\n\0' <"$1" | cut -b67- | tr '\n\0' '\0\n'; fi
}
"#;

/// The part folder that the release is made in: an empty one, or the spare without what does not stay.
const BEGIN: &str = r#"if [ "$old" = - ]; then
  [ ! -e "$spare" ] || rm -rf "$spare" || :
  mkdir "$part/$ours"
else
  mv "$spare/$old" "$part/$ours" 2>"$told" || fail spare "$(cat "$told")"
  cd "$part/$ours"
  [ "$length" = 0 ] || { links_gone . && said=$(head -c "$length" | xargs -0 rm -f -- 2>&1); } || fail spare "$said"
  [ "$folders" = 0 ] || said=$(find . -mindepth 1 -depth -type d -empty -delete 2>&1) || fail spare "$said"
fi
"#;

const UNPACK: &str = r#"case $codec in zstd) unpack='zstd -dcq' ;; gzip) unpack='gzip -dc' ;; *) unpack=cat ;; esac
said=$( { $unpack | tar -xpof - -C "$part" 2>&1 || echo failed; } )
case $said in *failed)
  said=$(printf '%s\n' "$said" | grep -v -e 'previous errors' -e 'not recoverable' -e 'Child returned' | tail -n 2)
  free=$(df -Pk "$part" 2>/dev/null | tail -n 1 | sed 's/.* \([0-9][0-9]*\)  *[0-9][0-9]*%.*/\1/')
  [ "${free:-1024}" -ge 1024 ] || fail disk_full "${said%?failed}"
  fail not_unpacked "${said%?failed}" ;;
esac
"#;

const ENTER: &str = r#"[ -f "$part/lists/added" ] || fail incomplete 'nothing arrived'
cd "$part/$ours"
"#;

/// Takes over from the old release what did not change. What is copied into a spare has not been touched
/// there since it was verified, or it is checked here.
fn keep(arrival: &Arrival<'_>) -> String {
    let how = if arrival.hard_links {
        "-l"
    } else {
        "--reflink=auto --preserve=mode,timestamps"
    };
    format!(
        r#"check=../lists/added
take_over() {{
  cd "$rel/$from"
  xargs -0 -r cp -P --remove-destination {how} --parents -t "$part/$ours" -- >"$told" 2>&1 && [ ! -s "$told" ] ||
    fail delta "$(cat "$told")"
  cd "$part/$ours"
}}
copied_as_sealed() {{
  if [ -f "$rel/.$from/seal" ]; then set -- seal Z; else set -- linked Y; fi
  cd "$rel/$from"
  xargs -0 -r stat --printf "f%n//%a %s///%.10$2 %i\0" -- <"$part/lists/copied" >"$part/lists/were" 2>&1 || :
  cd "$part/$ours"
  comm -z -23 ../lists/were "$rel/.$from/$1" >../lists/touched && [ ! -s ../lists/touched ]
}}
if [ "$from" = - ]; then
  cp ../lists/added ../.$ours/sums
elif [ "$old" = - ]; then
  comm -z -23 "$rel/.$from/sums" ../lists/dropped >../lists/kept || fail delta 'no list'
  names ../lists/kept | take_over
  sort -z -m -o ../.$ours/sums ../lists/kept ../lists/added
  if touched "$from"; then check=../.$ours/sums print=zero; fi
else
  if [ -s ../lists/copied ]; then take_over <../lists/copied; fi
  case $print in check | zero) if copied_as_sealed; then check=../lists/sent; fi ;; esac
  comm -z -23 "$spare/.$old/sums" ../lists/dropped >../lists/kept || fail spare 'no list'
  sort -z -m -o ../.$ours/sums ../lists/kept ../lists/added
fi
"#
    )
}

/// Looks at the whole tree, writes its seal, and asks whether the tree is what it is to be. In a spare
/// only what changed is compared; where that is not right, what the application left goes, and where all
/// is right but for times, every file is checked by its content.
fn look_over(arrival: &Arrival<'_>) -> String {
    let Arrival {
        shape,
        modeless,
        files,
        ..
    } = arrival;
    let seal = arrival.seal();
    let (format, alone) = if arrival.hard_links {
        ("$linked", ":")
    } else {
        (
            "$sealed",
            r#"[ -z "$(find . -type f -links +1 -print -quit)" ] || fail spare 'shared files'"#,
        )
    };
    format!(
        r#"seal=../.$ours/{seal}
seal() {{
  found "{format}" >../lists/found && sort -z ../lists/found >$seal && printf '~\0' >>$seal
}}
whole() {{
  {{ find . -mindepth 1 -type f -printf 'f%P//%m %s\0' -fprintf $seal "{format}" \
    -o -type d -printf 'd%P//%m\0' -fprintf $seal 'd%P//%m\0' \
    -o -type l -printf 'l%P//%l\0' -fprintf $seal 'l%P//%l\0' -o -printf '?%P//\0' || echo failed; }} | sort -z
  sort -z -o $seal $seal && printf '~\0' >>$seal
}}
modeless() {{ whole | sed -z 's|^\([df].*//\)[0-7]* \{{0,1\}}|\1|'; }}
as_planned() {{
  comm -z -3 "$spare/.$old/{seal}" $seal >../lists/differs && printf '.\0' >>../lists/differs &&
    sed -z '/^\t*f/s|///.*||' ../lists/differs >../lists/is && sort -z -o ../lists/is ../lists/is &&
    cmp -s ../lists/is ../lists/changed
}}
is() {{
  said=$($1 | sha256sum)
  [ "${{said%% *}}" = "$2" ]
}}
tidy() {{
  names ../.$ours/sums | sort -z >../lists/files
  sed -z -n 's|^f\(.*\)//[0-7]* [0-9]*///.*|./\1|p' $seal | sort -z | comm -z -23 - ../lists/files |
    xargs -0 -r rm -f -- || fail spare 'added files'
  comm -z -23 ../lists/is ../lists/changed | sed -z -n '/^\t[dl]/s|//.*||p' >../lists/left
  sed -z -n 's|^\tl|./|p' ../lists/left | xargs -0 -r rm -f -- || fail spare 'added links'
  sed -z -n 's|^\td|./|p' ../lists/left | sort -z -r | xargs -0 -r rmdir -- 2>/dev/null || :
}}
keep=$gnu
if [ $gnu = 0 ]; then
  count=$(find . ! -type d -print0 | tr -dc '\0' | wc -c)
  [ "$count" -eq {files} ] || fail incomplete "$((count)) / {files}"
elif [ "$old" != - ]; then
  seal || :
  if ! as_planned; then
    tidy
    seal || :
    if ! as_planned; then
      is whole {shape} || fail spare 'changed files'
      {alone}
      check=../.$ours/sums print=zero
    fi
  fi
elif ! is whole {shape}; then
  [ "$from" = - ] || fail delta shape
  is modeless {modeless} || fail damaged shape
  echo 'this file system does not keep the modes of files'
  keep=0
fi
"#
    )
}

/// Checks the content of the files that `check` lists.
const CHECK: &str = r#"if [ $gnu = 1 ] && { [ "$old" = - ] || [ $check = ../.$ours/sums ]; }; then
  said=$(sha256sum ../.$ours/sums)
  [ "${said%% *}" = "$want" ] || fail damaged 'list of files'
fi
if [ -s $check ]; then
  case $print in
    check)
      list=../lists/check
      [ $check = ../lists/sent ] || tr '\0' '\n' <$check >$list
      sha256sum -c --quiet $list >"$told" 2>&1 || {
        said=$(cat "$told")
        fail damaged "${said%%: FAILED*}"
      } ;;
    zero) said=$(names $check | xargs -0 sha256sum -z -- | cmp - $check 2>&1) || fail damaged "${said##*: }" ;;
    openssl)
      said=$(names $check | xargs -0 openssl dgst -sha256 -r | openssl dgst -sha256 -r)
      [ "${said%% *}" = "$sum" ] || fail damaged checksum ;;
    sha256sum)
      said=$(names $check | xargs -0 sha256sum | sha256sum)
      [ "${said%% *}" = "$sum" ] || fail damaged checksum ;;
    shasum)
      said=$(names $check | xargs -0 shasum -a 256 | shasum -a 256)
      [ "${said%% *}" = "$sum" ] || fail damaged checksum ;;
    *) echo 'no tool for checksums here: the files were counted' ;;
  esac
fi
"#;

/// The record first: where the folder is, its record is.
const PUBLISH: &str = r#"cd "$rel"
[ ! -e "$ours" ] && [ ! -e ".$ours" ] || rm -rf "$ours" ".$ours"
if [ $keep = 1 ]; then
  echo "$want" >"$part/.$ours/digest"
  mv "$part/.$ours" "$part/$ours" .
else
  mv "$part/$ours" .
fi
rm -rf "$part" "$spare"/.[0-9]* "$spare"/[0-9]* || :
"#;
