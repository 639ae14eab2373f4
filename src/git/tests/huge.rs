//! Fault 43: a million files, and files of gigabytes. Exact, or refused in time and in little
//! memory.

use std::fs;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::{
    Extent, GitError, Item, Limit, Limits, Mirror, MirrorOptions, Mirrors, Progress, Tree,
};
use super::fixture::{
    Repository, Server, fetch, measure_in_its_own_process, measured, peak, policy, source,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The memory allowed above the process's earlier peak.
const LITTLE: u64 = 64 * MIB;
/// The longest time that a refusal may take, on a slow machine too.
const SOON: Duration = Duration::from_secs(20);

/// The mirror of a repository that a daemon of its own serves, with these limits.
struct Fetched {
    mirror: Mirror,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Fetched {
    fn of(root: &Path, limits: Limits) -> Self {
        let server = Server::git_daemon(root);
        let folder = tempfile::tempdir().unwrap();
        let options = MirrorOptions {
            policy: policy(),
            limits,
            ..MirrorOptions::default()
        };
        let url = format!("git://127.0.0.1:{}/app/.git", server.port);
        let mirror = Mirrors::new(folder.path().to_owned(), options).mirror(source(&url));
        fetch(&mirror).unwrap();
        Self {
            mirror,
            _server: server,
            _folder: folder,
        }
    }

    fn tree(&self, revision: &str) -> Result<Tree, GitError> {
        let commit = self.mirror.resolve(revision).unwrap().id;
        let mut unheard = |_: &Progress| ControlFlow::Continue(());
        self.mirror.tree(&commit, Extent::Released, &mut unheard)
    }

    /// Asserts that it is refused by this limit at this count, soon, and with a text that says so.
    #[track_caller]
    fn refuses(&self, revision: &str, limit: Limit, count: u64) {
        let begun = Instant::now();
        let refused = self.tree(revision).map(|tree| tree.files());
        let took = begun.elapsed();
        let Err(error @ GitError::TooLarge { .. }) = refused else {
            panic!("{refused:?}");
        };
        let said = error.to_string();
        for part in [limit.setting(), &count.to_string()] {
            assert!(said.contains(part), "no {part:?} in {said:?}");
        }
        assert!(took < SOON, "{took:?}");
        println!("{said}: after {took:?}");
    }
}

/// The memory that a process takes for this work.
fn taken(work: impl FnOnce()) {
    let before = peak();
    work();
    let taken = peak() - before;
    assert!(taken < LITTLE, "it took {} MiB", taken / MIB);
    println!("was measured: {} KiB", taken / 1024);
}

/// A commit of `count` copies of the same entry on each level of folders.
fn unfolding(repository: &Repository, branch: &str, content: &[u8], counts: &[usize]) {
    let objects = git2::Repository::open(repository.work()).unwrap();
    let mut below = objects.blob(content).unwrap();
    let mut mode = 0o100_644;
    for count in counts {
        let mut builder = objects.treebuilder(None).unwrap();
        for number in 0..*count {
            let name = format!("{number:05}");
            builder.insert(name, below, mode).unwrap();
        }
        (below, mode) = (builder.write().unwrap(), 0o040_000);
    }
    let tree = objects.find_tree(below).unwrap();
    let author = git2::Signature::now("A", "a@b").unwrap();
    let name = format!("refs/heads/{branch}");
    objects
        .commit(Some(&name), &author, &author, "x", &tree, &[])
        .unwrap();
}

#[test]
fn a_million_files_and_eleven_gigabytes_are_refused_by_default() {
    if let Some(root) = measured() {
        return taken(|| {
            let fetched = Fetched::of(&root, Limits::default());
            fetched.refuses("million", Limit::Files, 250_001);
            fetched.refuses("zeros", Limit::Bytes, 10 * GIB + MIB);
        });
    }
    let repository = Repository::new();
    unfolding(&repository, "million", b"x", &[100, 100, 100]);
    unfolding(&repository, "zeros", &vec![0; MIB as usize], &[1000, 11]);
    let test = "git::tests::huge::a_million_files_and_eleven_gigabytes_are_refused_by_default";
    measure_in_its_own_process(test, repository.root());
}

const DISTINCT: u64 = 100_000;

/// A commit of these files, in a hundred folders.
fn import(
    repository: &Repository,
    branch: &str,
    config: &[&str],
    contents: impl Iterator<Item = Vec<u8>>,
) {
    let mut import = Command::new("git")
        .args(["-C", "app"])
        .args(config)
        .args(["fast-import", "--quiet"])
        .current_dir(repository.root())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stream = io::BufWriter::new(import.stdin.take().unwrap());
    let commit = "committer A <a@b> 1700000000 +0000\ndata 1\nx\n";
    write!(stream, "commit refs/heads/{branch}\n{commit}").unwrap();
    for (number, content) in contents.enumerate() {
        let (below, length) = (number % 100, content.len());
        write!(stream, "M 644 inline d{below}/f{number}\ndata {length}\n").unwrap();
        stream.write_all(&content).unwrap();
        stream.write_all(b"\n").unwrap();
    }
    drop(stream);
    assert!(import.wait().unwrap().success());
}

/// The written files are compared with git's own in the story of the command line.
#[test]
fn a_hundred_thousand_different_files_take_little_memory() {
    if let Some(root) = measured() {
        return taken(|| {
            let less = Limits {
                files: 90_000,
                ..Limits::default()
            };
            Fetched::of(&root, less).refuses("distinct", Limit::Files, 90_001);
            let fetched = Fetched::of(&root, Limits::default());
            let tree = fetched.tree("distinct").unwrap();
            let mut unheard = |_: &Progress| ControlFlow::Continue(());
            let packed = tree.archive("", io::sink(), &mut unheard).unwrap();
            assert_eq!((packed.files, packed.bytes), (DISTINCT, DISTINCT * 6));
        });
    }
    let repository = Repository::new();
    let contents = (0..DISTINCT).map(|number| format!("{number:06}").into_bytes());
    import(&repository, "distinct", &[], contents);
    let test = "git::tests::huge::a_hundred_thousand_different_files_take_little_memory";
    measure_in_its_own_process(test, repository.root());
}

/// Files that are read one by one, though libgit2's mapping of their pack would grow to all of it.
#[test]
fn two_hundred_megabytes_in_many_files_take_little_memory() {
    if let Some(root) = measured() {
        return taken(|| {
            let mirror = Mirror::in_place(&root.join("app"), Limits::default()).unwrap();
            let commit = mirror.resolve("noise").unwrap().id;
            let snapshot = mirror.snapshot(&commit).unwrap();
            let contents = mirror.contents().unwrap();
            let mut total = 0;
            for (_, item) in snapshot.items() {
                if let Item::File { blob, .. } = item {
                    let (_, mut content) = contents.open(blob).unwrap();
                    total += io::copy(&mut content, &mut io::sink()).unwrap();
                }
            }
            assert_eq!(total, 2000 * 100_000);
        });
    }
    let repository = Repository::new();
    let mut state = 1u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33).to_le_bytes()[0]
    };
    let config = ["-c", "core.compression=0"];
    let contents = (0..2000).map(|_| (0..100_000).map(|_| noise()).collect());
    import(&repository, "noise", &config, contents);
    let test = "git::tests::huge::two_hundred_megabytes_in_many_files_take_little_memory";
    measure_in_its_own_process(test, repository.root());
}

/// A blob of five gigabytes of which only the start exists: it is refused before it is read, and
/// missing data is found to be missing.
#[test]
fn a_file_past_four_gigabytes_is_measured_right() {
    let size = 5 * GIB;
    let repository = Repository::new();
    let id = "ab".repeat(20);
    let file = repository.work().join(".git/objects").join(&id[..2]);
    fs::create_dir_all(&file).unwrap();
    let file = fs::File::create(file.join(&id[2..])).unwrap();
    let mut packed = flate2::write::ZlibEncoder::new(file, flate2::Compression::fast());
    write!(packed, "blob {size}\0").unwrap();
    packed.write_all(&vec![0; MIB as usize]).unwrap();
    packed.finish().unwrap();
    let listed = repository.work().join("listed");
    fs::write(&listed, format!("100644 blob {id}\tlarge\n")).unwrap();
    let tree = Command::new("git")
        .args(["mktree", "--missing"])
        .current_dir(repository.work())
        .stdin(fs::File::open(&listed).unwrap())
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let commit = repository.app(&["commit-tree", "-m", "x", tree.trim()]);
    repository.app(&["update-ref", "refs/heads/large", &commit]);

    let bytes = |bytes| Limits {
        bytes,
        ..Limits::default()
    };
    let tree = |limits| {
        let mirror = Mirror::in_place(&repository.work(), limits).unwrap();
        let commit = mirror.resolve("large").unwrap().id;
        let mut unheard = |_: &Progress| ControlFlow::Continue(());
        mirror.tree(&commit, Extent::Released, &mut unheard)
    };
    let Err(refused) = tree(bytes(4 * GIB)) else {
        panic!("it was listed");
    };
    let said = refused.to_string();
    assert!(said.contains(&size.to_string()), "{said}");
    let tree = tree(bytes(size)).unwrap();
    assert_eq!(tree.bytes(), size);
    let into = repository.root().join("into");
    let mut unheard = |_: &Progress| ControlFlow::Continue(());
    let damaged = tree.checkout(&into, &mut unheard);
    assert!(
        matches!(damaged, Err(GitError::BrokenMirror { .. })),
        "{damaged:?}"
    );
    assert!(!into.exists());
}
