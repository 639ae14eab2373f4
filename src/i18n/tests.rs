//! Compares the two catalogues with each other and with the templates and scripts that use them.

use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_cookie_wins_then_the_heaviest_range_then_english() {
    use Language::{Chinese, English};
    let cases = [
        (Some("zh-CN"), Some("en"), Chinese),
        (Some("en"), Some("zh"), English),
        (Some("klingon"), Some("zh-Hans-CN"), Chinese),
        (None, Some("en;q=0.5, zh-CN;q=0.9"), Chinese),
        (None, Some("de, en;q=0.7, zh;q=0.3"), English),
        (None, Some("zh;q=0, en;q=0.1"), English),
        (None, Some("zh, en"), Chinese),
        (None, Some("ja"), English),
        (None, Some(";;q=,"), English),
        (None, None, English),
    ];
    for (cookie, header, expected) in cases {
        assert_eq!(
            Language::negotiate(cookie, header),
            expected,
            "{cookie:?} {header:?}"
        );
    }
}

#[test]
fn placeholders_are_filled_once() {
    let filled = text(Language::English, "error.too_long", &[("max", "32")]);
    assert_eq!(filled, "At most 32 characters.");
    assert_eq!(fill("{a} {b}", &[("a", "{b}"), ("b", "x")]), "{b} x");
    assert_eq!(fill("{a} and {", &[]), "{a} and {");
    assert_eq!(text(Language::Chinese, "no.such.key", &[]), "no.such.key");
}

#[test]
fn both_catalogues_have_the_same_keys_and_placeholders() {
    assert!(ENGLISH.len() > 100);
    assert!(ENGLISH.keys().eq(CHINESE.keys()));
    for (key, english) in ENGLISH.iter() {
        assert_eq!(placeholders(english), placeholders(&CHINESE[key]), "{key}");
        assert!(!english.is_empty() && !CHINESE[key].is_empty(), "{key}");
    }
}

#[test]
fn every_key_in_templates_exists_with_its_arguments() {
    for path in files("templates", "html") {
        let source = fs::read_to_string(&path).unwrap();
        let keys = literals_after(&source, "t(");
        assert!(!keys.is_empty() || !source.contains(" t("), "{path:?}");
        for (key, rest) in keys {
            assert_known(&key, &rest, &path);
        }
    }
}

#[test]
fn every_key_in_scripts_exists_and_is_sent_to_them() {
    let sent = script_catalogue(Language::English);
    for path in files("assets", "js") {
        let source = fs::read_to_string(&path).unwrap();
        for (key, rest) in literals_after(&source, "text(") {
            assert_known(&key, &rest, &path);
            assert!(
                sent.keys().any(|known| known.starts_with(&key)),
                "{key} in {path:?}"
            );
        }
    }
}

#[test]
fn every_key_that_only_scripts_may_use_is_used() {
    let scripts: String = files("assets", "js")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for key in ENGLISH.keys().filter(|key| key.starts_with("js.")) {
        let stem = key.rsplit_once('.').unwrap().0;
        let built = format!("'{stem}.' +");
        assert!(
            scripts.contains(&format!("'{key}'")) || scripts.contains(&built),
            "{key}"
        );
    }
}

/// A key that is built (`'state.' ~ state`) must be the prefix of some key; any other must exist.
fn assert_known(key: &str, rest: &str, path: &Path) {
    if rest.starts_with(['~', '+']) {
        assert!(
            ENGLISH.keys().any(|known| known.starts_with(key)),
            "{key}… in {path:?}"
        );
        return;
    }
    let text = ENGLISH
        .get(key)
        .unwrap_or_else(|| panic!("{key} in {path:?}"));
    for name in placeholders(text) {
        let call = rest.split(['\n', '%']).next().unwrap_or_default();
        let given = call.contains(&format!("{name}=")) || call.contains(&format!("{name}:"));
        assert!(given, "{key} in {path:?} lacks {name}");
    }
}

/// The single-quoted literals that follow `opening` at the start of a call, with the rest of the source
/// after each.
fn literals_after(source: &str, opening: &str) -> Vec<(String, String)> {
    let marker = format!("{opening}'");
    let starts_word = |at: usize| {
        !source[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    };
    source
        .match_indices(&marker)
        .filter(|(at, _)| starts_word(*at))
        .filter_map(|(at, _)| source[at + marker.len()..].split_once('\''))
        .map(|(key, rest)| {
            (
                key.to_owned(),
                rest.trim_start().chars().take(200).collect(),
            )
        })
        .collect()
}

fn placeholders(text: &str) -> BTreeSet<String> {
    text.split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Our own files below `folder` with that extension; vendored ones contain no keys of ours.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("vendor") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {extension} in {folder}");
    found
}
