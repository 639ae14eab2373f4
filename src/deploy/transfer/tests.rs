//! Releases between folders of this machine, by the real script and the real tools.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use proptest::collection::btree_map;
use proptest::prelude::*;
use tempfile::TempDir;

use super::ladder::Offer;
use super::script::{look_only, take};
use super::*;
use crate::deploy::plan::tests::spec;
use crate::deploy::said::refusal::Refusal;

/// A platform with a work tree, and a server's folder.
struct Place {
    folder: TempDir,
    hard_links: bool,
    /// What `PATH` is for the script; none: as it is.
    tools: Option<PathBuf>,
}

/// A file's mode and content, a folder's mode, or a link's target.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(u32, Vec<u8>),
    Folder(u32),
    Link(PathBuf),
}

type Tree = BTreeMap<PathBuf, Node>;

fn build(root: &Path, tree: &Tree) {
    let _ = fs::remove_dir_all(root);
    fs::create_dir(root).unwrap();
    for (path, node) in tree {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File(mode, content) => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
            }
            Node::Folder(_) => fs::create_dir_all(&path).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
        }
    }
}

fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let mode = metadata.mode() & 0o7777;
            let node = if metadata.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap())
            } else if metadata.is_dir() {
                folders.push(path.clone());
                Node::Folder(mode)
            } else {
                Node::File(mode, fs::read(&path).unwrap())
            };
            tree.insert(path.strip_prefix(root).unwrap().to_owned(), node);
        }
    }
    tree
}

fn file(text: &str) -> Node {
    Node::File(0o644, text.as_bytes().to_vec())
}

fn tree(nodes: &[(&str, Node)]) -> Tree {
    nodes
        .iter()
        .map(|(path, node)| (PathBuf::from(path), node.clone()))
        .collect()
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            hard_links: false,
            tools: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn base(&self) -> PathBuf {
        self.path("it's the server")
    }

    fn release(&self, id: i64) -> PathBuf {
        self.base().join("releases").join(id.to_string())
    }

    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.base().join("releases"))
            .into_iter()
            .flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn sh(&self, script: &str, input: &[u8]) -> Output {
        let mut command = Command::new("/bin/sh");
        if let Some(tools) = &self.tools {
            command.env("PATH", tools);
        }
        let mut child = command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn shipment(&self, id: i64) -> Shipment {
        let work = self.path("work");
        fs::create_dir_all(&work).unwrap();
        let mut spec = spec("", 2);
        if self.hard_links {
            spec.project.unchanged = Unchanged::Link;
        }
        let watch = Watch {
            going: &|_| Ok(()),
            left_out: &|_| {},
        };
        let source = Source::Folder(self.path("tree"));
        Shipment::prepare(
            ReleaseId(id),
            &spec,
            source,
            &self.path("manifests"),
            &work,
            &watch,
        )
        .unwrap()
    }

    /// The scripts' talk for one release; `change` may damage what is sent. Gives how many files
    /// travelled; none where the release was there.
    fn send(
        &self,
        shipment: &Shipment,
        delta: bool,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<usize>, Output> {
        let base = self.base();
        let arrival = shipment.arrival(base.to_str().unwrap(), delta);
        let output = self.sh(&look_only(&arrival), b"");
        let told = String::from_utf8(output.stdout.clone()).unwrap();
        let Some(offer) = told.lines().find_map(Offer::read) else {
            return Err(output);
        };
        if offer == Offer::There {
            return Ok(None);
        }
        let mut answer = shipment.answer(&offer).unwrap();
        let mut input = answer.line.clone().into_bytes();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match answer.reader.take(&mut buffer, &mut || Ok(())).unwrap() {
                0 => break,
                count => input.extend_from_slice(&buffer[..count]),
            }
        }
        change(&mut input);
        let output = self.sh(&take(&arrival, true), &input);
        match output.status.success() {
            true => Ok(Some(answer.travels)),
            false => Err(output),
        }
    }

    /// Releases `tree` whole and well.
    #[track_caller]
    fn arrive(&self, id: i64, wanted: &Tree) -> Option<usize> {
        build(&self.path("tree"), wanted);
        let expected = read(&self.path("tree"));
        let travelled = self.send(&self.shipment(id), true, |_| {}).unwrap();
        assert_eq!(read(&self.release(id)), expected);
        travelled
    }
}

#[track_caller]
fn refusal(output: &Output) -> Refusal {
    let said = String::from_utf8_lossy(&output.stderr);
    let refusal = said.lines().find_map(Refusal::read);
    refusal.unwrap_or_else(|| panic!("{output:?}"))
}

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
    std::thread::sleep(std::time::Duration::from_millis(1100));
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

    // Touched, but as it was: checked by its content.
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
    type Cut<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cuts: [Cut<'_>; 4] = [
        &|sent| sent.truncate(sent.len() / 2),
        &|sent| sent.truncate(sent.len() - 1000),
        &|sent| sent.truncate(200),
        &|sent| {
            let middle = sent.len() / 2;
            sent[middle] ^= 1;
        },
    ];
    for cut in cuts {
        let output = place.send(&shipment, true, |sent| cut(sent)).unwrap_err();
        assert!(
            refusal(&output).to_string().contains("3.part"),
            "{output:?}"
        );
        assert!(place.left().is_empty(), "{:?}", place.left());
    }
}

/// A folder with links to these tools alone.
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

const PLAIN_TOOLS: [&str; 17] = [
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
    "cat",
];

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
    // What is there does not know GNU's options.
    for (tool, option) in [("find", "-printf"), ("sha256sum", "-z")] {
        let path = tools.join(tool);
        let real = fs::read_link(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let text = format!(
            "#!/bin/sh\nfor word; do [ \"$word\" != {option} ] || exit 1; done\nexec {} \"$@\"\n",
            real.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
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
    // GNU's sha256sum escapes the newline; such a tool would not.
    let mut plain = wanted.clone();
    plain.remove(Path::new("new\nline"));
    assert_eq!(place.arrive(1, &plain), Some(2));
    assert_eq!(place.arrive(2, &plain), Some(2));
    assert_eq!(place.left(), ["1", "2"]);
    build(&place.path("tree"), &plain);
    let output = place.send(&place.shipment(3), true, |sent| {
        let cut = sent.len() / 2;
        sent.truncate(cut);
    });
    assert!(output.is_err());
    assert_eq!(place.left(), ["1", "2"]);
}

#[test]
fn every_word_that_the_script_refuses_with_is_known() {
    let place = Place::new();
    build(&place.path("tree"), &Tree::new());
    let shipment = place.shipment(1);
    let script = take(&shipment.arrival("/srv", true), false);
    let opening = script
        .match_indices("refuse ")
        .chain(script.match_indices("fail "));
    let words: Vec<&str> = opening
        .filter_map(|(at, found)| script[at + found.len()..].split([' ', '\n', ';']).next())
        .filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect();
    assert!(words.len() > 10, "{words:?}");
    for word in words.into_iter().filter(|word| *word != "delta") {
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
