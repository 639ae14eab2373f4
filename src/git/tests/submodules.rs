//! Submodules: left out or taken along, by the same rules as the repository itself.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::super::{Checkout, Extent, GitError, Mirror, Note, Paths, Source, UrlError};
use super::fixture::{PATIENCE, Repository, Server, fetch, mirror, source};

/// `app` with `lib` as a submodule in `vendor/lib`, by the address `written`; `lib` contains
/// `deep`.
fn nested(written: &str) -> Repository {
    let repository = Repository::new();
    let root = repository.root().to_owned();
    for (name, content) in [("deep", "deepest"), ("lib", "library")] {
        repository.git(&["init", "-q", "-b", "main", name]);
        fs::write(root.join(name).join("file"), content).unwrap();
        fs::write(root.join(name).join("notes.md"), content).unwrap();
    }
    fs::write(root.join("lib/.gitattributes"), "*.md export-ignore\n").unwrap();
    for name in ["deep", "lib"] {
        repository.git(&["-C", name, "add", "-A"]);
        repository.git(&["-C", name, "commit", "-q", "-m", "x"]);
    }
    add_submodule(&repository, "lib", "inner", "../../deep/.git", "deep");
    add_submodule(&repository, "app", "vendor/lib", written, "lib");
    repository
}

/// Like `git submodule add`, but fetches nothing.
fn add_submodule(repository: &Repository, into: &str, path: &str, url: &str, from: &str) {
    let commit = repository.git(&["-C", from, "rev-parse", "HEAD"]);
    let modules = repository.root().join(into).join(".gitmodules");
    let section = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    fs::write(modules, section).unwrap();
    repository.git(&["-C", into, "add", ".gitmodules"]);
    let entry = format!("160000,{commit},{path}");
    repository.git(&["-C", into, "update-index", "--add", "--cacheinfo", &entry]);
    repository.git(&["-C", into, "commit", "-q", "-m", "a submodule"]);
}

fn served(repository: &Repository, submodules: bool) -> (Server, tempfile::TempDir, Mirror) {
    let server = Server::git_daemon(repository.root());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("git://127.0.0.1:{}/app/.git", server.port);
    let source = Source {
        submodules,
        ..source(&url)
    };
    let mirror = mirror(folder.path(), source, PATIENCE);
    fetch(&mirror).unwrap();
    (server, folder, mirror)
}

fn check_out(mirror: &Mirror, into: &Path) -> Result<Checkout, GitError> {
    let id = mirror.resolve("main")?.id;
    mirror.checkout(&id, into)
}

#[test]
fn left_out_they_are_empty_folders_and_told() {
    let repository = nested("../../lib/.git");
    let (_server, folder, mirror) = served(&repository, false);
    let into = folder.path().join("into");
    let done = check_out(&mirror, &into).unwrap();
    assert_eq!(fs::read_dir(into.join("vendor/lib")).unwrap().count(), 0);
    let paths = Paths {
        count: 1,
        first: "vendor/lib".to_owned(),
    };
    assert_eq!(done.notes, [Note::SubmodulesLeftOut(paths)]);
}

#[test]
fn taken_along_they_are_in_their_places() {
    let repository = nested("../../lib/.git");
    let (server, folder, mirror) = served(&repository, true);
    let into = folder.path().join("into");
    let done = check_out(&mirror, &into).unwrap();
    let read = |path: &str| fs::read_to_string(into.join(path)).unwrap();
    assert_eq!(read("vendor/lib/file"), "library");
    assert_eq!(read("vendor/lib/inner/file"), "deepest");
    // Each repository has its own attributes.
    assert!(!into.join("vendor/lib/notes.md").exists());
    assert!(into.join("vendor/lib/inner/notes.md").exists());
    let told: Vec<String> = done.notes.iter().map(ToString::to_string).collect();
    assert!(
        told[0].contains("vendor/lib") && told[0].contains("/lib/.git"),
        "{told:?}"
    );
    assert!(told[1].contains("vendor/lib/inner"), "{told:?}");

    // Objects that are already here are not fetched again.
    drop(server);
    let id = mirror.resolve("main").unwrap().id;
    let mut tar = Vec::new();
    mirror.archive(&id, "", &mut tar).unwrap();
    let mut unheard = |_: &_| ControlFlow::Continue(());
    let tree = mirror.tree(&id, Extent::Whole, &mut unheard).unwrap();
    assert_eq!(tree.files(), done.files + 1);
}

#[test]
fn their_addresses_follow_the_same_rules() {
    for (written, refused) in [
        ("ext::sh -c id", UrlError::Character),
        ("--upload-pack=id", UrlError::Scheme),
        ("-u./payload", UrlError::Scheme),
        ("file:///etc", UrlError::Scheme),
        ("/etc/x", UrlError::LocalFolder),
        ("https://169.254.169.254/x", UrlError::LinkLocal),
        ("../../../../../x", UrlError::Path),
        ("ssh://-oProxyCommand=id/x", UrlError::Host),
    ] {
        let repository = nested(written);
        let (_server, folder, mirror) = served(&repository, true);
        let into = folder.path().join("into");
        match check_out(&mirror, &into) {
            Err(error @ GitError::Submodule { .. }) => {
                assert!(error.to_string().contains("vendor/lib"), "{error}");
                let GitError::Submodule { cause, .. } = error else {
                    unreachable!()
                };
                match *cause {
                    GitError::Url(found) => assert_eq!(found, refused, "{written}"),
                    other => panic!("{written}: {other}"),
                }
            }
            other => panic!("{written}: {other:?}"),
        }
        assert!(!into.exists());
    }
}

#[test]
fn what_cannot_be_found_is_told() {
    // No address at all.
    let repository = nested("../../lib/.git");
    fs::write(repository.work().join(".gitmodules"), "").unwrap();
    repository.app(&["add", ".gitmodules"]);
    repository.app(&["commit", "-q", "-m", "x"]);
    let (_server, folder, mirror) = served(&repository, true);
    let error = check_out(&mirror, &folder.path().join("into")).unwrap_err();
    assert!(error.to_string().contains(".gitmodules"), "{error}");

    // A commit that its repository does not have.
    let repository = nested("../../lib/.git");
    let entry = format!("160000,{},vendor/lib", "12".repeat(20));
    repository.app(&["update-index", "--cacheinfo", &entry]);
    repository.app(&["commit", "-q", "-m", "x"]);
    let (_server, folder, mirror) = served(&repository, true);
    let error = check_out(&mirror, &folder.path().join("into")).unwrap_err();
    assert!(
        matches!(&error, GitError::Submodule { cause, .. }
            if matches!(**cause, GitError::UnknownCommit { .. })),
        "{error}"
    );
}

#[test]
fn a_repository_that_is_its_own_submodule_ends() {
    let repository = Repository::new();
    // Each commit names the one before it, nested deeper than any honest repository.
    for _ in 0..10 {
        add_submodule(&repository, "app", "again", "../../app/.git", "app");
    }
    let (_server, folder, mirror) = served(&repository, true);
    let error = check_out(&mirror, &folder.path().join("into")).unwrap_err();
    assert!(error.to_string().contains("too deep"), "{error}");
}

/// The parent's credential is sent to the parent's own host alone.
#[test]
fn a_credential_stays_with_its_host() {
    use super::super::{GitCredential, RepoUrl};
    use super::fixture::policy;
    use crate::secret::Secret;
    let folder = tempfile::tempdir().unwrap();
    let parent = Source {
        credential: GitCredential::Token {
            user: None,
            token: Secret::new("sesame".to_owned()),
        },
        host_key: Some("SHA256:x".to_owned()),
        submodules: true,
        ..source("https://git.example.com/t/app.git")
    };
    let parent = mirror(folder.path(), parent, PATIENCE);
    for (written, kept) in [
        ("../lib.git", true),
        ("https://git.example.com:443/x", true),
        ("https://git.example.com:8443/x", false),
        ("https://other.example.com/x", false),
        ("http://git.example.com/x", false),
        ("git@git.example.com:x", false),
    ] {
        assert!(RepoUrl::parse(written, &policy()).is_ok() || written.starts_with('.'));
        let found = super::super::tree::tests_only::submodule(&parent, written).unwrap();
        let has = !matches!(found.source.credential, GitCredential::None);
        assert_eq!(
            (has, found.source.host_key.is_some()),
            (kept, kept),
            "{written}"
        );
    }
}
