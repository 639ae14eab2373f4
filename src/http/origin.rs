//! The origin policy: checks if a page of this server sent a request, and if its host belongs to
//! this server.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::Url;

use super::head::Head;

/// Suffixes of names that no stranger can register (RFC 6761, 6762, 8375 and those that home
/// routers use).
const PRIVATE_SUFFIXES: [&[u8]; 5] = [
    b".localhost",
    b".local",
    b".lan",
    b".internal",
    b".home.arpa",
];

/// The origin of the page that sent a request, relative to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This server, by its `Host` or one of its public addresses.
    Own,
    /// Another site.
    Foreign,
    /// Not stated by the request.
    Unstated,
}

/// The addresses of this server.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// The public addresses, normalized by [`origin_of`].
    origins: Vec<String>,
    /// The name of the machine, in lower case.
    machine: String,
}

impl Sites {
    /// The addresses of a server with these public URLs, on the machine of this name.
    pub fn new(public_urls: &[String], machine: &str) -> Self {
        Self {
            origins: public_urls
                .iter()
                .filter_map(|url| origin_of(url))
                .collect(),
            machine: machine.to_ascii_lowercase(),
        }
    }

    /// The public addresses as normalized origins.
    pub fn origins(&self) -> &[String] {
        &self.origins
    }

    /// The source of the page that sent a request, by `Origin`, else by `Referer`. [`Source::Own`]
    /// only if all lines are own. `about:` pages, an empty `Referer` and a relative one name no
    /// site (RFC 9110 §10.1.3).
    pub fn source(&self, head: &Head<'_>) -> Source {
        let origins = head.origins();
        let stated: Vec<&[u8]> = match origins.is_empty() {
            false => origins.to_vec(),
            true => {
                let referers = head.referers().iter();
                referers
                    .copied()
                    .filter(|referer| names_a_site(referer))
                    .collect()
            }
        };
        let is_own = |stated: &&[u8]| self.is_own(stated, head.host());
        match stated.is_empty() {
            true => Source::Unstated,
            false if stated.iter().all(is_own) => Source::Own,
            false => Source::Foreign,
        }
    }

    fn is_own(&self, stated: &[u8], host: Option<&[u8]>) -> bool {
        let Some(origin) = Origin::of_address(stated) else {
            return false;
        };
        // A proxy may terminate TLS, so the scheme of the page is taken for this server.
        let here = host.and_then(|host| Origin::of(origin.is_https, host));
        let is_known = |own: &String| Origin::of_address(own.as_bytes()).as_ref() == Some(&origin);
        here.as_ref() == Some(&origin) || self.origins.iter().any(is_known)
    }

    /// True if the URL in the browser begins with `https`, as far as the request shows: by the page
    /// that sent it if that is own, else by the public addresses of its host, else, for a request
    /// that a proxy forwarded, by all public addresses.
    pub fn is_https(&self, head: &Head<'_>) -> bool {
        let stated = head.origins().iter().chain(head.referers());
        let own = stated.filter(|stated| self.is_own(stated, head.host()));
        let own: Vec<Origin> = own.filter_map(|own| Origin::of_address(own)).collect();
        if !own.is_empty() {
            return own.iter().all(|own| own.is_https);
        }
        let public = || {
            let origins = self.origins.iter();
            origins.filter_map(|own| Origin::of_address(own.as_bytes()))
        };
        let here = |own: &Origin| {
            let here = head.host().and_then(|host| Origin::of(own.is_https, host));
            here.as_ref() == Some(own)
        };
        let mut at_host = public().filter(here).peekable();
        if at_host.peek().is_some() {
            return at_host.all(|own| own.is_https);
        }
        head.is_forwarded() && !self.origins.is_empty() && public().all(|own| own.is_https)
    }

    /// True if no stranger can have given this server the name in `Host`: it is an IP address, a
    /// name that cannot be registered, the name of the machine, or the name in a public address.
    /// With any other name, a foreign page may reach this server by DNS rebinding and count as own.
    /// A request without `Host` does not come from a browser.
    pub fn know_host(&self, head: &Head<'_>) -> bool {
        let Some(host) = head.host() else { return true };
        let Some(Origin { host, .. }) = Origin::of(false, host) else {
            return false;
        };
        let host = host.strip_suffix(b".").unwrap_or(&host);
        let is_public =
            |own: &String| Origin::of_address(own.as_bytes()).is_some_and(|own| own.host == host);
        is_address(host)
            || !host.contains(&b'.')
            || PRIVATE_SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
            || host == self.machine.as_bytes()
            || self.origins.iter().any(is_public)
    }
}

/// True if a `Referer` names a site.
fn names_a_site(referer: &[u8]) -> bool {
    let scheme = referer.iter().position(|byte| *byte == b':');
    let scheme = scheme.map(|end| &referer[..end]);
    let is_scheme = |scheme: &&[u8]| {
        let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(goes_on)
    };
    match scheme.filter(is_scheme) {
        Some(scheme) => !scheme.eq_ignore_ascii_case(b"about"),
        None => matches!(referer, [b'/' | b'\\', b'/' | b'\\', ..]),
    }
}

/// The origin of an HTTP URL, compared as bytes, since the rest of the URL may be in any encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    is_https: bool,
    /// In lower case.
    host: Vec<u8>,
    port: u16,
}

impl Origin {
    fn of_address(address: &[u8]) -> Option<Self> {
        let after = |scheme: &[u8]| {
            let begin = address.get(..scheme.len())?;
            begin
                .eq_ignore_ascii_case(scheme)
                .then(|| &address[scheme.len()..])
        };
        let (is_https, rest) = match (after(b"http://"), after(b"https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return None,
        };
        let end = rest.iter().position(|byte| b"/\\?#".contains(byte));
        Self::of(is_https, &rest[..end.unwrap_or(rest.len())])
    }

    /// Parses a host with an optional port, as in `Host`.
    fn of(is_https: bool, authority: &[u8]) -> Option<Self> {
        let inner = authority.iter().position(|byte| *byte == b']');
        let after = inner.map_or(0, |end| end + 1);
        let colon = authority[after..].iter().position(|byte| *byte == b':');
        let end = colon.map_or(authority.len(), |colon| after + colon);
        let host = authority[..end].to_ascii_lowercase();
        let port = match authority.get(end + 1..) {
            None | Some([]) => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            Some(port) if port.iter().all(u8::is_ascii_digit) => {
                std::str::from_utf8(port).ok()?.parse().ok()?
            }
            Some(_) => return None,
        };
        let is_host = |byte: &u8| !byte.is_ascii_whitespace() && !b"@/\\?#,".contains(byte);
        (!host.is_empty() && host.iter().all(is_host)).then_some(Self {
            is_https,
            host,
            port,
        })
    }
}

/// True if a host is an IP address.
fn is_address(host: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(host) else {
        return false;
    };
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match inner {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => text.parse::<Ipv4Addr>().is_ok(),
    }
}

/// The normalized origin of an HTTP URL, without a default port.
pub fn origin_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sites() -> Sites {
        Sites::new(
            &["https://Deploy.example/".to_owned()],
            "Box.Campus.example",
        )
    }

    fn source(host: Option<&str>, name: &'static str, stated: &[u8]) -> Source {
        let host = host.map(|host| ("host", host.as_bytes()));
        let stated = (name, stated);
        sites().source(&Head::of(host.into_iter().chain([stated])))
    }

    #[test]
    fn own_pages_are_told_from_others() {
        use Source::{Foreign, Own};
        let here = "127.0.0.1:8000";
        for (host, stated, expected) in [
            (here, "http://127.0.0.1:8000", Own),
            (here, "HTTP://127.0.0.1:8000", Own),
            (here, "http://127.0.0.1:8000/servers?page=2", Own),
            (here, "http://127.0.0.1:8000?x", Own),
            (here, "https://127.0.0.1:8000", Own),
            (here, "http://127.0.0.1:8001", Foreign),
            (here, "http://127.0.0.1", Foreign),
            (here, "http://127.0.0.1:80000", Foreign),
            (here, "http://evil.example", Foreign),
            (here, "http://evil.example/http://127.0.0.1:8000", Foreign),
            (here, "http://127.0.0.1:8000@evil.example/", Foreign),
            (here, "http://127.0.0.1:8000\\@evil.example/", Own),
            (here, "http://127.0.0.1:8000.evil.example/", Foreign),
            (here, "https://deploy.example", Own),
            (here, "https://deploy.example:443/x", Own),
            (here, "https://deploy.example:444", Foreign),
            (here, "http://deploy.example", Foreign),
            ("Deploy.Local", "https://deploy.local:443/x", Own),
            ("deploy.local:80", "http://deploy.local", Own),
            ("[::1]:8000", "http://[::1]:8000", Own),
            ("[::1]:8000", "http://[::1]:8001", Foreign),
            ("部署.example", "http://部署.example/", Own),
            ("", "http:///", Foreign),
            (here, "null", Foreign),
            (here, "", Foreign),
            (here, "file:///etc", Foreign),
        ] {
            let found = source(Some(host), "Origin", stated.as_bytes());
            assert_eq!(found, expected, "{host} {stated:?}");
        }
        assert_eq!(source(None, "origin", b"http://a.example"), Foreign);
    }

    #[test]
    fn https_is_told_by_the_page_then_by_the_public_addresses() {
        let https = ("origin", "https://deploy.example");
        for (headers, expected) in [
            (&[("host", "127.0.0.1:8000")][..], false),
            (&[("host", "127.0.0.1:8000"), https], true),
            (&[("host", "a:8000"), ("origin", "https://a:8000")], true),
            (&[("host", "a:8000"), ("origin", "http://a:8000")], false),
            (&[("host", "a:8000"), ("referer", "https://a:8000/x")], true),
            (
                &[("host", "a:8000"), ("origin", "https://evil.example")],
                false,
            ),
            (&[("host", "deploy.example")], true),
            (&[("host", "deploy.example"), ("origin", "null")], true),
            (&[("host", "deploy.example:8000")], false),
            (
                &[("host", "backend:8000"), ("x-forwarded-for", "::1")],
                true,
            ),
        ] {
            let head = Head::of(headers.iter().map(|(name, text)| (*name, text.as_bytes())));
            assert_eq!(sites().is_https(&head), expected, "{headers:?}");
        }
        let urls = ["http://a.example", "https://a.example"].map(str::to_owned);
        let both = Sites::new(&urls, "");
        let host = ("host", &b"a.example"[..]);
        assert!(!both.is_https(&Head::of([host])));
        assert!(both.is_https(&Head::of([host, ("origin", b"https://a.example")])));
    }

    #[test]
    fn a_referer_is_read_as_it_comes() {
        use Source::{Foreign, Own, Unstated};
        for (stated, expected) in [
            ("http://here/home/?name=杰森".as_bytes(), Own),
            (b"http://here/home/?name=\xbd\xdc\xc9\xad", Own),
            (b"http://here/\xff", Own),
            (b"http://there/\xff", Foreign),
            (b"", Unstated),
            (b"about:blank", Unstated),
            (b"ABOUT:srcdoc", Unstated),
            (b"/wiki/x", Unstated),
            (b"wiki?a=http://here", Unstated),
            (b"./a:b", Unstated),
            (b"//evil.example/", Foreign),
            (b"/\\evil.example/", Foreign),
            (b"android-app://com.example/", Foreign),
            (b"https://git.example/", Foreign),
        ] {
            let found = source(Some("here"), "Referer", stated);
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(stated));
        }
        assert_eq!(sites().source(&Head::of([])), Unstated);
    }

    #[test]
    fn of_several_lines_the_worst_counts() {
        let source = |lines: &[(&'static str, &'static str)]| {
            let host = [("host", "here")];
            let all = host.iter().chain(lines);
            sites().source(&Head::of(
                all.map(|(name, value)| (*name, value.as_bytes())),
            ))
        };
        let (own, foreign) = ("http://here", "http://there");
        assert_eq!(
            source(&[("origin", own), ("origin", foreign)]),
            Source::Foreign
        );
        assert_eq!(
            source(&[("origin", own), ("referer", foreign)]),
            Source::Own
        );
        assert_eq!(
            source(&[("origin", foreign), ("referer", own)]),
            Source::Foreign
        );
        assert_eq!(
            source(&[("referer", own), ("referer", "about:blank")]),
            Source::Own
        );
    }

    #[test]
    fn only_names_that_no_stranger_can_give_are_ours() {
        let know = |host: &'static str| sites().know_host(&Head::of([("host", host.as_bytes())]));
        for host in [
            "127.0.0.1:8000",
            "192.0.2.7",
            "[::1]:8000",
            "localhost:8000",
            "LOCALHOST.",
            "classroom-pc",
            "deploy.lan",
            "box.local:8000",
            "a.b.internal",
            "box.campus.example",
            "deploy.example",
            "DEPLOY.example:8443",
            "x.localhost",
        ] {
            assert!(know(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "deploy.example.evil.example",
            "evillocal.example",
            "",
            "a b",
            "x@127.0.0.1",
            "[evil.example]",
            "evil.example,127.0.0.1",
        ] {
            assert!(!know(host), "{host}");
        }
        assert!(sites().know_host(&Head::of([])));
        assert!(!sites().know_host(&Head::of([
            ("host", &b"127.0.0.1"[..]),
            ("host", b"x.example")
        ])));
    }

    proptest! {
        #[test]
        fn only_the_own_host_is_own(host in "[a-z]{1,6}(\\.[a-z]{1,3})?(:[0-9]{1,4})?", path: Vec<u8>) {
            let mut address = format!("http://{host}/").into_bytes();
            address.extend(&path);
            prop_assume!(!host.ends_with(":0"));
            prop_assert_eq!(source(Some(&host), "referer", &address), Source::Own);
            prop_assert_eq!(source(Some("other.x"), "referer", &address), Source::Foreign);
        }
    }
}
