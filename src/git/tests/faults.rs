//! Dead, silent and vanishing git hosts.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use super::super::{Extent, GitError, Mirror, Progress, RepoUrl, Stage, UrlError, UrlPolicy};
use super::fixture::{PATIENCE, Repository, Served, fetch, free_port, mirror, policy, source};

/// A host that accepts and then sends nothing.
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

/// The longest time that a cancel may take.
const SOON: Duration = Duration::from_secs(2);

/// Fetches until `reached` is true of the progress, then cancels.
fn cancel(mirror: &Mirror, mut reached: impl FnMut(&Progress) -> bool) {
    let mut asked = None;
    let ended = mirror.fetch(&mut |progress| {
        if asked.is_some() || reached(progress) {
            asked.get_or_insert_with(Instant::now);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(ended, Err(GitError::Cancelled)), "{ended:?}");
    let took = asked.unwrap().elapsed();
    assert!(took < SOON, "{took:?}");
}

/// True once the progress was the same a few times: nothing moves.
fn once_it_stands_still() -> impl FnMut(&Progress) -> bool {
    let mut last = Progress::default();
    let mut same = 0;
    move |progress| {
        same = if *progress == last { same + 1 } else { 0 };
        last = progress.clone();
        same >= 5
    }
}

#[test]
fn a_silent_host_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (_listener, host) = silent_host();
    for scheme in ["git://", "http://", "https://", "ssh://git@"] {
        let url = format!("{scheme}{host}/x");
        let mirror = mirror(folder.path(), source(&url), PATIENCE);
        cancel(&mirror, once_it_stands_still());
    }
}

#[test]
fn a_host_that_stops_in_the_middle_can_be_cancelled() {
    let served = Served::new(noisy_repository());
    for most in [10, 900, 200_000] {
        let (port, _stalling) = stalling_after(most, served.server.port);
        let folder = tempfile::tempdir().unwrap();
        let url = format!("git://127.0.0.1:{port}/app/.git");
        let mirror = mirror(folder.path(), source(&url), PATIENCE);
        let mut largest = 0;
        let mut still = once_it_stands_still();
        cancel(&mirror, |progress| {
            largest = largest.max(progress.bytes);
            // On a slow machine it also pauses before the first bytes arrive.
            still(progress) && (largest > 0) == (most > 1000)
        });
        assert_eq!(largest > 0, most > 1000, "{most}: {largest}");
        assert!(matches!(mirror.refs(), Err(GitError::NotFetched { .. })));
    }
    served.fetch_and_compare();
}

/// A repository of some megabytes that do not compress.
fn noisy_repository() -> Repository {
    let repository = Repository::new();
    let mut number = 1u64;
    let noise: String = std::iter::repeat_with(|| {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{number:x}")
    })
    .take(200_000)
    .collect();
    repository.commit("noise", &noise);
    repository
}

/// A port that forwards `most` bytes of the host at `far` and then nothing, without closing.
fn stalling_after(most: u64, far: u16) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let stalling = thread::spawn(move || {
        let (mut near, _) = listener.accept().unwrap();
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, far)).unwrap();
        let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let up = thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
        let _ = std::io::copy(&mut (&mut far).take(most), &mut near);
        // Ends when the other side has closed.
        let _ = up.join();
    });
    (port, stalling)
}

#[test]
fn listing_and_writing_can_be_cancelled() {
    let repository = noisy_repository();
    for number in 0..200 {
        let path = repository.work().join(format!("d{number}"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("f"), number.to_string()).unwrap();
    }
    repository.commit("last", "x");
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let id = served.mirror.resolve("main").unwrap().id;
    let mut end = |_: &Progress| ControlFlow::Break(());
    let listed = served.mirror.tree(&id, Extent::Whole, &mut end);
    assert!(matches!(listed, Err(GitError::Cancelled)));
    let mut unheard = |_: &Progress| ControlFlow::Continue(());
    let tree = served
        .mirror
        .tree(&id, Extent::Whole, &mut unheard)
        .unwrap();
    let into = served.folder.path().join("into");
    let written = tree.checkout(&into, &mut end);
    assert!(matches!(written, Err(GitError::Cancelled)), "{written:?}");
    assert!(!into.exists(), "what was written is gone again");
    let packed = tree.archive("", std::io::sink(), &mut end);
    assert!(matches!(packed, Err(GitError::Cancelled)), "{packed:?}");
    let mut last = Progress::default();
    let done = tree.checkout(&into, &mut |progress| {
        last = progress.clone();
        ControlFlow::Continue(())
    });
    let done = done.unwrap();
    assert_eq!(last.stage, Stage::Writing);
    assert_eq!(last.total_objects as u64, done.files);
    assert_eq!(last.total_bytes as u64, done.bytes);
}

/// Over plain http libgit2 would follow a redirect by itself, past the policy and the relay.
#[test]
fn a_redirect_leads_nowhere() {
    let (elsewhere, host) = silent_host();
    elsewhere.set_nonblocking(true).unwrap();
    let redirecting = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = redirecting.local_addr().unwrap().port();
    let answering = thread::spawn(move || {
        let (mut near, _) = redirecting.accept().unwrap();
        let mut head = [0; 4096];
        let _ = near.read(&mut head).unwrap();
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{host}/x/info/refs?service=git-upload-pack\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        std::io::Write::write_all(&mut near, answer.as_bytes()).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{port}/x");
    let ended = fetch(&mirror(folder.path(), source(&url), Duration::from_secs(5)));
    answering.join().unwrap();
    assert!(ended.is_err());
    assert!(elsewhere.accept().is_err(), "it followed");
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
