//! http-backend: public, private, wrong login. (https: see `trust` for why its CA needs a process
//! of its own.)

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::credential::Presenter;
use super::super::{GitCredential, GitError, RepoUrl};
use super::fixture::{PATIENCE, Repository, fetch, mirror, policy, source};
use super::http_backend::HttpBackend;
use crate::secret::Secret;

fn requests(backend: &HttpBackend) -> usize {
    AtomicUsize::load(&backend.requests, Ordering::SeqCst)
}

#[test]
fn a_public_repository_is_fetched_over_http() {
    let repository = Repository::new();
    let backend = HttpBackend::start(repository.root(), None);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}/app/.git", backend.port);
    let public = mirror(folder.path(), source(&url), PATIENCE);
    fetch(&public).unwrap();
    repository.commit("a.txt", "later");
    fetch(&public).unwrap();
    assert_eq!(
        public.resolve("main").unwrap().id.to_string(),
        repository.id("main")
    );
    let url = format!("http://127.0.0.1:{}/nothing", backend.port);
    let nothing = fetch(&mirror(folder.path(), source(&url), PATIENCE));
    assert!(
        matches!(nothing, Err(GitError::NotARepository { .. })),
        "{nothing:?}"
    );
}

#[test]
fn a_private_repository_asks_for_a_login() {
    let repository = Repository::new();
    let backend = HttpBackend::start(repository.root(), Some("YWxpOnNlc2FtZQ=="));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}/app/.git", backend.port);
    let ended = fetch(&mirror(folder.path(), source(&url), PATIENCE));
    assert!(
        matches!(ended, Err(GitError::Authentication { .. })),
        "{ended:?}"
    );

    // A token never goes over plain http, not even to a host that would take it.
    let mut with_token = source(&url);
    with_token.credential = GitCredential::Token {
        user: Some("ali".to_owned()),
        token: Secret::new("sesame".to_owned()),
    };
    let before = requests(&backend);
    let ended = fetch(&mirror(folder.path(), with_token, PATIENCE));
    assert!(
        matches!(ended, Err(GitError::UnfitCredential { .. })),
        "{ended:?}"
    );
    assert_eq!(requests(&backend), before);
}

/// The step between the check and the wire: libgit2 asking as it does over https.
#[test]
fn a_token_is_shown_once() {
    let repository = Repository::new();
    let backend = HttpBackend::start(repository.root(), Some("YWxpOnNlc2FtZQ=="));
    let url = RepoUrl::parse(
        &format!("http://127.0.0.1:{}/app/.git", backend.port),
        &policy(),
    )
    .unwrap();
    let connect = |token: &str| {
        let credential = GitCredential::Token {
            user: Some("ali".to_owned()),
            token: Secret::new(token.to_owned()),
        };
        let refusal = RefCell::new(None);
        let mut presenter = Presenter::new(&credential, &url, &refusal);
        let mut callbacks = git2::RemoteCallbacks::new();
        callbacks.credentials(move |_, _, allowed| presenter.answer(allowed));
        let mut remote = git2::Remote::create_detached(url.as_str()).unwrap();
        let connected = remote
            .connect_auth(git2::Direction::Fetch, Some(callbacks), None)
            .map(drop);
        (connected, refusal.into_inner())
    };
    assert!(connect("sesame").0.is_ok());
    let before = requests(&backend);
    let (refused, reason) = connect("wrong-token");
    assert!(refused.is_err());
    let reason = reason.unwrap();
    assert!(!reason.contains("wrong-token"), "{reason}");
    assert!(requests(&backend) - before <= 3, "it asked again and again");
}
