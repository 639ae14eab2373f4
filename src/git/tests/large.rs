//! Large files, in little memory.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::process::Command;

use super::super::{Extent, GitError, Item, Limits, Mirror, Progress};
use super::fixture::{Repository, Served, fetch, measure_in_its_own_process, measured, peak};

const MIB: u64 = 1 << 20;
/// The memory allowed above the process's earlier peak.
const LITTLE: u64 = 64 * MIB;

fn noise(mib: u64) -> Vec<u8> {
    let mut state = 1u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(usize::try_from(mib * MIB / 8).unwrap())
    .flatten()
    .collect()
}

/// Three versions of a file of 17 MiB, two of them deltas.
fn differing() -> (Repository, Vec<Vec<u8>>) {
    let repository = Repository::new();
    let mut content = noise(17);
    let mut versions = Vec::new();
    for number in 0..3u8 {
        content[usize::from(number) * 5_000_000 + 17..][..4].fill(number);
        content.extend_from_slice(b"one more line\n");
        fs::write(repository.work().join("large"), &content).unwrap();
        repository.commit("note", &number.to_string());
        repository.app(&["tag", &format!("version{number}")]);
        versions.push(content.clone());
    }
    repository.app(&["repack", "-q", "-a", "-d", "-f", "--window-memory=1g"]);
    (repository, versions)
}

fn read(mirror: &Mirror, revision: &str) -> Result<Vec<u8>, GitError> {
    let commit = mirror.resolve(revision)?.id;
    let snapshot = mirror.snapshot(&commit)?;
    let contents = mirror.contents()?;
    let blob = snapshot.items().find_map(|(path, item)| match item {
        Item::File { blob, .. } if path == "large" => Some(blob),
        _ => None,
    });
    let (size, mut content) = contents.open(blob.unwrap())?;
    let mut all = Vec::new();
    content
        .read_to_end(&mut all)
        .map_err(|cause| GitError::Archive {
            commit: commit.to_string(),
            cause,
        })?;
    assert_eq!(size, all.len() as u64);
    Ok(all)
}

#[test]
fn what_is_stored_as_a_difference_is_put_together() {
    let (repository, versions) = differing();
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let own = Mirror::in_place(&served.repository.work(), Limits::default()).unwrap();
    let pack = served.repository.app(&["count-objects", "-v"]);
    assert!(pack.contains("packs: 1"), "{pack}");
    for (number, expected) in versions.iter().enumerate() {
        let tag = format!("version{number}");
        for mirror in [&served.mirror, &own] {
            assert!(read(mirror, &tag).unwrap() == *expected, "{tag}");
            let mut tar = Vec::new();
            let commit = mirror.resolve(&tag).unwrap().id;
            mirror.archive(&commit, "", &mut tar).unwrap();
            let theirs = Command::new("git")
                .args(["archive", "--format=tar", &tag, "large"])
                .current_dir(served.repository.work())
                .output()
                .unwrap();
            let at = theirs.stdout.len() - 10240;
            assert!(tar.len() > at && theirs.stdout.len() > 17 << 20);
        }
    }
}

#[test]
fn a_large_file_of_its_own_is_read() {
    let repository = Repository::new();
    let content = noise(5);
    fs::write(repository.work().join("large"), &content).unwrap();
    repository.app(&["config", "core.bigFileThreshold", "1g"]);
    repository.commit("note", "x");
    let own = Mirror::in_place(&repository.work(), Limits::default()).unwrap();
    assert!(read(&own, "main").unwrap() == content);
    // A linked work tree has its objects elsewhere.
    repository.app(&["worktree", "add", "-q", "--detach", "../linked", "main"]);
    let linked = Mirror::in_place(&repository.root().join("linked"), Limits::default()).unwrap();
    assert!(read(&linked, "main").unwrap() == content);
}

#[test]
fn damage_in_a_large_file_is_found_and_healed() {
    let (repository, versions) = differing();
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let folder = served.mirror.path().join("objects/pack");
    let pack = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "pack"))
        .unwrap();
    let mut permissions = pack.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(&pack, permissions).unwrap();
    let mut file = File::options().write(true).open(&pack).unwrap();
    file.seek(SeekFrom::Start(9_000_000)).unwrap();
    file.write_all(&[0; 64]).unwrap();
    drop(file);
    for number in 0..3 {
        assert!(read(&served.mirror, &format!("version{number}")).is_err());
    }
    fetch(&served.mirror).unwrap();
    for (number, expected) in versions.iter().enumerate() {
        assert!(read(&served.mirror, &format!("version{number}")).unwrap() == *expected);
    }
}

/// Does the work in a process of its own, which measures itself.
#[test]
fn a_gigabyte_takes_little_memory() {
    if let Some(folder) = measured() {
        return measure(&folder);
    }
    let repository = Repository::new();
    let file = File::create(repository.work().join("large")).unwrap();
    file.set_len(1024 * MIB).unwrap();
    repository.app(&["config", "core.compression", "1"]);
    repository.commit("note", "x");
    let test = "git::tests::large::a_gigabyte_takes_little_memory";
    measure_in_its_own_process(test, repository.root());
}

fn measure(root: &std::path::Path) {
    let mirror = Mirror::in_place(&root.join("app"), Limits::default()).unwrap();
    let commit = mirror.resolve("main").unwrap().id;
    let mut unheard = |_: &Progress| ControlFlow::Continue(());
    let before = peak();
    let snapshot = mirror.snapshot(&commit).unwrap();
    let contents = mirror.contents().unwrap();
    let sizes: u64 = snapshot
        .items()
        .map(|(_, item)| match item {
            Item::File { blob, .. } => {
                let (size, mut content) = contents.open(blob).unwrap();
                assert_eq!(io::copy(&mut content, &mut io::sink()).unwrap(), size);
                size
            }
            _ => 0,
        })
        .sum();
    assert!(sizes > 1024 * MIB);
    let tree = mirror.tree(&commit, Extent::Whole, &mut unheard).unwrap();
    tree.archive("", io::sink(), &mut unheard).unwrap();
    let into = root.join("into");
    tree.checkout(&into, &mut unheard).unwrap();
    assert_eq!(into.join("large").metadata().unwrap().len(), 1024 * MIB);
    let taken = peak() - before;
    assert!(taken < LITTLE, "it took {} MiB", taken / MIB);
    println!("was measured: {} KiB", taken / 1024);
}
