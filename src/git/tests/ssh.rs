//! git over ssh: pinned, unknown and changed host keys; right and wrong keys.

use std::fs;

use super::super::{GitCredential, GitError, RepoUrl, Source, host_key};
use super::fixture::{PATIENCE, Repository, fetch, mirror, policy};
use super::sshd::Sshd;
use crate::secret::Secret;

fn key(sshd: &Sshd, name: &str, passphrase: Option<&str>) -> GitCredential {
    GitCredential::SshKey {
        user: None,
        key: Secret::new(fs::read_to_string(sshd.path(name)).unwrap()),
        passphrase: passphrase.map(|text| Secret::new(text.to_owned())),
    }
}

#[test]
fn a_repository_is_fetched_over_ssh_with_a_pinned_key_only() {
    let Some(sshd) = Sshd::start() else {
        eprintln!("no sshd on this machine: not tested");
        return;
    };
    let repository = Repository::new();
    let text = format!(
        "ssh://{}@127.0.0.1:{}{}",
        sshd.user,
        sshd.server.port,
        repository.work().join(".git").display()
    );
    let url = RepoUrl::parse(&text, &policy()).unwrap();
    let offered = host_key(&url, &policy(), PATIENCE).unwrap();
    assert_eq!(offered.fingerprint, sshd.fingerprint("host.pub"));
    assert_eq!(offered.kind, "ssh-ed25519");

    let folder = tempfile::tempdir().unwrap();
    let attempt = |credential: GitCredential, pinned: Option<String>| {
        let source = Source {
            credential,
            host_key: pinned,
            ..Source::new(url.clone())
        };
        let mirror = mirror(folder.path(), source, PATIENCE);
        fetch(&mirror).map(|()| mirror.resolve("main").unwrap().id.to_string())
    };
    let pinned = || Some(offered.fingerprint.clone());
    let head = repository.id("main");
    assert_eq!(attempt(key(&sshd, "user", None), pinned()).unwrap(), head);
    assert_eq!(
        attempt(key(&sshd, "locked", Some("open sesame")), pinned()).unwrap(),
        head
    );

    match attempt(key(&sshd, "user", None), None) {
        Err(GitError::UnknownHostKey { fingerprint, .. }) => {
            assert_eq!(fingerprint, offered.fingerprint)
        }
        other => panic!("{other:?}"),
    }
    let other = sshd.fingerprint("other.pub");
    match attempt(key(&sshd, "user", None), Some(other.clone())) {
        Err(GitError::HostKeyChanged {
            pinned,
            offered: now,
            ..
        }) => {
            assert_eq!((pinned, now), (other, offered.fingerprint.clone()));
        }
        other => panic!("{other:?}"),
    }
    for refused in [
        key(&sshd, "other", None),
        key(&sshd, "locked", Some("wrong")),
        key(&sshd, "locked", None),
        GitCredential::None,
        GitCredential::SshKey {
            user: None,
            key: Secret::new("no key".to_owned()),
            passphrase: None,
        },
    ] {
        let ended = attempt(refused.clone(), pinned());
        assert!(
            matches!(ended, Err(GitError::Authentication { .. })),
            "{refused:?}: {ended:?}"
        );
    }
}
