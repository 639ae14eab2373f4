//! The released files of a commit: `export-ignore`, Git LFS, limits, names that look alike.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::super::{Extent, GitError, Limit, Limits, Mirror, MirrorOptions, Mirrors, Note, Paths};
use super::fixture::{Repository, Served, fetch, policy};

fn write(repository: &Repository, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = repository.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The names in a tar, with their kinds.
fn names(tar: &[u8]) -> BTreeMap<Vec<u8>, u8> {
    let mut archive = tar::Archive::new(tar);
    archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.header().entry_type().is_pax_global_extensions())
        .map(|entry| {
            let kind = entry.header().entry_type().as_byte();
            (entry.path_bytes().into_owned(), kind)
        })
        .collect()
}

fn archive(mirror: &Mirror, revision: &str) -> (Vec<u8>, Vec<Note>) {
    let id = mirror.resolve(revision).unwrap().id;
    let mut tar = Vec::new();
    let done = mirror.archive(&id, "", &mut tar).unwrap();
    (tar, done.notes)
}

#[test]
fn what_is_released_is_what_git_archive_releases() {
    let repository = Repository::new();
    write(
        &repository,
        &[
            (
                ".gitattributes",
                "/tests/ export-ignore\n*.md export-ignore\nREADME.md -export-ignore\n\
                 .gitattributes export-ignore\n[attr]dev export-ignore\ntools/** dev\n\
                 version.txt export-subst\nempty/* export-ignore\n",
            ),
            ("tests/a.sh", "x"),
            ("tests/deep/b.sh", "x"),
            ("src/tests/c.sh", "x"),
            ("README.md", "x"),
            ("docs/a.md", "x"),
            ("docs/b.txt", "x"),
            (
                "docs/.gitattributes",
                "*.md !export-ignore\nb.txt export-ignore\n",
            ),
            ("tools/x/y", "x"),
            ("empty/a", "x"),
            ("version.txt", "$Format:%H$"),
        ],
    );
    repository.commit("z", "z");
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let (mine, notes) = archive(&served.mirror, "main");
    let theirs = Command::new("git")
        .args(["archive", "--format=tar", "main"])
        .current_dir(served.repository.work())
        .output()
        .unwrap();
    assert_eq!(names(&mine), names(&theirs.stdout));
    let ignored = notes.iter().find_map(|note| match note {
        Note::ExportIgnored(paths) => Some(paths.count),
        _ => None,
    });
    assert_eq!(ignored, Some(6), "{notes:?}");
    assert!(notes.contains(&Note::ExportSubst(Paths {
        count: 1,
        first: "version.txt".to_owned()
    })));

    // A checkout releases the same files; the whole commit has them all.
    let id = served.mirror.resolve("main").unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("released");
    served.mirror.checkout(&id, &into).unwrap();
    assert!(!into.join("tests").exists() && into.join("src/tests/c.sh").exists());
    assert_eq!(fs::read(into.join("version.txt")).unwrap(), b"$Format:%H$");
    let mut unheard = |_: &_| ControlFlow::Continue(());
    let whole = served
        .mirror
        .tree(&id, Extent::Whole, &mut unheard)
        .unwrap();
    let into = folder.path().join("whole");
    whole.checkout(&into, &mut unheard).unwrap();
    assert!(into.join("tests/deep/b.sh").exists() && into.join("empty/a").exists());
}

/// The answer of git's own command line for each path.
fn git_says(folder: &Path, paths: &[String]) -> Vec<bool> {
    let mut child = Command::new("git")
        .args(["check-attr", "-z", "--stdin", "export-ignore"])
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for path in paths {
        input.write_all(format!("{path}\0").as_bytes()).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap().stdout;
    let words: Vec<&[u8]> = output.split(|byte| *byte == 0).collect();
    words
        .chunks_exact(3)
        .map(|answer| answer[2] == b"set")
        .collect()
}

#[test]
fn attributes_are_those_of_git() {
    use super::super::tree::tests_only::is_export_ignored;
    let folder = tempfile::tempdir().unwrap();
    let init = Command::new("git")
        .args(["init", "-q"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(init.success());
    let pattern =
        "(/|\\*\\*/|)([ab*?]|\\[a-b\\]|\\[!a\\]|\\\\a|\\*\\*|/|\\.|\\[\\[:alpha:\\]\\]){1,6}";
    let word = prop_oneof![
        Just("export-ignore"),
        Just("-export-ignore"),
        Just("!export-ignore"),
        Just("export-ignore=x"),
        Just("text"),
    ];
    let lines = proptest::collection::vec((pattern, word), 1..5);
    let paths = proptest::collection::vec("[ab.]{1,3}(/[ab.]{1,3}){0,3}/?", 10);
    proptest!(ProptestConfig::with_cases(200), |(lines in lines, paths in paths)| {
        let text: String = lines
            .iter()
            .map(|(pattern, word)| format!("{pattern} {word}\n"))
            .collect();
        fs::write(folder.path().join(".gitattributes"), &text).unwrap();
        // Names that no tree has mean something else to git.
        let plain = |path: &String| {
            path.trim_end_matches('/').split('/').all(|part| !matches!(part, "." | ".."))
        };
        let paths: Vec<String> = paths.into_iter().filter(plain).collect();
        let theirs = git_says(folder.path(), &paths);
        let mine: Vec<bool> = paths.iter().map(|path| is_export_ignored(&text, path)).collect();
        prop_assert_eq!(mine, theirs, "{:?} {:?}", text, paths);
    });
}

#[test]
fn pointers_of_git_lfs_are_told() {
    let repository = Repository::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\n\
        oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    write(
        &repository,
        &[("big.bin", pointer), ("film/b.bin", pointer)],
    );
    repository.commit("c.txt", "version https://example.com\n");
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let id = served.mirror.resolve("main").unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    let expected = Note::LfsPointers(Paths {
        count: 2,
        first: "big.bin".to_owned(),
    });
    let done = served.mirror.checkout(&id, &into).unwrap();
    let expected = [expected];
    assert_eq!(done.notes, expected);
    assert_eq!(archive(&served.mirror, "main").1, expected);
    let told = expected[0].to_string();
    assert!(
        told.contains("Git LFS") && told.contains("\"big.bin\" and 1 more"),
        "{told}"
    );
    assert_eq!(fs::read_to_string(into.join("big.bin")).unwrap(), pointer);
}

#[test]
fn names_that_look_alike_are_exact_and_told() {
    let repository = Repository::new();
    write(
        &repository,
        &[
            ("Readme", "1"),
            ("README", "2"),
            ("caf\u{e9}", "composed"),
            ("cafe\u{301}", "decomposed"),
        ],
    );
    repository.commit("c.txt", "x");
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let id = served.mirror.resolve("main").unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    let done = served.mirror.checkout(&id, &into).unwrap();
    assert!(
        matches!(&done.notes[..], [Note::SameName(Paths { count: 2, .. })]),
        "{:?}",
        done.notes
    );
    for (name, content) in [("Readme", "1"), ("README", "2"), ("caf\u{e9}", "composed")] {
        assert_eq!(fs::read_to_string(into.join(name)).unwrap(), content);
    }
}

/// The same mirror with other limits.
fn limited(served: &Served, limits: Limits) -> Mirror {
    let options = MirrorOptions {
        policy: policy(),
        limits,
        ..MirrorOptions::default()
    };
    Mirrors::new(served.folder.path().join("limited"), options).mirror(served.mirror.source.clone())
}

#[test]
fn limits_are_held_before_anything_is_written() {
    let repository = Repository::new();
    write(&repository, &[("d/e/f", "12345"), ("d/g", "")]);
    repository.commit("h", &"x".repeat(100_000));
    let served = Served::new(repository);
    let plain = Limits::default();
    for (limits, expected) in [
        (Limits { files: 6, ..plain }, Limit::Files),
        (
            Limits {
                bytes: 100_000,
                ..plain
            },
            Limit::Bytes,
        ),
    ] {
        let mirror = limited(&served, limits);
        fetch(&mirror).unwrap();
        let id = mirror.resolve("main").unwrap().id;
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("into");
        for refused in [
            mirror.checkout(&id, &into),
            mirror.archive(&id, "", std::io::sink()),
        ] {
            match refused {
                Err(error @ GitError::TooLarge { limit, .. }) => {
                    assert_eq!(limit, expected);
                    assert!(error.to_string().contains(expected.setting()), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!into.exists());
    }
    let exact = Limits {
        files: 7,
        bytes: 100_016,
        ..plain
    };
    let mirror = limited(&served, exact);
    fetch(&mirror).unwrap();
    archive(&mirror, "main");
}

#[test]
fn a_repository_past_the_limit_of_a_fetch_is_not_kept() {
    let repository = Repository::new();
    let noise: String = (0..400_000u32)
        .map(|number| format!("{:x}", number.wrapping_mul(2_654_435_761)))
        .collect();
    repository.commit("noise", &noise);
    let served = Served::new(repository);
    let limits = Limits {
        fetch_bytes: 100_000,
        ..Limits::default()
    };
    let mirror = limited(&served, limits);
    match fetch(&mirror) {
        Err(
            error @ GitError::TooLarge {
                limit: Limit::FetchBytes,
                ..
            },
        ) => {
            assert!(error.to_string().contains("git_fetch_bytes"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(mirror.refs(), Err(GitError::NotFetched { .. })));
}

/// Ten levels of folders with ten folders each, which are one object per level: a few hundred bytes
/// in the pack, ten thousand million files on the disk.
#[test]
fn a_tree_that_unfolds_without_end_is_refused_at_once() {
    let repository = Repository::new();
    let objects = git2::Repository::open(repository.work()).unwrap();
    let mut below = objects.blob(&[0; 1000]).unwrap();
    let mut mode = 0o100_644;
    for _ in 0..10 {
        let mut builder = objects.treebuilder(None).unwrap();
        for number in 0..10 {
            builder.insert(format!("{number}"), below, mode).unwrap();
        }
        (below, mode) = (builder.write().unwrap(), 0o040_000);
    }
    let tree = objects.find_tree(below).unwrap();
    let author = git2::Signature::now("A", "a@b").unwrap();
    objects
        .commit(Some("refs/heads/bomb"), &author, &author, "x", &tree, &[])
        .unwrap();
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let id = served.mirror.resolve("bomb").unwrap().id;
    let begun = std::time::Instant::now();
    let refused = served.mirror.archive(&id, "", std::io::sink());
    assert!(
        matches!(
            refused,
            Err(GitError::TooLarge {
                limit: Limit::Files,
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}
