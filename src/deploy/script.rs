//! The scripts that Longshore itself runs on a server: POSIX `sh`, one a step. Pure text.
//!
//! On a server a project has one folder, `ROOT` + `PATH`:
//! `releases/ID` (whole releases alone; a half-sent one is `releases/ID.part`) and `current`, a link
//! that is only ever replaced by renaming another one over it.

use crate::ssh::quote;
use crate::store::ReleaseId;

/// The exit code of a script that has said on its standard error, in a sentence, why it cannot go on.
pub(super) const REFUSED: i32 = 65;

/// What every script begins with.
fn head(base: &str) -> String {
    format!(
        "set -eu\nrefuse() {{ echo \"$*\" >&2; exit {REFUSED}; }}\nbase={}\n",
        quote(base)
    )
}

/// Removes half-sent releases. They are nobody's: a project has one active release. Left where they
/// are, those that filled the disk would keep it full.
const DROP_PARTS: &str = r#"drop_parts() {
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

/// Takes a gzipped tar of `entries` things that are no folders on its input and makes it
/// `releases/ID`. Nothing has that name before all of it is there.
pub(super) fn receive(base: &str, release: ReleaseId, entries: u64) -> String {
    head(base)
        + DROP_PARTS
        + &format!(
            r#"part="$base/releases/{release}.part"
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse "$base/current is there and is not a link; move it away first"
fi
said=$(mkdir -p "$base/releases" 2>&1) ||
  refuse "the folder $base/releases cannot be made or written: ${{said##*: }}"
if [ "$(readlink "$base/current" || true)" = "releases/{release}" ]; then
  refuse "$base/current is a release {release} already, of another installation; move it away first"
fi
drop_parts
said=$(mkdir "$part" 2>&1) || refuse "the folder $base/releases cannot be written: ${{said##*: }}"
said=$( {{ LANGUAGE=C LC_MESSAGES=C tar -xzof - -C "$part" 2>&1 || echo failed; }} |
  grep -v -e 'previous errors' -e 'not recoverable' -e 'Child returned' | tail -n 2)
case $said in
  *failed)
    drop_parts
    refuse "the files could not be unpacked in $part: ${{said%?failed}}" ;;
esac
count=$(find "$part" ! -type d -exec echo x \; | wc -l)
if [ "$count" -ne {entries} ]; then
  drop_parts
  refuse "$count files arrived in $part, not {entries}"
fi
rm -rf "$base/releases/{release}"
mv "$part" "$base/releases/{release}"
"#
        )
}

/// Points `current` to a release that is there.
pub(super) fn switch(base: &str, release: ReleaseId) -> String {
    head(base)
        + &format!(
            r#"[ -d "$base/releases/{release}" ] || refuse "release {release} is not on this server any more"
if [ -e "$base/current" ] && [ ! -L "$base/current" ]; then
  refuse "$base/current is there and is not a link; move it away first"
fi
echo "before: $(readlink "$base/current" || echo nothing)"
ln -sfn "releases/{release}" "$base/current.{release}.new"
mv -fT "$base/current.{release}.new" "$base/current" 2>/dev/null ||
  mv -fh "$base/current.{release}.new" "$base/current" ||
  refuse "$base/current cannot be replaced"
echo "now: $(readlink "$base/current")"
"#
        )
}

/// Removes what is no longer kept: half-sent releases, the `failed` ones, and all but the newest
/// `keep`; never the one that `current` points to.
pub(super) fn prune(base: &str, keep: i32, failed: &[ReleaseId]) -> String {
    let failed: Vec<String> = failed.iter().map(ReleaseId::to_string).collect();
    head(base)
        + DROP_PARTS
        + &format!(
            r#"cd "$base/releases"
live=$(readlink "$base/current" || true)
live=${{live#releases/}}
remove() {{ [ "$1" = "$live" ] || {{ echo "removing release $1"; rm -rf "./$1"; }}; }}
drop_parts
for id in {failed}; do
  if [ -d "./$id" ]; then remove "$id"; fi
done
ls | grep -E '^[0-9]+$' | grep -vx "$live" | sort -rn | tail -n +{keep} | while read -r id; do remove "$id"; done
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
    let mut script = head(base);
    script.push_str(&format!(
        "cd \"$base\"/{} || refuse \"the folder $base/{folder} is not there\"\n",
        quote(folder)
    ));
    for (name, value) in variables {
        script.push_str(&format!("export {name}={}\n", quote(value)));
    }
    script.push_str(&format!("exec sh -c {}\n", quote(text)));
    script
}

/// Says who we are on a server and whether its root can be written.
pub(super) fn inspect(root: &str) -> String {
    head(root)
        + r#"for tool in tar gzip find; do
  command -v $tool >/dev/null || refuse "$tool is not installed"
done
[ -d "$base" ] || mkdir -p "$base" 2>/dev/null || refuse "the folder $base is not there and cannot be made"
[ -w "$base" ] || echo "the folder $base itself cannot be written; project folders below it must be"
echo "Logged in as $(id -un)"
"#
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn pack(files: &[(&str, &str)]) -> Vec<u8> {
        let zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(zip);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn receive_one(base: &Path, id: i64) {
        let text = id.to_string();
        let output = sh(
            &receive(base.to_str().unwrap(), ReleaseId(id), 1),
            &pack(&[("index.html", &text)]),
        );
        assert!(output.status.success(), "{output:?}");
    }

    fn switch_to(base: &Path, id: i64) -> Output {
        sh(&switch(base.to_str().unwrap(), ReleaseId(id)), b"")
    }

    #[test]
    fn a_release_arrives_is_switched_to_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("it's/a shop");
        for id in [8, 9, 10, 11] {
            receive_one(&base, id);
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
        assert_eq!(left, ["10", "8", "notes"]);
    }

    #[test]
    fn a_cut_pack_leaves_no_release() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().to_str().unwrap();
        let whole = pack(&[("a", "one"), ("b", "two")]);
        for (script, input) in [
            (receive(base, ReleaseId(3), 2), &whole[..whole.len() / 2]),
            (receive(base, ReleaseId(3), 3), &whole[..]),
            (receive(base, ReleaseId(3), 2), &b""[..]),
        ] {
            let output = sh(&script, input);
            assert_eq!(output.status.code(), Some(REFUSED), "{output:?}");
            assert_eq!(
                fs::read_dir(folder.path().join("releases"))
                    .unwrap()
                    .count(),
                0
            );
        }
    }

    #[test]
    fn what_hinders_the_unpacking_is_told_and_what_filled_the_disk_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().to_str().unwrap();
        fs::create_dir_all(folder.path().join("releases/2.part")).unwrap();
        let full = receive(base, ReleaseId(3), 1).replace(
            "tar -x",
            "sh -c 'echo tar: a: No space left on device >&2; \
             echo tar: Exiting with failure status due to previous errors >&2; exit 2' tar -x",
        );
        let output = sh(&full, b"");
        assert_eq!(output.status.code(), Some(REFUSED), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.ends_with("3.part: tar: a: No space left on device\n"),
            "{said}"
        );
        assert_eq!(
            fs::read_dir(folder.path().join("releases"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn what_is_in_the_way_is_named_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("current")).unwrap();
        fs::create_dir_all(base.join("releases/1")).unwrap();
        let output = switch_to(base, 1);
        assert_eq!(output.status.code(), Some(REFUSED));
        assert!(String::from_utf8_lossy(&output.stderr).contains("not a link"));
        let output = switch_to(base, 2);
        assert!(String::from_utf8_lossy(&output.stderr).contains("not on this server"));
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

    #[test]
    fn roots_and_paths_are_joined_without_doubled_slashes() {
        assert_eq!(base("/", "/srv/shop/"), "/srv/shop");
        assert_eq!(base("/home/demo/", "srv/shop"), "/home/demo/srv/shop");
    }
}
