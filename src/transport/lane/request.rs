//! Which requests are the lane's: pure.

use std::net::IpAddr;

use crate::auth::Proof;
use crate::proxies::FORWARDED_FOR;
use crate::transport::{
    ask::{Ask, Contract},
    poll::Asked,
};

/// More headers than that are the routes' to judge.
const HEADERS: usize = 32;

/// Reads what came in. `None`: not the lane's (or not whole, or not sound): the routes', which know all
/// of HTTP.
pub(super) fn read(bytes: &[u8], peer: Option<IpAddr>) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        // Whatever follows the head is a body or the next request.
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        _ => return None,
    }
    let query = query(&request)?;
    let (proof, forwarded) = sender(request.headers)?;
    let ask = Ask::parse(query).ok()?;
    match ask.contract {
        Contract::Course => None,
        Contract::Full { rooms, after } => Some(Asked {
            proof,
            peer,
            forwarded,
            name: ask.name,
            rooms,
            after,
            wait: ask.wait,
        }),
    }
}

fn query<'a>(request: &httparse::Request<'_, 'a>) -> Option<&'a str> {
    if request.method != Some("GET") || request.version != Some(1) {
        return None;
    }
    let path = request.path?;
    let path = path.strip_prefix("/get_msg")?;
    let query = path.strip_prefix('/').unwrap_or(path).strip_prefix('?')?;
    (!query.contains('#')).then_some(query)
}

/// What the headers show of the sender: its proof, and the lines of `X-Forwarded-For`. `None` where a
/// header asks for more than the lane can do.
fn sender(headers: &[httparse::Header<'_>]) -> Option<(Proof, Vec<String>)> {
    let (mut hosts, mut authorization, mut cookies) = (0, None, [""; 4]);
    let (mut cookie_headers, mut forwarded) = (0, Vec::new());
    let (mut host, mut origin, mut referer) = (&b""[..], None, None);
    for header in headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            4 if is("host") => {
                hosts += 1;
                host = header.value;
            }
            6 if is("origin") => origin = origin.or(Some(header.value)),
            7 if is("referer") => referer = referer.or(Some(header.value)),
            6 if is("cookie") => {
                *cookies.get_mut(cookie_headers)? = std::str::from_utf8(header.value).ok()?;
                cookie_headers += 1;
            }
            13 if is("authorization") => {
                authorization = authorization.or(Some(std::str::from_utf8(header.value).ok()?));
            }
            10 if is("connection") && !header.value.eq_ignore_ascii_case(b"keep-alive") => {
                return None;
            }
            15 if is(FORWARDED_FOR) => {
                forwarded.push(std::str::from_utf8(header.value).unwrap_or("?").to_owned());
            }
            6 if is("expect") => return None,
            7 if is("upgrade") => return None,
            14 if is("content-length") => return None,
            17 if is("transfer-encoding") => return None,
            _ => {}
        }
    }
    let is_plain = hosts == 1 && is_from_here(host, origin.or(referer));
    is_plain.then(|| (Proof::shown(authorization, cookies), forwarded))
}

/// Whether no page sent the request, or one that plainly is of this host. All others are the routes'
/// to judge, which know this server's other names.
fn is_from_here(host: &[u8], stated: Option<&[u8]>) -> bool {
    let Some(stated) = stated else { return true };
    let http = stated.strip_prefix(b"http://");
    let at = http.or_else(|| stated.strip_prefix(b"https://"));
    let path = at.and_then(|at| at.strip_prefix(host));
    !host.is_empty() && path.is_some_and(|path| matches!(path.first(), None | Some(b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Position, RoomName};

    const POLL: &str = "GET /get_msg?name=ann&room=chat&after=b.7 HTTP/1.1\r\nHost: here\r\n";

    fn read_text(text: &str) -> Option<Asked> {
        read(text.as_bytes(), None)
    }

    #[test]
    fn a_plain_poll_is_the_lanes() {
        let asked = read_text(&format!("{POLL}Connection: Keep-Alive\r\n\r\n")).unwrap();
        assert_eq!(asked.name, "ann");
        assert_eq!(asked.rooms, [RoomName::chat()]);
        assert_eq!(asked.after, Position::parse(["b.7"]).unwrap());
        assert!(matches!(asked.proof, Proof::None));
        let slash = POLL.replace("/get_msg?", "/get_msg/?");
        assert!(read_text(&format!("{slash}\r\n")).is_some());
    }

    #[test]
    fn a_page_of_this_host_may_ask() {
        for own in [
            "Origin: http://here",
            "Referer: https://here/page?x=http://there",
            "Referer: http://there/\r\nOrigin: https://here",
        ] {
            assert!(
                read_text(&format!("{POLL}{own}\r\n\r\n")).is_some(),
                "{own}"
            );
        }
    }

    #[test]
    fn it_carries_its_proof() {
        let with = |header: &str| read_text(&format!("{POLL}{header}\r\n\r\n")).unwrap().proof;
        match with("cookie: a=b; longshore_session=tok") {
            Proof::Cookie(token) => assert_eq!(token.expose(), "tok"),
            other => panic!("{other:?}"),
        }
        match with("AUTHORIZATION: Bearer tok\r\nCookie: longshore_session=x") {
            Proof::Bearer(token) => assert_eq!(token.expose(), "tok"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_else_is_the_routes() {
        let whole = format!("{POLL}\r\n");
        for cut in 0..whole.len() {
            assert!(read_text(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for other in [
            whole.replace("GET", "POST"),
            whole.replace("GET", "HEAD"),
            whole.replace("HTTP/1.1", "HTTP/1.0"),
            whole.replace("/get_msg?", "/get_msgs?"),
            whole.replace("/get_msg?", "http://here/get_msg?"),
            whole.replace("&room=chat&after=b.7", ""),
            whole.replace("b.7", "!"),
            whole.replace("Host: here\r\n", ""),
            whole.replace("Host: here", "Host: here\r\nHost: there"),
            whole.replace("Host: here", "Host: here\r\nConnection: close"),
            whole.replace(
                "Host: here",
                "Host: here\r\nConnection: upgrade\r\nUpgrade: websocket",
            ),
            whole.replace("Host: here", "Host: here\r\nUpgrade: websocket"),
            whole.replace("Host: here", "Host: here\r\nContent-Length: 0"),
            whole.replace("Host: here", "Host: here\r\nTransfer-Encoding: chunked"),
            whole.replace("Host: here", "Host: here\r\nExpect: 100-continue"),
            whole.replace("Host: here", "Host: here\r\n folded: x"),
            whole.replace("Host: here", "Host: here\r\nOrigin: http://there"),
            whole.replace("Host: here", "Host: here\r\nOrigin: http://hereabouts"),
            whole.replace("Host: here", "Host: here\r\nOrigin: null"),
            whole.replace("Host: here", "Host: here\r\nReferer: http://there/here"),
            whole.replace("Host: here", "Host:\r\nOrigin: http://"),
            format!("{whole}{whole}"),
        ] {
            assert!(read_text(&other).is_none(), "{other}");
        }
    }
}
