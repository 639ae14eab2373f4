//! Decoding of percent-encoded text in paths, queries, forms and cookies.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8")]
pub struct NotUtf8;

/// Decodes one segment of a path or the value of a cookie: percent-encoded, or plain UTF-8.
///
/// # Errors
/// [`NotUtf8`] if the result is not UTF-8, or ends in the middle of a character.
pub fn component(raw: &[u8]) -> Result<Cow<'_, str>, NotUtf8> {
    if !raw.contains(&b'%') {
        return std::str::from_utf8(raw).map(Cow::Borrowed).or(Err(NotUtf8));
    }
    let decoded = percent_decode(raw).decode_utf8();
    decoded.or(Err(NotUtf8))
}

/// Decodes one name or value of a query or form, in which `+` is a space.
///
/// # Errors
/// [`NotUtf8`] if the result is not UTF-8.
pub fn form_component(raw: &[u8]) -> Result<Cow<'_, str>, NotUtf8> {
    if !raw.contains(&b'+') {
        return component(raw);
    }
    let spaced: Vec<u8> = raw
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    component(&spaced).map(|text| Cow::Owned(text.into_owned()))
}

/// One pair of a query or form; each half is decoded on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The name.
    pub name: Result<Cow<'a, str>, NotUtf8>,
    /// The value; empty if there is no `=`.
    pub value: Result<Cow<'a, str>, NotUtf8>,
}

/// The pairs of a query or form (`application/x-www-form-urlencoded`), in order. Empty ones are
/// skipped.
pub fn pairs(raw: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    raw.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = match end {
                Some(end) => (&pair[..end], &pair[end + 1..]),
                None => (pair, &b""[..]),
            };
            Pair {
                name: form_component(name),
                value: form_component(value),
            }
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::*;

    #[test]
    fn what_is_not_utf8_is_no_text() {
        for (raw, text) in [
            (&b"%E6%9D%B0%e6%a3%ae"[..], Ok("杰森")),
            ("杰森".as_bytes(), Ok("杰森")),
            ("杰%E6%A3%AE".as_bytes(), Ok("杰森")),
            (b"a+b", Ok("a+b")),
            (b"100%", Ok("100%")),
            (b"%zz%4", Ok("%zz%4")),
            (b"%2B%25", Ok("+%")),
            (b"%ef%bf%bd", Ok("\u{fffd}")),
            (b"%C4%E3%BA%C3", Err(NotUtf8)),
            (b"\xc4\xe3\xba\xc3", Err(NotUtf8)),
            (b"%E4%BD", Err(NotUtf8)),
            (b"%E4%BDx", Err(NotUtf8)),
            (b"\xe4%BD", Err(NotUtf8)),
            (b"%C0%80", Err(NotUtf8)),
            (b"%ED%A0%80", Err(NotUtf8)),
        ] {
            assert_eq!(component(raw).as_deref(), text.as_deref(), "{raw:?}");
        }
        assert_eq!(form_component(b"a+b%2Bc+%E5%A5%BD").unwrap(), "a b+c 好");
        assert_eq!(form_component(b"+%FF"), Err(NotUtf8));
    }

    #[test]
    fn a_bad_half_leaves_the_other() {
        let found: Vec<_> = pairs(b"&a=1&b&=x&c=%FF&%FF=d&e=f=g&").collect();
        let text = |text: &'static str| Ok(Cow::Borrowed(text));
        let sought = [
            (text("a"), text("1")),
            (text("b"), text("")),
            (text(""), text("x")),
            (text("c"), Err(NotUtf8)),
            (Err(NotUtf8), text("d")),
            (text("e"), text("f=g")),
        ];
        let sought = sought.map(|(name, value)| Pair { name, value });
        assert_eq!(found, sought);
    }

    proptest! {
        #[test]
        fn what_browsers_encode_comes_back(sent: Vec<(String, String)>) {
            let body = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(&sent)
                .finish();
            let read: Vec<(String, String)> = pairs(body.as_bytes())
                .map(|pair| (pair.name.unwrap().into_owned(), pair.value.unwrap().into_owned()))
                .collect();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn sound_text_is_read_as_the_standard_reads_it(raw: Vec<u8>) {
            let standard: Vec<(String, String)> = form_urlencoded::parse(&raw)
                .into_owned()
                .collect();
            let ours: Vec<Pair<'_>> = pairs(&raw).collect();
            prop_assert_eq!(ours.len(), standard.len());
            for (pair, (name, value)) in ours.into_iter().zip(standard) {
                for (ours, standard) in [(pair.name, name), (pair.value, value)] {
                    match ours {
                        Ok(text) => prop_assert_eq!(text, standard),
                        Err(NotUtf8) => prop_assert!(standard.contains(char::REPLACEMENT_CHARACTER)),
                    }
                }
            }
        }
    }
}
