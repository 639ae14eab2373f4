//! Parsing of `Cookie` headers, which contain cookies of every program on this host, since ports
//! share them.

use std::borrow::Cow;

use super::decode::component;

/// The value of the cookie `name`: the first that is valid UTF-8 after percent-decoding. `headers`
/// are the lines of `Cookie`. A foreign or malformed pair hides no other, whatever its bytes.
pub fn cookie<'a>(headers: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Option<Cow<'a, str>> {
    headers
        .into_iter()
        .flat_map(|header| header.split(|byte| *byte == b';'))
        .filter_map(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=')?;
            let (own, value) = (pair[..end].trim_ascii(), pair[end + 1..].trim_ascii());
            (own == name.as_bytes()).then_some(unquoted(value))
        })
        .find_map(|value| component(value).ok())
}

/// Strips the quotes that RFC 6265 §4.1.1 allows around a value.
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    let inner = inner.and_then(|inner| inner.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_cookie_is_found_among_all_others() {
        for (headers, value) in [
            (&[&b"s=tok"[..]][..], Some("tok")),
            (&[b"a=b; s=tok; c=d"], Some("tok")),
            (&[b"a=b;s=tok"], Some("tok")),
            (&[b" s = tok ;x"], Some("tok")),
            (&["nick=杰森; s=tok".as_bytes()], Some("tok")),
            (&[b"nick=\xbd\xdc\xc9\xad; s=tok"], Some("tok")),
            (&[b"\xff\xfe", b"s=tok"], Some("tok")),
            (&[b"junk; =; ==; ;;; s=tok"], Some("tok")),
            (&[b"s=\xff; s=tok"], Some("tok")),
            (&[b"s=%FF; s=tok"], Some("tok")),
            (&[b"s=first; s=second"], Some("first")),
            (&[b"s=\"tok\""], Some("tok")),
            (&[b"s=%E6%9D%B0"], Some("杰")),
            (&["s=杰".as_bytes()], Some("杰")),
            (&[b"s="], Some("")),
            (&[b"s=a=b"], Some("a=b")),
            (&[b"S=tok; ss=tok; s"], None),
            (&[b"x=\"; s=tok; y=\""], Some("tok")),
            (&[b""], None),
            (&[], None),
        ] {
            let found = cookie(headers.iter().copied(), "s");
            assert_eq!(found.as_deref(), value, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_before_or_behind_hides_it(
            before in proptest::collection::vec(any::<u8>(), 0..40),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let names_it = |bytes: &[u8]| bytes.contains(&b's');
            prop_assume!(!names_it(&before) && !names_it(&behind));
            let header = [&before[..], b"; s=tok; ", &behind].concat();
            let found = cookie([&header[..]], "s");
            prop_assert_eq!(found.as_deref(), Some("tok"));
        }
    }
}
