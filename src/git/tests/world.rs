//! Repositories as found in practice: names that are not UTF-8 or are ambiguous, people that cannot
//! be parsed, other encodings, other owners, shallow hosts, spaces in addresses.

use std::ffi::OsStr;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::{
    Extent, GitCredential, MirrorOptions, Mirrors, RepoUrl, Source, UrlPolicy, WorkCopy, host_key,
};
use super::fixture::{PATIENCE, Repository, Served, Server, fetch, mirror, policy, source};
use super::sshd::Sshd;
use crate::secret::Secret;

/// Creates the ref with these bytes as its name, which no `&str` can hold.
fn update_ref(repository: &Repository, name: &[u8], arguments: &[&str]) {
    let status = Command::new("git")
        .current_dir(repository.work())
        .arg("update-ref")
        .args(arguments)
        .arg(OsStr::from_bytes(name))
        .args(arguments.is_empty().then_some("HEAD"))
        .status()
        .unwrap();
    assert!(status.success());
}

/// Stores `data` as a commit, however malformed, and returns its id.
fn store_commit(repository: &Repository, data: &[u8]) -> String {
    let mut child = Command::new("git")
        .current_dir(repository.work())
        .args([
            "hash-object",
            "-t",
            "commit",
            "-w",
            "--stdin",
            "--literally",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(data).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn names(refs: &[super::super::Ref]) -> Vec<&str> {
    refs.iter().map(|one| one.name.as_str()).collect()
}

#[test]
fn names_that_are_not_utf8_are_left_out_and_told() {
    let repository = Repository::new();
    update_ref(&repository, b"refs/heads/caf\xe9", &[]);
    update_ref(&repository, b"refs/tags/\xd0\xde", &[]);
    let served = Served::new(repository);
    for _ in 0..2 {
        fetch(&served.mirror).unwrap();
        let refs = served.mirror.refs().unwrap();
        assert_eq!(names(&refs.branches), ["feature/one", "main"]);
        assert_eq!(refs.default_branch.as_deref(), Some("main"));
        assert_eq!(
            refs.left_out,
            ["refs/heads/caf\u{fffd}", "refs/tags/\u{fffd}\u{fffd}"]
        );
        assert!(served.mirror.commits("main", 5).unwrap().len() == 3);
    }
    // As the host's default branch.
    served.repository.commit("new.txt", "new");
    let head = [b"ref: refs/heads/caf\xe9\n".as_slice()].concat();
    std::fs::write(served.repository.work().join(".git/HEAD"), head).unwrap();
    fetch(&served.mirror).unwrap();
    assert_eq!(
        names(&served.mirror.refs().unwrap().branches),
        ["feature/one", "main"]
    );
    let copy = served.folder.path().join("copy");
    let options = MirrorOptions {
        policy: policy(),
        ..MirrorOptions::default()
    };
    let ignore = &mut |_: &super::super::Progress| ControlFlow::Continue(());
    let copied = WorkCopy::clone(&served.mirror.source, &options, &copy, Some("main"), ignore);
    let copied = copied.unwrap();
    let refs = copied.reading().refs().unwrap();
    assert_eq!(
        refs.left_out,
        ["refs/heads/caf\u{fffd}", "refs/tags/\u{fffd}\u{fffd}"]
    );
    assert!(copy.join("new.txt").exists());
    // Deleted as on the host.
    std::fs::write(
        served.repository.work().join(".git/HEAD"),
        "ref: refs/heads/main\n",
    )
    .unwrap();
    update_ref(&served.repository, b"refs/heads/caf\xe9", &["-d"]);
    fetch(&served.mirror).unwrap();
    assert_eq!(
        served.mirror.refs().unwrap().left_out,
        ["refs/tags/\u{fffd}\u{fffd}"]
    );
}

#[test]
fn a_tag_and_a_branch_of_one_name_are_told_apart() {
    let repository = Repository::new();
    repository.app(&["tag", "both", "v0"]);
    repository.app(&["branch", "both", "main"]);
    let full_id = repository.id("v0");
    repository.app(&["update-ref", &format!("refs/heads/{full_id}"), "main"]);
    repository.app(&["update-ref", "refs/heads/-dash", "v1^{commit}"]);
    repository.app(&["update-ref", "refs/tags/@", "v1"]);
    repository.app(&["update-ref", "refs/heads/refs/tags/v1", "v0"]);
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let refs = served.mirror.refs().unwrap();
    let listed = names(&refs.branches);
    assert!(
        listed.contains(&"refs/heads/both") && listed.contains(&"main"),
        "{listed:?}"
    );
    assert!(listed.contains(&"refs/heads/-dash"), "{listed:?}");
    assert!(names(&refs.tags).contains(&"refs/tags/both"), "{refs:?}");
    for one in refs.branches.iter().chain(&refs.tags) {
        for name in [&one.name, &one.full_name] {
            assert_eq!(
                served.mirror.resolve(name).unwrap().id,
                one.commit,
                "{name}"
            );
        }
    }
    // A clone of it, by full names.
    let options = MirrorOptions {
        policy: policy(),
        ..MirrorOptions::default()
    };
    let ignore = &mut |_: &super::super::Progress| ControlFlow::Continue(());
    let copy = served.folder.path().join("copy");
    let copy = WorkCopy::clone(&served.mirror.source, &options, &copy, None, ignore).unwrap();
    for (name, expected, head) in [
        ("refs/tags/both", "v0", None),
        ("refs/heads/both", "main", Some("refs/heads/both")),
        ("both", "main", Some("refs/heads/both")),
        ("tags/both", "v0", None),
    ] {
        let commit = copy.checkout(name, ignore).unwrap();
        assert_eq!(
            commit.id.to_string(),
            served.repository.id(expected),
            "{name}"
        );
        let found = std::fs::read_to_string(served.folder.path().join("copy/.git/HEAD")).unwrap();
        assert_eq!(found.trim().strip_prefix("ref: "), head, "{name}");
    }
}

#[test]
fn every_odd_name_that_git_allows_is_fetched_and_found() {
    let repository = Repository::new();
    let odd = [
        "it's",
        "f(x)",
        "R&D",
        "a;b",
        "x$y",
        "{id}",
        "a\"b",
        "wow!",
        "a|b",
        "<a>",
        "$(id)",
        "`id`",
        "100%",
        "a,b",
        "a=b",
        "#1",
        "a\u{3000}b",
        "项目/分支",
        "e\u{301}",
        "--x/y",
        "HEAD",
    ];
    for name in odd {
        repository.app(&["update-ref", &format!("refs/heads/{name}"), "v0"]);
        repository.app(&["update-ref", &format!("refs/tags/t/{name}"), "v1"]);
    }
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let refs = served.mirror.refs().unwrap();
    assert_eq!(refs.branches.len(), odd.len() + 2);
    for one in refs.branches.iter().chain(&refs.tags) {
        assert_eq!(
            served.mirror.resolve(&one.name).unwrap().id,
            one.commit,
            "{}",
            one.name
        );
    }
}

#[test]
fn people_whom_nobody_can_parse_do_not_stop_a_release() {
    for line in ["author", "committer"] {
        let repository = Repository::new();
        let tree = repository.app(&["rev-parse", "main^{tree}"]);
        let mut data = format!("tree {tree}\nparent {}\n", repository.id("main"));
        for person in ["author", "committer"] {
            let sound = "Ann <ann@example.com> 1700000000 +0800";
            let broken = "Ann ann@example.com> 1700000000 +0800";
            let written = if person == line { broken } else { sound };
            data.push_str(&format!("{person} {written}\n"));
        }
        data.push_str("\nmalformed\n");
        let id = store_commit(&repository, data.as_bytes());
        repository.app(&["update-ref", "refs/heads/main", &id]);
        let served = Served::new(repository);
        for expected in [4, 5] {
            fetch(&served.mirror).unwrap();
            let commits = served.mirror.commits("main", 10).unwrap();
            assert_eq!(commits.len(), expected, "{line}");
            let ignore = &mut |_: &super::super::Progress| ControlFlow::Continue(());
            let listed = served.mirror.tree(&commits[0].id, Extent::Released, ignore);
            assert!(listed.is_ok(), "{line}");
            served.repository.app(&["reset", "-q", "--hard"]);
            served.repository.commit("later.txt", &expected.to_string());
        }
        let last = &served.mirror.commits(&id, 1).unwrap()[0];
        assert_eq!(
            (last.summary.as_str(), &id[..7]),
            ("malformed", last.commit.as_str())
        );
    }
}

#[test]
fn a_folder_of_another_owner_is_fetched_where_the_settings_allow_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nothing can be given away");
        return;
    }
    let repository = Repository::new();
    let given = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(repository.root())
        .status();
    assert!(given.unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    let policy = UrlPolicy {
        local_folders: vec![repository.root().to_owned()],
        ..policy()
    };
    let url = RepoUrl::parse(&repository.work().display().to_string(), &policy).unwrap();
    let options = MirrorOptions {
        policy,
        ..MirrorOptions::default()
    };
    let mirror = Mirrors::new(folder.path().to_owned(), options.clone()).mirror(Source::new(url));
    for _ in 0..2 {
        fetch(&mirror).unwrap();
        assert_eq!(mirror.refs().unwrap().tags.len(), 2);
    }
    // It can be read in place, too; nobody works in it.
    assert!(super::super::Mirror::in_place(&repository.work(), options.limits).is_ok());
    let refused = WorkCopy::open(&repository.work(), &options).err().unwrap();
    assert!(refused.to_string().contains("another account"), "{refused}");
}

#[test]
fn commits_are_read_in_their_own_encoding() {
    let repository = Repository::new();
    for (encoding, bytes, summary) in [
        ("GBK", &b"\xd0\xde\xb8\xb4\xb5\xc7\xc2\xbc"[..], "修复登录"),
        ("ISO-8859-1", b"d\xe9j\xe0 vu", "déjà vu"),
    ] {
        let path = repository.root().join("message");
        std::fs::write(&path, bytes).unwrap();
        let path = path.display().to_string();
        let setting = format!("i18n.commitEncoding={encoding}");
        repository.app(&["-c", &setting, "commit", "-q", "--allow-empty", "-F", &path]);
        assert!(
            repository
                .app(&["log", "-1", "--format=%s"])
                .contains(summary)
        );
    }
    let served = Served::new(repository);
    fetch(&served.mirror).unwrap();
    let commits = served.mirror.commits("main", 2).unwrap();
    let summaries: Vec<&str> = commits.iter().map(|one| one.summary.as_str()).collect();
    assert_eq!(summaries, ["déjà vu", "修复登录"]);
}

#[test]
fn a_host_that_is_shallow_itself_is_mirrored_as_far_as_it_goes() {
    let origin = Repository::new();
    let upstream = Repository::new();
    std::fs::remove_dir_all(upstream.work()).unwrap();
    let from = format!("file://{}", origin.work().display());
    upstream.git(&["clone", "-q", "--depth", "1", &from, "app"]);
    let served = Served::new(upstream);
    for expected in [1, 2, 3] {
        fetch(&served.mirror).unwrap();
        assert_eq!(served.mirror.commits("main", 10).unwrap().len(), expected);
        let commit = served.mirror.resolve("main").unwrap();
        let ignore = &mut |_: &super::super::Progress| ControlFlow::Continue(());
        served
            .mirror
            .tree(&commit.id, Extent::Released, ignore)
            .unwrap();
        served.repository.commit("more.txt", &format!("{expected}"));
    }
}

fn in_a_folder_with_spaces(repository: &Repository) -> std::path::PathBuf {
    let place = repository.root().join("a b/c+d?e");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::rename(repository.work(), &place).unwrap();
    place
}

fn encoded(path: &Path) -> String {
    let path = path.display().to_string();
    path.replace(' ', "%20").replace('?', "%3F")
}

#[test]
fn percent_encoded_paths_are_decoded_for_git_and_ssh() {
    let repository = Repository::new();
    let head = repository.id("main");
    let place = in_a_folder_with_spaces(&repository);
    let server = Server::git_daemon(repository.root());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("git://127.0.0.1:{}/a%20b/c+d%3fe", server.port);
    let daemons = mirror(folder.path(), source(&url), PATIENCE);
    fetch(&daemons).unwrap();
    assert_eq!(daemons.resolve("main").unwrap().id.to_string(), head);

    let Some(sshd) = Sshd::start() else {
        eprintln!("no sshd on this machine: not tested");
        return;
    };
    let (user, port) = (&sshd.user, sshd.server.port);
    let url = format!("ssh://{user}@127.0.0.1:{port}{}", encoded(&place));
    let url = RepoUrl::parse(&url, &policy()).unwrap();
    let key = std::fs::read_to_string(sshd.path("user")).unwrap();
    let source = Source {
        host_key: Some(host_key(&url, &policy(), PATIENCE).unwrap().fingerprint),
        credential: GitCredential::SshKey {
            user: None,
            key: Secret::new(key),
            passphrase: None,
        },
        ..Source::new(url)
    };
    let over_ssh = mirror(folder.path(), source, PATIENCE);
    fetch(&over_ssh).unwrap();
    assert_eq!(over_ssh.resolve("main").unwrap().id.to_string(), head);
}
