//! Releases between folders of this machine, with the real script and tools.

mod place;
mod spare;

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::script::take;
use crate::deploy::said::refusal::Refusal;
use place::{Node, Place, Tree, build, file, read, refusal, tree};

#[test]
fn odd_names_links_empty_folders_and_modes_arrive_as_they_are() {
    let odd = tree(&[
        ("-rf", file("option-like")),
        ("new\nline", file("newline")),
        ("back\\slash", file("backslash")),
        ("tab\there é 'q' \"", Node::File(0o755, b"run me".to_vec())),
        ("empty file", file("")),
        ("empty folder/deeper", Node::Folder(0)),
        ("folder/link", Node::Link("../-rf".into())),
        ("folder/a//b", Node::File(0o600, b"private".to_vec())),
        ("to nowhere", Node::Link("a//b/".into())),
        (&format!("{}file", "long/".repeat(40)), file("far down")),
    ]);
    let place = Place::new();
    assert_eq!(place.arrive(1, &odd), Some(7));
    let mut next = odd.clone();
    next.remove(Path::new("-rf"));
    next.insert("new\nline".into(), file("another"));
    next.insert("folder/link".into(), Node::Link("../new\nline".into()));
    next.insert(
        "back\\slash".into(),
        Node::File(0o755, b"backslash".to_vec()),
    );
    assert_eq!(place.arrive(2, &next), Some(2), "one content and one mode");
    assert_eq!(place.arrive(3, &next), Some(0));
    assert_eq!(place.left(), [".1", ".2", ".3", "1", "2", "3"]);
}

#[test]
fn a_file_that_did_not_change_keeps_its_time_however_it_came() {
    let place = Place::new();
    let time = |id| {
        fs::metadata(place.release(id).join("same"))
            .unwrap()
            .mtime()
    };
    let same = tree(&[("same", file("same")), ("other", file("1"))]);
    place.arrive(1, &same);
    // Times are compared in seconds: files changed from here on have another one.
    let second = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let arrived = second();
    while second() == arrived {
        thread::sleep(Duration::from_millis(20));
    }
    place.arrive(2, &tree(&[("same", file("same")), ("other", file("2"))]));
    fs::remove_dir_all(place.base()).unwrap();
    let first = {
        build(&place.path("tree"), &same);
        place.send(&place.shipment(3), true, |_| {}).unwrap();
        time(3)
    };
    place.arrive(4, &same);
    assert_eq!(time(4), first);
}

#[test]
fn what_the_application_changed_is_found_and_what_it_added_stays_behind() {
    let place = Place::new();
    let wanted = tree(&[
        ("config", file("ours")),
        ("page", file("hello")),
        ("cache/.keep", file("")),
    ]);
    place.arrive(1, &wanted);
    fs::write(place.release(1).join("cache/pages"), "the application's").unwrap();
    assert_eq!(
        place.arrive(2, &wanted),
        Some(0),
        "its own files do not hinder"
    );

    // Touched, but unchanged: checked by content.
    let config = place.release(2).join("config");
    fs::write(&config, "ours").unwrap();
    assert_eq!(place.arrive(3, &wanted), Some(0));

    // Changed, with length and time as before.
    let config = place.release(3).join("config");
    let time = fs::metadata(&config).unwrap().modified().unwrap();
    fs::write(&config, "hers").unwrap();
    fs::File::options()
        .write(true)
        .open(&config)
        .unwrap()
        .set_modified(time)
        .unwrap();
    build(&place.path("tree"), &wanted);
    let shipment = place.shipment(4);
    let refused = refusal(&place.send(&shipment, true, |_| {}).unwrap_err());
    assert!(refused.is_of_a_delta(), "{refused}");
    assert_eq!(place.send(&shipment, false, |_| {}).unwrap(), Some(3));
    assert_eq!(read(&place.release(4)), read(&place.path("tree")));

    // Gone.
    fs::remove_file(place.release(4).join("page")).unwrap();
    let refused = refusal(&place.send(&place.shipment(5), true, |_| {}).unwrap_err());
    assert!(refused.is_of_a_delta(), "{refused}");
    assert!(!place.left().iter().any(|name| name.ends_with(".part")));
}

#[test]
fn what_is_there_is_not_sent_again() {
    let place = Place::new();
    let wanted = tree(&[("a", file("a"))]);
    place.arrive(1, &wanted);
    assert_eq!(place.send(&place.shipment(1), true, |_| {}).unwrap(), None);
    fs::write(place.release(1).join("a"), "b").unwrap();
    assert_eq!(
        place.send(&place.shipment(1), false, |_| {}).unwrap(),
        Some(1)
    );
    assert_eq!(read(&place.release(1)), read(&place.path("tree")));
}

#[test]
fn hard_links_share_files_and_are_found_out_too() {
    let place = Place {
        hard_links: true,
        ..Place::new()
    };
    let wanted = tree(&[("same", file("same")), ("other", file("1"))]);
    place.arrive(1, &wanted);
    place.arrive(2, &wanted);
    let inode = |id| fs::metadata(place.release(id).join("same")).unwrap().ino();
    assert_eq!(inode(1), inode(2));
    fs::remove_dir_all(place.release(1)).unwrap();
    assert_eq!(place.arrive(3, &wanted), Some(0));
    assert_eq!(inode(2), inode(3));
    fs::write(place.release(3).join("same"), "else").unwrap();
    let refused = refusal(&place.send(&place.shipment(4), true, |_| {}).unwrap_err());
    assert!(refused.is_of_a_delta(), "{refused}");
}

#[test]
fn a_cut_or_damaged_pack_leaves_no_release() {
    let place = Place::new();
    let noise: Vec<u8> = (0..200_000_u32)
        .flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    build(
        &place.path("tree"),
        &tree(&[("a", Node::File(0o644, noise)), ("b", file("b"))]),
    );
    let shipment = place.shipment(3);
    type Cut = fn(&mut Vec<u8>);
    let cuts: [Cut; 4] = [
        |sent: &mut Vec<u8>| sent.truncate(sent.len() / 2),
        |sent: &mut Vec<u8>| sent.truncate(sent.len() - 1000),
        |sent: &mut Vec<u8>| sent.truncate(200),
        |sent: &mut Vec<u8>| {
            let middle = sent.len() / 2;
            sent[middle] ^= 1;
        },
    ];
    for cut in cuts {
        let output = place.send(&shipment, true, cut).unwrap_err();
        assert!(
            refusal(&output).to_string().contains("3.part"),
            "{output:?}"
        );
        assert!(place.left().is_empty(), "{:?}", place.left());
    }
}

/// A folder with links to these tools only.
fn only(place: &Path, tools: &[&str]) -> PathBuf {
    let folder = place.join("tools");
    fs::create_dir(&folder).unwrap();
    for tool in tools {
        let path = ["/usr/bin", "/bin"]
            .iter()
            .map(|at| Path::new(at).join(tool))
            .find(|path| path.exists());
        symlink(path.unwrap(), folder.join(tool)).unwrap();
    }
    folder
}

const PLAIN_TOOLS: [&str; 20] = [
    "sed",
    "head",
    "tr",
    "cut",
    "rm",
    "mv",
    "mkdir",
    "readlink",
    "grep",
    "tail",
    "wc",
    "find",
    "xargs",
    "cp",
    "cmp",
    "tar",
    "ls",
    "sha256sum",
    "cksum",
    "cat",
];

/// Replaces a tool by a script, in which `real` is the tool.
fn replace(tools: &Path, tool: &str, script: &str) {
    let path = tools.join(tool);
    let real = fs::read_link(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let text = format!("#!/bin/sh\nreal={}\n{script}\n", real.display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// A tar that unpacks, and a disk that then changes a byte of the file `a`.
const DAMAGING_TAR: &str = r#"$real "$@" || exit
for word; do :; done
printf '!' | dd of="$word/1/a" conv=notrunc status=none"#;

#[test]
fn what_a_disk_damages_is_found_by_whatever_tool_is_there() {
    let gnu = ["sort", "comm", "sh", "dd"];
    let (small, large) = (vec![b'a'; 10], vec![b'a'; 5 << 20]);
    for (size, without) in [
        (&small, "none"),
        (&small, "sha256sum"),
        (&large, "none"),
        (&large, "cksum"),
        (&large, "sha256sum"),
    ] {
        let place = Place::new();
        let tools = [&PLAIN_TOOLS[..], &gnu].concat();
        let tools: Vec<&str> = tools.into_iter().filter(|tool| *tool != without).collect();
        let place = Place {
            tools: Some(only(place.folder.path(), &tools)),
            ..place
        };
        let wanted = tree(&[("a", Node::File(0o644, size.clone())), ("b c", file("b"))]);
        place.arrive(1, &wanted);
        fs::remove_dir_all(place.base()).unwrap();
        replace(place.tools.as_deref().unwrap(), "tar", DAMAGING_TAR);
        let output = place.send(&place.shipment(1), true, |_| {}).unwrap_err();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("\tdamaged\t"), "without {without}: {said}");
        assert!(place.left().is_empty(), "without {without}");
    }
}

#[test]
fn gzip_or_nothing_does_where_zstd_is_missing() {
    for with_gzip in [true, false] {
        let place = Place::new();
        let mut tools = PLAIN_TOOLS.to_vec();
        tools.extend(["sort", "comm", "sh"]);
        tools.extend(with_gzip.then_some("gzip"));
        let place = Place {
            tools: Some(only(place.folder.path(), &tools)),
            ..place
        };
        let mut wanted = tree(&[("a\\b", file("a")), ("c", file("c"))]);
        assert_eq!(place.arrive(1, &wanted), Some(2));
        wanted.insert("c".into(), file("changed"));
        assert_eq!(place.arrive(2, &wanted), Some(1));
    }
}

#[test]
fn a_server_with_plain_tools_gets_everything_each_time() {
    let place = Place::new();
    let tools = only(
        place.folder.path(),
        &[&PLAIN_TOOLS[..], &["gzip", "sh"]].concat(),
    );
    // These tools lack GNU's options.
    for (tool, option) in [("find", "-printf"), ("sha256sum", "-z")] {
        let script =
            format!("for word; do [ \"$word\" != {option} ] || exit 1; done\nexec $real \"$@\"");
        replace(&tools, tool, &script);
    }
    let place = Place {
        tools: Some(tools),
        ..place
    };
    let wanted = tree(&[
        ("a b", file("a")),
        ("c", file("c")),
        ("new\nline", file("")),
        ("l", Node::Link("c".into())),
    ]);
    assert_eq!(place.arrive(1, &wanted), Some(3));
    assert_eq!(place.arrive(2, &wanted), Some(3));
    assert_eq!(place.left(), [".1", ".2", "1", "2"]);
    build(&place.path("tree"), &wanted);
    let output = place.send(&place.shipment(3), true, |sent| {
        let cut = sent.len() / 2;
        sent.truncate(cut);
    });
    assert!(output.is_err());
    assert_eq!(place.left(), [".1", ".2", "1", "2"]);
}

#[test]
fn every_word_that_the_script_refuses_with_is_known() {
    let place = Place::new();
    build(&place.path("tree"), &Tree::new());
    let shipment = place.shipment(1);
    let script = take(&shipment.arrival("/srv", true), false, None);
    let opening = script
        .match_indices("refuse ")
        .chain(script.match_indices("fail "));
    let words: Vec<&str> = opening
        .filter_map(|(at, found)| script[at + found.len()..].split([' ', '\n', ';']).next())
        .filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect();
    assert!(words.len() > 10, "{words:?}");
    for word in words
        .into_iter()
        .filter(|word| !["delta", "spare"].contains(word))
    {
        let line = format!("longshore-refused\t{word}\ta\tb");
        assert!(Refusal::read(&line).is_some(), "{word}");
    }
}

#[test]
fn what_is_in_the_way_is_told_before_anything_is_sent() {
    let place = Place::new();
    build(&place.path("tree"), &tree(&[("a", file("a"))]));
    fs::create_dir_all(place.base().join("current")).unwrap();
    let refused = refusal(&place.send(&place.shipment(1), true, |_| {}).unwrap_err());
    assert!(refused.to_string().contains("not a link"), "{refused}");
    fs::remove_dir(place.base().join("current")).unwrap();
    symlink("releases/1", place.base().join("current")).unwrap();
    let refused = refusal(&place.send(&place.shipment(1), true, |_| {}).unwrap_err());
    assert!(
        refused.to_string().contains("another installation"),
        "{refused}"
    );
}

fn trees() -> impl Strategy<Value = Tree> {
    let path = prop_oneof![
        "[ab]/[ab]/[a-c]{1,2}",
        "[c-e]{1,2}",
        "[f-h]/[a\n\\\\-]{1,3}"
    ];
    let node = prop_oneof![
        6 => (prop_oneof![Just(0o644), Just(0o755), Just(0o640)], "[xy]{0,3}")
            .prop_map(|(mode, text)| Node::File(mode, text.into_bytes())),
        1 => "[a-c]{1,2}".prop_map(|target| Node::Link(target.into())),
        1 => Just(Node::Folder(0)),
    ];
    btree_map(path.prop_map(PathBuf::from), node, 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_release_follows_any_other(one in trees(), other in trees(), hard_links in any::<bool>()) {
        let place = Place { hard_links, ..Place::new() };
        place.arrive(1, &one);
        place.arrive(2, &other);
        place.arrive(3, &one);
        let names = |tree: &Tree| tree.keys().map(|path| path.as_os_str().as_bytes().to_vec()).collect::<Vec<_>>();
        prop_assert!(names(&read(&place.release(3))).len() >= names(&one).len());
    }
}
