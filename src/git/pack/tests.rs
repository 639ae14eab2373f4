//! Packs made by git, compared with the output of `git verify-pack`.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::git::tests::fixture::Repository;

/// A repository with one pack of blobs, trees and commits, some of them as deltas.
struct Packed {
    repository: Repository,
    pack: PathBuf,
}

/// An object as `git verify-pack` lists it.
#[derive(Clone)]
struct Object {
    id: Oid,
    kind: String,
    offset: u64,
    /// The base of a delta.
    base: Option<Oid>,
}

impl Packed {
    /// Packed with these options of `git pack-objects`, then indexed with those of `git
    /// index-pack`.
    fn new(packing: &[&str], indexing: &[&str]) -> Self {
        let repository = Repository::new();
        let lines: Vec<String> = (0..400).map(|line| format!("line {line}\n")).collect();
        for number in 0..300 {
            fs::write(
                repository.work().join(format!("{number}")),
                format!("{number}"),
            )
            .unwrap();
        }
        for number in 0..4 {
            repository.commit("long", &format!("{}{number}\n", lines.concat()));
        }
        let pack = repository.root().join("one.pack");
        let objects = repository.app(&["rev-list", "--all", "--objects"]);
        let list = repository.root().join("list");
        fs::write(&list, objects + "\n").unwrap();
        let done = std::process::Command::new("git")
            .args(["-C", repository.work().to_str().unwrap(), "pack-objects"])
            .args(packing)
            .args(["--quiet", "--stdout"])
            .stdin(fs::File::open(&list).unwrap())
            .stdout(fs::File::create(&pack).unwrap())
            .status()
            .unwrap();
        assert!(done.success());
        let name = pack.to_str().unwrap();
        repository.app(&[&["index-pack"], indexing, &[name]].concat());
        Self { repository, pack }
    }

    fn objects(&self) -> Vec<Object> {
        let index = self.pack.with_extension("idx");
        let text = self
            .repository
            .app(&["verify-pack", "-v", index.to_str().unwrap()]);
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines
            .filter(|words| words.len() >= 5 && words[0].len() == 40)
            .map(|words| Object {
                id: Oid::from_str(words[0]).unwrap(),
                kind: words[1].to_owned(),
                offset: words[4].parse().unwrap(),
                base: words.get(6).map(|base| Oid::from_str(base).unwrap()),
            })
            .collect()
    }

    fn find(&self, id: Oid) -> io::Result<Option<Place>> {
        find(self.pack.parent().unwrap(), id)
    }

    /// Compares every object's position, kind and content with git's.
    fn compare(&self) {
        let objects = self.objects();
        assert!(objects.len() > 300);
        let places: HashMap<Oid, u64> = objects.iter().map(|one| (one.id, one.offset)).collect();
        let mut differences = 0;
        for object in &objects {
            let place = self.find(object.id).unwrap().unwrap();
            assert_eq!(place.offset, object.offset, "{}", object.id);
            match place.entry().unwrap() {
                Entry::Blob(mut content) => {
                    assert_eq!((object.kind.as_str(), object.base), ("blob", None));
                    let mut all = Vec::new();
                    content.read_to_end(&mut all).unwrap();
                    let hash = Oid::hash_object(git2::ObjectType::Blob, &all).unwrap();
                    assert_eq!(hash, object.id);
                }
                Entry::Delta { base, .. } => {
                    differences += 1;
                    assert_eq!(base.offset, places[&object.base.unwrap()]);
                    assert_eq!(base.pack, self.pack);
                }
                Entry::Other => assert!(object.kind != "blob" && object.base.is_none()),
            }
        }
        assert!(differences > 2, "{differences}");
        let absent = Oid::from_str(&"f".repeat(40)).unwrap();
        assert_eq!(self.find(absent).unwrap(), None);
        let absent = Oid::from_str(&"0".repeat(40)).unwrap();
        assert_eq!(self.find(absent).unwrap(), None);
    }

    fn first_blob(&self) -> Object {
        let mut blobs = self.objects().into_iter();
        blobs
            .find(|one| one.kind == "blob" && one.base.is_none())
            .unwrap()
    }
}

#[test]
fn every_object_is_where_git_says() {
    // Deltas by offset; by id; offsets in the table of long ones.
    Packed::new(&["--delta-base-offset"], &[]).compare();
    Packed::new(&[], &[]).compare();
    Packed::new(&["--delta-base-offset"], &["--index-version=2,0x40"]).compare();
}

#[test]
fn an_index_of_the_first_version_is_left_to_others() {
    let packed = Packed::new(&[], &["--index-version=1"]);
    let id = packed.first_blob().id;
    assert_eq!(packed.find(id).unwrap(), None);
    let nowhere = packed.pack.with_file_name("nowhere");
    assert_eq!(find(&nowhere, id).unwrap(), None);
}

#[test]
fn a_cut_or_damaged_file_is_an_error() {
    let packed = Packed::new(&["--delta-base-offset"], &[]);
    let object = packed.first_blob();
    let place = packed.find(object.id).unwrap().unwrap();
    let read = || -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        match place.entry()? {
            Entry::Blob(mut content) => content.read_to_end(&mut all)?,
            _ => panic!("no blob"),
        };
        Ok(all)
    };
    let whole = fs::read(&packed.pack).unwrap();
    let expected = read().unwrap();
    fs::remove_file(&packed.pack).unwrap();
    for cut in [object.offset, object.offset + 1, object.offset + 3] {
        fs::write(&packed.pack, &whole[..usize::try_from(cut).unwrap()]).unwrap();
        assert!(read().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
    }
    // The header of the compressed data.
    let mut damaged = whole.clone();
    damaged[usize::try_from(object.offset).unwrap() + 1] ^= 0xff;
    fs::write(&packed.pack, &damaged).unwrap();
    assert!(read().is_err());
    fs::write(&packed.pack, &whole).unwrap();
    assert_eq!(read().unwrap(), expected);

    let index = packed.pack.with_extension("idx");
    let whole = fs::read(&index).unwrap();
    fs::remove_file(&index).unwrap();
    for cut in [0, 7, 8, 1000, 1032, 1040, whole.len() / 2] {
        fs::write(&index, &whole[..cut]).unwrap();
        let found = packed.find(object.id);
        assert!(found.is_err() || cut > 1032, "{cut}: {found:?}");
    }
}

#[test]
fn a_difference_never_leads_out_of_its_pack() {
    let packed = Packed::new(&["--delta-base-offset"], &[]);
    let whole = fs::read(&packed.pack).unwrap();
    let objects = packed.objects();
    let object = objects.iter().find(|one| one.base.is_some()).unwrap();
    let place = packed.find(object.id).unwrap().unwrap();
    let at = usize::try_from(object.offset).unwrap();
    let head = whole[at..]
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .unwrap()
        + 1;
    fs::remove_file(&packed.pack).unwrap();
    // The object itself as its base; before the start of the pack; a number too large for any file.
    for distance in [&[0x00][..], &[0xff, 0xff, 0xff, 0x7f], &[0xff; 12]] {
        let mut hostile = whole.clone();
        let end = at + head + distance.len();
        hostile[at + head..end].copy_from_slice(distance);
        fs::write(&packed.pack, &hostile).unwrap();
        let opened = place.entry().map(|_| ());
        assert!(
            opened.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData),
            "{distance:?}"
        );
    }
}
