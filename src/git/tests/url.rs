//! Tables of addresses.

use std::path::PathBuf;

use super::super::url::*;

fn strict() -> UrlPolicy {
    UrlPolicy::default()
}

#[test]
fn sound_addresses_are_read() {
    for (text, host, port, ssh) in [
        (
            "https://git.example.com/team/app.git",
            "git.example.com",
            443,
            false,
        ),
        (
            "https://alice@git.example.com:8443/a",
            "git.example.com",
            8443,
            false,
        ),
        ("HTTPS://Git.Example.com/a", "git.example.com", 443, false),
        ("https://[2001:db8::1]:8443/a", "2001:db8::1", 8443, false),
        ("ssh://git@10.0.0.5:2222/srv/a.git", "10.0.0.5", 2222, true),
        (
            "ssh://git.example.com/~alice/a.git",
            "git.example.com",
            22,
            true,
        ),
        (
            "git@git.example.com:team/app.git",
            "git.example.com",
            22,
            true,
        ),
        ("git@[2001:db8::1]:team/app.git", "2001:db8::1", 22, true),
        (
            "git://git.example.com/项目/a.git",
            "git.example.com",
            9418,
            false,
        ),
    ] {
        let url = RepoUrl::parse(text, &strict()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.host(), Some(host), "{text}");
        assert_eq!(url.port(), port, "{text}");
        assert_eq!(url.is_ssh(), ssh, "{text}");
        assert_eq!(url.as_str(), text);
    }
}

#[test]
fn hostile_addresses_are_refused() {
    let long = format!("https://h.example/{}", "a".repeat(10_000));
    for text in [
        "",
        " ",
        "ext::sh -c id",
        "ext::id",
        "fd::17",
        "--upload-pack=id",
        "-oProxyCommand=id",
        "ssh://-oProxyCommand=id/x",
        "ssh://-oProxyCommand=id@h/x",
        "ssh://h/-x",
        "-u@h:x",
        "git@-oProxyCommand=id:x",
        "git@h:-x",
        "git@h::x",
        "file:///etc",
        "file://h/etc",
        "/etc",
        "/",
        "../x",
        "./x",
        "x",
        "javascript:1",
        "data:,x",
        "mailto:a@b:c",
        "a:b@h:c",
        "http://git.example.com/x",
        "http://169.254.169.254/",
        "https://169.254.169.254/x",
        "https://[fe80::1]/x",
        "https://[::ffff:169.254.169.254]/x",
        "https://[fd00:ec2::254]/x",
        "https://[::]/x",
        "https://0.0.0.0/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://localhost/x",
        "https://LOCALHOST./x",
        "https://a.localhost/x",
        "http://[::1]/",
        "http://0x7f.1/",
        "https://0x7f.1/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://2130706433/x",
        "https://127.1/x",
        "git@0x7f.1:x",
        "git@localhost:x",
        "git://127.0.0.1/x",
        "http://h/%0d%0aX",
        "https://h.example/%0d%0aX",
        "https://h.example/a\r\nX",
        "https://h.example/a\nb",
        "https://h.example/a\0b",
        "https://h.example/a b",
        "https://h.example/%2e%2e/x",
        "https://h.example/a%",
        "https://h.example/a%zz",
        "https://u:p@h.example/x",
        "https://ghp_abcdef@h.example/x",
        "ssh://u:p@h.example/x",
        "https://@h.example/x",
        "https://h.example",
        "https://h.example/",
        "https:///x",
        "https://h.example:0/x",
        "https://h.example:65536/x",
        "https://h.example:22;id/x",
        "https://h.example:+22/x",
        "https://h.example:/x",
        "https://h..example/x",
        "https://h_.-x/x",
        "https://[::1/x",
        "https://[1.2.3.4]/x",
        "https://h.example/a/../b",
        "https://h.example/$(id)/`id`",
        "https://h.example/a?b",
        "https://h.example/a#b",
        "https://h.example\\@evil/x",
        "ssh+git://h/x",
        "https://h.example/\u{202e}x",
        &long,
    ] {
        assert!(
            RepoUrl::parse(text, &strict()).is_err(),
            "{text} was accepted"
        );
    }
}

#[test]
fn the_policy_opens_what_it_names_and_no_more() {
    let policy = UrlPolicy {
        allow_http: true,
        allow_loopback: true,
        local_folders: vec![PathBuf::from("/srv/git")],
    };
    for text in [
        "http://127.0.0.1:80/x",
        "git://localhost/x",
        "https://[::1]/x",
        "/srv/git/a.git",
    ] {
        RepoUrl::parse(text, &policy).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for text in [
        "/srv/git",
        "/srv/git/../x",
        "/srv/gitx/a",
        "/srv/git/./..",
        "/etc",
        "http://169.254.169.254/x",
        "file:///srv/git/a",
    ] {
        assert!(
            RepoUrl::parse(text, &policy).is_err(),
            "{text} was accepted"
        );
    }
    let url = RepoUrl::parse("https://127.0.0.1/x", &policy).unwrap();
    assert_eq!(url.check(&strict()), Err(UrlError::Loopback));
}

#[test]
fn no_text_panics() {
    use proptest::prelude::*;
    proptest!(|(text in "(https|ssh|git)?(://)?[-@:%/a-z0-9.\\[\\]项]{0,40}")| {
        let _ = RepoUrl::parse(&text, &strict());
    });
}
