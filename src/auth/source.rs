//! Where the page is from that sent a request: ours, or another site's.

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, HeaderName, ORIGIN, REFERER};
use url::Url;

/// Where the page is from that sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From this server, by its `Host` or one of its public addresses.
    Own,
    /// From somewhere else.
    Foreign,
    /// The request does not tell: it has neither `Origin` nor `Referer`.
    Unstated,
}

impl Source {
    /// `Origin` counts, else `Referer`. `own` are further origins of this server.
    pub(super) fn of(request: &HttpRequest, own: &[String]) -> Self {
        let header = |name: HeaderName| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap_or_default())
        };
        judge(header(HOST), header(ORIGIN).or(header(REFERER)), own)
    }
}

fn judge(host: Option<&str>, stated: Option<&str>, own: &[String]) -> Source {
    let Some(stated) = stated else {
        return Source::Unstated;
    };
    let Some(origin) = origin_of(stated) else {
        return Source::Foreign;
    };
    // A proxy may speak https where this server sees http: the page's own scheme is taken over.
    let scheme = origin.split(':').next().unwrap_or_default();
    let here = host.and_then(|host| origin_of(&format!("{scheme}://{host}/")));
    if here.as_ref() == Some(&origin) || own.contains(&origin) {
        Source::Own
    } else {
        Source::Foreign
    }
}

/// The origin of an http address in its one spelling, without a default port.
pub(super) fn origin_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_pages_are_told_from_others() {
        let own = ["https://deploy.example".to_owned()];
        for (host, stated, expected) in [
            ("127.0.0.1:8000", None, Source::Unstated),
            ("127.0.0.1:8000", Some("http://127.0.0.1:8000"), Source::Own),
            (
                "127.0.0.1:8000",
                Some("http://127.0.0.1:8000/servers?page=2"),
                Source::Own,
            ),
            (
                "127.0.0.1:8000",
                Some("http://127.0.0.1:8001"),
                Source::Foreign,
            ),
            (
                "127.0.0.1:8000",
                Some("http://evil.example"),
                Source::Foreign,
            ),
            (
                "127.0.0.1:8000",
                Some("http://127.0.0.1:8000@evil.example/"),
                Source::Foreign,
            ),
            (
                "127.0.0.1:8000",
                Some("https://deploy.example"),
                Source::Own,
            ),
            (
                "127.0.0.1:8000",
                Some("https://deploy.example:444"),
                Source::Foreign,
            ),
            (
                "127.0.0.1:8000",
                Some("http://deploy.example"),
                Source::Foreign,
            ),
            (
                "Deploy.Local",
                Some("https://deploy.local:443/x"),
                Source::Own,
            ),
            ("[::1]:8000", Some("http://[::1]:8000"), Source::Own),
            ("127.0.0.1:8000", Some("null"), Source::Foreign),
            ("127.0.0.1:8000", Some(""), Source::Foreign),
            ("127.0.0.1:8000", Some("file:///etc"), Source::Foreign),
        ] {
            assert_eq!(
                judge(Some(host), stated, &own),
                expected,
                "{host} {stated:?}"
            );
        }
        assert_eq!(judge(None, Some("http://a.example"), &own), Source::Foreign);
    }
}
