//! The headers that identify the sender of a request.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::cookies::cookie;

/// The header to which each proxy appends the address of its client.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The header in which proxies record the scheme of the client's request.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The names of headers that proxies add.
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
/// The prefixes of names of headers that proxies add.
const BY_PROXIES_PREFIX: [&str; 5] = [
    "x-forwarded",
    "x-envoy-",
    "x-azure-",
    "x-appengine-",
    "x-arr-",
];

/// The lines of one header; more than two are rare.
type Lines<'a> = SmallVec<[&'a [u8]; 2]>;

/// The headers that identify the sender of a request and its page, as bytes. Built once per request
/// and passed to every check that uses these headers.
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
    /// Collects the headers of a request, in order; names match in any case.
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

    /// The value of `Host`; empty if several differ, so that none of them counts.
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

    /// The token of `Authorization: Bearer`; empty if the token is missing or not UTF-8. `None`
    /// without such a header; other schemes are ignored, since they may be for a reverse proxy.
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

    /// The lines of `X-Forwarded-For`, which any client may write. A line that is not UTF-8 becomes
    /// `?`, which is not an address.
    pub fn forwarded_for(&self) -> Vec<&'a str> {
        let text = |line: &&'a [u8]| std::str::from_utf8(line).unwrap_or("?");
        self.forwarded_for.iter().map(text).collect()
    }

    /// True if at least one proxy in the chain was asked over https, according to
    /// `X-Forwarded-Proto`; `None` without that header. Any client may write it.
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

    /// True if a proxy forwarded the request: its sender is not the peer of the connection.
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
