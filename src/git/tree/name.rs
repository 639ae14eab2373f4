//! The file names that a release may have. Pure.
//!
//! Names are kept byte for byte, even with line ends, backslashes or a leading dash. Refused are
//! strings that cannot name a file, and every spelling that some file system takes for `.git`: a
//! tool on the way would take it for a repository's own.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// The longest name that file systems accept, in bytes.
const MAX_NAME: usize = 255;

/// The reason `name` is refused, if it is.
pub(super) fn check(name: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || name == b"." || name == b".." {
        Err("not the name of a file")
    } else if name.contains(&b'/') || name.contains(&0) {
        Err("a name with a slash or a zero byte in it")
    } else if name.len() > MAX_NAME {
        Err("a name longer than 255 bytes")
    } else if is_dot_git(name) {
        Err("a name that git keeps for itself")
    } else {
        Ok(())
    }
}

/// True for `.git` as macOS and Windows read it too: in any case, with characters that HFS+
/// ignores, with the suffixes that NTFS drops, and by its short name.
fn is_dot_git(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let seen: String = text
        .chars()
        .filter(|letter| !is_unseen(*letter))
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    if seen == ".git" {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    [".git", "git~1"].iter().any(|begin| {
        lower.strip_prefix(begin).is_some_and(|rest| {
            let rest = rest.trim_start_matches([' ', '.']);
            rest.is_empty() || rest.starts_with([':', '\\'])
        })
    })
}

/// True for code points that HFS+ ignores when it compares names.
fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
    )
}

/// The form in which a file system that folds cases and composes accents compares names.
pub(super) fn folded(name: &[u8]) -> Cow<'_, [u8]> {
    let folds = |byte: &u8| byte.is_ascii_uppercase() || !byte.is_ascii();
    if !name.iter().any(folds) {
        return Cow::Borrowed(name);
    }
    match std::str::from_utf8(name) {
        Ok(text) => {
            let lower = text.to_lowercase();
            let composed = ComposingNormalizerBorrowed::new_nfc().normalize(&lower);
            Cow::Owned(composed.into_owned().into_bytes())
        }
        Err(_) => Cow::Owned(name.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_or_refused() {
        for name in [
            "a",
            "-rf",
            "--help",
            "a\nb",
            "a\r",
            "a\\b",
            "é",
            "e\u{301}",
            "...",
            ".gitignore",
            ".gitattributes",
            ".github",
            "git",
            "git~2",
            "a.git",
            "a b",
            "con",
            " ",
            "\u{1b}[2J",
        ] {
            assert_eq!(check(name.as_bytes()), Ok(()), "{name:?}");
        }
        assert_eq!(check(b"\xff\xfe"), Ok(()));
        let long = "a".repeat(256);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "/etc",
            "a\0b",
            ".git",
            ".GIT",
            ".Git",
            ".g\u{200c}it",
            "\u{feff}.GiT",
            ".git\u{200f}",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git . .",
            ".git::$INDEX_ALLOCATION",
            ".git\\hooks\\post-checkout",
            "GIT~1.",
            &long,
        ] {
            assert!(check(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn other_spellings_fold_together() {
        for (a, b) in [
            ("A", "a"),
            ("É", "e\u{301}"),
            ("ÄB", "äb"),
            ("README.md", "readme.MD"),
        ] {
            assert_eq!(folded(a.as_bytes()), folded(b.as_bytes()), "{a} {b}");
        }
        for (a, b) in [("a", "b"), ("e", "é"), ("a.b", "a_b")] {
            assert_ne!(folded(a.as_bytes()), folded(b.as_bytes()), "{a} {b}");
        }
    }
}
