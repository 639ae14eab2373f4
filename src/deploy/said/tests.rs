//! Every text, in both languages.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::*;
use crate::deploy::Step;
use crate::deploy::error::{DeployError, StepError};
use crate::deploy::health::Unhealthy;
use crate::deploy::placement::{Clash, Neighbour, Relation};
use crate::git::{GitError, Limit, UrlError};
use crate::i18n::{self, Language};
use crate::secret::VaultError;
use crate::ssh::{Cause as SshCause, Exit, HostKey, Phase, ProxyFault, SshError};
use crate::store::StoreError;

/// Its number on Linux.
const CONNECTION_REFUSED: i32 = 111;

fn catalogue(language: Language) -> impl Fn(&str, &[(&str, &str)]) -> Option<String> {
    move |key, args| Some(i18n::text(language, key, args)).filter(|text| text != key)
}

fn login_ended(said: &str) -> SshCause {
    SshCause::LoginEnded {
        ended: Exit {
            code: Some(1),
            signal: None,
        },
        said: said.to_owned(),
    }
}

fn login_silent(said: &str) -> SshCause {
    SshCause::LoginSilent {
        after: Duration::from_secs(10),
        said: said.to_owned(),
    }
}

fn system() -> io::Error {
    io::Error::from_raw_os_error(CONNECTION_REFUSED)
}

fn git() -> Vec<GitError> {
    let url = || "ssh://git@git.example/shop.git".to_owned();
    let reason = || "the credential was not accepted".to_owned();
    let revision = || "a\"b".to_owned();
    let urls = [
        UrlError::Empty,
        UrlError::TooLong,
        UrlError::Character,
        UrlError::Scheme,
        UrlError::PlainHttp,
        UrlError::Host,
        UrlError::Port,
        UrlError::User,
        UrlError::PasswordInside,
        UrlError::Path,
        UrlError::Loopback,
        UrlError::LinkLocal,
        UrlError::LocalFolder,
    ];
    let mut errors: Vec<GitError> = urls.into_iter().map(GitError::Url).collect();
    errors.extend([
        GitError::Authentication {
            url: url(),
            reason: reason(),
        },
        GitError::UnfitCredential {
            url: url(),
            reason: "an ssh key cannot be used over https",
        },
        GitError::Unreachable {
            url: url(),
            reason: system().to_string(),
        },
        GitError::TimedOut {
            url: url(),
            after: Duration::from_millis(1500),
        },
        GitError::UnknownHostKey {
            url: url(),
            fingerprint: "SHA256:new".into(),
        },
        GitError::HostKeyChanged {
            url: url(),
            pinned: "SHA256:old".into(),
            offered: "SHA256:new".into(),
        },
        GitError::CertificateNotTrusted {
            url: url(),
            reason: "self-signed certificate".into(),
        },
        GitError::Cancelled,
        GitError::NotARepository {
            url: url(),
            reason: "status code: 404".into(),
        },
        GitError::NotFetched { url: url() },
        GitError::UnknownRevision {
            url: url(),
            revision: revision(),
        },
        GitError::UnknownCommit {
            url: url(),
            commit: "12ab".into(),
        },
        GitError::InvalidRevision {
            revision: revision(),
        },
        GitError::UnsafePath {
            commit: "12ab".into(),
            path: "a/it's\t.git".into(),
            reason: "a name that git keeps for itself",
        },
        GitError::TooLarge {
            what: "12ab".into(),
            limit: Limit::Files,
            count: 6,
            most: 5,
        },
        GitError::TooLarge {
            what: "12ab".into(),
            limit: Limit::Bytes,
            count: 6,
            most: 5,
        },
        GitError::TooLarge {
            what: url(),
            limit: Limit::FetchBytes,
            count: 6,
            most: 5,
        },
        GitError::Submodule {
            path: "lib".into(),
            cause: Box::new(GitError::Url(UrlError::Loopback)),
        },
        GitError::BrokenMirror {
            url: url(),
            reason: "a pack and its index do not fit".into(),
        },
        GitError::Malformed {
            url: url(),
            reason: "failed to parse signature".into(),
        },
        GitError::Disk {
            path: "/var".into(),
            cause: system(),
        },
        GitError::Archive {
            commit: "12ab".into(),
            cause: system(),
        },
        GitError::Git {
            url: url(),
            reason: "odd".into(),
        },
    ]);
    errors
}

fn ssh() -> Vec<SshCause> {
    let reason = || "its end is missing".to_owned();
    let key = || HostKey {
        fingerprint: "SHA256:new".into(),
        kind: "ssh-ed25519".into(),
    };
    let proxy = |fault| SshCause::Proxy {
        proxy: "gate:1080".into(),
        fault,
    };
    let limit = Duration::from_millis(2540);
    let phases = [
        Phase::Lookup,
        Phase::Connect,
        Phase::Handshake,
        Phase::Jump,
        Phase::Proxy,
        Phase::Slot,
        Phase::Authentication,
        Phase::Start,
        Phase::Transfer,
    ];
    let timed_out = |phase| SshCause::TimedOut {
        phase,
        after: Duration::from_secs(10),
    };
    let mut causes: Vec<SshCause> = phases.into_iter().map(timed_out).collect();
    for killed in [true, false] {
        causes.push(SshCause::CommandTimedOut { limit, killed });
        causes.push(SshCause::Cancelled { killed });
    }
    causes.extend([
        SshCause::Unresolved { reason: reason() },
        SshCause::Unreachable { reason: reason() },
        SshCause::Handshake { reason: reason() },
        SshCause::TurnedAway,
        SshCause::NoWayOn {
            to: "web-2:22".into(),
            reason: reason(),
        },
        proxy(ProxyFault::Unresolved { reason: reason() }),
        proxy(ProxyFault::Unreachable { reason: reason() }),
        proxy(ProxyFault::HungUp),
        proxy(ProxyFault::Garbage),
        proxy(ProxyFault::LoginNeeded),
        proxy(ProxyFault::LoginRefused),
        proxy(ProxyFault::Refused { reason: reason() }),
        proxy(ProxyFault::Start { reason: reason() }),
        proxy(ProxyFault::Ended {
            ended: Exit {
                code: Some(1),
                signal: None,
            },
            said: "no route".into(),
        }),
        SshCause::KeyFolder {
            path: "/key".into(),
        },
        SshCause::AgentOff,
        SshCause::no_agent(),
        SshCause::UnknownHostKey { offered: key() },
        SshCause::HostKeyChanged {
            pinned: "ssh-ed25519 SHA256:old".into(),
            offered: key(),
        },
        SshCause::AuthenticationFailed {
            user: "demo".into(),
            tried: "password",
            accepted: "publickey".into(),
        },
        SshCause::MoreProof {
            user: "demo".into(),
            taken: "key",
            missing: "a password",
            wanted: "password".into(),
        },
        SshCause::NextProofRefused {
            user: "demo".into(),
            taken: "key",
            refused: "password",
        },
        SshCause::PasswordExpired {
            user: "demo".into(),
        },
        SshCause::PassphraseMissing,
        SshCause::PassphraseWrong,
        SshCause::KeyNotUnderstood { reason: reason() },
        SshCause::KeyUnreadable {
            path: "/key".into(),
            cause: system(),
        },
        SshCause::Refused {
            what: "a command",
            reason: reason(),
        },
        SshCause::NoShell,
        login_ended(""),
        login_ended("no login here"),
        login_silent(""),
        login_silent("Your name?"),
        SshCause::Input { cause: system() },
        SshCause::Input {
            cause: io::Error::other(StepError::StepTimedOut(limit)),
        },
        SshCause::Output { cause: system() },
        SshCause::RemoteFile {
            path: "/srv".into(),
            reason: reason(),
        },
        SshCause::LocalFile {
            path: "/var".into(),
            cause: system(),
        },
        SshCause::DiskFull {
            path: "/srv".into(),
        },
        SshCause::ConnectionLost { reason: reason() },
    ]);
    causes
}

fn exits() -> Vec<Exit> {
    let exit = |code, signal: Option<&str>| Exit {
        code,
        signal: signal.map(str::to_owned),
    };
    vec![
        exit(Some(7), None),
        exit(Some(137), Some("KILL")),
        exit(None, Some("KILL")),
        exit(None, None),
    ]
}

fn steps() -> Vec<StepError> {
    let limit = Duration::from_secs(600);
    let mut errors: Vec<StepError> = git().into_iter().map(StepError::Git).collect();
    errors.extend(ssh().into_iter().map(|cause| {
        StepError::Ssh(SshError {
            address: "web-1:22".into(),
            cause,
        })
    }));
    errors.extend(exits().into_iter().map(StepError::Command));
    errors.extend(Unhealthy::samples());
    let refusals = refusal::Refusal::samples();
    errors.extend(refusals.into_iter().map(StepError::Refused));
    let gone = || StoreError::NotFound {
        what: "credential",
        id: "7".into(),
    };
    errors.extend([
        StepError::Stopped,
        StepError::Store(gone()),
        StepError::Store(StoreError::Database(diesel::result::Error::NotFound)),
        StepError::Store(StoreError::Corrupt {
            what: "the plan".into(),
            cause: "odd".into(),
        }),
        StepError::Vault(VaultError::Unreadable),
        StepError::Vault(VaultError::KeyLength {
            path: "/key".into(),
            length: 3,
        }),
        StepError::Deploy(gone().into()),
        StepError::Deploy(GitError::Cancelled.into()),
        StepError::Deploy(VaultError::Unreadable.into()),
        StepError::Deploy(DeployError::NoServers),
        StepError::Deploy(DeployError::File {
            path: "/var".into(),
            cause: system(),
        }),
        StepError::CommandTimedOut(limit),
        StepError::StepTimedOut(limit),
        StepError::File {
            path: "/var".into(),
            cause: system(),
        },
        StepError::LinkOutside {
            path: "web/passwd".into(),
            target: "/etc/passwd".into(),
        },
        StepError::Start(system()),
        clash(Neighbour::Project("shop".into())),
        clash(Neighbour::Server),
        clash(Neighbour::Platform),
        StepError::Account("builder".into()),
    ]);
    errors
}

fn clash(neighbour: Neighbour) -> StepError {
    let clash = Clash {
        neighbour,
        relation: Relation::Overlapping,
        server: "web-1".into(),
        folder: "/srv/shop".into(),
    };
    StepError::Deploy(DeployError::Shared(clash))
}

/// The keys of `said` and of the texts in its arguments.
fn keys(said: &Said, found: &mut BTreeSet<String>) {
    found.insert(said.key.clone());
    for value in said.args.values() {
        if let Arg::Said(said) = value {
            keys(said, found);
        }
    }
}

#[test]
fn the_english_catalogue_says_what_the_errors_say() {
    let english = catalogue(Language::English);
    let chinese = catalogue(Language::Chinese);
    for error in steps() {
        let said = Said::from(&error);
        assert_eq!(said.english(), error.to_string());
        assert_eq!(said.told(&english), error.to_string(), "{said:?}");
        let told = said.told(&chinese);
        assert!(!told.contains('{'), "{told}");
        let stored = Message::from(&error).stored();
        assert_eq!(Message::read(&stored), Message::Said(said), "{stored}");
    }
    for cause in ssh() {
        assert_eq!(Said::from(&cause).told(&english), cause.to_string());
    }
}

/// Collects the keys in the sources, so that a new variant needs a sample above.
#[test]
fn every_key_is_in_a_sample_and_in_both_catalogues() {
    let mut sampled = BTreeSet::new();
    for error in steps() {
        keys(&Said::from(&error), &mut sampled);
    }
    let sources = [
        include_str!("failure.rs"),
        include_str!("git.rs"),
        include_str!("ssh.rs"),
    ];
    for source in sources {
        for (at, _) in source.match_indices("\"failure.") {
            let key = source[at + 1..].split('"').next().unwrap();
            if !key.contains('{') {
                assert!(sampled.contains(key), "{key}");
            }
        }
    }
    for key in &sampled {
        for language in Language::ALL {
            assert_ne!(&i18n::text(language, key, &[]), key, "{language:?}");
        }
    }
}

#[test]
fn every_reason_reads_the_same_in_the_english_catalogue() {
    for text in reason::texts() {
        let said = match reason::reason(&text.replace("{detail}", "odd")) {
            Arg::Said(said) => said,
            Arg::Text(text) => panic!("{text}"),
        };
        assert_eq!(said.told(&catalogue(Language::English)), said.english());
        let chinese = catalogue(Language::Chinese)(&said.key, &[]);
        assert!(chinese.is_some_and(|told| told != said.text), "{text}");
    }
}

#[test]
fn causes_name_server_and_step_in_either_language() {
    let mut causes = Causes::default();
    let failed = StepError::Command(exits().remove(0));
    let refused = StepError::Refused(refusal::Refusal::samples().remove(0));
    let mut add = |server, step, message| causes.add(server, step, message, 3);
    add(Some("web-2"), "restart", Message::from(&failed));
    add(None, "download", Message::Plain("odd".into()));
    add(Some("web-3"), "switch", Message::from(&refused));
    for server in ["web-4", "web-5", "web-6", "web-7"] {
        add(Some(server), "restart", Message::from(&failed));
    }
    add(Some("web-8"), "upload", Message::from(&refused));
    add(Some("web-9"), "upload", Message::from(&failed));
    let message = Message::read(&Message::Causes(causes).stored());
    let english = "web-2, web-4, web-5 (+2): restart: the command ended with exit code 7; download: odd; \
                   web-3: switch: the path is there and is not a link; move it away first; \
                   and 2 more";
    assert_eq!(message.english(), english);
    assert_eq!(message.told(&catalogue(Language::English)), english);
    assert_eq!(
        message.told(&catalogue(Language::Chinese)),
        "web-2, web-4, web-5 (+2) 的「服务重启」：命令以退出码 7 结束；「下载代码」：odd；\
         web-3 的「切换版本」：the path 已存在且不是软链接，请先移走；另有 2 处"
    );
    for step in Step::ALL {
        let key = format!("failure.step.{}", step.as_str());
        let text = i18n::text(Language::English, &key, &[]);
        assert_eq!(text, step.as_str());
    }
}

#[test]
fn what_is_no_such_json_is_shown_as_it_is() {
    for text in ["", "web-1: upload: odd", "{", "{\"key\":\"x\"}", "{}", "[]"] {
        let message = Message::read(text);
        assert_eq!(message, Message::Plain(text.to_owned()));
        assert_eq!(message.stored(), text);
        assert_eq!(message.told(&catalogue(Language::Chinese)), text);
    }
    let later = r#"{"key":"failure.of_a_later_version","text":"odd"}"#;
    assert_eq!(
        Message::read(later).told(&catalogue(Language::Chinese)),
        "odd"
    );
}
