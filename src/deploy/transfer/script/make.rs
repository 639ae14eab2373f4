//! The part of the script that makes a release in its part folder, after the report.

use super::Arrival;

/// Makes the empty part folder, under a free name.
pub(super) fn prepare(arrival: &Arrival<'_>) -> String {
    let release = arrival.release;
    format!(
        r#"[ -d "$rel" ] || said=$(mkdir -p "$rel" 2>&1) || refuse releases_not_made "$rel" "${{said##*: }}"
if [ "$live" = {release} ] || [ "$link" = releases/{release} ]; then refuse foreign_release "$base/current" {release}; fi
drop_parts
turn=1
while [ -e "$part" ] || [ -L "$part" ]; do
  turn=$((turn + 1))
  part=$rel/$ours.part-$turn
done
said=$(mkdir "$part" "$part/lists" "$part/.$ours" "$part/$ours" 2>&1) || refuse releases_not_written "$rel" "${{said##*: }}"
echo "$owner" >"$part/.$ours/owner" || refuse releases_not_written "$rel" "$part"
told=$part/lists/told
"#
    )
}

/// Handles a failure: removes everything that was begun and prints the reason.
pub(super) const FAILING: &str = r#"fail() {
  cd "$rel"
  drop_parts
  if [ "$old" != - ]; then
    discard .spare || :
    refuse spare_failed "$old" "$2"
  fi
  if [ "$from" != - ]; then refuse delta_failed "$from" "$2"; fi
  refuse "$1" "$part" "$2"
}
names() {
  case $gnu$print in
    1*) cut -z -b67- "$1" ;;
    0each-*) xargs -0 sh -c 'for record; do printf "%s\0" "${record#*  }"; done' sh <"$1" ;;
    *) tr '\0\n' '\n\0' <"$1" | cut -b67- | tr '\n\0' '\0\n' ;;
  esac
}
"#;

/// Starts the release's folder: an empty one, or the recycled one without the files to remove.
pub(super) const BEGIN: &str = r#"if [ "$old" = - ]; then
  discard .spare || :
else
  mv -T "$spare/$old" "$part/$ours" 2>"$told" || fail spare "$(cat "$told")"
  cd "$part/$ours"
  [ "$length" = 0 ] || { links_gone . && said=$(head -c "$length" | xargs -0 rm -f -- 2>&1); } || fail spare "$said"
  [ "$folders" = 0 ] || said=$(find . -mindepth 1 -depth -type d -empty -delete 2>&1) || fail spare "$said"
fi
"#;

/// Unpacks the script's input.
pub(super) const UNPACK: &str = r#"case $codec in zstd) unpack='zstd -dcq' ;; gzip) unpack='gzip -dc' ;; *) unpack=cat ;; esac
said=$( { $unpack | tar -xpof - -C "$part" 2>&1 || echo failed; } )
case $said in *failed)
  said=$(printf '%s\n' "$said" | grep -v -e 'previous errors' -e 'not recoverable' -e 'Child returned' | tail -n 2)
  free=$(df -Pk "$part" 2>/dev/null | tail -n 1 | sed 's/.* \([0-9][0-9]*\)  *[0-9][0-9]*%.*/\1/')
  [ "${free:-1024}" -ge 1024 ] || fail disk_full "${said%?failed}"
  fail not_unpacked "${said%?failed}" ;;
esac
"#;

/// Changes into the release's folder if the lists have arrived.
pub(super) const ENTER: &str = r#"[ -f "$part/lists/added" ] || [ -f "$part/.$ours/sums" ] || fail incomplete 'nothing arrived'
cd "$part/$ours"
"#;

/// Takes unchanged files over from the old release. Files that are copied into a recycled folder were
/// not touched since they were verified, or are checked here.
pub(super) fn keep(arrival: &Arrival<'_>) -> String {
    let how = if arrival.hard_links {
        "-l"
    } else {
        // Without a umask the copies have the modes of the old files, and their ACLs come from the new
        // folder. `--preserve=mode` would copy the old ACLs.
        "--reflink=auto --preserve=timestamps"
    };
    format!(
        r#"check=../lists/added
take_over() {{
  cd "$rel/$from"
  umask 0
  xargs -0 -r cp -P --remove-destination {how} --parents -t "$part/$ours" -- >"$told" 2>&1 && [ ! -s "$told" ] ||
    fail delta "$(cat "$told")"
  umask 022
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
  check=../.$ours/sums
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

/// Sets the folders' attributes that neither the old release nor the pack could set: modes without
/// write permission for the owner, and the group and setgid bit of `releases` or else of the project's
/// folder.
pub(super) const SETTLE: &str = r#"closed() {
  for list in ../lists/closed-*; do [ ! -s "$list" ] || xargs -0 chmod "${list##*-}" -- <"$list"; done
}
handed=$rel
[ -g "$rel" ] || handed=$base
grouped() {
  set -- $(ls -ldn "$handed")
  [ "$handed" = "$rel" ] || { chgrp "$4" "$rel" && chmod g+s "$rel"; } 2>/dev/null || :
  find . ! -group "$4" -exec chgrp -h "$4" {} + 2>"$told" || head -n 1 "$told"
  find . -type d ! -perm -2000 -exec chmod g+s {} +
}
closed
[ ! -g "$handed" ] || grouped
"#;

/// Writes the tree's stat index and verifies the tree against the manifest. In a recycled folder only
/// the changes are compared. If they are wrong, files that the application left are removed; if then
/// only times differ, the content of every file is checked.
pub(super) fn look_over(arrival: &Arrival<'_>) -> String {
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
    -o -type l -printf 'l%P//%l\0' -fprintf $seal 'l%P//%l\0' -o -printf '?%P//\0' || echo failed; }} |
    if [ -g . ]; then sed -z 's|^\(d.*//\)[0-7]*\([0-7]\{{3\}}\)$|\1\2|' | sort -z; else sort -z; fi
  sort -z -o $seal $seal && printf '~\0' >>$seal
}}
modeless() {{ whole | sed -z 's|^\([df].*//\)[0-7]* \{{0,1\}}|\1|'; }}
as_planned() {{
  comm -z -3 "$spare/.$old/{seal}" $seal >../lists/differs && printf '.\0' >>../lists/differs &&
    sed -z '/^\t*f/s|///.*||; s|^\(\t*d.*//\)[0-7]*\([0-7]\{{3\}}\)$|\1\2|' ../lists/differs >../lists/is && sort -z -o ../lists/is ../lists/is &&
    cmp -s ../lists/is ../lists/changed
}}
is() {{
  said=$($1 | sha256sum)
  [ "${{said%% *}}" = "$2" ]
}}
set_modes() {{
  find . -mindepth 1 -type d -exec chmod u=rwx,go=rx {{}} +
  find . -type f -perm -100 -exec chmod 755 {{}} +
  find . -type f ! -perm -100 -exec chmod 644 {{}} +
  for list in ../lists/modes-*; do [ ! -s "$list" ] || xargs -0 chmod "${{list##*-}}" -- <"$list"; done
  closed
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
elif ! is whole {shape} && {{ ! is modeless {modeless} || ! set_modes 2>"$told" || ! is whole {shape}; }}; then
  [ "$from" = - ] || fail delta shape
  is modeless {modeless} || fail damaged shape
  echo 'this file system does not keep the modes of files'
  keep=0
fi
"#
    )
}

/// Checks the content of the files in the list `check`.
pub(super) const CHECK: &str = r#"if [ $gnu = 1 ] && [ $print != cksum ] && { [ "$old" = - ] || [ $check = ../.$ours/sums ]; }; then
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
    cksum)
      said=$( { printf '../.%s/sums\0' "$ours" && names $check; } | xargs -0 cksum | cksum)
      [ "${said%% *}" = "$sum" ] || fail damaged checksum ;;
    sha256sum)
      said=$(names $check | xargs -0 sha256sum | sha256sum)
      [ "${said%% *}" = "$sum" ] || fail damaged checksum ;;
    shasum)
      said=$(names $check | xargs -0 shasum -a 256 | shasum -a 256)
      [ "${said%% *}" = "$sum" ] || fail damaged checksum ;;
    each-*)
      each=${print#each-}
      [ $each != shasum ] || each='shasum -a 256'
      said=$(names $check | xargs -0 sh -c "for file; do $each <\"\$file\"; done" sh | $each)
      [ "${said%% *}" = "$sum" ] || fail damaged checksum ;;
    *) echo 'no tool for checksums here: the files were counted' ;;
  esac
fi
"#;

/// Publishes the release. The record moves first, so that a release's folder is never without its
/// record. A folder of this number that belongs to somebody else is moved aside.
pub(super) const PUBLISH: &str = r#"cd "$rel"
if [ -e "$ours" ] || [ -L "$ours" ]; then
  if owned "$ours"; then
    discard "$ours" || :
  else
    turn=1
    while [ -e "$ours.aside-$turn" ] || [ -L "$ours.aside-$turn" ]; do turn=$((turn + 1)); done
    ! mounted "$ours" && mv "./$ours" "./$ours.aside-$turn" && echo "moved aside: $rel/$ours.aside-$turn" || :
  fi
  [ ! -e "$ours" ] && [ ! -L "$ours" ] || fail foreign_release "$ours"
fi
discard ".$ours" || :
if [ $keep = 1 ]; then
  echo "$want" >"$part/.$ours/digest"
else
  rm -f "$part/.$ours/sums" "$part/.$ours/seal" "$part/.$ours/linked"
fi
mv "$part/.$ours" "$part/$ours" .
rm -rf "$part" "$spare"/.[0-9]* || :
for one in "$spare"/[0-9]*; do [ ! -e "$one" ] || discard .spare || :; done
"#;
