//! Canonical request targets, so that every check by path decides the same.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::decode::{NotUtf8, component};

/// All characters except those that RFC 3986 §2.3 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The canonical form of a path (RFC 3986 §6.2.2): unreserved characters are unescaped, all other
/// escapes have upper-case digits. `%2F` is kept, since a segment may contain a slash.
///
/// # Errors
/// [`NotUtf8`] if the path does not decode to UTF-8.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, NotUtf8> {
    component(path.as_bytes())?;
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut canonical = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        canonical.push_str(&rest[..at]);
        rest = &rest[at..];
        let (taken, byte) = match escape(rest) {
            Some(byte) => (3, byte),
            // A `%` without two hex digits is data, and is escaped itself.
            None => (1, b'%'),
        };
        percent_encode(&[byte], RESERVED).for_each(|piece| canonical.push_str(piece));
        rest = &rest[taken..];
    }
    canonical.push_str(rest);
    Ok(Cow::Owned(canonical))
}

/// The byte of the escape at the beginning of `text`.
fn escape(text: &str) -> Option<u8> {
    let digits = text.as_bytes().get(1..3)?;
    let digit = |at: usize| char::from(digits[at]).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_path_is_one() {
        for (path, canonical) in [
            ("/", "/"),
            ("/api/v1/servers/1/file", "/api/v1/servers/1/file"),
            ("/api/v1/servers/1/fil%65", "/api/v1/servers/1/file"),
            ("/%61%70%69/v1", "/api/v1"),
            ("/ap%69/%76%31/servers%2f1", "/api/v1/servers%2F1"),
            ("/vote/%e6%9d%b0", "/vote/%E6%9D%B0"),
            ("/a%20b+c", "/a%20b+c"),
            ("/100%", "/100%25"),
            ("/%zz%2", "/%25zz%252"),
            ("/%2565", "/%2565"),
            ("/%7euser/%2e%2e/x", "/~user/../x"),
        ] {
            assert_eq!(canonical_path(path).unwrap(), canonical, "{path}");
        }
        for bad in ["/%FF", "/a/%C4%E3", "/%E4%BD"] {
            assert_eq!(canonical_path(bad), Err(NotUtf8), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_canonical_path_stays_as_it_is_and_means_the_same(path in "(/|%[0-9a-fA-F]{2}|[a-z%+~]){0,20}") {
            if let Ok(once) = canonical_path(&path) {
                let twice = canonical_path(&once).unwrap();
                prop_assert_eq!(&twice, &once);
                prop_assert_eq!(component(once.as_bytes()), component(path.as_bytes()));
            }
        }
    }
}
