//! Fetching, naming and reading over git://.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread;

use super::super::{GitError, MirrorOptions, Mirrors, RepoUrl, Source, Stage, UrlError, UrlPolicy};
use super::fixture::{PATIENCE, Repository, Served, fetch, mirror, policy, source};

#[test]
fn branches_tags_and_commits_are_those_of_git() {
    let repository = Repository::new();
    for number in 0..60 {
        repository.commit("counter", &number.to_string());
    }
    let served = Served::new(repository);
    served.fetch_and_compare();
    let refs = served.mirror.refs().unwrap();
    assert_eq!(refs.default_branch.as_deref(), Some("main"));

    let theirs = served.repository.app(&[
        "log",
        "-50",
        "--format=%h|%an|%s|%cd|%H",
        "--date=format:%Y-%m-%d %H:%M",
        "main",
    ]);
    let mine: Vec<String> = served
        .mirror
        .commits("main", 50)
        .unwrap()
        .into_iter()
        .map(|one| {
            [
                one.commit,
                one.author,
                one.summary,
                one.date,
                one.id.to_string(),
            ]
            .join("|")
        })
        .collect();
    assert_eq!(mine.len(), 50);
    assert_eq!(mine, theirs.lines().collect::<Vec<_>>());

    let json = serde_json::to_value(&refs).unwrap();
    assert_eq!(json["branches"][1]["name"], "main");
    assert_eq!(json["branches"][1]["commit"], served.repository.id("main"));
}

#[test]
fn a_fetch_brings_what_is_new_and_forgets_what_is_gone() {
    let served = Served::new(Repository::new());
    let repository = &served.repository;
    served.fetch_and_compare();
    let packs = || {
        fs::read_dir(served.mirror.path().join("objects/pack"))
            .unwrap()
            .count()
    };
    let before = packs();

    repository.commit("c.txt", "new");
    served.fetch_and_compare();
    assert!(packs() >= before, "the mirror was kept");
    served.fetch_and_compare();

    // Force-pushed, deleted, and a name that becomes a folder of names.
    repository.app(&["reset", "-q", "--hard", "HEAD~2"]);
    let rewritten = repository.commit("a.txt", "another past");
    repository.app(&["branch", "-D", "feature/one"]);
    repository.app(&["branch", "feature"]);
    repository.app(&["tag", "-d", "v0"]);
    repository.app(&["tag", "v0/sub"]);
    served.fetch_and_compare();
    assert_eq!(
        served.mirror.resolve("main").unwrap().id.to_string(),
        rewritten
    );

    repository.app(&["branch", "-D", "feature"]);
    repository.app(&["branch", "feature/two"]);
    repository.app(&["checkout", "-q", "feature/two"]);
    served.fetch_and_compare();
    let refs = served.mirror.refs().unwrap();
    assert_eq!(refs.default_branch.as_deref(), Some("feature/two"));
}

#[test]
fn revisions_are_found_by_every_name() {
    let served = Served::new(Repository::new());
    let mirror = &served.mirror;
    assert!(matches!(
        mirror.resolve("main"),
        Err(GitError::NotFetched { .. })
    ));
    fetch(mirror).unwrap();
    for revision in [
        "main",
        "feature/one",
        "v0",
        "v1",
        "refs/heads/main",
        "refs/tags/v1",
    ] {
        let found = mirror.resolve(revision).unwrap();
        assert_eq!(
            found.id.to_string(),
            served.repository.id(revision),
            "{revision}"
        );
    }
    let full = served.repository.id("main");
    for length in [7, 12, 40] {
        assert_eq!(
            mirror.resolve(&full[..length]).unwrap().id.to_string(),
            full
        );
    }
    for unknown in [
        "nothing",
        "v9",
        "0123456789",
        &"0".repeat(40),
        "refs/heads/x",
    ] {
        match mirror.resolve(unknown) {
            Err(error) if error.is_unknown() => {
                assert!(error.to_string().contains(unknown), "{error}");
            }
            other => panic!("{unknown}: {other:?}"),
        }
    }
    assert!(matches!(
        mirror.commits("--help", 5),
        Err(GitError::InvalidRevision { .. })
    ));
    fetch(mirror).unwrap();
}

#[test]
fn an_empty_repository_has_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository { folder };
    repository.git(&["init", "-q", "-b", "main", "app"]);
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let refs = served.mirror.refs().unwrap();
    assert!(refs.branches.is_empty() && refs.tags.is_empty() && refs.default_branch.is_none());
}

#[test]
fn two_fetches_of_one_mirror_follow_each_other() {
    let served = Served::new(Repository::new());
    let (root, url) = (served.folder.path(), served.mirror.source.url.as_str());
    thread::scope(|scope| {
        let fetches: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fetch(&mirror(root, source(url), PATIENCE))))
            .collect();
        for one in fetches {
            one.join().unwrap().unwrap();
        }
    });
    served.fetch_and_compare();
}

#[test]
fn a_waiting_fetch_can_be_cancelled_and_readers_do_not_wait() {
    let served = Served::new(Repository::new());
    fetch(&served.mirror).unwrap();
    let lock = served.mirror.path().parent().unwrap().join("lock");
    let held = File::open(lock).unwrap();
    held.lock().unwrap();
    assert_eq!(served.mirror.refs().unwrap().branches.len(), 2);
    let mut seen = Vec::new();
    let ended = served.mirror.fetch(&mut |progress| {
        seen.push(progress.stage);
        if seen.len() < 3 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    assert!(matches!(ended, Err(GitError::Cancelled)), "{ended:?}");
    assert_eq!(seen, [Stage::Waiting; 3]);
}

#[test]
fn a_broken_mirror_heals() {
    let served = Served::new(Repository::new());
    served.fetch_and_compare();
    let path = served.mirror.path();
    let pack = || -> PathBuf {
        fs::read_dir(path.join("objects/pack"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "pack")
            })
            .unwrap()
    };
    let damages: [&dyn Fn(); 6] = [
        &|| {
            let pack = pack();
            let content = fs::read(&pack).unwrap();
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, &content[..content.len() / 2]).unwrap();
        },
        &|| fs::remove_file(pack()).unwrap(),
        &|| fs::write(path.join("HEAD"), "").unwrap(),
        &|| fs::remove_dir_all(path.join("objects")).unwrap(),
        &|| fs::write(path.join("refs/heads/main"), "0".repeat(39) + "1\n").unwrap(),
        // The leftovers of a killed fetch: a lock, half a pack, half a new mirror.
        &|| {
            fs::write(path.join("refs/heads/main.lock"), "").unwrap();
            fs::write(path.join("objects/pack/pack_git2_0123"), "PACK").unwrap();
            fs::create_dir_all(path.with_file_name("new.git").join("objects")).unwrap();
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        served
            .repository
            .commit("a.txt", &format!("after damage {number}"));
        served.fetch_and_compare();
        let id = served.mirror.resolve("main").unwrap().id;
        served.mirror.archive(&id, "", std::io::sink()).unwrap();
    }
}

#[test]
fn damage_found_by_reading_is_healed_by_the_next_fetch() {
    let served = Served::new(Repository::new());
    let noise: String = (0..20_000u32)
        .map(|number| format!("{:x}", number.wrapping_mul(2_654_435_761)))
        .collect();
    served.repository.commit("noise", &noise);
    fetch(&served.mirror).unwrap();
    let pack = fs::read_dir(served.mirror.path().join("objects/pack"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pack")
        })
        .unwrap();
    let mut content = fs::read(&pack).unwrap();
    let middle = content.len() / 2;
    content[middle..middle + 64].fill(0);
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, content).unwrap();
    let id = super::super::CommitId::parse(&served.repository.id("main")).unwrap();
    let read = served.mirror.archive(&id, "", std::io::sink());
    assert!(
        matches!(read, Err(GitError::BrokenMirror { .. })),
        "{read:?}"
    );
    served.fetch_and_compare();
    served.mirror.archive(&id, "", std::io::sink()).unwrap();
}

#[test]
fn progress_counts_and_cancels() {
    let served = Served::new(Repository::new());
    let mut last = None;
    served
        .mirror
        .fetch(&mut |progress| {
            last = Some(progress.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
    let last = last.unwrap();
    assert_eq!(last.stage, Stage::Resolving);
    assert!(last.objects > 5 && last.objects == last.total_objects && last.bytes > 0);
}

#[test]
fn local_folders_are_fetched_where_the_settings_allow_it() {
    let repository = Repository::new();
    let elsewhere = Repository::new();
    std::os::unix::fs::symlink(elsewhere.work(), repository.root().join("link")).unwrap();
    let allowed = UrlPolicy {
        local_folders: vec![repository.root().to_owned()],
        ..policy()
    };
    let folder = tempfile::tempdir().unwrap();
    let mirror = |name: &str| {
        let path = repository.root().join(name);
        let options = MirrorOptions {
            policy: allowed.clone(),
            stall_timeout: PATIENCE,
            ..MirrorOptions::default()
        };
        let source = Source::new(RepoUrl::parse(path.to_str().unwrap(), &allowed).unwrap());
        Mirrors::new(folder.path().to_owned(), options).mirror(source)
    };
    let app = mirror("app");
    fetch(&app).unwrap();
    repository.commit("a.txt", "later");
    fetch(&app).unwrap();
    assert_eq!(
        app.resolve("main").unwrap().id.to_string(),
        repository.id("main")
    );
    let refused = fetch(&mirror("link"));
    assert!(
        matches!(refused, Err(GitError::Url(UrlError::LocalFolder))),
        "{refused:?}"
    );
    let nothing = fetch(&mirror("nothing"));
    assert!(
        matches!(nothing, Err(GitError::NotARepository { .. })),
        "{nothing:?}"
    );
}
