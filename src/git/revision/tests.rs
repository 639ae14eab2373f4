use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// True if git itself accepts `arguments` as a ref's name.
fn git_allows(arguments: &[&str]) -> bool {
    let status = Command::new("git")
        .arg("check-ref-format")
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), None);
    status.success()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_name_that_git_allows_is_one_and_no_other(
        name in "([a-z@{}/.\\-]|\\.lock|@\\{|[ -~]|\\PC|[\u{0}-\u{1f}\u{7f}-\u{a0}]){1,12}"
    ) {
        prop_assume!(!name.contains('\0'));
        let full = format!("refs/tags/{name}");
        let accepted = check(&full).is_ok();
        prop_assert_eq!(accepted, git_allows(&[&full]), "{:?}", full);
        prop_assert!(!accepted || git2::Reference::is_valid_name(&full), "libgit2: {:?}", full);
        let short = !name.starts_with('-') && git_allows(&["--allow-onelevel", &name]);
        prop_assert_eq!(check(&name).is_ok(), short, "{:?}", name);
    }
}

#[test]
fn names_are_told_from_what_is_none() {
    for sound in [
        "main",
        "release/1.0",
        "v1.0-rc.1",
        "0a1b2c3",
        "项目/分支",
        "a@b",
        "refs/tags/v1",
        "refs/heads/-x",
        "a-b_c+d#1",
        "it's",
        "f(x)",
        "R&D",
        "a;b",
        "x$y",
        "{id}",
        "a\"b",
        "wow!",
        "a|b",
        "a<b>",
        "$(id)",
        "`id`",
        "a\u{3000}b",
    ] {
        check(sound).unwrap_or_else(|error| panic!("{sound}: {error}"));
    }
    let (long, longer) = ("a".repeat(256), "a/".repeat(600) + "a");
    for refused in [
        "",
        "--help",
        "-b",
        "-",
        "a..b",
        "@{-1}",
        "@",
        "HEAD:x",
        "HEAD^",
        "HEAD~1",
        "a b",
        "a\nb",
        "a\0b",
        "a\tb",
        "a\rb",
        "a//b",
        "/a",
        "a/",
        "a.lock",
        ".a",
        "a/.b",
        "a.",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a^{commit}",
        ":/fix",
        "--config=alias.x=!id",
        "\u{7f}",
        &long,
        &longer,
    ] {
        assert!(
            matches!(check(refused), Err(GitError::InvalidRevision { .. })),
            "{refused:?} was accepted"
        );
    }
}
