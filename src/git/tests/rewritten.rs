//! Branches that are force-pushed between fetches and during one.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::thread;

use super::super::{GitError, Mirror, Source};
use super::fixture::{PATIENCE, Repository, Served, fetch, mirror, source};
use super::http_backend::HttpBackend;

/// Moves `main` two commits back and writes another history; returns the new commit.
fn force_push(repository: &Repository, text: &str) -> String {
    repository.app(&["reset", "-q", "--hard", "HEAD~2"]);
    repository.commit("b.txt", "two again");
    repository.commit("rewritten.txt", text)
}

/// Removes every reference to a commit except its branches and tags.
fn forget(repository: &Repository) {
    repository.app(&["reflog", "expire", "--expire=now", "--all"]);
    repository.app(&["gc", "-q", "--prune=now"]);
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the mirror's history of `main` and its objects equal git's own.
fn is_exact(mirror: &Mirror, repository: &Repository) {
    git(mirror.path(), &["fsck", "--full", "--strict"]);
    let listed: Vec<String> = mirror
        .commits("main", 50)
        .unwrap()
        .iter()
        .map(|commit| commit.id.to_string())
        .collect();
    let theirs = repository.app(&["log", "-50", "--format=%H", "main"]);
    assert_eq!(listed, theirs.lines().collect::<Vec<_>>());
}

/// The files of a commit, as a tar's bytes.
fn files(mirror: &Mirror, revision: &str) -> Result<Vec<u8>, GitError> {
    let (commit, _) = mirror.find(revision, &mut |_| ControlFlow::Continue(()))?;
    let mut tar = Vec::new();
    mirror.archive(&commit.id, "", &mut tar)?;
    Ok(tar)
}

/// Asserts that it is refused, and by its name.
#[track_caller]
fn is_refused(mirror: &Mirror, commit: &str) {
    match files(mirror, commit) {
        Err(error @ GitError::UnknownCommit { .. }) => {
            let said = error.to_string();
            assert!(said.contains(commit), "{said}");
            assert!(said.contains("force-pushed"), "{said}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rewritten_branch_is_followed_and_what_it_was_is_still_there() {
    let served = Served::new(Repository::new());
    let repository = &served.repository;
    served.fetch_and_compare();
    let before = repository.id("main");
    let as_it_was = files(&served.mirror, &before).unwrap();

    // Pushed and force-pushed away again before it was fetched.
    let unseen = repository.commit("unseen.txt", "nobody fetched this");
    repository.app(&["reset", "-q", "--hard", "HEAD~1"]);
    force_push(repository, "another past");
    forget(repository);
    served.fetch_and_compare();
    is_exact(&served.mirror, repository);
    assert_eq!(files(&served.mirror, &before).unwrap(), as_it_was);
    is_refused(&served.mirror, &unseen);

    // Rewound, then without any common history.
    repository.app(&["reset", "-q", "--hard", "v0"]);
    served.fetch_and_compare();
    is_exact(&served.mirror, repository);
    repository.app(&["checkout", "-q", "--orphan", "other"]);
    repository.app(&["rm", "-rqf", "."]);
    repository.commit("first.txt", "a new beginning");
    repository.app(&["branch", "-M", "other", "main"]);
    served.fetch_and_compare();
    is_exact(&served.mirror, repository);
    assert_eq!(files(&served.mirror, &before).unwrap(), as_it_was);

    // A new mirror never sees it.
    let (folder, url) = (
        served.folder.path().join("new"),
        served.mirror.source.url.as_str(),
    );
    let new = mirror(&folder, source(url), PATIENCE);
    fetch(&new).unwrap();
    is_exact(&new, repository);
    is_refused(&new, &before);
    // The request for it was no damage.
    fetch(&new).unwrap();
    is_exact(&new, repository);
}

#[test]
fn a_rewritten_branch_of_a_shallow_mirror() {
    let repository = Repository::new();
    for number in 0..9 {
        repository.commit("counter", &number.to_string());
    }
    let early = repository.id("main~7");
    let served = Served::new(repository);
    let repository = &served.repository;
    let shallow = Source {
        depth: NonZeroU32::new(2),
        ..source(served.mirror.source.url.as_str())
    };
    let shallow = mirror(served.folder.path(), shallow, PATIENCE);
    fetch(&shallow).unwrap();
    let before = repository.id("main");
    let as_it_was = files(&shallow, &before).unwrap();
    for round in 0..3 {
        let now = force_push(repository, &round.to_string());
        forget(repository);
        fetch(&shallow).unwrap();
        assert_eq!(shallow.resolve("main").unwrap().id.to_string(), now);
        let listed = shallow.commits("main", 50).unwrap().len();
        assert!((2..=3).contains(&listed), "{listed}");
        assert_eq!(files(&shallow, &before).unwrap(), as_it_was);
        assert!(!shallow.commits(&before, 50).unwrap().is_empty());
    }
    // The whole history of the current branch; commits only below the old one never came.
    files(&shallow, &early).unwrap();
    assert_eq!(files(&shallow, &before).unwrap(), as_it_was);
    assert!(!shallow.commits(&before, 50).unwrap().is_empty());
    fetch(&shallow).unwrap();
    assert_eq!(
        files(&shallow, &before).unwrap(),
        as_it_was,
        "the mirror was not built anew"
    );
}

/// A git host over http that runs `change` before each of its first `times` requests for a pack.
fn changing(backend: u16, times: usize, change: impl Fn(usize) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut changed = 0;
        for near in listener.incoming() {
            let mut near = near.unwrap();
            let mut first = [0; 4];
            if io::Read::read_exact(&mut near, &mut first).is_err() {
                continue;
            }
            if first == *b"POST" && changed < times {
                change(changed);
                changed += 1;
            }
            let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, backend)).unwrap();
            far.write_all(&first).unwrap();
            let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let up = thread::spawn(move || io::copy(&mut near_in, &mut far_out));
            let _ = io::copy(&mut far, &mut near);
            let _ = near.shutdown(Shutdown::Both);
            let _ = up.join();
        }
    });
    port
}

/// Over http the host forgets between its two answers which names it has shown.
#[test]
fn a_branch_that_is_rewritten_during_the_fetch_is_asked_for_again() {
    for (times, ends_well) in [(1, true), (1000, false)] {
        let repository = Repository::new();
        let backend = HttpBackend::start(repository.root(), None);
        let work = repository.work();
        let port = changing(backend.port, times, move |round| {
            for arguments in [
                &["reset", "-q", "--hard", "HEAD~1"][..],
                &[
                    "-c",
                    "user.name=A",
                    "-c",
                    "user.email=a@b",
                    "commit",
                    "-q",
                    "--allow-empty",
                ],
            ] {
                let summary = format!("rewritten {round}");
                let arguments = match arguments.last() {
                    Some(&"--allow-empty") => [arguments, &["-m", &summary]].concat(),
                    _ => arguments.to_vec(),
                };
                git(&work, &arguments);
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://127.0.0.1:{port}/app/.git");
        let mirror = mirror(folder.path(), source(&url), PATIENCE);
        match fetch(&mirror) {
            Ok(()) => {
                assert!(ends_well);
                is_exact(&mirror, &repository);
            }
            Err(error) => assert!(!ends_well, "{error}"),
        }
    }
}
