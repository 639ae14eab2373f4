//! Mirrors of a limited depth.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;

use super::super::{GitError, Mirror, MirrorOptions, Mirrors, RepoUrl, Source, UrlPolicy};
use super::fixture::{PATIENCE, Repository, Server, fetch, mirror, policy, source};
use super::http_backend::HttpBackend;

/// Thirty commits, a tag on the tenth.
fn long_repository() -> (Repository, String) {
    let repository = Repository::new();
    let mut early = String::new();
    for number in 0..30 {
        let id = repository.commit("counter", &number.to_string());
        if number == 9 {
            repository.app(&["tag", "early"]);
            early = repository.id("HEAD~3");
        } else if number == 10 {
            assert!(!id.is_empty());
        }
    }
    (repository, early)
}

fn shallow(folder: &Path, url: &str) -> Mirror {
    let source = Source {
        depth: NonZeroU32::new(2),
        ..source(url)
    };
    mirror(folder, source, PATIENCE)
}

fn find(mirror: &Mirror, revision: &str) -> Result<(String, bool), GitError> {
    let found = mirror.find(revision, &mut |_| ControlFlow::Continue(()));
    found.map(|(commit, whole)| (commit.id.to_string(), whole))
}

fn stays_shallow_until_it_must_not(repository: &Repository, early: &str, mirror: &Mirror) {
    fetch(mirror).unwrap();
    assert_eq!(mirror.commits("main", 50).unwrap().len(), 2);
    assert_eq!(mirror.commits("early", 50).unwrap().len(), 2);
    // Nothing new, then one new commit: it stays shallow.
    fetch(mirror).unwrap();
    repository.commit("counter", "new");
    fetch(mirror).unwrap();
    let head = repository.id("main");
    assert_eq!(find(mirror, "main").unwrap(), (head, false));
    let listed = mirror.commits("main", 50).unwrap().len();
    assert!((2..=3).contains(&listed), "{listed}");
    let id = mirror.resolve("early").unwrap().id;
    mirror.archive(&id, "", std::io::sink()).unwrap();
    // Below the depth: the whole history is fetched, and the caller is told.
    assert!(matches!(
        mirror.resolve(early),
        Err(GitError::UnknownCommit { .. })
    ));
    assert_eq!(find(mirror, early).unwrap(), (early.to_owned(), true));
    let id = mirror.resolve(early).unwrap().id;
    mirror.archive(&id, "", std::io::sink()).unwrap();
    assert!(matches!(
        find(mirror, "nothing"),
        Err(GitError::UnknownRevision { .. })
    ));
    repository.commit("counter", "newer");
    fetch(mirror).unwrap();
    assert_eq!(find(mirror, "main").unwrap().0, repository.id("main"));
}

#[test]
fn a_shallow_mirror_over_git() {
    let (repository, early) = long_repository();
    let server = Server::git_daemon(repository.root());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("git://127.0.0.1:{}/app/.git", server.port);
    stays_shallow_until_it_must_not(&repository, &early, &shallow(folder.path(), &url));
}

#[test]
fn a_shallow_mirror_over_http() {
    let (repository, early) = long_repository();
    let backend = HttpBackend::start(repository.root(), None);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}/app/.git", backend.port);
    stays_shallow_until_it_must_not(&repository, &early, &shallow(folder.path(), &url));
}

#[test]
fn a_local_folder_is_always_whole() {
    let (repository, early) = long_repository();
    let options = MirrorOptions {
        policy: UrlPolicy {
            local_folders: vec![repository.root().to_owned()],
            ..policy()
        },
        ..MirrorOptions::default()
    };
    let url = RepoUrl::parse(repository.work().to_str().unwrap(), &options.policy).unwrap();
    let source = Source {
        depth: NonZeroU32::new(2),
        ..Source::new(url)
    };
    let folder = tempfile::tempdir().unwrap();
    let mirror = Mirrors::new(folder.path().to_owned(), options).mirror(source);
    fetch(&mirror).unwrap();
    assert_eq!(find(&mirror, &early).unwrap(), (early, false));
}
