//! What the headers of a request show of its sender.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::cookies::cookie;

/// The header in which each proxy writes down whom it speaks for.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The header in which proxies write down by which scheme they were asked.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Headers that proxies write into a request, by their whole names.
const BY_PROXIES: [&str; 16] = [
    "forwarded",
    "forwarded-for",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-proxyuser-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-ray",
    "cdn-loop",
    "fastly-client-ip",
    "fly-client-ip",
];
/// And by how their names begin.
const BY_PROXIES_PREFIX: [&str; 5] = [
    "x-forwarded",
    "x-envoy-",
    "x-azure-",
    "x-appengine-",
    "x-arr-",
];

/// Lines of one header; more than two are rare.
type Lines<'a> = SmallVec<[&'a [u8]; 2]>;

/// The headers that tell who sent a request and from where, as bytes. Who builds it once per request
/// hands it to everything that decides by these headers.
#[derive(Clone, Debug, Default)]
pub struct Head<'a> {
    host: Lines<'a>,
    origin: Lines<'a>,
    referer: Lines<'a>,
    authorization: Lines<'a>,
    cookies: Lines<'a>,
    forwarded_for: Lines<'a>,
    forwarded_proto: Lines<'a>,
    is_forwarded: bool,
}

impl<'a> Head<'a> {
    /// Reads the headers of a request, in their order; names in any case.
    pub fn of(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let value = value.trim_ascii();
            match name.len() {
                4 if is("host") => head.host.push(value),
                6 if is("origin") => head.origin.push(value),
                6 if is("cookie") => head.cookies.push(value),
                7 if is("referer") => head.referer.push(value),
                13 if is("authorization") => head.authorization.push(value),
                15 if is(FORWARDED_FOR) => head.forwarded_for.push(value),
                17 if is(FORWARDED_PROTO) => head.forwarded_proto.push(value),
                _ => {}
            }
            head.is_forwarded |= is_by_proxies(name);
        }
        head
    }

    /// The value of `Host`; empty where several name different ones, so that none of them counts.
    pub fn host(&self) -> Option<&'a [u8]> {
        match *self.host {
            [] => None,
            [host, ref others @ ..] if others.iter().all(|other| *other == host) => Some(host),
            _ => Some(b""),
        }
    }

    /// The lines of `Origin`.
    pub fn origins(&self) -> &[&'a [u8]] {
        &self.origin
    }

    /// The lines of `Referer`.
    pub fn referers(&self) -> &[&'a [u8]] {
        &self.referer
    }

    /// The token of `Authorization: Bearer`; empty where there is none behind the word, or bytes that
    /// no token has. `None`: no such header; those of other schemes are somebody else's, such as a
    /// reverse proxy's.
    pub fn bearer(&self) -> Option<&'a str> {
        self.authorization.iter().find_map(|line| {
            let end = line.iter().position(u8::is_ascii_whitespace);
            let (scheme, token) = line.split_at(end.unwrap_or(line.len()));
            scheme
                .eq_ignore_ascii_case(b"bearer")
                .then(|| std::str::from_utf8(token.trim_ascii()).unwrap_or_default())
        })
    }

    /// The value of the cookie `name`, percent-decoded; see [`cookie`](super::cookie).
    pub fn cookie(&self, name: &str) -> Option<Cow<'a, str>> {
        cookie(self.cookies.iter().copied(), name)
    }

    /// The lines of `X-Forwarded-For`. Anybody may write them. A line that is no text is an entry that
    /// is no address.
    pub fn forwarded_for(&self) -> Vec<&'a str> {
        let text = |line: &&'a [u8]| std::str::from_utf8(line).unwrap_or("?");
        self.forwarded_for.iter().map(text).collect()
    }

    /// True if one of the proxies in a row was asked over https, by the lines of `X-Forwarded-Proto`; none
    /// without such lines. Anybody may write them.
    pub fn forwarded_https(&self) -> Option<bool> {
        let mut entries = self
            .forwarded_proto
            .iter()
            .flat_map(|line| line.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .peekable();
        entries.peek()?;
        Some(entries.any(|entry| entry.eq_ignore_ascii_case(b"https")))
    }

    /// Whether a proxy of any kind handed the request on: its sender is not the other end of the
    /// connection.
    pub fn is_forwarded(&self) -> bool {
        self.is_forwarded
    }
}

fn is_by_proxies(name: &str) -> bool {
    let begins = |prefix: &&str| {
        let begin = name.as_bytes().get(..prefix.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    BY_PROXIES
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
        || BY_PROXIES_PREFIX.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(headers: &[(&'a str, &'a str)]) -> Head<'a> {
        Head::of(
            headers
                .iter()
                .map(|(name, value)| (*name, value.as_bytes())),
        )
    }

    #[test]
    fn only_bearer_is_ours() {
        for (lines, token) in [
            (&["Bearer tok"][..], Some("tok")),
            (&["bEaReR   tok "], Some("tok")),
            (&["Bearer"], Some("")),
            (&["Bearer "], Some("")),
            (&["Basic eDp5"], None),
            (&["Bearerx tok"], None),
            (&["Digest username=\"杰\""], None),
            (&[""], None),
            (&["Basic eDp5", "Bearer tok"], Some("tok")),
            (&["Bearer one", "Bearer two"], Some("one")),
            (&[], None),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| ("AUTHORIZATION", *line)).collect();
            assert_eq!(head(&headers).bearer(), token, "{lines:?}");
        }
        let garbled = Head::of([("authorization", &b"Bearer \xff"[..])]);
        assert_eq!(garbled.bearer(), Some(""));
    }

    #[test]
    fn the_word_of_any_proxy_shows() {
        for name in [
            "Via",
            "Forwarded",
            "X-Forwarded-For",
            "x-forwarded-proto",
            "X-FORWARDED-PORT",
            "X-Real-IP",
            "CF-Connecting-IP",
            "True-Client-IP",
            "X-Envoy-External-Address",
            "X-Forwarded",
            "X-Client-IP",
        ] {
            assert!(head(&[("host", "a"), (name, "1")]).is_forwarded(), "{name}");
        }
        for name in [
            "host",
            "x-for",
            "x-requested-with",
            "viable",
            "x-csrf-token",
        ] {
            assert!(!head(&[(name, "1")]).is_forwarded(), "{name}");
        }
    }

    #[test]
    fn two_hosts_are_none() {
        assert_eq!(head(&[]).host(), None);
        assert_eq!(head(&[("host", "a")]).host(), Some(&b"a"[..]));
        assert_eq!(
            head(&[("host", "a"), ("Host", "a")]).host(),
            Some(&b"a"[..])
        );
        assert_eq!(head(&[("host", "a"), ("Host", "b")]).host(), Some(&b""[..]));
    }
}
