//! Dead, silent and vanishing git hosts.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use super::super::{GitError, RepoUrl, UrlError, UrlPolicy};
use super::fixture::{PATIENCE, Repository, Served, fetch, free_port, mirror, policy, source};

/// A host that accepts and then says nothing.
fn silent_host() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, format!("127.0.0.1:{port}"))
}

#[test]
fn a_dead_host_ends_within_the_time_out() {
    let folder = tempfile::tempdir().unwrap();
    let (_listener, host) = silent_host();
    for url in [
        format!("git://{host}/x"),
        format!("http://{host}/x"),
        format!("https://{host}/x"),
        format!("ssh://git@{host}/x"),
    ] {
        let started = Instant::now();
        let ended = fetch(&mirror(folder.path(), source(&url), Duration::from_secs(1)));
        assert!(
            matches!(ended, Err(GitError::TimedOut { .. })),
            "{url}: {ended:?}"
        );
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{url}: {:?}",
            started.elapsed()
        );
    }
    let gone = format!("git://127.0.0.1:{}/x", free_port());
    let ended = fetch(&mirror(folder.path(), source(&gone), PATIENCE));
    assert!(
        matches!(ended, Err(GitError::Unreachable { .. })),
        "{ended:?}"
    );
}

#[test]
fn a_silent_host_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (_listener, host) = silent_host();
    let mirror = mirror(folder.path(), source(&format!("git://{host}/x")), PATIENCE);
    let mut calls = 0;
    let started = Instant::now();
    let ended = mirror.fetch(&mut |_| {
        calls += 1;
        if calls < 5 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    assert!(matches!(ended, Err(GitError::Cancelled)), "{ended:?}");
    assert!(started.elapsed() < PATIENCE / 2);
}

#[test]
fn a_line_cut_in_the_middle_is_an_error_and_the_next_fetch_is_whole() {
    let served = Served::new(Repository::new());
    let daemon = served.server.port;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let cutting = thread::spawn(move || {
        let (mut near, _) = listener.accept().unwrap();
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, daemon)).unwrap();
        let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let up = thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
        std::io::copy(&mut (&mut far).take(900), &mut near).unwrap();
        near.shutdown(std::net::Shutdown::Both).unwrap();
        far.shutdown(std::net::Shutdown::Both).unwrap();
        let _ = up.join();
    });
    let folder = tempfile::tempdir().unwrap();
    let url = format!("git://127.0.0.1:{port}/app/.git");
    let cut = mirror(folder.path(), source(&url), PATIENCE);
    let ended = fetch(&cut);
    cutting.join().unwrap();
    assert!(
        matches!(
            ended,
            Err(GitError::Unreachable { .. } | GitError::Git { .. })
        ),
        "{ended:?}"
    );
    assert!(matches!(cut.refs(), Err(GitError::NotFetched { .. })));
    served.fetch_and_compare();
}

#[test]
fn what_is_no_repository_says_so() {
    let served = Served::new(Repository::new());
    let url = format!("git://127.0.0.1:{}/nothing", served.server.port);
    let ended = fetch(&mirror(served.folder.path(), source(&url), PATIENCE));
    assert!(
        matches!(ended, Err(GitError::NotARepository { .. })),
        "{ended:?}"
    );
}

#[test]
fn a_name_that_resolves_to_this_machine_is_refused_when_connecting() {
    let strict = UrlPolicy::default();
    let url = RepoUrl::parse("git://name.example/x", &strict).unwrap();
    let ended = super::super::address::connect(
        &RepoUrl::parse("git://localhost/x", &policy()).unwrap(),
        &strict,
        PATIENCE,
        &std::sync::atomic::AtomicBool::new(false),
    );
    assert!(
        matches!(ended, Err(GitError::Url(UrlError::Loopback))),
        "{ended:?}"
    );
    assert_eq!(url.host(), Some("name.example"));
}
