//! Canonical request paths, applied before any decision by path.

use actix_http::Request;
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;

use crate::http::canonical_path;

/// Rewrites the path of `request` in canonical form, so that the router, which decodes it, and all
/// comparisons see the same path. A path that does not decode to UTF-8 is left for the guard to
/// refuse.
pub(super) fn canonical(mut request: Request) -> Request {
    if let Some(uri) = canonical_uri(request.uri()) {
        request.head_mut().uri = uri;
    }
    request
}

/// `None` if `uri` is canonical already.
fn canonical_uri(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let canonical = canonical_path(path)
        .ok()
        .filter(|canonical| *canonical != path)?;
    let path = match uri.query() {
        Some(query) => format!("{canonical}?{query}"),
        None => canonical.into_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_is_written_anew() {
        for (uri, canonical) in [
            (
                "/api/v1/servers/1/fil%65?path=/%65",
                Some("/api/v1/servers/1/file?path=/%65"),
            ),
            ("http://here/%61?", Some("http://here/a?")),
            ("/vote/%E6%9D%B0", None),
            ("/a?b=%65", None),
            ("/%FF", None),
            ("*", None),
        ] {
            let found = canonical_uri(&uri.parse().unwrap());
            assert_eq!(
                found.map(|uri| uri.to_string()).as_deref(),
                canonical,
                "{uri}"
            );
        }
    }
}
